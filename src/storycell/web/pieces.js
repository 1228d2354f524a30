// Pieces of words, as in Python: how a text is cut into them (data/pieces.py), what the end of a prompt may begin with
// (generation/sampler.py), and how a piece's loss is split over its characters (data/vocab.py).

const FIRST_PIECE = 2; // ids before it are the boundary and the unknown character
const LONGEST_WORD = 40;
const OPEN_WORDS = 2; // at the end of a text, which what follows may change

// What each character is to the pattern of words; `character_classes` of data/pieces.py says it as Python's tables have it.
function classOf(character) {
  if (character === "_") return "_";
  if (/\p{Nd}/u.test(character)) return "d";
  if (/[\p{L}\p{N}]/u.test(character)) return "l";
  if (/\p{M}/u.test(character)) return "m";
  return /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/u.test(character) ? "s" : "o";
}

// The pattern that finds the words of a text of these characters.
function wordPattern(characters, classes) {
  const some = (wanted, but = "") => {
    const found = characters.filter((c, k) => wanted.includes(classes[k]) && !but.includes(c));
    return `[${found.map((c) => `\\u{${c.codePointAt(0).toString(16)}}`).join("")}]`;
  };
  const many = `{1,${LONGEST_WORD}}`;
  return new RegExp(
    `'(?:s|t|re|ve|m|ll|d)(?!${some("ld_")})| ?${some("lm")}${many}| ?${some("d")}${many}` +
    `| ?${some("om_")}${many}\\n{0,8}|${some("s", "\n\x1f")}${many}|\\n{1,8}|${some("s")}`, "gu");
}

export class Pieces {
  #merges = new Map(); // of two ids -> [the place in their order, the id that they make]
  #words = new Map(); // -> ids
  #ranges = new Map(); // the beginning of a piece -> from where to where in `order`
  #find;

  // `classes`: a letter for each character, by default what this engine's tables say.
  constructor({ characters, merges, classes = null }) {
    const single = Array.from(characters);
    this.texts = [null, null, ...new Set([...single, ...merges.map(([a, b]) => a + b)])];
    this.ids = new Map(this.texts.map((text, k) => [text, k]).slice(FIRST_PIECE));
    merges.forEach(([a, b], rank) => {
      const pair = this.#pair(this.ids.get(a), this.ids.get(b));
      if (!this.#merges.has(pair)) this.#merges.set(pair, [rank, this.ids.get(a + b)]);
    });
    this.#find = wordPattern(single, classes ?? single.map(classOf));
    this.lengths = this.texts.map((text) => (text === null ? 1 : Array.from(text).length));
    this.order = [...this.texts.keys()].slice(FIRST_PIECE).sort((a, b) => (this.texts[a] < this.texts[b] ? -1 : 1));
  }

  #pair(a, b) {
    return a * this.texts.length + b;
  }

  // The ids of a text of known characters.
  encode(text) {
    return (text.match(this.#find) ?? []).flatMap((word) => this.#cut(word));
  }

  // Of two neighbours that can be merged the first ones learnt, from the left, always.
  #cut(word) {
    if (this.#words.has(word)) return this.#words.get(word);
    const ids = Array.from(word, (c) => this.ids.get(c));
    for (;;) {
      let best = Infinity, at = 0, made = 0;
      for (let k = 0; k + 1 < ids.length; k++) {
        const [rank, id] = this.#merges.get(this.#pair(ids[k], ids[k + 1])) ?? [Infinity];
        if (rank < best) [best, at, made] = [rank, k, id];
      }
      if (best === Infinity) break;
      ids.splice(at, 2, made);
    }
    this.#words.set(word, ids);
    return ids;
  }

  // {settled, open} of a text: the ids that stay whatever follows, and of the rest of it {text, usual, beyond}: its usual
  // pieces, and the ids that reach beyond its end from the place of each. `open` is null where nothing is.
  settle(text) {
    const words = text.match(this.#find) ?? [], rest = words.slice(-OPEN_WORDS).join("");
    const settled = words.slice(0, -OPEN_WORDS).flatMap((word) => this.#cut(word));
    if (!rest) return { settled, open: null };
    const usual = this.encode(rest), beyond = [];
    let left = rest;
    for (const id of usual) {
      beyond.push(this.#beginning(left).filter((k) => this.texts[k] !== left).sort((a, b) => a - b));
      left = left.slice(this.texts[id].length);
    }
    return { settled, open: { text: rest, usual, beyond } };
  }

  #beginning(text) {
    const [first, end] = this.#rangeOf(text);
    return this.order.slice(first, end);
  }

  #rangeOf(text) {
    if (!this.#ranges.has(text)) {
      const bound = (isBelow) => {
        let [low, high] = [0, this.order.length];
        while (low < high) {
          const middle = (low + high) >> 1;
          if (isBelow(this.texts[this.order[middle]])) low = middle + 1;
          else high = middle;
        }
        return low;
      };
      this.#ranges.set(text, [bound((one) => one < text), bound((one) => one.slice(0, text.length) <= text)]);
    }
    return this.#ranges.get(text);
  }

  get size() { return this.texts.length; }

  // The logarithms of the probabilities that logits are; none for an unknown character, unless that counts.
  logs(logits, { unknown = false } = {}) {
    let best = -Infinity, total = 0;
    const out = Float64Array.from(logits);
    if (!unknown) out[1] = -Infinity;
    for (const number of out) if (number > best) best = number;
    for (const number of out) total += Math.exp(number - best);
    const behind = best + Math.log(total);
    return out.map((number) => number - behind);
  }

  #share(logs, text) {
    const [first, end] = this.#rangeOf(text);
    let share = 0;
    for (let k = first; k < end; k++) share += Math.exp(logs[this.order[k]]);
    return Math.log(share);
  }

  // The nats of each character of an id: what the probability of all pieces that begin with the characters before it is to be
  // multiplied by for those that begin with it too; of the last one also that the piece ends there.
  spell(logs, id) {
    const characters = Array.from(this.texts[id] ?? " "), nats = [];
    let behind = 0, text = "";
    for (const character of characters.slice(0, -1)) {
      text += character;
      const now = Math.min(Math.max(this.#share(logs, text), logs[id]), behind);
      nats.push(behind - now);
      behind = now;
    }
    return [...nats, behind - logs[id]];
  }

  // The same of what is open, where the last pieces may go on; `rows` are the logs at the places of its usual pieces.
  spellOpen({ text, usual }, rows) {
    const characters = Array.from(text), agree = [0, ...characters.map(() => -Infinity)]; // ln p of all that agree so far
    const sum = (a, b) => (a === -Infinity ? b : Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b))));
    let start = 0, behind = 0;
    usual.forEach((id, at) => {
      let begun = "";
      for (let end = start; end < characters.length; end++) {
        begun += characters[end];
        const share = this.#share(rows[at], begun);
        if (share === -Infinity) break;
        agree[end + 1] = sum(agree[end + 1], behind + share);
      }
      start += this.lengths[id];
      behind += rows[at][id];
    });
    return characters.map((_, k) => Math.max(0, agree[k] - agree[k + 1]));
  }

  // All that what is open may begin with: {ids, score}, some usual pieces and then one; `score` is ln p.
  beginnings({ usual, beyond }, rows) {
    const found = [];
    let behind = 0;
    usual.forEach((id, at) => {
      const here = at + 1 === usual.length ? [...beyond[at], id] : beyond[at];
      for (const k of here) found.push({ ids: [...usual.slice(0, at), k], score: behind + rows[at][k] });
      behind += rows[at][id];
    });
    return found;
  }

  textOf(ids) {
    return ids.map((id) => this.texts[id]).join("");
  }

  // What may follow what is open, likeliest first: {text, ids, probability}; `next` are the logs behind the usual pieces. Each
  // text is there once, with the likeliest of its ids, which stand in the place of the usual ones; null is the end.
  waysOn(open, rows, next) {
    const begun = this.beginnings(open, rows), ways = new Map();
    const total = begun.reduce((sum, { score }) => sum + Math.exp(score), 0);
    const add = (text, ids, probability) => {
      const way = ways.get(text);
      if (!way) ways.set(text, { text, ids, probability, best: probability });
      else Object.assign(way, { probability: way.probability + probability }, way.best < probability ? { ids, best: probability } : {});
    };
    for (const { ids, score } of begun) {
      const probability = Math.exp(score) / total, text = this.textOf(ids).slice(open.text.length);
      if (text) add(text, ids, probability);
      else next.forEach((log, k) => { if (log > -Infinity) add(this.texts[k], [...ids, k], probability * Math.exp(log)); });
    }
    return [...ways.values()].sort((a, b) => b.probability - a.probability);
  }
}
