"""Jobs of the engine on one stream (reading, scoring, what comes next), and the log-probabilities of drawn characters.

A job is a generator for `Engine.run`: it yields between two slices of `SLICE` characters, so that short work is done at
once, and returns its result. All start from a stream as it stands, and move it along.

`describe` gives for each drawn id ln p of the character, the likeliest characters with theirs, and its surprise, from
raw logits `[n V]`: both under the `Sampling` it was drawn with and as the model itself has it. Characters of a prompt
were not drawn: for them all is the model's own, temperature 1 and nothing filtered. The reserved id for unknown
characters is never among the likeliest. Where ids are pieces of words, all is told of pieces, and the surprise also of
each of their characters.
"""

import math
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from storycell.data.vocab import SEPARATOR, Vocabulary
from storycell.generation.sampler import Beginnings, Sampling, Step, Stream, Unsettled, advance, read
from storycell.language_model import LanguageModel
from storycell.types import BOUNDARY, UNKNOWN

DIGITS = 4  # of a surprise
_LEAST = sys.float_info.min  # JSON has no minus infinity


@dataclass(frozen=True)
class Wanted:
    """What a request wants to know of each character."""

    likeliest: int | None = None  # log-probabilities, with so many likeliest beside each; None: none
    nats: bool = False  # the surprise
    pieces: Vocabulary | None = None  # where ids are pieces of words: whose, to tell the surprise of each character

    @property
    def anything(self) -> bool:
        """Whether logits are needed."""
        return self.likeliest is not None or self.nats


@dataclass(frozen=True, slots=True)
class CharLogprobs:
    """One id: ln p of it, the likeliest ids with ln p of each, best first, and its surprise `-ln p` in nats.

    `top` always holds the id itself, after the others if it is none of the likeliest. `logprob` is 0 and `top` empty
    where they were not wanted, and so is `nats`. Of a piece `spelt` are the surprises of its characters. What has been
    `told` is not told again but for those.
    """

    k: int
    logprob: float
    top: list[tuple[int, float]]
    nats: float
    spelt: tuple[float, ...] | None = None
    told: bool = False

    def cut(self, chars: int) -> "CharLogprobs":
        """The same without the surprises of its first characters."""
        return self if self.spelt is None else replace(self, spelt=self.spelt[chars:])


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Logits `[… V]` -> ln p `[… V]`."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


def describe(
    logits: npt.NDArray[np.float32], ids: list[int], wanted: Wanted, sampling: Sampling | None
) -> list[CharLogprobs]:
    """What `logits [n V]` said of `ids`; `sampling` is what they were drawn with, None where they were not drawn."""
    if not ids:
        return []
    rows, nats = np.arange(len(ids)), [0.0] * len(ids)
    spelt: list[tuple[float, ...] | None] = [None] * len(ids)
    if wanted.nats or sampling is None:
        scores = log_softmax(logits)
        nats = (0.0 - scores[rows, ids]).tolist()
        if wanted.nats and wanted.pieces is not None:
            spelt = _spell(wanted.pieces, scores, ids)
    if wanted.likeliest is None:
        if wanted.pieces is None:
            return [CharLogprobs(k, 0.0, [], surprise) for k, surprise in zip(ids, nats, strict=True)]
        return [CharLogprobs(k, 0.0, [], surprise, by) for k, surprise, by in zip(ids, nats, spelt, strict=True)]
    if sampling is None:
        chosen = [-surprise for surprise in nats]
        p = np.exp(scores)
        p[:, UNKNOWN] = 0.0
    else:
        p = sampling.probabilities(logits)
        chosen = np.log(np.maximum(p[rows, ids], _LEAST)).tolist()
    described = []
    best_of = likeliest(p, wanted.likeliest)
    for k, logprob, best, surprise, by in zip(ids, chosen, best_of, nats, spelt, strict=True):
        top = [(one, logprob if one == k else math.log(share)) for one, share in best]
        if all(one != k for one, _ in top):
            top.append((k, logprob))
        described.append(CharLogprobs(k, logprob, top, surprise if wanted.nats else 0.0, by))
    return described


def _spell(vocab: Vocabulary, scores: npt.NDArray[np.float64], ids: list[int]) -> list[tuple[float, ...] | None]:
    """The surprises of the characters of each id."""
    nats = iter(vocab.spell_nats(scores, np.array(ids)).tolist())
    return [tuple(islice(nats, n)) for n in vocab.lengths[ids].tolist()]


def likeliest(p: npt.NDArray[np.float64], top: int) -> list[list[tuple[int, float]]]:
    """The `top` likeliest ids of each row of probabilities `[n V]` with theirs, best first, the lower id where two are
    equal; fewer where fewer are possible."""
    order = np.argsort(-p, axis=-1, kind="stable")[:, :top]
    values = np.take_along_axis(p, order, axis=-1)
    return [
        [(k, share) for k, share in zip(row, shares, strict=True) if share > 0]
        for row, shares in zip(order.tolist(), values.tolist(), strict=True)
    ]


class Surprises:
    """The surprise of each character of a text that comes in parts."""

    def __init__(self) -> None:
        self._ahead: list[float] = []  # of characters that are not shown yet, of a piece that is in part

    def take(self, scored: Sequence[CharLogprobs], offsets: Sequence[int], chars: int) -> list[float]:
        """In nats, of the next `chars` characters; that of a character's bytes together.

        The ids that are `scored` begin at `offsets` of them.
        """
        nats = self._ahead + [0.0] * (chars - len(self._ahead))
        for one, at in zip(scored, offsets, strict=True):
            if one.spelt is None:
                nats[at] += one.nats
            else:
                nats += [0.0] * (at + len(one.spelt) - len(nats))
                nats[at : at + len(one.spelt)] = one.spelt
        if len(nats) > chars:
            self._ahead, nats = nats[chars:], nats[:chars]
        elif self._ahead:
            self._ahead = []
        return [round(surprise, DIGITS) for surprise in nats]


def hidden_part(vocab: Vocabulary, ids: list[int], chars: int) -> tuple[int, int]:
    """How many ids lie within the first `chars` characters of their text, and how many characters of the next one."""
    ends = np.cumsum(vocab.lengths[ids])
    count = int(np.searchsorted(ends, chars, side="right"))
    return count, chars - (int(ends[count - 1]) if count else 0)


def token_text(vocab: Vocabulary, k: int) -> str:
    """How a character is named where each must have a text of its own: a lone byte as `bytes:\\xe2`."""
    if k == BOUNDARY:
        return SEPARATOR
    raw = vocab.bytes_of(k)
    return f"bytes:\\x{raw[0]:02x}" if len(raw) == 1 and raw[0] >= 0x80 else vocab.text_of(k)


SLICE = 256  # ids


def reading(lm: LanguageModel, stream: Stream, ids: list[int]) -> Generator[None, None, Stream]:
    """Feed a prompt to a stream; returns the stream."""
    for start in range(0, len(ids), SLICE):
        if start:
            yield
        read(lm, stream, ids[start : start + SLICE])
    return stream


def scoring(
    lm: LanguageModel, stream: Stream, ids: list[int], wanted: Wanted
) -> Generator[None, None, tuple[Stream, list[CharLogprobs]]]:
    """Feed a prompt and say how likely each of its characters was to the model."""
    scored: list[CharLogprobs] = []
    for start in range(0, len(ids), SLICE):
        if start:
            yield
        piece = ids[start : start + SLICE]
        scored += describe(_logits(lm, stream, [stream.next_id, *piece[:-1]]), piece, wanted, None)
        stream.next_id = piece[-1]
    return stream, scored


def beginning(
    lm: LanguageModel, stream: Stream, unsettled: Unsettled, step: Step | None
) -> Generator[None, None, Beginnings]:
    """What the unsettled end of a prompt may begin with; see `storycell.generation.sampler`."""
    yield
    return Beginnings(lm, stream, unsettled, step)


def foreseeing(lm: LanguageModel, stream: Stream) -> Generator[None, None, npt.NDArray[np.float32]]:
    """The logits `[V]` of the character that comes next."""
    ahead = stream.copy()
    yield
    logits: npt.NDArray[np.float32] = _logits(lm, ahead, [ahead.next_id])[-1]
    return logits


def going_on(lm: LanguageModel, stream: Stream, chars: int) -> Generator[None, None, Stream]:
    """Write `chars` characters that are known already, for the state after them; returns the stream."""
    for start in range(0, chars, SLICE):
        if start:
            yield
        advance(lm, [stream], min(SLICE, chars - start))
    return stream


def _logits(lm: LanguageModel, stream: Stream, ids: list[int]) -> npt.NDArray[np.float32]:
    """Feed `ids` to a stream's state; returns the logits after each, `[T V]`."""
    before = None if stream.state is None else {name: value[:, None] for name, value in stream.state.items()}
    logits, state = lm.logits(np.array([ids]), before)
    stream.state = {name: value[:, 0] for name, value in state.items()}
    found: npt.NDArray[np.float32] = logits[0]
    return found
