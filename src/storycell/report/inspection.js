// The text coloured by a unit: choose a unit and a value, walk through the characters.

import { FULL_NATS, Story, element, inOrder, nameOf, numbersOf, scaleOf, signOf } from "../web/story.js";

{
  const data = JSON.parse(document.getElementById("browse").textContent);
  const box = document.getElementById("reader"), moment = document.getElementById("moment");
  const similar = document.getElementById("similar");
  const unitChoice = document.getElementById("unit"), valueChoice = document.getElementById("value");
  const names = inOrder(Object.keys(data.units[0].values));
  const decoded = new Map();
  const column = (unit, name) => {
    const key = `${unit} ${name}`;
    if (!decoded.has(key)) decoded.set(key, numbersOf(data.units[unit].values[name]));
    return decoded.get(key);
  };
  const signs = { "\0": "■", "\n": "↵" };
  const shown = (c) => signs[c] ?? signOf(c);
  const inline = (characters) => [...characters].map((c) => signs[c] ?? c).join("");

  let now = 0, fixed = false; // a click keeps a character chosen until the pointer leaves the text
  const story = new Story(box, {
    legend: document.getElementById("legend"),
    onPoint: (t) => { if (t === null) fixed = false; else if (!fixed) show(t); },
    onChoose: (t) => { show(t); fixed = true; },
  });
  const texts = data.characters.map((c) => ({ "\n": "↵\n", "\0": "■\n\n" })[c] ?? c);

  const colour = () => {
    const unit = +unitChoice.value, name = valueChoice.value;
    if (name === "bits") story.draw(texts, data.bits, { kind: "loss", full: FULL_NATS / Math.LN2 });
    else story.draw(texts, column(unit, name), { ...scaleOf(name, []), full: data.units[unit].scales[name] });
    show(now);
  };

  const bar = (label, share, value, className, isLow) => {
    const fill = element("b", { class: isLow ? "low" : "" });
    fill.style.width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
    return element("div", { class: className }, element("span", {}, label), element("i", {}, fill), element("span", {}, value));
  };
  const place = ([before, at, after], note) =>
    element("p", {}, `… ${inline(before)}`, element("b", {}, shown(at)), `${inline(after)} … `, element("small", {}, note));

  const show = (t) => {
    now = t;
    story.setMark(now);
    const k = +unitChoice.value, unit = data.units[k];
    const head = element("h3", {}, `“${shown(data.characters[now])}”`);
    const about = element("div", {}, `character ${now.toLocaleString("en")}, surprise ${data.bits[now].toFixed(2)} bits`);
    const values = names.map((name) => {
      const value = column(k, name)[now];
      return bar(`${nameOf(name)} ${name}`, Math.abs(value) / unit.scales[name], value.toFixed(3), "bar", value < 0);
    });
    const next = data.likely[now].map((id, j) => {
      const share = data.probabilities[now][j];
      return bar(shown(data.alphabet[id]), share, `${(100 * share).toFixed(1)} %`, "bar next");
    });
    moment.replaceChildren(head, about,
      element("h4", {}, `Layer ${unit.layer}, unit ${unit.unit}`), ...values, element("h4", {}, "Likeliest next"), ...next);
    const text = data.characters, from = Math.max(0, now - 34);
    const here = [text.slice(from, now), text[now], text.slice(now + 1, now + 18)];
    similar.replaceChildren(place(here, "chosen above"),
      ...data.similar[now].filter((s) => s[1]).map((s, j) => place(s, `cosine ${data.cosines[now][j].toFixed(3)}`)));
  };

  story.followKeys(() => now, show);
  document.addEventListener("click", (event) => {
    const chosen = event.target.dataset?.unit;
    if (!chosen) return;
    unitChoice.value = chosen;
    if (valueChoice.value === "bits") valueChoice.selectedIndex = 0;
    colour();
    document.getElementById("text").scrollIntoView();
    box.focus({ preventScroll: true });
  });
  unitChoice.addEventListener("change", colour);
  valueChoice.addEventListener("change", colour);
  now = Math.max(0, data.characters.findIndex((c) => '"“'.includes(c)));
  colour();
  story.scrollTo(now);
  story.spans.forEach((span, t) => span.classList.toggle("quiet", data.characters[t] in signs));
}
