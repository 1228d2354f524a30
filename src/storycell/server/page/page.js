// The page: a text, what may follow it, and what the model does inside while it reads it.
//
// One text area holds everything that was typed and generated. `story` knows the surprise of each character, and how the
// last request was generated (where it began, with which seed), so that it can be generated again with a unit held.

import { ColourChoice, chosenLabels, describe, newSeed, rested, showChoices, showGenerating, showLabels, showSlider } from "../../web/generate.js";
import { SteerChoice } from "../../web/steer.js";
import { Story, element, inOrder, isGate, nameOf } from "../../web/story.js";
import { offerTheme } from "../../web/theme.js";
import { offerSteps } from "./step.js";
import { Gone, NeedsKey, Refused, call, isThere, keepKey, parts } from "./server.js";

const LENGTH = 600; // characters that one press of Generate asks for
const PIECES = 150; // the same, where the model generates pieces of words
const PER_SECOND = 70; // characters shown in a second; the model is far faster than a reader
const LIKELIEST = 12;
const POLL_MS = 2000;
const TRACE_MS = 800; // between two looks inside while the story comes

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const story = { nats: [], values: [], request: null, original: null };
let model = null;
let steps = null; // the view of one step
let direction = null; // the choice of a dose, where the server has a direction
let choice = null; // what the colours show; there once the model is known
const view = new Story($("shades"));
let generating = null; // the AbortController of the request that is being generated
let looking = null; // that of the question what may follow
let lookTimer = 0;
let tracedAt = 0;
let unitChosen = false;
let heldName = null;

const characters = () => Array.from($("text").value);
const temperature = () => Number($("temperature").value);
const say = (message) => { $("said").textContent = message; };

// ---- drawing

function redraw(fresh = 0) {
  const text = characters(), values = choice?.symbol ? story.values : story.nats;
  view.draw(text, values, choice?.scale(values), fresh);
  sessionStorage.setItem("storycell-text", $("text").value);
  const isIdle = generating === null;
  showGenerating($("generate"), !isIdle);
  $("one").disabled = !isIdle;
  $("back").disabled = !isIdle || text.length === 0;
  showDetail();
}

// Those of the first so many characters; undefined where the server has not said them yet.
const surprisesOf = (length) => Array.from({ length }, (_, k) => story.nats[k]);

const caret = () => Array.from($("text").value.slice(0, $("text").selectionStart)).length - 1;
// To web/tunes.js, where that is there.
function showTune() {
  if (generating === null) document.dispatchEvent(new CustomEvent("story", { detail: $("text").value }));
}

// About the character before the caret.
function showDetail() {
  const at = caret();
  if (generating === null) steps?.update();
  const character = characters()[at];
  $("detail").textContent = character === undefined ? "" : describe(character, story.nats[at], choice, story.values[at]);
}

function showNext(likely) {
  showChoices($("choices"), likely.map((next) => ({ ...next, canChoose: next.text !== null })), choose);
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

// What may follow, and the colours: asked again whenever the text has changed and nothing is being generated.
function look(delay = 150) {
  clearTimeout(lookTimer);
  lookTimer = setTimeout(() => attempt(lookNow), delay);
}

async function lookNow() {
  if (generating !== null || model === null) return;
  looking?.abort();
  looking = new AbortController();
  const { signal } = looking;
  const text = $("text").value;
  const length = Array.from(text).length;
  const heat = Math.max(temperature(), 0.05);
  const found = await call("/v1/next", { prompt: text, top: LIKELIEST, temperature: heat, score: true, labels: chosenLabels($("labels")), steer: steering(), unknown: "replace" }, signal);
  if ($("text").value !== text) return;
  showTune();
  story.nats = found.nats.length === length ? found.nats : [];
  if (found.prompt !== text) say("The model does not know every character here; it reads the closest one it knows.");
  showNext(found.next);
  redraw();
  if (choice.symbol) await trace(text, signal);
}

async function trace(text, signal) {
  const all = Array.from(text);
  const seen = all.slice(-model.max_traced);
  const body = { prompt: seen.join(""), layer: choice.layer, name: choice.symbol, units: [choice.unit], unknown: "replace" };
  const found = await call("/v1/trace", body, signal);
  if (!$("text").value.startsWith(text)) return;
  const values = found.values[0].length === seen.length ? found.values[0] : [];
  story.values = [...Array(all.length - seen.length), ...values];
  if (seen.length < all.length) say(`Coloured are the last ${model.max_traced.toLocaleString("en")} characters.`);
  const isTyping = document.activeElement === choice.units;
  if (!unitChosen && !isTyping && found.lively.length > 0) { // the first look shows a unit that does something
    choice.unit = found.lively[0];
    unitChanged();
  }
  showLively(found.lively);
  reachTo(story.values);
  redraw();
}

// The slider of the hold covers what the value can be; a cell's, what it is over this text.
function reachTo(values) {
  const { name } = heldAt();
  const most = name === "c" ? Math.max(4, Math.ceil(Math.max(...values.map((value) => Math.abs(value ?? 0))))) : 1;
  const least = isGate(name) ? 0 : -most;
  if (most === Number($("held-at").max) && least === Number($("held-at").min)) return;
  Object.assign($("held-at"), { min: least, max: most, step: (most - least) / 32 });
  showHold();
}

function showLively(units) {
  $("lively").hidden = choice.symbol === null;
  $("lively").replaceChildren(element("span", { class: "note" }, "Lively here:"), ...units.map((k) =>
    element("button", { type: "button", "aria-label": `unit ${k}`, "aria-pressed": k === choice.unit,
      click: () => { choice.unit = k; unitChanged(); } }, k)));
}

// ---- generating

const steering = () => (direction?.dose ? { dose: direction.dose, random: direction.isRandom } : null);

// The value that the colours show, or showed last, is the one to hold.
function hold() {
  return $("hold").checked ? [heldAt()] : [];
}

function heldAt() {
  heldName = choice.symbol ?? heldName ?? inOrder(model.values)[0];
  return { name: heldName, layer: choice.layer, unit: choice.unit, value: Number($("held-at").value) };
}

async function generateText(request) {
  generating?.abort();
  looking?.abort();
  const mine = generating = new AbortController();
  const text = $("text");
  text.value = request.before;
  story.nats = surprisesOf(Array.from(request.before).length);
  story.values = story.values.slice(0, story.nats.length);
  text.readOnly = true;
  say("");
  redraw();
  const asked = { prompt: request.before, max_tokens: request.chars, temperature: request.temperature, seed: request.seed, hold: request.hold, steer: request.steer, regex: request.regex, labels: request.labels, unknown: "replace" };
  let finish = null;
  await attempt(async () => {
    for await (const part of parts(asked, mine.signal)) {
      await show(part, mine.signal);
      if (mine.signal.aborted) return;
      finish = part.finish;
    }
  });
  if (generating !== mine) return; // another request has taken over
  generating = null;
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
    if (choice.symbol && performance.now() > tracedAt + TRACE_MS) {
      tracedAt = performance.now();
      attempt(() => trace($("text").value, signal));
    }
  }
}

// What is to be generated, as everything is chosen now.
function newRequest(chars, regex = null) {
  return {
    before: $("text").value, chars, seed: newSeed(), temperature: temperature(), labels: chosenLabels($("labels")),
    hold: hold(), steer: steering(), regex,
  };
}

function generate() {
  if (generating !== null) { stop(); return; }
  story.request = newRequest(model?.vocabulary === "pieces" ? PIECES : LENGTH, $("regex").value || null);
  story.original = null;
  $("otherwise").hidden = true;
  generateText(story.request);
}

// The last request again, from the same seed, as hold and dose now are; what it was without them stays to be compared.
function regenerate() {
  if (story.request === null || !$("text").value.startsWith(story.request.before)) return;
  if (story.original === null && story.request.hold.length === 0 && story.request.steer === null) {
    story.original = $("text").value.slice(story.request.before.length);
  }
  story.request = { ...story.request, hold: hold(), steer: steering() };
  $("otherwise").hidden = story.original === null || !($("hold").checked || steering());
  $("otherwise-title").textContent = steering() ? "Unsteered it went on" : "Without the hold it went on";
  $("otherwise-text").textContent = story.original ?? "";
  generateText(story.request);
}

const regenerateSoon = rested(regenerate);

function stop() {
  generating?.abort();
}

async function one() {
  if (generating !== null) return;
  await generateText(newRequest(1));
}

function back() {
  if (generating !== null) return;
  $("text").value = characters().slice(0, -1).join("");
  changed();
}

function choose({ text, probability }) {
  if (generating !== null) return;
  const arrived = Array.from(text);
  story.nats = [...surprisesOf(characters().length), ...arrived.map(() => -Math.log(probability) / arrived.length)]; // until the server has said
  $("text").value += text;
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

function moveCaret(at) {
  const place = characters().slice(0, at + 1).join("").length;
  $("text").setSelectionRange(place, place);
  showDetail();
}

// ---- choices

function showHold() {
  $("held-value").textContent = Number($("held-at").value).toFixed(2);
  if (model === null) return;
  const { name, unit, layer } = heldAt();
  $("hold-name").textContent = `${nameOf(name)} ${name} of unit ${unit}, layer ${layer}`;
  $("holding").hidden = !model.holds;
}

function unitChanged() {
  unitChosen = true;
  colourChanged();
}

function colourChanged() {
  story.values = [];
  $("lively").hidden = choice.symbol === null;
  showHold();
  redraw();
  look();
  const isHeld = JSON.stringify(hold()) === JSON.stringify(story.request?.hold);
  if ($("hold").checked && !isHeld) regenerateSoon();
}

async function begin() {
  const found = await attempt(() => call("/v1/models"));
  if (found === undefined) return;
  $("key-form").hidden = true;
  [model] = found.data;
  $("name").textContent = model.id;
  $("about").textContent = `${model.cell.toUpperCase()}, ${model.layers} × ${model.hidden}, ${model.parameters.toLocaleString("en")} parameters`;
  if (choice === null) {
    choice = new ColourChoice($("colours"), {
      ...model, onChange: (what) => (what === "by" ? colourChanged() : unitChanged()),
    });
    view.legend = choice.legend;
    if (model.steers !== null) {
      $("steering").hidden = false;
      direction = new SteerChoice($("steering"), { about: model.steers, onChange: () => { look(); regenerate(); } });
    }
    steps = offerSteps($("step"), { model, characters, caret, attempt, onMove: moveCaret });
    showLabels($("labels"), model.labels, () => look());
    if (sessionStorage.getItem("storycell-text") === null) $("text").value ||= model.prompt;
  }
  if (model.has_tunes && !document.querySelector("script[src='tunes.js']")) {
    document.head.append(element("script", { src: "tunes.js", load: showTune }));
  }
  if (model.vocabulary === "pieces") {
    $("one").title = "One more piece of a word: Alt+. (full stop)";
    $("choices").setAttribute("aria-label", "Likeliest ways on");
    $("regex").parentElement.hidden = true;
  }
  showHold();
  redraw();
  look(0);
}

const SHORTCUTS = {
  Period: () => one(),
  Comma: () => back(),
};

function pressed(event) {
  if (event.key === "Escape" && generating !== null) stop();
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) generate();
  else if (event.altKey && SHORTCUTS[event.code]) SHORTCUTS[event.code]();
  else if (event.altKey && /^Digit[1-9]$/.test(event.code)) $("choices").children[Number(event.code.slice(5)) - 1]?.click();
  else return;
  event.preventDefault();
}

$("text").value = sessionStorage.getItem("storycell-text") ?? "";
$("text").addEventListener("input", () => changed());
document.addEventListener("selectionchange", showDetail);
document.addEventListener("keydown", pressed);
$("generate").addEventListener("click", generate);
$("one").addEventListener("click", one);
$("back").addEventListener("click", back);
$("new").addEventListener("click", () => {
  stop();
  Object.assign(story, { nats: [], values: [], request: null, original: null });
  $("otherwise").hidden = true;
  $("text").value = "";
  $("text").focus();
  changed(0);
});
showSlider($("temperature"), $("temperature-value"));
$("temperature").addEventListener("input", () => look());
$("hold").addEventListener("change", regenerate);
$("held-at").addEventListener("input", showHold);
$("held-at").addEventListener("change", () => { if ($("hold").checked) regenerateSoon(); });
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey($("key").value);
  begin();
});
offerTheme($("theme"));
begin();
