// Curves over layers, epochs or steps. A curve is {name, colour, symbol, dash, isShown, points: [{x, y, low, high, …}]}.

/** Return the style of each view: networks differ in colour, steps of one in dashes and markers. */
function viewStyles() {
  const networks = unique(content.views.map(({ network }) => network));
  const place = new Map();
  const nSteps = (network) => content.views.filter((view) => view.network === network).length;
  return content.views.map(({ network }) => {
    const step = place.get(network) ?? 0;
    place.set(network, step + 1);
    const own = networks.indexOf(network);
    if (networks.length === 1) return { colour: step, symbol: step, dash: 0 };
    return { colour: own, symbol: networks.length === content.views.length ? own : step, dash: nSteps(network) - 1 - step }; // the last is solid
  });
}

/** Return the traces of a band, with gaps where its ends are unknown. */
function bandTraces(curve, colour) {
  const pieces = [[]];
  for (const point of curve.points) {
    if (isKnown(point.low) && isKnown(point.high)) pieces.at(-1).push(point);
    else pieces.push([]);
  }
  return pieces.filter((points) => points.length).flatMap((points) => {
    const edge = { x: points.map(({ x }) => x), mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    return [
      { ...edge, y: points.map(({ low }) => low) },
      { ...edge, y: points.map(({ high }) => high), fill: "tonexty", fillcolor: translucent(colour, 0.16) },
    ];
  });
}

function curveTrace(curve, colour) {
  return {
    x: curve.points.map(({ x }) => x), y: curve.points.map(({ y }) => y), name: verbatim(curve.name), mode: "lines+markers",
    text: curve.points.map(({ layer }) => verbatim(layer ?? "")), hoverinfo: curve.points.some(({ layer }) => layer) ? "y+text+name" : "x+y+name",
    line: { color: colour, width: 2, dash: cycled(DASHES, curve.dash) },
    marker: { color: colour, size: curve.points.length > 60 ? 3 : 7, symbol: cycled(SYMBOLS, curve.symbol) },
  };
}

/** Return about eight ticks, on whole numbers only. */
function wholeTicks(values) {
  const [low, high] = rangeOf(values);
  return { dtick: Math.max(1, Math.ceil((high - low) / 8)), tick0: low, tickformat: "d" };
}

/** Return ticks at 1, 2 and 5 times powers of ten for a logarithmic axis. */
function logarithmicTicks(low, high) {
  const powers = Array.from({ length: Math.ceil(Math.log10(high)) - Math.floor(Math.log10(low)) + 1 }, (_, i) => i + Math.floor(Math.log10(low)));
  const factors = powers.length > 4 ? [1] : [1, 2, 5];
  const tickvals = powers.flatMap((power) => factors.map((factor) => Number(`${factor}e${power}`)));
  return { type: "log", tickvals, ticktext: tickvals.map(String) };
}

/** Return the range of curves and bands with a margin; a reference level may lie outside. */
function roomyRange(curves, isLogarithmic, also) {
  const all = curves.flatMap(({ points }) => points.flatMap(({ y, low, high }) => [y, low, high])).concat(also).filter(isKnown);
  const [low, high] = rangeOf(isLogarithmic ? all.map(Math.log10) : all);
  const room = Math.max((high - low) * 0.06, Math.abs(high) * 0.005, 1e-9);
  return [low - room, high + room];
}

/** Return at most about ten ticks with the names of layers, where layer k lies at k + `start`. */
function layerTicks(layers, start, most = 10) {
  const stride = Math.ceil(layers.length / most);
  const places = layers.map((_, i) => i).filter((i) => i % stride === 0);
  const names = shortNames(layers), labels = shortenedAll(names);
  const prefix = layers.length && names[0] !== layers[0] ? layers[0].slice(0, layers[0].length - names[0].length - 1).replace(/\./g, " ") + " " : "";
  return { title: verbatim(`${shortened(prefix, 40)}layer`), tickvals: places.map((i) => i + start), ticktext: places.map((i) => verbatim(labels[i])) };
}

/** Return a long text without its middle, as names often differ at their ends. */
function shortened(text, most = 22) {
  const letters = Array.from(text), half = (most - 1) / 2;
  if (letters.length <= most) return text;
  return `${letters.slice(0, Math.ceil(half)).join("")}\u2026${letters.slice(-Math.floor(half)).join("")}`;
}

/** Return short texts that differ where the texts differ; equal ones are numbered. */
function shortenedAll(texts, most = 22) {
  const labels = texts.map((text) => shortened(text, most));
  const alike = new Map();
  labels.forEach((label, i) => alike.set(label, (alike.get(label) ?? new Set()).add(texts[i])));
  return labels.map((label, i) => (alike.get(label).size < 2 ? label : `${label} (${[...alike.get(label)].indexOf(texts[i]) + 1})`));
}

function legendOf(curves, redraw) {
  if (curves.length < 2) return undefined;
  const boxes = curves.map((curve) => checkbox(curve.name, curve.isShown, (isShown) => {
    curve.isShown = isShown;
    redraw();
  }, swatch(curve.colour, curve.symbol)));
  return el("fieldset", { class: "legend", "aria-label": "Curves shown" }, ...boxes);
}

/**
 * options: name, title, label; curves(): all curves (the same objects each time); keys: [[column, key of a point]];
 * axes(colours): {xaxis, yaxis}; reference: a level with a dotted line; also: values that the y-axis must include;
 * controls: nodes.
 */
function curveChart(host, options) {
  const shown = () => options.curves().filter(({ isShown }) => isShown);
  const figure = (colours, isExport) => {
    const data = shown().flatMap((curve) => {
      const colour = cycled(colours.series, curve.colour);
      return [...bandTraces(curve, colour), curveTrace(curve, colour)];
    });
    const { xaxis, yaxis } = options.axes();
    yaxis.range = roomyRange(shown(), yaxis.type === "log", options.also ?? []);
    const level = { type: "line", xref: "paper", x0: 0, x1: 1, y0: options.reference, y1: options.reference, line: { color: colours.soft, dash: "dot", width: 1.5 } };
    const legend = { orientation: "h", y: -0.2, yanchor: "top", traceorder: "normal" };
    const more = { xaxis: axis(colours, xaxis), yaxis: axis(colours, yaxis), legend, shapes: isKnown(options.reference) ? [level] : [] };
    return { data, layout: { ...more, showlegend: isExport } };
  };
  const table = () => ({
    columns: ["curve", ...options.keys.map(([column]) => column)],
    rows: shown().flatMap((curve) => curve.points.map((point) => [curve.name, ...options.keys.map(([, key]) => point[key] ?? null)])),
  });
  const chart = new Chart(host, {
    heading: options.heading, label: options.label, controls: options.controls, figure, table, name: () => options.name, title: options.title,
    legend: options.hasLegend === false ? undefined : legendOf(options.curves(), () => chart.draw()),
    height: (width) => Math.max(260, Math.min(420, width * 0.62)),
  });
  return chart;
}
