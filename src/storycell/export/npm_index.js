// A model of storycell's as a module: `generate` gives a text, `stream` its characters as they come. Nothing is fetched.

import { Model } from "./lib/model.js";
import { files, name, prompt } from "./lib/run.js";

export { Model, name, prompt };

const models = {};

// The model itself, loaded when it is first asked for; `precision` "int8" generates faster.
export function load({ precision = "fp32" } = {}) {
  return models[precision] ??= Model.load(files(), { precision });
}

// A text and what follows it; of one seed always the same, and what `storycell sample` gives.
export async function generate(text = "", { precision, ...options } = {}) {
  return (await load({ precision })).generate(text, options);
}

// What follows a text, character by character.
export async function* stream(text = "", { precision, ...options } = {}) {
  yield* (await load({ precision })).stream(text, options);
}

// Nats of each character of a text.
export async function score(text) {
  return (await load()).score(text);
}
