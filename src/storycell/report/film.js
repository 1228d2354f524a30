// One passage at every checkpoint: choose a unit and a step, or let it run.

import { Story } from "../web/story.js";

const filmData = document.getElementById("film-passage");
if (filmData) {
  const data = JSON.parse(filmData.textContent);
  const [choice, slider, play, said] = ["film-unit", "film-step", "film-play", "film-said"].map((id) => document.getElementById(id));
  const story = new Story(document.getElementById("film-reader"), { legend: document.getElementById("film-legend") });
  const texts = data.characters.map((c) => ({ "\n": "↵\n", "\0": "■\n\n" })[c] ?? c);
  const PACE_MS = 450;

  const decode = ({ values, full }) => {
    const steps = Int8Array.from(atob(values), (c) => c.charCodeAt(0));
    return { full, at: (k) => Array.from(steps.subarray(k * texts.length, (k + 1) * texts.length), (step) => (step * full) / 127) };
  };
  const units = data.units.map((unit) => ({ ...unit, ...decode(unit) })), surprise = decode(data.surprise);

  const show = () => {
    const k = +slider.value, unit = units[+choice.value];
    const { full, at } = unit ?? surprise;
    story.draw(texts, at(k), { kind: unit ? "signed" : "loss", full });
    const step = `step ${data.steps[k].toLocaleString("en")}`;
    const effect = unit?.effects[k] ?? null;
    slider.setAttribute("aria-valuetext", step);
    said.textContent = `${step}: loss ${(data.nats[k] / Math.LN2).toFixed(2)} bits a character`
      + (unit ? `; the unit’s AUC is ${unit.scores[k].toFixed(2)}` : "")
      + (effect === null ? "" : `, its effect ${effect.toFixed(3)}`);
  };

  let timer = 0;
  const run = (isOn) => {
    clearInterval(timer);
    timer = isOn ? setInterval(next, PACE_MS) : 0;
    play.textContent = isOn ? "Stop" : "Play";
    play.setAttribute("aria-pressed", isOn);
    said.setAttribute("aria-live", isOn ? "off" : "polite"); // not every frame is read out
  };
  const next = () => {
    if (+slider.value === +slider.max) return run(false);
    slider.value = +slider.value + 1;
    show();
  };
  play.addEventListener("click", () => {
    if (timer) return run(false);
    if (+slider.value === +slider.max) slider.value = 0;
    show();
    run(true);
  });
  slider.addEventListener("input", () => { run(false); show(); });
  choice.addEventListener("change", show);
  show();
}
