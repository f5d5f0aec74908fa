// Two panels with one matrix each, the similarity chart that sets them, and the embedding of the first panel.

const state = { panels: { a: { view: 0, layer: 0 }, b: { view: 0, layer: 0 } }, similarity: { a: 0, b: 0, measure: 0 }, isOneScale: true, isLinked: false, kind: "mds" };
const linked = {};

const layersOf = (view) => content.views[view].layers;
const nShown = () => content.stimuli.ids.length;
const placeText = ({ view, layer }) => `${content.views[view].label}, ${layersOf(view)[layer]}`;
const layerText = (view) => layersOf(view).map((name, i, all) => `${name} (${i + 1} of ${all.length})`);

function startState() {
  const last = content.views.length - 1;
  const first = networks.length > 1 ? networks[0].views[networks[0].views.length - 1] : 0;
  state.panels.a = { view: first, layer: layersOf(first).length - 1 };
  state.panels.b = { view: last, layer: layersOf(last).length - 1 };
  state.similarity = { a: first, b: last, measure: 0 };
}

/** Set the view of a panel; keep the layer by name, or else by position. */
function setView(panel, view) {
  const name = layersOf(panel.view)[panel.layer];
  const same = layersOf(view).indexOf(name);
  panel.layer = same >= 0 ? same : Math.min(panel.layer, layersOf(view).length - 1);
  panel.view = view;
}

/** Set the other panel to the layer and, if its run has it, the step of this one. */
function follow(side) {
  const [from, to] = side === "a" ? ["a", "b"] : ["b", "a"];
  const { view, layer } = state.panels[from], panel = state.panels[to];
  const own = networks.find(({ views }) => views.includes(panel.view)).views;
  panel.view = own.find((each) => content.views[each].step === content.views[view].step) ?? panel.view;
  const same = layersOf(panel.view).indexOf(layersOf(view)[layer]);
  panel.layer = same >= 0 ? same : Math.min(layer, layersOf(panel.view).length - 1);
}

const matrixOf = async ({ view, layer }) => numbers(`rdm-${view}-${layer}`);

/** Return the colour scale of a panel: shared by both panels, or its own. */
async function scaleOf(panel) {
  const all = state.isOneScale ? Object.values(state.panels) : [panel];
  const ranges = await Promise.all(all.map(async (each) => rangeOf(await matrixOf(each))));
  const [low, high] = [Math.min(0, ...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))];
  return high - low > 1e-9 ? [low, high] : [0, 1]; // of stimuli that are all alike
}

/** Return ticks in the middle of each class, and lines between classes. */
function classMarks(colours) {
  const { labels } = content.stimuli;
  const edges = labels.map((_, i) => i).filter((i) => i && labels[i] !== labels[i - 1]);
  const starts = [0, ...edges], stops = [...edges, labels.length];
  const stride = Math.ceil(starts.length / 12);
  const kept = starts.map((_, i) => i).filter((i) => i % stride === 0);
  const names = shortenedAll(starts.map((start) => String(className(start))), 12);
  const ticks = {
    tickvals: kept.map((i) => (starts[i] + stops[i] - 1) / 2), ticktext: kept.map((i) => verbatim(names[i])), ticks: "",
  };
  const line = { color: translucent(colours.paper, 0.6), width: 0.7 };
  const lines = starts.length > 20 ? [] : edges.flatMap((edge) => [
    { type: "line", x0: edge - 0.5, x1: edge - 0.5, y0: -0.5, y1: labels.length - 0.5, line },
    { type: "line", y0: edge - 0.5, y1: edge - 0.5, x0: -0.5, x1: labels.length - 0.5, line },
  ]);
  return { ticks, lines };
}

function rdmChart(side) {
  const panel = state.panels[side], cursor = new Cursor(), letter = side.toUpperCase();
  const change = () => panelChanged(side);
  const controls = panelControls(panel, change);
  const shapes = (colours) => [...classMarks(colours).lines, ...(cursor.isShown ? crosshair(cursor.row, cursor.column, nShown(), nShown(), colours.mark) : [])];
  const figure = async (colours, isExport) => {
    const z = square(await matrixOf(panel), nShown());
    const { ticks, lines } = classMarks(colours);
    chart.sayNote(z.some((row) => row.some(Number.isNaN)) ? "Grey: distance not defined, for example because the activations of a stimulus are constant." : "");
    const { ticktext, tickvals } = ticks;
    const axes = { xaxis: axis(colours, { ticktext, tickvals, ticks: "", showgrid: false, constrain: "domain", title: "class" }),
      yaxis: axis(colours, { ticktext, tickvals, ticks: "", showgrid: false, autorange: "reversed", scaleanchor: "x", constrain: "domain" }) };
    const trace = heatmap(z, await scaleOf(panel), `${verbatim(content.distance)} distance`, colours, "Viridis", !isExport && isNarrow(chart.plot.clientWidth));
    return { data: [trace], layout: { ...axes, plot_bgcolor: colours.missing, shapes: isExport ? lines : shapes(colours) } };
  };
  const say = async () => sayPair(chart, cursor.row, cursor.column, square(await matrixOf(panel), nShown())[cursor.row][cursor.column]);
  const chart = new Chart(chartHost(`rdm-${side}`), {
    heading: "", controls: controls.nodes, label: `Dissimilarity matrix ${letter}. Arrow keys move over pairs of stimuli.`, named: `matrix ${letter}`,
    figure, shapes, name: () => `rdm-${placeText(panel)}`, title: () => `${letter}: ${placeText(panel)}`,
    table: () => rdmTable(panel), short: () => classTable([panel]), height: matrixHeight, isSquare: true, exported: { width: 720, height: 640, scale: 3 }, hint: "Point at a cell, or use the arrow keys, to see its two stimuli.",
    hover: ({ x, y }) => {
      cursor.moveTo(y, x, nShown(), nShown());
      cursor.isShown = false;
      say();
    },
    keys: ({ key }) => {
      const moved = cursor.press(key, nShown(), nShown(), false);
      if (moved) say();
      return moved;
    },
  });
  linked[side] = { chart, refresh: () => {
    controls.refresh();
    if (chart.isSaid) say();
    return chart.draw();
  } };
}

function sayPair(chart, i, j, distance) {
  const value = Number.isNaN(distance) ? "no distance" : `${content.distance} distance ${distance.toPrecision(5)}`;
  chart.say(
    el("p", { class: "value" }, value),
    thumbnail(i), el("p", {}, `row: ${stimulusText(i)}`), thumbnail(j), el("p", {}, `column: ${stimulusText(j)}`),
  );
}

/** Return controls of run, step and layer of a panel. */
function panelControls(panel, change) {
  const own = () => networks.find(({ views }) => views.includes(panel.view));
  const chosen = (view) => {
    setView(panel, view);
    change();
  };
  const run = select("Run", networks.map(({ name }) => name), (i) => chosen(networks[i].views[networks[i].views.length - 1]));
  const step = slider("Checkpoint", (i) => chosen(own().views[i]));
  const layer = slider("Layer", (i) => {
    panel.layer = i;
    change();
  });
  const refresh = () => {
    run.update(networks.map(({ name }) => name), networks.indexOf(own()));
    run.node.hidden = networks.length < 2;
    step.update(own().views.map((view) => `step ${content.views[view].step}`), own().views.indexOf(panel.view));
    layer.update(layerText(panel.view), panel.layer);
  };
  refresh();
  return { nodes: [run.node, step.node, layer.node], refresh };
}

function panelChanged(side) {
  if (state.isLinked) follow(side);
  const sides = state.isOneScale || state.isLinked ? Object.keys(state.panels) : [side];
  sides.forEach((each) => linked[each].refresh());
  if (side === "a" || state.isLinked) linked.plane.draw();
  linked.similarity.draw();
}

async function rdmTable(panel) {
  const condensed = await matrixOf(panel), { ids } = content.stimuli;
  const rows = [];
  let place = 0;
  for (let i = 0; i < ids.length; i++) for (let j = i + 1; j < ids.length; j++) {
    rows.push([ids[i], String(className(i)), ids[j], String(className(j)), condensed[place++]]);
  }
  return { columns: ["stimulus_a", "class_a", "stimulus_b", "class_b", "distance"], rows };
}

/** Return the mean distance of each two classes, over the stimuli shown. */
async function classTable(places) {
  const rows = [];
  for (const place of places) rows.push(...classMeans(place, await matrixOf(place)));
  return { columns: ["view", "layer", "class_a", "class_b", "mean_distance"], rows };
}

function classMeans(place, condensed) {
  const { labels } = content.stimuli, sums = new Map();
  let at = 0;
  for (let i = 0; i < labels.length; i++) for (let j = i + 1; j < labels.length; j++, at++) {
    const key = `${labels[i]} ${labels[j]}`; // ascending, as labels are
    const sum = sums.get(key) ?? { total: 0, count: 0, i, j };
    if (!Number.isNaN(condensed[at])) {
      sum.total += condensed[at];
      sum.count += 1;
    }
    sums.set(key, sum);
  }
  const names = [content.views[place.view].label, layersOf(place.view)[place.layer]];
  return [...sums.values()].map(({ total, count, i, j }) => [...names, String(className(i)), String(className(j)), count ? total / count : NaN]);
}

// Similarity between layers

const offsetOf = (view) => content.views.slice(0, view).reduce((sum, { layers }) => sum + layers.length, 0);

async function similarities() {
  const { a, b, measure } = state.similarity;
  const all = await numbers(`similarity-${measure}`);
  const n = offsetOf(content.views.length), rows = offsetOf(a), columns = offsetOf(b);
  return layersOf(a).map((_, i) => layersOf(b).map((_, j) => all[(rows + i) * n + columns + j]));
}

async function similarityScale() {
  const { range } = content.measures[state.similarity.measure];
  return range ?? rangeOf(await numbers(`similarity-${state.similarity.measure}`));
}

function similarityChart() {
  const { similarity, panels } = state, cursor = new Cursor();
  const measure = () => content.measures[similarity.measure];
  const size = () => [layersOf(similarity.a).length, layersOf(similarity.b).length];
  const labels = content.views.map(({ label }) => label);
  const change = (name) => (i) => {
    similarity[name] = i;
    cursor.moveTo(cursor.row, cursor.column, ...size());
    showMeasure();
    chart.draw();
  };
  const boxes = { a: select("Rows", labels, change("a")), b: select("Columns", labels, change("b")), measure: select("Measure", content.measures.map(({ label }) => label), change("measure")) };
  ["a", "b"].forEach((side) => boxes[side].update(labels, similarity[side]));
  boxes.measure.node.hidden = content.measures.length < 2;
  const ticksOf = (view) => {
    const ticks = layerTicks(layersOf(view), 0);
    return { ...ticks, title: broken(`${ticks.title} of ${verbatim(shortened(labels[view], 40))}`, chart.plot.clientWidth - 150) };
  };
  const isChosen = () => panels.a.view === similarity.a && panels.b.view === similarity.b;
  const shapes = (colours) => [
    ...(isChosen() ? [outline(panels.a.layer, panels.b.layer, colours.paper, 4), outline(panels.a.layer, panels.b.layer, colours.ink, 2)] : []),
    ...(cursor.isShown ? [outline(cursor.row, cursor.column, colours.mark)] : []),
  ];
  const figure = async (colours, isExport) => {
    const z = await similarities();
    const square = { showgrid: false, constrain: "domain" };
    const axes = { xaxis: axis(colours, { ...square, ...ticksOf(similarity.b) }),
      yaxis: axis(colours, { ...square, ...ticksOf(similarity.a), scaleanchor: "x" }) };
    chart.sayNote(z.some((row) => row.some(Number.isNaN)) ? "Grey: not defined." : "");
    return { data: [heatmap(z, await similarityScale(), verbatim(measure().label), colours, MAGMA, !isExport && isNarrow(chart.plot.clientWidth))], layout: { ...axes, plot_bgcolor: colours.missing, shapes: isExport ? [] : shapes(colours) } };
  };
  const say = async () => {
    const value = (await similarities())[cursor.row][cursor.column];
    const text = Number.isNaN(value) ? "not defined" : value.toPrecision(4);
    chart.say(el("p", { class: "value" }, `${measure().label} of ${layersOf(similarity.a)[cursor.row]} (${labels[similarity.a]}) and ${layersOf(similarity.b)[cursor.column]} (${labels[similarity.b]}): ${text}`));
  };
  const choose = () => choosePair({ view: similarity.a, layer: cursor.row }, { view: similarity.b, layer: cursor.column });
  const point = ({ x, y }) => {
    cursor.moveTo(y, x, ...size());
    say();
  };
  const chart = new Chart(chartHost("similarity"), {
    controls: [boxes.a.node, boxes.b.node, boxes.measure.node], label: "Similarity between layers. Arrow keys move over pairs of layers, Enter shows them above.", named: "similarity between layers",
    figure, shapes, name: () => `similarity-${measure().name}-${labels[similarity.a]}-${labels[similarity.b]}`,
    title: () => `${measure().label}: ${labels[similarity.a]} (rows), ${labels[similarity.b]} (columns)`,
    table: similarityTable, height: matrixHeight, isSquare: true, exported: { width: 720, height: 640, scale: 3 }, hint: "Point at a cell, or use the arrow keys; Enter or a click shows both layers above.",
    hover: point,
    click: (at) => {
      point(at);
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
  linked.similarity = chart;
  showMeasure();
}

function showMeasure() {
  document.getElementById("measure-words").textContent = `${content.measures[state.similarity.measure].words}. All ${content.stimuli.n_test} held-out stimuli are used.`;
}

function choosePair(a, b) {
  Object.assign(state.panels.a, a);
  Object.assign(state.panels.b, b);
  ["a", "b"].forEach((side) => linked[side].refresh());
  linked.plane.draw();
  linked.similarity.draw();
}

async function similarityTable() {
  const { a, b, measure } = state.similarity;
  const values = await similarities();
  const rows = layersOf(a).flatMap((left, i) => layersOf(b).map((right, j) => [content.views[a].label, left, i + 1, content.views[b].label, right, j + 1, values[i][j]]));
  return { columns: ["view_a", "layer_a", "depth_a", "view_b", "layer_b", "depth_b", content.measures[measure].name], rows };
}

// Stimuli in a plane

function planeClasses() {
  const { classes, labels } = content.stimuli;
  return unique(labels).map((label, i) => ({
    name: String(classes[label]), label, isShown: true, place: i,
    style: { colour: `var(--series-${i % 10})`, dash: "none", symbol: cycled(SYMBOLS, i) },
  }));
}

function planeChart() {
  const panel = state.panels.a, classes = planeClasses();
  let chosen = null;
  const members = (label) => content.stimuli.labels.flatMap((each, i) => (each === label ? [i] : []));
  const points = () => numbers(`${state.kind}-${panel.view}-${panel.layer}`);
  const kind = () => state.kind.toUpperCase();
  const fit = () => content.views[panel.view].fits[panel.layer][state.kind];
  const figure = async (colours, isExport) => {
    const xy = await points();
    const data = classes.filter(({ isShown }) => isShown).map((each) => {
      const own = members(each.label);
      return { x: own.map((i) => xy[2 * i]), y: own.map((i) => xy[2 * i + 1]), customdata: own, name: verbatim(each.name), mode: "markers", hoverinfo: "none",
        marker: { color: cycled(colours.series, each.place), symbol: each.style.symbol, size: 8, opacity: 0.85 } };
    });
    if (chosen !== null && !isExport) data.push({ x: [xy[2 * chosen]], y: [xy[2 * chosen + 1]], customdata: [chosen], mode: "markers", hoverinfo: "none", marker: { color: colours.mark, symbol: "circle-open", size: 18, line: { width: 3 } } });
    chart.sayNote(planeNote(xy, fit(), kind()));
    const plain = { title: `${kind()} 1`, zeroline: false };
    return { data, layout: { xaxis: axis(colours, plain), yaxis: axis(colours, { title: `${kind()} 2`, scaleanchor: "x" }), showlegend: isExport && classes.length > 1 }, size: exportSize(data.length, { width: 760, height: 640, scale: 3 }) };
  };
  const say = () => chart.say(thumbnail(chosen), el("p", {}, stimulusText(chosen)));
  const table = async () => {
    const xy = await points(), { ids } = content.stimuli;
    return { columns: ["stimulus", "class", `${state.kind}_1`, `${state.kind}_2`], rows: ids.map((id, i) => [id, String(className(i)), xy[2 * i], xy[2 * i + 1]]) };
  };
  const box = select("Projection", ["MDS of the distances", "PCA of the activations"], (i) => {
    state.kind = ["mds", "pca"][i];
    chart.draw();
  });
  const chart = new Chart(chartHost("embedding"), {
    heading: "", controls: [box.node], legend: legendOf(classes, () => chart.draw()), label: "Stimuli in a plane. Left and right arrow keys move over stimuli.", named: "stimuli in a plane",
    figure, table, name: () => `${state.kind}-${placeText(panel)}`, title: () => `${kind()}: ${placeText(panel)}`, height: (width) => Math.min(width * 0.9, 560), exported: { width: 760, height: 640, scale: 3 }, hint: "Point at a stimulus, or use the left and right arrow keys.",
    hover: ({ customdata }) => {
      chosen = customdata;
      say();
    },
    keys: ({ key }) => {
      const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
      if (move === undefined) return false;
      chosen = chosen === null ? 0 : (chosen + move + nShown()) % nShown();
      say();
      chart.draw();
      return true;
    },
  });
  linked.plane = chart;
}

function planeNote(xy, fit, kind) {
  const missing = xy.filter((value, i) => i % 2 === 0 && Number.isNaN(value)).length;
  const left = missing ? ` ${missing} of the stimuli are missing, as their distances are not defined.` : "";
  const words = kind === "PCA" ? `The plane explains ${Math.round(100 * fit)} % of the variance.` : `Correlation of distances in the plane with the true distances: ${fit.toFixed(2)}.`;
  return words + left;
}

function startExplorer() {
  const { n_test, why_not } = content.stimuli;
  const counted = nShown() < n_test ? `${nShown()} of ${n_test} stimuli are shown, evenly over classes.` : `All ${n_test} stimuli are shown.`;
  const { bytes } = content.arrays["rdm-0-0"];
  document.getElementById("shown").textContent = `${counted} Distances are stored with ${8 * bytes} bits. ${why_not}`;
  const scale = checkbox("One colour scale for both panels", true, (isOne) => {
    state.isOneScale = isOne;
    ["a", "b"].forEach((side) => linked[side].chart.draw());
  });
  const link = checkbox("Link A and B: the same layer and step", false, (isLinked) => {
    state.isLinked = isLinked;
    if (isLinked) panelChanged("a");
  });
  document.getElementById("scale").append(el("div", { class: "controls" }, scale, link));
  ["a", "b"].forEach(rdmChart);
  similarityChart();
  planeChart();
}
