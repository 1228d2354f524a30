"""Who wrote this memory: what each earlier character put into a unit's state, and how long that lasts.

An LSTM's cell is a sum, c = f c + i g, so unrolled it is one over the characters s up to the one asked about, t:

    c_t = (f_1 ... f_t) c_0 + sum over s of (f_{s+1} ... f_t) i_s g_s

Given the gates this is exact: each term is what character s wrote, as much of it as the forget gates have kept. That a
gate itself follows from what was read before is not in it. A GRU's state is such a sum too, h = z h + (1 - z) n.
The products run from t backwards, with no division and no logarithm, so gates that are shut (0) are no special case.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.errors import SettingsError
from storycell.evaluation.statistics import clustered_mean
from storycell.inspect.features import inside_quotes, is_quote
from storycell.inspect.trace import Array, Trace
from storycell.types import BOUNDARY

Floats = npt.NDArray[np.float64]
_CHARS = 8_000  # steps of a text are enough for lengths
_QUOTED_CHARS = 20_000  # and these for quotations
_PASSAGE = 1200  # characters to read on a page
_PASSAGE_UNITS = 8
_UNITS = 64  # whose products are held at once
_LEVELS = 14  # lengths up to 2^14 characters


@dataclass(frozen=True)
class Authors:
    """What was read of a story wrote of one state, `value`, after the last of it: `read [n]`, characters or pieces."""

    read: tuple[str, ...]  # the first is the boundary that begins the story, as NUL
    shares: Floats  # [n], in the unit of the state; their sum is `value`
    value: float
    layer: int

    @property
    def text(self) -> str:
        """All that was read."""
        return "".join(self.read)

    @property
    def most(self) -> int:
        """Which of what was read wrote most, in either direction."""
        return int(np.abs(self.shares).argmax())


def decompose(values: Mapping[str, Any], before: Any) -> tuple[Floats, Floats]:
    """The terms of the sum after the last of T characters: what each wrote `[T H]`, what is left of `before` `[H]`.

    `values` are a layer's, `[T H]` by name, `before` its cell state (of a GRU: hidden state) before the first.
    """
    kept, written = _kept_and_written(values)
    left = np.cumprod(kept[::-1], axis=0)[::-1]  # from each character on, itself included
    later = np.concatenate([left[1:], np.ones_like(left[:1])])
    return written * later, left[0] * np.asarray(before, np.float64)


def authors(path: Trace, layer: int, which: int | Any, at: int = -1) -> Authors:
    """Who wrote the memory of a unit, or of a direction `[H]` in its layer, after character `at` of a trace was read.

    Of a model of pieces: each piece, after that of the character.
    `SettingsError` where the trace has no such layer, unit or character, or the cell's state is no sum.
    """
    _check_sum(path)
    path.column(path.memory, layer, 0)  # says which layers there are
    character = at + len(path) if at < 0 else at
    if not 0 <= character < len(path):
        raise SettingsError(f"character {at}: the text has the characters 0 to {len(path) - 1}")
    row = int(path.places[character])
    direction = _direction(which, path.hidden)
    first = int(path.starts[np.searchsorted(path.starts, row + 1, side="right") - 1])
    parts, _ = decompose(path.steps(layer, range(first, row + 2)), np.zeros(path.hidden))
    value = float(path.states[layer][path.memory][row + 1].astype(np.float64) @ direction)
    return Authors(("\0", *path.texts(range(first, row + 1))), parts @ direction, value, layer)


def memory_lengths(path: Trace, layer: int, chars: int = _CHARS) -> npt.NDArray[np.int64]:
    """For every unit: within how many of the last steps half of its memory was written, on average, `[H]`.

    Half of the absolute mass, the sum of all |terms|; 1 is the character (or piece) just read. From the first `chars`
    steps of the text.
    """
    kept, written = _of_text(path, layer, chars)
    mass = _running(kept, np.abs(written)).astype(np.float32)  # enough for shares, and half the work
    kept = kept.astype(np.float32)
    found = np.empty(path.hidden, np.int64)
    for a in range(0, path.hidden, _UNITS):
        found[a : a + _UNITS] = _half_lives(kept[:, a : a + _UNITS], mass[:, a : a + _UNITS])
    return found


def _half_lives(kept: Array, mass: Array) -> npt.NDArray[np.int64]:
    """The fewest n such that what is older than the last n characters is on average at most half of the mass.

    By doubling: what 2^k forget gates in a row leave, for every k that is needed; then from the largest k down.
    """
    rows, units = kept.shape
    share = np.where(mass > 0, 1 / np.where(mass > 0, mass, 1), 0).astype(mass.dtype)

    def older(n: npt.NDArray[np.int64], left: Array) -> Array:
        """Mean share of the mass that is more than n characters old, `left` being what n gates leave of it."""
        return np.asarray((left * _shifted(mass, n) * share).sum(0) / np.maximum((mass > 0).sum(0), 1))

    powers = [kept]
    while len(powers) < _LEVELS and 2 ** len(powers) < rows:
        if (older(np.full(units, 2 ** (len(powers) - 1)), powers[-1]) <= 0.5).all():
            break
        last, step = powers[-1], np.full(units, 2 ** (len(powers) - 1))
        powers.append(last * _shifted(last, step))
    n, left = np.zeros(units, np.int64), np.ones_like(kept)
    for k in range(len(powers) - 1, -1, -1):
        longer = left * _shifted(powers[k], n)
        still = older(n + 2**k, longer) > 0.5
        n = n + still * 2**k
        left = np.where(still, longer, left)
    return n + 1


def _shifted(values: Array, by: npt.NDArray[np.int64]) -> Array:
    """Every column as it was `by` rows before, 0 where there was nothing."""
    out = np.zeros_like(values)
    for n in np.unique(by):
        columns = by == n
        if n < len(values):
            out[n:, columns] = values[: len(values) - n, columns]
    return out


@dataclass(frozen=True)
class QuoteShare:
    """What opening quotes wrote of the memory at the ends of their quotations; shares of the absolute mass, `[H]`."""

    opening: Floats  # mean over quotations
    opening_stderr: Floats  # over stories, or blocks of 1,000 characters
    before: Floats  # the same of what was read just before the opening quote: what anything so far back has
    quotations: int


def quote_shares(path: Trace, layer: int, chars: int = _QUOTED_CHARS) -> QuoteShare | None:
    """How much of each unit's memory the opening quote wrote, when its quotation is about to end; None without any."""
    kept, written = _of_text(path, layer, chars)
    text = path.text[: path.firsts[len(kept)]]
    inside, quote = inside_quotes(text) > 0, is_quote(text)
    opens = path.places[np.flatnonzero(quote & inside)]
    ends = path.places[np.flatnonzero(inside[:-1] & ~inside[1:] & quote[1:]) + 1] - 1  # the step before closing
    opens = opens[opens > 0]
    mass = _running(kept, np.abs(written))
    found, null, block = [], [], []
    for end in ends:
        before = opens[opens < end]
        if not len(before):
            continue
        at = before[-1]
        left = np.prod(kept[at + 1 : end + 1], axis=0)
        total = np.where(mass[end] > 0, mass[end], 1)
        found.append(np.abs(written[at]) * left / total)
        null.append(np.abs(written[at - 1]) * kept[at] * left / total)
        block.append(path.firsts[at] // 1000)
    if len(found) < 2:
        return None
    values, groups = np.stack(found), np.array(block)
    stderr = np.array([clustered_mean(column, groups)[1] for column in values.T])
    return QuoteShare(values.mean(0), stderr, np.stack(null).mean(0), len(found))


@dataclass(frozen=True)
class Passage:
    """Part of a story with what some units keep and write at each step, from which who wrote what follows."""

    rows: range  # steps of the trace
    at: int  # the one to ask about first: the last inside a quotation, where there is one
    units: list[tuple[int, int, str]]  # layer, unit, what it goes along with
    kept: npt.NDArray[np.float32]  # [units rows]
    written: npt.NDArray[np.float32]
    before: Floats  # [units]: the state before the first row


@dataclass(frozen=True)
class MemoryAuthors:
    """What the report shows of who wrote a run's memory; lists have an entry a layer."""

    lengths: list[npt.NDArray[np.int64]]
    quotes: list[QuoteShare | None]
    passage: Passage


def memory_authors(path: Trace, telling: list[tuple[int, int, str]]) -> MemoryAuthors | None:
    """Lengths of memory, shares of opening quotes, a passage to walk through; None where the state is no sum.

    The passage shows those units of all whose memory the opening quote wrote most, and the first of `telling`.
    """
    if not has_sum(path):
        return None
    layers = range(path.layers)
    quotes = [quote_shares(path, layer) for layer in layers]
    best = sorted(
        (
            (-float(q.opening[u]), layer, int(u))
            for layer, q in enumerate(quotes)
            if q
            for u in np.argsort(-q.opening)[:3]
        )
    )[:3]
    labels = {(layer, unit): label for layer, unit, label in telling}
    places = [(layer, unit) for _, layer, unit in best] + list(labels)
    units = [(*place, labels.get(place, "")) for place in dict.fromkeys(places)][:_PASSAGE_UNITS]
    return MemoryAuthors([memory_lengths(path, layer) for layer in layers], quotes, _passage(path, units))


def _passage(path: Trace, units: list[tuple[int, int, str]]) -> Passage:
    text = path.text[:_QUOTED_CHARS]
    inside = np.concatenate([[False], inside_quotes(text) > 0, [False]])
    begins, ends = np.flatnonzero(~inside[:-1] & inside[1:]), np.flatnonzero(inside[:-1] & ~inside[1:])
    longest = int(np.argmax(ends - begins)) if len(begins) else None
    at = 0 if longest is None else int(ends[longest]) - 1
    first = max(text.rfind("\0", 0, at + 1) + 1, at - _PASSAGE * 3 // 4, 0)
    story_end = text.find("\0", at + 1)
    rows = range(first, min(first + _PASSAGE, len(text) if story_end < 0 else story_end))
    if longest is None:
        at = rows[-1]
    closing = at + 1 if longest is not None and at + 1 < len(path) else None
    at = int(path.places[at] if closing is None else path.places[closing] - 1)
    rows = range(int(path.places[rows.start]), int(path.places[rows[-1]]) + 1)
    at = max(at, rows.start)
    kept, written, before = [], [], []
    values = {
        layer: _kept_and_written(path.step_values(layer, slice(rows.start, rows.stop)))
        for layer in dict.fromkeys(u[0] for u in units)
    }
    for layer, unit, _ in units:
        kept.append(values[layer][0][:, unit])
        written.append(values[layer][1][:, unit])
        before.append(float(path.states[layer][path.memory][rows.start, unit]))  # row t + 1 is step t's
    return Passage(
        rows, at, units, np.array(kept, np.float32), np.array(written, np.float32), np.array(before, np.float64)
    )


def has_sum(path: Trace) -> bool:
    """Whether the state of this cell is a sum whose terms can be told."""
    return {"i", "f", "g", "c"} <= set(path.names) or {"z", "n", "h"} <= set(path.names)


def _check_sum(path: Trace) -> None:
    if not has_sum(path):
        raise SettingsError(
            f"the state of the cell {path.model.cell!r} is no sum over the characters read; that of an LSTM or a GRU is"
        )


def _kept_and_written(values: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """By how much each step keeps the state, and what it adds, `[T H]` in float64."""
    v = {name: np.asarray(value, np.float64) for name, value in values.items()}
    return (v["f"], v["i"] * v["g"]) if "f" in v else (v["z"], (1 - v["z"]) * v["n"])


def _of_text(path: Trace, layer: int, chars: int) -> tuple[Floats, Floats]:
    """Kept and written along the beginning of a text; where a story begins nothing is kept."""
    _check_sum(path)
    rows = min(chars, len(path.ids))
    parts = [_kept_and_written(part) for part in path.parts(layer, slice(0, rows))]
    kept, written = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    kept[path.ids[:rows] == BOUNDARY] = 0
    return kept, written


def _running(kept: Floats, written: Floats) -> Floats:
    """The sum after every character, by its recursion."""
    out = np.empty_like(written)
    now = np.zeros(written.shape[1])
    for t, (f, w) in enumerate(zip(kept, written, strict=True)):
        now = f * now + w
        out[t] = now
    return out


def _direction(which: int | Any, hidden: int) -> Floats:
    if isinstance(which, (int, np.integer)):
        if not 0 <= which < hidden:
            raise SettingsError(f"unit {which}: units count from 0 to {hidden - 1}")
        one: Floats = np.eye(hidden)[int(which)]
        return one
    direction = np.asarray(which, np.float64)
    if direction.shape != (hidden,):
        raise SettingsError(f"the direction has shape {list(direction.shape)}: a layer here has {hidden} units")
    return direction
