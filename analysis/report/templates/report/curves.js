// Curves over layers, epochs or steps. A curve is {name, colour, symbol, dash, isFaint, points: [{x, y, low, high, ...}]}.

/** Return the traces of a band, with gaps where its ends are unknown. */
function bandTraces(curve, colour) {
  const pieces = [[]];
  for (const point of curve.points) {
    if (isKnown(point.low) && isKnown(point.high)) pieces.at(-1).push(point);
    else pieces.push([]);
  }
  return pieces.filter((points) => points.length).flatMap((points) => {
    if (points.length === 1) { // a band without width cannot be seen
      const [{ x, low, high }] = points;
      return [{ x: [x, x], y: [low, high], mode: "lines", line: { color: translucent(colour, 0.5), width: 2 }, hoverinfo: "skip", showlegend: false }];
    }
    const edge = { x: points.map(({ x }) => x), mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    return [
      { ...edge, y: points.map(({ low }) => low) },
      { ...edge, y: points.map(({ high }) => high), fill: "tonexty", fillcolor: translucent(colour, 0.16) },
    ];
  });
}

function curveTrace(curve) {
  const { colour, isFaint } = curve, isLong = curve.points.length > 60;
  return {
    x: curve.points.map(({ x }) => x), y: curve.points.map(({ y }) => y), name: verbatim(curve.name), mode: isFaint || curve.isBare ? "lines" : "lines+markers",
    text: curve.points.map(({ layer }) => verbatim(layer ?? "")), hoverinfo: curve.points.some(({ layer }) => layer) ? "y+text+name" : "x+y+name",
    line: { color: colour, width: isFaint ? 1 : 2, dash: curve.dash }, opacity: isFaint ? 0.55 : 1, showlegend: !isFaint,
    marker: { color: colour, size: isLong ? 3 : 7, symbol: curve.symbol },
  };
}

/** Return the smallest of 1, 2 and 5 times powers of ten with which at most so many places of a range are kept. */
function strideOf(n, most) {
  const least = n / most, power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= least);
}

/** Return about eight ticks, on whole numbers only: each from the lowest on, or multiples of a round number. */
function wholeTicks(values) {
  const [low, high] = rangeOf(values), dtick = strideOf(high - low, 8);
  return { dtick, tick0: dtick < 5 ? low : 0, tickformat: "d" };
}

/** Return ticks at 1, 2 and 5 times powers of ten for a logarithmic axis. */
function logarithmicTicks(low, high) {
  const powers = Array.from({ length: Math.ceil(Math.log10(high)) - Math.floor(Math.log10(low)) + 1 }, (_, i) => i + Math.floor(Math.log10(low)));
  const factors = powers.length > 4 ? [1] : [1, 2, 5];
  const tickvals = powers.flatMap((power) => factors.map((factor) => Number(`${factor}e${power}`)));
  return { type: "log", tickvals, ticktext: tickvals.map(String) };
}

/** Return the range of curves and bands with a margin; a reference level may lie outside. Constant curves lie in the middle. */
function roomyRange(curves, isLogarithmic, also) {
  const all = curves.flatMap(({ points }) => points.flatMap(({ y, low, high }) => [y, low, high])).concat(also).filter(isKnown);
  const [low, high] = rangeOf(isLogarithmic ? all.map(Math.log10) : all);
  const size = Math.max(Math.abs(low), Math.abs(high));
  const isConstant = high - low <= 1e-6 * Math.max(size, 1e-3);
  const room = isConstant ? Math.max(0.1 * size, 0.05) : (high - low) * 0.06;
  return [low - room, high + room];
}

/** Return at most about ten ticks with the names of layers, where layer k lies at k + `start`: the first, and every fifth, tenth ... */
function layerTicks(layers, start, most = 10) {
  const stride = strideOf(layers.length, most);
  const places = layers.map((_, i) => i).filter((i) => (stride < 5 ? i % stride === 0 : i === 0 || (i + 1) % stride === 0));
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

/** Return one box per group {name, style, isShown}; a long legend scrolls, above the chart. */
function legendOf(groups, redraw) {
  if (!groups || groups.length < 2) return undefined;
  const boxes = groups.map((group) => checkbox(group.name, group.isShown, (isShown) => {
    group.isShown = isShown;
    redraw();
  }, swatch(group.style)));
  return el("fieldset", { class: "legend", "aria-label": "Curves shown" }, ...boxes);
}

/** Return a text of an axis, broken into lines at spaces where it is longer than the axis. */
function broken(text, pixels) {
  const most = Math.max(10, Math.floor(pixels / 7.5)), lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length >= most) lines.push(word);
    else lines.push(`${lines.pop()} ${word}`.trim());
  }
  return lines.join("<br>");
}

const curveHeight = (width) => Math.max(260, Math.min(400, width * 0.62));

/** Return the size and legend of a saved picture: the legend lies beside the curves, and the picture is as high as it. */
function exportSize(n, base = EXPORT) {
  return { ...base, height: Math.max(base.height, 90 + 20 * n) };
}

/**
 * options: name, title, label; curves(): the curves that are shown; groups: the entries of the legend;
 * keys: [[column, key of a point]]; axes(): {xaxis, yaxis}; reference: a level with a dotted line; range: two levels
 * with a grey area between; also: values that the y-axis must include; controls: nodes; note(): a line below.
 */
function curveChart(host, options) {
  const figure = async (colours, isExport) => {
    const curves = await options.curves();
    if (isExport) shortenedAll(curves.map(({ name }) => name), 34).forEach((name, i) => { curves[i] = { ...curves[i], name }; });
    const data = [...curves.flatMap((curve) => bandTraces(curve, curve.colour)), ...curves.map(curveTrace)];
    const { xaxis, yaxis } = options.axes(), { reference, range } = options;
    yaxis.title = broken(yaxis.title, (isExport ? EXPORT.height : curveHeight(chart.plot.clientWidth)) - 90);
    yaxis.range = roomyRange(curves, yaxis.type === "log", options.also ?? []);
    const across = { xref: "paper", x0: 0, x1: 1 };
    const level = { type: "line", ...across, y0: reference, y1: reference, line: { color: colours.soft, dash: "dot", width: 1.5 } };
    const area = range && { type: "rect", ...across, y0: range[0], y1: range[1], line: { width: 0 }, fillcolor: translucent(colours.soft, 0.18), layer: "below" };
    const shapes = [...(range ? [area] : []), ...(isKnown(reference) ? [level] : [])];
    const n = curves.filter(({ isFaint }) => !isFaint).length;
    if (options.note) chart.sayNote(options.note());
    return {
      data, layout: { xaxis: axis(colours, xaxis), yaxis: axis(colours, yaxis), legend: { traceorder: "normal", font: { size: 11 } }, shapes, showlegend: isExport && n > 1 },
      size: exportSize(n),
    };
  };
  const table = async () => ({
    columns: ["curve", ...options.keys.map(([column]) => column)],
    rows: (await options.curves()).flatMap((curve) => curve.points.map((point) => [curve.name, ...options.keys.map(([, key]) => point[key] ?? null)])),
  });
  const chart = new Chart(host, {
    heading: options.heading, label: options.label, controls: options.controls, figure, table, name: () => options.name, title: options.title,
    legend: legendOf(options.groups, () => chart.draw()), height: curveHeight, isFirst: options.isFirst,
  });
  return chart;
}
