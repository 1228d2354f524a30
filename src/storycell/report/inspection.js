// The text coloured by a unit: choose a unit and a value, walk through the characters.
{
  const data = JSON.parse(document.getElementById("browse").textContent);
  const reader = document.getElementById("reader"), moment = document.getElementById("moment");
  const similar = document.getElementById("similar");
  const unitChoice = document.getElementById("unit"), valueChoice = document.getElementById("value");
  const decoded = new Map();
  const column = (unit, name) => {
    const key = `${unit} ${name}`;
    if (!decoded.has(key)) {
      const bytes = Uint8Array.from(atob(data.units[unit].values[name]), (c) => c.charCodeAt(0));
      decoded.set(key, new Float32Array(bytes.buffer));
    }
    return decoded.get(key);
  };
  const written = (value) => value.toLocaleString("en", { maximumSignificantDigits: 2 });
  const signed = new Set(["c", "h", "g", "n"]);
  const shown = (c) => ({ "\n": "⏎", "\0": "■", " ": "␣", "\t": "⇥" })[c] ?? c;
  const element = (tag, className, ...children) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };

  const spans = data.characters.map((c, t) => {
    const span = element("span", c === "\n" || c === "\0" ? "mark" : "", c === "\n" ? "⏎\n" : c === "\0" ? "■\n\n" : c);
    span.dataset.t = t;
    return span;
  });
  reader.append(...spans);
  let now = 0;

  const colour = () => {
    const unit = +unitChoice.value, name = valueChoice.value;
    const bits = name === "bits";
    const values = bits ? data.bits : column(unit, name);
    const scale = bits ? 8 : data.units[unit].scales[name];
    for (let t = 0; t < spans.length; t++) {
      const share = Math.min(1, Math.abs(values[t]) / scale) * 78;
      const hue = bits || values[t] < 0 ? "var(--orange)" : "var(--blue)";
      spans[t].style.background = share < 1 ? "" : `color-mix(in srgb, ${hue} ${share.toFixed(0)}%, transparent)`;
    }
    const both = !bits && signed.has(name);
    document.querySelector(".scale b").className = bits ? "bits" : both ? "" : "one";
    document.getElementById("low").textContent = both ? written(-scale) : "0";
    document.getElementById("high").textContent = bits ? "8 bits" : written(scale);
    show(now);
  };

  const bar = (label, share, value, className, minus) => {
    const fill = element("b", minus ? "minus" : "");
    fill.style.width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
    return element("div", className, element("span", "", label), element("i", "", fill), element("span", "", value));
  };
  const place = ([before, at, after], note) =>
    element("p", "", "… " + [...before].map((c) => (c === "\0" ? "■" : c === "\n" ? "⏎" : c)).join(""),
      element("b", "", shown(at)), [...after].map((c) => (c === "\0" ? "■" : c === "\n" ? "⏎" : c)).join("") + " … ",
      element("small", "", note));

  const show = (t) => {
    spans[now].classList.remove("now");
    now = Math.max(0, Math.min(spans.length - 1, t));
    spans[now].classList.add("now");
    const k = +unitChoice.value, unit = data.units[k];
    const head = element("h3", "", `“${shown(data.characters[now])}”`);
    const about = element("div", "", `character ${now.toLocaleString("en")}, surprise ${data.bits[now].toFixed(2)} bits`);
    const values = data.names.map((name) => {
      const value = column(k, name)[now];
      return bar(`${data.labels[name] ?? name} ${name}`, Math.abs(value) / unit.scales[name], value.toFixed(3), "bar", value < 0);
    });
    const next = data.likely[now].map((id, j) => {
      const share = data.probabilities[now][j];
      return bar(shown(data.alphabet[id]), share, `${(100 * share).toFixed(1)} %`, "bar next");
    });
    moment.replaceChildren(head, about,
      element("h4", "", `Layer ${unit.layer}, unit ${unit.unit}`), ...values, element("h4", "", "Likeliest next"), ...next);
    const text = data.characters, from = Math.max(0, now - 34);
    const here = [text.slice(from, now), text[now], text.slice(now + 1, now + 18)];
    similar.replaceChildren(place(here, "chosen above"),
      ...data.similar[now].filter((s) => s[1]).map((s, j) => place(s, `cosine ${data.cosines[now][j].toFixed(3)}`)));
  };

  const intoView = () => {
    const top = spans[now].offsetTop - reader.offsetTop, seen = reader.scrollTop;
    if (top < seen + 20 || top > seen + reader.clientHeight - 50) reader.scrollTop = top - reader.clientHeight / 3;
  };
  const wordFrom = (t, step) => {
    const isLetter = (k) => /\p{L}/u.test(data.characters[k] ?? "");
    do t += step; while (t > 0 && t < spans.length - 1 && !(isLetter(t) && !isLetter(t - 1)));
    return t;
  };
  const below = (direction) => {
    const { left, top } = spans[now].getBoundingClientRect();
    let t = now, line = top;
    while (t + direction >= 0 && t + direction < spans.length) {
      t += direction;
      const box = spans[t].getBoundingClientRect();
      if (Math.abs(box.top - line) > 4) { if (line !== top) return t - direction; line = box.top; }
      if (line !== top && (direction > 0 ? box.left >= left : box.left <= left)) return t;
    }
    return t;
  };
  reader.addEventListener("keydown", (event) => {
    const moves = {
      ArrowRight: () => (event.shiftKey ? wordFrom(now, 1) : now + 1),
      ArrowLeft: () => (event.shiftKey ? wordFrom(now, -1) : now - 1),
      ArrowDown: () => below(1), ArrowUp: () => below(-1), Home: () => 0, End: () => spans.length - 1,
    };
    if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    show(moves[event.key]());
    intoView();
  });
  let fixed = false; // a click keeps a character chosen while the pointer moves away
  const at = (event) => event.target.dataset?.t;
  reader.addEventListener("click", (event) => { if (at(event)) { show(+at(event)); fixed = true; } });
  reader.addEventListener("mouseover", (event) => { if (at(event) && !fixed) show(+at(event)); });
  reader.addEventListener("mouseleave", () => { fixed = false; });
  document.addEventListener("click", (event) => {
    const chosen = event.target.dataset?.unit;
    if (!chosen) return;
    unitChoice.value = chosen;
    if (valueChoice.value === "bits") valueChoice.selectedIndex = 0;
    colour();
    document.getElementById("text").scrollIntoView();
    reader.focus({ preventScroll: true });
  });
  unitChoice.addEventListener("change", colour);
  valueChoice.addEventListener("change", colour);
  const quote = data.characters.findIndex((c) => '"“'.includes(c));
  now = Math.max(0, quote);
  colour();
}
