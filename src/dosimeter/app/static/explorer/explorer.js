// A run's images at any epsilon, as the classifier was shown them, and what it says of each.

import { decode, draw, FULL } from "../reader/images.js";
import { ask } from "./source.js";

const $ = (id) => document.getElementById(id);
const canvases = ["original", "adversarial", "difference"].map($);
const SLIDER = 1000; // its largest value; 0 is epsilon 0
const SETTLE_MS = 60; // a slider that moves asks no sooner

const state = { run: null, curve: 0, cases: [], place: null, epsilon: 0, storage: "float", times: "auto", grey: { ...FULL } };
const view = { zoom: 1, x: 0, y: 0 };
let images = {}; // the three that are shown, decoded
let shown = null; // what was asked and said of them, and their values once those were asked for
let asked = 0; // so that a late answer to an old question is dropped
let settling = null;
let pointed = null; // the canvas and place under a resting pointer, whose values are told again of every new image

// --- asking ----------------------------------------------------------------------------------------------------

async function attempt(work) {
  try {
    await work();
    $("trouble").hidden = true;
  } catch (error) {
    $("trouble").textContent = error.message;
    $("trouble").hidden = false;
  }
}

const curve = () => state.run.curves[state.curve];
const shownCase = () => state.cases.find((each) => each.place === state.place);
const severities = () => (curve().severities.length ? curve().severities : null); // of a physical change, mildest first
const doses = () => severities() ?? shownCase()?.epsilons ?? [0, ...curve().epsilons]; // an export has each image's own
const stepped = () => state.run.exported || severities() !== null; // whether only what was asked can be shown
const offered = () => state.run.storages.filter((each) => !state.run.exported || curve().storages.includes(each.name));
const TIMES = [1, 5, 20, 100];
// How often the difference is shown: as asked, or as often as fits between black and white.
const times = () => (state.times === "auto" ? Math.max(1, ...TIMES.filter((each) => !severities() && each * state.epsilon <= 0.5)) : state.times);
const question = () => ({ curve: state.curve, case: state.place, epsilon: state.epsilon, storage: state.storage });

// --- choosing --------------------------------------------------------------------------------------------------

const cohortName = (each) => `${each.cohort}, ${each.protocol} protocol${seeds(each) > 1 ? `, seed ${each.seed}` : ""}`;
const seeds = (each) => new Set(state.run.curves.filter((one) => one.cohort === each.cohort).map((one) => one.seed)).size;
const NAMES = { cohort: cohortName, model: (each) => each.model, attack: (each) => each.attack };

function offer() {
  const current = curve();
  let left = state.run.curves;
  for (const [id, name] of Object.entries(NAMES)) {
    const names = [...new Set(left.map(name))];
    $(id).replaceChildren(...names.map((each) => new Option(each, each, false, each === name(current))));
    left = left.filter((each) => name(each) === name(current));
  }
}

function choose(changed) {
  const wanted = Object.keys(NAMES).map((id) => [NAMES[id], $(id).value, id]);
  const upto = Object.keys(NAMES).indexOf(changed);
  const fits = (each, terms) => terms.every(([name, value]) => name(each) === value);
  const curves = state.run.curves;
  const found = curves.findIndex((each) => fits(each, wanted));
  return open(found >= 0 ? found : curves.findIndex((each) => fits(each, wanted.slice(0, upto + 1))));
}

async function open(place, { begin = false } = {}) {
  const before = state.run.curves[state.curve];
  state.curve = place;
  const same = before.cohort === curve().cohort && before.protocol === curve().protocol && before.seed === curve().seed;
  state.cases = await ask("cases", { curve: place });
  if (!same || !shownCase()) state.place = state.cases[0].place;
  if (begin) toFirstFlip();
  else if (severities() ? !doses().includes(state.epsilon) : before.severities.length) state.epsilon = shownCase().flip ?? doses()[0];
  if (!offered().some((each) => each.name === state.storage)) state.storage = offered()[0].name;
  offer();
  list();
  await look();
}

function list() {
  const order = [...state.cases];
  if ($("sort").value === "place") order.sort((a, b) => a.place - b.place);
  $("count").textContent = state.run.exported ? `${order.length} of ${curve().n} test images are in this export.` : "";
  $("cases").replaceChildren(...order.map((each) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.place = each.place;
    button.setAttribute("aria-current", each.place === state.place);
    const name = document.createElement("span");
    name.textContent = `image ${each.place + 1} `;
    const label = document.createElement("small");
    label.textContent = each.label === null ? "" : curve().classes[each.label];
    name.append(label);
    const flip = document.createElement("span");
    flip.textContent = each.right ? (each.flip === null ? "never" : String(Number(each.flip.toPrecision(3)))) : severities() ? "wrong unchanged" : "wrong at 0";
    button.append(name, flip);
    button.onclick = () => attempt(() => select(each.place));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

async function select(place) {
  state.place = place;
  list();
  $("cases").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  await look();
}

// --- epsilon ---------------------------------------------------------------------------------------------------

const range = () => {
  const grid = state.run.exported ? state.cases.flatMap((each) => each.epsilons).filter((each) => each > 0) : curve().epsilons;
  return [Math.log(Math.min(...grid) / 2), Math.log(Math.max(...grid))];
};

function toSlider(epsilon) {
  if (severities()) return (SLIDER * severities().indexOf(epsilon)) / Math.max(1, severities().length - 1);
  if (epsilon <= 0) return 0;
  const [low, high] = range();
  return Math.max(1, Math.round(1 + ((SLIDER - 1) * (Math.log(epsilon) - low)) / (high - low)));
}

function fromSlider(value) {
  if (stepped()) return nearest(value);
  if (value <= 0) return 0;
  const [low, high] = range();
  const free = Math.exp(low + ((value - 1) / (SLIDER - 1)) * (high - low));
  const near = curve().epsilons.find((each) => Math.abs(toSlider(each) - value) <= 3); // the grid attracts
  return near ?? Number(free.toPrecision(3));
}

// The dose that lies nearest to a place of the slider.
function nearest(value) {
  const away = (epsilon) => Math.abs(toSlider(epsilon) - value);
  return doses().reduce((best, each) => (away(each) < away(best) ? each : best));
}

function ticks() {
  const marks = doses().filter((each) => severities() || each > 0).map((epsilon) => mark(epsilon, ""));
  const flip = shownCase()?.flip ?? null;
  if (flip !== null) marks.push(mark(flip, "flip"));
  $("ticks").replaceChildren(...marks);
}

function mark(epsilon, name) {
  const tick = document.createElement("i");
  tick.className = name;
  tick.style.left = `${(100 * toSlider(epsilon)) / SLIDER}%`;
  return tick;
}

function setEpsilon(epsilon) {
  state.epsilon = epsilon;
  clearTimeout(settling);
  settling = setTimeout(() => attempt(look), SETTLE_MS);
  showEpsilon();
}

// A number of grey levels in words: small ones do not read as none.
const inLevels = (levels) => (levels > 0 && levels < 0.1 ? String(Number(levels.toPrecision(2))) : levels.toFixed(2));

// The dose that is shown, in words.
function at() {
  const number = Number(state.epsilon.toPrecision(3));
  return severities() ? `${number} ${curve().unit}` : `${number} (${inLevels(255 * state.epsilon)} of 255)`;
}

function showEpsilon() {
  $("epsilon").value = toSlider(state.epsilon);
  $("dose-name").textContent = severities() ? "Severity" : "Epsilon";
  $("epsilon-value").textContent = at();
}

function stepEpsilon(direction) {
  if (severities()) {
    const next = severities()[severities().indexOf(state.epsilon) + direction];
    if (next !== undefined) setEpsilon(next);
    return;
  }
  const beyond = doses().filter((each) => (direction > 0 ? each > state.epsilon : each < state.epsilon));
  if (beyond.length) setEpsilon(direction > 0 ? Math.min(...beyond) : Math.max(...beyond));
}

// --- looking ---------------------------------------------------------------------------------------------------

async function look() {
  const mine = ++asked;
  if (stepped() && !doses().includes(state.epsilon)) state.epsilon = nearest(toSlider(state.epsilon));
  showEpsilon();
  ticks();
  storages();
  const wanted = question();
  const names = canvases.map((canvas) => canvas.id);
  busy(true);
  try {
    const often = times();
    const asking = names.map((name) => ask(`image/${name}`, { ...wanted, times: often }).then(decode));
    const decoded = await Promise.all(asking);
    const said = await ask("answer", wanted);
    if (mine !== asked) return;
    show(wanted, names, decoded, said);
    $("often").textContent = state.times === "auto" ? `, ${often}` : "";
  } catch (error) {
    if (mine !== asked) return;
    blank();
    throw error;
  } finally {
    if (mine === asked) busy(false);
  }
}

// Of what cannot be shown nothing is left: an old image would stand beside the name of another.
function blank() {
  images = {};
  shown = null;
  for (const canvas of canvases) {
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    canvas.setAttribute("aria-label", "No image: see the message above");
  }
  $("answer").replaceChildren();
  $("facts").textContent = "";
  delete document.body.dataset.shown;
}

// The viewer says that it waits: an image at a dose that was not asked before takes a pass of the network.
function busy(waiting) {
  $("viewer").setAttribute("aria-busy", waiting);
}

function show(wanted, names, decoded, said) {
  images = Object.fromEntries(names.map((name, index) => [name, decoded[index]]));
  shown = { wanted, said, values: null };
  paint();
  tell(said);
  if (pointed) attempt(() => value(...pointed));
  const which = `image ${state.place + 1}, ${curve().classes[said.label]}`;
  const says = `${curve().model} ${said.refused ? "refuses to answer" : `says ${curve().classes[said.predicted]}`}`;
  $("original").setAttribute("aria-label", `Original ${which}`);
  $("adversarial").setAttribute("aria-label", `${curve().attack} of ${which} at ${severities() ? "severity" : "epsilon"} ${at()}: ${says}`);
  $("difference").setAttribute("aria-label", `Difference of the two, ${times()} times`);
  document.body.dataset.shown = JSON.stringify(wanted); // what stands on the page, for whoever waits for it
}

function paint() {
  for (const canvas of canvases) {
    if (images[canvas.id]) draw(canvas, images[canvas.id], canvas.id === "difference" ? FULL : state.grey);
  }
}

function tell(said) {
  const classes = curve().classes;
  const rows = said.probabilities.flatMap((share, index) => {
    const name = document.createElement("span");
    name.textContent = classes[index];
    name.className = index === said.label ? "true" : "";
    const bar = document.createElement("div");
    bar.className = "bar";
    const fill = document.createElement("b");
    fill.style.width = `${100 * share}%`;
    bar.append(fill);
    const number = document.createElement("span");
    number.className = "share";
    number.textContent = `${(100 * share).toFixed(1)} %`;
    return [name, bar, number];
  });
  const verdict = document.createElement("span");
  const right = said.predicted === said.label;
  const outcome = said.refused ? `refuses to answer, would have said ${classes[said.predicted]}` : `says ${classes[said.predicted]}: ${right ? "right" : "wrong"}`;
  verdict.className = `said ${said.refused ? "refused" : right ? "right" : "wrong"}`;
  verdict.textContent = `${curve().model} ${outcome}, the image is ${classes[said.label]}`;
  $("answer").replaceChildren(verdict, ...rows);
  const moved = `Largest change of a pixel ${inLevels(255 * said.linf)} grey levels of 255, root mean square ${inLevels(255 * said.rms)}.`;
  const finer = said.finer ? " The image is finer than 8 bits: the screen shows it rounded, the classifier was asked about it as it is." : "";
  $("facts").textContent = moved + finer;
  $("adversarial-caption").textContent = `${curve().attack}, ${state.storage === "float" ? "not stored" : `stored as ${state.storage}`}`;
}

// The buttons stay as long as they are the same: one that is replaced while it is pressed is never clicked.
function storages() {
  const buttons = $("storages").children;
  const names = offered().map((each) => each.name);
  if (names.join() !== [...buttons].map((each) => each.textContent).join()) {
    $("storages").replaceChildren(...offered().map(storageButton));
  }
  for (const button of buttons) button.setAttribute("aria-pressed", button.textContent === state.storage);
}

function storageButton({ name, note }) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = name;
  button.title = note;
  button.onclick = () => { state.storage = name; attempt(look); };
  return button;
}

// --- grey window, zoom -----------------------------------------------------------------------------------------

function place() {
  view.zoom = Math.min(32, Math.max(1, view.zoom));
  const box = canvases[0].parentElement.clientWidth;
  const least = box - box * view.zoom;
  view.x = Math.min(0, Math.max(least, view.x));
  view.y = Math.min(0, Math.max(least, view.y));
  for (const canvas of canvases) canvas.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
}

function zoomAt(x, y, factor) {
  const before = view.zoom;
  view.zoom = Math.min(32, Math.max(1, before * factor));
  view.x = x - ((x - view.x) * view.zoom) / before;
  view.y = y - ((y - view.y) * view.zoom) / before;
  place();
}

function reset() {
  state.grey = { ...FULL };
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  place();
  paint();
  told();
}

function told(text = "") {
  const { centre, width } = state.grey;
  const window = centre === FULL.centre && width === FULL.width ? "" : `Window: centre ${centre.toFixed(2)}, width ${width.toFixed(2)}. `;
  $("pixel").textContent = window + (text || "Drag to change the grey window; Ctrl and drag to move, wheel or two fingers to zoom.");
}

const fingers = new Map();

function follow(canvas) {
  const pane = canvas.parentElement;
  const at = (event) => ({ x: event.clientX - pane.getBoundingClientRect().left, y: event.clientY - pane.getBoundingClientRect().top });
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, at(event));
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const from = fingers.get(event.pointerId);
    const to = at(event);
    pointed = [canvas, to];
    if (!from) return value(...pointed);
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, to);
    if (other) {
      zoomAt((to.x + other.x) / 2, (to.y + other.y) / 2, Math.hypot(to.x - other.x, to.y - other.y) / Math.max(1, Math.hypot(from.x - other.x, from.y - other.y)));
    } else if (event.ctrlKey || event.buttons === 4) {
      view.x += to.x - from.x;
      view.y += to.y - from.y;
      place();
    } else if (canvas.id !== "difference") {
      const { grey } = state;
      grey.width = Math.min(2, Math.max(0.02, grey.width + (to.x - from.x) / 300));
      grey.centre = Math.min(1, Math.max(0, grey.centre + (to.y - from.y) / 300));
      paint();
      told();
    }
    return undefined;
  });
  const leave = (event) => fingers.delete(event.pointerId);
  canvas.addEventListener("pointerup", leave);
  canvas.addEventListener("pointercancel", leave);
  canvas.addEventListener("pointerleave", () => { pointed = null; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = at(event);
    zoomAt(x, y, Math.exp(-event.deltaY / 300));
  }, { passive: false });
}

// Tell the grey levels under the pointer, before and after, in the steps of the files; in 8 bits where no more is known.
async function value(canvas, { x, y }) {
  if (!shown) return;
  const mine = shown;
  const { width, height } = images.original;
  const scale = (canvas.parentElement.clientWidth * view.zoom) / Math.max(width, height);
  const [column, row] = [Math.floor((x - view.x) / scale), Math.floor((y - view.y) / scale)];
  if (column < 0 || row < 0 || column >= width || row >= height) return;
  const sides = ["original", "adversarial"];
  mine.values ??= Promise.all(sides.map((side) => ask(`values/${side}`, mine.wanted).catch(() => null)));
  const values = await mine.values;
  if (mine !== shown) return;
  const [before, now] = sides.map((side, index) => {
    const known = values[index];
    const planes = known ? samples(known, row * width + column, width * height) : screenLevels(images[side], column, row);
    const levels = known ? mine.said.levels[side] : 255;
    const words = planes.map((share) => Number((share * levels).toFixed(2)));
    return `${new Set(words).size > 1 ? words.join(" / ") : words[0]} of ${levels}`;
  });
  told(`Pixel ${column}, ${row}: ${before} before, ${now} now.`);
}

// A pixel of one plane or three of floats, as shares of white.
function samples(buffer, place, size) {
  const numbers = new DataView(buffer);
  const planes = buffer.byteLength / (4 * size);
  return Array.from({ length: planes }, (_, plane) => numbers.getFloat32(4 * (plane * size + place), true));
}

// A pixel of a shown image, red, green and blue, as shares of white.
function screenLevels(image, column, row) {
  const spare = new OffscreenCanvas(1, 1).getContext("2d");
  spare.drawImage(image, column, row, 1, 1, 0, 0, 1, 1);
  return [...spare.getImageData(0, 0, 1, 1).data].slice(0, 3).map((level) => level / 255);
}

// --- keys ------------------------------------------------------------------------------------------------------

function next(direction) {
  const order = [...$("cases").querySelectorAll("button")].map((each) => Number(each.dataset.place));
  const index = order.indexOf(state.place) + direction;
  if (order[index] !== undefined) attempt(() => select(order[index]));
}

const KEYS = {
  ArrowRight: () => stepEpsilon(1),
  ArrowLeft: () => stepEpsilon(-1),
  ArrowDown: () => next(1),
  ArrowUp: () => next(-1),
  f: () => { const flip = shownCase()?.flip ?? null; if (flip !== null) setEpsilon(flip); },
  s: () => {
    const names = offered().map((each) => each.name);
    state.storage = names[(names.indexOf(state.storage) + 1) % names.length];
    attempt(look);
  },
  d: () => {
    $("difference-figure").hidden = !$("difference-figure").hidden;
    $("panes").classList.toggle("two", $("difference-figure").hidden);
    place();
  },
  r: reset,
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.target.matches("select") || event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (!KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

// --- begin -----------------------------------------------------------------------------------------------------

for (const id of Object.keys(NAMES)) $(id).onchange = () => attempt(() => choose(id));
$("sort").onchange = list;
$("times").onchange = () => {
  state.times = $("times").value === "auto" ? "auto" : Number($("times").value);
  attempt(look);
};
$("epsilon").oninput = () => setEpsilon(fromSlider(Number($("epsilon").value)));
$("help-open").onclick = () => $("help").showModal();
addEventListener("resize", place);
canvases.forEach(follow);
attempt(async () => {
  state.run = await ask("run");
  $("phantom").hidden = !state.run.phantom;
  $("run-id").textContent = `Run ${state.run.run_id}.`;
  await open(first(), { begin: true });
});

// The curve that a run opens at: the sound preset's, whose loss does not vanish.
function first() {
  return Math.max(0, state.run.curves.findIndex((each) => each.attack.includes("sound")));
}

// The image that flips first, at its flip.
function toFirstFlip() {
  const flips = state.cases.filter((each) => each.flip !== null);
  if (!flips.length) return;
  const chosen = flips.reduce((least, each) => (each.flip < least.flip ? each : least));
  Object.assign(state, { place: chosen.place, epsilon: chosen.flip });
}
