// A model that generates, scores and is looked into, computed by the engine: what JavaScript gets of one, by the npm package
// (integrations/npm) and by the packages that `storycell export --npm` writes. The file `modules.js` beside this one, which both
// make, holds the engine's two modules as text.

import { Engine } from "./engine.js";
import { BOUNDARY, Characters, plainText, UNKNOWN } from "./learn/corpus.js";
import { Pieces } from "./pieces.js";
import { readTensors, unzip, weightsOf } from "./learn/run_folder.js";

const decoder = new TextDecoder();
const LABEL_END = "\x1f"; // behind the value of each label, in the header that a story begins with
let loading = null;

// One engine for all models of this thread; `Error` where there is no WebAssembly with vectors.
export async function theEngine() {
  loading ??= import("./modules.js").then(({ simd, relaxed }) => {
    const bytes = (text) => Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0));
    return Engine.load({ simd: bytes(simd), relaxed: bytes(relaxed) });
  });
  const engine = await loading;
  if (!engine) throw new Error("storycell needs WebAssembly with vectors of 128 bits: a newer browser or runtime has it");
  return engine;
}

// The vocabulary of vocab.json: `Characters`, or `Pieces` of words.
function vocabularyOf(text) {
  const stored = JSON.parse(text);
  return stored.kind === "pieces" ? new Pieces({ ...stored, characters: stored.characters.join("") }) : Characters.fromJson(text);
}

// The four words of xoshiro128++ that storycell draws from a seed of 64 bits (splitmix64).
function wordsOf(seed) {
  const mask = (1n << 64n) - 1n, words = new Uint32Array(4);
  let state = BigInt(seed) & mask;
  for (let k = 0; k < 4; k += 2) {
    state = (state + 0x9e3779b97f4a7c15n) & mask;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
    z ^= z >> 31n;
    words[k] = Number(z & 0xffffffffn);
    words[k + 1] = Number(z >> 32n);
  }
  return words;
}

// A number from 0 to 1 of that generator, whose words are moved on.
function drawnFrom(words) {
  const rotated = (x, k) => ((x << k) | (x >>> (32 - k))) >>> 0;
  const drawn = (rotated((words[0] + words[3]) >>> 0, 7) + words[0]) >>> 0, t = words[1] << 9;
  words[2] ^= words[0];
  words[3] ^= words[1];
  words[1] ^= words[2];
  words[0] ^= words[3];
  words[2] ^= t;
  words[3] = rotated(words[3], 11);
  return drawn / 4294967296;
}

// One of some ways by the logarithms of their probabilities, as the engine draws an id: see `Sampling` of generation/sampler.py.
function chosenAmong(scores, { temperature, top_k, top_p, min_p, greedy }, random) {
  const rounded = scores.map(Math.fround), best = Math.max(...rounded);
  if (greedy || temperature === 0) return rounded.indexOf(best);
  const weights = rounded.map((score) => Math.exp((score - best) / temperature));
  const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a] || a - b);
  if (top_k) for (const k of order.slice(top_k)) weights[k] = 0;
  if (top_p < 1) {
    const mass = weights.reduce((sum, weight) => sum + weight, 0);
    let sum = 0;
    for (const k of order) {
      const weight = weights[k];
      if (sum > 0 && sum >= top_p * mass) weights[k] = 0;
      sum += weight;
    }
  }
  if (min_p) for (const k of order) if (weights[k] < min_p * weights[order[0]]) weights[k] = 0;
  let total = 0;
  const sums = weights.map((weight) => (total += weight)), point = drawnFrom(random) * total;
  return Math.min(sums.filter((sum) => sum <= point).length, scores.length - 1);
}

export class Model {
  #network;
  #generator;

  // From a run folder: the bytes of its zip, or {name: bytes} of its files. `precision` "int8" generates faster.
  static async load(run, { precision = "fp32" } = {}) {
    const engine = await theEngine(), files = run instanceof Uint8Array ? await unzip(run) : run;
    for (const name of ["config.json", "vocab.json", "model.safetensors"])
      if (!files[name]) throw new Error(`the run folder has no ${name}`);
    const { settings: { model }, text } = JSON.parse(decoder.decode(files["config.json"])), vocab = vocabularyOf(decoder.decode(files["vocab.json"]));
    const shape = {
      cell: model.cell, layers: model.layers, units: model.hidden, characters: vocab.size, embedding: model.embedding,
      ngrams: model.ngrams ?? 0, ngramRows: model.ngram_rows, matches: model.matches ?? 0,
      gateNorm: model.gate_norm ?? false,
    };
    return new Model(engine, shape, weightsOf(readTensors(files["model.safetensors"]).tensors), vocab, precision, text?.labels);
  }

  // `labels` are those that stories can be asked for by, each with its values, the most frequent one first.
  constructor(engine, shape, weights, vocab, precision = "fp32", labels = {}) {
    this.shape = shape;
    this.vocab = vocab;
    this.labels = labels;
    this.#network = engine.createNetwork(shape, weights);
    this.#generator = precision === "fp32" ? this.#network : engine.createNetwork(shape, weights, precision);
  }

  #ids(text) {
    return this.vocab.encode(this.#known(text));
  }

  // A text as it is read; an `Error` names what the model does not know.
  #known(text) {
    const plain = plainText(text), stranger = Array.from(plain).find((c) => !this.vocab.ids.has(c));
    if (stranger !== undefined) throw new Error(`the model does not know “${stranger}”; leave it out`);
    return plain;
  }

  // The ids of what stands before a story with these labels; of one that is not given the most frequent value is taken.
  #header(given) {
    for (const [name, value] of Object.entries(given)) {
      const values = this.labels[name];
      if (!values) throw new Error(`the model has no label ${name}; it knows ${Object.keys(this.labels).join(", ") || "none"}`);
      if (values.length && !values.includes(value)) throw new Error(`the model knows no ${name} ${value}; it knows ${values.join(", ")}`);
    }
    return this.#ids(Object.entries(this.labels).map(([name, values]) => (given[name] ?? values[0] ?? "") + LABEL_END).join(""));
  }

  // The prompt and what follows it; of one seed always the same, and the same as in Python.
  generate(prompt = "", options = {}) {
    return plainText(prompt) + [...this.stream(prompt, options)].join("");
  }

  // What follows a prompt, character by character.
  *stream(prompt = "", { chars = 500, temperature = 0.8, topK = 0, topP = 1, minP = 0, greedy = false, seed = 0, labels = {} } = {}) {
    const pieces = this.vocab instanceof Pieces ? this.vocab : null, head = [BOUNDARY, ...this.#header(labels)];
    const { settled, open } = pieces ? pieces.settle(this.#known(prompt)) : { settled: this.#ids(prompt), open: null };
    const ids = [...head, ...settled], choice = { temperature, top_k: topK, top_p: topP, min_p: minP, greedy: greedy ? 1 : 0 };
    const random = wordsOf(seed);
    let state = ids.length > 1 ? this.#network.read(ids.slice(0, -1), null).state : null, last = ids.at(-1), left = chars;
    if (open && left > 0) {
      const begun = this.#begin(open, last, state, choice, random), beyond = Array.from(begun.beyond).slice(0, left);
      yield* beyond;
      left -= beyond.length;
      ({ state, last } = begun);
    }
    while (left > 0) {
      const drawn = this.#generator.generate(last, Math.min(left, 32), state, choice, random);
      for (const id of drawn.ids) {
        if (id === BOUNDARY) return;
        const shown = pieces ? Array.from(pieces.texts[id]).slice(0, left) : [this.vocab.text(id)];
        yield* shown;
        left -= shown.length;
        if (left <= 0) return;
      }
      state = drawn.state;
      last = drawn.ids.at(-1);
    }
  }

  // Draws how the end of a prompt goes on whose pieces are open: {last, state, beyond}, what is fed next, the state before it, and
  // the text that it adds to the prompt.
  #begin(open, last, state, choice, random) {
    const states = [], rows = [];
    let before = state;
    open.usual.forEach((id, k) => {
      const read = this.#network.step(k ? open.usual[k - 1] : last, before);
      rows.push(this.vocab.logs(read.logits));
      states.push((before = read.state));
    });
    const ways = this.vocab.beginnings(open, rows);
    const { ids } = ways[chosenAmong(ways.map(({ score }) => score), choice, random)];
    return { last: ids.at(-1), state: states[ids.length - 1], beyond: this.vocab.textOf(ids).slice(open.text.length) };
  }

  // Nats of each character of a text.
  score(text) {
    const ids = this.#ids(text);
    if (this.vocab instanceof Pieces) return this.#spell(ids);
    return ids.length ? this.#network.read([BOUNDARY, ...ids.slice(0, -1)], ids).nats : new Float32Array();
  }

  // The loss of pieces, split over their characters.
  #spell(ids) {
    let state = null;
    return Float32Array.from(ids.flatMap((id, k) => {
      const read = this.#network.step(k ? ids[k - 1] : BOUNDARY, state);
      state = read.state;
      return this.vocab.spell(this.vocab.logs(read.logits, { unknown: true }), id);
    }));
  }

  // States after each character of a text: {h, c} of [L, T, H], c of lstm. Of a piece they are those once it was read.
  trace(text) {
    const ids = this.#ids(text), { hiddens: h, cells: c } = this.#network.read(ids, null, { wantsStates: true });
    const spread = this.vocab instanceof Pieces ? (values) => this.#spread(values, ids) : (values) => values;
    return c ? { h: spread(h), c: spread(c) } : { h: spread(h) };
  }

  // Values of pieces, [L, T, H], for each of their characters.
  #spread(values, ids) {
    const { layers, units } = this.shape, lengths = ids.map((id) => this.vocab.lengths[id]);
    const out = new Float32Array(layers * units * lengths.reduce((sum, n) => sum + n, 0));
    let at = 0;
    for (let l = 0; l < layers; l++)
      lengths.forEach((length, k) => {
        const from = (l * ids.length + k) * units;
        for (let n = 0; n < length; n++, at += units) out.set(values.subarray(from, from + units), at);
      });
    return out;
  }

  free() {
    if (this.#generator !== this.#network) this.#generator.free();
    this.#network.free();
  }
}
