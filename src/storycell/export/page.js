// The page: a text of which every character keeps its trace, a mark in it, and what stands around.
//
// Everything before the mark is kept; choosing or writing replaces what is behind it. Needs `storycell` of runtime.js.
"use strict";

const model = JSON.parse(document.getElementById("model").textContent);
const weightsText = document.getElementById("weights");
const net = storycell.network({ ...model, text: weightsText.textContent });
const vocabulary = new storycell.Vocabulary(model);
weightsText.remove();

const $ = (id) => document.getElementById(id);
const CHOICES = 9;
const LONGEST = Math.floor((96 << 20) / (4 * net.newTrace().length)); // characters whose traces fit into 96 MB
const NAMES = {
  i: "input gate", f: "forget gate", g: "candidate", o: "output gate", c: "cell state", h: "output",
  r: "reset gate", z: "update gate", n: "candidate",
};
const GATES = "ifo" + "rz"; // from 0 to 1; the rest is from -1 to 1

// ---- The text ----

const first = net.newTrace(); // after the boundary that every text begins with
net.step(storycell.BOUNDARY, null, first);

const story = { prompt: null, seed: null, draw: null, ids: [], traces: [], nats: [], given: 0, mark: 0, ended: false };
const logits = new Float64Array(net.V), shares = new Float64Array(net.V);

const traceAt = (k) => (k ? story.traces[k - 1] : first); // after k characters

function expected(k) {
  net.logits(traceAt(k), logits);
  return storycell.probabilities(logits, 1, shares);
}

function append(id) {
  const k = story.ids.length;
  story.nats.push(-Math.log(expected(k)[id]));
  const trace = net.newTrace();
  net.step(id, traceAt(k), trace);
  story.ids.push(id);
  story.traces.push(trace);
  story.mark = k + 1;
}

function cutAt(k) {
  story.ids.length = story.traces.length = story.nats.length = story.mark = k;
  story.given = Math.min(story.given, k);
  story.ended = false;
  dirty = Math.min(dirty, k);
}

// Begins anew from the box and the seed; false, with a word why, if that cannot be.
function begin() {
  const prompt = $("prompt").value, seed = $("seed").value.trim();
  const { ids, strangers } = vocabulary.encode(prompt);
  const unknown = strangers.map((c) => `“${c}”`).join(" ");
  if (strangers.length) return trouble(`The model does not know ${unknown}; write the beginning without.`);
  if (!storycell.isSeed(seed)) return trouble("A seed is a whole number from 0 to 18446744073709551615.");
  if (ids.length >= LONGEST) return trouble(`A beginning has at most ${LONGEST.toLocaleString("en")} characters here.`);
  trouble("");
  cutAt(0);
  for (const id of ids) append(id);
  Object.assign(story, { prompt, seed, draw: new storycell.Draw(seed), given: ids.length });
  show();
  return true;
}

function trouble(sentence) {
  $("trouble").textContent = sentence;
  $("trouble").hidden = !sentence;
  return false;
}

// One character behind the mark, drawn; false when the text has ended or is full.
function writeOne() {
  if (story.mark >= LONGEST) {
    trouble(`A text has at most ${LONGEST.toLocaleString("en")} characters here; begin another.`);
    return false;
  }
  net.logits(traceAt(story.mark), logits);
  const id = storycell.choose(logits, Number($("temperature").value), story.draw);
  story.ended = id === storycell.BOUNDARY;
  if (!story.ended) append(id);
  return !story.ended;
}

// ---- Writing, a little in every frame ----

let writing = null; // {left, began, at, owed} while it writes

// Drops what is behind the mark; or begins anew, where the box or the seed has changed.
function ready() {
  const changed = story.prompt !== $("prompt").value || story.seed !== $("seed").value.trim();
  if (changed || !story.draw) return begin();
  cutAt(story.mark);
  return true;
}

function start() {
  if (story.ended && story.mark === story.ids.length) $("seed").value = newSeed();
  if (!ready()) return;
  writing = { left: Math.max(1, Number($("chars").value) || 1), written: 0, busy: 0, at: performance.now(), owed: 1 };
  $("write").textContent = "Stop";
  requestAnimationFrame(frame);
}

function frame(now) {
  if (!writing) return;
  const pace = Number($("pace").value), began = performance.now();
  writing.owed = pace ? Math.min(writing.owed + ((now - writing.at) / 1000) * pace, 10) : Infinity;
  writing.at = now;
  let goes = true;
  while (goes && writing.left > 0 && writing.owed >= 1 && performance.now() - began < 14) {
    goes = writeOne();
    writing.left--;
    writing.owed--;
    writing.written += goes ? 1 : 0;
  }
  writing.busy += performance.now() - began;
  show();
  if (goes && writing.left > 0) requestAnimationFrame(frame);
  else stop();
}

function stop() {
  if (!writing) return;
  const rate = Math.round(writing.written / Math.max(writing.busy / 1000, 1e-6));
  const speed = writing.written > 99 ? `, ${rate.toLocaleString("en")} a second` : "";
  writing = null;
  $("write").textContent = "Write";
  show();
  $("status").textContent += speed;
}

function choose(id) {
  stop();
  cutAt(story.mark);
  story.ended = id === storycell.BOUNDARY;
  if (!story.ended) append(id);
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

const newSeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0]);

// ---- Showing ----

const spans = []; // one for each character

function show() {
  const texts = vocabulary.isBytes ? vocabulary.texts(story.ids) : null; // a byte may complete the one before
  while (spans.length > story.ids.length) spans.pop().remove();
  const fresh = document.createDocumentFragment(), from = spans.length;
  for (let k = from; k < story.ids.length; k++) {
    const span = document.createElement("span");
    spans.push(span);
    fresh.append(span);
  }
  $("story").append(fresh);
  for (let k = Math.min(from, dirty); k < spans.length; k++) {
    spans[k].textContent = texts ? texts[k] : vocabulary.texts([story.ids[k]])[0];
    paint(k);
  }
  dirty = Infinity;
  placeMark();
  $("ending").hidden = !story.ended;
  $("status").textContent = story.ids.length ? `${story.ids.length.toLocaleString("en")} characters` : "";
  if (!writing) showChoices();
  drawMap();
}

let dirty = Infinity; // the first character whose text or colour is out of date
let marked = { at: -1, length: -1 };

function placeMark() {
  const { mark } = story, length = spans.length;
  if (marked.at < marked.length || mark < length) {
    spans.forEach((span, k) => {
      span.classList.toggle("after", k >= mark);
      span.classList.toggle("mark", k === mark);
    });
  }
  marked = { at: mark, length };
  const last = spans[Math.min(mark, length - 1)], box = $("story");
  if (!last) return;
  const top = last.offsetTop - box.offsetTop;
  if (top > box.scrollTop + box.clientHeight - 60 || top < box.scrollTop) box.scrollTop = top - box.clientHeight / 2;
}

function showChoices() {
  const probabilities = expected(story.mark);
  const ranked = [...probabilities.keys()].filter((k) => k !== storycell.UNKNOWN);
  ranked.sort((a, b) => probabilities[b] - probabilities[a]);
  $("choices").replaceChildren(...ranked.slice(0, CHOICES).map((id, n) => {
    const button = document.createElement("button"), share = probabilities[id];
    const parts = ["b", "small", "i"].map((tag) => document.createElement(tag));
    parts[0].textContent = shown(id);
    parts[1].textContent = share >= 0.0995 ? `${Math.round(100 * share)} %` : `${(100 * share).toFixed(1)} %`;
    parts[2].style.width = `${100 * share}%`;
    button.append(...parts);
    button.title = `key ${n + 1}`;
    button.classList.toggle("actual", story.ids[story.mark] === id);
    button.addEventListener("click", () => choose(id));
    return button;
  }));
}

function shown(id) {
  if (id === storycell.BOUNDARY) return "end";
  const text = model.kind === "bytes" && id >= 130 ? "0x" + (id - 2).toString(16) : vocabulary.characters[id - 2];
  return { " ": "␣", "\n": "↵", "\t": "⇥" }[text] ?? text;
}

// ---- Colours ----

const shade = { kind: "surprise", layer: 0, name: "", unit: 0 };

function valueAt(trace, unit) {
  const value = trace[net.placeOf(shade.layer, shade.name, unit)];
  return shade.name === "c" ? Math.tanh(value) : value;
}

function colour(value) {
  if (shade.kind === "surprise") return `hsl(28 95% 50% / ${0.8 * Math.min(value / 5, 1)})`;
  if (GATES.includes(shade.name)) return `hsl(168 80% 40% / ${0.8 * value})`;
  return value < 0 ? `hsl(350 80% 55% / ${-0.8 * value})` : `hsl(210 90% 55% / ${0.8 * value})`;
}

function paint(k) {
  const value = shade.kind === "surprise" ? story.nats[k] : shade.kind ? valueAt(story.traces[k], shade.unit) : 0;
  spans[k].style.backgroundColor = shade.kind ? colour(value) : "";
  spans[k].classList.toggle("given", k < story.given);
}

function repaint() {
  spans.forEach((_, k) => paint(k));
  const isUnit = shade.kind === "unit", scale = $("scale");
  scale.className = isUnit ? (GATES.includes(shade.name) ? "gate" : "value") : shade.kind;
  const ends = { surprise: ["expected", "surprising"], gate: ["0", "1"], value: ["−1", "+1"] }[scale.className] ?? ["", ""];
  $("low").textContent = ends[0];
  $("high").textContent = shade.name === "c" && isUnit ? "+1 (tanh)" : ends[1];
  scale.hidden = !shade.kind;
  $("unitbox").hidden = $("map").hidden = !isUnit;
  $("unit").value = shade.unit;
  drawMap();
}

function fillShades() {
  const options = [["", "nothing"], ["surprise", "surprise"]];
  for (let l = 0; l < net.L; l++)
    for (const name of net.values) options.push([`${l} ${name}`, `layer ${l + 1}: ${NAMES[name]} ${name}`]);
  $("shade").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  $("shade").value = "surprise";
  $("unit").max = net.H - 1;
}

function pickShade() {
  const [layer, name] = $("shade").value.split(" ");
  Object.assign(shade, name ? { kind: "unit", layer: Number(layer), name } : { kind: layer, name: "" });
  repaint();
}

function pickUnit(unit) {
  shade.unit = ((Math.round(unit) || 0) + net.H) % net.H;
  repaint();
}

// ---- The map of units ----

const map = $("map");

function mapShape() {
  const columns = Math.min(net.H, innerWidth < 560 ? 16 : 32), rows = Math.ceil(net.H / columns);
  return { columns, rows };
}

function drawMap() {
  if (map.hidden) return;
  const { columns, rows } = mapShape(), width = map.clientWidth || 300, side = width / columns;
  const dots = devicePixelRatio || 1, height = Math.round(side * rows * (side > 24 ? 0.6 : 1));
  if (map.width !== Math.round(width * dots) || map.height !== Math.round(height * dots)) {
    map.width = Math.round(width * dots);
    map.height = Math.round(height * dots);
  }
  const context = map.getContext("2d"), w = map.width / columns, h = map.height / rows;
  context.clearRect(0, 0, map.width, map.height);
  for (let unit = 0; unit < net.H; unit++) {
    const x = (unit % columns) * w, y = Math.floor(unit / columns) * h;
    context.fillStyle = colour(valueAt(traceAt(story.mark), unit));
    context.fillRect(x + 0.5, y + 0.5, w - 1, h - 1);
    if (unit !== shade.unit) continue;
    context.strokeStyle = getComputedStyle(document.body).color;
    context.lineWidth = 2 * dots;
    context.strokeRect(x + dots, y + dots, w - 2 * dots, h - 2 * dots);
  }
}

function unitUnder(event) {
  const { columns, rows } = mapShape(), box = map.getBoundingClientRect();
  const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
  const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
  return Math.max(0, Math.min(row * columns + column, net.H - 1));
}

// ---- What people do ----

function move(by) {
  stop();
  story.mark = Math.max(0, Math.min(story.mark + by, story.ids.length));
  show();
}

const KEYS = {
  " ": () => (writing ? stop() : start()),
  Enter: () => {
    stop();
    cutAt(story.mark);
    if (story.draw) writeOne();
    show();
  },
  Backspace: back,
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  Escape: () => move(Infinity),
  "[": () => pickUnit(shade.unit - 1),
  "]": () => pickUnit(shade.unit + 1),
  n: again,
  N: again,
};

document.addEventListener("keydown", (event) => {
  if (event.target === $("prompt") && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!writing) start();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("textarea, input, select") && event.key !== "Escape") return;
  if (event.target.matches("button, summary") && (event.key === " " || event.key === "Enter")) return;
  const digit = /^[1-9]$/.test(event.key) ? $("choices").children[Number(event.key) - 1] : null;
  const act = digit && !writing ? () => digit.click() : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

$("story").addEventListener("click", (event) => {
  const k = spans.indexOf(event.target);
  if (k < 0 || String(getSelection())) return; // a selection is for copying
  stop();
  story.mark = k;
  show();
});

$("story").addEventListener("mouseover", (event) => {
  const k = spans.indexOf(event.target);
  if (k < 0) return;
  const unit = shade.kind === "unit" ? `; unit ${shade.unit}: ${valueAt(story.traces[k], shade.unit).toFixed(3)}` : "";
  const likely = (100 * Math.exp(-story.nats[k])).toPrecision(2);
  spans[k].title = `${shown(story.ids[k])}  ${likely} %, surprise ${story.nats[k].toFixed(2)} nats${unit}`;
});

$("write").addEventListener("click", () => (writing ? stop() : start()));
$("back").addEventListener("click", back);
$("again").addEventListener("click", again);
$("shade").addEventListener("change", pickShade);
$("unit").addEventListener("change", () => pickUnit(Number($("unit").value)));
$("earlier").addEventListener("click", () => pickUnit(shade.unit - 1));
$("later").addEventListener("click", () => pickUnit(shade.unit + 1));
$("temperature").addEventListener("input", showWarmth);
map.addEventListener("click", (event) => pickUnit(unitUnder(event)));
addEventListener("resize", drawMap);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);

function showWarmth() {
  $("warmth").textContent = Number($("temperature").value).toFixed(2);
}

$("about").textContent = model.about;
$("seed").value = newSeed();
showWarmth();
fillShades();
pickShade();
begin();
