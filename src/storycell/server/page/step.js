// One step of one unit in the served page: its numbers are the server's, at the character before the caret.

import { StepView } from "../../web/step.js";
import { call } from "./server.js";

const WAIT_MS = 120; // after the last change

// Fill the `details`; gives a function that shows the character before the caret, once it is open. `attempt` says what the
// server refuses.
export function offerSteps(details, { model, characters, caret, attempt, onMove }) {
  const ask = ({ at, layer, unit, symbol, character }) => attempt(async () => {
    const read = [...characters().slice(0, Math.max(at, 0)), ...(at < 0 ? [] : [Array.from(character)[0] ?? characters()[at]])];
    const prompt = read.slice(-model.max_traced).join("");
    const found = await call("/v1/step", { prompt, layer, unit, name: symbol, unknown: "replace" });
    return { ...found, read: found.read ?? "story boundary" };
  });
  const box = document.createElement("div");
  details.append(box);
  const view = new StepView(box, { ...model, ask, onMove });
  view.layers.value = model.layers - 1;
  let timer = 0;
  const update = () => {
    clearTimeout(timer);
    if (details.open) timer = setTimeout(() => view.moveTo(caret(), characters().length), WAIT_MS);
  };
  details.addEventListener("toggle", update);
  details.hidden = !model.steps;
  return { view, update };
}
