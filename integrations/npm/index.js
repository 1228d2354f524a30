// storycell for JavaScript: models that were trained anywhere generate, score and are looked into; trainers make new ones.

import { Trainer as EngineTrainer } from "./lib/learn/trainer.js";
import { Model, theEngine } from "./lib/model.js";

export { Model };

export class Trainer {
  #trainer;

  // A new model for a text. `settings` are those of `storycell train`: cell, layers, hidden, steps, lr, seed, …
  static async begin(text, settings = {}) {
    return new Trainer(EngineTrainer.begin(await theEngine(), text, settings));
  }

  // One that goes on with a run, from the bytes of a zip that `save` gave.
  static async open(bytes, text = null) {
    return new Trainer(await EngineTrainer.open(await theEngine(), bytes, text));
  }

  constructor(trainer) { this.#trainer = trainer; }

  get step() { return this.#trainer.step; }
  get isDone() { return this.#trainer.isDone; }
  get parameters() { return this.#trainer.parameters; }

  // One step: its loss in nats per character.
  learn() { return this.#trainer.learn(); }

  // The loss on what is held out (null: nothing is), at most on `chars` characters of it.
  evaluate(chars = Infinity) { return this.#trainer.evaluate(chars); }

  // Evaluate a part and keep the weights if they are the best so far.
  look() { return this.#trainer.look(); }

  // Every step that is left, `onLook({step, train_nats, valid_nats, …})` told twelve times; the thread has pauses in between.
  async train({ onLook = () => {}, signal = null } = {}) {
    const { steps } = this.#trainer.settings, every = Math.max(1, Math.floor(steps / 12));
    while (!this.isDone && !signal?.aborted) {
      this.learn();
      if (this.step % every === 0 || this.isDone) {
        onLook(this.look());
        await new Promise((resolve) => setTimeout(resolve));
      }
    }
    return this;
  }

  // The model with the weights of now.
  model(options = {}) {
    const { engine, shape, model, data } = this.#trainer;
    return new Model(engine, shape, model.read(), data.vocab, options.precision);
  }

  // The run folder as the bytes of a zip.
  save() { return this.#trainer.save(); }

  free() { this.#trainer.free(); }
}
