// A recurrent language model in plain JavaScript: weights in, characters out. Runs in a page and under node.
//
// A model is {cell, V, D, H, L, weights, kind, characters, text}: sizes, the rounding ("fp32", "fp16", "int8"), the
// vocabulary, and all tensors as one text (see text_coding.py of storycell, which writes it).
//
// Each character that is read leaves a trace: every gate and state of every layer, one Float32Array. The states in it
// are what the next step starts from, so going back is forgetting traces, and what is shown is what was computed.
"use strict";

const storycell = (() => {
  const BOUNDARY = 0, UNKNOWN = 1, RESERVED = 2;
  const SEPARATOR = "<|endoftext|>";
  // Characters that are never seen, forms that a printer chose, and a character with what belongs to it (as in vocab.py).
  const INVISIBLE = /[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\u{e0000}-\u{e0fff}]/u;
  const TYPESET = new RegExp("[\\u00a0\\u0132\\u0133\\u017f\\u01c4-\\u01cc\\u01f1-\\u01f3\\u2000-\\u200a\\u202f\\u205f\\u3000" +
    "\\ufb00-\\ufb06\\ufb13-\\ufb17\\ufb50-\\ufdff\\ufe70-\\ufefc\\uff01-\\uff5e]", "u");
  const SPELT = { "ß": "ss", "ẞ": "SS", "\u2011": "-" };
  const CLUSTER = new RegExp(`[^](?:\\p{M}|${INVISIBLE.source}|[\\u1160-\\u11ff\\ud7b0-\\ud7ff])*`, "gu");
  // What a step computes in each layer, in the order of a trace; `h` and `c` are states.
  const VALUES = { lstm: ["i", "f", "g", "o", "c", "h"], gru: ["r", "z", "n", "h"], rnn: ["h"] };
  const GATES = { lstm: 4, gru: 3, rnn: 1 };

  // ---- Weights ----

  class Reader {
    constructor(text, weights) {
      this.text = text;
      this.weights = weights;
      this.at = 0;
    }

    numbers(count, bytes) {
      const length = Math.ceil((count * bytes) / 3) * 4;
      const binary = atob(this.text.slice(this.at, this.at + length));
      this.at += length;
      const view = new DataView(Uint8Array.from(binary, (byte) => byte.charCodeAt(0)).buffer);
      const read = bytes === 4 ? (k) => view.getFloat32(4 * k, true) : (k) => half(view.getUint16(2 * k, true));
      return Float32Array.from({ length: count }, (_, k) => read(k));
    }

    vector(count) {
      return this.numbers(count, 4);
    }

    // Rows and columns as one array, row by row.
    matrix(rows, columns) {
      if (this.weights !== "int8") return this.numbers(rows * columns, this.weights === "fp16" ? 2 : 4);
      const scales = this.vector(rows);
      const out = new Float32Array(rows * columns);
      for (let k = 0; k < out.length; k++) {
        const c = this.text.charCodeAt(this.at + k); // one of 89 characters: no quote, no <, no ?, no backslash
        out[k] = (c - 33 - (c > 34) - (c > 60) - (c > 63) - (c > 92) - 44) * scales[Math.floor(k / columns)];
      }
      this.at += out.length;
      return out;
    }
  }

  function half(bits) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    return bits >> 15 ? -size : size;
  }

  // ---- The network ----

  // `trace` in the result says how a trace is laid out; `step(id, before, after)` reads a character: `before` is the
  // last trace (null at the beginning), `after` is filled; `logits(trace, out)` are those of the next character.
  function network(model) {
    const { cell, V, D, H, L } = model;
    const G = GATES[cell], GH = G * H, values = VALUES[cell];
    const rows = (n) => Math.ceil(n / 4) * 4; // products give four numbers at once
    const reader = new Reader(model.text, model.weights);
    const embedding = D ? reader.matrix(V, D) : null;
    // The context: the longest n-gram, of R rows, and the longest match that add a row to the embedding; how many
    // characters it remembers (see context.py of storycell).
    const N = model.N || 0, R = model.R || 0, M = model.M || 0, P = M ? 1024 : Math.max(0, N - 1);
    const context = P ? reader.matrix(R + M * V, D) : null;
    // Normalised gates: what goes into one, its bias included, is divided by its root mean square (this is added to the
    // mean), and another bias is added.
    const eps = model.gateNorm || 0;
    const stored = [];
    for (let l = 0; l < L; l++) {
      stored.push({
        ih: reader.matrix(GH, l ? H : D || V),
        hh: reader.matrix(GH, H),
        bias: reader.vector(GH),
        hn: cell === "gru" ? reader.vector(H) : null, // the candidate's bias inside the product with r
        gate: eps ? reader.vector(GH) : null, // added after the division
      });
    }
    const output = reader.matrix(V, H), outputBias = reader.vector(V);

    // All matrices in one array, four rows interleaved: each number of x meets four neighbouring weights.
    const W = new Float32Array(rows(GH) * ((D || 0) + H) * 1 + rows(GH) * 2 * H * (L - 1) + rows(V) * H);
    let used = 0;
    const packed = (matrix, count, width) => {
      const start = used;
      for (let j = 0; j < rows(count); j += 4)
        for (let k = 0; k < width; k++)
          for (let i = 0; i < 4; i++) W[used++] = j + i < count ? matrix[(j + i) * width + k] : 0;
      return start;
    };
    const inputs = stored.map((w, l) => (l || D ? packed(w.ih, GH, l ? H : D) : -1));
    const recurrent = stored.map((w) => packed(w.hh, GH, H));
    const outputs = packed(output, V, H);

    const x = new Float64Array(Math.max(D, H));
    const a = new Float64Array(rows(GH)), b = new Float64Array(rows(GH)), y = new Float64Array(rows(V));

    // to[count] += (the matrix at `at`, count rows of `width`) x
    function addProduct(to, at, count, width) {
      for (let j = 0; j < count; j += 4) {
        let s = 0, t = 0, u = 0, v = 0;
        for (let k = 0; k < width; k++, at += 4) {
          const number = x[k];
          s += W[at] * number;
          t += W[at + 1] * number;
          u += W[at + 2] * number;
          v += W[at + 3] * number;
        }
        to[j] += s;
        to[j + 1] += t;
        to[j + 2] += u;
        to[j + 3] += v;
      }
    }

    // With a context: the embedding, a row for each n-gram that ends with the character, found by a hash, and one for the
    // longest match. A trace remembers P characters behind its values: the last one first, 0 from the last boundary on.
    const line = new Float32Array(P + 1); // the character and those before it
    function metInput(id, before, after) {
      line.fill(0);
      line[0] = id;
      if (id && before) line.set(before.subarray(pastAt), 1);
      after.set(line.subarray(0, P), pastAt);
      for (let k = 0; k < D; k++) x[k] = embedding[id * D + k];
      const add = (row) => {
        for (let k = 0; k < D; k++) x[k] += context[row * D + k];
      };
      for (let n = 1, hash = id + 1; n < N; n++) {
        hash = (hash * 1999993 + line[n] + 1) % 2147483647; // below 2^53
        add(hash % R);
      }
      if (M) add(R + longestMatch());
      a.fill(0);
      a.set(stored[0].bias);
      addProduct(a, inputs[0], GH, D);
    }

    // Of all places where the latest characters stood before, the one that agrees with most of them (up to M), the latest of
    // several: n of them and what follows there as (n - 1) V + c, or 0.
    function longestMatch() {
      let longest = 1, at = 0;
      for (let d = 1; d <= P - M + 1 && line[d]; d++) {
        if ((line[d] !== line[0]) | (line[d + longest] !== line[longest])) continue; // one branch, seldom taken
        let n = 1;
        while (n < M && line[n] && line[d + n] === line[n]) n++;
        if (n <= longest) continue;
        longest = n;
        at = d;
        if (n === M) break;
      }
      return at && (longest - 1) * V + line[at - 1];
    }

    const table = new Array(V); // what a character adds to the first layer's gates, made when it is first read
    function firstInput(id) {
      if (!table[id]) {
        a.fill(0);
        a.set(stored[0].bias);
        if (D) {
          for (let k = 0; k < D; k++) x[k] = embedding[id * D + k];
          addProduct(a, inputs[0], GH, D);
        } else {
          for (let j = 0; j < GH; j++) a[j] += stored[0].ih[j * V + id];
        }
        table[id] = Float64Array.from(a);
      }
      return table[id];
    }

    function normalise(l) { // a and b to the sums of a, for b = 0
      for (let n = 0; n < GH; n += H) {
        let squares = 0;
        for (let j = n; j < n + H; j++) {
          a[j] += b[j];
          b[j] = 0;
          squares += a[j] * a[j];
        }
        const by = 1 / Math.sqrt(squares / H + eps);
        for (let j = n; j < n + H; j++) a[j] = a[j] * by + stored[l].gate[j];
      }
    }

    const sigmoid = (z) => 1 / (1 + Math.exp(-z));
    const tanh = (z) => 2 / (1 + Math.exp(-2 * z)) - 1;

    // From the gates' sums (a: from the input, b: from the last output) to the values of a layer, from `at` in the trace.
    const update = {
      lstm(at, before, after) {
        const [i, f, g, o, c, h] = [0, 1, 2, 3, 4, 5].map((n) => at + n * H);
        for (let j = 0; j < H; j++) {
          after[i + j] = sigmoid(a[j] + b[j]);
          after[f + j] = sigmoid(a[H + j] + b[H + j]);
          after[g + j] = tanh(a[2 * H + j] + b[2 * H + j]);
          after[o + j] = sigmoid(a[3 * H + j] + b[3 * H + j]);
          after[c + j] = after[f + j] * (before ? before[c + j] : 0) + after[i + j] * after[g + j];
          after[h + j] = after[o + j] * tanh(after[c + j]);
        }
      },
      gru(at, before, after, l) {
        const hn = stored[l].hn, h = at + 3 * H;
        for (let j = 0; j < H; j++) {
          const r = (after[at + j] = sigmoid(a[j] + b[j]));
          const z = (after[at + H + j] = sigmoid(a[H + j] + b[H + j]));
          const n = (after[at + 2 * H + j] = tanh(a[2 * H + j] + r * (b[2 * H + j] + hn[j])));
          after[h + j] = (1 - z) * n + z * (before ? before[h + j] : 0);
        }
      },
      rnn(at, before, after) {
        for (let j = 0; j < H; j++) after[at + j] = tanh(a[j] + b[j]);
      },
    }[cell];

    const layer = values.length * H, hidden = (values.length - 1) * H; // `h` comes last
    const pastAt = L * layer; // where a trace remembers the characters before
    function step(id, before, after) {
      for (let l = 0; l < L; l++) {
        const at = l * layer;
        if (l) {
          a.set(stored[l].bias);
          for (let k = 0; k < H; k++) x[k] = after[at - layer + hidden + k];
          addProduct(a, inputs[l], GH, H);
        } else if (P) {
          metInput(id, before, after);
        } else {
          a.set(firstInput(id));
        }
        b.fill(0);
        if (before) {
          for (let k = 0; k < H; k++) x[k] = before[at + hidden + k];
          addProduct(b, recurrent[l], GH, H);
        }
        if (eps) normalise(l);
        update(at, before, after, l);
      }
    }

    function logits(trace, out) {
      const at = (L - 1) * layer + hidden;
      for (let k = 0; k < H; k++) x[k] = trace[at + k];
      y.fill(0);
      y.set(outputBias);
      addProduct(y, outputs, V, H);
      for (let k = 0; k < V; k++) out[k] = y[k];
    }

    // From now on all who read h of a layer read `h + addition`, from the first step on; null: h, as it was. That is a
    // change of their biases, in float32 as inspect/shown.py makes it.
    const asStored = stored.map(({ bias, hn }) => ({ bias: bias.slice(), hn: hn?.slice() })), outputAsStored = outputBias.slice();
    function show(l, addition) {
      stored.forEach(({ bias, hn }, k) => {
        bias.set(asStored[k].bias);
        hn?.set(asStored[k].hn);
      });
      outputBias.set(outputAsStored);
      table.fill(undefined);
      if (!addition) return;
      const add = (bias, at, matrix, from, count) => {
        for (let j = 0; j < count; j++) {
          let total = 0;
          for (let k = 0; k < H; k++) total += matrix[(from + j) * H + k] * addition[k];
          bias[at + j] += total;
        }
      };
      const { hh, bias, hn } = stored[l];
      add(bias, 0, hh, 0, hn ? 2 * H : GH);
      if (hn) add(hn, 0, hh, 2 * H, H);
      if (l + 1 < L) add(stored[l + 1].bias, 0, stored[l + 1].ih, 0, GH);
      else add(outputBias, 0, output, 0, V);
    }

    // What the gates of a unit add up in the step from `before` to `after` that read `id`; x is null where a character
    // enters as a row of weights. Of a GRU's candidate n the part of h is still to be multiplied by r. Of a normalised gate
    // they are the parts after the division.
    function sums(l, unit, id, before, after) {
      const { ih, hh, bias, hn, gate } = stored[l], at = l * layer;
      if (!l && P) metInput(id, before, after);
      const fed = l ? after.slice(at - layer + hidden, at) : P ? x.slice(0, D) : D ? embedding.slice(id * D, (id + 1) * D) : null;
      const h = before ? before.slice(at + hidden, at + layer) : new Float32Array(H);
      const product = (matrix, row, numbers) => numbers.reduce((total, number, k) => total + matrix[row * numbers.length + k] * number, 0);
      const ofX = (row) => (fed ? product(ih, row, fed) : ih[row * V + id]), ofH = (row) => product(hh, row, h);
      const parts = values.slice(0, G).map((name, n) => {
        const row = n * H + unit;
        let by = 1; // what all that goes in is multiplied by
        if (eps) {
          const all = Array.from({ length: H }, (_, j) => ofX(n * H + j) + ofH(n * H + j) + bias[n * H + j]);
          by = 1 / Math.sqrt(all.reduce((total, one) => total + one * one, 0) / H + eps);
        }
        const added = by * bias[row] + (gate ? gate[row] : 0);
        return { name, bias: added, x: by * ofX(row), h: by * ofH(row) + (name === "n" ? hn[unit] : 0), value: after[at + row] };
      });
      return { x: fed, h, sums: parts };
    }

    // All tensors by the names that the engine (engine.js) knows them by; biases that are only ever added are one.
    function weights() {
      const out = embedding ? { "embedding.weight": embedding } : {};
      if (context) out["context_table.weight"] = context;
      stored.forEach(({ ih, hh, bias, hn, gate }, l) => {
        const other = gate ? bias : new Float32Array(GH);
        if (hn) other.set(hn, 2 * H);
        Object.assign(out, { [`recurrent.weight_ih_l${l}`]: ih, [`recurrent.weight_hh_l${l}`]: hh });
        Object.assign(out, { [`recurrent.bias_ih_l${l}`]: gate ?? bias, [`recurrent.bias_hh_l${l}`]: other });
      });
      return { ...out, "output.weight": output, "output.bias": outputBias };
    }

    return {
      values, V, H, L, P, pastAt, step, sums, show, logits, weights,
      shape: { cell, layers: L, units: H, characters: V, embedding: D, ngrams: N, ngramRows: R, matches: M, gateNorm: eps > 0 },
      read: step, // of what is given; where text is generated in int8, that is still read in float32
      fill() {}, // what a trace may lack: nothing here
      newTrace: () => new Float32Array(pastAt + P),
      placeOf: (l, name, unit) => l * layer + values.indexOf(name) * H + unit,
    };
  }

  // ---- Choosing ----

  // xoshiro128++ 1.0 (Blackman & Vigna 2019), its state filled by splitmix64 from a seed of 64 bits, given as decimal
  // digits; 64-bit numbers are two halves of 32, since JavaScript multiplies in 53 bits.
  class Draw {
    constructor(seed) {
      let [high, low] = seedHalves(seed);
      this.s = new Uint32Array(4);
      for (let k = 0; k < 4; k += 2) {
        [high, low] = sum(high, low, 0x9e3779b9, 0x7f4a7c15);
        let [h, l] = [high, low];
        [h, l] = product(...mixed(h, l, 30), 0xbf58476d, 0x1ce4e5b9);
        [h, l] = product(...mixed(h, l, 27), 0x94d049bb, 0x133111eb);
        [h, l] = mixed(h, l, 31);
        this.s[k] = l;
        this.s[k + 1] = h;
      }
    }

    // From 0 (included) to 1 (excluded).
    next() {
      const s = this.s;
      const drawn = (rotated((s[0] + s[3]) >>> 0, 7) + s[0]) >>> 0, t = s[1] << 9;
      s[2] ^= s[0];
      s[3] ^= s[1];
      s[1] ^= s[2];
      s[0] ^= s[3];
      s[2] ^= t;
      s[3] = rotated(s[3], 11);
      return drawn / 4294967296;
    }
  }

  const rotated = (x, k) => ((x << k) | (x >>> (32 - k))) >>> 0;
  const mixed = (h, l, k) => [(h ^ (h >>> k)) >>> 0, (l ^ ((l >>> k) | (h << (32 - k)))) >>> 0]; // z ^ (z >> k)

  function sum(h1, l1, h2, l2) {
    const l = l1 + l2;
    return [(h1 + h2 + (l >= 4294967296 ? 1 : 0)) >>> 0, l >>> 0];
  }

  // The low 64 bits of a product.
  function product(h1, l1, h2, l2) {
    const a = l1 & 0xffff, b = l1 >>> 16, c = l2 & 0xffff, d = l2 >>> 16;
    const middle = b * c + Math.floor((a * c) / 65536); // below 2^33
    const upper = a * d + (middle % 65536); // so is this
    const low = ((upper << 16) | ((a * c) & 0xffff)) >>> 0;
    const carried = b * d + Math.floor(middle / 65536) + Math.floor(upper / 65536);
    return [(carried + Math.imul(h1, l2) + Math.imul(l1, h2)) >>> 0, low];
  }

  function seedHalves(seed) {
    let high = 0, low = 0;
    for (const digit of isSeed(seed) ? String(seed) : "0") {
      low = low * 10 + Number(digit);
      high = (high * 10 + Math.floor(low / 4294967296)) % 4294967296;
      low %= 4294967296;
    }
    return [high, low];
  }

  // Whether a text is a whole number below 2^64.
  function isSeed(text) {
    const digits = String(text).replace(/^0+(?=\d)/, "");
    return /^\d{1,20}$/.test(digits) && (digits.length < 20 || digits <= "18446744073709551615");
  }

  // The probabilities of the next character at a temperature; never the unknown one.
  function probabilities(logits, temperature, out) {
    let best = BOUNDARY, total = 0;
    for (let k = RESERVED; k < logits.length; k++) if (logits[k] > logits[best]) best = k;
    for (let k = 0; k < logits.length; k++) {
      if (temperature === 0) out[k] = k === best ? 1 : 0;
      else out[k] = k === UNKNOWN ? 0 : Math.exp((logits[k] - logits[best]) / temperature);
      total += out[k];
    }
    for (let k = 0; k < logits.length; k++) out[k] /= total;
    return out;
  }

  // One id: the likeliest at temperature 0 (the lowest of equals), otherwise drawn.
  function choose(logits, temperature, draw) {
    let best = BOUNDARY, total = 0;
    for (let k = RESERVED; k < logits.length; k++) if (logits[k] > logits[best]) best = k;
    if (temperature === 0) return best;
    const sums = new Float64Array(logits.length);
    for (let k = 0; k < logits.length; k++) {
      if (k !== UNKNOWN) total += Math.exp((logits[k] - logits[best]) / temperature);
      sums[k] = total;
    }
    const point = draw.next() * total;
    let k = 0;
    while (k < logits.length - 1 && sums[k] <= point) k++;
    return k;
  }

  // ---- Text ----

  class Vocabulary {
    // `pieces`, where ids are pieces of words: a `Pieces` of web/pieces.js.
    constructor({ kind, characters }, pieces = null) {
      this.isBytes = kind === "bytes";
      this.pieces = pieces;
      this.characters = Array.from(characters);
      this.ids = new Map(this.characters.map((character, k) => [character, k + RESERVED]));
    }

    // {ids, strangers}: the ids of a text, a line <|endoftext|> being a boundary; characters that are not known. The
    // text is read as a file is: without a byte order mark, with plain line ends, and in the forms that are known. Of
    // pieces also {settled, open}: the ids that stay whatever follows, and the rest, as `Pieces.settle` gives it.
    encode(text) {
      const ids = [], strangers = new Set();
      let story = ""; // since the last boundary, where there are pieces
      const lines = text.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n").split("\n");
      lines.forEach((line, k) => {
        if (line === SEPARATOR) {
          ids.push(...(this.pieces?.encode(story) ?? []), BOUNDARY);
          story = "";
          return;
        }
        const whole = k < lines.length - 1 ? line + "\n" : line;
        const parts = this.isBytes ? Array.from(new TextEncoder().encode(whole), (c) => String.fromCharCode(c)) : this.known(whole);
        for (const part of parts) {
          if (!this.ids.has(part)) strangers.add(part);
          else if (this.pieces) story += part;
          else ids.push(this.ids.get(part));
        }
      });
      const found = { ids, strangers: [...strangers] };
      if (!this.pieces) return found;
      const { settled, open } = this.pieces.settle(story);
      return { ...found, ids: [...ids, ...settled, ...(open?.usual ?? [])], settled: [...ids, ...settled], open };
    }

    // A line in characters that are known, as far as that is the same line: see `same` in vocab.py of storycell.
    known(line) {
      const isKnown = (text) => Array.from(text).every((c) => this.ids.has(c));
      if (isKnown(line)) return line;
      const same = (text) => {
        const characters = Array.from(text);
        const seen = characters.filter((c) => this.ids.has(c) || !INVISIBLE.test(c));
        const spelt = seen.map((c) => (this.ids.has(c) ? c : SPELT[c] ?? (TYPESET.test(c) ? c.normalize("NFKC") : c)));
        for (const candidate of [text, seen.join(""), spelt.join("")])
          for (const form of [candidate, candidate.normalize("NFC"), candidate.normalize("NFD")])
            if (isKnown(form)) return form;
        return null;
      };
      return (line.match(CLUSTER) ?? []).map((cluster) =>
        same(cluster) ?? Array.from(cluster, (c) => same(c) ?? c).join("")).join("");
    }

    // The text of each id; of a byte vocabulary, a character is the text of its last byte.
    texts(ids) {
      const decoder = this.isBytes ? new TextDecoder("utf-8") : null;
      return ids.map((id) => {
        if (id === BOUNDARY) return SEPARATOR + "\n";
        const character = this.pieces?.texts[id] ?? this.characters[id - RESERVED];
        return decoder ? decoder.decode(Uint8Array.of(character.charCodeAt(0)), { stream: true }) : character;
      });
    }
  }

  // One of the beginnings of what is open at the end of a prompt (see web/pieces.js), drawn as an id is.
  function chooseBeginning(beginnings, temperature, draw) {
    const scores = beginnings.map(({ score }) => Math.fround(score));
    return beginnings[choose([-Infinity, -Infinity, ...scores], temperature, draw) - RESERVED];
  }

  // The prompt and what follows it, as `storycell sample` prints them.
  function generate(net, vocabulary, prompt, { chars = 1000, temperature = 0.8, seed = 0 } = {}) {
    const { ids, strangers, settled, open = null } = vocabulary.encode(prompt), { pieces } = vocabulary;
    if (strangers.length) throw new Error(`the model does not know ${strangers.join(" ")}`);
    const draw = new Draw(seed), logits = new Float64Array(net.V);
    let trace = null;
    const feed = (id, by) => {
      const after = net.newTrace();
      by(id, trace, after);
      trace = after;
    };
    const expected = () => {
      net.logits(trace, logits);
      return logits;
    };
    const most = pieces ? Array.from(vocabulary.texts(ids).join("")).length + chars : Infinity;
    let left = chars; // ids, or of pieces characters
    [BOUNDARY, ...(open ? settled : ids)].forEach((id, k) => feed(id, open || k < ids.length ? net.read : net.step));
    if (open && chars) {
      const from = trace;
      const rows = open.usual.map((id) => {
        const row = pieces.logs(expected());
        feed(id, net.read);
        return row;
      });
      const drawn = chooseBeginning(pieces.beginnings(open, rows), temperature, draw).ids;
      trace = from;
      drawn.forEach((id, k) => feed(id, k < drawn.length - 1 ? net.read : net.step));
      ids.splice(settled.length, open.usual.length, ...drawn);
      left -= Array.from(pieces.textOf(drawn)).length - Array.from(open.text).length;
    }
    while (left > 0) {
      const id = choose(expected(), temperature, draw);
      if (id === BOUNDARY) break;
      ids.push(id);
      left -= pieces ? pieces.lengths[id] : 1;
      if (left > 0) feed(id, net.step);
    }
    const text = vocabulary.texts(ids).join("");
    return pieces ? Array.from(text).slice(0, most).join("") : text;
  }

  return { BOUNDARY, UNKNOWN, RESERVED, network, Draw, isSeed, probabilities, choose, chooseBeginning, Vocabulary, generate };
})();

if (typeof module !== "undefined") module.exports = storycell;
