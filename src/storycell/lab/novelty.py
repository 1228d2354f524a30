"""Does a model copy its training text?

`Novelty` says how long the longest spans are that a model's samples have in common with its training text, and the same
for pieces of held-out text, which nobody copied, cut to the same number and lengths. The yardstick is a text of the
same kind, not a threshold: stories of four-year-olds share whole sentences with each other, and what tells a copyist is
sharing more than they do.

`matches` tells for every position of every piece how many characters from there on occur somewhere in a large text, in
one story. A suffix array (libdivsufsort) of the large text and the pieces together gives that in a time that grows with
their length, not with its square: a piece's suffix has its longest match in the next suffix of the large text before or
after it. The large text is read in parts of 16 million characters that overlap by 65,536, so memory stays within
bounds; a copy that is longer than the overlap and lies across a cut is measured as two.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.api import Model
from storycell.data.tokens import split_stories
from storycell.data.vocab import Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.generation.sampler import Sampling
from storycell.generation.text_stream import gather
from storycell.types import BOUNDARY, UNKNOWN, Ids

PART = 1 << 24
OVERLAP = 1 << 16
_END_OF_PIECE = UNKNOWN  # in the pieces alone: an unknown character equals no other

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """What one piece has in common with the large text."""

    lengths: Lengths  # [n]: characters from each position on that stand in the large text
    places: Lengths  # [n]: where the longest of these begins there

    @property
    def longest(self) -> int:
        """The length of the longest copied span."""
        return int(self.lengths.max(initial=0))

    def spans(self) -> list[tuple[int, int]]:
        """The maximal copied spans, (position, length): those that no longer one contains, longest first."""
        covered = np.concatenate([[0], self.lengths[:-1] - 1])
        starts = np.flatnonzero((self.lengths > covered) & (self.lengths > 0))
        found = [(int(a), int(self.lengths[a])) for a in starts]
        return sorted(found, key=lambda span: (-span[1], span[0]))


def matches(
    text: Ids, pieces: list[Ids], progress: Callable[[int], None] = lambda _: None, part: int = PART
) -> list[Matches]:
    """What each piece `[m]` has in common with the text `[n]`. `progress` is told how much of the text is done."""
    queries = np.concatenate([one for piece in pieces for one in (piece, [_END_OF_PIECE])] or [[]]).astype(text.dtype)
    queries[queries == BOUNDARY] = _END_OF_PIECE
    lengths, places = np.zeros(len(queries), dtype=np.int64), np.zeros(len(queries), dtype=np.int64)
    for start, stop in _parts(len(text), part):
        found, where = _longest(text[start:stop], queries)
        better = found > lengths
        lengths[better], places[better] = found[better], where[better] + start
        progress(stop)
    cuts = np.cumsum([len(piece) + 1 for piece in pieces])
    both = zip(np.split(lengths, cuts), np.split(places, cuts), strict=True)
    return [Matches(n[:-1], at[:-1]) for (n, at), _ in zip(both, pieces, strict=False)]


def _parts(n: int, part: int) -> Iterator[tuple[int, int]]:
    overlap = min(OVERLAP, part // 2)
    for start in range(0, max(1, n - overlap), part - overlap):
        yield start, min(start + part, n)


def _longest(text: Ids, queries: Ids) -> tuple[Lengths, Lengths]:
    """For each position of the queries `[m]`: the longest match in the text that begins there, and where it stands."""
    import pydivsufsort

    known = text.copy()
    known[known == _END_OF_PIECE] = BOUNDARY  # so that it matches nothing either
    joined = np.concatenate([queries, known])
    order = pydivsufsort.divsufsort(joined)
    shared = pydivsufsort.kasai(joined, order)  # of suffix k with suffix k + 1, in characters
    ranks = np.flatnonzero(order < len(queries))
    before = _towards(ranks, order, np.concatenate([[0], shared[:-1]]), -1, len(queries))
    after = _towards(ranks, order, shared, 1, len(queries))
    best = np.where((before[0] >= after[0])[:, None], before.T, after.T)
    lengths, places = np.zeros(len(queries), dtype=np.int64), np.zeros(len(queries), dtype=np.int64)
    lengths[order[ranks]], places[order[ranks]] = best[:, 0], best[:, 1] - len(queries)
    return lengths, places


def _towards(ranks: Lengths, order: Lengths, shared: Lengths, step: int, m: int) -> Lengths:
    """For each query suffix, by rank: (length shared, position) of the next text suffix in a direction, `[2 m]`."""
    out = np.zeros((2, len(ranks)), dtype=np.int64)
    last_rank, length, place = -2, 0, 0
    indices = range(len(ranks)) if step < 0 else range(len(ranks) - 1, -1, -1)
    for k in indices:
        rank = int(ranks[k])
        if rank + step == last_rank:  # the neighbour is a query's suffix too: what it shares, cut to what they share
            length = min(length, int(shared[rank]))
        else:
            length = int(shared[rank])
            place = int(order[rank + step]) if 0 <= rank + step < len(order) else m
        last_rank = rank
        out[:, k] = length, place
    return out


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
class CopiedSpan:
    """A span of a sample that stands in the training text."""

    text: str
    chars: int
    sample: int  # number of the sample, from 0
    at: int  # position in it
    place: int  # position in the training text, boundaries included


@dataclass(frozen=True)
class Novelty:
    """What the samples share with the training text, and what the held-out text does (None where there is none)."""

    samples: Copying
    heldout: Copying | None
    spans: list[CopiedSpan]  # the longest copied spans, longest first, each once


def novelty(
    model: Model,
    training: Ids,
    heldout: Ids | None,
    *,
    count: int = 100,
    chars: int = 1000,
    temperature: float = 0.8,
    seed: int = 1,
    shown: int = 5,
    progress: Progress = lambda *_: None,
) -> Novelty:
    """Generate `count` stories of at most `chars` characters, and look for them in the `training` ids `[n]`."""
    if shown < 0:
        raise SettingsError(f"show = {shown}: it must be at least 0")
    written = samples(model, count, chars, temperature, seed, progress)
    if not any(map(len, written)):
        raise CorpusError("the samples are empty, so nothing can be copied; allow more characters")
    vocab = model.vocab.spelling
    training, heldout = model.vocab.spell(training), None if heldout is None else model.vocab.spell(heldout)
    pieces = [vocab.encode(text) for text in written]
    others = [] if heldout is None else cut_alike(heldout, [len(piece) for piece in pieces])
    found = matches(training, pieces + others, lambda done: progress("looking for copies", done, len(training)))
    ours, theirs = found[: len(pieces)], found[len(pieces) :]
    yardstick = max((match.longest for match in theirs), default=0)
    return Novelty(
        _distribution(ours, yardstick),
        _distribution(theirs, yardstick) if theirs else None,
        _longest_spans(vocab, pieces, ours, shown),
    )


def samples(model: Model, count: int, chars: int, temperature: float, seed: int, progress: Progress) -> list[str]:
    """Stories of the model from their very beginning, `count` of them; number k has the seed `seed + k`."""

    def stream() -> Iterator[tuple[int, str]]:
        rows = 0
        for k, piece in model.streams("", chars, count=count, sampling=Sampling(temperature), seed=seed):
            yield k, piece
            if k == 0:
                rows += 1
                progress("generating", rows, chars)

    return gather(stream(), count)


def cut_alike(ids: Ids, lengths: list[int]) -> list[Ids]:
    """Pieces of stories from all over a text, as many and as long as `lengths` where it has them: `[m]` each."""
    stories = [story[1:] for story in split_stories(ids)]
    if len(stories) == 1:
        starts = np.linspace(0, max(0, len(stories[0]) - max(lengths)), len(lengths)).astype(int)
        return [stories[0][a : a + n] for a, n in zip(starts, lengths, strict=True) if n]
    chosen = np.linspace(0, len(stories) - 1, min(len(lengths), len(stories))).astype(int)
    by_length = sorted((stories[k] for k in chosen), key=len)
    return [story[:n] for story, n in zip(by_length, sorted(lengths)[-len(by_length) :], strict=True) if n]


def _distribution(found: list[Matches], yardstick: int) -> Copying:
    longest = np.array([match.longest for match in found])
    chars = sum(len(match.lengths) for match in found)
    copied = sum(_count_covered(match, yardstick + 1) for match in found)
    return Copying(
        pieces=len(found),
        chars=chars,
        longest=int(longest.max()),
        median=float(np.median(longest)),
        p95=float(np.quantile(longest, _TALL)),
        copied_share=copied / max(1, chars),
    )


def _count_covered(match: Matches, least: int) -> int:
    """How many characters of a piece are in copied spans of at least `least`."""
    edges = np.zeros(len(match.lengths) + 1, dtype=np.int64)
    for start, length in match.spans():
        if length >= least:
            edges[start] += 1
            edges[start + length] -= 1
    return int(np.count_nonzero(np.cumsum(edges)))


def _longest_spans(vocab: Vocabulary, pieces: list[Ids], found: list[Matches], shown: int) -> list[CopiedSpan]:
    """The longest spans, none of which overlaps or repeats another."""
    candidates = sorted((-n, k, at) for k, match in enumerate(found) for at, n in match.spans())
    spans: dict[str, CopiedSpan] = {}
    for negative, k, at in candidates:
        if len(spans) >= shown:
            break
        if any(p.sample == k and p.at < at - negative and at < p.at + p.chars for p in spans.values()):
            continue
        text = vocab.decode(pieces[k][at : at - negative])
        spans.setdefault(text, CopiedSpan(text, -negative, k, at, int(found[k].places[at])))
    return list(spans.values())
