"""Does a model copy the text it has learnt?

In: a `Model`, the ids of the text it has learnt, those of a text it has not, in its vocabulary. Out: a `Novelty`: how
long the longest spans are that its samples have in common with the learnt text, and the same for pieces of the text
held out, which nobody copied: cut to the same number and lengths, they are the yardstick.

The surprising decision: the yardstick is a text of the same kind, not a threshold. Stories of four-year-olds share
whole sentences with each other; what tells a copyist is sharing more than they do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from storycell.api import Model
from storycell.errors import CorpusError, SettingsError
from storycell.experiments.copies import Matches, matches
from storycell.sampler import Sampling
from storycell.shapes import Ids
from storycell.text_stream import gathered
from storycell.tokens import stories_of
from storycell.vocab import Vocabulary

Progress = Callable[[str, int, int], None]  # what is being done, how much of it, of how much

_TALL = 0.95  # the share of samples below the second figure of a distribution


@dataclass(frozen=True)
class Copying:
    """The longest copied span of each of several pieces, as a distribution, in characters."""

    pieces: int
    chars: int
    longest: int
    median: float
    p95: float
    copied_share: float  # of all characters: those in spans longer than any that the held-out text shares


@dataclass(frozen=True)
class Passage:
    """A span of a sample that stands in the learnt text."""

    text: str
    chars: int
    sample: int  # number of the sample, from 0
    at: int  # position in it
    place: int  # position in the learnt text, boundaries included


@dataclass(frozen=True)
class Novelty:
    """What the samples share with the learnt text, and what the held-out text does (None where there is none)."""

    samples: Copying
    heldout: Copying | None
    passages: list[Passage]  # the longest copied spans, longest first, each once


def novelty(
    model: Model,
    learnt: Ids,
    heldout: Ids | None,
    *,
    count: int = 100,
    chars: int = 1000,
    temperature: float = 0.8,
    seed: int = 1,
    shown: int = 5,
    progress: Progress = lambda *_: None,
) -> Novelty:
    """Let the model tell `count` stories of at most `chars` characters, and look for them in the `learnt` ids `[n]`."""
    if shown < 0:
        raise SettingsError(f"show = {shown}: it must be at least 0")
    written = samples(model, count, chars, temperature, seed, progress)
    if not any(map(len, written)):
        raise CorpusError("the samples are empty, so nothing can be copied; allow more characters")
    pieces = [model.vocab.encode(text) for text in written]
    others = [] if heldout is None else cut_alike(heldout, [len(piece) for piece in pieces])
    found = matches(learnt, pieces + others, lambda done: progress("looking for copies", done, len(learnt)))
    ours, theirs = found[: len(pieces)], found[len(pieces) :]
    yardstick = max((match.longest for match in theirs), default=0)
    return Novelty(
        _distribution(ours, yardstick),
        _distribution(theirs, yardstick) if theirs else None,
        _passages(model.vocab, pieces, ours, shown),
    )


def samples(model: Model, count: int, chars: int, temperature: float, seed: int, progress: Progress) -> list[str]:
    """Stories of the model from their very beginning, `count` of them; number k has the seed `seed + k`."""

    def told() -> Iterator[tuple[int, str]]:
        rows = 0
        for k, piece in model.streams("", chars, count=count, sampling=Sampling(temperature), seed=seed):
            yield k, piece
            if k == 0:
                rows += 1
                progress("writing", rows, chars)

    return gathered(told(), count)


def cut_alike(ids: Ids, lengths: list[int]) -> list[Ids]:
    """Pieces of stories from all over a text, as many and as long as `lengths` where it has them: `[m]` each."""
    stories = [story[1:] for story in stories_of(ids)]
    if len(stories) == 1:
        starts = np.linspace(0, max(0, len(stories[0]) - max(lengths)), len(lengths)).astype(int)
        return [stories[0][a : a + n] for a, n in zip(starts, lengths, strict=True) if n]
    chosen = np.linspace(0, len(stories) - 1, min(len(lengths), len(stories))).astype(int)
    by_length = sorted((stories[k] for k in chosen), key=len)
    return [story[:n] for story, n in zip(by_length, sorted(lengths)[-len(by_length) :], strict=True) if n]


def _distribution(found: list[Matches], yardstick: int) -> Copying:
    longest = np.array([match.longest for match in found])
    chars = sum(len(match.lengths) for match in found)
    copied = sum(_covered(match, yardstick + 1) for match in found)
    return Copying(
        pieces=len(found),
        chars=chars,
        longest=int(longest.max()),
        median=float(np.median(longest)),
        p95=float(np.quantile(longest, _TALL)),
        copied_share=copied / max(1, chars),
    )


def _covered(match: Matches, least: int) -> int:
    """How many characters of a piece are in copied spans of at least `least`."""
    edges = np.zeros(len(match.lengths) + 1, dtype=np.int64)
    for start, length in match.spans():
        if length >= least:
            edges[start] += 1
            edges[start + length] -= 1
    return int(np.count_nonzero(np.cumsum(edges)))


def _passages(vocab: Vocabulary, pieces: list[Ids], found: list[Matches], shown: int) -> list[Passage]:
    """The longest spans, none of which overlaps or repeats another."""
    spans = sorted((-n, k, at) for k, match in enumerate(found) for at, n in match.spans())
    passages: dict[str, Passage] = {}
    for negative, k, at in spans:
        if len(passages) >= shown:
            break
        if any(p.sample == k and p.at < at - negative and at < p.at + p.chars for p in passages.values()):
            continue
        text = vocab.decode(pieces[k][at : at - negative])
        passages.setdefault(text, Passage(text, -negative, k, at, int(found[k].places[at])))
    return list(passages.values())
