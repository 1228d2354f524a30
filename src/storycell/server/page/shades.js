// The coloured layer behind the text: one number for each character -> one background, and the scale that explains it.

const layer = document.querySelector("#shades");
const scale = document.querySelector("#scale");
const MOST_NATS = 4; // a character this surprising has the full colour
const STRONGEST = 0.72;
const drawn = []; // {span, character, wanted}: what each character shows now

// kind: "surprise" (nats), "gate" (0 to 1), "signed" (both ways from 0) or "nothing"
function colour(kind, value, reach) {
  if (kind === "nothing" || value === undefined || value === null) return "";
  const share = Math.min(Math.abs(value) / reach, 1);
  const name = kind === "gate" ? "--gate" : value < 0 ? "--cool" : "--warm";
  return share < 0.03 ? "" : `rgb(var(${name}) / ${(share * STRONGEST).toFixed(2)})`;
}

function reachOf(kind, values) {
  if (kind === "surprise") return MOST_NATS;
  if (kind === "gate") return 1;
  return Math.max(0.1, ...values.map((value) => Math.abs(value ?? 0)));
}

// Draw all characters; `fresh` of them, at the end, light up. What is drawn already is left as it is.
export function draw(characters, values, kind, fresh = 0) {
  const reach = reachOf(kind, values);
  while (drawn.length > characters.length) drawn.pop().span.remove();
  characters.forEach((character, k) => {
    if (k === drawn.length) {
      const span = document.createElement("span");
      if (k >= characters.length - fresh) span.className = "fresh";
      layer.append(span);
      drawn.push({ span, character: "", wanted: "" });
    }
    const one = drawn[k];
    const wanted = colour(kind, values[k], reach);
    if (one.character !== character) one.span.textContent = one.character = character;
    if (one.wanted !== wanted) one.span.style.backgroundColor = one.wanted = wanted;
  });
  drawScale(kind, reach);
}

function drawScale(kind, reach) {
  scale.hidden = kind === "nothing";
  scale.className = { surprise: "scale-warm", gate: "scale-gate", signed: "scale-both" }[kind] ?? "";
  const [low, high] = { surprise: ["expected", "surprising"], gate: ["0 shut", "1 open"] }[kind]
    ?? [(-reach).toFixed(1), reach.toFixed(1)];
  document.querySelector("#scale-low").textContent = low;
  document.querySelector("#scale-high").textContent = high;
}
