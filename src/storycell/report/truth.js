// The truth beside the prediction: a text coloured by what the model loses, and both expectations of a chosen character.

import { Story, element, percent, signOf } from "../web/story.js";

const truthData = document.getElementById("truth-text");
if (truthData) {
  const data = JSON.parse(truthData.textContent);
  const box = document.getElementById("truth-reader"), panel = document.getElementById("truth-panel");
  const shown = (c) => (c === "\0" ? "■" : signOf(c));
  const bar = ([c, p]) => {
    const fill = element("b", {});
    fill.style.width = `${(100 * p).toFixed(1)}%`;
    return element("div", { class: "bar next" }, element("span", {}, shown(c)), element("i", {}, fill), element("span", {}, percent(p)));
  };
  let now = 0;
  const story = new Story(box, { legend: document.getElementById("truth-legend"), onChoose: (t) => show(t) });
  const show = (t) => {
    now = t;
    story.setMark(t);
    panel.replaceChildren(element("h3", {}, `“${shown(data.characters[t])}”`),
      element("div", {}, `character ${t.toLocaleString("en")}: ${data.bits[t].toFixed(2)} bits lost`),
      element("h4", {}, "Truth"), ...data.truth[t].map(bar), element("h4", {}, "Model"), ...data.model[t].map(bar));
  };
  story.followKeys(() => now, show);
  story.draw(data.characters.map((c) => ({ "\n": "↵\n", "\0": "■\n\n" })[c] ?? c), data.bits, { kind: "loss", full: 3 });
  const worst = data.bits.slice(0, 600).reduce((best, bits, t, all) => (bits > all[best] ? t : best), 0);
  show(worst);
  story.scrollTo(worst);
  story.spans.forEach((span, t) => span.classList.toggle("quiet", "\n\0".includes(data.characters[t])));
}
