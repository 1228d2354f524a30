/** How text is drawn; of one seed always the same. */
export interface GenerateOptions {
  chars?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  greedy?: boolean;
  /** A whole number below 2^64. */
  seed?: number | bigint | string;
  /** Values of the model's labels; of one that is left out the most frequent is taken. */
  labels?: Record<string, string>;
}

export type Precision = "fp32" | "int8";

export interface Shape {
  cell: "lstm" | "gru" | "rnn";
  layers: number;
  units: number;
  characters: number;
  embedding: number;
  /** The longest n-gram whose row, of so many, is added to the embedding; 0 or left out: there are none. */
  ngrams?: number;
  ngramRows?: number;
  /** The longest match whose row is added to the embedding; 0 or left out: there are none. */
  matches?: number;
}

/** A model that was trained anywhere: it generates, scores and is looked into. */
export class Model {
  readonly shape: Shape;
  /** The labels that stories can be asked for by, each with its values; none are listed where they are very many. */
  readonly labels: Record<string, string[]>;
  /** From a run folder: the bytes of its zip, or its files by name. */
  static load(run: Uint8Array | Record<string, Uint8Array>, options?: { precision?: Precision }): Promise<Model>;
  /** The prompt and what follows it. Throws for characters that the model does not know. */
  generate(prompt?: string, options?: GenerateOptions): string;
  /** What follows a prompt, character by character. */
  stream(prompt?: string, options?: GenerateOptions): Generator<string, void, void>;
  /** Nats of each character, [T]. */
  score(text: string): Float32Array;
  /** States after each character, [L, T, H]; `c` of lstm. */
  trace(text: string): { h: Float32Array; c?: Float32Array };
  /** Give its memory back. */
  free(): void;
}
