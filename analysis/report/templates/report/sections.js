// The charts of the tables: training, probes, class structure, gradients.

/** Return one curve per value of a column; views have their own styles. `point` turns a row into a point. */
function curvesOf(rows, column, point) {
  const names = unique(rows.map((row) => row[column]));
  const styles = new Map(content.views.map(({ label }, i) => [label, viewStyles()[i]]));
  const isFew = names.length <= 8;
  const last = new Set(Object.values(Object.fromEntries(content.views.map(({ network, label }) => [network, label]))));
  const isKnownView = names.every((name) => styles.has(name));
  return names.map((name, i) => ({
    name: String(name), ...(isKnownView ? styles.get(name) : { colour: i, symbol: i, dash: 0 }),
    isShown: isFew || (isKnownView ? last.has(name) : i < 8),
    points: rows.filter((row) => row[column] === name).map(point),
  }));
}

/** Return the layers by depth, or numbers if networks name the layers of one depth differently. */
function layersByDepth(rows) {
  const most = Math.max(...rows.map(({ depth }) => depth));
  const names = Array.from({ length: most }, (_, i) => unique(rows.filter(({ depth }) => depth === i + 1).map(({ layer }) => layer)));
  return names.every((each) => each.length === 1) ? names.map(([name]) => name) : names.map((_, i) => String(i + 1));
}

const depthAxis = (rows) => layerTicks(layersByDepth(rows), 1);

function trainingCharts() {
  const rows = rowsOf("training");
  const parts = [["loss", lossTitle()], ["accuracy", "accuracy"]];
  for (const [value, title] of parts) {
    const curves = unique(rows.map(({ view }) => view)).flatMap((view, i) => ["training", "validation"].map((part, dash) => ({
      name: `${view}, ${part}`, colour: i, symbol: i, dash, isShown: true,
      points: rows.filter((row) => row.view === view).map((row) => ({ x: row.epoch, y: row[dash ? `validation_${value}` : value] })).filter(({ y }) => isKnown(y)),
    }))).filter(({ points }) => points.length);
    const [low, high] = rangeOf(curves.flatMap(({ points }) => points.map(({ y }) => y)));
    const scale = value === "loss" && low > 0 && high > 5 * low ? logarithmicTicks(low, high) : {};
    curveChart(chartHost(value), {
      name: `training-${value}`, heading: "", title: () => (value === "loss" ? "Loss" : "Accuracy"), label: `${title} over epochs`, curves: () => curves,
      keys: [["epoch", "x"], [value, "y"]], axes: () => ({ xaxis: { title: "epoch", ...wholeTicks(rows.map(({ epoch }) => epoch)) }, yaxis: { title, ...scale } }),
    });
  }
}

const lossTitle = () => (content.has_log_loss ? "cross-entropy (nats)" : "loss");
const clipped = (value) => (isKnown(value) ? Math.min(1, Math.max(0, value)) : null);

function probeChart() {
  const isOfLabel = ({ target }) => target === "label";
  const bands = rowsOf("probe_bands").filter(isOfLabel), probes = rowsOf("probes").filter(isOfLabel);
  const hasSeeds = bands.some(({ n_seeds }) => n_seeds > 1);
  const rows = hasSeeds ? bands : probes;
  const ofSeeds = (row) => ({ x: row.depth, layer: row.layer, y: row.mean, low: clipped(row.band_low), high: clipped(row.band_high) });
  const ofOne = (row) => {
    const error = Math.sqrt((row.accuracy * (1 - row.accuracy)) / row.n_test);
    return { x: row.depth, layer: row.layer, y: row.accuracy, low: row.accuracy === null ? null : row.accuracy - error, high: row.accuracy === null ? null : row.accuracy + error };
  };
  const curves = hasSeeds ? curvesOf(rows, "method", ofSeeds) : curvesOf(rows, "view", ofOne);
  curveChart(chartHost("probes"), {
    name: "probes", title: () => "Linear probes by layer", label: "Probe accuracy on test by layer", curves: () => curves, reference: content.chance,
    keys: [["layer", "layer"], ["depth", "x"], [hasSeeds ? "mean" : "accuracy", "y"], ["low", "low"], ["high", "high"]],
    axes: () => ({ xaxis: depthAxis(rows), yaxis: { title: "probe accuracy on test" } }),
  });
}

function differenceChart() {
  const rows = rowsOf("probe_differences").filter(({ target }) => target === "label");
  const curves = curvesOf(rows, "method", (row) => ({ x: row.depth, layer: row.layer, y: row.difference, low: row.band_low, high: row.band_high }));
  curves.forEach((curve, i) => Object.assign(curve, { colour: i + 1, symbol: i + 1, dash: 0 })); // 0 is the first method's
  curveChart(chartHost("differences"), {
    name: "probe-differences", title: () => "Difference between probes", label: "Difference in probe accuracy by layer", curves: () => curves, reference: 0, also: [0],
    keys: [["layer", "layer"], ["depth", "x"], ["difference", "y"], ["band_low", "low"], ["band_high", "high"]],
    axes: () => ({ xaxis: depthAxis(rows), yaxis: { title: "difference in accuracy" } }),
  });
}

/** Draw a column of a table by layer, one curve per view. */
function layerChart({ name, heading, table, value, ylabel }) {
  const rows = rowsOf(table);
  const curves = curvesOf(rows, "view", (row) => ({ x: row.depth, layer: row.layer, y: row[value] }));
  curveChart(chartHost(name), {
    name: value.replace(/_/g, "-"), title: () => heading, label: heading, curves: () => curves,
    keys: [["layer", "layer"], ["depth", "x"], [value, "y"]],
    axes: () => ({ xaxis: depthAxis(rows), yaxis: { title: ylabel } }),
  });
}

const GRADIENTS = { angle: "angle (degrees)", cosine: "cosine", relative_error: "relative error", norm: "norm", estimator_loss: "loss of the estimator" };

function gradientCharts() {
  const rows = rowsOf("gradients"), views = unique(rows.map(({ view }) => view));
  const steps = unique(rows.map(({ step }) => step)).sort((a, b) => a - b);
  const names = Object.keys(GRADIENTS).filter((name) => rows.some((row) => isKnown(row[name])));
  const now = { value: names[0], step: steps.length - 1 };
  const styled = (name, colour) => ({ name, colour, symbol: colour, dash: 0, isShown: true, points: [] });
  const byBoundary = views.map(styled), byStep = views.map(styled);
  const fill = () => views.forEach((view, i) => {
    const own = rows.filter((row) => row.view === view && isKnown(row[now.value]));
    byBoundary[i].points = own.filter(({ step }) => step === steps[now.step]).map((row) => ({ x: row.boundary, y: row[now.value], step: row.step }));
    byStep[i].points = meansByStep(rows.some((row) => row.view === view && row.rule !== "backprop") ? own.filter(({ rule }) => rule !== "backprop") : own, now.value);
  });
  fill();
  const redraw = () => {
    fill();
    both.forEach((chart) => chart.draw());
  };
  const value = select("Quantity", names.map((name) => GRADIENTS[name]), (i) => {
    now.value = names[i];
    redraw();
  });
  const step = slider("Step", (i) => {
    now.step = i;
    redraw();
  });
  step.update(steps.map((each) => `step ${each}`), now.step);
  const common = { get reference() { return now.value === "angle" ? 90 : undefined; }, get also() { return now.value === "angle" ? [0, 90] : []; } };
  const chart = (part, options) => curveChart(chartHost(`gradients-${part}`), Object.defineProperties({ heading: "", name: `gradients-${part}`, ...options }, Object.getOwnPropertyDescriptors(common)));
  const yaxis = () => ({ title: GRADIENTS[now.value] });
  const both = [
    chart("boundary", {
      title: () => `By boundary, at step ${steps[now.step]}`, label: "Chosen and true gradient by boundary", curves: () => byBoundary, controls: [value.node, step.node],
      keys: [["boundary", "x"], ["step", "step"], ["value", "y"]], axes: () => ({ xaxis: { title: "boundary", ...wholeTicks(rows.map(({ boundary }) => boundary)) }, yaxis: yaxis() }),
    }),
    chart("step", {
      title: () => "Over training, mean of the boundaries where the rule acts", label: "Chosen and true gradient over training", curves: () => byStep,
      keys: [["step", "x"], ["value", "y"]], axes: () => ({ xaxis: { title: "step", tickformat: "d" }, yaxis: yaxis() }),
    }),
  ];
}

function meansByStep(rows, value) {
  return unique(rows.map(({ step }) => step)).map((step) => {
    const own = rows.filter((row) => row.step === step).map((row) => row[value]);
    return { x: step, y: own.reduce((sum, each) => sum + each, 0) / own.length };
  });
}

// Figures for print

/** Return the complete table that a figure shows. */
async function wholeTable(name) {
  if (name === "rdm") return classTable(content.views.flatMap(({ layers }, view) => layers.map((_, layer) => ({ view, layer }))));
  if (name === "similarity") return wholeSimilarity();
  const columns = Object.keys(content.tables[name]);
  return { columns, rows: rowsOf(name).map((row) => columns.map((column) => row[column])) };
}

async function wholeSimilarity() {
  const places = content.views.flatMap(({ label, layers }) => layers.map((layer, i) => [label, layer, i + 1]));
  const all = await Promise.all(content.measures.map((_, m) => numbers(`similarity-${m}`)));
  const rows = places.flatMap((a, i) => places.map((b, j) => [...a, ...b, ...all.map((values) => values[i * places.length + j])]));
  return { columns: ["view_a", "layer_a", "depth_a", "view_b", "layer_b", "depth_b", ...content.measures.map(({ name }) => name)], rows };
}

function printedFigure(figure) {
  const image = figure.querySelector("img"), { id } = figure, { table } = figure.dataset;
  const kept = async (kind, type) => save(`${id}.${kind}`, type, await inflated(`${id}-${kind}`));
  const has = (kind) => document.getElementById(`${id}-${kind}`) !== null;
  const actions = {
    PNG: async () => save(`${id}.png`, "image/png", bytesOfUrl(await pngOf(image))),
    SVG: async () => (has("svg") ? kept("svg", "image/svg+xml") : save(`${id}.svg`, "image/svg+xml", svgAround(image, await pngOf(image)))),
    PDF: async () => {
      if (has("pdf")) return kept("pdf", "application/pdf");
      const canvas = await canvasOf(image.src);
      return save(`${id}.pdf`, "application/pdf", pdfOf(bytesOfUrl(canvas.toDataURL("image/jpeg", 0.95)), canvas, canvas));
    },
  };
  if (table === "rdm" || table === "similarity" || content.tables[table]) actions.CSV = async () => saveCsv(id, await wholeTable(table));
  figure.append(saveButtons(id.replace(/_/g, " "), actions));
  if (!has("svg") || !has("pdf")) figure.append(el("p", { class: "note" }, "This figure is large, so the files saved here contain a picture; the vector graphics are in figures/ beside this page."));
}

const isPng = (image) => image.src.startsWith("data:image/png");
const pngOf = async (image) => (isPng(image) ? image.src : (await canvasOf(image.src)).toDataURL("image/png"));

function svgAround(image, png) {
  const size = `width="${image.naturalWidth}" height="${image.naturalHeight}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size}><image ${size} href="${png}"/></svg>`;
}
