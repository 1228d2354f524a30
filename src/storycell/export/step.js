// One step of one unit in the exported page: its numbers are the plain network's.

import { StepView } from "../web/step.js";

// Fill the `details` of the page; gives a function that shows the character before the mark, once it is open.
// `place()` tells [the character's place, the length of the text]; -1 is the boundary that every text begins with.
export function offerSteps(details, { model, net, vocabulary, place, idAt, traceBefore, textOf, onMove }) {
  const after = net.newTrace();
  const ask = ({ at, layer, unit, symbol, character }) => {
    let id = idAt(at);
    if (character) {
      const { ids, strangers } = vocabulary.encode(character);
      if (strangers.length) return `The model does not know “${strangers[0]}”.`;
      id = ids[0];
    }
    const before = traceBefore(at), valueOf = (trace, name) => (trace ? trace[net.placeOf(layer, name, unit)] : 0);
    net.step(id, before, after);
    const states = net.values.filter((name) => name === "c" || name === "h");
    return {
      read: textOf(id), ...net.sums(layer, unit, id, before, after),
      before: Object.fromEntries(states.map((name) => [name, valueOf(before, name)])),
      after: Object.fromEntries(net.values.map((name) => [name, valueOf(after, name)])),
      row: after.slice(net.placeOf(layer, symbol, 0), net.placeOf(layer, symbol, 0) + net.H),
    };
  };
  const view = new StepView(details, { cell: model.cell, layers: net.L, hidden: net.H, values: net.values, ask, onMove });
  const update = () => { if (details.open) view.moveTo(...place()); };
  details.addEventListener("toggle", update);
  return { view, update };
}
