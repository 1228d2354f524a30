// The page: a text of which every character keeps its trace, a mark in it, and what stands around.
//
// Everything before the mark is kept; choosing or generating replaces what is behind it. Needs `storycell` of runtime.js,
// and with pieces of words `Pieces` of web/pieces.js.
//
// An id is shown as one span: a character, or a byte. A piece of a word is shown by character, a span each, and the mark
// stands between pieces. What is told of ids counts them (`k`), what is told of the view counts spans (`at`).

import { ColourChoice, chosenLabels, describe, newSeed, showChoices, showGenerating, showLabels, showSlider } from "../web/generate.js";
import { loadEngine } from "../web/embedded.js";
import { Pattern } from "../web/pattern.js";
import { Story, scaleOf } from "../web/story.js";
import { offerTheme } from "../web/theme.js";
import { engineNet } from "./engine_net.js";
import { offerSteering } from "./steer.js";
import { offerSteps } from "./step.js";

const model = JSON.parse(document.getElementById("model").textContent);
const weightsText = document.getElementById("weights");
const plain = storycell.network({ ...model, text: weightsText.textContent });
let net = plain; // until the engine is there, or for good where the browser does not take it
const pieces = model.kind === "pieces" ? new Pieces(model) : null;
const vocabulary = new storycell.Vocabulary(model, pieces);
weightsText.remove();

const $ = (id) => document.getElementById(id);
const CHOICES = 9;
const LONGEST = Math.floor((96 << 20) / (4 * net.newTrace().length)); // characters whose traces fit into 96 MB

// ---- The text ----

const LABEL_END = "\x1f"; // behind the value of each label, in a header that the text begins with and that is not shown
let first = net.newTrace(); // after the boundary that every text begins with, and the header
let beforeFirst = null, firstId = storycell.BOUNDARY;

// Reads the header; `isLast` where nothing of the text is given.
function readHeader(ids, isLast) {
  beforeFirst = null;
  [storycell.BOUNDARY, ...ids].forEach((id, k) => {
    beforeFirst = k ? first : null;
    first = net.newTrace();
    (isLast && k === ids.length ? net.step : net.read)(id, beforeFirst, first);
    firstId = id;
  });
}

// `given` counts spans; `nats` are of each id, of a piece those of its characters; `open` is the end of the prompt, where its
// pieces are still to be drawn: {text, usual, beyond, base, rows}.
const story = { prompt: null, seed: null, header: null, draw: null, ids: [], traces: [], nats: [], given: 0, mark: 0, ended: false, open: null };
const starts = [0]; // of pieces: the span at which each id begins, and how many spans there are
const logits = new Float64Array(net.V), shares = new Float64Array(net.V);

const traceAt = (k) => (k ? story.traces[k - 1] : first); // after k characters

function expected(k) {
  net.logits(traceAt(k), logits);
  return storycell.probabilities(logits, 1, shares);
}

const spanAt = (k) => (pieces ? starts[k] : k);

// The id that a span is of; where a move leads within one, the end of it if it leads forward.
function idAt(at, isForward = false) {
  if (!pieces) return at;
  const k = starts.findLastIndex((start) => start <= at);
  return isForward && starts[k] < at ? k + 1 : k;
}

function append(id, step = net.step) {
  const k = story.ids.length;
  story.open = null;
  if (pieces) {
    net.logits(traceAt(k), logits);
    story.nats.push(pieces.spell(pieces.logs(logits), id));
    starts.push(starts[k] + pieces.lengths[id]);
  } else {
    story.nats.push(-Math.log(expected(k)[id]));
  }
  const trace = net.newTrace();
  step(id, traceAt(k), trace);
  story.ids.push(id);
  story.traces.push(trace);
  story.mark = k + 1;
}

function cutAt(k) {
  if (k < story.ids.length) story.open = null;
  story.ids.length = story.traces.length = story.nats.length = story.mark = k;
  if (pieces) starts.length = k + 1;
  story.given = Math.min(story.given, spanAt(k));
  story.ended = false;
}

// Begins anew from the prompt and the seed; false, with a word why, if that cannot be.
function begin() {
  const prompt = $("prompt").value, seed = $("seed").value.trim();
  const { ids, strangers, settled, open } = vocabulary.encode(prompt), chosen = header(), head = vocabulary.encode(chosen);
  strangers.push(...head.strangers);
  const unknown = strangers.map((c) => `“${c}”`).join(" ");
  if (strangers.length) return trouble(`The model does not know ${unknown}; write the prompt without.`);
  if (!storycell.isSeed(seed)) return trouble("A seed is a whole number from 0 to 18446744073709551615.");
  if (ids.length >= LONGEST) return trouble(`A prompt has at most ${LONGEST.toLocaleString("en")} characters here.`);
  trouble("");
  cutAt(0);
  readHeader(head.ids, !ids.length);
  ids.forEach((id, k) => append(id, open || k < ids.length - 1 ? net.read : net.step));
  Object.assign(story, { prompt, seed, header: chosen, draw: new storycell.Draw(seed), given: spanAt(ids.length) });
  if (open) leaveOpen(open, settled.length);
  show();
  return true;
}

// From id `base` on the pieces of the prompt are not settled: they are as likely as all ways to begin with it together.
function leaveOpen(open, base) {
  const rows = open.usual.map((_, k) => {
    net.logits(traceAt(base + k), logits);
    return pieces.logs(logits);
  });
  const nats = pieces.spellOpen(open, rows);
  open.usual.forEach((id, k) => { story.nats[base + k] = nats.splice(0, pieces.lengths[id]); });
  story.open = { ...open, base, rows };
}

// Puts ids in the place of those that are open; the text stays that of the prompt, and may go on.
function settleAs(ids) {
  const { base } = story.open, { given } = story;
  cutAt(base);
  ids.forEach((id, k) => append(id, k < ids.length - 1 ? net.read : net.step));
  story.given = given;
}

function header() {
  return Object.values(chosenLabels($("labels"))).map((value) => value + LABEL_END).join("");
}

function trouble(sentence) {
  $("trouble").textContent = sentence;
  $("trouble").hidden = !sentence;
  return false;
}

// One character (piece) behind the mark, drawn; false when the text has ended or is full.
function generateOne() {
  if (story.mark >= LONGEST) {
    trouble(`A text has at most ${LONGEST.toLocaleString("en")} characters here; begin another.`);
    return false;
  }
  if (story.open && story.mark === story.ids.length) {
    const { open } = story, begun = pieces.beginnings(open, open.rows);
    settleAs(storycell.chooseBeginning(begun, Number($("temperature").value), story.draw).ids);
    return true;
  }
  net.logits(traceAt(story.mark), logits);
  const id = obeying(storycell.choose(logits, Number($("temperature").value), story.draw));
  story.ended = id === storycell.BOUNDARY;
  if (!story.ended) append(id);
  return !story.ended;
}

// ---- A pattern that what follows the prompt matches ----

// {pattern, state} behind what stands before the mark, for `left` characters more; null where there is no pattern. Throws where
// that cannot be.
function ruleFor(text, left) {
  if (!text) return null;
  if (model.kind !== "characters") throw new Error(`A pattern is about characters, and this model generates ${model.kind}.`);
  const pattern = new Pattern(text, vocabulary.characters);
  let state = pattern.start;
  for (const id of story.ids.slice(story.given, story.mark)) state = state && pattern.advance(state, id - storycell.RESERVED);
  if (!state) throw new Error("What stands before the mark does not match the pattern; begin again, or go back.");
  if (pattern.need(state) > left) throw new Error(`No text of at most ${left.toLocaleString("en")} characters more matches the pattern.`);
  return { pattern, state };
}

// The id that was drawn, or where the pattern refuses it another, drawn among those that it allows.
function obeying(id) {
  const { rule, left } = generating ?? {};
  if (!rule) return id;
  const behind = (k) => (k < storycell.RESERVED ? null : rule.pattern.advance(rule.state, k - storycell.RESERVED, left));
  const isAllowed = (k) => (k === storycell.BOUNDARY ? rule.state.ends : behind(k) !== null);
  if (!isAllowed(id)) {
    for (let k = 0; k < logits.length; k++) if (!isAllowed(k)) logits[k] = -Infinity;
    id = storycell.choose(logits, Number($("temperature").value), story.draw);
  }
  if (id !== storycell.BOUNDARY) rule.state = behind(id);
  return id;
}

// ---- Generating, a little in every frame ----

let generating = null; // {left, generated, busy, at, owed} while it does

const hasChanged = () => story.prompt !== $("prompt").value || story.seed !== $("seed").value.trim() || story.header !== header();

// Drops what is behind the mark; or begins anew, where the prompt, the seed or a label has changed.
function ready() {
  if (hasChanged() || !story.draw) return begin();
  cutAt(story.mark);
  return true;
}

function start(chars = Number($("chars").value)) {
  if (story.ended && story.mark === story.ids.length && !hasChanged()) $("seed").value = newSeed();
  if (!ready()) return;
  const left = Math.max(1, chars || 1);
  let rule = null;
  try {
    rule = ruleFor($("regex").value, left);
  } catch (error) {
    return trouble(error.message);
  }
  trouble("");
  generating = { left, rule, generated: 0, busy: 0, at: performance.now(), owed: 1 };
  showGenerating($("generate"), true);
  requestAnimationFrame(frame);
}

function frame(now) {
  if (!generating) return;
  const pace = Number($("pace").value), began = performance.now();
  generating.owed = pace ? Math.min(generating.owed + ((now - generating.at) / 1000) * pace, 10) : Infinity;
  generating.at = now;
  let goes = true;
  while (goes && generating.left > 0 && generating.owed >= 1 && performance.now() - began < 14) {
    const before = spanAt(story.ids.length);
    goes = generateOne();
    const made = goes ? spanAt(story.ids.length) - before : 1;
    generating.left -= made;
    generating.owed -= made;
    generating.generated += goes ? made : 0;
  }
  generating.busy += performance.now() - began;
  show();
  if (goes && generating.left > 0) requestAnimationFrame(frame);
  else stop();
}

function stop() {
  if (!generating) return;
  const rate = Math.round(generating.generated / Math.max(generating.busy / 1000, 1e-6));
  const speed = generating.generated > 99 ? `, ${rate.toLocaleString("en")} a second` : "";
  generating = null;
  showGenerating($("generate"), false);
  show();
  $("status").textContent += speed;
}

// What was chosen to follow the mark; of `ids` that stand in the place of what is open, the last does.
function choose(ids) {
  stop();
  cutAt(story.mark);
  const ended = ids.at(-1) === storycell.BOUNDARY, others = ended ? ids.slice(0, -1) : ids;
  if (story.open) settleAs(others);
  else others.forEach((id) => append(id));
  story.ended = ended;
  show();
}

function back() {
  stop();
  cutAt(Math.max(story.mark - 1, 0));
  show();
}

function again() {
  stop();
  $("seed").value = newSeed();
  start();
}

// ---- Showing ----

const choice = new ColourChoice($("colours"), { layers: net.L, hidden: net.H, values: net.values, onChange: paint });
const view = new Story($("story"), {
  legend: choice.legend,
  onPoint: (at) => showDetail(at ?? spanAt(story.mark) - 1),
  onChoose: (at) => moveTo(idAt(at)),
});

const map = new Story($("map"), { onChoose: pickUnit }); // one square of each unit

// A value of the trace after k characters.
function valueAt(k, unit) {
  const trace = traceAt(k);
  if (choice.symbol !== "h" && choice.symbol !== "c") net.fill(k ? story.ids[k - 1] : firstId, k ? traceAt(k - 1) : beforeFirst, trace);
  return trace[net.placeOf(choice.layer, choice.symbol, unit)];
}

// Of each span.
function values() {
  const found = choice.symbol ? story.traces.map((_, k) => valueAt(k + 1, choice.unit)) : story.nats;
  if (!pieces) return found;
  return choice.symbol ? found.flatMap((value, k) => Array(pieces.lengths[story.ids[k]]).fill(value)) : found.flat();
}

// The text of each span.
function spans() {
  const texts = vocabulary.texts(story.ids);
  return pieces ? texts.flatMap((text, k) => (story.ids[k] === storycell.BOUNDARY ? [text] : Array.from(text))) : texts;
}

let isInside = false, wasGiven = 0; // whether the mark stood inside the text, and how much of it was the prompt

function paint() {
  const { ids, mark, given } = story, shown = values(), markAt = spanAt(mark);
  view.draw(spans(), shown, choice.scale(shown));
  for (let k = 0; k < Math.max(given, wasGiven); k++) view.spans[k]?.classList.toggle("given", k < given);
  if (isInside || mark < ids.length) view.spans.forEach((span, at) => span.classList.toggle("after", at >= markAt));
  isInside = mark < ids.length;
  wasGiven = given;
  view.setMark(markAt);
  showDetail(markAt - 1);
  if (!generating) steps.update();
  $("map").hidden = choice.symbol === null;
  if ($("map").hidden) return;
  const here = Array.from({ length: net.H }, (_, unit) => valueAt(mark, unit));
  map.draw(here.map(() => ""), here, scaleOf(choice.symbol, here));
  map.setMark(choice.unit);
}

function show() {
  paint();
  view.scrollTo(spanAt(story.mark));
  $("ending").hidden = !story.ended;
  $("status").textContent = story.ids.length ? `${spanAt(story.ids.length).toLocaleString("en")} characters` : "";
  if (generating) return;
  showNext();
  document.dispatchEvent(new CustomEvent("story", { detail: vocabulary.texts(story.ids).join("") })); // web/tunes.js
}

// About a span.
function showDetail(at) {
  const { ids, nats, traces } = story, k = at < 0 ? at : idAt(at);
  const value = choice.symbol && traces[k] ? valueAt(k + 1, choice.unit) : undefined;
  const inside = at - spanAt(k), isPiece = pieces && ids[k] >= storycell.RESERVED;
  const text = () => (isPiece ? Array.from(pieces.texts[ids[k]])[inside] : textOf(ids[k]));
  $("detail").textContent = k in ids ? describe(text(), pieces ? nats[k][inside] : nats[k], choice, value) : "";
}

// A character as the page names it; a byte that is none by itself is named by its number.
function textOf(id) {
  if (id === storycell.BOUNDARY) return "story boundary";
  if (pieces) return pieces.texts[id];
  return model.kind === "bytes" && id >= 130 ? `0x${(id - 2).toString(16)}` : vocabulary.characters[id - 2];
}

function showNext() {
  if (story.open && story.mark === story.ids.length) {
    net.logits(traceAt(story.mark), logits);
    showChoices($("choices"), pieces.waysOn(story.open, story.open.rows, pieces.logs(logits)).slice(0, CHOICES), ({ ids }) => choose(ids));
    return;
  }
  const probabilities = expected(story.mark);
  const ranked = Array.from(probabilities.keys()).filter((id) => id !== storycell.UNKNOWN);
  ranked.sort((a, b) => probabilities[b] - probabilities[a]);
  showChoices($("choices"), ranked.slice(0, CHOICES).map((id) => ({
    id, probability: probabilities[id], isActual: story.ids[story.mark] === id,
    text: id === storycell.BOUNDARY ? null : textOf(id),
  })), ({ id }) => choose([id]));
}

const steps = offerSteps($("step"), {
  model, net: plain, vocabulary, textOf,
  place: () => [story.mark - 1, story.ids.length],
  idAt: (at) => (at < 0 ? firstId : story.ids[at]),
  traceBefore: (at) => (at < 0 ? beforeFirst : traceAt(at)),
  onMove: (at) => moveTo(at + 1),
});

function pickUnit(unit) {
  choice.unit = unit;
  paint();
}

// ---- The engine ----

const nets = {}; // by precision
let isSteered = false; // then the plain network alone computes what is shown

function useEngine(engine) {
  if (isSteered) net = plain;
  if (isSteered || engine === null) return;
  const precision = $("precision").value;
  net = nets[precision] ??= engineNet(engine, plain, precision);
}

const engineIsThere = loadEngine().then((engine) => {
  useEngine(engine);
  $("precision").addEventListener("change", () => useEngine(engine));
  $("precision").closest("label").hidden = engine === null;
  return engine;
});

// A change of the dose generates as much as there was, from the same prompt and seed.
offerSteering($("steering"), {
  steer: model.steer, net: plain,
  onChange: async (isOn) => {
    const drawn = spanAt(story.ids.length) - story.given + (generating?.left ?? 0);
    isSteered = isOn;
    useEngine(await engineIsThere);
    stop();
    if (begin() && drawn > 0) start(drawn);
  },
});

// ---- What people do ----

function moveTo(k) {
  stop();
  story.mark = k;
  show();
}

const KEYS = {
  " ": () => (generating ? stop() : start()),
  Enter: () => {
    stop();
    cutAt(story.mark);
    if (story.draw) generateOne();
    show();
  },
  Backspace: back,
  Escape: () => moveTo(story.ids.length),
  "[": () => pickUnit(choice.unit - 1),
  "]": () => pickUnit(choice.unit + 1),
  n: again,
  N: again,
};

document.addEventListener("keydown", (event) => {
  if (event.target === $("prompt") && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!generating) start();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("textarea, input, select") && event.key !== "Escape") return;
  if (event.target.matches("button, summary") && (event.key === " " || event.key === "Enter")) return;
  const digit = /^[1-9]$/.test(event.key) ? $("choices").children[Number(event.key) - 1] : null;
  const isMove = event.target === $("story") || event.key === "ArrowLeft" || event.key === "ArrowRight";
  const from = spanAt(story.mark), to = isMove ? view.keyFrom(from, event, spanAt(story.ids.length)) : null;
  const act = digit && !generating ? () => digit.click() : to !== null ? () => moveTo(idAt(to, to > from)) : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

$("generate").addEventListener("click", () => (generating ? stop() : start()));
$("back").addEventListener("click", back);
$("again").addEventListener("click", again);
showSlider($("temperature"), $("temperature-value"));
showLabels($("labels"), model.labels ?? {}, () => {
  stop();
  begin();
});
offerTheme($("theme"));

if (pieces) {
  $("choices").setAttribute("aria-label", "Likeliest ways on");
  $("story").setAttribute("aria-label", "The text; click a character to go back to its piece");
  $("regex").closest("label").hidden = true;
}
$("about").textContent = model.about;
$("seed").value = newSeed();
begin();
