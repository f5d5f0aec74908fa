// A chart with controls, a line about the cell under the pointer, downloads, and its data as a table.

const CONFIG = { displayModeBar: false, responsive: false, typesetMath: false }; // dollars in names are dollars
const MOST_TABLE_ROWS = 400;
const EXPORT = { width: 840, height: 560, scale: 3 };
const FONT = "system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, sans-serif";
const PDF_FONT = "Helvetica, Arial, Liberation Sans, sans-serif"; // whose letters are as wide as those of a PDF
const charts = [];
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) charts.find(({ host }) => host === target).wake();
}, { rootMargin: "250px" });

function axis(colours, more = {}) {
  const { title, ...rest } = more;
  return {
    color: colours.ink, gridcolor: colours.grid, linecolor: colours.soft, zeroline: false, automargin: true,
    title: { text: title ?? "", standoff: 8 }, ...rest,
  };
}

function layout(colours, more) {
  return {
    paper_bgcolor: colours.paper, plot_bgcolor: colours.paper, showlegend: false, hovermode: "closest",
    font: { color: colours.ink, size: 13, family: FONT },
    margin: { l: 50, r: 16, t: 12, b: 44 }, dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
    hoverlabel: { bgcolor: colours.paper, bordercolor: colours.soft, font: { color: colours.ink }, namelength: -1 }, ...more,
  };
}

/**
 * spec: name() and title() of the content; label for screen readers; controls: nodes; figure(colours, isExport) ->
 * {data, layout, size of a saved picture}; table() -> {columns, rows}; height(width); optional: short() -> a shorter table
 * to read, isSquare: whether empty space below is cut off, hover(point), click(point), keys(event) -> whether something
 * moved, hint: what can be pointed at, shapes(colours).
 */
class Chart {
  constructor(host, spec) {
    Object.assign(this, { host, spec, turn: 0, isAwake: false });
    const focusable = spec.keys !== undefined;
    this.heading = el("h3", { hidden: spec.heading === undefined }, spec.heading ?? "");
    this.plot = el("div", { class: "plot", role: focusable ? "application" : "img", "aria-label": spec.label, tabindex: focusable ? 0 : undefined });
    this.plot.style.minHeight = `${spec.height(host.clientWidth)}px`;
    this.readout = el("div", { class: "readout", "aria-live": "polite", hidden: !focusable }, el("p", { class: "value" }, spec.hint ?? ""));
    this.note = el("p", { class: "note", hidden: true });
    const named = spec.named ?? spec.label;
    const images = Object.fromEntries(["PNG", "SVG", "PDF"].map((kind) => [kind, () => this.saveImage(kind)]));
    const buttons = saveButtons(named, { ...images, CSV: async () => saveCsv(this.spec.name(), await this.spec.table()) });
    host.append(this.heading, el("div", { class: "controls" }, ...(spec.controls ?? [])), ...(spec.legend ? [spec.legend] : []),
      this.plot, this.readout, this.note, buttons, this.tableView());
    if (focusable) this.plot.addEventListener("keydown", (event) => this.pressed(event));
    charts.push(this);
    seen.observe(host);
  }

  wake() {
    if (this.isAwake) return this.drawing;
    this.isAwake = true;
    seen.unobserve(this.host);
    return this.draw();
  }

  /** Draw again, unless the chart has never been near the visible part of the page. */
  draw() {
    if (this.isAwake) this.drawing = this.drawNow();
    return this.drawing;
  }

  async drawNow() {
    const turn = ++this.turn;
    const colours = screenColours();
    const figure = await this.spec.figure(colours, false);
    if (turn !== this.turn) return; // a later choice overtook this one
    const width = this.plot.clientWidth;
    if (this.drawnWidth !== undefined && this.drawnWidth !== width) this.clear();
    this.drawnWidth = width;
    const size = { width, height: this.fitted?.width === width ? this.fitted.height : this.spec.height(width) };
    this.light = colours === THEMES.light ? null : await this.spec.figure(THEMES.light, false); // for paper
    await Plotly.react(this.plot, figure.data, { ...layout(colours, figure.layout), ...size }, CONFIG);
    if (this.spec.isSquare) await this.cutEmpty(size.height);
    this.plot.style.minHeight = "";
    if (this.spec.heading !== undefined) this.heading.textContent = this.spec.title();
    this.listen();
    this.refreshTable();
    this.host.dataset.drawn = this.spec.name();
  }

  /** Remove the drawing: the library would leave the marks of a colour bar that lies elsewhere in another width. */
  clear() {
    Plotly.purge(this.plot);
    this.isListening = false;
  }

  /** Make the plot as high as its square axes and their labels need. */
  async cutEmpty(height) {
    const { _size: place, yaxis } = this.plot._fullLayout;
    const empty = Math.floor(place.h - (yaxis.domain[1] - yaxis.domain[0]) * place.h);
    if (empty <= 8) return;
    this.fitted = { width: this.plot.clientWidth, height: height - empty };
    await Plotly.relayout(this.plot, { height: height - empty });
  }

  /** Draw in the light scheme and let the drawing shrink with the paper, all at once. */
  toPaper() {
    const { _fullLayout: whole } = this.plot;
    if (!whole) return;
    const { width, height } = whole;
    if (this.light) Plotly.react(this.plot, this.light.data, { ...layout(THEMES.light, this.light.layout), width, height }, CONFIG);
    this.plot.querySelectorAll(".svg-container").forEach((box) => box.style.setProperty("aspect-ratio", `${width} / ${height}`));
    this.plot.querySelectorAll(".main-svg").forEach((svg) => svg.setAttribute("viewBox", `0 0 ${width} ${height}`));
    this.plot.classList.add("on-paper");
  }

  toScreen() {
    this.plot.classList.remove("on-paper");
    this.plot.querySelectorAll(".main-svg").forEach((svg) => svg.removeAttribute("viewBox"));
    if (this.light) this.draw();
  }

  listen() {
    if (this.isListening) return;
    this.isListening = true;
    const { hover, click } = this.spec;
    if (hover) this.plot.on("plotly_hover", ({ points }) => hover(points[0]));
    if (click) this.plot.on("plotly_click", ({ points }) => click(points[0]));
  }

  pressed(event) {
    if (!this.isAwake || !this.spec.keys(event)) return;
    event.preventDefault();
    this.remark();
  }

  /** Draw only the marks over the plot again. */
  remark() {
    if (this.spec.shapes && this.plot.data) Plotly.relayout(this.plot, { shapes: this.spec.shapes(screenColours()) });
  }

  say(...nodes) {
    this.isSaid = true;
    this.readout.replaceChildren(...nodes);
  }

  sayNote(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  /** Return a picture of the current chart in the light scheme, with its title, and its size. */
  async image(format, family = FONT) {
    const figure = await this.spec.figure(THEMES.light, true);
    const size = figure.size ?? this.spec.exported ?? EXPORT;
    const title = { text: verbatim(this.spec.title()), font: { size: 14 }, x: 0.02, xanchor: "left" };
    const more = { ...figure.layout, title, margin: { l: 60, r: 20, t: 48, b: Math.max(50, figure.layout.margin?.b ?? 0) } };
    const whole = layout(THEMES.light, more);
    whole.font = { ...whole.font, family };
    return { size, url: await Plotly.toImage({ data: figure.data, layout: whole, config: CONFIG }, { format, ...size }) };
  }

  async saveImage(kind) {
    const name = fileName(this.spec.name(), kind.toLowerCase());
    if (kind === "PDF") {
      const { size, url } = await this.image("svg", PDF_FONT);
      return save(name, "application/pdf", await vectorPdf(new TextDecoder().decode(bytesOfUrl(url)), size));
    }
    const { url } = await this.image(kind.toLowerCase());
    return save(name, kind === "SVG" ? "image/svg+xml" : "image/png", bytesOfUrl(url));
  }

  tableView() {
    this.table = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table: ${this.spec.label}` });
    this.details = el("details", { toggle: () => this.refreshTable() }, el("summary", {}, "As a table"), this.table);
    return this.details;
  }

  async refreshTable() {
    if (!this.details.open) return;
    const { columns, rows } = await (this.spec.short ?? this.spec.table)();
    const cells = (tag, row) => el("tr", {}, ...row.map((value) => el(tag, {}, shownValue(value))));
    const rest = rows.length - MOST_TABLE_ROWS;
    this.table.replaceChildren(
      el("table", {}, el("thead", {}, cells("th", columns)), el("tbody", {}, ...rows.slice(0, MOST_TABLE_ROWS).map((row) => cells("td", row)))),
      ...(rest > 0 ? [el("p", {}, `${rest} more rows are in the CSV.`)] : []),
    );
  }
}

function shownValue(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "\u2013";
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}

const chartHost = (name) => document.querySelector(`[data-chart="${name}"]`);
