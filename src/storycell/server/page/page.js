// The page: a text, what may follow it, and what the model does inside while it reads it.
//
// One text area holds everything that was typed and written. `story` knows the surprise of each character, and how the last
// passage was written (where it began, with which seed), so that it can be written again with a unit held.

import { Gone, NeedsKey, Refused, call, isThere, keepKey, parts } from "./server.js";
import { draw } from "./shades.js";

const PASSAGE = 600; // characters that one press of Write asks for
const PER_SECOND = 70; // characters shown in a second; the model is far faster than a reader
const LIKELIEST = 12;
const POLL_MS = 2000;
const TRACE_MS = 800; // between two looks inside while the story comes
const GATES = ["i", "f", "o", "r", "z"];
const MEANINGS = {
  i: "Input gate: how much of the new the cell takes in.",
  f: "Forget gate: 1 keeps what the cell held, 0 erases it.",
  g: "Candidate: what could be written into the cell.",
  o: "Output gate: how much of the cell the rest of the network sees.",
  c: "Cell state: what the unit remembers.",
  h: "Hidden state: what the unit shows to the layer above and to the next step.",
  r: "Reset gate: how much of the past the candidate sees.",
  z: "Update gate: 1 keeps the old state.",
  n: "Candidate: what the state could become.",
};
const ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"];

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const story = { nats: [], values: [], passage: null, original: null };
let model = null;
let writing = null; // the AbortController of the passage that is being written
let looking = null; // that of the question what may follow
let lookTimer = 0;
let tracedAt = 0;
let unitChosen = false;

const characters = () => Array.from($("text").value);
const chosenColour = () => document.querySelector("input[name=colour]:checked").value;
const temperature = () => Number($("temperature").value);
const say = (message) => { $("said").textContent = message; };

// ---- drawing

function shadeKind() {
  const chosen = chosenColour();
  if (chosen !== "value") return chosen;
  return GATES.includes($("value").value) ? "gate" : "signed";
}

function redraw(fresh = 0) {
  const text = characters();
  const values = chosenColour() === "surprise" ? story.nats : story.values;
  draw(text, values, shadeKind(), fresh);
  sessionStorage.setItem("storycell-text", $("text").value);
  const idle = writing === null;
  $("write").textContent = idle ? "Write" : "Stop";
  $("write").setAttribute("aria-pressed", String(!idle));
  $("one").disabled = !idle;
  $("back").disabled = !idle || text.length === 0;
  underCaret();
}

function underCaret() {
  const at = Array.from($("text").value.slice(0, $("text").selectionStart)).length - 1;
  const character = characters()[at];
  const nats = story.nats[at];
  const value = story.values[at];
  if (character === undefined) { $("under").textContent = ""; return; }
  const parts = [`“${named(character)}”`];
  if (nats !== undefined) parts.push(`probability ${percent(Math.exp(-nats))}`, `surprise ${nats.toFixed(2)} nats`);
  if (chosenColour() === "value" && value !== undefined) parts.push(`${$("value").value} of unit ${$("unit").value}: ${value.toFixed(2)}`);
  $("under").textContent = parts.join(" · ");
}

function named(character) {
  return { " ": "space", "\n": "new line", "\t": "tab" }[character] ?? character;
}

function percent(probability) {
  if (probability >= 0.995) return probability > 0.99999 ? "100 %" : ">99 %";
  return probability < 0.005 ? "<1 %" : `${Math.round(probability * 100)} %`;
}

function showChips(likely) {
  $("chips").replaceChildren(...likely.map(({ text, probability }) => {
    const chip = document.createElement("button");
    const shown = document.createElement("b");
    const share = document.createElement("small");
    shown.textContent = text === null ? "the end" : { " ": "␣", "\n": "↵" }[text] ?? text;
    share.textContent = percent(probability);
    chip.type = "button";
    chip.disabled = text === null;
    chip.style.setProperty("--share", probability.toFixed(3));
    chip.setAttribute("aria-label", `${text === null ? "end of the story" : named(text)}, ${percent(probability)}`);
    chip.append(shown, share);
    chip.addEventListener("click", () => choose(text, probability));
    return chip;
  }));
}

// ---- asking the server

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (error instanceof Gone) waitForServer();
    else if (error instanceof NeedsKey) $("key-form").hidden = false;
    else if (error instanceof Refused) say(`The server says: ${error.message}.`);
    else throw error;
    return undefined;
  }
}

async function waitForServer() {
  if (!$("gone").hidden) return;
  $("gone").hidden = false;
  while (!(await isThere())) await new Promise((done) => setTimeout(done, POLL_MS));
  $("gone").hidden = true;
  say("The server is back.");
  begin();
}

// What may follow, and the colours: asked again whenever the text has changed and nobody is writing.
function look(delay = 150) {
  clearTimeout(lookTimer);
  lookTimer = setTimeout(() => attempt(lookNow), delay);
}

async function lookNow() {
  if (writing !== null || model === null) return;
  looking?.abort();
  looking = new AbortController();
  const { signal } = looking;
  const text = $("text").value;
  const length = Array.from(text).length;
  const heat = Math.max(temperature(), 0.05);
  const found = await call("/v1/next", { prompt: text, top: LIKELIEST, temperature: heat, score: true, unknown: "replace" }, signal);
  if ($("text").value !== text) return;
  story.nats = found.nats.length === length ? found.nats : [];
  if (found.prompt !== text) say("The model does not know every character here; it reads the closest one it knows.");
  showChips(found.next);
  redraw();
  if (chosenColour() === "value") await trace(text, signal);
}

async function trace(text, signal) {
  const all = Array.from(text);
  const seen = all.slice(-model.max_traced);
  const body = { prompt: seen.join(""), layer: Number($("layer").value), name: $("value").value, units: [unit()], unknown: "replace" };
  const found = await call("/v1/trace", body, signal);
  if (!$("text").value.startsWith(text)) return;
  const values = found.values[0].length === seen.length ? found.values[0] : [];
  story.values = [...Array(all.length - seen.length), ...values];
  if (seen.length < all.length) say(`Coloured are the last ${model.max_traced.toLocaleString()} characters.`);
  if (!unitChosen && found.lively.length > 0) { // the first look shows a unit that does something
    $("unit").value = found.lively[0];
    unitChanged();
  }
  showLively(found.lively);
  reachTo(story.values);
  redraw();
}

// The slider of the hold covers what the value can be; a cell's, what it is over this text.
function reachTo(values) {
  const name = $("value").value;
  const most = name === "c" ? Math.max(4, Math.ceil(Math.max(...values.map((value) => Math.abs(value ?? 0))))) : 1;
  const least = GATES.includes(name) ? 0 : -most;
  if (most === Number($("held-at").max) && least === Number($("held-at").min)) return;
  Object.assign($("held-at"), { min: least, max: most, step: (most - least) / 32 });
  describe();
}

function showLively(units) {
  const label = document.createElement("span");
  label.className = "quiet";
  label.textContent = "Lively here: ";
  $("lively").replaceChildren(label, ...units.map((k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = k;
    button.setAttribute("aria-label", `unit ${k}`);
    button.setAttribute("aria-pressed", String(k === unit()));
    button.addEventListener("click", () => { $("unit").value = k; unitChanged(); });
    return button;
  }));
}

// ---- writing

const unit = () => Math.max(0, Math.min(model.hidden - 1, Math.trunc(Number($("unit").value)) || 0));

function hold() {
  if (!$("hold").checked) return [];
  return [{ name: $("value").value, layer: Number($("layer").value), unit: unit(), value: Number($("held-at").value) }];
}

async function writePassage(passage) {
  writing?.abort();
  looking?.abort();
  const mine = writing = new AbortController();
  const text = $("text");
  text.value = passage.before;
  story.nats = story.nats.slice(0, Array.from(passage.before).length);
  story.values = story.values.slice(0, story.nats.length);
  text.readOnly = true;
  say("");
  redraw();
  const asked = { prompt: passage.before, max_tokens: passage.chars, temperature: temperature(), seed: passage.seed, hold: passage.hold, unknown: "replace" };
  let finish = null;
  await attempt(async () => {
    for await (const part of parts(asked, mine.signal)) {
      await show(part, mine.signal);
      if (mine.signal.aborted) return;
      finish = part.finish;
    }
  });
  if (writing !== mine) return; // another passage has taken over
  writing = null;
  text.readOnly = false;
  if (finish === "stop") say("The story ends here.");
  redraw();
  look(0);
}

// Let the characters of a part appear one after the other, at a reader's pace.
async function show(part, signal) {
  const arrived = Array.from(part.text);
  const step = calm.matches ? arrived.length : 1;
  for (let k = 0; k < arrived.length; k += step) {
    if (signal.aborted) return;
    const follow = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
    $("text").value += arrived.slice(k, k + step).join("");
    story.nats.push(...part.nats.slice(k, k + step));
    redraw(calm.matches ? 0 : 1);
    if (follow) scrollTo(0, document.documentElement.scrollHeight);
    if (!calm.matches) await new Promise((done) => setTimeout(done, 1000 / PER_SECOND));
    if (chosenColour() === "value" && performance.now() > tracedAt + TRACE_MS) {
      tracedAt = performance.now();
      attempt(() => trace($("text").value, signal));
    }
  }
}

function write() {
  if (writing !== null) { stop(); return; }
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  story.passage = { before: $("text").value, chars: PASSAGE, seed, hold: hold() };
  story.original = null;
  $("otherwise").hidden = true;
  writePassage(story.passage);
}

// The last passage again, from the same seed, as the hold now is; what it was without the hold stays to be compared.
function rewrite() {
  if (story.passage === null || !$("text").value.startsWith(story.passage.before)) return;
  if (story.original === null && story.passage.hold.length === 0) {
    story.original = $("text").value.slice(story.passage.before.length);
  }
  story.passage = { ...story.passage, hold: hold() };
  $("otherwise").hidden = story.original === null || !$("hold").checked;
  $("otherwise-text").textContent = story.original ?? "";
  writePassage(story.passage);
}

function stop() {
  writing?.abort();
}

async function one() {
  if (writing !== null) return;
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  await writePassage({ before: $("text").value, chars: 1, seed, hold: hold() });
}

function back() {
  if (writing !== null) return;
  $("text").value = characters().slice(0, -1).join("");
  changed();
}

function choose(text, probability) {
  if (writing !== null) return;
  $("text").value += text;
  story.nats.push(-Math.log(probability));
  changed(0);
}

function changed(delay) {
  const length = characters().length;
  story.nats.length = Math.min(story.nats.length, length);
  story.values.length = Math.min(story.values.length, length);
  say("");
  redraw();
  look(delay);
}

// ---- choices

function describe() {
  $("temperature-value").textContent = temperature().toFixed(2);
  $("held-value").textContent = Number($("held-at").value).toFixed(2);
  if (model === null) return;
  const which = ORDINALS[Number($("layer").value)] ?? `number ${$("layer").value}`;
  $("hold-name").textContent = `${$("value").value} of unit ${unit()}, ${which} layer`;
  $("holding").hidden = !model.holds;
  const chosen = chosenColour();
  $("inside").hidden = chosen !== "value";
  $("meaning").textContent = {
    surprise: "How little the model expected each character, having read everything before it.",
    value: MEANINGS[$("value").value] ?? "",
    nothing: "",
  }[chosen];
}

function unitChanged() {
  unitChosen = true;
  describe();
  look(0);
  if ($("hold").checked) rewrite();
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

async function begin() {
  const found = await attempt(() => call("/v1/models"));
  if (found === undefined) return;
  $("key-form").hidden = true;
  [model] = found.data;
  const network = `${model.cell.toUpperCase()}, ${model.layers} × ${model.hidden}, ${model.parameters.toLocaleString()} parameters`;
  $("model").textContent = `${model.id}: ${network}`;
  if ($("layer").options.length === 0) {
    fill($("layer"), [...Array(model.layers).keys()].map((k) => [k, ORDINALS[k] ?? String(k)]));
    fill($("value"), model.values.map((name) => [name, name]));
    $("value").value = model.values.includes("c") ? "c" : model.values.at(-1);
    $("unit").max = model.hidden - 1;
    if (sessionStorage.getItem("storycell-text") === null) $("text").value ||= model.prompt;
  }
  describe();
  redraw();
  look(0);
}

const SHORTCUTS = {
  Period: () => one(),
  Comma: () => back(),
};

function pressed(event) {
  if (event.key === "Escape" && writing !== null) stop();
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) write();
  else if (event.altKey && SHORTCUTS[event.code]) SHORTCUTS[event.code]();
  else if (event.altKey && /^Digit[1-9]$/.test(event.code)) $("chips").children[Number(event.code.slice(5)) - 1]?.click();
  else return;
  event.preventDefault();
}

$("text").value = sessionStorage.getItem("storycell-text") ?? "";
$("text").addEventListener("input", () => changed());
document.addEventListener("selectionchange", underCaret);
document.addEventListener("keydown", pressed);
$("write").addEventListener("click", write);
$("one").addEventListener("click", one);
$("back").addEventListener("click", back);
$("new").addEventListener("click", () => {
  stop();
  Object.assign(story, { nats: [], values: [], passage: null, original: null });
  $("otherwise").hidden = true;
  $("text").value = "";
  $("text").focus();
  changed(0);
});
$("temperature").addEventListener("input", () => { describe(); look(); });
$("colour").addEventListener("change", () => { describe(); redraw(); look(0); });
for (const id of ["layer", "value", "unit"]) $(id).addEventListener("change", unitChanged);
$("hold").addEventListener("change", rewrite);
$("held-at").addEventListener("input", describe);
$("held-at").addEventListener("change", () => { if ($("hold").checked) rewrite(); });
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey($("key").value);
  begin();
});
begin();
