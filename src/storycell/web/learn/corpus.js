// A text for training: stories, vocabulary, ids, and what is held out, by the rules of storycell's data/ (splits.py, vocab.py).

import { Blake2b } from "./blake2b.js";

export const BOUNDARY = 0, UNKNOWN = 1, RESERVED = 2;
export const SEPARATOR = "<|endoftext|>";
const WHITE = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/u;
const HASHED_BYTES = 4096, BUCKET_BITS = 50n;
const LARGE_SHARE = 10, VALID_TAIL = 10, VALID_SHARE = 0.05, LEAST_SHARE = 1 / 40, MOST_SHARE = 1 / 8;
export const encoder = new TextEncoder(), decoder = new TextDecoder();

// A text as a file has it: no byte order mark, every line end "\n".
export const plainText = (text) => text.toWellFormed().replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");

// The stories between separator lines; those of nothing but white space are none.
export function storiesOf(text) {
  const stories = [];
  let lines = [];
  for (const line of text.split("\n")) {
    if (line !== SEPARATOR) lines.push(line);
    else {
      stories.push(lines.length ? `${lines.join("\n")}\n` : "");
      lines = [];
    }
  }
  return [...stories, lines.join("\n")].filter((story) => !WHITE.test(story));
}

export class Characters {
  constructor(characters) {
    this.characters = Array.from(characters);
    this.ids = new Map(this.characters.map((character, k) => [character, k + RESERVED]));
  }

  // All characters of stories, in code point order, with those of another vocabulary if it is given.
  static of(stories, other = []) {
    const found = new Set(other);
    for (const story of stories) for (const character of story) found.add(character);
    return new Characters([...found].sort((a, b) => a.codePointAt(0) - b.codePointAt(0)));
  }

  get size() { return this.characters.length + RESERVED; }
  encode(text) { return Array.from(text, (character) => this.ids.get(character) ?? UNKNOWN); }
  text(id) { return id === BOUNDARY ? `${SEPARATOR}\n` : id === UNKNOWN ? "\ufffd" : this.characters[id - RESERVED]; }
  decode(ids) { return ids.map((id) => this.text(id)).join(""); }

  // vocab.json, to the byte.
  toJson() {
    const listed = this.characters.map(pythonString).join(", ");
    return `{"format": 1, "kind": "characters", "reserved": ["${SEPARATOR}", "<|unknown|>"], "characters": [${listed}]}\n`;
  }

  static fromJson(text) {
    const { kind, characters } = JSON.parse(text);
    if (kind !== "characters") throw new Error(`the run has a vocabulary of ${kind}; in the page models learn characters`);
    return new Characters(characters);
  }

  get digest() { return new Blake2b(16).update(encoder.encode(this.toJson())).hex(); }
}

// A string as Python's json.dumps writes it.
export const pythonString = (text) => JSON.stringify(text).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);

function hashOf(story) {
  const bytes = encoder.encode(story.slice(0, HASHED_BYTES + 1)).subarray(0, HASHED_BYTES); // no character is cut in two
  const isWhite = (byte) => byte === 32 || (byte >= 9 && byte <= 13);
  let [start, end] = [0, bytes.length];
  while (start < end && isWhite(bytes[start])) start++;
  while (end > start && isWhite(bytes[end - 1])) end--;
  return new DataView(new Blake2b(8).update(bytes.subarray(start, end)).digest().buffer).getBigUint64(0);
}

// Texts may have millions of characters: none of these makes a list of them.
function lengthOf(text) {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

// The first `count` characters of a text, and the rest.
function cut(text, count) {
  let at = 0;
  for (let k = 0; k < count; k++) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return [text.slice(0, at), text.slice(at)];
}

// Which stories are trained on and which are held out: {train, valid}, lists of texts; a large story is cut in two.
export function split(stories) {
  const lengths = stories.map(lengthOf), total = lengths.reduce((sum, n) => sum + n, 0);
  const large = new Set(lengths.map((_, k) => k).filter((k) => lengths[k] * LARGE_SHARE > total));
  const hashes = stories.map((story, k) => (large.has(k) ? 0n : hashOf(story))), buckets = new Map();
  hashes.forEach((hash, k) => {
    const bucket = Number(hash >> BUCKET_BITS);
    if (!large.has(k)) buckets.set(bucket, (buckets.get(bucket) ?? 0) + lengths[k]);
  });
  const tails = [...large].reduce((sum, k) => sum + Math.floor(lengths[k] / VALID_TAIL), 0);

  const divide = ({ threshold, skipped }) => {
    const train = [], valid = [];
    let heldOut = 0;
    stories.forEach((story, k) => {
      if (large.has(k)) {
        const tail = Math.floor(lengths[k] / VALID_TAIL), [start, end] = cut(story, lengths[k] - tail);
        train.push(start);
        if (tail) valid.push(end);
        heldOut += tail;
      } else if (hashes[k] < threshold && !skipped.has(Number(hashes[k] >> BUCKET_BITS))) {
        valid.push(story);
        heldOut += lengths[k];
      } else train.push(story);
    });
    return { train, valid, heldOut };
  };

  let held = tails, threshold = 0n;
  const skipped = new Set();
  for (const [bucket, length] of [...buckets].sort(([a], [b]) => a - b)) {
    if (held >= total * VALID_SHARE) break;
    if (held + length > total * MOST_SHARE) skipped.add(bucket);
    else {
      held += length;
      threshold = BigInt(bucket + 1) << BUCKET_BITS;
    }
  }
  const first = divide({ threshold: BigInt(Math.trunc(VALID_SHARE * 2 ** 64)), skipped: new Set() });
  if (LEAST_SHARE * total <= first.heldOut && first.heldOut <= MOST_SHARE * total) return first;
  return divide({ threshold, skipped });
}

// {text, vocab, train, valid (ids, each story after its boundary), isOneStory, trainChars, validChars, digest}; an Error says
// what is wrong. With `known`, a vocabulary, its characters come first: those of a model that goes on.
export function prepare(raw, known = null) {
  const text = plainText(raw), stories = storiesOf(text);
  if (!stories.length) throw new Error("The text holds no characters but white space: there is nothing to learn from.");
  const vocab = known ? Characters.of(stories, known.characters) : Characters.of(stories);
  const { train, valid } = split(stories);
  const ids = (some) => {
    const out = new Uint16Array(some.reduce((sum, story) => sum + 1 + lengthOf(story), 0));
    let at = 0;
    for (const story of some) {
      out[at++] = BOUNDARY;
      for (const character of story) out[at++] = vocab.ids.get(character) ?? UNKNOWN;
    }
    return out;
  };
  const bytes = encoder.encode(text), hash = new Blake2b(16);
  for (const part of [encoder.encode(`utf-8${bytes.length}:('', False)`), bytes]) hash.update(part);
  const parts = `1\n${hash.hex()}\n\n${known ? vocab.toJson() : "characters"}`;
  const [trainIds, validIds] = [ids(train), ids(valid)];
  return {
    text, vocab, train: trainIds, valid: validIds, stories: stories.length, isOneStory: stories.length === 1,
    trainChars: trainIds.length - train.length, validChars: validIds.length - valid.length,
    tellsStories: train.some((story) => story.includes("Once upon a")),
    digest: new Blake2b(16).update(encoder.encode(parts)).hex(),
  };
}
