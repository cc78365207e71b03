// Draws every chart in the colours of the page, again when the light changes.
const specs = JSON.parse(document.getElementById("specs").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function config() {
  const [ink, soft, grid] = dark.matches
    ? ["#e6e9ed", "#a3acb8", "#30363f"]
    : ["#1b1f24", "#57606a", "#e6e9ec"];
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    aria: false, // the chart's container is one image with a text alternative
    view: { stroke: null },
    axis: {
      labelColor: soft, titleColor: ink, gridColor: grid, domainColor: soft, tickColor: soft,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
    },
    legend: {
      labelColor: ink, titleColor: ink, titleFontWeight: "normal",
      labelFontSize: 12, symbolStrokeWidth: 2.5, symbolSize: 250,
    },
    text: { color: soft },
  };
}

// Long names of layers leave two thirds of the width to the chart; what is cut off is their beginning.
function fitted(spec, width) {
  const letters = Math.min(40, Math.max(12, Math.round(width / 18)));
  return spec.params ? { ...spec, params: [{ name: "letters", value: letters }] } : spec;
}

function draw() {
  for (const [key, spec] of Object.entries(specs)) {
    const place = document.getElementById("chart-" + key);
    window.vegaEmbed(place, fitted(spec, place.clientWidth), {
      mode: "vega-lite", renderer: place.dataset.renderer, actions: false, config: config(),
      tooltip: { theme: dark.matches ? "dark" : "light" },
    });
  }
}

draw();
dark.addEventListener("change", draw);
