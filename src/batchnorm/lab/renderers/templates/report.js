// Draws every chart of the page, again when the light changes.
const specs = JSON.parse(document.getElementById("specs").textContent);

// Long names of layers leave two thirds of the width to the chart; what is cut off is their beginning.
function fitted(spec, width) {
  const letters = Math.min(40, Math.max(12, Math.round(width / 18)));
  return spec.params ? { ...spec, params: [{ name: "letters", value: letters }] } : spec;
}

function draw() {
  for (const [key, spec] of Object.entries(specs)) {
    const place = document.getElementById("chart-" + key);
    embed(place, fitted(spec, place.clientWidth), place.dataset.renderer);
  }
}

draw();
dark.addEventListener("change", draw);
