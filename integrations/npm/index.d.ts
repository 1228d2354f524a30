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
}

/** A model that was trained anywhere: it writes, scores and is looked into. */
export class Model {
  readonly shape: Shape;
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

/** Those of `storycell train`; what is left out is as in the learning page. */
export interface Settings {
  cell?: "lstm" | "gru" | "rnn";
  layers?: number;
  hidden?: number;
  embedding?: number;
  ngrams?: number;
  ngram_rows?: number;
  streams?: number;
  chunk?: number;
  steps?: number;
  lr?: number;
  schedule?: "cosine" | "constant";
  optimizer?: "adamw" | "adam" | "sgd" | "muon";
  dropout?: number;
  reset?: number;
  warmup?: number;
  final_lr?: number;
  weight_decay?: number;
  clip?: number | null;
  seed?: number;
}

export interface Look {
  step: number;
  chars: number;
  elapsed_s: number;
  chars_per_s: number;
  /** Nats per character, since the last look. */
  train_nats: number | null;
  /** Nats per character, on a part of what is held out. */
  valid_nats: number | null;
  learning_rate: number;
}

/** A model that learns a text. */
export class Trainer {
  static begin(text: string, settings?: Settings): Promise<Trainer>;
  /** Go on with a run, from the bytes of its zip; `text` where the zip has none. */
  static open(bytes: Uint8Array, text?: string | null): Promise<Trainer>;
  readonly step: number;
  readonly isDone: boolean;
  readonly parameters: number;
  /** One step: its loss in nats per character. */
  learn(): number;
  /** The loss on what is held out; null where nothing is. */
  evaluate(chars?: number): number | null;
  /** Evaluate a part, and keep the weights if they are the best so far. */
  look(): Look;
  /** All steps that are left. */
  train(options?: { onLook?: (look: Look) => void; signal?: AbortSignal | null }): Promise<Trainer>;
  /** The model with the weights of now. */
  model(options?: { precision?: Precision }): Model;
  /** A run folder as a zip, which `storycell train --resume` goes on with. */
  save(): Uint8Array;
  free(): void;
}
