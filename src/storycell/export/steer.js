// Steering in the exported page: a direction on top of what a layer shows, by dose, beside a random one of the same length.

import { showSlider } from "../web/generate.js";
import { element } from "../web/story.js";

const NOTE = "is added at every step, as often as the dose says; at 1 it is the whole difference between the two kinds of "
  + "characters that it is named after. A random direction of the same length says what any push as large would do. "
  + "A change writes the text anew from the same seed; steered, the page computes in plain JavaScript.";

// Fill the fieldset; `onChange(isSteered)` is called once `net` shows what was asked for.
export function offerSteering(box, { steer, net, onChange }) {
  box.hidden = !steer;
  if (!steer) return;
  const slider = element("input", { id: "dose", type: "range", min: -4, max: 8, step: 0.25, value: 0 }), output = element("output");
  const which = element("select", { id: "direction" }, new Option(steer.about, 0), new Option("a random direction, as long", 1));
  const shown = () => {
    const dose = Number(slider.value), vector = steer.vectors[Number(which.value)];
    net.show(steer.layer, dose ? vector.map((number) => dose * number) : null);
    onChange(dose !== 0);
  };
  slider.addEventListener("change", shown);
  which.addEventListener("change", () => { if (Number(slider.value)) shown(); });
  box.append(element("label", {}, "Direction", which), element("label", { class: "slider" }, "Dose", slider, output),
    element("p", { class: "note" }, `The direction ${NOTE}`));
  showSlider(slider, output);
}
