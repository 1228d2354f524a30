// One view of a coloured story: a span for each character, coloured by its loss or by a value of a unit, and the legend
// that explains the colours. Pages say what the characters and their numbers are, and what a click on one does.

import VALUES from "./names.json" with { type: "json" };

export const FULL_NATS = 4; // a character this surprising has the full colour

const FAINT = 0.02; // a share of the full colour that nobody would see

export const nameOf = (symbol) => VALUES[symbol]?.name ?? symbol;
export const meaningOf = (symbol) => VALUES[symbol]?.meaning ?? "";
export const isGate = (symbol) => VALUES[symbol]?.isGate ?? false;

// The letters of values in the order of the table, those that it does not know last.
export function inOrder(symbols) {
  const order = Object.keys(VALUES);
  const place = (symbol) => (symbol in VALUES ? order.indexOf(symbol) : order.length);
  return [...symbols].sort((a, b) => place(a) - place(b));
}

// A character, or several, as signs that can be seen, and a character as a word that can be read out.
export const signOf = (text) => Array.from(text, (character) => ({ " ": "␣", "\n": "↵", "\t": "⇥" })[character] ?? character).join("");
export const wordOf = (character) => ({ " ": "space", "\n": "new line", "\t": "tab" })[character] ?? character;

// The float32 numbers of a base64 text.
export const numbersOf = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

// An element with attributes and children; properties that are functions are listeners.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function percent(probability) {
  if (probability > 0.99999) return "100 %";
  if (probability > 0.999) return ">99.9 %";
  if (probability < 0.001) return "<0.1 %";
  return probability >= 0.0995 ? `${Math.round(100 * probability)} %` : `${(100 * probability).toFixed(1)} %`;
}

// ---- Colours ----

// How the values of a `symbol` become colours: a gate from 0 to 1, anything else both ways from 0. The cell state has no
// bound: the size that 98 % of its values stay within has the full colour.
export function scaleOf(symbol, values) {
  if (isGate(symbol)) return { kind: "gate", full: 1 };
  const sizes = Float64Array.from(values, (value) => Math.abs(value ?? 0)).sort();
  if (symbol === "c") return { kind: "signed", full: Math.max(0.1, sizes[Math.ceil(0.98 * (sizes.length - 1))] ?? 0) };
  return { kind: "signed", full: Math.max(1, sizes.at(-1) ?? 0) };
}

export const LOSS = { kind: "loss", full: FULL_NATS };
export const NOTHING = { kind: "nothing", full: 1 };

// From -1 to 1 (from 0 for a loss or a gate): how much of the full colour, and of which.
function shareOf({ kind, full }, value) {
  if (kind === "nothing" || value === undefined || value === null || Number.isNaN(value)) return 0;
  const share = Math.max(-1, Math.min(1, value / full));
  return Math.abs(share) < FAINT ? 0 : share;
}

function tone(kind, share) {
  if (kind === "loss") return "loss";
  return share < 0 ? "low" : "high";
}

// The background of a value, in the theme's colours; "" for none.
export function colourOf(scale, value) {
  const share = shareOf(scale, value);
  if (share === 0) return "";
  return `color-mix(in srgb, var(--${tone(scale.kind, share)}) ${(100 * Math.abs(share)).toFixed(1)}%, transparent)`;
}

// Fill a `.legend` of a page: two ends, and the colours between them.
export function drawLegend(box, { kind, full }) {
  box.hidden = kind === "nothing";
  const bound = full.toLocaleString("en", { maximumSignificantDigits: 2 });
  const [low, high] = { loss: ["expected", "surprising"], gate: ["0 shut", "1 open"] }[kind] ?? [`−${bound}`, `+${bound}`];
  const [left, bar, right] = ["span", "i", "span"].map((tag) => document.createElement(tag));
  left.textContent = low;
  right.textContent = high;
  bar.className = kind;
  box.replaceChildren(left, bar, right);
}

// ---- The story ----

export class Story {
  // `onPoint(k)` is called with the character under the pointer (null when it leaves), `onChoose(k)` at a click on one.
  constructor(box, { legend = null, onPoint = null, onChoose = null } = {}) {
    this.box = box;
    this.legend = legend;
    this.scale = null; // what the legend shows
    this.spans = [];
    this.shown = []; // {text, scale, share} of each span
    this.places = new WeakMap(); // span -> k
    this.mark = null;
    this.column = null; // {k, left}: where a move up or down has led, and the column that it keeps to
    const at = (event) => this.places.get(event.target);
    if (onPoint) {
      box.addEventListener("mouseover", (event) => { if (at(event) !== undefined) onPoint(at(event)); });
      box.addEventListener("mouseleave", () => onPoint(null));
    }
    if (onChoose) {
      box.addEventListener("click", (event) => {
        const isCopying = String(getSelection()) !== "";
        if (at(event) !== undefined && !isCopying) onChoose(at(event));
      });
    }
  }

  get length() {
    return this.spans.length;
  }

  // Show `texts`, one of each character, coloured by `values`; the last `fresh` of them light up. Only what has changed
  // is touched, so a story that grows can be drawn at every character.
  draw(texts, values = [], scale = NOTHING, fresh = 0) {
    while (this.spans.length > texts.length) {
      this.spans.pop().remove();
      this.shown.pop();
    }
    const added = document.createDocumentFragment();
    for (let k = this.spans.length; k < texts.length; k++) {
      const span = document.createElement("span");
      if (k >= texts.length - fresh) span.className = "fresh";
      this.places.set(span, k);
      this.spans.push(span);
      this.shown.push({ text: "", kind: "", share: 0 });
      added.append(span);
    }
    for (let k = 0; k < texts.length; k++) {
      const now = this.shown[k], span = this.spans[k];
      if (now.text !== texts[k]) span.textContent = now.text = texts[k];
      const share = shareOf(scale, values[k]);
      if (now.share === share && now.kind === scale.kind) continue;
      span.style.backgroundColor = colourOf(scale, values[k]);
      now.share = share;
      now.kind = scale.kind;
    }
    this.box.append(added);
    if (this.legend && (this.scale?.kind !== scale.kind || this.scale.full !== scale.full)) drawLegend(this.legend, scale);
    this.scale = scale;
  }

  // Outline the character `k` (null: none).
  setMark(k) {
    this.spans[this.mark]?.classList.remove("mark");
    this.mark = k;
    this.spans[k]?.classList.add("mark");
  }

  scrollTo(k) {
    const span = this.spans[Math.min(k, this.length - 1)];
    if (!span) return;
    const top = span.offsetTop - this.box.offsetTop, seen = this.box.scrollTop;
    if (top < seen + 20 || top > seen + this.box.clientHeight - 50) this.box.scrollTop = top - this.box.clientHeight / 3;
  }

  // Walk by keys from the character that `here` says: each that a key leads to is shown by `show` and scrolled to.
  followKeys(here, show) {
    this.box.addEventListener("keydown", (event) => {
      const to = this.keyFrom(here(), event);
      if (to === null) return;
      event.preventDefault();
      show(to);
      this.scrollTo(to);
    });
  }

  // Where a key leads from the character `k`, 0 to `last`; null for a key that leads nowhere. Shift goes by words.
  keyFrom(k, event, last = this.length - 1) {
    if (event.ctrlKey || event.metaKey || event.altKey) return null;
    const to = {
      ArrowRight: () => (event.shiftKey ? this.#wordFrom(k, 1) : k + 1),
      ArrowLeft: () => (event.shiftKey ? this.#wordFrom(k, -1) : k - 1),
      ArrowDown: () => this.#lineFrom(k, 1),
      ArrowUp: () => this.#lineFrom(k, -1),
      Home: () => 0,
      End: () => last,
    }[event.key];
    return to ? Math.max(0, Math.min(last, to())) : null;
  }

  #wordFrom(k, step) {
    const isLetter = (at) => /\p{L}/u.test(this.shown[at]?.text ?? "");
    do k += step; while (k > 0 && k < this.length - 1 && !(isLetter(k) && !isLetter(k - 1)));
    return k;
  }

  // The character of the next line that is nearest to the column that the last moves up and down began in, so that down
  // and up leads back; the end of the text where there is no other line.
  #lineFrom(k, step) {
    const boxOf = (at) => this.spans[Math.min(at, this.length - 1)].getBoundingClientRect();
    if (!this.length) return k;
    const { left, top } = boxOf(k);
    const column = this.column?.k === k ? this.column.left : left;
    let line = null, nearest = step > 0 ? this.length - 1 : 0, distance = Infinity;
    for (let at = k + step; at >= 0 && at < this.length; at += step) {
      const box = boxOf(at);
      if (Math.abs(box.top - (line ?? top)) > 4) {
        if (line !== null) break;
        line = box.top;
      }
      if (line === null || Math.abs(box.left - column) >= distance) continue;
      nearest = at;
      distance = Math.abs(box.left - column);
    }
    this.column = { k: nearest, left: column };
    return nearest;
  }
}
