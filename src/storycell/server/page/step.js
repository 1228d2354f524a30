// One step of one unit in the served page: its numbers are the server's, at the character before the caret.

import { StepView } from "../../web/step.js";
import { call } from "./server.js";

const WAIT_MS = 120; // after the last change, of which a key that is held makes many

// Fill the `details`; gives a function that shows the character before the caret, once it is open. `attempt` says what the
// server refuses.
export function offerSteps(details, { model, characters, caret, attempt, onMove }) {
  let asking = null;
  const ask = ({ at, layer, unit, symbol, character }) => attempt(async () => {
    asking?.abort();
    const { signal } = (asking = new AbortController());
    await new Promise((done) => setTimeout(done, WAIT_MS));
    signal.throwIfAborted();
    const read = [...characters().slice(0, Math.max(at, 0)), ...(at < 0 ? [] : [Array.from(character)[0] ?? characters()[at]])];
    const prompt = read.slice(-model.max_traced).join("");
    const found = await call("/v1/step", { prompt, layer, unit, name: symbol, unknown: "replace" }, signal);
    return { ...found, read: found.read ?? "story boundary" };
  });
  const view = new StepView(details, { ...model, ask, onMove });
  const update = () => { if (details.open) view.moveTo(caret(), characters().length); };
  details.addEventListener("toggle", update);
  details.hidden = !model.steps;
  return { view, update };
}
