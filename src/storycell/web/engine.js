// The engine (native/, compiled to WebAssembly) for JavaScript: a model that learns, and a network that is only read. Runs in
// pages, workers, Node and Deno, and needs nothing of any of them but WebAssembly.
//
//     const engine = await Engine.load({ simd, relaxed });          // the bytes of the two modules
//     const model = engine.createModel({ cell: "lstm", layers: 1, units: 128, characters: 80, embedding: 64 });
//     const { nats, norm } = model.gradient(ids, targets, B, T, { carries: true });
//     model.apply({ rate: 6e-3, clip: 1 });
//
// Tensors have torch's names, shapes and order of gates. The places of all fields of the C structs are read from the module
// itself (`storycell_layout`), so nothing is repeated here. After `load` everything is synchronous; one caller at a time.

export const CELLS = ["lstm", "gru", "rnn"];
export const GATES = { lstm: 4, gru: 3, rnn: 1 };
export const KINDS = { weight: 0, gradient: 1, exp_avg: 2, exp_avg_sq: 3, step: 4, momentum_buffer: 5, average: 6, sum: 7, second_momentum_buffer: 8 };
const OF_ROWS = ["sum", "second_momentum_buffer"];
export const TABLE = "context_table.weight"; // of n-grams and matches, [R, D]; the optimiser keeps one `sum` for each row
const MEMORY = 1024; // characters that matches look back at: kMemory of native/engine/context.h
const OPTIMIZER_STATE = ["exp_avg", "exp_avg_sq", "step", "momentum_buffer", ...OF_ROWS];
const METHODS = { adamw: [0, 0.9, 0.99], adam: [0, 0.9, 0.999], sgd: [1, 0, 0], muon: [2, 0.9, 0.99], normuon: [3, 0.9, 0.99] };
const PRECISIONS = { fp32: 0, bf16: 1, int8: 2 };
const WORDS = { int64: "BigInt64", uint64: "BigUint64", double: "Float64", pointer: "Uint32" };

// The C library closes files, of which there are none.
const NO_FILES = { wasi_snapshot_preview1: { fd_close: () => 8 } };

export class EngineError extends Error {}

// Gates that are normalised are of an lstm, and have biases.
function checkGateNorm(cell, hasBiases) {
  if (cell !== "lstm" || !hasBiases) throw new EngineError(`gateNorm needs the cell lstm and gate biases; this is ${cell}${hasBiases ? "" : " without"}`);
}

// P: how many characters before the next a stream remembers, for its n-grams and matches.
const memoryOf = ({ ngrams, matches }) => (matches ? MEMORY : Math.max(0, ngrams - 1));

export class Engine {
  #layout = new Map();

  // From the bytes of both modules: the one with relaxed instructions where the browser has them, else the other, else null.
  static async load({ simd, relaxed }) {
    if (typeof WebAssembly === "undefined") return null;
    for (const bytes of [relaxed, simd]) {
      if (!bytes || !WebAssembly.validate(bytes)) continue;
      const engine = new Engine((await WebAssembly.instantiate(bytes, NO_FILES)).instance);
      if (bytes === simd || multipliesBytes(engine)) return engine;
    }
    return null;
  }

  constructor({ exports }) {
    this.call = exports;
    exports._initialize();
    this.isa = this.text(exports.storycell_isa());
    let fields = null;
    for (const line of this.text(exports.storycell_layout()).split("\n")) {
      const [what, name, kind, at] = line.split(" ");
      if (what === "struct") this.#layout.set(name, { bytes: Number(kind), fields: (fields = new Map()) });
      else if (what === "field") fields.set(name, { word: WORDS[kind], at: Number(at) });
    }
  }

  // Memory may move whenever it grows: views are made anew for each use.
  get view() { return new DataView(this.call.memory.buffer); }
  floats(at, count) { return new Float32Array(this.call.memory.buffer, at, count); }
  words(at, count) { return new Uint32Array(this.call.memory.buffer, at, count); }
  longs(at, count) { return new BigInt64Array(this.call.memory.buffer, at, count); }

  // A copy of ids that lie as `longs`, many times faster than by way of BigInts: their upper halves are 0.
  ids(at, count) {
    const words = new Int32Array(this.call.memory.buffer, at, 2 * count), out = new Float32Array(count);
    for (let k = 0; k < count; k++) out[k] = words[2 * k];
    return out;
  }

  get memoryBytes() { return this.call.memory.buffer.byteLength; }

  text(at) {
    const bytes = new Uint8Array(this.call.memory.buffer), end = bytes.indexOf(0, at);
    return String.fromCharCode(...bytes.subarray(at, end)).replace(/[\x80-\xff]/g, "?") || "";
  }

  check(status) {
    if (status) throw Object.assign(new EngineError(this.text(this.call.storycell_explain(status))), { status });
  }

  // Memory that is kept until `free` of the same object: `room.floats("h", 64)` is the address of so many, asked for once.
  room() { return new Room(this); }

  allocate(bytes) {
    const at = this.call.malloc(Math.max(16, bytes)) >>> 0;
    if (!at) throw new EngineError(`there is not enough memory for ${bytes.toLocaleString("en")} bytes more`);
    return at;
  }

  structBytes(name) { return this.#layout.get(name).bytes; }

  // Fill a struct at an address; fields that are not named become 0.
  put(name, at, values, index = 0) {
    const { bytes, fields } = this.#layout.get(name), view = this.view, start = at + index * bytes;
    new Uint8Array(this.call.memory.buffer, start, bytes).fill(0);
    for (const [field, value] of Object.entries(values)) {
      const place = fields.get(field);
      if (!place) throw new EngineError(`${name} has no field ${field}`);
      view[`set${place.word}`](start + place.at, place.word.startsWith("Big") ? BigInt(value) : Number(value), true);
    }
    return start;
  }

  get(name, at, field) {
    const place = this.#layout.get(name).fields.get(field);
    return Number(this.view[`get${place.word}`](at + place.at, true));
  }

  createModel(config) { return new Model(this, config); }
  createNetwork(shape, weights, precision = "fp32") { return new Network(this, shape, weights, precision); }
}

// Whether products of bytes are right: node 20, where the relaxed instructions are experimental, gives twice as much.
function multipliesBytes(engine) {
  const H = 16, shape = { cell: "rnn", layers: 1, units: H, characters: H, embedding: 0 };
  const some = (k) => Float32Array.from({ length: H * H }, (_, n) => Math.sin(n + k));
  const weights = {
    "recurrent.weight_ih_l0": some(1), "recurrent.weight_hh_l0": some(2).map((x) => x / 4), "output.weight": some(3),
    "output.bias": new Float32Array(H),
  };
  const [exact, rounded] = ["fp32", "int8"].map((precision) => {
    const network = engine.createNetwork(shape, weights, precision), { logits } = network.step(3, network.step(2).state);
    network.free();
    return logits;
  });
  return exact.every((logit, k) => Math.abs(logit - rounded[k]) < 0.3);
}

class Room {
  #places = new Map();

  constructor(engine) { this.engine = engine; }

  bytes(name, count) {
    const found = this.#places.get(name);
    if (found && found.count >= count) return found.at;
    if (found) this.engine.call.free(found.at);
    const at = this.engine.allocate(count);
    this.#places.set(name, { at, count });
    return at;
  }

  floats(name, from) {
    const count = typeof from === "number" ? from : from.length, at = this.bytes(name, 4 * count);
    if (typeof from !== "number") this.engine.floats(at, count).set(from);
    return at;
  }

  longs(name, from) {
    const count = typeof from === "number" ? from : from.length, at = this.bytes(name, 8 * count);
    if (typeof from !== "number") {
      const to = this.engine.words(at, 2 * count); // ids are small: their upper halves are 0
      for (let k = 0; k < count; k++) {
        to[2 * k] = from[k];
        to[2 * k + 1] = 0;
      }
    }
    return at;
  }

  struct(name, values) { return this.engine.put(name, this.bytes(`struct ${name}`, this.engine.structBytes(name)), values); }

  free() {
    for (const { at } of this.#places.values()) this.engine.call.free(at);
    this.#places.clear();
  }
}

// ---- Learning ----

// A model of native/engine/model.h. `config` is {cell, layers, units, characters, embedding}, and as they are wanted
// {gateBias: true, precision: "fp32", dropout, weightDropout, embeddingDropout}; with `ngrams` the longest n-gram of which a
// row, of `ngramRows`, is added to the embedding, with `matches` the longest match; with `gateNorm` its gates are normalised
// (native/ops/gate_norm.h). Its weights start at zero.
export class Model {
  #at;
  #room;

  constructor(engine, config) {
    const { cell = "lstm", layers = 1, units, characters, embedding = 64, gateBias = true, precision = "fp32", ngrams = 0, matches = 0, gateNorm = false } = config;
    const ngramRows = ngrams ? config.ngramRows : 0;
    this.engine = engine;
    if (gateNorm) checkGateNorm(cell, gateBias);
    Object.assign(this, { cell, layers, units, characters, embedding, gateBias, ngrams, ngramRows, matches, gateNorm });
    this.#room = engine.room();
    this.#at = engine.call.storycell_model_create(this.#room.struct("ModelConfig", {
      cell: CELLS.indexOf(cell), layers, units, characters, embedding, gate_bias: gateBias ? 1 : 0,
      precision: PRECISIONS[precision], threads: 1, dropout: config.dropout ?? 0,
      weight_dropout: config.weightDropout ?? 0, embedding_dropout: config.embeddingDropout ?? 0,
      ngrams, ngram_rows: ngramRows, matches, gate_norm: gateNorm ? 1 : 0,
    }));
    if (!this.#at) throw new EngineError("a size of the model is out of range, or there is not enough memory for it");
    this.shapes = {}; // by name
    this.index = {};
    const { call } = engine;
    for (let k = 0n; k < call.storycell_model_tensors(this.#at); k++) {
      const name = engine.text(call.storycell_model_name(this.#at, k));
      const rows = Number(call.storycell_model_rows(this.#at, k)), columns = Number(call.storycell_model_columns(this.#at, k));
      this.shapes[name] = columns ? [rows, columns] : [rows];
      this.index[name] = k;
    }
    this.stateNames = cell === "lstm" ? ["h", "c"] : ["h"];
  }

  get parameters() { return Object.values(this.shapes).reduce((sum, shape) => sum + product(shape), 0); }
  get memory() { return memoryOf(this); }

  // The shape of what is kept of a tensor.
  #shapeOf(name, kind) {
    const shape = this.shapes[name] ?? [-1];
    return kind === "step" ? [] : OF_ROWS.includes(kind) ? shape.slice(0, 1) : shape;
  }

  // Copies of the tensors of a kind that are there, by name.
  read(kind = "weight") {
    const out = {};
    for (const [name, k] of Object.entries(this.index)) {
      if (!this.engine.call.storycell_model_has(this.#at, KINDS[kind], k)) continue;
      const count = product(this.#shapeOf(name, kind)), at = this.#room.floats("tensor", count);
      this.engine.check(this.engine.call.storycell_model_read(this.#at, KINDS[kind], k, at));
      out[name] = this.engine.floats(at, count).slice();
    }
    return out;
  }

  write(tensors, kind = "weight") {
    for (const [name, values] of Object.entries(tensors)) {
      const wanted = product(this.#shapeOf(name, kind));
      if (values.length !== wanted) throw new EngineError(`${name} with ${values.length} numbers does not fit this model`);
      const at = this.#room.floats("tensor", values);
      this.engine.check(this.engine.call.storycell_model_write(this.#at, KINDS[kind], this.index[name], at));
    }
  }

  // Mean loss in nats of ids and targets [B, T], and the norm of the gradient; the weights are left alone. With `carries`
  // streams go on from the state after the chunk applied last, but for those with a true `resets[b]`.
  gradient(ids, targets, B, T, { carries = false, resets = null, seed = 0n } = {}) {
    let places = 0;
    if (resets) {
      places = this.#room.bytes("resets", B);
      new Uint8Array(this.engine.call.memory.buffer, places, B).set(resets);
    }
    const chunk = {
      streams: B, steps: T, ids: this.#room.longs("ids", ids), targets: this.#room.longs("targets", targets),
      resets: places, carries: carries ? 1 : 0, seed,
    };
    const at = this.#room.struct("Chunk", chunk);
    this.engine.check(this.engine.call.storycell_model_gradient(this.#at, at));
    return { nats: this.engine.get("Chunk", at, "nats"), norm: this.engine.get("Chunk", at, "norm") };
  }

  // A step of an optimiser with the last gradient; false, and nothing changed, where loss or gradient was not finite.
  apply({ rate, optimizer = "adamw", clip = 0, decay = 0 }) {
    const [method, beta1, beta2] = METHODS[optimizer];
    const decays = ["adamw", "muon", "normuon"].includes(optimizer);
    const at = this.#room.struct("Update", { method, rate, clip: clip ?? 0, decay: decays ? decay : 0, beta1, beta2 });
    const status = this.engine.call.storycell_model_apply(this.#at, at);
    if (status === 4) return false;
    this.engine.check(status);
    return true;
  }

  // What the chunk applied last left to be carried on: {h: [L, B, H], c}, and B; empty where there is none. With n-grams or
  // matches also the latest characters, past: [1, B, P].
  state() {
    const B = Number(this.engine.call.storycell_model_streams(this.#at)), count = this.layers * B * this.units;
    if (!B) return { B, values: {} };
    const h = this.#room.floats("state h", count), c = this.#room.floats("state c", count);
    this.engine.check(this.engine.call.storycell_model_read_state(this.#at, h, c));
    const places = { h, c }, values = Object.fromEntries(this.stateNames.map((name) => [name, this.engine.floats(places[name], count).slice()]));
    if (this.memory) {
      const many = B * this.memory, at = this.#room.longs("past", many);
      this.engine.check(this.engine.call.storycell_model_read_past(this.#at, at));
      values.past = this.engine.ids(at, many);
    }
    return { B, values };
  }

  setState(values, B) {
    const h = B ? this.#room.floats("state h", values.h) : 0, c = B && values.c ? this.#room.floats("state c", values.c) : 0;
    this.engine.check(this.engine.call.storycell_model_write_state(this.#at, BigInt(B), h, c));
    if (B && this.memory) this.engine.check(this.engine.call.storycell_model_write_past(this.#at, this.#room.longs("past", values.past)));
  }

  // Copies of all that the next step depends on, {name: {shape, values}} by the names of a run's last.safetensors.
  snapshot() {
    const out = {};
    for (const [name, values] of Object.entries(this.read())) out[`model.${name}`] = { shape: this.shapes[name], values };
    for (const kind of OPTIMIZER_STATE)
      for (const [name, values] of Object.entries(this.read(kind)))
        out[`optimizer.${name}.${kind}`] = { shape: this.#shapeOf(name, kind), values };
    const { B, values: state } = this.state();
    for (const [name, values] of Object.entries(state))
      out[`state.${name}`] = { shape: name === "past" ? [1, B, this.memory] : [this.layers, B, this.units], values };
    for (const [name, values] of Object.entries(this.read("average"))) out[`average.${name}`] = { shape: this.shapes[name], values };
    return out;
  }

  // Go on from a snapshot, to the bit; names that are no part of one are ignored.
  restore(tensors) {
    for (const kind of [...OPTIMIZER_STATE, "average"]) this.engine.check(this.engine.call.storycell_model_forget(this.#at, KINDS[kind]));
    const state = {};
    let B = 0;
    for (const name of Object.keys(this.index))
      if (!tensors[`model.${name}`]) throw new EngineError(`the snapshot has no model.${name}`);
    for (const [full, { shape, values }] of Object.entries(tensors)) {
      const dot = full.indexOf("."), start = full.slice(0, dot), rest = full.slice(dot + 1), last = rest.lastIndexOf(".");
      if (start === "model") this.write({ [rest]: values });
      else if (start === "average") this.write({ [rest]: values }, "average");
      else if (start === "optimizer" && OPTIMIZER_STATE.includes(rest.slice(last + 1))) this.write({ [rest.slice(0, last)]: values }, rest.slice(last + 1));
      else if (start === "state") [state[rest], B] = [values, shape[1]];
    }
    this.setState(state, B);
  }

  // The weights of now, to score and generate with; learning goes on and leaves it.
  network(precision = "fp32") {
    const { cell, layers, units, characters, embedding, ngrams, ngramRows, matches, gateNorm } = this;
    const shape = { cell, layers, units, characters, embedding, ngrams, ngramRows, matches, gateNorm };
    return this.engine.createNetwork(shape, this.read(), precision);
  }

  free() {
    this.engine.call.storycell_model_free(this.#at);
    this.#room.free();
  }
}

// ---- Reading and generating ----

// Weights, packed once, of native/engine/inference.h. `shape` is {cell, layers, units, characters, embedding}, embedding 0 for
// one-hot characters, and {ngrams, ngramRows} where it looks n-grams up, {matches} where it looks for the longest match,
// {gateNorm: true} where its gates are normalised;
// `weights` are Float32Arrays by torch's names. A state is {h, c} of [L, H], null for zeros; with n-grams or matches also {past},
// the latest P characters, the last one first.
export class Network {
  #at;
  #room;
  #past = null; // of the state given last

  constructor(engine, shape, weights, precision) {
    this.engine = engine;
    if (shape.gateNorm) checkGateNorm(shape.cell, weights["recurrent.bias_ih_l0"]);
    Object.assign(this, shape, { precision, ngrams: shape.ngrams ?? 0, matches: shape.matches ?? 0 });
    this.#room = engine.room();
    const scratch = engine.room(), { layers, embedding } = shape, bytes = engine.structBytes("NetworkLayer");
    try {
      const layer = scratch.bytes("layers", layers * bytes);
      const place = (name) => (weights[name] ? scratch.floats(name, weights[name]) : 0);
      for (let k = 0; k < layers; k++) {
        const [input, recurrent, input_bias, recurrent_bias] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
          .map((name) => place(`recurrent.${name}_l${k}`));
        engine.put("NetworkLayer", layer, { input, recurrent, input_bias, recurrent_bias }, k);
      }
      const all = scratch.struct("NetworkWeights", {
        cell: CELLS.indexOf(shape.cell), layers, units: shape.units, characters: shape.characters, embedding,
        embedding_weight: embedding ? place("embedding.weight") : 0, layer,
        output: place("output.weight"), output_bias: place("output.bias"),
        ngrams: this.ngrams, ngram_rows: this.ngrams ? shape.ngramRows : 0, matches: this.matches, context_table: this.memory ? place(TABLE) : 0,
        gate_norm: shape.gateNorm ? 1 : 0,
      });
      const made = scratch.bytes("made", 16);
      engine.check(engine.call.storycell_network_create(all, BigInt(PRECISIONS[precision]), 1, made));
      this.#at = engine.words(made, 1)[0];
    } finally {
      scratch.free();
    }
    const count = this.layers * this.units;
    this.#room.floats("hidden", count);
    this.#room.floats("cell", count);
  }

  get memory() { return memoryOf(this); }

  // Reads a character from a state: the logits of the next, and the new state.
  step(id, state = null) {
    return this.#generate([id], 1, state, { greedy: 1 }, new Uint32Array([1, 0, 0, 0]), true);
  }

  // `length` ids drawn after the character `id` was read from a state: {ids, logits (of the last), state}. `random` are the
  // four words of a generator and are moved on; `choice` is {temperature, top_k, top_p, min_p, greedy}.
  generate(id, length, state, choice, random) {
    return this.#generate([id], length, state, choice, random, false);
  }

  #generate(current, length, state, choice, random, keepsLogits) {
    const { engine } = this, room = this.#room, count = this.layers * this.units, isLstm = this.cell === "lstm";
    const hidden = room.floats("hidden", state ? state.h : count), cell = room.floats("cell", state && isLstm ? state.c : count);
    const finalHidden = room.floats("final hidden", count), finalCell = room.floats("final cell", count);
    const words = room.bytes("random", 16), out = room.longs("out", length), from = room.longs("current", current);
    engine.words(words, 4).set(random);
    const logits = keepsLogits ? room.floats("logits", length * this.characters) : 0;
    const past = this.#pastOf(state);
    const at = room.struct("Writing", {
      streams: 1, length, unknown: 1, hidden: state ? hidden : 0, cell: state && isLstm ? cell : 0,
      final_hidden: finalHidden, final_cell: finalCell, current: from, random: words, logits, out,
      choice: room.struct("Choice", { temperature: 1, top_p: 1, min_p: 0, top_k: 0, ...choice }), past,
    });
    engine.check(engine.call.storycell_network_write(this.#at, at, 1));
    random.set(engine.words(words, 4));
    const ids = Array.from(engine.longs(out, length), Number);
    const next = this.#stateOf(finalHidden, finalCell, past);
    return { ids, state: next, logits: logits ? engine.floats(logits, length * this.characters).slice() : null };
  }

  // Where the characters before lie, which a call moves on; 0 where none are remembered. Those of the state that the call
  // before gave lie there already.
  #pastOf(state) {
    if (!this.memory) return 0;
    const isThere = state?.past && state.past === this.#past;
    this.#past = null;
    return isThere ? this.#room.bytes("past", 8 * this.memory) : this.#room.longs("past", state?.past ?? new Float32Array(this.memory));
  }

  #stateOf(hidden, cell, past) {
    const { engine } = this, count = this.layers * this.units, state = { h: engine.floats(hidden, count).slice() };
    if (this.cell === "lstm") state.c = engine.floats(cell, count).slice();
    if (past) state.past = this.#past = engine.ids(past, this.memory);
    return state;
  }

  // Loss of each of ids [T] as the next of the one before it, from a state; and, where asked for, every state on the way.
  read(ids, targets, { state = null, wantsStates = false } = {}) {
    const { engine } = this, room = this.#room, T = ids.length, count = this.layers * this.units, isLstm = this.cell === "lstm";
    const losses = targets ? room.floats("losses", T) : 0, whole = wantsStates ? T * count : 0;
    const hiddens = whole ? room.floats("hiddens", whole) : 0, cells = whole && isLstm ? room.floats("cells", whole) : 0;
    const finalHidden = room.floats("final hidden", count), finalCell = room.floats("final cell", count);
    const past = this.#pastOf(state);
    const at = room.struct("Reading", {
      streams: 1, steps: T, ids: room.longs("ids", ids), targets: targets ? room.longs("targets", targets) : 0,
      hidden: state ? room.floats("hidden", state.h) : 0, cell: state && isLstm ? room.floats("cell", state.c) : 0,
      final_hidden: finalHidden, final_cell: isLstm ? finalCell : 0, losses, hiddens, cells,
      past, final_past: past,
    });
    engine.check(engine.call.storycell_network_read(this.#at, at, 1));
    const next = this.#stateOf(finalHidden, finalCell, past);
    return {
      nats: losses ? engine.floats(losses, T).slice() : null, state: next,
      hiddens: whole ? engine.floats(hiddens, whole).slice() : null, // [L, T, H]
      cells: cells ? engine.floats(cells, whole).slice() : null,
    };
  }

  free() {
    this.engine.call.storycell_network_free(this.#at);
    this.#room.free();
  }
}

export const product = (shape) => shape.reduce((all, size) => all * size, 1);

// ---- The weights that a model starts with ----

// torch's generator on a CPU (a Mersenne twister; Matsumoto & Nishimura 1998): engine/random.py of storycell in JavaScript.
export class TorchGenerator {
  #words = new Uint32Array(624);
  #next = 624;

  constructor(seed) {
    const w = this.#words;
    w[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let k = 1; k < 624; k++) w[k] = Math.imul(1812433253, w[k - 1] ^ (w[k - 1] >>> 30)) + k;
  }

  draw() {
    const w = this.#words;
    if (this.#next === 624) {
      for (let k = 0; k < 624; k++) {
        const y = (w[k] & 0x80000000) | (w[(k + 1) % 624] & 0x7fffffff);
        w[k] = w[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#next = 0;
    }
    let y = w[this.#next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  // float32 in [low, high).
  uniform(count, low = 0, high = 1) {
    const span = Math.fround(Math.fround(high) - Math.fround(low)), from = Math.fround(low);
    return Float32Array.from({ length: count }, () => Math.fround(Math.fround((this.draw() & 0xffffff) * 2 ** -24) * span) + from);
  }

  // float32 around 0, by Box and Muller's method in blocks of 16; `count` at least 16.
  normal(count, std = 1) {
    const out = new Float32Array(count), drawn = this.uniform(count);
    const block = (from, at) => {
      for (let k = 0; k < 8; k++) {
        const radius = Math.sqrt(-2 * Math.log(Math.fround(1 - from[k]))), angle = Math.fround(2 * Math.PI) * from[k + 8];
        out[at + k] = radius * Math.cos(angle);
        out[at + k + 8] = radius * Math.sin(angle);
      }
    };
    for (let at = 0; at + 16 <= count; at += 16) block(drawn.subarray(at, at + 16), at);
    if (count % 16) block(this.uniform(16), count - 16);
    for (let k = 0; k < count; k++) out[k] *= std;
    return out;
  }
}

const EMBEDDING_STD = 4, UNKNOWN_ID = 1;

// What `storycell train` draws from this seed for tensors of these names and shapes.
export function drawWeights({ shapes, cell, units: H, layers }, seed, forgetBias = -1) {
  const generator = new TorchGenerator(seed), bound = H ** -0.5, weights = {};
  for (let k = 0; k < layers; k++) {
    for (const name of Object.keys(shapes))
      if (name.startsWith("recurrent.") && name.endsWith(`_l${k}`)) weights[name] = generator.uniform(product(shapes[name]), -bound, bound);
    if (cell === "lstm" && weights[`recurrent.bias_ih_l${k}`]) {
      weights[`recurrent.bias_ih_l${k}`].fill(forgetBias, H, 2 * H);
      weights[`recurrent.bias_hh_l${k}`].fill(0, H, 2 * H);
    } else if (cell === "rnn") {
      const drawn = generator.normal(H * H), radius = Math.fround(spectralRadius(drawn, H));
      weights[`recurrent.weight_hh_l${k}`] = drawn.map((value) => value / radius);
    }
  }
  weights["output.weight"] = generator.uniform(product(shapes["output.weight"]), -bound, bound);
  weights["output.bias"] = new Float32Array(product(shapes["output.bias"]));
  if (shapes["embedding.weight"]) {
    const D = shapes["embedding.weight"][1];
    weights["embedding.weight"] = generator.normal(product(shapes["embedding.weight"]), EMBEDDING_STD);
    weights["embedding.weight"].fill(0, UNKNOWN_ID * D, (UNKNOWN_ID + 1) * D); // never trained
  } else {
    const [rows, columns] = shapes["recurrent.weight_ih_l0"];
    for (let j = 0; j < rows; j++) weights["recurrent.weight_ih_l0"][j * columns + UNKNOWN_ID] = 0;
  }
  if (shapes[TABLE]) weights[TABLE] = new Float32Array(product(shapes[TABLE]));
  return weights;
}

// The largest absolute eigenvalue of W [H, H], by Gelfand's formula: ‖W^n‖^(1/n), n = 2^SQUARINGS.
const SQUARINGS = 16;

function spectralRadius(W, H) {
  let power = Float64Array.from(W), log = 0;
  const normalise = () => {
    let size = 0;
    for (const value of power) size += value * value;
    size = Math.sqrt(size);
    for (let k = 0; k < power.length; k++) power[k] /= size;
    return Math.log(size);
  };
  log = normalise();
  for (let n = 0; n < SQUARINGS; n++) {
    const next = new Float64Array(H * H);
    for (let i = 0; i < H; i++)
      for (let k = 0; k < H; k++) {
        const a = power[i * H + k];
        for (let j = 0; j < H; j++) next[i * H + j] += a * power[k * H + j];
      }
    power = next;
    log = 2 * log + normalise();
  }
  return Math.exp(log / 2 ** SQUARINGS);
}
