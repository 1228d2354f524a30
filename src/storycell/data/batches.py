"""Token ids -> chunks `[B T]`, addressable by step: what a step reads depends on its number and nothing else.

`Streams` (the default) reads the text at B places at once, each going on where it stopped, so that the state can be
carried from chunk to chunk. `Windows` jumps to random places, to be read from a zero state, as most tutorials do.
`Items` are for lists: each row is some stories drawn at random, from a zero state, so that the order of a list, often a
sorted one, tells nothing; what of a story is longer than a row is not seen.

The text is a ring: its end is followed by its beginning, whose boundary id closes the last story. So a stream never
stops, and every epoch is cut into chunks at other places.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from storycell.config import TrainSettings
from storycell.errors import CorpusError
from storycell.types import BOUNDARY, Ids

Chunk = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # inputs and targets, [B T] each
ALL = slice(None)


class Batches(Protocol):
    """A sequence of training chunks."""

    B: int
    T: int
    carries_state: bool

    def at(self, step: int, rows: slice = ALL) -> Chunk:
        """The chunk of step 0, 1, 2, …: inputs `[B T]` and targets `[B T]`, int64, targets one character later.

        `rows` are the streams that are wanted, where several processes share them: only those are read.
        """

    def before(self, step: int, count: int, rows: slice = ALL) -> npt.NDArray[np.int64]:
        """What stands in the text before the chunk of a step: `count` ids `[B count]`, or none `[B 0]`."""


class Streams:
    """B places in a ring of N ids, evenly spread at step 0, each moving T characters a step."""

    carries_state = True

    def __init__(self, ids: Ids, B: int, T: int) -> None:
        self.ids, self.B, self.T = ids, B, T

    def at(self, step: int, rows: slice = ALL) -> Chunk:
        """As `Batches.at`."""
        return _chunk(self.ids, self._starts(step, rows), self.T)

    def before(self, step: int, count: int, rows: slice = ALL) -> npt.NDArray[np.int64]:
        """As `Batches.before`."""
        starts = np.array(self._starts(step, rows), np.int64)[:, None]
        return np.asarray(self.ids[(starts + np.arange(-count, 0)) % len(self.ids)], np.int64)

    def _starts(self, step: int, rows: slice) -> list[int]:
        N = len(self.ids)
        return [(b * N // self.B + step * self.T) % N for b in range(self.B)[rows]]


class Windows:
    """B random places in a ring of N ids, drawn from the seed and the number of the step."""

    carries_state = False

    def __init__(self, ids: Ids, B: int, T: int, seed: int) -> None:
        self.ids, self.B, self.T, self.seed = ids, B, T, seed

    def at(self, step: int, rows: slice = ALL) -> Chunk:
        """As `Batches.at`."""
        draws = np.random.Generator(np.random.Philox(key=self.seed, counter=step << 128))
        return _chunk(self.ids, draws.integers(0, len(self.ids), self.B)[rows].tolist(), self.T)

    def before(self, step: int, count: int, rows: slice = ALL) -> npt.NDArray[np.int64]:
        """As `Batches.before`: none, since the model reads a window from the zero state."""
        return _nothing(self.B, rows)


class Items:
    """B rows of stories drawn at random, from the seed and the number of the step, as many as T characters hold."""

    carries_state = False

    def __init__(self, ids: Ids, B: int, T: int, seed: int) -> None:
        self.ids, self.B, self.T, self.seed = ids, B, T, seed
        self._starts = np.flatnonzero(ids == BOUNDARY)
        self._lengths = np.diff(self._starts, append=len(ids))

    def at(self, step: int, rows: slice = ALL) -> Chunk:
        """As `Batches.at`."""
        draws = np.random.Generator(np.random.Philox(key=self.seed, counter=step << 128))
        drawn = draws.integers(0, len(self._starts), (self.B, self.T // 2 + 1))[rows]  # a story has two ids at least
        out = np.empty((len(drawn), self.T + 1), np.int64)
        for row, stories in zip(out, drawn, strict=True):
            lengths = self._lengths[stories]
            ends = np.cumsum(lengths)
            count = int(np.searchsorted(ends, self.T + 1)) + 1
            before = np.repeat(self._starts[stories[:count]] - (ends - lengths)[:count], lengths[:count])
            row[:] = self.ids[(before + np.arange(len(before)))[: self.T + 1]]
        return out[:, :-1], out[:, 1:]

    def before(self, step: int, count: int, rows: slice = ALL) -> npt.NDArray[np.int64]:
        """As `Batches.before`: none, since a row begins with a story."""
        return _nothing(self.B, rows)


def _nothing(B: int, rows: slice) -> npt.NDArray[np.int64]:
    return np.empty((len(range(B)[rows]), 0), np.int64)


def _chunk(ids: Ids, starts: list[int], T: int) -> Chunk:
    rows = np.empty((len(starts), T + 1), dtype=np.int64)
    for row, start in zip(rows, starts, strict=True):
        ahead = ids[start : start + T + 1]
        row[: len(ahead)] = ahead
        if len(ahead) < T + 1:
            row[len(ahead) :] = ids[: T + 1 - len(ahead)]
    return rows[:, :-1], rows[:, 1:]


def make(ids: Ids, settings: TrainSettings, unit: str = "characters") -> Batches:
    """The batches that the settings ask for; fewer streams where the text is too short for so many.

    `unit` is what an id stands for, for the error where there are too few.
    """
    N, T = len(ids), settings.chunk
    if N < T + 2:
        raise CorpusError(
            f"the training text has {N - 1:,} {unit}, fewer than one chunk of {T} and the one after it; "
            f"give more text or a smaller --chunk"
        )
    if settings.batching == "windows":
        return Windows(ids, settings.streams, T, settings.seed)
    if settings.batching == "items":
        return Items(ids, settings.streams, T, settings.seed)
    return Streams(ids, min(settings.streams, max(1, N // (T + 1))), T)
