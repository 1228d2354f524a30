// `Trainer`: a model that learns a prepared text in steps, evaluates, samples, and becomes a run folder and again a trainer.
//
// Batches, schedule, resets and evaluation are those of storycell's training/ and evaluation/, so that a run of the page is
// one that `storycell train` could have made, and goes on with.

import { drawWeights, product, TABLE, TorchGenerator } from "../engine.js";
import { BOUNDARY, Characters, decoder, encoder, prepare, RESERVED, UNKNOWN } from "./corpus.js";
import { inBytes, packTensors, pythonJson, readTensors, tidy, unzip, weightsOf, zip } from "./run_folder.js";

const EVALUATED_CHARS = 8_000; // on the way; at the end all that is held out
const SAMPLE_CHARS = 240;
const BEGINNING = "Once upon a";

export const DEFAULTS = {
  cell: "lstm", layers: 1, hidden: 128, embedding: 64, ngrams: 0, ngram_rows: 65_536, matches: 16, streams: 16, chunk: 64, lr: 16e-3,
  steps: 4000, seed: 1, reset: 0.03, warmup: 0.02, final_lr: 0.02, weight_decay: 0.05, clip: 1, optimizer: "normuon", schedule: "cosine",
};

const NORMALISED_RATE = 2.5; // gates that are normalised, as an lstm's are here, stand so many times the rate of others

// The learning rate when the share `spent` of the budget is used up.
export function learningRate({ lr, warmup, final_lr, schedule }, spent) {
  if (spent < warmup) return (lr * Math.max(spent, 1e-3 * warmup)) / warmup;
  if (schedule === "constant") return lr;
  const along = Math.min(1, (spent - warmup) / (1 - warmup));
  return lr * (final_lr + (1 - final_lr) * 0.5 * (1 + Math.cos(Math.PI * along)));
}

// The weights of a donor, spread out for a vocabulary that contains its own; what is new is as in the `fresh` ones.
export function transferWeights({ shapes, matches }, fresh, vocab, given, givenVocab) {
  const rows = [BOUNDARY, UNKNOWN, ...givenVocab.characters.map((character) => vocab.ids.get(character))];
  const least = given["output.bias"].subarray(RESERVED).reduce((a, b) => Math.min(a, b)), weights = {};
  for (const [name, drawn] of Object.entries(fresh)) {
    const [, columns = 1] = shapes[name], from = given[name];
    if (name === "embedding.weight" || name.startsWith("output.")) {
      const scale = name === "output.weight" ? Math.fround(0.1) : 1;
      const out = name === "output.bias" ? new Float32Array(drawn.length).fill(least - 2) : drawn.map((x) => x * scale);
      rows.forEach((row, k) => out.set(from.subarray(k * columns, (k + 1) * columns), row * columns));
      weights[name] = out;
    } else if (name === "recurrent.weight_ih_l0" && !("embedding.weight" in fresh)) {
      const out = drawn.slice(), before = from.length / shapes[name][0];
      for (let j = 0; j < shapes[name][0]; j++) rows.forEach((row, k) => { out[j * columns + row] = from[j * before + k]; });
      weights[name] = out;
    } else if (name === TABLE && vocab.size !== givenVocab.size) {
      // Other ids meet other rows of n-grams; the last rows are those of matches, with one character each.
      const out = drawn.slice(), R = shapes[name][0], before = from.length / columns;
      for (let n = 1; n <= matches; n++) {
        const at = before - n * givenVocab.size, to = R - n * vocab.size;
        rows.forEach((row, k) => out.set(from.subarray((at + k) * columns, (at + k + 1) * columns), (to + row) * columns));
      }
      weights[name] = out;
    } else weights[name] = from.slice();
  }
  return weights;
}

export class Trainer {
  // A new model for a text. `settings` are some of DEFAULTS, and gate_norm; `donor` is {weights, vocab, shape} to start from.
  static begin(engine, text, settings = {}, { name = "mine", donor = null } = {}) {
    const data = prepare(text, donor?.vocab ?? null), fitted = { ...DEFAULTS, ...(settings.embedding === 0 ? { matches: 0 } : {}), ...settings };
    if (donor) {
      const { cell, layers, units, embedding, ngrams = 0, ngramRows, matches = 0, gateNorm = false } = donor.shape, gate_bias = "recurrent.bias_ih_l0" in donor.weights;
      Object.assign(fitted, { cell, layers, hidden: units, embedding, ngrams, ngram_rows: ngramRows || DEFAULTS.ngram_rows, matches, gate_bias, gate_norm: gateNorm });
    }
    fitted.gate_norm ??= fitted.cell === "lstm" && (fitted.gate_bias ?? true);
    fitted.lr = settings.lr ?? DEFAULTS.lr / (fitted.gate_norm ? 1 : NORMALISED_RATE) / (donor ? 4 : 1);
    const trainer = new Trainer(engine, data, fitted, name);
    const fresh = drawWeights(trainer.model, fitted.seed);
    trainer.model.write(donor ? transferWeights(trainer.model, fresh, data.vocab, donor.weights, donor.vocab) : fresh);
    trainer.init = donor ? "demo" : null;
    trainer.best = trainer.model.read();
    return trainer;
  }

  // One that goes on with a run folder, from the bytes of its zip; `text` is for folders that have no text.txt.
  static async open(engine, bytes, text = null) {
    const files = await unzip(bytes);
    for (const wanted of ["config.json", "vocab.json", "last.safetensors"])
      if (!files[wanted]) throw new Error(`This zip holds no run to go on with: it has no ${wanted}.`);
    const read = (name) => (files[name] ? decoder.decode(files[name]) : "");
    const config = JSON.parse(read("config.json")), known = Characters.fromJson(read("vocab.json"));
    const raw = files["text.txt"] ? read("text.txt") : text;
    if (!raw) throw new Error("The run does not hold its text: paste the text that it was trained on, and load it again.");
    const data = prepare(raw, config.init ? known : null);
    if (data.vocab.characters.join("") !== known.characters.join(""))
      throw new Error("The run was trained on another text: its characters are not those of the text here.");
    if (config.settings.training.soft_targets) throw new Error("The run learns from soft targets, which the page does not count: `storycell train --resume` goes on with it.");
    const { model, training } = config.settings, steps = training.steps ?? DEFAULTS.steps;
    const trainer = new Trainer(engine, data, { ...model, ...training, steps }, config.name ?? "mine");
    const { tensors, about } = readTensors(files["last.safetensors"]), { position } = about;
    trainer.model.restore(tensors);
    Object.assign(trainer, {
      init: config.init ?? null, step: position.step, chars: position.chars, elapsed_s: position.elapsed_s, bestNats: about.best_nats ?? Infinity,
      metrics: read("metrics.jsonl").split("\n").filter(Boolean).map((line) => JSON.parse(line)), samples: read("samples.txt"),
      best: weightsOf(readTensors(files["model.safetensors"]).tensors),
    });
    return trainer;
  }

  constructor(engine, data, settings, name) {
    const { cell, layers, hidden: units, embedding, ngrams, ngram_rows: ngramRows, matches = 0, chunk: T } = settings, N = data.train.length;
    if (N < T + 2) throw new Error(`The text has ${(N - 1).toLocaleString("en")} characters to train on, fewer than one chunk of ${T} and the one after it: give more text.`);
    Object.assign(this, { engine, data, settings, name, T, B: Math.min(settings.streams, Math.max(1, Math.floor(N / (T + 1)))) });
    this.shape = { cell, layers, units, characters: data.vocab.size, embedding, ngrams, ngramRows, matches, gateNorm: settings.gate_norm ?? false };
    this.model = engine.createModel({
      ...this.shape, gateBias: settings.gate_bias ?? true, dropout: settings.dropout ?? 0,
      weightDropout: settings.weight_dropout ?? 0, embeddingDropout: settings.embedding_dropout ?? 0,
    });
    this.step = this.chars = this.elapsed_s = 0;
    this.init = null;
    this.bestNats = Infinity;
    this.sum = 0; // of the losses since the last line of the log
    this.counted = 0;
    this.metrics = [];
    this.samples = "";
    this.ids = new Uint16Array(this.B * T);
    this.targets = new Uint16Array(this.B * T);
    this.prompt = data.tellsStories ? BEGINNING : "";
  }

  get spent() { return Math.min(1, this.step / this.settings.steps); }
  get isDone() { return this.step >= this.settings.steps; }
  get rate() { return learningRate(this.settings, this.spent); }

  // One step; its loss in nats, NaN where it was not finite and the weights were left alone.
  learn() {
    const { data: { train }, B, T, step, settings } = this, N = train.length, began = performance.now();
    for (let b = 0; b < B; b++) {
      const start = (Math.floor((b * N) / B) + step * T) % N;
      for (let t = 0; t < T; t++) {
        this.ids[b * T + t] = train[(start + t) % N];
        this.targets[b * T + t] = train[(start + t + 1) % N];
      }
    }
    const seed = BigInt(settings.seed) * 1000003n + BigInt(step);
    const drawn = settings.reset ? new TorchGenerator(seed).uniform(B) : null;
    const resets = drawn && Uint8Array.from(drawn, (x) => (x < Math.fround(settings.reset) ? 1 : 0));
    const { nats } = this.model.gradient(this.ids, this.targets, B, T, { carries: true, resets, seed });
    const { optimizer, clip, weight_decay: decay } = settings;
    const isFinite = this.model.apply({ rate: this.rate, optimizer, clip: clip ?? 0, decay });
    this.step++;
    this.chars += B * T;
    this.elapsed_s += (performance.now() - began) / 1000;
    if (!isFinite) return NaN;
    this.sum += nats;
    this.counted++;
    return nats;
  }

  // The mean loss of what is held out: of every story from the zero state, at most `chars` characters of them.
  evaluate(chars = EVALUATED_CHARS, network = this.model.network()) {
    const { valid, isOneStory } = this.data, starts = [];
    valid.forEach((id, k) => { if (id === BOUNDARY) starts.push(k); });
    let nats = 0, counted = 0;
    for (let k = 0; k < starts.length && counted < chars; k++) {
      const story = valid.subarray(starts[k], Math.min(starts[k + 1] ?? valid.length, starts[k] + chars - counted + 1));
      const targets = isOneStory ? story.slice(1) : Uint16Array.of(...story.subarray(1), BOUNDARY);
      for (const loss of network.read(isOneStory ? story.subarray(0, -1) : story, targets).nats) nats += loss;
      counted += targets.length;
    }
    network.free();
    return counted ? nats / counted : null;
  }

  // Evaluate, keep the weights if they are the best so far, and log.
  look() {
    const nats = this.evaluate();
    if (nats === null || nats < this.bestNats) {
      this.bestNats = nats ?? this.bestNats;
      this.best = this.model.read();
    }
    const entry = {
      step: this.step, elapsed_s: tidy(this.elapsed_s), chars: this.chars, chars_per_s: tidy(this.chars / Math.max(this.elapsed_s, 1e-3)),
      train_nats: this.counted ? tidy(this.sum / this.counted) : null, valid_nats: nats === null ? null : tidy(nats), learning_rate: this.rate,
    };
    this.sum = this.counted = 0;
    this.metrics.push(entry);
    return entry;
  }

  // A text of the model of now: {ids, given, nats, values: {h, c} of [L, T, H]}.
  sample({ chars = SAMPLE_CHARS, temperature = 0.8, seed = this.step + 1 } = {}) {
    const network = this.model.network(), given = [BOUNDARY, ...this.data.vocab.encode(this.prompt)];
    let state = null;
    if (given.length > 1) ({ state } = network.read(given.slice(0, -1), null));
    const random = Uint32Array.of(seed, 0x9e3779b9, 0x243f6a88, 0xb7e15162);
    const drawn = network.generate(given.at(-1), chars, state, { temperature }, random).ids, end = drawn.indexOf(BOUNDARY);
    const ids = [...given, ...(end < 0 ? drawn : drawn.slice(0, end))];
    return { ...this.#seen(network, ids), given: given.length - 1 };
  }

  // What the model of now makes of the first `chars` characters that are held out.
  readHeldOut(chars = SAMPLE_CHARS) {
    const { valid, train } = this.data, source = valid.length ? valid : train, end = source.indexOf(BOUNDARY, 1);
    return { ...this.#seen(this.model.network(), Array.from(source.subarray(0, Math.min(chars + 1, end < 0 ? source.length : end)))), given: 0 };
  }

  #seen(network, ids) {
    const read = network.read(ids, [...ids.slice(1), BOUNDARY], { wantsStates: true });
    network.free();
    return { ids: ids.slice(1), texts: ids.slice(1).map((id) => this.data.vocab.text(id)), nats: read.nats, hiddens: read.hiddens, cells: read.cells };
  }

  addSample({ texts }) {
    const { valid_nats: nats } = this.metrics.at(-1) ?? {};
    this.samples += `── step ${this.step.toLocaleString("en")}${nats ? `, validation ${nats.toFixed(4)} nats per character` : ""} ──\n${texts.join("")}\n\n`;
  }

  // ---- The run folder ----

  #config() {
    const { settings: s, data } = this, { isa } = this.engine;
    const model = {
      cell: s.cell, layers: s.layers, hidden: s.hidden, embedding: s.embedding, ngrams: s.ngrams, ngram_rows: s.ngram_rows, matches: s.matches ?? 0,
      dropout: s.dropout ?? 0, weight_dropout: s.weight_dropout ?? 0, embedding_dropout: s.embedding_dropout ?? 0, gate_bias: s.gate_bias ?? true, forget_bias: s.forget_bias ?? -1,
      gate_norm: s.gate_norm ?? false,
    };
    const training = {
      streams: s.streams, chunk: s.chunk, batching: "streams", reset: s.reset, optimizer: s.optimizer, lr: s.lr, schedule: s.schedule,
      warmup: s.warmup, final_lr: s.final_lr, weight_decay: s.weight_decay, clip: s.clip, average: 0, steps: s.steps, chars: null, minutes: null,
      evaluations: s.evaluations ?? 12, save_every: s.save_every ?? 30, seed: s.seed, backend: "native", precision: "fp32", threads: 1, device: "cpu",
    };
    const text = {
      words: ["text.txt"], valid_words: null, encoding: "utf-8", column: null, vocab: "characters", digest: data.digest,
      train_chars: data.trainChars, valid_chars: data.validChars, tells_stories: data.tellsStories,
    };
    return {
      format: 1, made_at: new Date().toISOString().replace(/\.\d+Z/, "+00:00"), settings: { recipe: "quick", model, training }, text, init: this.init,
      versions: { storycell: "page" }, machine: { system: "a browser", instruction_set: isa },
    };
  }

  // The bytes of a zip.
  save() {
    const { vocab } = this.data, vocabulary = vocab.digest, { shapes } = this.model;
    const metrics = encoder.encode(this.metrics.map((entry) => `${pythonJson(entry)}\n`).join("")), samples = encoder.encode(this.samples);
    const about = {
      position: {
        step: this.step, chars: this.chars, elapsed_s: tidy(this.elapsed_s), skipped: 0, lr_scale: 1, skips_in_a_row: 0, went_back: 0, good_step: null,
      },
      best_nats: Number.isFinite(this.bestNats) ? tidy(this.bestNats) : null, part_chars: null, sum_nats: tidy(this.sum), counted: this.counted,
      log_bytes: { "metrics.jsonl": metrics.length, "samples.txt": samples.length }, vocab: vocabulary,
    };
    const best = Object.fromEntries(Object.entries(this.best).map(([key, values]) => [key, { shape: shapes[key], values }]));
    const files = {
      "config.json": encoder.encode(`${pythonJson(this.#config(), { indent: 2 })}\n`), "vocab.json": encoder.encode(vocab.toJson()),
      "model.safetensors": packTensors(inBytes(best), { step: this.step, vocab: vocabulary }), "last.safetensors": packTensors(this.model.snapshot(), about),
      "metrics.jsonl": metrics, "samples.txt": samples, "text.txt": encoder.encode(this.data.text),
    };
    return zip(Object.fromEntries(Object.entries(files).map(([file, bytes]) => [`${this.name}/${file}`, bytes])));
  }

  get parameters() { return Object.values(this.model.shapes).reduce((sum, shape) => sum + product(shape), 0); }
  free() { this.model.free(); }
}
