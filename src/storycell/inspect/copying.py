"""What the rows of a context are worth to a prediction, and where the network copies.

The first layer reads the embedding of a character, the rows of its n-grams and that of the longest match (of
`storycell.context`). Here each is left out for one character: the state before is what it was, the character is read
without the row, and the loss of the next character tells what the row was worth (its gain, in nats). What the row gave
to the state of earlier characters stays, so this is what it adds at the moment, not all that was learnt from it.

A passage is copied where the matches of characters on end expect what then comes. Of a model of pieces it is pieces
that rows are left out of, and that match; what that costs is told by character.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.context import MEMORY, TABLE, Context
from storycell.engine.inference import context_rows
from storycell.evaluation.statistics import clustered_mean
from storycell.inspect.trace import Trace

MATCHES, NGRAMS, BOTH = "matches", "n-grams", "n-grams and matches"
_EDGES = (2, 3, 5, 9, 17, 33)  # lengths of matches, in groups
_PASSAGES = 8
_SHOWN = 160  # characters of a passage
_BEFORE = 24  # shown before it
_FEWEST = 30  # characters of a group
_BLOCK = 1000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Worth:
    """The mean loss of a text with all rows and with some of them left out, each time for one character."""

    rows: str  # which are left out
    nats: float
    without_nats: float
    stderr: float  # of the difference, over blocks of 1,000 characters


@dataclass(frozen=True)
class MatchGroup:
    """Characters after a match of `least` to `most` characters (or pieces); 0: after none."""

    least: int
    most: int
    chars: int
    hits: float  # share of them that are what followed in the match
    nats: float
    without_nats: float  # with the row of the match left out
    stderr: float  # of the difference


@dataclass(frozen=True)
class Passage:
    """A copied passage: `text` from character `start` on, with the gain of each of its characters in nats."""

    start: int
    before: str  # what stands before it
    text: str
    gains: Floats
    earlier_before: str  # and where it stood first
    earlier: str
    probability: float  # geometric means of what its characters were given, with the rows of matches and without
    without_probability: float


@dataclass(frozen=True)
class Copying:
    """All of it; `groups` and `passages` of a model with matches."""

    worth: list[Worth]
    groups: list[MatchGroup]
    passages: list[Passage]
    step_name: str = "character"  # what rows are left out of, and what matches: characters, or pieces


def copying(trace: Trace) -> Copying | None:
    """What the rows of the context are worth along a text; None for a model without a context."""
    context = trace.model.context
    if not context:
        return None
    rows = context_rows(context, trace.all_ids[None])[0]
    table = trace.model.weights()[TABLE]
    kinds = {NGRAMS: rows[:, : len(rows[0]) - bool(context.matches)]} if context.ngrams else {}
    kinds |= {MATCHES: rows[:, -1:]} if context.matches else {}
    added = {name: table[met].sum(1) for name, met in kinds.items()}
    if len(added) > 1:
        added[BOTH] = added[NGRAMS] + added[MATCHES]
    without = {name: trace.nats_reading(trace.inputs - vectors) for name, vectors in added.items()}
    worth = [_worth(trace, name, nats) for name, nats in without.items()]
    if not context.matches:
        return Copying(worth, [], [], trace.step_name)
    lengths, expected = match_of(context, rows[:-1, -1])
    hit = ((lengths > 0) & (expected == trace.ids))[trace.places]
    lengths = lengths[trace.places]
    gains = without[MATCHES] - trace.nats
    return Copying(
        worth,
        _groups(trace, context, lengths, hit, without[MATCHES]),
        _passages(trace, context, lengths, hit, gains),
        trace.step_name,
    )


def match_of(context: Context, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How long the match of a row is (0: none), and the character that followed there."""
    place = rows - context.ngram_rows
    return np.where(place > 0, place // context.vocab_size + 1, 0), place % context.vocab_size


def _worth(trace: Trace, name: str, without: Floats) -> Worth:
    mean, stderr = clustered_mean(without - trace.nats, np.arange(len(trace)) // _BLOCK)
    nats = float(trace.nats.mean())
    return Worth(name, nats, nats + mean, stderr)


def _groups(
    trace: Trace, context: Context, lengths: npt.NDArray[np.int64], hit: npt.NDArray[np.bool_], without: Floats
) -> list[MatchGroup]:
    edges = [edge for edge in _EDGES if edge <= context.matches]
    groups, block = [], np.arange(len(trace)) // _BLOCK
    for least, end in zip([0, *edges], [1, *edges[1:], context.matches + 1], strict=True):
        here = (lengths >= least) & (lengths < end)
        if here.sum() < _FEWEST:
            continue
        mean, stderr = clustered_mean((without - trace.nats)[here], block[here])
        nats = float(trace.nats[here].mean())
        groups.append(MatchGroup(least, end - 1, int(here.sum()), float(hit[here].mean()), nats, nats + mean, stderr))
    return groups


def _passages(
    trace: Trace, context: Context, lengths: npt.NDArray[np.int64], hit: npt.NDArray[np.bool_], gains: Floats
) -> list[Passage]:
    """Those whose characters gained most by their matches, none of them twice; the best first."""
    edges = np.diff(np.concatenate([[0], hit.astype(np.int8), [0]]))
    runs = list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
    total = np.concatenate([[0.0], np.cumsum(gains)])
    marks = "".join(map(chr, trace.ids.tolist())) if trace.of_pieces else trace.text  # a character for each step
    runs.sort(key=lambda run: total[run[0]] - total[run[1]])
    found: dict[str, Passage] = {}
    for first, end in runs:
        if len(found) == _PASSAGES or total[end] - total[first] <= 0:
            break
        end = min(end, first + _SHOWN)
        text = trace.text[first:end]
        stood = _stood(marks, int(trace.places[first]), int(lengths[first]), context)
        if text in found or stood < 0:
            continue
        at = int(trace.firsts[stood])
        here = slice(first, end)
        mean = float(trace.nats[here].mean())
        found[text] = Passage(
            first,
            trace.text[max(0, first - _BEFORE) : first].rpartition("\0")[2],
            text,
            gains[here],
            trace.text[max(0, at - _BEFORE) : at].rpartition("\0")[2],
            trace.text[at : at + len(text)],
            float(np.exp(-mean)),
            float(np.exp(-mean - gains[here].mean())),
        )
    return list(found.values())


def _stood(text: str, first: int, length: int, context: Context) -> int:
    """Where what the match expects before step `first` stands: the latest place that agrees so far."""
    known = text[first - length : first]
    return text.rfind(known, max(0, first - length - MEMORY + context.matches - 1), first - 1) + length if known else -1
