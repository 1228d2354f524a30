// Regular expressions as rules for a text that is generated: what may come next, so that the text matches as a whole and ends
// in time. They mean what Python's `re.fullmatch` says, as in generation/automaton.py of storycell; here the sets of
// Glushkov's positions are found as they are needed.

const MOST_POSITIONS = 4000;
const ESCAPED = { n: "\n", t: "\t", r: "\r", f: "\f", v: "\v", a: "\x07" };
const CLASSES = {
  d: /^\p{Nd}$/u,
  w: /^[\p{L}\p{N}_]$/u,
  s: /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$/u,
};
const QUANTIFIER = /[*+?]|\{(\d+)\}|\{(\d*),(\d*)\}/y;
const GROUP = /\((?:\?(?::|P<\w+>|([is]+):))?(?!\?)/y;

const refuse = (what) => { throw new Error(`The pattern has ${what}.`); };

// A text -> a tree of {any: parts}, {all: parts}, {read: test of a character} and {repeat: part, least, most}.
class Parser {
  constructor(text) {
    const flags = /^\(\?([is]+)\)/.exec(text);
    this.text = text.slice(flags?.[0].length ?? 0);
    this.at = 0;
    this.whole = this.choice(flags?.[1] ?? "");
    if (this.at < this.text.length) refuse("a ) too many");
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at += found[0].length;
    return found;
  }

  choice(flags) {
    const any = [this.sequence(flags)];
    while (this.text[this.at] === "|") {
      this.at++;
      any.push(this.sequence(flags));
    }
    return { any };
  }

  sequence(flags) {
    const all = [];
    while (this.at < this.text.length && !"|)".includes(this.text[this.at])) all.push(this.repeated(this.item(flags)));
    return { all };
  }

  repeated(part) {
    const found = this.match(QUANTIFIER);
    if (!found) return part;
    const [sign, times, from, to] = found, bounds = { "*": [0, Infinity], "+": [1, Infinity], "?": [0, 1] }[sign];
    const [least, most] = bounds ?? (times ? [Number(times), Number(times)] : [Number(from), to ? Number(to) : Infinity]);
    if (least > most) refuse(`the range ${sign}, which is turned round`);
    if (this.text[this.at] === "+") refuse("a possessive repetition");
    if (this.text[this.at] === "?") this.at++; // reluctant: the same texts
    if (this.match(QUANTIFIER)) refuse("a repetition of a repetition");
    return { repeat: part, least, most };
  }

  item(flags) {
    const c = this.character();
    if (c === "(") return this.group(flags);
    if (c === "[") return this.set(flags);
    if (c === ".") return { read: (one) => flags.includes("s") || one !== "\n" };
    if (c === "^" || c === "$") return this.anchor(c === "^" ? this.at === 1 : this.at === this.text.length);
    if (c === "*" || c === "+" || c === "?") refuse(`a ${c} behind nothing`);
    if (c === "\\" && "AZ".includes(this.text[this.at])) return this.anchor(this.text[this.at++] === "A" ? this.at === 2 : this.at === this.text.length);
    const test = c === "\\" ? this.escape() : c;
    return this.reading([test], false, flags);
  }

  // At the two ends of a whole text anchors say nothing.
  anchor(isAtItsEnd) {
    return isAtItsEnd ? { all: [] } : refuse("an anchor inside");
  }

  group(flags) {
    this.at--;
    const found = this.match(GROUP) ?? refuse("a group of a kind that is not supported");
    const inner = this.choice(flags + (found[1] ?? ""));
    if (this.text[this.at++] !== ")") refuse("a ( that is not closed");
    return inner;
  }

  set(flags) {
    const negated = this.text[this.at] === "^", tests = [];
    this.at += negated;
    for (let first = true; first || this.text[this.at] !== "]"; first = false) {
      if (this.at >= this.text.length) refuse("a [ that is not closed");
      const low = this.inSet();
      tests.push(low);
      if (this.text[this.at] !== "-" || this.at + 1 >= this.text.length || this.text[this.at + 1] === "]") continue;
      this.at++;
      const high = this.inSet();
      if (typeof low !== "string" || typeof high !== "string" || low.codePointAt(0) > high.codePointAt(0)) refuse("a range of characters that is none");
      tests.push((one) => one.codePointAt(0) >= low.codePointAt(0) && one.codePointAt(0) <= high.codePointAt(0));
    }
    this.at++;
    return this.reading(tests, negated, flags);
  }

  inSet() {
    const c = this.character();
    return c === "\\" ? this.match(/b/y)?.[0].replace("b", "\b") ?? this.escape() : c;
  }

  character() {
    const c = String.fromCodePoint(this.text.codePointAt(this.at));
    this.at += c.length;
    return c;
  }

  // What stands behind a backslash: a character, or a test of one.
  escape() {
    const code = this.match(/x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})/y);
    if (code) return String.fromCodePoint(parseInt(code[1] ?? code[2] ?? code[3], 16));
    if (this.at >= this.text.length) refuse("a \\ at its end");
    const c = this.character(), kind = CLASSES[c.toLowerCase()];
    if (kind) return (one) => kind.test(one) === (c === c.toLowerCase());
    if (/[0-9A-Za-z]/.test(c) && !ESCAPED[c]) refuse(`\\${c}, which is not supported`);
    return ESCAPED[c] ?? c;
  }

  // A character out of those that one of `tests`, each a character or a function, takes.
  reading(tests, negated, flags) {
    const forms = (one) => (flags.includes("i") ? [one, one.toLowerCase(), one.toUpperCase()].filter((form) => Array.from(form).length === 1) : [one]);
    const takes = (test, one) => (typeof test === "string" ? test === one : test(one));
    return { read: (one) => forms(one).some((form) => tests.some((test) => takes(test, form))) !== negated };
  }
}

// A state is {next, ends}: the positions that may be read next, and whether the text may end.
export class Pattern {
  #reads = []; // by position: a byte for each of `characters`, 1 where it reads that
  #follow = []; // by position: those that may come behind it

  #needs = []; // by position: the characters behind it until a text may end
  #last;

  // Throws an `Error` with a sentence where the text is no pattern that is supported.
  constructor(text, characters) {
    const { nullable, first, last } = this.#build(new Parser(text).whole, characters);
    const lives = this.#reads.map((read) => read.includes(1)), leads = this.#reads.map(() => []);
    this.#follow.forEach((next, p) => { for (const q of next) if (lives[q]) leads[q].push(p); });
    this.#needs = lives.map(() => Infinity);
    for (let found = last, need = 0; found.length; need++) {
      for (const p of found) this.#needs[p] = need;
      found = [...new Set(found.flatMap((q) => leads[q]))].filter((p) => this.#needs[p] === Infinity);
    }
    this.#last = new Set(last);
    this.start = { next: first.filter((p) => lives[p]), ends: nullable };
  }

  // The fewest characters that a text needs behind a state.
  need({ next, ends }) {
    return ends ? 0 : 1 + next.reduce((least, p) => Math.min(least, this.#needs[p]), Infinity);
  }

  // The state behind the k-th character, where a text of `left` characters more, this one included, can still match; or null.
  advance({ next }, k, left = Infinity) {
    const read = next.filter((p) => this.#reads[p][k]);
    if (!read.some((p) => this.#needs[p] < left)) return null;
    return { next: [...new Set(read.flatMap((p) => this.#follow[p]))], ends: read.some((p) => this.#last.has(p)) };
  }

  #build(node, characters) {
    const nothing = { nullable: true, first: [], last: [] }, build = (one) => this.#build(one, characters);
    const behind = (a, b) => {
      for (const p of a.last) this.#follow[p] = [...new Set([...this.#follow[p], ...b.first])];
      return { nullable: a.nullable && b.nullable, first: a.nullable ? [...a.first, ...b.first] : a.first, last: b.nullable ? [...a.last, ...b.last] : b.last };
    };
    if (node.read) {
      if (this.#reads.length === MOST_POSITIONS) refuse(`more than ${MOST_POSITIONS} characters, repetitions written out`);
      this.#follow.push([]);
      const p = this.#reads.push(Uint8Array.from(characters, (c) => (node.read(c) ? 1 : 0))) - 1;
      return { nullable: false, first: [p], last: [p] };
    }
    if (node.all) return node.all.reduceRight((rest, one) => behind(build(one), rest), nothing);
    if (node.any) {
      const parts = node.any.map(build);
      return { nullable: parts.some((part) => part.nullable), first: parts.flatMap((part) => part.first), last: parts.flatMap((part) => part.last) };
    }
    let { least } = node, part = build(node.repeat);
    if (!part.first.length) return part; // nothing, however often
    if (node.most === 0) return nothing;
    const optional = (one) => ({ ...one, nullable: true });
    if (node.most === Infinity) {
      behind(part, part);
      if (!least) return optional(part);
    } else if (node.most > least) {
      part = optional(part);
      for (let k = least + 1; k < node.most; k++) part = optional(behind(build(node.repeat), part)); // x{0,3} as (x(x(x)?)?)?
      least++;
    }
    for (let k = 1; k < least; k++) part = behind(build(node.repeat), part);
    return part;
  }
}
