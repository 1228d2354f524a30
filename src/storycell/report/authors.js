// Who wrote a unit's memory: choose a character (or piece) of the passage, and those before it light up by what they wrote of
// the state after it. The sum is unrolled here, from the gates: what s wrote is what it added, times all forget gates after it.

import { Story, element, numbersOf, signOf } from "../web/story.js";

const authorsData = document.getElementById("authors-passage");
if (authorsData) {
  const data = JSON.parse(authorsData.textContent);
  const box = document.getElementById("authors-reader"), panel = document.getElementById("authors-panel");
  const choice = document.getElementById("authors-unit");
  const units = data.units.map((unit) => ({ ...unit, kept: numbersOf(unit.kept), written: numbersOf(unit.written) }));
  const texts = data.characters.map((text) => text.replaceAll("\n", "↵\n"));
  const shown = (text) => [...text].map(signOf).join("");

  // The terms of the state after character t: shares[s] for s = 0 ... t, and what is left from before the passage.
  const unroll = ({ kept, written, before }, t) => {
    const shares = new Float64Array(t + 1);
    let left = 1;
    for (let s = t; s >= 0; s--) {
      shares[s] = left * written[s];
      left *= kept[s];
    }
    return { shares, carried: left * before };
  };
  const reach = (shares, carried) => { // within how many of the last characters half of the absolute mass was written
    const total = shares.reduce((sum, share) => sum + Math.abs(share), Math.abs(carried));
    let sum = 0, n = 0;
    while (n < shares.length && 2 * sum < total) sum += Math.abs(shares[shares.length - ++n]);
    return 2 * sum < total ? null : n;
  };

  let now = data.at;
  const story = new Story(box, {
    legend: document.getElementById("authors-legend"),
    onChoose: (t) => show(t),
  });
  const context = (s) => {
    const around = data.characters.slice(Math.max(0, s - 5), s + 3).map((text) => text.replaceAll("\n", "↵"));
    return element("span", {}, `${around.slice(0, Math.min(5, s)).join("")}`, element("b", {}, shown(data.characters[s])),
      around.slice(Math.min(5, s) + 1).join(""));
  };
  const bar = (label, share, full) => {
    const fill = element("b", { class: share < 0 ? "low" : "" });
    fill.style.width = `${(100 * Math.min(1, Math.abs(share) / full)).toFixed(1)}%`;
    return element("div", { class: "bar author" }, label, element("i", {}, fill), element("span", {}, share.toFixed(3)));
  };
  const show = (t) => {
    now = t;
    const unit = units[+choice.value], { shares, carried } = unroll(unit, t);
    const value = shares.reduce((sum, share) => sum + share, carried);
    const full = Math.max(...shares.map(Math.abs), Math.abs(carried), 1e-9);
    story.draw(texts, [...shares], { kind: "signed", full });
    story.setMark(t);
    const order = [...shares.keys()].sort((a, b) => Math.abs(shares[b]) - Math.abs(shares[a])).slice(0, 7);
    const half = reach(shares, carried);
    panel.replaceChildren(
      element("h3", {}, `After “${shown(data.characters[t])}”`),
      element("div", {}, `layer ${unit.layer}, unit ${unit.unit}: ${data.state} = ${value.toFixed(3)}`),
      element("div", {}, half === null ? "more than half was written before this passage"
        : `half of it was written within the last ${half === 1 ? data.step : `${half} ${data.step}s`}`),
      element("h4", {}, "Who wrote it"), ...order.map((s) => bar(context(s), shares[s], full)),
      bar(element("span", {}, "before this"), carried, full));
  };

  story.followKeys(() => now, show);
  choice.addEventListener("change", () => show(now));
  show(now);
  story.scrollTo(now);
  story.spans.forEach((span, t) => span.classList.toggle("quiet", data.characters[t] === "\n"));
}
