// Start: text and controls first, then the library that draws, then each chart when it is near.

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

function runLibrary(code) {
  const script = document.createElement("script");
  script.textContent = code;
  document.head.append(script);
}

async function start() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser cannot unpack the data; any of 2023 or later can");
  const library = inflatedText("plotly");
  content = JSON.parse(await inflatedText("content"));
  applyScheme();
  watchScheme();
    runLibrary(await library);
  const builders = { loss: trainingCharts, probes: probeChart, differences: differenceChart, "rdm-a": startExplorer, structure: structureChart, "gradients-boundary": gradientCharts };
  for (const [name, build] of Object.entries(builders)) if (chartHost(name)) build();
  document.querySelectorAll("figure.printed").forEach(printedFigure);
  watchWidth();
  await charts[0].wake();
  window.repsimReady = true;
}

start().catch((error) => {
  const box = document.getElementById("trouble");
  box.textContent = `The charts could not be drawn: ${error.message}.`;
  box.hidden = false;
  throw error;
});
