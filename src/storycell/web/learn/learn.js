// The learning page: what the reader chooses goes to the worker, what the worker tells is drawn.

import { inflate, readModules } from "../embedded.js";
import { ColourChoice, describe, showSlider } from "../generate.js";
import { Story, scaleOf } from "../story.js";
import { offerTheme } from "../theme.js";

const $ = (id) => document.getElementById(id);
const CURVE_POINTS = 400;
const NGRAM_ROWS = 32_768; // with twice as many the page's process takes 430 MB
const RISES = 0.05; // nats above its best: the held-out loss is said to rise
const NAMES = `Matilda Theresa Theodor Richard Walter Norman Irene Sophia Henrietta Eva Zacharias Maria Emil George
Elisabeth Hugo Ella Conrad Carl Susanna Robert Alice Pauline Nicholas Nathan Johanna Lucy Silas Caroline Gloria Bruno Peter
David Martha Olivia Charles Leonora Frederick Eleanor Valentin Viola Sofia Amelia Gustav Samuel Winifred Patrick Benjamin
Gilbert Josephine Leonard Louis Wilma Linda Frida Ida Ursula Thomas Rose Albert Agnes Patricia Sarah Rosa Vincent Victor
Elias Karen Maurice Astrid Camilla Sibyl Louise Rosalind Felix Mina Rudolf Wilfred Ulrich Vera Margaret Laura Lewis William
Beatrice Edith Clara Fiona Zoe Lawrence Jacob Stella Emilia Klara Henry Rebecca Bertha Virginia Elsa Oswald Elena Daniel
Helen Harold Emma Julia Sylvia Greta Edgar Iris Martin Nora Wilhelm Oscar Lucas John Eric Paul Ada Ernest Nina Tobias Roland
Oliver Miriam Philip Philippa Sebastian Jasper Rachel Rupert Frances Ingrid Rosamund Matthew Lilian Diana Marian Victoria
Katharina Ferdinand Gerda James Isabel Arthur Hannah Ivan Edward Flora Jane Magdalena Selma Ruth Harriet Catherine Jonas
Simon Michael Anna Charlotte Dora Esther Ralph Maximilian Edmund Julian Herbert`.split(/\s+/).join("\n");

const state = { exists: false, running: false, isDone: false, wasHidden: false, rises: false };
const curve = { train: [], valid: [], steps: 1 };
let choice = null, seen = null, mark = null; // the colours; the text that is shown; the character whose units the map has

const source = URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" }));
const worker = new Worker(source);
const ask = (type, content = {}, moved = []) => worker.postMessage({ type, ...content }, moved);

function trouble(sentence) {
  $("trouble").textContent = sentence;
  $("trouble").hidden = !sentence;
}

// ---- The text ----

// The box has the beginning of the text, which can be changed there: a browser lays out a megabyte in a hundred megabytes.
const SHOWN_CHARS = 50_000;
let rest = ""; // what comes after it
const wholeText = () => $("text").value + rest;

function showSize() {
  const length = $("text").value.length + rest.length, shown = length - rest.length;
  $("size").textContent = length ? `${length.toLocaleString("en")} characters${rest && `, of which the first ${shown.toLocaleString("en")} are shown`}` : "";
}

function setText(text) {
  $("text").value = text.slice(0, SHOWN_CHARS);
  rest = text.slice(SHOWN_CHARS);
  showSize();
  trouble("");
}

// What is selected goes; the rest, too, where that is all of the box.
const chooses = ({ selectionStart, selectionEnd, value }) => selectionStart === 0 && selectionEnd === value.length;

function paste(event) {
  const box = $("text"), text = event.clipboardData.getData("text/plain");
  if (text.length < SHOWN_CHARS) return;
  event.preventDefault();
  setText(box.value.slice(0, box.selectionStart) + text + (chooses(box) ? "" : box.value.slice(box.selectionEnd) + rest));
}

async function takeFile(file) {
  if (!file) return;
  trouble("");
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] === 0x50 && bytes[1] === 0x4b) return ask("open", { bytes, text: wholeText() }, [bytes.buffer]);
  try {
    setText(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    trouble(`${file.name} is not UTF-8: save it as UTF-8, or paste its text.`);
  }
}

// ---- Training ----

const chosen = () => ({
  cell: $("cell").value, hidden: Number($("hidden").value), layers: Number($("layers").value), ngrams: Number($("ngrams").value), ngram_rows: NGRAM_ROWS,
  matches: Number($("matches").value), steps: Math.max(10, Number($("steps").value) || 10),
  ...($("rate").dataset.moved ? { lr: 10 ** Number($("rate").value) } : {}), // else what suits the network
});

function train() {
  trouble("");
  if (state.running) return ask("pause");
  if (state.isDone) return ask("run", { steps: 2 * curve.steps });
  if (state.exists) return ask("run");
  if (!$("text").value.trim() && !rest) return trouble("Give it a text first: paste one, drop a file, or take the stories.");
  ask("begin", { text: wholeText(), settings: chosen(), startsFromDonor: $("donor").value !== "" });
}

function showButtons() {
  const { exists, running, isDone } = state;
  $("train").textContent = running ? "Pause" : isDone ? "Train on" : "Train";
  $("train").setAttribute("aria-pressed", String(running));
  $("step").disabled = !exists || running || isDone;
  $("save").disabled = $("new").disabled = !exists;
  $("setup").hidden = exists;
  for (const part of [$("numbers"), $("curve"), $("story"), ...document.querySelectorAll(".inside")]) part.toggleAttribute("hidden", !exists);
}

function showRate() {
  $("rate-value").textContent = (10 ** Number($("rate").value)).toPrecision(2);
}

// ---- The curve ----

const SVG = "http://www.w3.org/2000/svg";
function svg(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

// Every second point goes once there are too many: what is left is spread over the whole training.
function thin(points) {
  while (points.length > 2 * CURVE_POINTS) points.splice(0, points.length, ...points.filter((_, k) => k % 2));
}

function drawCurve() {
  const [left, right, top, bottom] = [44, 630, 12, 176], all = [...curve.train, ...curve.valid];
  const losses = all.map(([, nats]) => nats), most = Math.max(...losses, 1), least = Math.min(...losses, most - 0.5);
  const now = Math.max(0, ...all.map(([step]) => step)), last = Math.min(curve.steps, Math.max(50, Math.ceil(1.2 * now)));
  const x = (step) => (left + (right - left) * (step / last)).toFixed(1), y = (nats) => (bottom - (bottom - top) * ((nats - least) / (most - least))).toFixed(1);
  const parts = [];
  for (let k = 0; k <= 4; k++) {
    const nats = least + ((most - least) * k) / 4;
    parts.push(svg("line", { x1: left, x2: right, y1: y(nats), y2: y(nats) }), svg("text", { x: left - 6, y: Number(y(nats)) + 4, "text-anchor": "end" }, nats.toFixed(1)));
  }
  parts.push(svg("text", { x: left, y: 194 }, "0"), svg("text", { x: right, y: 194, "text-anchor": "end" }, `${last.toLocaleString("en")} steps`));
  for (const name of ["train", "valid"]) {
    const path = curve[name].map(([step, nats], k) => `${k ? "L" : "M"}${x(step)} ${y(nats)}`).join("");
    if (path) parts.push(svg("path", { class: name, d: path }));
  }
  $("curve").replaceChildren(...parts);
}

// ---- The text of the model ----

const view = new Story($("story"), { onPoint: (k) => { if (k !== null) point(k); }, onChoose: (k) => point(k) });
const map = new Story($("map"), { onChoose: (unit) => pickUnit(unit) });

function valueAt(k, unit) {
  const { layers, units } = seen.shape, values = choice.symbol === "c" ? seen.cells : seen.hiddens, T = values.length / (layers * units);
  return values[(choice.layer * T + k + 1) * units + unit]; // after that character; the boundary that it begins with comes first
}

function paint() {
  if (!seen || !choice) return;
  const { texts, nats } = seen, last = texts.length - 1;
  if (mark === null || mark > last) mark = last;
  const shown = choice.symbol ? texts.map((_, k) => valueAt(k, choice.unit)) : Array.from(nats.subarray(0, texts.length));
  view.draw(texts, shown, choice.scale(shown));
  view.spans.forEach((span, k) => span.classList.toggle("given", k < seen.given));
  view.setMark(mark);
  $("detail").textContent = texts.length ? describe(texts[mark], nats[mark], choice, choice.symbol ? shown[mark] : undefined) : "";
  $("map").hidden = choice.symbol === null || !texts.length;
  if ($("map").hidden) return;
  const here = Array.from({ length: seen.shape.units }, (_, unit) => valueAt(mark, unit));
  map.draw(here.map(() => ""), here, scaleOf(choice.symbol, here));
  map.setMark(choice.unit);
}

function point(k) {
  mark = k;
  paint();
}

function pickUnit(unit) {
  if (!choice) return;
  choice.unit = unit;
  paint();
}

function offerColours({ cell, layers, units }) {
  const by = choice?.by.value;
  choice = new ColourChoice($("colours"), { layers, hidden: units, values: cell === "lstm" ? ["c", "h"] : ["h"], onChange: paint });
  view.legend = choice.legend;
  view.scale = null;
  if (by && [...choice.by.options].some((option) => option.value === by)) {
    choice.by.value = by;
    choice.by.dispatchEvent(new Event("change"));
  }
}

// ---- What the worker tells ----

let shape = null;

const TOLD = {
  ready({ isa }) {
    $("train").disabled = false;
    document.body.dataset.engine = isa;
    if (!$("own").hidden && !state.exists && !wholeText()) $("own").click();
  },
  unable() {
    trouble("This browser does not take the engine (WebAssembly with vectors): another one, or a newer version, does.");
  },
  trouble({ sentence }) { trouble(sentence); },
  begun(about) {
    shape = about.shape;
    Object.assign(state, { exists: true, isDone: false });
    curve.steps = about.settings.steps;
    curve.train = about.curve.filter(({ train }) => train !== null).map(({ step, train }) => [step, train]);
    curve.valid = about.curve.filter(({ valid }) => valid !== null).map(({ step, valid }) => [step, valid]);
    if (about.text && !wholeText()) setText(about.text);
    $("rate").value = Math.log10(about.settings.lr);
    showRate();
    const heldOut = about.validChars ? `${about.validChars.toLocaleString("en")} held out` : "nothing held out: the text is too short";
    $("about").textContent = `${about.shape.cell.toUpperCase()}, ${about.shape.layers} × ${about.shape.units}, ${about.parameters.toLocaleString("en")} parameters, ` +
      `${about.characters} different characters; ${about.trainChars.toLocaleString("en")} characters to learn, ${heldOut}`;
    offerColours(about.shape);
    seen = mark = null;
    if (curve.valid.length) $("valid-nats").textContent = curve.valid.at(-1)[1].toFixed(3);
    showButtons();
    drawCurve();
    if (!about.wasRunning) return;
    $("status").textContent = `It goes on from step ${about.step.toLocaleString("en")}: the page was closed while it learnt.`;
    if (isResting()) state.wasHidden = true;
    else ask("run");
  },
  progress({ step, charsPerS, points, isDone, running }) {
    Object.assign(state, { running, isDone });
    $("steps-done").textContent = `${step.toLocaleString("en")} of ${curve.steps.toLocaleString("en")}`;
    if (charsPerS) $("speed").textContent = Math.round(charsPerS).toLocaleString("en");
    if (points.length) {
      const mean = points.reduce((sum, [, nats]) => sum + nats, 0) / points.length;
      curve.train.push([points.at(-1)[0], mean]);
      thin(curve.train);
      $("train-nats").textContent = mean.toFixed(3);
      drawCurve();
    }
    showButtons();
  },
  look({ step, nats }) {
    if (nats === null) return;
    curve.valid.push([step, nats]);
    thin(curve.valid);
    $("valid-nats").textContent = nats.toFixed(3);
    const best = Math.min(...curve.valid.map(([, loss]) => loss)), rose = state.rises;
    state.rises = nats > best + RISES;
    if (state.rises) $("status").textContent = `The loss on what is held out was ${best.toFixed(3)}, and rises: it learns the text by heart. Saved is the model of that time, too.`;
    else if (rose) $("status").textContent = "";
  },
  text(told) {
    seen = { ...told, shape };
    paint();
  },
  saved({ bytes }) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: "application/zip" }));
    link.download = "mine.zip";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  },
  kept({ step }) { document.body.dataset.kept = step; },
  "not kept": () => { $("status").textContent = "Nothing is kept here, by this browser or beside another window that learns: save the model before you leave."; },
  done({ nats }) {
    $("status").textContent = nats === null ? "Done." : `Done: ${nats.toFixed(4)} nats per character on all that is held out.`;
  },
  forgotten() {
    Object.assign(state, { exists: false, running: false, isDone: false });
    Object.assign(curve, { train: [], valid: [], steps: 1 });
    seen = mark = null;
    view.draw([]);
    for (const id of ["steps-done", "speed", "train-nats", "valid-nats"]) $(id).textContent = "–";
    for (const id of ["detail", "status"]) $(id).textContent = "";
    $("about").textContent = "";
    $("map").hidden = true;
    $("curve").replaceChildren();
    showButtons();
  },
};
worker.onmessage = ({ data }) => TOLD[data.type](data);

// ---- What people do ----

const KEYS = { " ": train, s: () => ask("step"), S: () => ask("step"), "[": () => pickUnit(choice?.unit - 1), "]": () => pickUnit(choice?.unit + 1) };

document.addEventListener("keydown", (event) => {
  if (event.target === $("text") && event.key === "Enter" && (event.ctrlKey || event.metaKey)) return train();
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  if (event.target.matches("textarea, input, select, button, summary")) return;
  event.preventDefault();
  KEYS[event.key]();
});

const isResting = () => document.hidden && !$("hidden-too").checked;

document.addEventListener("visibilitychange", () => {
  if ($("hidden-too").checked) return;
  if (document.hidden) {
    state.wasHidden = state.running;
    if (state.running) ask("pause");
  } else if (state.wasHidden) {
    state.wasHidden = false;
    ask("run");
  }
});

for (const [kind, isOver] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("text").classList.toggle("over", isOver);
    if (kind === "drop") takeFile(event.dataTransfer.files[0]);
  });
}

$("text").addEventListener("beforeinput", () => { if (chooses($("text"))) rest = ""; });
$("text").addEventListener("input", showSize);
$("text").addEventListener("paste", paste);
$("train").addEventListener("click", train);
$("step").addEventListener("click", () => ask("step"));
$("new").addEventListener("click", () => ask("forget"));
$("save").addEventListener("click", () => ask("save"));
for (const id of ["choose", "load"]) $(id).addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => takeFile($("file").files[0]).then(() => { $("file").value = ""; }));
const inflated = async (id) => new TextDecoder().decode(await inflate($(id).textContent));
$("stories").addEventListener("click", async () => setText(await inflated("stories-text")));
$("own").addEventListener("click", async () => setText(await inflated("own-text")));
$("own").hidden = !$("own-text").textContent;
$("names").addEventListener("click", () => setText(NAMES));
$("rate").addEventListener("input", () => {
  $("rate").dataset.moved = "yes";
  showRate();
  ask("rate", { lr: 10 ** Number($("rate").value) });
});
$("shows").addEventListener("change", () => ask("shows", { what: $("shows").value }));
offerTheme($("theme"));
showRate();

const facts = JSON.parse($("donor-facts").textContent);
if (facts) $("donor").append(new Option(facts.name, "yes"));
$("donor").addEventListener("change", () => {
  for (const id of ["cell", "hidden", "layers", "ngrams", "matches"]) $(id).disabled = $("donor").value !== "";
});

async function load() {
  const [modules, weights] = await Promise.all([readModules(), facts ? inflate($("donor-weights").textContent) : null]);
  ask("load", { modules, weights, vocab: facts?.characters, shape: facts?.shape });
}
load();
