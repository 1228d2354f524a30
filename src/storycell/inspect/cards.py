"""A unit on a card: where it is highest and lowest, how its values lie, what it makes likely, how long it keeps.

What it promotes is told twice: by the output weights (of the last layer; what is added to each logit as h grows by 1),
and measured by patching: the unit's states are set to values that are high for it, and low, in the middle of real
stories, and the difference in the probabilities of the next character but one says what it does, in any layer. Of a
model of pieces it is all by piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.inspect.trace import Trace, probabilities
from storycell.types import BOUNDARY

Floats = npt.NDArray[np.float64]
_EXCERPTS, _APART = 3, 200  # places, and characters between them
_BEFORE, _AFTER = 40, 12
_BINS = 24
_PLACES = 96  # where the unit is set high and low
_CHARACTERS = 6
_HIGH, _LOW = 0.95, 0.05  # quantiles


@dataclass(frozen=True)
class Excerpt:
    """A place of a text: before, the character (or piece) itself, after; and the unit's value once it was read."""

    before: str
    at: str
    after: str
    value: float


@dataclass(frozen=True)
class Card:
    """One unit. Characters (or pieces) come with a number each, the largest first."""

    layer: int
    unit: int
    name: str  # of the value that is shown: c, or h where there is none
    highest: list[Excerpt]
    lowest: list[Excerpt]
    edges: Floats  # [bins + 1], of values
    counts: npt.NDArray[np.int64]  # [bins]
    promotes: list[tuple[str, float]]  # by the output weights; empty but in the last layer
    suppresses: list[tuple[str, float]]
    raises: list[tuple[str, float]]  # change of probability, from low to high
    lowers: list[tuple[str, float]]


def card(path: Trace, layer: int, unit: int, seed: int = 1) -> Card:
    """The card of a unit, from a trace."""
    values = path.column(path.memory, layer, unit).astype(np.float64)
    inner = np.quantile(values, [0.001, 0.999])  # a few far values would press all others into one bin
    counts, edges = np.histogram(values.clip(*inner), bins=_BINS)
    promotes: list[tuple[str, float]] = []
    suppresses: list[tuple[str, float]] = []
    if layer == path.layers - 1:
        promotes, suppresses = _ends(path, path.model.weights()["output.weight"][:, unit].astype(np.float64))
    raises, lowers = _ends(path, _effect(path, layer, unit, seed))
    return Card(
        layer, unit, path.memory, _excerpts(path, values), _excerpts(path, -values, -1), edges, counts,
        promotes, suppresses, raises, lowers,
    )  # fmt: skip


def _excerpts(path: Trace, values: Floats, sign: int = 1) -> list[Excerpt]:
    """Where the values are highest, not near each other."""
    found: list[int] = []
    for row in np.argsort(-values, kind="stable")[: 40 * _APART].tolist():
        if all(abs(row - other) >= _APART for other in found):
            found.append(row)
            if len(found) == _EXCERPTS:
                break
    text = path.text
    return [
        Excerpt(text[max(0, a - _BEFORE) : a], text[a:b], text[b : b + _AFTER], float(sign * values[a]))
        for a, b in ((path.span(t).start, path.span(t).stop) for t in found)
    ]


def _effect(path: Trace, layer: int, unit: int, seed: int) -> Floats:
    """Mean change of the probability of every id `[V]` when the unit goes from low to high, one step on."""
    chance = np.random.default_rng(seed)
    ids = path.ids
    places = np.flatnonzero((ids[:-1] != BOUNDARY) & (ids[1:] != BOUNDARY))
    rows = chance.choice(places, min(_PLACES, len(places)), replace=False)
    found = []
    for quantile in (_HIGH, _LOW):
        state = path.state_at(rows + 1)
        for name in path.model.state_names:
            state[name][layer, :, unit] = np.quantile(path.states[layer][name][1:, unit], quantile)
        logits, _ = path.model.logits(ids[rows + 1][:, None], state)
        found.append(probabilities(logits[:, -1].astype(np.float64)).mean(0))
    return np.asarray(found[0] - found[1])


def _ends(path: Trace, numbers: Floats) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """The ids with the largest and the smallest numbers `[V]`, as far as they are above and below 0, by their text."""
    order = np.argsort(-numbers, kind="stable")
    names = ["end" if k == BOUNDARY else path.vocab.text_of(int(k)) for k in range(len(path.vocab))]

    def some(these: Sequence[int], sign: int) -> list[tuple[str, float]]:
        return [(names[k], float(numbers[k])) for k in these if sign * numbers[k] > 0][:_CHARACTERS]

    return some(order.tolist(), 1), some(order[::-1].tolist(), -1)
