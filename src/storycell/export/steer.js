// Steering in the exported page: the plain network shows the direction, as often as the dose says.

import { SteerChoice } from "../web/steer.js";

// Fill the fieldset; `onChange(isSteered)` is called once `net` shows what was asked for.
export function offerSteering(box, { steer, net, onChange }) {
  box.hidden = !steer;
  if (!steer) return;
  const choice = new SteerChoice(box, {
    about: steer.about, more: " Steered, the page computes in plain JavaScript.",
    onChange: () => {
      const { dose } = choice, vector = steer.vectors[choice.isRandom ? 1 : 0];
      net.show(steer.layer, dose ? vector.map((number) => dose * number) : null);
      onChange(dose !== 0);
    },
  });
}
