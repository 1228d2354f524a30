// A model that generates, scores and is looked into, computed by the engine: what JavaScript gets of one, by the npm package
// (integrations/npm) and by the packages that `storycell export --npm` writes. The file `modules.js` beside this one, which both
// make, holds the engine's two modules as text.

import { Engine } from "./engine.js";
import { BOUNDARY, Characters, plainText, UNKNOWN } from "./learn/corpus.js";
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

export class Model {
  #network;
  #generator;

  // From a run folder: the bytes of its zip, or {name: bytes} of its files. `precision` "int8" generates faster.
  static async load(run, { precision = "fp32" } = {}) {
    const engine = await theEngine(), files = run instanceof Uint8Array ? await unzip(run) : run;
    for (const name of ["config.json", "vocab.json", "model.safetensors"])
      if (!files[name]) throw new Error(`the run folder has no ${name}`);
    const { settings: { model }, text } = JSON.parse(decoder.decode(files["config.json"])), vocab = Characters.fromJson(decoder.decode(files["vocab.json"]));
    const shape = {
      cell: model.cell, layers: model.layers, units: model.hidden, characters: vocab.size, embedding: model.embedding,
      ngrams: model.ngrams ?? 0, ngramRows: model.ngram_rows, matches: model.matches ?? 0,
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
    const plain = plainText(text), ids = this.vocab.encode(plain), stranger = ids.indexOf(UNKNOWN);
    if (stranger >= 0) throw new Error(`the model does not know “${Array.from(plain)[stranger]}”; leave it out`);
    return ids;
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
    const ids = [BOUNDARY, ...this.#header(labels), ...this.#ids(prompt)], choice = { temperature, top_k: topK, top_p: topP, min_p: minP, greedy: greedy ? 1 : 0 };
    const random = wordsOf(seed);
    let state = ids.length > 1 ? this.#network.read(ids.slice(0, -1), null).state : null, last = ids.at(-1);
    for (let left = chars; left > 0; left -= 32) {
      const drawn = this.#generator.generate(last, Math.min(left, 32), state, choice, random);
      for (const id of drawn.ids) {
        if (id === BOUNDARY) return;
        yield this.vocab.text(id);
      }
      state = drawn.state;
      last = drawn.ids.at(-1);
    }
  }

  // Nats of each character of a text.
  score(text) {
    const ids = this.#ids(text);
    return ids.length ? this.#network.read([BOUNDARY, ...ids.slice(0, -1)], ids).nats : new Float32Array();
  }

  // States after each character of a text: {h, c} of [L, T, H], c of lstm.
  trace(text) {
    const { hiddens: h, cells: c } = this.#network.read(this.#ids(text), null, { wantsStates: true });
    return c ? { h, c } : { h };
  }

  free() {
    if (this.#generator !== this.#network) this.#generator.free();
    this.#network.free();
  }
}
