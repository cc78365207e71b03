// One page at a time, by the address's hash; its charts are drawn when it opens.
const specs = JSON.parse(document.getElementById("specs").textContent);
const pages = [...document.querySelectorAll(".page")];
const links = [...document.querySelectorAll("nav a")];
const title = document.title;
const form = document.querySelector(".filters");
const claims = [...document.querySelectorAll("#overview [data-verdict]")];
const HEIGHT = 240;
let drawn = new Map(); // figure -> views of its panels
let drawing = Promise.resolve();

function current() {
  return document.querySelector(".page.current");
}

function route() {
  const [key, state] = location.hash.slice(1).split("?");
  const place = document.getElementById(key);
  const page = place ? place.closest(".page") ?? current() : pages[0];
  return { place, page, state: new URLSearchParams(state) };
}

function open(moved) {
  const { place, page, state } = route();
  for (const other of pages) other.classList.toggle("current", other === page);
  for (const link of links) {
    if (link.hash === "#" + page.id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = page.querySelector("h2");
  document.title = page === pages[0] ? title : heading.textContent.trim() + " · " + title;
  if (page === pages[0]) restore(state);
  if (moved) {
    const inside = place && place !== page;
    (inside ? place : heading).focus({ preventScroll: true });
    if (inside) place.scrollIntoView();
    else window.scrollTo(0, 0);
  }
  window.dispatchEvent(new Event("resize")); // charts fit again if the window changed meanwhile
  draw(page);
}

// Charts one after another, so that the page answers meanwhile.
function draw(page) {
  for (const figure of page.querySelectorAll("figure[data-chart]")) {
    if (drawn.has(figure)) continue;
    drawn.set(figure, []);
    drawing = drawing.then(() => drawFigure(figure, drawn)).catch(console.error);
  }
}

async function drawFigure(figure, into) {
  const { specs: shared, panels } = specs[figure.dataset.chart];
  const places = figure.querySelectorAll(".chart");
  const views = into.get(figure);
  for (const [i, panel] of panels.entries()) {
    if (!figure.checkVisibility()) { // has no width: later, when its page is opened again
      into.delete(figure);
      return;
    }
    const spec = {
      ...shared[panel.spec], data: { values: panel.rows }, width: "container", height: HEIGHT,
    };
    views.push((await embed(places[i], spec, "svg")).view);
  }
  isolate(figure);
}

function isolate(figure) {
  const pressed = figure.querySelector("[aria-pressed=true]");
  for (const view of drawn.get(figure) ?? [])
    if (view.getState().signals.only !== undefined)
      view.signal("only", pressed?.dataset.series ?? "").runAsync();
}

for (const button of document.querySelectorAll(".legend button"))
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") === "true";
    for (const other of button.closest(".legend").querySelectorAll("button"))
      other.setAttribute("aria-pressed", other === button && !on);
    isolate(button.closest("figure"));
  });

// Filters: what is chosen stands in the address, so that a view can be sent to someone.
function chosen() {
  const data = new FormData(form);
  return {
    verdicts: data.getAll("verdict"), experiment: data.get("experiment"),
    text: data.get("text").trim(),
  };
}

function filter() {
  const { verdicts, experiment, text } = chosen();
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const claim of claims) {
    const section = claim.closest("[data-experiment]");
    const said = (section.dataset.words + " " + claim.textContent).toLowerCase();
    claim.hidden = !(
      (!verdicts.length || verdicts.includes(claim.dataset.verdict))
      && (!experiment || experiment === section.dataset.experiment)
      && words.every((word) => said.includes(word))
    );
    count += !claim.hidden;
  }
  for (const section of document.querySelectorAll("#overview [data-experiment]"))
    section.hidden = !section.querySelector("[data-verdict]:not([hidden])");
  form.querySelector("output").textContent = `${count} of ${claims.length} claims`;
}

function remember() {
  const { verdicts, experiment, text } = chosen();
  const state = new URLSearchParams();
  if (verdicts.length) state.set("verdict", verdicts.join(" "));
  if (experiment) state.set("experiment", experiment);
  if (text) state.set("text", text);
  history.replaceState(null, "", "#overview" + (state.size ? "?" + state : ""));
}

function restore(state) {
  const verdicts = (state.get("verdict") ?? "").split(" ");
  for (const box of form.querySelectorAll("[name=verdict]"))
    box.checked = verdicts.includes(box.value);
  form.elements.experiment.value = state.get("experiment") ?? "";
  form.elements.text.value = state.get("text") ?? "";
  filter();
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address stays that of the page
  current().querySelector("h2").focus();
});
form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", () => { filter(); remember(); });
form.addEventListener("reset", () => setTimeout(() => { filter(); remember(); }));
window.addEventListener("hashchange", () => open(true));
dark.addEventListener("change", () => { drawn = new Map(); draw(route().page); });
open(location.hash.length > 1);
