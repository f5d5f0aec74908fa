// Methods: networks that differ in their seeds only. A method has one style; its networks are one line with a band.

const networks = [];

function collectNetworks() {
  content.views.forEach(({ network }, view) => {
    const known = networks.find(({ name }) => name === network);
    if (known) known.views.push(view);
    else networks.push({ name: network, views: [view] });
  });
}

const MOST_SHOWN = 12; // curves, before others are asked for
const isLast = (view) => networks.some(({ views }) => views.at(-1) === view);

const styleOf = (name) => content.styles[name] ?? { colour: "#3b78d8", dash: "solid", symbol: "circle" }; // of a table of the user

const QUANTILES = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086];

/** Return the 97.5 % quantile of Student's t; beyond 20 degrees of freedom by a series. */
const studentQuantile = (df) => QUANTILES[df - 1] ?? 1.96 + 2.372 / df + 2.82 / df ** 2;

/** Return the mean of some values with its 95 % interval, which needs three values. */
function intervalOf(values) {
  const n = values.length, mean = values.reduce((sum, each) => sum + each, 0) / n;
  if (n < 3) return { y: mean, low: null, high: null };
  const variance = values.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (n - 1);
  const half = studentQuantile(n - 1) * Math.sqrt(variance / n);
  return { y: mean, low: mean - half, high: mean + half };
}

/**
 * The curves of a table with one row per view and place; `ofRuns`, one row per run and place. `point` turns a row into {x, y, ...}; `band` returns the mean
 * and the band of the rows of one method at one place, by default the mean and its 95 % interval over networks.
 * With one network there is one curve per step; otherwise one per method, each network at the chosen step.
 */
class MethodCurves {
  constructor(rows, point, { band, ofRuns = false } = {}) {
    Object.assign(this, { point, band, ofRuns, redraw: () => {}, areSeedsShown: false, isOfOne: networks.length === 1 && !ofRuns });
    this.setRows(rows);
    const haveOneStep = networks.every(({ views }) => views.length === 1); // which need not be the same for all
    this.steps = ofRuns || haveOneStep ? [] : unique(this.views.flatMap((view) => content.views[view]?.step ?? [])).sort((a, b) => a - b);
    this.step = this.isOfOne ? 0 : this.stepTexts().length - 1;
    const names = unique(this.views.map((view) => this.groupOf(view)));
    this.groups = names.map((name, i) => ({ name, style: styleOf(name), isShown: i < MOST_SHOWN }));
  }

  setRows(rows) {
    this.byView = new Map();
    const places = new Map(this.ofRuns ? networks.map(({ name, views }) => [name, views.at(-1)]) : content.views.map(({ label }, i) => [label, i]));
    for (const row of rows) {
      const view = places.get(row.view) ?? String(row.view); // a table of the user may name others
      if (!this.byView.has(view)) this.byView.set(view, []);
      this.byView.get(view).push(row);
    }
    this.views = [...this.byView.keys()];
  }

  groupOf(view) {
    const known = content.views[view];
    return known ? (this.isOfOne ? known.label : known.method) : view;
  }

  /** The steps that can be chosen; the last choice is the last step of each network. */
  stepTexts() {
    if (this.isOfOne || this.steps.length < 2) return [""];
    return [...this.steps.map((step) => `step ${step}`), "last step of each"];
  }

  isAtStep(view) {
    if (this.isOfOne || this.steps.length < 2 || typeof view === "string") return true;
    return this.step < this.steps.length ? content.views[view].step === this.steps[this.step] : isLast(view);
  }

  members(group) {
    return this.views.filter((view) => this.groupOf(view) === group.name && this.isAtStep(view));
  }

  get hasSeeds() {
    return this.groups.some((group) => this.members(group).length > 2);
  }

  curves() {
    return this.groups.filter(({ isShown }) => isShown).flatMap((group) => {
      const nameOf = (view) => content.views[view]?.[this.ofRuns ? "network" : "label"] ?? view;
      const members = this.members(group).map((view) => ({ name: nameOf(view), rows: this.byView.get(view) }));
      const single = ({ name, rows }) => ({ name, ...group.style, points: rows.map(this.point) });
      if (members.length < 2) return members.map(single);
      const each = members.map((member) => ({ ...single(member), isFaint: members.length > 2 }));
      each.forEach((curve) => curve.points.forEach((point) => Object.assign(point, { low: null, high: null })));
      if (members.length === 2) return each;
      return [...(this.areSeedsShown ? each : []), this.mean(group, members)];
    });
  }

  mean(group, members) {
    const places = new Map();
    for (const row of members.flatMap(({ rows }) => rows)) {
      const { x } = this.point(row);
      places.set(x, [...(places.get(x) ?? []), row]);
    }
    const points = [...places.values()].map((rows) => {
      const points = rows.map(this.point);
      const known = points.map(({ y }) => y).filter(isKnown);
      const band = this.band?.(rows) ?? (known.length === members.length ? intervalOf(known) : { y: null, low: null, high: null });
      return { ...points[0], ...band };
    });
    return { name: `${group.name} (${members.length} networks)`, ...group.style, points };
  }

  /** The slider over steps and the box that shows seeds; each is hidden if there is nothing to choose. */
  controls(alsoRedraw = () => {}) {
    const changed = () => {
      this.redraw();
      alsoRedraw();
    };
    const step = slider("Step", (i) => {
      this.step = i;
      changed();
    });
    step.update(this.stepTexts(), this.step);
    const seeds = checkbox("Show each network", false, (isShown) => {
      this.areSeedsShown = isShown;
      changed();
    });
    seeds.hidden = !this.hasSeeds;
    return [step.node, seeds];
  }
}

/** Draw curves by method, with their controls and legend. Options may have getters. */
function methodChart(host, curves, options) {
  const more = { curves: () => curves.curves(), groups: curves.groups, controls: [...(options.controls ?? []), ...curves.controls()] };
  const chart = curveChart(host, Object.defineProperties(more, { ...Object.getOwnPropertyDescriptors(options), controls: { value: more.controls } }));
  curves.redraw = () => chart.draw();
  return chart;
}
