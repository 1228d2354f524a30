// The controls of the pages that generate: what the colours show, what may come next, and how it is sampled.

import { FULL_NATS, LOSS, NOTHING, element, inOrder, meaningOf, nameOf, percent, scaleOf, signOf, wordOf } from "./story.js";

export const newSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

// The button that starts and stops.
export function showGenerating(button, isGenerating) {
  button.textContent = isGenerating ? "Stop" : "Generate";
  button.setAttribute("aria-pressed", String(isGenerating));
}

// Keep the number of a slider written in its output.
export function showSlider(input, output, digits = 2) {
  const show = () => { output.textContent = Number(input.value).toFixed(digits); };
  input.addEventListener("input", show);
  show();
  return show;
}

const REST_MS = 150; // a key that is held on a slider changes it many times a second

// `act`, once it has not been asked for again for a moment.
export function rested(act) {
  let waiting = 0;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(act, REST_MS);
  };
}

// The choice of the labels that a model knows, {name: values}; where these are too many to list, one is typed.
export function showLabels(box, labels, onChange) {
  box.replaceChildren(...Object.entries(labels).map(([name, values]) => element("label", {}, name, values.length
    ? element("select", { name, change: onChange }, ...values.map((value) => new Option(value)))
    : element("input", { name, maxlength: 200, change: onChange }))));
  box.hidden = !box.children.length;
}

// {name: value} of all that were chosen.
export function chosenLabels(box) {
  return Object.fromEntries([...box.querySelectorAll("[name]")].map((field) => [field.name, field.value]));
}

// Buttons for the likeliest next characters, {text, probability, isActual}; the `text` of the end is null.
export function showChoices(box, choices, onChoose) {
  box.replaceChildren(...choices.map((choice) => {
    const { text, probability, isActual = false, canChoose = true } = choice;
    const label = `${text === null ? "the end" : wordOf(text)}, ${percent(probability)}`;
    const button = element("button", { type: "button", "aria-label": label, click: () => onChoose(choice) },
      element("b", {}, text === null ? "end" : signOf(text)), element("small", {}, percent(probability)));
    button.style.setProperty("--share", probability.toFixed(3));
    button.classList.toggle("actual", isActual);
    button.disabled = !canChoose;
    return button;
  }));
}

// One line about a character: what the model expected, and the value that colours it.
export function describe(character, nats, colour = null, value = undefined) {
  const parts = [`“${wordOf(character)}”`];
  if (nats !== undefined) parts.push(`probability ${percent(Math.exp(-nats))}`, `surprise ${nats.toFixed(2)} nats`);
  if (colour?.symbol && value !== undefined) parts.push(`${nameOf(colour.symbol)} ${colour.symbol} of unit ${colour.unit}: ${value.toFixed(2).replace("-", "−")}`);
  return parts.join(" · ");
}

// What the colours show, chosen by the reader: `by` is "loss", "nothing" or a `symbol` of a `layer` and a `unit`.
export class ColourChoice {
  #fields;

  // Fills `box`; `onChange` is told what has changed: "by", "layer" or "unit".
  constructor(box, { layers, hidden, values, onChange }) {
    const numbers = (count) => [...Array(count).keys()].map((k) => [k, k]);
    const named = inOrder(values).map((symbol) => [symbol, `${nameOf(symbol)} ${symbol}`]);
    const select = (id, options, change) => element("select", { id, change }, ...options.map(([value, text]) => new Option(text, value)));
    this.hidden = hidden;
    this.by = select("colour", [["loss", "surprise"], ...named, ["nothing", "nothing"]],
      () => { this.#show(); onChange("by"); });
    this.layers = select("layer", numbers(layers), () => onChange("layer"));
    this.units = element("input", { id: "unit", type: "number", min: 0, max: hidden - 1, value: 0, inputmode: "numeric",
      change: () => { this.unit = this.units.value; onChange("unit"); } });
    this.#fields = [["Layer", this.layers], ["Unit", this.units]].map(([name, field]) => element("label", {}, name, field));
    this.meaning = element("p", { class: "note" });
    this.legend = element("div", { class: "legend", "aria-hidden": "true" });
    box.replaceChildren(
      element("div", { class: "fields" }, element("label", { class: "grow" }, "Colour by", this.by), ...this.#fields),
      this.legend, this.meaning);
    this.#show();
  }

  get symbol() {
    return ["loss", "nothing"].includes(this.by.value) ? null : this.by.value;
  }

  get layer() {
    return Number(this.layers.value);
  }

  get unit() {
    return Math.max(0, Math.min(this.hidden - 1, Math.trunc(Number(this.units.value)) || 0));
  }

  set unit(unit) {
    this.units.value = ((Math.trunc(Number(unit)) || 0) + this.hidden) % this.hidden;
  }

  // How `values`, those of the symbol, become colours.
  scale(values) {
    if (this.symbol) return scaleOf(this.symbol, values);
    return this.by.value === "loss" ? LOSS : NOTHING;
  }

  #show() {
    const { symbol } = this;
    for (const field of this.#fields) field.hidden = symbol === null;
    const surprise = `How little the model expected each character: −ln of its probability, full colour at ${FULL_NATS} nats.`;
    this.meaning.textContent = symbol ? meaningOf(symbol) : this.by.value === "loss" ? surprise : "";
  }
}
