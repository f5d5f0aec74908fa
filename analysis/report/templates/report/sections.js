// The charts of the tables: training, probes, class structure, gradients.

/** Return the layers by depth, or numbers if networks name the layers of one depth differently. */
function layersByDepth(rows) {
  const most = Math.max(...rows.map(({ depth }) => depth));
  const names = Array.from({ length: most }, (_, i) => unique(rows.filter(({ depth }) => depth === i + 1).map(({ layer }) => layer)));
  return names.every((each) => each.length === 1) ? names.map(([name]) => name) : names.map((_, i) => String(i + 1));
}

const depthAxis = (rows) => layerTicks(layersByDepth(rows), 1);

function trainingCharts() {
  const rows = rowsOf("training");
  for (const [value, title] of [["loss", lossTitle()], ["accuracy", "accuracy"]]) {
    const point = (column) => (row) => ({ x: row.epoch, y: row[column] });
    const [validation, training] = [`validation_${value}`, value].map((column) => new MethodCurves(rows, point(column), { ofRuns: true }));
    training.groups = validation.groups;
    const parts = { validation: true, training: true };
    const both = {
      groups: validation.groups,
      controls: () => [
        ...validation.controls(() => {
          training.areSeedsShown = validation.areSeedsShown;
          chart.draw();
        }),
        ...Object.keys(parts).map((part) => checkbox(part, true, (isShown) => {
          parts[part] = isShown;
          chart.draw();
        })),
      ],
      curves: () => [
        ...(parts.training ? training.curves().map((curve) => ({ ...curve, name: `${curve.name}, training`, isBare: true })) : []),
        ...(parts.validation ? validation.curves().map((curve) => ({ ...curve, name: `${curve.name}, validation` })) : []),
      ].map((curve) => ({ ...curve, points: curve.points.filter(({ y }) => isKnown(y)) })).filter(({ points }) => points.length),
    };
    const [low, high] = rangeOf(both.curves().flatMap(({ points }) => points.map(({ y }) => y)));
    const scale = () => (value === "loss" && low > 0 && high > 5 * low ? logarithmicTicks(low, high) : {});
    const isPositive = Object.keys(scale()).length > 0;
    const shown = () => (isPositive ? both.curves().map(withPositiveBand) : both.curves());
    const chart = curveChart(chartHost(value), {
      name: `training-${value}`, heading: "", title: () => (value === "loss" ? "Loss" : "Accuracy"), label: `${title} over epochs`, curves: shown, groups: both.groups, controls: both.controls(),
      keys: [["epoch", "x"], [value, "y"], ["low", "low"], ["high", "high"]], axes: () => ({ xaxis: { title: "epoch", ...wholeTicks(rows.map(({ epoch }) => epoch)) }, yaxis: { title, ...scale() } }),
    });
  }
}

/** Leave out the ends of a band that a logarithmic axis cannot show. */
function withPositiveBand(curve) {
  return { ...curve, points: curve.points.map((point) => (point.low > 0 ? point : { ...point, low: null, high: null })) };
}

const lossTitle = () => (content.has_log_loss ? "cross-entropy (nats)" : "loss");
const clipped = (value) => (isKnown(value) ? Math.min(1, Math.max(0, value)) : null);

/** Return curves of the probes of one target: bands of the table, or one standard error of a single network. */
function probeCurves({ name, score }) {
  const isOf = ({ target }) => target === name;
  const end = score === "accuracy" ? clipped : (value) => value;
  const bands = new Map(rowsOf("probe_bands").filter(isOf).map((row) => [`${row.method} ${row.depth}`, row]));
  const point = (row) => {
    const y = row[score], error = score === "accuracy" && isKnown(y) ? Math.sqrt((y * (1 - y)) / row.n_test) : null;
    return { x: row.depth, layer: row.layer, y, low: error === null ? null : y - error, high: error === null ? null : y + error };
  };
  const band = ([{ method, depth }]) => {
    const row = bands.get(`${method} ${depth}`);
    return row && { y: row.mean, low: end(row.band_low), high: end(row.band_high) };
  };
  return { rows: rowsOf("probes").filter(isOf), point, band };
}

const probeTitle = ({ name, score }) => `probe ${score === "accuracy" ? "accuracy" : "R\u00b2"} on test${name === "label" ? "" : `, ${name}`}`;

/** Draw the probes of a target that is chosen; `isLead` in the first section, where there is less to choose. */
function probeChart(host = "probes", isLead = false) {
  const all = content.targets.map((target) => ({ target, ...probeCurves(target) }));
  if (!all.length) return;
  let now = all[0];
  const curves = new MethodCurves(now.rows, (row) => now.point(row), { band: (rows) => now.band(rows) });
  const target = select("Target", content.targets.map(({ name }) => name), (i) => {
    now = all[i];
    curves.setRows(now.rows);
    chart.draw();
  });
  target.node.hidden = all.length < 2;
  const chart = methodChart(chartHost(host), curves, {
    name: "probes", title: () => "Linear probes by layer", label: "Probe score on test by layer", heading: isLead ? "" : undefined,
    get reference() { return now.target.score === "accuracy" ? now.rows[0]?.chance ?? undefined : undefined; },
    get keys() { return [["layer", "layer"], ["depth", "x"], [now.target.score, "y"], ["low", "low"], ["high", "high"]]; }, controls: [target.node],
    axes: () => ({ xaxis: depthAxis(now.rows), yaxis: { title: verbatim(probeTitle(now.target)) } }),
  });
}

function differenceChart() {
  const targets = content.targets.filter(({ name }) => rowsOf("probe_differences").some(({ target }) => target === name));
  const rows = (name) => rowsOf("probe_differences").filter(({ target }) => target === name);
  let now = targets[0];
  const names = unique(rowsOf("probe_differences").map(({ method }) => method)), ends = new Map(names.map((name) => [withoutStep(name), name]));
  const groups = names.map((name) => ({ name, style: styleOf(withoutStep(name)), isShown: ends.get(withoutStep(name)) === name }));
  const curves = () => groups.filter(({ isShown }) => isShown).map(({ name, style }) => ({
    name, ...style, points: rows(now.name).filter(({ method }) => method === name).map((row) => ({ x: row.depth, layer: row.layer, y: row.difference, low: row.band_low, high: row.band_high })),
  }));
  const target = select("Target", targets.map(({ name }) => name), (i) => {
    now = targets[i];
    chart.draw();
  });
  target.node.hidden = targets.length < 2;
  const chart = curveChart(chartHost("differences"), {
    name: "probe-differences", title: () => "Difference between probes", label: "Difference between probes by layer", curves, groups, reference: 0, also: [0], controls: [target.node],
    keys: [["layer", "layer"], ["depth", "x"], ["difference", "y"], ["band_low", "low"], ["band_high", "high"]],
    axes: () => ({ xaxis: depthAxis(rows(now.name)), yaxis: { title: `difference in ${now.score === "accuracy" ? "accuracy" : "R\u00b2"}` } }),
  });
}

const withoutStep = (name) => (content.styles[name] ? name : name.replace(/, step \d+$/, ""));

/** Draw a column of a table by layer, by method. */
function layerChart({ name, heading, table, value, ylabel }, host = name) {
  const rows = rowsOf(table);
  methodChart(chartHost(host), new MethodCurves(rows, (row) => ({ x: row.depth, layer: row.layer, y: row[value] })), {
    name: value.replace(/_/g, "-"), title: () => heading, label: heading, heading: host === name ? undefined : "",
    keys: [["layer", "layer"], ["depth", "x"], [value, "y"], ["low", "low"], ["high", "high"]],
    axes: () => ({ xaxis: depthAxis(rows), yaxis: { title: verbatim(ylabel) } }),
  });
}

const GRADIENTS = { angle: "angle (degrees)", cosine: "cosine", relative_error: "relative error", norm: "norm", estimator_loss: "loss of the estimator" };

function gradientCharts() {
  const rows = rowsOf("gradients");
  const steps = unique(rows.map(({ step }) => step)).sort((a, b) => a - b);
  const names = Object.keys(GRADIENTS).filter((name) => rows.some((row) => isKnown(row[name])));
  const now = { value: names[0], step: steps.length - 1 };
  const known = () => rows.filter((row) => isKnown(row[now.value]));
  const atStep = () => known().filter(({ step }) => step === steps[now.step]);
  const byBoundary = new MethodCurves(rows, (row) => ({ x: row.boundary, y: row[now.value], step: row.step }), { ofRuns: true });
  const byStep = new MethodCurves(rows, (row) => ({ x: row.step, y: row[now.value] }), { ofRuns: true });
  byStep.groups = byBoundary.groups;
  const redraw = () => {
    byBoundary.setRows(atStep());
    byStep.setRows(meansByStep(known(), now.value));
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
  const chart = (part, curves, options) => {
    const named = { heading: "", name: `gradients-${part}`, ...options };
    return methodChart(chartHost(`gradients-${part}`), curves, Object.defineProperties(named, Object.getOwnPropertyDescriptors(common)));
  };
  const yaxis = () => ({ title: GRADIENTS[now.value] });
  const both = [
    chart("boundary", byBoundary, {
      title: () => `By boundary, at step ${steps[now.step]}`, label: "Chosen and true gradient by boundary", controls: [value.node, step.node],
      keys: [["boundary", "x"], ["step", "step"], ["value", "y"]], axes: () => ({ xaxis: { title: "boundary", ...wholeTicks(rows.map(({ boundary }) => boundary)) }, yaxis: yaxis() }),
    }),
    chart("step", byStep, {
      title: () => "Over training, mean of the boundaries where the rule acts", label: "Chosen and true gradient over training",
      keys: [["step", "x"], ["value", "y"]], axes: () => ({ xaxis: { title: "step", tickformat: "d", nticks: 8 }, yaxis: yaxis() }),
    }),
  ];
  byBoundary.setRows(atStep());
  byStep.setRows(meansByStep(known(), now.value));
}

/** Return the mean of each view and step over the boundaries where a rule other than backprop acts, if there are any. */
function meansByStep(rows, value) {
  return unique(rows.map(({ view }) => view)).flatMap((view) => {
    const all = rows.filter((row) => row.view === view), ruled = all.filter(({ rule }) => rule !== "backprop");
    const own = ruled.length ? ruled : all;
    return unique(own.map(({ step }) => step)).map((step) => {
      const values = own.filter((row) => row.step === step).map((row) => row[value]);
      return { view, step, [value]: values.reduce((sum, each) => sum + each, 0) / values.length };
    });
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
  const actions = { PNG: async () => save(`${id}.png`, "image/png", bytesOfUrl(await pngOf(image))) };
  if (has("svg")) actions.SVG = () => kept("svg", "image/svg+xml");
  if (has("pdf")) actions.PDF = () => kept("pdf", "application/pdf");
  if (table === "rdm" || table === "similarity" || content.tables[table]) actions.CSV = async () => saveCsv(id, await wholeTable(table));
  figure.append(saveButtons(id.replace(/_/g, " "), actions));
  if (!has("pdf")) figure.append(el("p", { class: "note" }, "This figure is large: its PDF is in figures/ beside this page."));
}

const isPng = (image) => image.src.startsWith("data:image/png");
const pngOf = async (image) => (isPng(image) ? image.src : (await canvasOf(image.src)).toDataURL("image/png"));
