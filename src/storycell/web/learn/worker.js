// The worker of the learning page: the engine and one trainer, driven by messages, {type, …}. It answers with what the page
// shows, and keeps the run in the browser (IndexedDB) so that it is there after a reload.

import { Engine } from "../engine.js";
import { Characters } from "./corpus.js";
import { readTensors, weightsOf } from "./run_folder.js";
import { Trainer } from "./trainer.js";

const TURN_MS = 40; // learning between two looks at the messages
const TOLD_MS = 200, SHOWN_MS = 2000, LOOK_MS = 3000, KEPT_MS = 5000;
const LOOK_SHARE = 20, KEPT_SHARE = 20; // evaluating, and keeping, takes at most one part of so many

let engine = null, donor = null, trainer = null, running = false, turning = false;
let shows = "sample"; // or "held out"
const due = { told: 0, shown: 0, look: 0, kept: 0 };
let fresh = []; // [step, nats] since the page was told
let pace = { step: 0, at: 0, rate: 0 };

const say = (type, content = {}, moved = []) => postMessage({ type, ...content }, moved);
const { port1, port2 } = new MessageChannel();
const nextTurn = () => new Promise((resolve) => { port1.onmessage = resolve; port2.postMessage(0); });

// ---- What is kept in the browser ----

const database = () => new Promise((resolve, reject) => {
  const asked = indexedDB.open("storycell-learn", 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore("runs");
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => reject(asked.error);
});

async function inStore(mode, act) {
  const opened = await database();
  try {
    return await new Promise((resolve, reject) => {
      const work = opened.transaction("runs", mode), asked = act(work.objectStore("runs"));
      work.oncomplete = () => resolve(asked.result);
      work.onerror = work.onabort = () => reject(work.error);
    });
  } finally {
    opened.close();
  }
}

// Whether the run that is kept is this page's: another window may be learning it. The lock goes with the page; one that
// is loaded again may come before the old one's is gone.
const OWNS_MS = 1000;
const owns = new Promise((resolve) => {
  if (!navigator.locks) return resolve(true);
  const held = () => { resolve(true); return new Promise(() => {}); };
  navigator.locks.request("storycell-learn", { signal: AbortSignal.timeout(OWNS_MS) }, held).catch(() => resolve(false));
});

// Browsers may refuse to keep anything, as in a private window: the page then does without.
async function keep() {
  if (!trainer) return;
  if (!(await owns)) {
    due.kept = performance.now() + KEPT_MS;
    return say("not kept");
  }
  const began = performance.now(), { step } = trainer, run = { bytes: trainer.save(), running };
  await inStore("readwrite", (store) => store.put(run, "current")).then(() => say("kept", { step }), () => say("not kept"));
  due.kept = performance.now() + Math.max(KEPT_MS, KEPT_SHARE * (performance.now() - began));
}
const kept = async () => ((await owns) ? inStore("readonly", (store) => store.get("current")).catch(() => null) : null);
const forget = async () => ((await owns) ? inStore("readwrite", (store) => store.delete("current")).catch(() => null) : null);

// ---- Learning ----

function tell() {
  const now = performance.now();
  if (running && now - pace.at > 500) {
    const rate = ((trainer.step - pace.step) * trainer.B * trainer.T) / ((now - pace.at) / 1000);
    pace = { step: trainer.step, at: now, rate: pace.rate ? 0.7 * pace.rate + 0.3 * rate : rate };
  }
  say("progress", {
    step: trainer.step, chars: trainer.chars, charsPerS: running ? pace.rate : 0, rate: trainer.rate, spent: trainer.spent, points: fresh,
    elapsed_s: trainer.elapsed_s, isDone: trainer.isDone, running, memoryBytes: engine.memoryBytes,
  });
  fresh = [];
}

function show() {
  const seen = shows === "sample" ? trainer.sample() : trainer.readHeldOut();
  if (shows === "sample") trainer.addSample(seen);
  const moved = [seen.nats, seen.hiddens, seen.cells].filter(Boolean).map((array) => array.buffer);
  say("text", { texts: seen.texts, given: seen.given, nats: seen.nats, hiddens: seen.hiddens, cells: seen.cells, step: trainer.step, shows }, moved);
}

function look() {
  const began = performance.now(), { step, valid_nats } = trainer.look();
  say("look", { step, nats: valid_nats });
  due.look = performance.now() + Math.max(LOOK_MS, LOOK_SHARE * (performance.now() - began));
}

function learnOne() {
  const nats = trainer.learn();
  if (Number.isFinite(nats)) fresh.push([trainer.step, nats]);
}

async function turn() {
  if (turning) return;
  turning = true;
  pace = { step: trainer.step, at: performance.now(), rate: 0 };
  while (running && !trainer.isDone) {
    const end = performance.now() + TURN_MS;
    while (performance.now() < end && !trainer.isDone) learnOne();
    const now = performance.now(), isDue = (what, every) => now >= due[what] && (due[what] = now + every);
    if (isDue("told", TOLD_MS)) tell();
    if (isDue("look", LOOK_MS)) look();
    if (isDue("shown", SHOWN_MS)) show();
    if (now >= due.kept) await keep();
    await nextTurn();
  }
  turning = false;
  if (!trainer) return;
  const finished = running && trainer.isDone;
  running = false;
  if (finished) look();
  tell();
  show();
  await keep();
  if (finished) say("done", { nats: trainer.evaluate(Infinity), steps: trainer.settings.steps });
}

// Learn on, beside the messages; what goes wrong is told, and learning can begin again.
function start() {
  running = true;
  turn().catch((error) => {
    running = turning = false;
    say("trouble", { sentence: error.message });
    if (trainer) tell();
  });
}

function take(made, { text = "", wasRunning = false } = {}) {
  trainer?.free();
  trainer = made;
  fresh = [];
  Object.assign(due, { told: 0, shown: 0, look: 0, kept: performance.now() + KEPT_MS });
  const { data, settings, shape, B, T } = trainer;
  say("begun", {
    settings, shape, B, T, parameters: trainer.parameters, characters: data.vocab.characters.length, stories: data.stories,
    trainChars: data.trainChars, validChars: data.validChars, step: trainer.step, isa: engine.isa, text, wasRunning,
    curve: trainer.metrics.map(({ step, train_nats: train, valid_nats: valid }) => ({ step, train, valid })),
  });
  tell();
  show();
}

async function goOn(bytes, { text = null, wasRunning = false } = {}) {
  const opened = await Trainer.open(engine, bytes, text);
  take(opened, { text: opened.data.text, wasRunning });
}

// ---- Messages ----

const ACTS = {
  async load({ modules, weights, vocab, shape }) {
    engine = await Engine.load(modules);
    if (!engine) return say("unable");
    if (weights) donor = { shape, vocab: new Characters(vocab), weights: weightsOf(readTensors(weights).tensors) };
    const run = await kept();
    if (run) {
      try {
        await goOn(run.bytes, { wasRunning: run.running });
      } catch {
        await forget(); // of another version of the page
      }
    }
    say("ready", { isa: engine.isa });
  },
  begin({ text, settings, startsFromDonor }) {
    running = false;
    take(Trainer.begin(engine, text, settings, { donor: startsFromDonor ? donor : null }));
    start();
  },
  async open({ bytes, text }) {
    running = false;
    await goOn(bytes, { text });
    await keep();
  },
  run({ steps }) {
    if (!trainer) return;
    if (steps) trainer.settings.steps = steps;
    start();
  },
  pause() { running = false; },
  step() {
    if (!trainer || running || trainer.isDone) return;
    learnOne();
    tell();
    show();
  },
  rate({ lr }) { if (trainer) trainer.settings.lr = lr; },
  shows({ what }) {
    shows = what;
    if (trainer) show();
  },
  save() { if (trainer) say("saved", { bytes: trainer.save() }); },
  async forget() {
    running = false;
    while (turning) await nextTurn();
    trainer?.free();
    trainer = null;
    await forget();
    say("forgotten");
  },
};

let last = Promise.resolve(); // messages are answered one after another
onmessage = ({ data }) => {
  last = last.then(() => ACTS[data.type](data)).catch((error) => say("trouble", { sentence: error.message }));
};
