import { Model, Precision } from "./lib/model.js";

export { GenerateOptions, Model, Precision, Shape } from "./lib/model.js";

/** Those of `storycell train`; what is left out is as in the learning page. */
export interface Settings {
  cell?: "lstm" | "gru" | "rnn";
  layers?: number;
  hidden?: number;
  embedding?: number;
  ngrams?: number;
  ngram_rows?: number;
  matches?: number;
  streams?: number;
  chunk?: number;
  steps?: number;
  lr?: number;
  schedule?: "cosine" | "constant";
  optimizer?: "adamw" | "adam" | "sgd" | "muon" | "normuon";
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
