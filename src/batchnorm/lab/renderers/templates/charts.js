// How charts are drawn: in the colours of the page.
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
    rule: { color: ink },
  };
}

function embed(place, spec, renderer) {
  return window.vegaEmbed(place, spec, {
    mode: "vega-lite", renderer, actions: false, config: config(),
    tooltip: { theme: dark.matches ? "dark" : "light" },
  });
}
