import { GenerateOptions, Model, Precision } from "./lib/model.js";

export { GenerateOptions, Model, Precision, Shape } from "./lib/model.js";

/** The model's name. */
export const name: string;
/** What its own texts begin with; may be empty. */
export const prompt: string;

/** `int8` generates faster, with whole numbers. */
export interface Options extends GenerateOptions {
  precision?: Precision;
}

/** The model itself, loaded when it is first asked for. */
export function load(options?: { precision?: Precision }): Promise<Model>;
/** A text and what follows it. Rejects for characters that the model does not know. */
export function generate(text?: string, options?: Options): Promise<string>;
/** What follows a text, character by character. */
export function stream(text?: string, options?: Options): AsyncGenerator<string, void, void>;
/** Nats of each character of a text, [T]. */
export function score(text: string): Promise<Float32Array>;
