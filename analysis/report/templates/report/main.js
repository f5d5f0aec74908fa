// Start: text and controls first, then the drawing library, then each chart when it comes near the visible part.

function applyScheme() {
  const colours = screenColours();
  colours.series.forEach((colour, i) => document.documentElement.style.setProperty(`--series-${i}`, colour));
  document.getElementById("theme").textContent = scheme() === "dark" ? "Light" : "Dark";
}

async function redrawAll() {
  applyScheme();
  await Promise.all(charts.map((chart) => chart.draw()));
}

function watchScheme() {
  const button = document.getElementById("theme");
  button.hidden = false;
  button.setAttribute("aria-label", "Switch between light and dark");
  button.addEventListener("click", () => {
    document.documentElement.dataset.scheme = scheme() === "dark" ? "light" : "dark";
    redrawAll();
  });
  darkPreferred.addEventListener("change", redrawAll);
}

function watchWidth() {
  let width = innerWidth, timer;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's bars come and go
    width = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(redrawAll, 120);
  });
}

/** Load the drawing library from a URL, which lets the browser compile it in the background. */
async function loadLibrary() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser cannot unpack the data; any of 2023 or later can");
  const url = URL.createObjectURL(new Blob([await inflated("plotly")], { type: "text/javascript" }));
  await new Promise((loaded, failed) => document.head.append(el("script", { src: url, load: loaded, error: failed })));
  URL.revokeObjectURL(url);
}

async function start() {
  content = JSON.parse(await inflatedText("content"));
  collectNetworks();
  startState();
  applyScheme();
  watchScheme();
  await library;
  await leadCharts();
  const builders = { loss: trainingCharts, probes: () => probeChart(), differences: differenceChart, "rdm-a": startExplorer, "gradients-boundary": gradientCharts };
  for (const [name, build] of Object.entries(builders)) if (chartHost(name)) build();
  content.charts.forEach((each) => layerChart(each));
  document.querySelectorAll("figure.printed").forEach(printedFigure);
  watchWidth();
  watchPrinting();
  await charts[0].wake();
  window.repsimReady = true;
  drawTheRest();
}

const pause = () => new Promise((done) => (window.requestIdleCallback ?? setTimeout)(done));

/** Draw the charts below one by one while nothing else is to be done, so that the page can be printed as a whole. */
async function drawTheRest() {
  for (const chart of charts) {
    await pause();
    await chart.wake();
  }
  window.repsimDrawn = true;
}

/** Print every chart, light and as wide as the paper, and what is folded in. The browser waits for no promise here. */
function watchPrinting() {
  const folded = () => [...document.querySelectorAll("details.print")];
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = folded().filter(({ open }) => !open);
    opened.forEach((details) => { details.open = true; });
    charts.forEach((chart) => chart.toPaper());
  });
  addEventListener("afterprint", () => {
    opened.forEach((details) => { details.open = false; });
    charts.forEach((chart) => chart.toScreen());
  });
}

function complain(error) {
  const box = document.getElementById("trouble");
  box.textContent = `The charts could not be drawn: ${error.message ?? "the library failed"}.`;
  box.hidden = false;
}

const library = loadLibrary(); // while the rest of the page is being read
library.catch(() => {}); // `start` reports the error
document.addEventListener("DOMContentLoaded", () => start().catch(complain));
