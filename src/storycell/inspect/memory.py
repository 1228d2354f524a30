"""How far a model remembers: its loss when only the n characters before are known, and where in a text the loss is
high.

`ContextLoss` holds the first for ranges of n, `PlaceLoss` the mean loss by place, both with standard errors over
stories or blocks. The text is read in windows from a zero state; the loss at offset n minus the loss of the same
character with its whole story before it is what the missing characters are worth. As both are of the same characters,
little noise is left. A piece is guessed as a whole, so all its characters are guessed from those known before it, and
share its loss equally.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.evaluation.statistics import clustered_mean
from storycell.inspect.features import features
from storycell.inspect.trace import Trace

WINDOW = 256
_ROWS = 64

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ContextLoss:
    """Characters that were guessed from `least` to `most` known ones."""

    least: int
    most: int
    nats: float
    full_nats: float  # the same characters, guessed from all of their story
    extra_stderr: float  # standard error of nats - full_nats, over windows
    chars: int


@dataclass(frozen=True)
class PlaceLoss:
    """Mean loss of the characters at one place, such as the third letter of a word."""

    place: str
    label: str
    nats: float
    stderr: float  # over blocks of 1,000 characters
    chars: int


def context_losses(trace: Trace, window: int = WINDOW) -> list[ContextLoss]:
    """The loss of a character with 1, 2, 3-4, 5-8, … characters before it, in windows of `window` characters."""
    known, extra, full, owner = _windows(trace, window)
    edges = [1, *(2**k + 1 for k in range(window.bit_length() - 1))]
    losses = []
    for least, end in zip(edges, [*edges[1:], window + 1], strict=True):
        here = (known >= least) & (known < end)
        if here.sum() < 2:
            continue
        mean_full = float(full[here].mean())
        mean, stderr = clustered_mean(extra[here], owner[here])
        losses.append(ContextLoss(least, end - 1, mean + mean_full, mean_full, stderr, int(here.sum())))
    return losses


def _windows(trace: Trace, window: int) -> tuple[npt.NDArray[np.int64], Floats, Floats, npt.NDArray[np.int64]]:
    """For every character of every window: how many it is guessed from, its extra loss, its full loss, its window."""
    ids = trace.all_ids
    window = max(1, round(window * len(trace.ids) / len(trace)))  # steps
    sizes, whole = np.diff(trace.firsts), trace.by_step(trace.nats)
    firsts = [a for s, e in _stories(trace) for a in range(s + 1, e - 1, window)]  # never the boundary itself
    ends = {a: e for s, e in _stories(trace) for a in range(s + 1, e - 1, window)}
    parts: list[tuple[npt.NDArray[np.int64], Floats, Floats, npt.NDArray[np.int64]]] = []
    for a in range(0, len(firsts), _ROWS):
        group = firsts[a : a + _ROWS]
        padded = np.zeros((len(group), window + 1), dtype=np.int64)
        lengths = [min(window + 1, ends[first] - first) for first in group]
        for row, first, n in zip(padded, group, lengths, strict=True):
            row[:n] = ids[first : first + n]
        nats = trace.model.nats(padded[:, :-1], padded[:, 1:])[0].astype(np.float64)
        for b, (first, n) in enumerate(zip(group, lengths, strict=True)):
            steps = slice(first, first + n - 1)  # step j reads ids[j + 1]
            known, size = trace.firsts[steps] - trace.firsts[first - 1], sizes[steps]
            full = whole[steps] / size
            extra, owner = nats[b, : n - 1] / size - full, np.full(n - 1, a + b)
            parts.append((known.repeat(size), extra.repeat(size), full.repeat(size), owner.repeat(size)))
    columns = list(zip(*parts, strict=True))
    return tuple(np.concatenate(column) for column in columns)  # type: ignore[return-value]


def _stories(trace: Trace) -> list[tuple[int, int]]:
    """(first row, end row) of every story, rows as in `all_ids`."""
    return list(zip(trace.starts.tolist(), [*trace.starts[1:].tolist(), len(trace.all_ids)], strict=True))


def place_losses(trace: Trace) -> list[PlaceLoss]:
    """Mean loss by position in the word, the line and the story, and by distance from the opening quote."""
    found = features(trace.text)
    before = {name: np.concatenate([[0], feature.values[:-1]]) for name, feature in found.items()}
    character = np.array(list(trace.text)) != "\0"
    quoted = before["inside quotes"] > 0
    since_quote = _run_lengths(quoted)
    letters = np.array([c.isalpha() for c in trace.text])
    places = [
        ("letter of a word", before["position in the word"] + 1, letters, [1, 2, 3, 4, 5, 6, 8, 11]),
        ("character of a line", before["position in the line"] + 1, character, [1, 2, 5, 17, 65, 257]),
        ("character of a story", before["position in the story"] + 1, character, [1, 17, 65, 257, 513, 1025]),
        ("character of a quotation", since_quote, quoted & character, [1, 2, 5, 17, 33, 65]),
    ]
    block = np.arange(len(trace)) // 1000
    losses = []
    for place, value, where, edges in places:
        for least, end in zip(edges, [*edges[1:], 10**9], strict=True):
            here = where & (value >= least) & (value < end)
            if here.sum() >= 30:
                mean, stderr = clustered_mean(trace.nats[here], block[here])
                losses.append(PlaceLoss(place, _label(least, end), mean, stderr, int(here.sum())))
    return losses


def _label(least: int, end: int) -> str:
    return f"{least}+" if end == 10**9 else str(least) if end == least + 1 else f"{least}-{end - 1}"


def _run_lengths(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many characters, this one included, since the inside began; 0 outside."""
    count = np.arange(1, len(inside) + 1)
    outside = np.maximum.accumulate(np.where(inside, 0, count))
    return np.where(inside, count - outside, 0)
