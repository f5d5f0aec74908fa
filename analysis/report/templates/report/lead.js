// The first section: what methods changed, by layer and step; without arms, how networks or steps compare by layer.

const BAR = "difference / smallest of interest";
const BELOW = 75; // pixels below the panels, for the colour bar
const VERDICTS = { different: "\u25cf", equivalent: "=", undecided: "?" };
const arms = {};

/** Collect the contrasts, quantities, steps and layers of the comparison of arms. */
function collectArms() {
  const all = rowsOf("attribution"), rows = all.filter(({ contrast }) => contrast !== "alone");
  rows.forEach((row) => { row.control ??= ""; });
  const methods = unique(rows.map(({ method }) => method)), quantities = unique(rows.map(({ quantity }) => quantity)), at = unique(rows.map((row) => row.at));
  const key = (...parts) => parts.join("\n");
  const cells = new Map(rows.map((row) => [key(row.method, row.control, row.quantity, row.at, row.depth), row]));
  const layers = layersByDepth(rows);
  const cell = (method, control, quantity, step, depth) => cells.get(key(method, control, quantity, step, depth));
  Object.assign(arms, { all, rows, methods, quantities, at, layers, cell, method: methods[0], step: at.length - 1 });
  const last = rows.filter((row) => row.at === at.at(-1) && row.method === methods[0]);
  const told = quantities.find((quantity) => last.some((row) => row.quantity === quantity && row.verdict === "different"));
  arms.quantity = told ?? quantities[0];
  arms.isOfArms = armCurves().some(({ points }) => points.some(({ low }) => isKnown(low)));
}

const contrasts = () => content.contrasts.filter(([method]) => method === arms.method);
const quantityName = (quantity) => content.quantities[quantity] ?? quantity;
const signed = (value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(3)}`;

/** Return the colours of differences; the middle is close to the page. */
function differenceColours(colours) {
  const middle = colours === THEMES.dark ? "#2b313b" : "#f4f4f4";
  return ["#1f5fa8", "#6aa5d4", middle, "#e58e63", "#b11f2b"].map((colour, i) => [i / 4, colour]);
}

const BETWEEN = 28; // pixels between contrasts, for their titles

/** Return the height of a panel: less where there are more contrasts, as all of them lie below one another. */
function panelHeight() {
  const n = contrasts().length;
  return Math.min(Math.max(arms.layers.length * 24, 48), n === 1 ? 330 : n === 2 ? 190 : 130);
}

/** Return rows and columns of panels, and where each lies: contrasts below one another, quantities side by side. */
function panelGrid() {
  const rows = contrasts(), columns = arms.quantities, whole = rows.length * panelHeight() + (rows.length - 1) * BETWEEN;
  const across = (1 - 0.035 * (columns.length - 1)) / columns.length, down = panelHeight() / whole, gap = BETWEEN / whole;
  return rows.flatMap((row, r) => columns.map((quantity, c) => {
    const n = r * columns.length + c + 1, left = c * (across + 0.035), top = 1 - r * (down + gap);
    return { contrast: row, quantity, r, c, id: n === 1 ? "" : String(n), x: [left, Math.min(1, left + across)], y: [Math.max(0, top - down), top] };
  }));
}

const headingLines = (name, width) => broken(verbatim(shortened(name, 40)), width);
const underPanels = () => (arms.at.length > 1 ? 50 : 8); // pixels of the names of steps

function verdictHeight() {
  const n = contrasts().length;
  return 50 + underPanels() + BELOW + n * panelHeight() + (n - 1) * BETWEEN;
}

const exportHeight = () => Math.max(EXPORT.height, verdictHeight() + 80);

function verdictChart() {
  const cursor = new Cursor();
  const size = () => [contrasts().length * arms.layers.length, arms.quantities.length * arms.at.length];
  const rowAt = (panel, depth, i) => arms.cell(panel.contrast[0], panel.contrast[1], panel.quantity, arms.at[i], depth);
  const panelOf = (row, column) => {
    const r = contrasts().length - 1 - Math.floor(row / arms.layers.length), c = Math.floor(column / arms.at.length);
    return [panelGrid().find((panel) => panel.r === r && panel.c === c), (row % arms.layers.length) + 1, column % arms.at.length];
  };
  const shapes = (colours) => {
    if (!cursor.isShown) return [];
    const [panel, depth, i] = panelOf(cursor.row, cursor.column);
    return [{ ...outline(depth, i, colours.mark), xref: `x${panel.id}`, yref: `y${panel.id}` }];
  };
  const strength = (row) => (row && row.status === "ok" && isKnown(row.difference) ? row.difference / row.smallest : null);
  const figure = async (colours, isExport) => {
    const panels = panelGrid(), depths = arms.layers.map((_, i) => i + 1), steps = arms.at.map((_, i) => i);
    const limit = Math.min(6, Math.max(2, ...arms.rows.map(strength).filter(isKnown).map(Math.abs)));
    const width = chart.plot.clientWidth / arms.quantities.length / arms.at.length, height = panelHeight() / arms.layers.length;
    const whole = isExport ? exportHeight() - BELOW - underPanels() - 48 : verdictHeight() - BELOW - underPanels() - 50;
    const mark = Math.min(15, width * 0.5, height * 0.75);
    const data = [], axes = {}, annotations = [];
    for (const panel of panels) {
      const z = depths.map((depth) => steps.map((i) => strength(rowAt(panel, depth, i))));
      const place = { xaxis: `x${panel.id}`, yaxis: `y${panel.id}`, meta: { r: panel.r, c: panel.c }, hoverinfo: "none" };
      const colorbar = { outlinewidth: 0, tickcolor: colours.ink, orientation: "h", y: -(underPanels() + 8) / whole, yanchor: "top", thickness: 10, title: { text: BAR, side: "bottom" } };
      data.push({ ...place, type: "heatmap", z, x: steps, y: depths, zmin: -limit, zmax: limit, colorscale: differenceColours(colours), showscale: panel.id === "", xgap: 1, ygap: 1, colorbar });
      const cells = depths.flatMap((depth) => steps.map((i) => [i, depth, rowAt(panel, depth, i)])).filter(([, , row]) => row?.verdict);
      if (mark >= 5) data.push({ ...place, type: "scatter", mode: "text", x: cells.map(([i]) => i), y: cells.map(([, depth]) => depth), text: cells.map(([, , row]) => VERDICTS[row.verdict]), showlegend: false,
        textfont: { size: mark, color: cells.map(([, , row]) => (Math.abs(strength(row)) > 0.6 * limit ? "#fff" : Math.abs(strength(row)) > 0.3 * limit ? "#111" : colours.ink)) } });
      const isBottom = panel.r === contrasts().length - 1, isLeft = panel.c === 0;
      const few = steps.filter((i) => width > 44 || (i === 0 && isLeft) || i === steps.length - 1);
      const ticks = arms.at.length > 1 && isBottom ? { tickvals: few, ticktext: few.map((i) => verbatim(arms.at[i])), title: isLeft ? "training" : "" } : { showticklabels: false, tickvals: [] };
      const layers = layerTicks(arms.layers, 1);
      axes[`xaxis${panel.id}`] = axis(colours, { showgrid: false, domain: panel.x, anchor: `y${panel.id}`, ticks: "", tickangle: 0, ...ticks });
      axes[`yaxis${panel.id}`] = axis(colours, { showgrid: false, domain: panel.y, anchor: `x${panel.id}`, ticks: "", ...layers, ...(isLeft ? {} : { showticklabels: false }), ...(isLeft && panel.r === Math.floor((contrasts().length - 1) / 2) ? {} : { title: "" }) });
      const heading = { xref: "paper", yref: "paper", showarrow: false, yanchor: "bottom", font: { size: 13, color: colours.ink } };
      if (panel.r === 0) annotations.push({ ...heading, text: headingLines(quantityName(panel.quantity), width * arms.at.length), x: (panel.x[0] + panel.x[1]) / 2, xanchor: "center", y: 1, yshift: contrasts().length > 1 ? 20 : 2 });
      if (isLeft && contrasts().length > 1) annotations.push({ ...heading, text: `<b>${verbatim(panel.contrast[2])}</b>`, x: 0, xanchor: "left", y: panel.y[1], font: { size: 12, color: colours.soft } });
    }
    return { data, layout: { ...axes, annotations, shapes: isExport ? [] : shapes(colours), plot_bgcolor: colours.missing, margin: { l: 46, r: 16, t: (contrasts().length > 1 ? 30 : 12) + 18 * Math.max(...panels.map(({ quantity }) => headingLines(quantityName(quantity), width * arms.at.length).split("<br>").length)), b: underPanels() + BELOW } }, size: { ...EXPORT, height: exportHeight() } };
  };
  const say = () => {
    const [panel, depth, i] = panelOf(cursor.row, cursor.column), row = rowAt(panel, depth, i);
    const place = `${panel.contrast[0]} ${panel.contrast[2]}, ${quantityName(panel.quantity)}, layer ${arms.layers[depth - 1]}, ${arms.at[i]}`;
    const size = row?.verdict ? `${signed(row.difference)} [${signed(row.band_low)}, ${signed(row.band_high)}], ${row.verdict}` : `not defined${row?.message ? `: ${row.message}` : ""}`;
    chart.say(el("p", { class: "value" }, `${place}: ${size}`));
  };
  const move = ({ x, y, data }) => {
    const { r, c } = data.meta;
    cursor.moveTo((contrasts().length - 1 - r) * arms.layers.length + y - 1, c * arms.at.length + x, ...size());
    cursor.isShown = false;
    say();
  };
  const choose = () => {
    const [panel, , i] = panelOf(cursor.row, cursor.column);
    Object.assign(arms, { quantity: panel.quantity, step: i });
    arms.refresh();
  };
  const method = select("Method", arms.methods, (i) => {
    arms.method = arms.methods[i];
    cursor.isShown = false;
    chart.draw();
    arms.refresh();
  });
  method.node.hidden = arms.methods.length < 2;
  const chart = new Chart(chartHost("lead-a"), {
    heading: "", controls: [method.node], label: "Differences and verdicts by layer and step. Arrow keys move over cells, Enter shows the curves of a cell.", named: "differences and verdicts",
    hint: "Point at a cell, or use the arrow keys; Enter or a click shows its curves.",
    title: () => (arms.methods.length > 1 ? `What ${arms.method} changed` : "Differences and verdicts"), name: () => "what-changed", figure, shapes, height: verdictHeight, table: armTable, hover: move,
    click: (point) => {
      move(point);
      choose();
    },
    keys: ({ key }) => {
      if (key === "Enter" || key === " ") {
        choose();
        return true;
      }
      const moved = cursor.press(key, ...size(), true);
      if (moved) say();
      return moved;
    },
  });
}

function armTable() {
  const columns = ["control", "quantity", "at", "layer", "difference", "band_low", "band_high", "smallest", "verdict"];
  const rows = arms.rows.filter(({ method }) => method === arms.method);
  return { columns, rows: rows.map((row) => columns.map((column) => row[column])) };
}

/** Return the values of one quantity in each network of the tables, by arm and layer; none for other quantities. */
function valuesOfSeeds(quantity) {
  const tables = {
    accuracy: ["probes", (row) => (row.target === "label" ? row.accuracy : null)], class_structure: ["class_structure", (row) => row.class_structure],
    log_dimension: ["layer_quantities", (row) => Math.log(row.participation_ratio)],
  };
  if (!tables[quantity]) return new Map();
  const [table, value] = tables[quantity], views = new Map(content.views.map((view) => [view.label, view])), found = new Map();
  for (const row of rowsOf(table)) {
    const view = views.get(row.view), place = view && `${view.method}\n${view.step}\n${row.depth}`;
    if (view && isKnown(value(row))) found.set(place, [...(found.get(place) ?? []), value(row)]);
  }
  return found;
}

/** Return the mean of each arm by layer, with the 95 % interval over its networks where the page has all of them. */
function armCurves() {
  const rows = arms.all.filter((row) => row.quantity === arms.quantity && row.at === arms.at[arms.step] && row.status === "ok");
  const seeds = valuesOfSeeds(arms.quantity), found = new Map();
  const steps = new Map(rowsOf("arms").map((row) => [`${row.arm}\n${row.at}`, row.step]));
  const put = (name, style, row, y, n) => {
    const values = seeds.get(`${name}\n${steps.get(`${name}\n${row.at}`)}\n${row.depth}`) ?? [], interval = values.length === n && n > 2 ? intervalOf(values) : {};
    const band = Math.abs(interval.y - y) < 1e-6 ? interval : { low: null, high: null };
    if (!found.has(name)) found.set(name, { name, ...style, points: new Map() });
    found.get(name).points.set(row.depth, { x: row.depth, layer: row.layer, ...band, y });
  };
  for (const row of rows.filter((each) => each.method === arms.method || each.contrast === "alone")) {
    put(row.base, styleOf(row.base), row, row.base_value, row.n_seeds);
    put(row.arm ?? row.method, styleOf(row.arm ?? row.method), row, row.value, row.n_seeds);
    if (isKnown(row.between) && row.contrast === "total") put(`${row.method} with ${row.base}`, { colour: "#7f8794", dash: "dot", symbol: "x" }, row, row.between, 0);
  }
  return [...found.values()].map((curve) => ({ ...curve, points: [...curve.points.values()].sort((a, b) => a.x - b.x) }));
}

function contrastCurves() {
  return contrasts().map(([method, control, title]) => ({
    name: title, ...styleOf(control || method),
    points: arms.layers.map((_, i) => arms.cell(method, control, arms.quantity, arms.at[arms.step], i + 1)).filter((row) => row?.status === "ok")
      .map((row) => ({ x: row.depth, layer: row.layer, y: row.difference, low: row.band_low, high: row.band_high })),
  }));
}

function armChart() {
  const isPairwise = () => arms.rows.some((row) => row.quantity === arms.quantity && isKnown(row.between));
  const curves = () => (arms.isOfArms ? armCurves() : contrastCurves());
  const smallest = () => arms.rows.find(({ quantity }) => quantity === arms.quantity).smallest;
  const quantityBoxes = el("div"), groups = el("div");
  const step = slider("Training", (i) => {
    arms.step = i;
    arms.refresh();
  });
  const kinds = ["Arms", "Differences"];
  const refreshBoxes = () => {
    quantityBoxes.replaceChildren(choice("Quantity", arms.quantities.map(quantityName), arms.quantities.indexOf(arms.quantity), (i) => {
      arms.quantity = arms.quantities[i];
      arms.refresh(false);
    }));
    groups.replaceChildren(choice("Show", kinds, arms.isOfArms ? 0 : 1, (i) => {
      arms.isOfArms = i === 0;
      arms.refresh(false);
    }));
    step.update(arms.at, arms.step);
  };
  const legend = el("p", { class: "legend" });
  arms.refresh = (isAll = true) => {
    if (isAll) refreshBoxes();
    return chart.draw();
  };
  refreshBoxes();
  const what = () => quantityName(arms.quantity);
  const chart = curveChart(chartHost("lead-b"), {
    heading: "", name: "arms", label: "Arms or differences by layer", controls: [quantityBoxes, groups, step.node, legend],
    title: () => `${what()[0].toUpperCase()}${what().slice(1)} by layer${arms.at.length > 1 ? `, ${arms.at[arms.step]}` : ""}`,
    curves: () => {
      const found = curves();
      legend.replaceChildren(...found.map((curve) => el("span", {}, swatch(curve), ` ${isPairwise() && arms.isOfArms && !curve.name.includes(" with ") ? `within ${curve.name}` : curve.name}`)));
      return found;
    },
    get range() { return arms.isOfArms ? undefined : [-smallest(), smallest()]; },
    get also() { return arms.isOfArms ? [] : [-smallest(), smallest()]; },
    get reference() { return arms.isOfArms ? undefined : 0; },
    keys: [["layer", "layer"], ["depth", "x"], ["value", "y"], ["low", "low"], ["high", "high"]],
    axes: () => ({ xaxis: layerTicks(arms.layers, 1), yaxis: { title: verbatim(`${what()}${arms.isOfArms ? "" : ": difference"}`) } }),
    note: () => {
      if (!arms.isOfArms) return `Bands cover all differences at once with 95 % confidence; grey: less than the smallest difference of interest, ${smallest()}.`;
      const isBanded = armCurves().some(({ points }) => points.some(({ low }) => isKnown(low)));
      return isBanded ? "Means over networks, with the 95 % interval of each mean." : `Means over ${isPairwise() ? "pairs of networks" : "networks"}.`;
    },
  });
}

// Without arms

/** Return the view that a view is compared with: of the first network at the same step, or the last step of the only one. */
function referenceOf(view) {
  const own = networks[0].views;
  if (networks.length === 1) return own.at(-1);
  return own.find((each) => content.views[each].step === content.views[view].step) ?? own.at(-1);
}

/** Return the similarity of each layer to the layer of the same name of the reference, by the first measure. */
async function similarityRows() {
  const all = await numbers("similarity-0"), n = offsetOf(content.views.length);
  const isCompared = (view) => (networks.length === 1 ? view !== networks[0].views.at(-1) : !networks[0].views.includes(view));
  return content.views.flatMap(({ label, layers }, view) => (isCompared(view) ? layers : []).flatMap((layer, i) => {
    const reference = referenceOf(view), j = layersOf(reference).indexOf(layer);
    return j < 0 ? [] : [{ view: label, layer, depth: i + 1, value: all[(offsetOf(reference) + j) * n + offsetOf(view) + i] }];
  })).filter(({ value }) => isKnown(value));
}

async function comparisonCharts() {
  probeChart("lead-a", true);
  const rows = content.views.length > 1 ? await similarityRows() : [];
  if (!rows.length) {
    if (content.charts.length) layerChart(content.charts[0], "lead-b");
    return;
  }
  const [{ label }] = content.measures;
  const to = networks.length === 1 ? "to the last step" : `to ${shortened(networks[0].name, 30)}`;
  methodChart(chartHost("lead-b"), new MethodCurves(rows, (row) => ({ x: row.depth, layer: row.layer, y: row.value })), {
    heading: "", name: "similarity-by-layer", title: () => `${label} ${to}, layer by layer`, label: "Similarity to the reference by layer",
    keys: [["layer", "layer"], ["depth", "x"], [label, "y"], ["low", "low"], ["high", "high"]],
    axes: () => ({ xaxis: depthAxis(rows), yaxis: { title: verbatim(`${label} ${to}`) } }),
  });
}

async function leadCharts() {
  if (!rowsOf("attribution").length) return comparisonCharts();
  collectArms();
  armChart();
  verdictChart();
}
