"""The entropy coder: symbols and their probabilities <-> words of 32 bits.

In: `[B]` symbols a step with probabilities `[B V]`, in the order of the lanes. Out: words. The coder is constriction's
range coder (Bamler 2022, arXiv:2201.01741), which rounds probabilities to multiples of 2^-24, none of them 0. After an
unknown symbol comes its code point, each of 2^21 equally likely: with the escape that is `loss.ESCAPE_BITS`.

The decoder counts what the coder has charged for the symbols so far, and refuses words that cannot hold so many. The
count must never exceed the true cost, or correct files are refused: a probability p becomes k / 2^24 with a whole
k < 2^24 p + 2 (cumulative probabilities are rounded down, and each symbol gets one more), so no symbol is counted at
more than -log2(p + 2^-23) bits.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from storycell.codec.framing import CODE_BITS, Frame, Symbols
from storycell.codec.lanes import Numbers, Probabilities
from storycell.errors import CodecError
from storycell.vocab import UNKNOWN

_SLACK_BITS = 64.0  # what the coder may hold beyond its words
_WORD_BITS = 32
_MOST_ADDED = 2.0**-23  # what rounding adds to a probability, at most

Words = npt.NDArray[np.uint32]
Told = Callable[[int], None]  # is told how many symbols have been coded


class Encoder:
    """Writes the symbols of a frame. `words()` is what it has written."""

    def __init__(self, framed: Frame, told: Told) -> None:
        from constriction import stream

        self._coder = stream.queue.RangeEncoder()
        self._characters = stream.model.Categorical(perfect=False)
        self._code_points = stream.model.Uniform(1 << CODE_BITS)
        self._framed, self._told = framed, told
        ends = np.cumsum(framed.lengths)
        self._next = ends - framed.lengths
        self._rank = np.cumsum(framed.symbols == UNKNOWN) - 1
        self._done = 0

    def code(self, segments: Numbers, probabilities: Probabilities) -> Symbols:
        """Write the next symbol of each segment."""
        at = self._next[segments]
        symbols: Symbols = self._framed.symbols[at]
        self._next[segments] += 1
        self._coder.encode(symbols, self._characters, probabilities)
        unknown = at[symbols == UNKNOWN]
        if len(unknown):
            self._coder.encode(self._framed.escaped[self._rank[unknown]], self._code_points)
        self._done += len(symbols)
        self._told(self._done)
        return symbols

    def words(self) -> Words:
        """Everything written so far."""
        words: Words = self._coder.get_compressed()
        return words


class Decoder:
    """Reads symbols, `expected` in all. `symbols()` and `escaped()` put them in the order of the segments."""

    def __init__(self, words: Words, expected: int, told: Told) -> None:
        from constriction import stream

        self._coder = stream.queue.RangeDecoder(words)
        self._characters = stream.model.Categorical(perfect=False)
        self._code_points = stream.model.Uniform(1 << CODE_BITS)
        self._expected, self._told = expected, told
        self._bits_left = _WORD_BITS * len(words) + _SLACK_BITS
        self._segments: list[Numbers] = []
        self._read: list[Symbols] = []
        self._codes: list[Symbols] = []
        self._done = 0

    def code(self, segments: Numbers, probabilities: Probabilities) -> Symbols:
        """Read the next symbol of each segment; `CodecError` if the words cannot hold so many."""
        try:
            symbols: Symbols = self._coder.decode(self._characters, probabilities)
            unknown = symbols == UNKNOWN
            codes = np.zeros(len(symbols), dtype=np.int32)
            if unknown.any():
                codes[unknown] = self._coder.decode(self._code_points, int(unknown.sum()))
        except AssertionError:  # how constriction says that no encoder wrote these words
            raise _not_ours() from None
        self._bits_left -= _least_bits(probabilities[np.arange(len(symbols)), symbols]) + CODE_BITS * int(unknown.sum())
        self._done += len(symbols)
        if self._done > self._expected or self._bits_left < 0:
            raise _not_ours()
        self._segments.append(segments.copy())
        self._read.append(symbols)
        self._codes.append(codes)
        self._told(self._done)
        return symbols

    def symbols(self) -> Symbols:
        """All symbols `[expected]`, segment after segment."""
        return self._ordered(self._read)

    def escaped(self) -> Symbols:
        """The code points of the unknown ones, in the same order."""
        codes: Symbols = self._ordered(self._codes)[self.symbols() == UNKNOWN]
        return codes

    def _ordered(self, rows: list[Symbols]) -> Symbols:
        if self._done != self._expected:
            raise _not_ours()
        order = np.argsort(np.concatenate(self._segments), kind="stable")
        ordered: Symbols = np.concatenate(rows)[order]
        return ordered


def _least_bits(coded: npt.NDArray[np.float64]) -> float:
    """What the coder charges for symbols of these probabilities together, in bits, at least."""
    return -float(np.log2(np.minimum(coded + _MOST_ADDED, 1.0)).sum())


def _not_ours() -> CodecError:
    return CodecError("the compressed numbers are not what this model wrote")
