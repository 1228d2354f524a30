"""The truth, character by character: what the grammar of the embedded stories makes of each place, beside the model.

The grammar gives the exact probability p of every next character (`data.stories.corpus.predict`), the model its own q.
What the model loses at a place is the divergence KL(p | q), the loss in excess of the truth's that is to be expected
there: no guess from the one character that happened to come, and never below zero.

A model of pieces expects a piece as a whole, knowing that the one before it has ended, so no q of it can be set beside
p. Of it the excess is what the characters that came cost more than by the truth: the same on average over all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.data.stories.corpus import predict
from storycell.data.stories.grammar import END
from storycell.evaluation.statistics import clustered_mean
from storycell.inspect.ablation import character_kinds
from storycell.inspect.trace import Trace
from storycell.types import BOUNDARY, UNKNOWN

Floats = npt.NDArray[np.float64]
_CHARS = 60_000  # of a text are enough
_READABLE = 0.9  # of the characters: less, and the text is none of the grammar's
_SURE = 0.999
_FEWEST = 20
_WORST = 10
_SHOWN = 1200  # characters to walk through
_LIKELY = 5
_LEAST = 1e-12  # of a probability, in a logarithm


@dataclass(frozen=True)
class KindOfPlace:
    """Characters of one kind: the truth's own loss there, and what the model loses on top of it, nats a character."""

    kind: str
    chars: int
    true_nats: float  # entropy of the truth
    excess_nats: float  # mean divergence
    stderr: float  # of the excess, over stories
    share: float  # of the model's whole excess


@dataclass(frozen=True)
class Place:
    """One place: what was read, what the truth and the model expect (the likeliest first), and the divergence."""

    row: int  # of the trace: the character that came
    truth: list[tuple[str, float]]
    model: list[tuple[str, float]]
    excess_nats: float


@dataclass(frozen=True)
class Truth:
    """Along the beginning of a text; arrays are `[T]`, nan where the grammar cannot have written the text."""

    nats: Floats  # the truth's loss of the character that came
    entropy: Floats  # of the truth
    excess: Floats  # divergence of the model from it
    kinds: list[KindOfPlace]
    worst: list[Place]
    shown: list[Place]  # consecutive, from the first character on
    stories: int


def truth(path: Trace, chars: int = _CHARS) -> Truth | None:
    """The truth beside the model along a trace; None where the text is not the embedded stories'."""
    begins = path.firsts[path.starts]
    starts = begins[begins < chars]
    ends = [*begins[1:].tolist(), len(path) + 1][: len(starts)]
    end = min(ends[-1], len(path)) if len(starts) else 0
    rows: list[dict[str, float]] = [{} for _ in range(end)]
    for first, last in zip(starts.tolist(), ends, strict=True):
        text = path.text[first : last - 1]  # the characters of the story; after it comes a boundary, or nothing
        for row, p in zip(range(first, min(last, end)), predict(text), strict=False):
            rows[row] = p
        if not rows[first] or (first == 0 and not all(rows[: min(last - 1, 200)])):
            return None  # the first story is none of the grammar's: no need to try them all
    known = np.array([bool(p) for p in rows])
    if end == 0 or known.mean() < _READABLE:
        return None
    return (_costs if path.of_pieces else _beside)(path, rows, known, len(starts))


def _costs(path: Trace, rows: Sequence[dict[str, float]], known: npt.NDArray[np.bool_], stories: int) -> Truth:
    """The same of a model of pieces, from the characters that came; the model's side of a place is what came alone."""
    nats, entropy = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for t in np.flatnonzero(known).tolist():
        nats[t] = -math.log(max(rows[t].get(path.text[t], 0.0), _LEAST))
        entropy[t] = -sum(v * math.log(v) for v in rows[t].values())
    excess = path.nats[: len(rows)] - nats

    def place(t: int) -> Place:
        true = sorted(rows[t].items(), key=lambda one: -one[1])[:_LIKELY]
        return Place(t, true, [(path.text[t], math.exp(-float(path.nats[t])))], float(excess[t]))

    places = [place(t) for t in range(min(_SHOWN, len(rows))) if known[t]]
    worst: dict[tuple[str, str], Place] = {}
    for t in np.argsort(-np.nan_to_num(excess), kind="stable")[: 40 * _WORST].tolist():
        worst.setdefault((path.text[max(0, t - 6) : t], path.text[t]), place(t))
    return Truth(
        nats, entropy, excess, _kinds(path, known, entropy, excess), list(worst.values())[:_WORST], places, stories
    )


def _beside(path: Trace, rows: Sequence[dict[str, float]], known: npt.NDArray[np.bool_], stories: int) -> Truth:
    ids = {path.vocab.text_of(k): k for k in range(UNKNOWN + 1, len(path.vocab))} | {END: BOUNDARY}
    h = path.states[-1][path.output]
    nats, entropy, excess = (np.full(len(rows), np.nan) for _ in range(3))
    q = np.empty((len(rows), len(path.vocab)), np.float32)
    for a in range(0, len(rows), 2048):
        logits = path.model.output(h[a : min(a + 2048, len(rows))]).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        q[a : a + len(logits)] = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    lowest = math.log(_LEAST)
    for t in np.flatnonzero(known).tolist():
        p = rows[t]
        nats[t] = -math.log(max(p.get(path.text[t], 0.0), _LEAST))
        entropy[t] = -sum(v * math.log(v) for v in p.values())
        model = q[t]
        cross = -sum(v * (float(model[ids[c]]) if c in ids else lowest) for c, v in p.items())
        excess[t] = max(0.0, cross - entropy[t])
    names = [path.vocab.text_of(k) for k in range(len(path.vocab))]
    names[BOUNDARY] = END
    places = [_place(t, rows[t], q[t], names, float(excess[t])) for t in range(min(_SHOWN, len(rows))) if known[t]]
    order = np.argsort(-np.nan_to_num(excess), kind="stable")
    worst: dict[tuple[str, str], Place] = {}
    for t in order[: 40 * _WORST].tolist():
        one = _place(t, rows[t], q[t], names, float(excess[t]))
        worst.setdefault((path.text[max(0, t - 6) : t], one.truth[0][0]), one)  # the same again tells nothing new
    return Truth(
        nats, entropy, excess, _kinds(path, known, entropy, excess), list(worst.values())[:_WORST], places, stories
    )


def _place(row: int, p: dict[str, float], q: npt.NDArray[np.float32], names: Sequence[str], excess: float) -> Place:
    likely = np.argsort(-q, kind="stable")[:_LIKELY]
    true = sorted(p.items(), key=lambda one: -one[1])[:_LIKELY]
    return Place(row, true, [(names[k], math.exp(float(q[k]))) for k in likely.tolist()], excess)


def _kinds(path: Trace, known: npt.NDArray[np.bool_], entropy: Floats, excess: Floats) -> list[KindOfPlace]:
    n = len(known)
    story = np.searchsorted(path.firsts[path.starts], np.arange(n), side="right")
    sure = entropy < -math.log(_SURE)
    masks = {"every character": np.ones(n, dtype=np.bool_)}
    masks |= {"the rules leave no choice": sure, "there is a choice": ~sure}
    masks |= {kind: mask[:n] for kind, mask in character_kinds(path.text[:n]).items() if kind not in masks}
    masks["the end of the story"] = (path.ids == BOUNDARY)[path.places[:n]]
    total = float(excess[known].sum())
    found = []
    for kind, mask in masks.items():
        here = mask & known
        if here.sum() >= _FEWEST:
            mean, stderr = clustered_mean(excess[here], story[here])
            share = float(excess[here].sum()) / total if total else 0.0
            found.append(KindOfPlace(kind, int(here.sum()), float(entropy[here].mean()), mean, stderr, share))
    return found
