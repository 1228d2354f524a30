"""The text of an inspection's report: HTML paragraphs on what the article says and what is seen, with the numbers
found.

A sentence that would be wrong for the numbers at hand is left out.
"""

from collections.abc import Sequence

import numpy as np

from storycell import loss
from storycell.inspect.gradients import geometric
from storycell.inspect.inspection import Inspection
from storycell.inspect.latch import HoldResult
from storycell.inspect.units import SHIFTS, Finding
from storycell.report.page import escaped

IDEAL = """<p>Nothing here was trained. The weights were set so that unit 0 does what the article tells, and nothing
else; blue is one, orange is minus one, pale is zero.</p>"""
PLACES = """<h3>Where the loss is highest</h3><p>Mean loss by place, with 95 % intervals over blocks of 1,000
characters.</p>"""
SIMILAR = """<p class="predicted">The hidden state is the network's summary of all it has read.</p>
<p class="seen">If so, places with nearly the same hidden state should be alike to a reader too. These are the places
of the text whose last layer is nearest to the character chosen in the text above, by cosine.</p>"""


def _both(predicted: str, seen: str) -> str:
    return f'<p class="predicted">{predicted}</p><p class="seen">{seen}</p>'


def lead(found: Inspection, text_name: str) -> str:
    """What was looked at, in two sentences."""
    lm, path = found.subject.lm, found.trace
    bits = loss.bits_per_char(float(path.nats.mean()))
    kind = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}.get(lm.cell, lm.cell)
    layers = "one layer" if lm.num_layers == 1 else f"{lm.num_layers} layers"
    return (
        f"<p>This {kind}, {layers} of {lm.hidden_size} units, read {len(path):,} characters of {escaped(text_name)} "
        f"with a loss of {bits:.3f} bits for each ({float(path.nats.mean()):.3f} nats). "
        "Here is what went on inside while it did: which gates opened, what the cells kept, where gradients went.</p>"
        '<p class="note">Layers and units count from 0, as they do from Python: '
        f"<code>model.trace(text)[{path.memory!r}, 0]</code> gives the numbers shown here.</p>"
    )


def text(found: Inspection) -> str:
    """The first section."""
    first = found.browsed.units[0]
    meaning = f", which goes along with “{escaped(first[2])}”" if first[2] else ""
    if "c" in found.trace.names:
        predicted = (
            "Each cell unit is a bit of memory of its own: the input gate writes it, the forget gate keeps or erases "
            "it, the output gate shows it."
        )
    else:
        predicted = "The hidden state carries what was read so far; each of its units may carry something of its own."
    return _both(
        predicted,
        f"Colour the text by any of the {len(found.browsed.units)} most telling units of this run. The first is unit "
        f"{first[1]} of layer {first[0]}{meaning}.",
    )


def units(found: Inspection, good: Sequence[Finding]) -> str:
    """The second section."""
    tried = found.trace.layers * found.trace.hidden
    if good:
        best = good[0]
        seen = (
            f"Of {len(found.findings)} features, {len(good)} have a unit that tells them better than chance and better "
            f"than the untrained network. Furthest ahead of it is unit {best.unit} of layer {best.layer} for "
            f"“{escaped(best.feature)}”: {best.measure} {best.score:.3f}, where the best untrained unit has "
            f"{best.twin_score:.3f}."
        )
    else:
        seen = f"Of {len(found.findings)} features, none has a unit that beats both chance and the untrained network."
    how = (
        f"<p>All {tried} units were tried against every feature on the first half of the text; the scores are those "
        "of the second half, of which the choice knew nothing. AUC is the chance that the unit is higher at a random "
        "place with the feature than at a random place without. Chance is what the same search finds when text and "
        f"units are shifted against each other ({SHIFTS} times), the largest over all units and features. A network "
        "that was never trained remembers the last few characters too; so only the excess over its best unit counts. "
        "A minus says that the unit is low where the feature is; press a unit to see it in the text.</p>"
    )
    return _both("A hidden unit can learn to encode something like “we are inside a double quote”.", seen) + how


def latch(found: Inspection) -> str:
    """The third section's opening."""
    predicted = (
        "At the opening quote the input gate goes to one and the forget gate to zero, which latches “inside quote” "
        "into a cell unit. Until the closing quote the input gate stays at zero and the forget gate at one; the output "
        "gate stays open throughout."
    )
    readings = found.latch.readings
    if not readings:
        return _both(
            predicted, "This text or this vocabulary has no quotations to follow; only the ideal can be shown."
        )
    best = found.findings["inside quotes"][0]
    if not best.is_finding:
        seen = (
            "No unit of this run tells quotations better than chance and better than the untrained network. The best, "
            f"unit {best.unit} of layer {best.layer}, has an AUC of {best.score:.3f} (untrained: "
            f"{best.twin_score:.3f}) and is shown for comparison only."
        )
    elif "f" not in found.trace.names:
        seen = (
            f"This network is no LSTM, but unit {readings[0].unit} of layer {readings[0].layer} goes along with "
            "quotations best; its values are shown beside the ideal."
        )
    else:
        by_place = {m.where: m.means for m in found.latch.moments}
        opening, inside, closing = (by_place.get(k, {}) for k in ("opening quote", "inside", "closing quote"))
        seen = (
            f"Unit {readings[0].unit} of layer {readings[0].layer} is this run's own latch. Opening quotes: input gate "
            f"{opening.get('i', np.nan):.2f}, forget gate {opening.get('f', np.nan):.2f}. Between: "
            f"{inside.get('i', np.nan):.2f} and {inside.get('f', np.nan):.2f}. Closing quotes: "
            f"{closing.get('i', np.nan):.2f} and {closing.get('f', np.nan):.2f}."
        )
    return _both(predicted, seen)


def found_latch(found: Inspection) -> str:
    """What differs from the article, where it does."""
    by_place = {m.where: m.means for m in found.latch.moments}
    closing = by_place.get("closing quote", {})
    if "f" not in closing:
        return "<p>The unit that goes along with quotations best, along the article's two sentences.</p>"
    notes = ["<p>The unit that goes along with quotations best, along the article's two sentences."]
    if closing["f"] < 0.2 and closing["i"] < 0.5:
        notes.append(
            "One thing differs from the story as told: at the closing quote the forget gate erases, but the input "
            f"gate stays nearly shut ({closing['i']:.2f}). Going back to zero is enough of an “outside”; nothing needs "
            "to be written."
        )
    if by_place.get("inside", {}).get("o", 1.0) < 0.9:
        notes.append(
            f"The output gate is not always open either (inside quotes {by_place['inside']['o']:.2f} on average): the "
            "memory is kept while it is not shown."
        )
    return " ".join(notes) + "</p>"


def holds(results: Sequence[HoldResult]) -> str:
    """The causal test in words."""
    nothing, unit = results[0], results[1]
    random = [r for r in results if r.label.startswith("random unit")]
    text = (
        "<p>A unit may go along with quotes without being used. So its state is kept, by force, at the mean it has "
        "outside quotes while the model reads real stories: where the text closes a quotation, the probability of a "
        f"quote goes from {nothing.closing:.3f} to {unit.closing:.3f}. Kept at the mean it has inside, the probability "
        "of a quote at the ends of sentences outside quotations, where nothing is open, goes from "
        f"{nothing.opening:.4f} to {unit.opening:.4f}."
    )
    if random:
        low, high = min(r.closing for r in random), max(r.closing for r in random)
        text += (
            f" The same done to {len(random)} random units, one at a time: {low:.3f} to {high:.3f}, and "
            f"{min(r.opening for r in random):.4f} to {max(r.opening for r in random):.4f}."
        )
    return text + "</p>"


def saturation(found: Inspection) -> str:
    """The fourth section."""
    forget = [s for s in found.saturation if s.gate == "f"]
    predicted = (
        "Gates are smooth stand-ins for yes and no: to latch, they saturate at zero or one. Karpathy, Johnson and "
        "Fei-Fei drew each unit as a dot: how often is its gate shut (below 0.1), how often open (above 0.9)?"
    )
    if forget:
        keepers = sum(int((s.right > 0.9).sum()) for s in forget)
        total = sum(len(s.right) for s in forget)
        seen = (
            f"{keepers} of {total} forget gates are open more than 90 % of the time: units that keep what they hold "
            "for long. A dot on the diagonal belongs to a gate that is always at one end or the other; at the origin, "
            "to one that is never at either."
        )
    elif found.subject.lm.cell == "gru":
        seen = "A GRU has a reset and an update gate; where the update gate is open, the old state is kept."
    else:
        seen = (
            "A vanilla RNN has no gates; what can saturate is the tanh itself (below -0.9, above 0.9). A unit in the "
            "corner to the right or above is stuck at one end, where gradients through it vanish."
        )
    return _both(predicted, seen)


def gradients(found: Inspection) -> str:
    """The fifth section."""
    flow = found.flows["trained"]
    top = max(k for _, k in flow.norms)
    lives = {state: flow.half_life(state, k)[0] for state, k in flow.norms if k == top}
    lived = " and ".join(f"dL/d{s} falls to a half {_after(life)}" for s, life in lives.items())
    at_one = found.flows["RNN at 1"].curve("h", 0)
    last = len(at_one) - 1
    left = {state: flow.curve(state, top)[last] for state in lives}
    best = max(left, key=lambda state: left[state])
    predicted = (
        "In a vanilla RNN gradients vanish or explode, and a start with a principal eigenvalue of one helps only "
        "somewhat. The LSTM's cell gives them a second way back, around the tanh."
    )
    seen = (
        f"In the last layer {lived}; what is left fades more slowly. At lag {last}, dL/d{best} still "
        f"has {left[best]:.2g} of its size, where an untrained RNN of spectral radius 1 has {at_one[last]:.1g}."
        if left[best] > 1e-4
        else f"In the last layer {lived}. At lag {last}, dL/d{best} has {left[best]:.1g} of its size; an untrained RNN "
        f"of spectral radius 1 has {at_one[last]:.1g}."
    )
    note = ""
    if found.radii:
        drift = "; ".join(f"{escaped(n)}: {a:.3f} at the start, {b:.3f} trained" for n, (a, b) in found.radii.items())
        note = f"<p>Spectral radius of the first layer's hidden weights. {drift}.</p>"
    how = (
        "<p>For sampled characters, the loss of the next character is followed back through time, by automatic "
        "differentiation, to the states 1, 2, 3 … characters before; the curves are geometric means, relative to lag "
        "0. The radius says what the weights alone would do; the tanh in between, where it is saturated, takes its "
        "share.</p>"
    )
    return _both(predicted, seen) + how + note


def _after(life: float) -> str:
    return "nowhere within reach" if np.isinf(life) else f"after {life:.1f} characters"


def two_terms(found: Inspection) -> str:
    """The split of the cell's gradient."""
    flow = found.flows["trained"]
    parts = []
    for _, k in flow.through_sum:
        summed, rest = geometric(flow.through_sum["c", k])[-1], geometric(flow.rest["c", k])[-1]
        larger = "the sum" if summed > rest else "h and the gates"
        parts.append(
            f"in layer {k} more of it came through {larger} ({max(summed, rest) / min(summed, rest):.1f} times)"
        )
    lag = flow.norms["c", 0].shape[1] - 1
    return (
        "<h3>The two terms</h3><p>The gradient of the cell is a sum of two: what came through the sum "
        "<code>c = f·c + i·g</code> alone, and what went, somewhere on its way, through the hidden state and the gates "
        "of a later character. They can point in different directions, so their norms need not add up. "
        f"At lag {lag}, {'; '.join(parts)}.</p>"
    )


def memory(found: Inspection) -> str:
    """The sixth section."""
    extra = [(c.least, c.most, loss.bits_per_char(c.nats - c.full_nats), 1.96 * loss.bits_per_char(c.extra_stderr))
             for c in found.contexts]  # fmt: skip
    clear = [e for e in extra if e[2] - e[3] > 0]
    last = clear[-1] if clear else extra[0]
    return _both(
        "Recurrence lets a prediction use things read long before, such as an opening quote; a longer training "
        "sequence should reach further.",
        f"With {extra[0][0]} known character the loss is {extra[0][2]:.2f} bits higher than with the whole story. The "
        f"furthest range in which missing characters can still be felt is {last[0]} to {last[1]} known "
        f"({loss.plus_minus(last[2], last[3])} bits).",
    )


def mistakes(found: Inspection) -> str:
    """The seventh section."""
    rows = found.mistakes[found.subject.name]
    worst = max(rows[1:], key=lambda m: m.bits_share)
    seen = (
        f"This run gives the right character less than one half {rows[0].per_thousand:.0f} times in 1,000. "
        f"The costliest kind is “{worst.kind}”: {worst.bits_share:.0%} of all bits."
    )
    if found.against:
        other = found.mistakes[found.against.name][0]
        seen += f" {escaped(found.against.name)} does so {other.per_thousand:.0f} times."
    how = (
        "<p>Each mistake counts once, under the first kind that fits, in this order. The tables of characters and the "
        "counts of words are from the first half of the text, the mistakes from the second "
        f"({rows[0].chars:,} characters).</p>"
    )
    return (
        _both(
            "From RNN to LSTM to two layers the losses fall, though the stories of one and two layers look alike.", seen
        )
        + how
    )
