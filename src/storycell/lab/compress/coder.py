"""Arithmetic coding of many segments side by side: the model's step, the loop over symbols, and the entropy coder.

`run` reads one segment a lane, each from a zero state; when a segment ends its lane begins the next one, and when none
is left the batch shrinks. Encoding and decoding are this one loop with another coder. Which lanes there are, in which
batch, depends only on symbols that both sides know by then, so each number that the model computes for the one is
computed for the other by the same instructions. Where the model generates by itself a step is one of those, whose
results for a lane do not depend on the lanes beside it; the character it draws is ignored.

The entropy coder is constriction's range coder (Bamler 2022, arXiv:2201.01741), which rounds probabilities to multiples
of 2^-24, none of them 0. After an unknown symbol comes its code point, each of 2^21 equally likely: with the escape
that is `loss.ESCAPE_BITS`.

The decoder counts what the coder has charged for the symbols so far, and refuses words that cannot hold so many. The
count must never exceed the true cost, or correct files are refused: a probability p becomes k / 2^24 with a whole k <
2^24 p + 2 (cumulative probabilities are rounded down, and each symbol gets one more), so no symbol is counted at more
than -log2(p + 2^-23) bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from storycell import extras, loss, threads
from storycell.data.vocab import Vocabulary
from storycell.errors import CodecError, NotFiniteError
from storycell.evaluation.adaptation import Adapter
from storycell.evaluation.ngram import NGram
from storycell.generation.sampler import Step, plain_step
from storycell.lab.compress.framing import CODE_BITS, Frame, Symbols
from storycell.language_model import Choice, Floats, Integers, LanguageModel, State
from storycell.types import BOUNDARY, UNKNOWN

_GREEDY = Choice(1.0, 1.0, 0.0, 0, True)


def step_of(lm: LanguageModel) -> Step:
    """The step of a model, whose weights must stay as they are: ids `[B]` and the state -> logits `[B V]`, state."""
    lm = lm.frozen()
    plain = plain_step(lm)

    def step(fed: Integers, state: State) -> tuple[Floats, State]:
        B = len(fed)
        try:
            written = lm.generate(fed, state, np.ones((B, 4), np.int64), [_GREEDY] * B, 1, logits=True)
        except FloatingPointError:
            raise NotFiniteError("the model computes numbers that are not finite; its weights are damaged") from None
        if written is None:
            return plain(fed, state)
        assert written.logits is not None
        return written.logits[:, 0], written.state

    return step


LANES = 64
# Kept for characters the model does not know: 2^-20, less the 2^-24 that the coder adds to every probability.
_ESCAPE = 2.0 ** (CODE_BITS - loss.ESCAPE_BITS) - 2.0**-24

Numbers = npt.NDArray[np.int64]
SymbolRows = npt.NDArray[np.int32]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Adaptation:
    """What adapting needs: the vocabulary, and the n-gram of the training text where that is there."""

    vocab: Vocabulary
    ngram: NGram | None = None

    def __post_init__(self) -> None:
        self.vocab.refuse_pieces("adapting to a text", "leave --adapt out")


class Coder(Protocol):
    """What is done with the probabilities of the next symbols."""

    def code(self, segments: Numbers, probabilities: Probabilities) -> SymbolRows:
        """Write or read the next symbol of each of `segments [B]`, given `probabilities [B V]`; returns them `[B]`."""


def run(
    lm: LanguageModel, lengths: Numbers | None, segments: int, coder: Coder, adaptation: Adaptation | None = None
) -> None:
    """Code `segments` segments. `lengths [segments]` says where each ends; without, each ends with a boundary.

    With an `adaptation` the model's prediction is adapted to what has been coded in this call.
    """
    begun = min(LANES, segments)
    lanes = np.arange(begun)  # the segment of each lane
    left = None if lengths is None else lengths[:begun].copy()
    fed = np.zeros(begun, dtype=np.int64)
    state, step = lm.zero_state(begun), step_of(lm)
    adapter = None if adaptation is None else Adapter(adaptation.vocab, begun, adaptation.ngram)
    while len(lanes):
        logits, state = step(fed, state)
        predicted = probabilities(logits)
        symbols = coder.code(lanes, predicted if adapter is None else adapter.predict(predicted))
        if adapter is not None:
            adapter.learn(symbols)
        if left is None:
            ended = symbols == BOUNDARY
        else:
            left -= 1
            ended = left == 0
        fed = symbols.astype(np.int64)
        if not ended.any():
            continue
        fresh = np.flatnonzero(ended)[: segments - begun]
        lanes[fresh] = np.arange(begun, begun + len(fresh))
        if left is not None and lengths is not None:
            left[fresh] = lengths[lanes[fresh]]
        begun += len(fresh)
        fed[fresh], ended[fresh] = BOUNDARY, False
        lanes, fed, left = lanes[~ended], fed[~ended], None if left is None else left[~ended]
        state = {name: _move_on(value, fresh, ended) for name, value in state.items()}
        if adapter is not None:
            adapter.move_on(fresh, ended)


def _move_on(value: Floats, fresh: Numbers, ended: npt.NDArray[np.bool_]) -> Floats:
    """The state `[L B H]` with zeros where a segment begins, without the lanes that have ended."""
    value = value.copy()
    value[:, fresh] = 0.0
    return value[:, ~ended]


def probabilities(logits: Floats) -> Probabilities:
    """Logits `[B V]` -> probabilities `[B V]` in float64: the softmax over what the model knows, and the escape."""
    x = logits.astype(np.float64)
    if not np.isfinite(x).all():
        raise NotFiniteError(
            "the model computes numbers that are not finite, so nothing can be coded; its weights are damaged"
        )
    x[:, UNKNOWN] = -np.inf
    p: Probabilities = np.exp(x - x.max(axis=1, keepdims=True))
    p *= (1 - _ESCAPE) / p.sum(axis=1, keepdims=True)
    p[:, UNKNOWN] = _ESCAPE
    return p


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch computes on one thread, so that what comes out does not depend on how many there are."""
    with threads.computing_on(1, 1):
        yield


_SLACK_BITS = 64.0  # what the coder may hold beyond its words
_WORD_BITS = 32
_MOST_ADDED = 2.0**-23  # what rounding adds to a probability, at most

Words = npt.NDArray[np.uint32]
Told = Callable[[int], None]  # is told how many symbols have been coded


class Encoder:
    """Writes the symbols of a frame. `words()` is what it has written."""

    def __init__(self, framed: Frame, told: Told) -> None:
        extras.require("constriction", "the entropy coder")
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
    """Reads symbols, `expected` in all. `symbols()` and `read_escapes()` put them in the order of the segments."""

    def __init__(self, words: Words, expected: int, told: Told) -> None:
        extras.require("constriction", "the entropy coder")
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
        return self._order(self._read)

    def read_escapes(self) -> Symbols:
        """The code points of the unknown ones, in the same order."""
        codes: Symbols = self._order(self._codes)[self.symbols() == UNKNOWN]
        return codes

    def _order(self, rows: list[Symbols]) -> Symbols:
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
