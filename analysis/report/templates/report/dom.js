// Elements, controls and colours. Names of runs, layers and stimuli only ever become text nodes.

const THEMES = {
  light: {
    paper: "#ffffff", ink: "#1d2433", soft: "#5b6475", grid: "#e2e5ea", missing: "#c9cdd4", mark: "#e0007a",
    series: ["#0173b2", "#c15a00", "#02805d", "#b0489c", "#8a6d00", "#3b3fb6", "#a3322d", "#5b6475", "#14818c", "#6b7d00"],
  },
  dark: {
    paper: "#15181e", ink: "#e7eaf0", soft: "#a9b2c2", grid: "#333a46", missing: "#4a515e", mark: "#ff6ab8",
    series: ["#5ab4f0", "#f5a04c", "#3fd0a0", "#e59ad6", "#e0c64a", "#9da3ff", "#f28b84", "#b4bcc9", "#5fd0da", "#c0d25a"],
  },
};
const GLYPHS = { circle: "\u25cf", square: "\u25a0", diamond: "\u25c6", "triangle-up": "\u25b2", "triangle-down": "\u25bc", cross: "\u271a", x: "\u2716", star: "\u2605" };
const SYMBOLS = Object.keys(GLYPHS);
const darkPreferred = matchMedia("(prefers-color-scheme: dark)");

const cycled = (list, index) => list[index % list.length];
const scheme = () => document.documentElement.dataset.scheme ?? (darkPreferred.matches ? "dark" : "light");
const screenColours = () => THEMES[scheme()];

function translucent(hex, alpha) {
  const parts = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  return `rgba(${parts.join(",")},${alpha})`;
}

/** Return a name as plotly shows it literally; it reads some tags and entities in texts. */
const verbatim = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A labelled select; `update(names, chosen)` sets what can be chosen, by position. */
function select(label, names, onchange) {
  const box = el("select", { change: () => onchange(Number(box.value)) });
  const update = (texts, chosen) => {
    box.replaceChildren(...texts.map((text, i) => el("option", { value: i, selected: i === chosen }, text)));
    box.value = chosen;
  };
  update(names, 0);
  return { node: el("label", {}, label, box), update };
}

/** A labelled slider over positions, each with a text; `update(texts, chosen)` sets them. */
function slider(label, onchange) {
  let texts = [];
  const output = el("output");
  const input = el("input", { type: "range", min: 0, step: 1, input: () => {
    show();
    onchange(Number(input.value));
  } });
  const show = () => {
    output.textContent = texts[input.value] ?? "";
    input.setAttribute("aria-valuetext", output.textContent);
  };
  const update = (all, chosen) => {
    texts = all;
    input.max = all.length - 1;
    input.value = chosen;
    node.hidden = all.length < 2;
    show();
  };
  const node = el("label", {}, label, input, output);
  return { node, update };
}

function checkbox(text, checked, onchange, ...before) {
  const box = el("input", { type: "checkbox", change: () => onchange(box.checked) });
  box.checked = checked;
  return el("label", {}, box, ...before, text);
}

let nChoices = 0;

/** A row of radio buttons that look like tabs; nothing if there is only one. */
function choice(label, names, chosen, onchange) {
  const group = `choice-${nChoices++}`;
  const boxes = names.map((name, i) => {
    const input = el("input", { type: "radio", name: group, checked: i === chosen, change: () => onchange(i) });
    return el("label", {}, input, el("span", {}, name));
  });
  return el("fieldset", { class: "choice", hidden: names.length < 2 }, el("legend", {}, label), ...boxes);
}

/** Return a piece of the line and the marker of a style. */
function swatch({ colour, dash, symbol }) {
  return el("span", { class: "swatch", style: `color:${colour}`, "data-dash": dash, "aria-hidden": "true" }, GLYPHS[symbol] ?? GLYPHS.circle);
}

/** Return the picture of a stimulus, or nothing if there are none. */
function thumbnail(stimulus) {
  const sprite = content.stimuli.sprite;
  if (!sprite) return el("span");
  const { source, width, height, columns } = sprite;
  const zoom = 56 / Math.max(width, height);
  const [w, h] = [width * zoom, height * zoom];
  const node = el("span", { class: "thumb", role: "img", "aria-label": `picture of ${content.stimuli.ids[stimulus]}` });
  node.style.cssText = `width:${w}px;height:${h}px;background-size:${w * columns}px auto`;
  node.style.backgroundImage = `url("${source}")`;
  node.style.backgroundPosition = `-${(stimulus % columns) * w}px -${Math.floor(stimulus / columns) * h}px`;
  return node;
}

const stimulusText = (stimulus) => `${content.stimuli.ids[stimulus]}, class ${className(stimulus)}`;
