// The choice of a dose of a direction, and of a random one of the same length, in the pages that steer.

import { rested, showSlider } from "./generate.js";
import { element } from "./story.js";

const NOTE = "The direction is added at every step, as often as the dose says; at 1 it is the whole difference between the two "
  + "kinds of characters that it is named after. A random direction of the same length says what any push as large would do. "
  + "A change generates the text again from the same seed.";

// Fills the fieldset `box`; `onChange` is called when what is chosen has changed and rests. `more` is said as well.
export class SteerChoice {
  constructor(box, { about, onChange, more = "" }) {
    const change = rested(onChange);
    this.slider = element("input", { id: "dose", type: "range", min: -4, max: 8, step: 0.25, value: 0, change });
    this.which = element("select", { id: "direction", change: () => { if (this.dose) change(); } },
      new Option(about, ""), new Option("a random direction, as long", "random"));
    const output = element("output");
    box.append(element("label", { class: "steer" }, "Direction", this.which),
      element("label", { class: "slider" }, "Dose", this.slider, output), element("p", { class: "note" }, NOTE, more));
    showSlider(this.slider, output);
  }

  get dose() {
    return Number(this.slider.value);
  }

  get isRandom() {
    return this.which.value === "random";
  }
}
