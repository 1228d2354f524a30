"""The longest passages that pieces of text share with a large one.

In: the ids of the large text `[n]` (every story after its boundary, as in a token file, which may be mapped from disk)
and of the pieces. Out: for every position of every piece, how many characters from there on stand somewhere in the
large text, in one story. A suffix array (libdivsufsort) of the large text and the pieces together gives that in a time
that grows with their length, not with its square: a piece's suffix has its longest match in the next suffix of the
large text before or after it.

The surprising decision: the large text is read in parts of 16 million characters that overlap by 65,536, so memory
stays within bounds; a copy that is longer than the overlap and lies across a cut is measured as two.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.shapes import Ids
from storycell.vocab import BOUNDARY, UNKNOWN

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
    queries = np.concatenate([half for piece in pieces for half in (piece, [_END_OF_PIECE])] or [[]]).astype(text.dtype)
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
