// One step of one unit with its numbers: what comes in, what each gate adds up, how the memory changes; and the layer as a
// picture, to choose units from. The pages say what the numbers are (`ask`), and move along their text.

import { Story, colourOf, element, inOrder, isGate, nameOf, scaleOf, wordOf } from "./story.js";

const DIGITS = 3; // behind the point; fewer of large numbers
const shown = (number) => number.toFixed(Math.max(0, DIGITS - Math.max(0, Math.floor(Math.log10(Math.abs(number) || 1))))).replace("-", "−");
const SVG = "http://www.w3.org/2000/svg";
const FORMULAS = {
  lstm: ({ before, after: { i, f, g, o, c, h } }) => [
    ["c = f · c + i · g", `${shown(f)} · ${shown(before.c)} + ${shown(i)} · ${shown(g)} = ${shown(c)}`],
    ["h = o · tanh c", `${shown(o)} · tanh ${shown(c)} = ${shown(h)}`],
  ],
  gru: ({ before, after: { z, n, h } }) => [
    ["h = z · h + (1 − z) · n", `${shown(z)} · ${shown(before.h)} + ${shown(1 - z)} · ${shown(n)} = ${shown(h)}`],
  ],
  rnn: ({ sums: [sum], after: { h } }) => [["h = tanh(sum)", `tanh ${shown(totalOf(sum))} = ${shown(h)}`]],
};
const TOLD = {
  lstm: ({ before, after: { i, f, g } }) => `${shown(f)} of ${shown(before.c)} was kept, ${shown(i)} of ${shown(g)} was written`,
  gru: ({ before, after: { z, n } }) => `${shown(z)} of ${shown(before.h)} was kept, ${shown(1 - z)} of ${shown(n)} was written`,
  rnn: ({ before }) => `before it was ${shown(before.h)}`,
};

function totalOf({ name, bias, x, h }, reset = 1) {
  return bias + x + (name === "n" ? reset * h : h);
}

export class StepView {
  // `ask({at, layer, unit, symbol, character})` gives the step that reads character `at` of the text (-1: the boundary before
  // it; another `character` in its place where that is not empty), now or later: {read, x, h, sums, before, after, row},
  // as inspect/step.py has them, `row` being `symbol` of the whole layer; or a sentence why not.
  constructor(details, { cell, layers, hidden, values, ask, onMove }) {
    Object.assign(this, { cell, hidden, ask, onMove, at: -1, length: 0, asked: 0, isNew: true });
    const options = (entries) => entries.map(([value, text]) => new Option(text, value));
    const states = values.filter((name) => !isGate(name));
    this.memory = states.includes("c") ? "c" : "h";
    this.layers = element("select", { change: () => this.update() }, ...options([...Array(layers).keys()].map((k) => [k, k])));
    this.layers.value = layers - 1;
    this.units = element("input", { type: "number", min: 0, max: hidden - 1, value: 0, inputmode: "numeric", change: () => this.update() });
    this.symbols = element("select", { change: () => this.update() }, ...options(inOrder(values).map((name) => [name, `${nameOf(name)} ${name}`])));
    this.character = element("input", { maxlength: 2, size: 2, autocomplete: "off", autocapitalize: "off", spellcheck: "false", input: () => this.update() });
    const move = (by, text) => element("button", { type: "button", click: () => this.onMove(this.at + by) }, text);
    this.back = move(-1, "‹ Step back");
    this.forward = move(1, "Step forward ›");
    const label = (text, field) => element("label", {}, text, field);
    this.said = element("p", { class: "step-said", role: "status" });
    this.drawing = element("div", { class: "step-drawing" });
    this.formulas = element("dl", { class: "step-formulas" });
    this.table = element("div", { class: "step-table", tabindex: 0, role: "region", "aria-label": "What each gate adds up" });
    this.inputs = element("div", { class: "step-inputs" });
    this.grid = element("div", { class: "step-units", tabindex: 0, role: "application", "aria-roledescription": "picture of the layer",
      "aria-label": "All units of the layer; arrow keys move from unit to unit" });
    this.legend = element("div", { class: "legend", "aria-hidden": "true" });
    details.append(element("div", {},
      element("div", { class: "step-controls" }, this.back, this.forward, label("Layer", this.layers), label("Unit", this.units),
        label("Read instead", this.character)),
      this.said, this.drawing, this.formulas, this.table, this.inputs,
      element("div", { class: "step-controls" }, label("The layer’s", this.symbols), this.legend), this.grid));
    this.picture = new Story(this.grid, { legend: this.legend, onChoose: (unit) => this.choose(unit) });
    this.picture.followKeys(() => this.unit, (unit) => this.choose(unit));
    this.grid.addEventListener("keydown", (event) => { if (event.defaultPrevented) event.stopPropagation(); });
  }

  get layer() {
    return Number(this.layers.value);
  }

  get unit() {
    return Math.max(0, Math.min(this.hidden - 1, Math.trunc(Number(this.units.value)) || 0));
  }

  choose(unit) {
    this.units.value = unit;
    this.update();
  }

  // Show the character `at` of a text of `length`.
  moveTo(at, length) {
    Object.assign(this, { at, length });
    return this.update();
  }

  async update() {
    const mine = ++this.asked;
    const { at, layer, unit } = this, symbol = this.symbols.value, character = this.character.value;
    this.back.disabled = at < 0;
    this.forward.disabled = at >= this.length - 1;
    let found = this.ask({ at, layer, unit, symbol, character });
    if (found instanceof Promise) found = await found;
    if (mine !== this.asked || found === undefined) return;
    if (typeof found === "string") {
      this.said.textContent = found;
      return;
    }
    if (this.isNew && at >= 0 && symbol === this.memory) { // the first look is at a unit that holds something
      this.isNew = false;
      const sizes = Array.from(found.row, Math.abs), most = sizes.indexOf(Math.max(...sizes));
      if (most !== unit) return this.choose(most);
    }
    this.found = found;
    this.#show({ at, layer, unit, symbol });
  }

  #show({ at, layer, unit, symbol }) {
    const { found, cell, memory } = this;
    const place = at < 0 ? "the boundary before the text" : `“${wordOf(found.read)}” (character ${at + 1})`;
    this.said.textContent = `At ${place}: ${nameOf(memory)} ${memory} of layer ${layer}, unit ${unit} became ${shown(found.after[memory])}; ${TOLD[cell](found)}.`;
    this.drawing.replaceChildren(cell === "lstm" ? draw(found) : element("p", { class: "note" },
      `The drawing is that of an LSTM; this is ${{ gru: "a GRU, whose hidden state is its memory", rnn: "a vanilla RNN, which has no gates" }[cell]}.`));
    this.formulas.replaceChildren(...FORMULAS[cell](found).flatMap(([formula, numbers]) => [element("dt", {}, formula), element("dd", {}, `= ${numbers}`)]));
    const cells = (tag, texts) => texts.map((text, k) => element(k ? tag : "th", k ? {} : { scope: "row" }, text));
    const head = ["", "bias", "from x", cell === "gru" ? "from h (n: times r)" : "from h", "sum", "squashed"];
    const rows = found.sums.map((sum) => cells("td", [`${nameOf(sum.name)} ${sum.name}`, shown(sum.bias), shown(sum.x), shown(sum.h),
      shown(totalOf(sum, found.after.r)), shown(sum.value)]));
    this.table.replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => (text
      ? element("th", { scope: "col" }, text) : element("td"))))), element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row)))));
    const fed = layer ? `x, what layer ${layer - 1} shows` : `x, the character “${wordOf(found.read)}”`;
    this.inputs.replaceChildren(...[[fed, found.x], ["h, what this layer showed before", found.h]].map(strip));
    this.picture.draw(Array.from(found.row, () => ""), found.row, scaleOf(symbol, found.row));
    this.picture.setMark(unit);
  }
}

// Numbers as a strip of squares; a character that enters as one row of weights has none.
function strip([name, numbers]) {
  if (!numbers) return element("p", { class: "note" }, `${name}: one row of the weights`);
  const box = element("div", { class: "step-strip", role: "img", "aria-label": `${name}: ${numbers.length} numbers from ${shown(Math.min(...numbers))} to ${shown(Math.max(...numbers))}` });
  new Story(box).draw(Array.from(numbers, () => ""), numbers, { kind: "signed", full: Math.max(1e-9, ...Array.from(numbers, Math.abs)) });
  return element("div", {}, element("p", { class: "note" }, `${name}: ${numbers.length} numbers`), box);
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// The LSTM's step: the memory runs along the top, gates stand on what comes in from below.
function draw({ read, before, after }) {
  const { i, f, g, o, c, h } = after;
  const text = (x, y, words, anchor = "middle", kind = "") => svg("text", { x, y, "text-anchor": anchor, class: kind }, words);
  const line = (d) => svg("path", { d });
  const node = (x, y, sign) => [svg("circle", { cx: x, cy: y, r: 12 }), text(x, y + 5, sign)];
  const gate = (x, symbol, value) => {
    const box = svg("rect", { x: x - 25, y: 206, width: 50, height: 44, rx: 6 });
    box.style.fill = colourOf({ kind: isGate(symbol) ? "gate" : "signed", full: 1 }, value) || "var(--raised)";
    return [box, text(x, 224, symbol, "middle", "name"), text(x, 242, shown(value))];
  };
  return svg("svg", { viewBox: "0 0 360 322", role: "img", "aria-label":
    `The step drawn: forget gate ${shown(f)} times the old cell state ${shown(before.c)}, plus input gate ${shown(i)} times candidate ${shown(g)}, `
    + `is the new cell state ${shown(c)}; output gate ${shown(o)} times its tanh is the hidden state ${shown(h)}` },
  line("M6 44H354M62 206V44M132 206V124H160M188 206V124H160V44M246 206V168H306M306 44V168H354M6 284H246M62 284V250M132 284V250M188 284V250M246 284V250M34 308V284"),
  ...node(62, 44, "×"), ...node(160, 44, "+"), ...node(160, 124, "×"), ...node(306, 168, "×"),
  svg("rect", { x: 284, y: 88, width: 44, height: 24, rx: 12 }), text(306, 104, "tanh"),
  ...gate(62, "f", f), ...gate(132, "i", i), ...gate(188, "g", g), ...gate(246, "o", o),
  text(6, 24, `c ${shown(before.c)}`, "start", "name"), text(80, 64, `f·c ${shown(f * before.c)}`, "start"),
  text(354, 24, `c ${shown(c)}`, "end", "name"), text(168, 90, `i·g ${shown(i * g)}`, "start"),
  text(354, 158, "h", "end", "name"), text(354, 190, shown(h), "end"),
  text(6, 276, "h in", "start"), text(42, 316, `x: “${wordOf(read)}”`, "start"));
}
