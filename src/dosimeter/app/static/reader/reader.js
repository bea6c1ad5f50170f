// A reader's way through a study: join, look at the display, practise, answer, rest, be thanked.

import { decode, draw, fit, FULL, listen } from "./images.js";
import { drawPattern, ruler } from "./display.js";

const BLANK_MS = 250; // between two trials, so that one pair does not flicker into the next
const $ = (id) => document.getElementById(id);
const canvases = { left: $("left"), right: $("right") };
const buttons = { left: $("choose-left"), right: $("choose-right") };

let study = null;
let session = sessionStorage.getItem("sitting");
let trial = null; // what the server said is next
let shown = null; // its two images, once both are there
let shownAt = 0;
let pending = null; // an answer that is not known to be saved
let grey = { ...FULL };
let fetched = new Map(); // images by name, as promises

class Refused extends Error {
  constructor(status, said) {
    super(said.error || "the server refused. Reload the page.");
    Object.assign(this, { status, said });
  }
}

async function ask(path, body) {
  const headers = session ? { "X-Sitting": session } : {};
  const options = { headers, cache: "no-store" };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let reply;
  try {
    reply = await fetch(`/api/reader/${path}`, options);
  } catch {
    throw new Refused(0, { error: "The server cannot be reached. What you answered before is saved." });
  }
  if (path.startsWith("image/") && reply.ok) return reply.blob();
  const said = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Refused(reply.status, said);
  return said;
}

function show(name) {
  for (const main of document.querySelectorAll("main")) main.hidden = main.id !== name;
  scrollTo(0, 0);
}

// Do `work`; if that fails say why, and offer to do it again.
async function attempt(work) {
  $("trouble").hidden = true;
  try {
    await work();
  } catch (error) {
    if (error.status === 401) {
      enter();
      return;
    }
    $("trouble-text").textContent = error.message;
    $("trouble").hidden = false;
    $("trouble-retry").onclick = () => attempt(work);
  }
}

// --- joining ---------------------------------------------------------------------------------------------------

function enter() {
  session = null;
  sessionStorage.removeItem("sitting");
  if (!$("pseudonym").value) $("pseudonym").value = study.suggestion;
  askForName();
  show("join");
}

function askForName() {
  $("begun").hidden = true;
  $("join-form").hidden = false;
}

async function join(resume) {
  const pseudonym = $("pseudonym").value.trim();
  try {
    ({ session } = await ask("join", { pseudonym, resume }));
  } catch (error) {
    if (!error.said?.begun) throw error;
    $("begun-name").textContent = pseudonym;
    $("begun-counts").textContent = `${error.said.begun.n_answered} of ${error.said.begun.n_trials}`;
    $("begun").hidden = false;
    $("join-form").hidden = true;
    return;
  }
  sessionStorage.setItem("sitting", session);
  askForName();
  show("display");
}

async function noteDisplay(form) {
  await ask("display", {
    dark_seen: form.get("dark") === "yes",
    bright_seen: form.get("bright") === "yes",
    px_per_mm: pxPerMm(),
    distance_cm: Number($("distance").value),
    device_px_ratio: devicePixelRatio,
  });
  await advance();
}

// --- trials ----------------------------------------------------------------------------------------------------

async function advance() {
  await proceed(await ask("next"));
}

async function proceed(next) {
  const first = trial === null || trial.phase !== next.phase;
  trial = next;
  shown = null;
  if (next.phase === "done") {
    $("done-count").textContent = next.total;
    show("done");
  } else if (first && next.index === 0) {
    rest(
      next.phase === "practice" ? "Practice" : "Now the study",
      next.phase === "practice"
        ? `${next.total} trials with a rather strong change. You are told whether you were right.`
        : `${next.total} trials. From now on you are not told. In some of them both images are the same.`,
    );
  } else if (next.pause) {
    rest("A break", `${next.index} of ${next.total} are done and saved. Rest your eyes, and go on when you like.`);
  } else {
    await present();
  }
}

function rest(title, text) {
  $("ready-title").textContent = title;
  $("ready-text").textContent = text;
  image(trial.left).catch(() => {}); // fetched meanwhile; if that fails, `present` says so
  image(trial.right).catch(() => {});
  show("ready");
}

// Return an image by name, from the server only once.
function image(name) {
  if (!fetched.has(name)) {
    const arriving = ask(`image/${name}`).then(decode);
    arriving.catch(() => fetched.delete(name));
    fetched.set(name, arriving);
  }
  return fetched.get(name);
}

async function present() {
  const { left, right, ahead, phase, index, total } = trial;
  $("count").textContent = `${phase === "practice" ? "Practice" : "Trial"} ${index + 1} of ${total}`;
  $("progress").value = index / total;
  $("told").textContent = "";
  $("onward").hidden = true;
  $("pair").classList.add("blank");
  choosable(false);
  show("trial");
  const pair = await Promise.all([image(left), image(right), new Promise((done) => setTimeout(done, BLANK_MS))]);
  fetched = new Map([...fetched].filter(([name]) => [left, right, ...ahead].includes(name)));
  grey = { ...FULL };
  shown = { left: pair[0], right: pair[1] };
  redraw();
  $("pair").classList.remove("blank");
  requestAnimationFrame(() => requestAnimationFrame(() => {
    shownAt = performance.now();
    choosable(true);
    for (const name of ahead) image(name).catch(() => {}); // asked for again when its trial comes
  }));
}

function redraw() {
  if (shown === null) return;
  const pair = $("pair");
  const below = buttons.left.offsetHeight + 90;
  const room = {
    width: (pair.parentElement.clientWidth - 40) / 2,
    height: Math.max(150, innerHeight - pair.offsetTop - below),
  };
  fit(Object.values(canvases), shown.left, room);
  for (const side of ["left", "right"]) draw(canvases[side], shown[side], grey);
  $("reset").disabled = grey.centre === FULL.centre && grey.width === FULL.width;
}

function choosable(yes) {
  for (const button of Object.values(buttons)) button.disabled = !yes;
}

function choose(side) {
  if (shown === null || buttons.left.disabled) return;
  choosable(false);
  const free = study.window === "free";
  pending = {
    place: trial.place,
    chosen: side,
    response_s: (performance.now() - shownAt) / 1000,
    window_centre: free ? grey.centre : null,
    window_width: free ? grey.width : null,
  };
  attempt(send);
}

// Send the answer that waits, unless the server has one for that trial.
async function send() {
  const { chosen } = pending;
  let reply;
  try {
    reply = await ask("answer", pending);
  } catch (error) {
    const next = error.status === 409 ? await ask("next") : null;
    if (next === null || next.place === pending.place) throw error;
    pending = null;
    await proceed(next); // answered before, in another window say
    return;
  }
  pending = null;
  if (reply.correct === null) {
    await proceed(reply.state);
    return;
  }
  const other = { left: "right", right: "left" };
  const altered = reply.correct ? chosen : other[chosen];
  $("told").textContent = `${reply.correct ? "Right" : "Wrong"}: the ${altered} image was altered.`;
  $("onward").onclick = () => attempt(() => proceed(reply.state));
  $("onward").hidden = false;
  $("onward").focus();
}

function setWindow(dx, dy) {
  if (study.window !== "free" || shown === null) return;
  const limit = (value, low, high) => Math.min(high, Math.max(low, value));
  grey = { centre: limit(grey.centre + dy / 300, 0, 1), width: limit(grey.width + dx / 300, 0.02, 2) };
  redraw();
}

function resetWindow() {
  grey = { ...FULL };
  redraw();
}

// --- at the start ----------------------------------------------------------------------------------------------

drawPattern($("pattern"));
const pxPerMm = ruler($("ruler"), $("size"));
$("join-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => join(false));
});
$("begun-yes").addEventListener("click", () => attempt(() => join(true)));
$("begun-no").addEventListener("click", () => {
  askForName();
  $("pseudonym").select();
});
$("display-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  attempt(() => noteDisplay(form));
});
$("ready-go").addEventListener("click", () => attempt(present));
$("reset").addEventListener("click", resetWindow);
for (const side of ["left", "right"]) {
  buttons[side].addEventListener("click", () => choose(side));
  listen(canvases[side], { click: () => choose(side), drag: setWindow });
}
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || $("trial").hidden) return;
  if (event.key === "ArrowLeft") choose("left");
  else if (event.key === "ArrowRight") choose("right");
  else if (event.key === "r" && study.window === "free") resetWindow();
});
addEventListener("resize", redraw);

attempt(async () => {
  study = await ask("study");
  for (const [id, value] of [["n-practice", study.n_practice], ["n-trials", study.n_trials], ["minutes", study.minutes]]) {
    $(id).textContent = value;
  }
  for (const element of document.querySelectorAll(".phantom")) element.hidden = !study.phantom;
  $("reset").hidden = $("window-hint").hidden = study.window !== "free";
  $("pair").classList.toggle("free", study.window === "free");
  if (session === null) enter();
  else await advance();
});
