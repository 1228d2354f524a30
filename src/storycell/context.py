"""What a model adds to the embedding of a character for its context: learnt rows of one table `[R D]`.

One row for each n-gram of 2 to `ngrams` characters that ends with it (Svenstrup et al. 2017, arXiv:1709.03933, hash
whole words so; Joulin et al. 2016, arXiv:1607.01759, n-grams):

    h = 0;  of the character and those before it, the latest first:  h = (h * FACTOR + id + 1) mod PRIME

and after n characters h mod `ngram_rows` is the row of the n-gram; n-grams that share a row share what is learnt.
Products stay below 2^53, so that C, JavaScript and ONNX compute the same rows.

And one for the longest match, as in the match models of compressors (Mahoney 2005, "Adaptive Weighing of Context Models
for Lossless Data Compression"): of all places of the story where the latest characters stood before, the one that
agrees with the most of them (at most `matches`; the latest of several such). It is at most P - `matches` + 1 characters
back, so that all that may agree is remembered. If n >= 2 agree and c follows them there, it is row `ngram_rows` +
(n - 1) V + c, else row `ngram_rows`: so the network reads what would come next if the story repeated itself, and for
how long it has. A recurrent network by itself copies badly.

A context sees nothing beyond a boundary: that and everything before it are characters 0, as is what lies before a text,
and a 0 agrees with nothing. A stream remembers its P latest characters, the latest first, as `past` in its state
`[1 B P]`; zeros are the state before a text begins, as of all states. P is MEMORY with matches, else N - 1.

A run's `model.safetensors` stores the table in bytes (`quantized.in_bytes`): rows are added up, so that rounding them
is not seen in a loss (LOG.md). native/engine/context.h has the same in C++.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LONGEST_NGRAM = 16  # the engine's limits
LONGEST_MATCH = 64
MEMORY = 1024
PRIME, FACTOR = 2**31 - 1, 1_999_993
PAST = "past"  # its name in a state
TABLE = "context_table.weight"  # the name of the table [R D]; it starts at zero

_PIECE = 256

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """Which rows a character meets; `ngrams` and `matches` are the longest of them, 0: none.

    Without n-grams there are no `ngram_rows`, whatever is given.
    """

    ngrams: int = 0
    ngram_rows: int = 0
    matches: int = 0
    vocab_size: int = 0

    def __post_init__(self) -> None:
        if not self.ngrams:
            object.__setattr__(self, "ngram_rows", 0)

    @classmethod
    def of(cls, ngrams: int, matches: int, rows: int, vocab_size: int) -> "Context":
        """The context whose table has so many rows; `ValueError` where there is none."""
        of_ngrams = rows - matches * vocab_size
        fits = (2 <= ngrams <= LONGEST_NGRAM and of_ngrams > 0) if ngrams else (ngrams == 0 and of_ngrams == 0)
        if not fits or not (matches == 0 or 2 <= matches <= LONGEST_MATCH):
            raise ValueError(
                f"a table of {rows} rows is not that of n-grams of up to {ngrams} characters and matches of up to "
                f"{matches}, of {vocab_size} characters"
            )
        return cls(ngrams, of_ngrams, matches, vocab_size)

    def __bool__(self) -> bool:
        return bool(self.ngrams or self.matches)

    @property
    def rows(self) -> int:
        """R."""
        return self.ngram_rows + self.matches * self.vocab_size

    @property
    def met(self) -> int:
        """K: how many rows a character meets."""
        return max(self.ngrams - 1, 0) + (self.matches > 0)

    @property
    def memory(self) -> int:
        """P."""
        return MEMORY if self.matches else max(self.ngrams - 1, 0)

    def rows_of(self, ids: Any, past: Any) -> Integers:
        """ids `[B T]` after `past [B P]` -> the rows that each meets, `[B T K]`: its n-grams', then its match's."""
        ids, past = np.asarray(ids, np.int64), np.asarray(past).astype(np.int64)
        (B, T), P = ids.shape, self.memory
        line = np.concatenate([past[:, ::-1], ids], axis=1)
        met, seen, h = [], np.ones(ids.shape, bool), np.zeros_like(ids)  # seen: no boundary lies between
        for n in range(self.ngrams):
            character = np.where(seen, line[:, P - n : P - n + T], 0)
            h = (h * FACTOR + character + 1) % PRIME
            seen &= character != 0
            met.append(h % self.ngram_rows)
        if self.matches:
            met.append(self.ngram_rows + self._matches_of(line, T))
        return np.stack(met[1:] if self.ngrams else met, axis=2) if met else np.empty((B, T, 0), np.int64)

    def _matches_of(self, line: Integers, T: int) -> Integers:
        """line `[B P+T]` -> (n - 1) V + c of the longest match that ends with each of the last T, or 0: `[B T]`."""
        M, W, out = self.matches, self.memory - self.matches + 1, np.zeros((len(line), T), np.int64)
        if T > _PIECE:  # every character is compared with all before it
            pieces = range(0, T, _PIECE)
            parts = [self._matches_of(line[:, a : a + self.memory + _PIECE], min(_PIECE, T - a)) for a in pieces]
            return np.concatenate(parts, axis=1)
        places = np.arange(line.shape[1])
        latest = places[-(T + M - 1) :]  # those that can be part of a match
        for b, ids in enumerate(line):
            begins = np.maximum.accumulate(np.where(ids == 0, places + 1, 0))[latest]  # of what is seen from there
            earlier = np.lib.stride_tricks.sliding_window_view(ids[:-1], W)[:, ::-1]  # [place, distance - 1]
            agrees = (earlier == ids[latest, None]) & (latest[:, None] - np.arange(1, W + 1) >= begins[:, None])
            n, still = np.zeros((T, W), np.int64), np.ones((T, W), bool)
            for k in range(M):
                still &= agrees[M - 1 - k : M - 1 - k + T]
                n += still
            distance, longest = n.argmax(1) + 1, n.max(1)
            follows = ids[latest[M - 1 :] - distance + 1]
            out[b] = np.where(longest >= 2, (longest - 1) * self.vocab_size + follows, 0)
        return out

    def past_after(self, ids: Any, past: Any) -> Integers:
        """The past after ids `[B T]` that came after `past [B P]`: `[B P]`."""
        ids, past = np.asarray(ids, np.int64), np.asarray(past).astype(np.int64)
        line = np.concatenate([ids[:, ::-1], past], axis=1)[:, : past.shape[1]]
        after: Integers = line * np.logical_and.accumulate(line != 0, axis=1)
        return after

    def past_before(self, ids: Any, places: Any) -> Integers:
        """The past before each of some places in one text ids `[N]`, whose first character is a boundary: `[K P]`."""
        ids, places = np.asarray(ids, np.int64), np.asarray(places, np.int64)
        back = places[:, None] - 1 - np.arange(self.memory)
        line = np.where(back >= 0, ids[np.maximum(back, 0)], 0)
        before: Integers = line * np.logical_and.accumulate(line != 0, axis=1)
        return before

    def vectors(self, table: Floats, ids: Any, past: Any) -> Floats:
        """The sum of the rows that ids `[B T]` after `past [B P]` meet, `[B T D]`."""
        total: Floats = table[self.rows_of(ids, past)].sum(2)
        return total


def of_matches(table: Any, matches: int, vocab_size: int) -> Any:
    """The rows of matches in a table `[R D]`, `[M V D]`: of a length and the character that follows; a view."""
    return table[len(table) - matches * vocab_size :].reshape(matches, vocab_size, -1)
