"""The loss of a model that adapts to a text while it reads it, as `compress --adapt` does.

Up to 64 stories are read side by side, in their order; a single story is cut into as many parts as `compress` would
make of it. So the number depends on the order of the text, and stands apart from the model's own loss.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell import loss
from storycell.data.vocab import Vocabulary
from storycell.evaluation import evaluator
from storycell.evaluation.evaluator import Nats
from storycell.evaluation.ngram import NGram
from storycell.lab.compress import coder
from storycell.lab.compress.coder import Adaptation
from storycell.lab.compress.framing import STORIES, Frame, choose_segments
from storycell.language_model import LanguageModel
from storycell.types import BOUNDARY, UNKNOWN, Ids


@dataclass(frozen=True)
class Adapted:
    """A loss in nats per character, and its standard error over stories or blocks."""

    loss_nats: float
    stderr_nats: float


def evaluate_adapted(lm: LanguageModel, vocab: Vocabulary, ids: Ids, ngram: NGram | None = None) -> Adapted:
    """The loss on a text `[tokens]`, with the n-gram of the training text where there is one."""
    return Adapted(*evaluator.mean_of(ids, score_adapted(lm, vocab, ids, ngram)))


def score_adapted(lm: LanguageModel, vocab: Vocabulary, ids: Ids, ngram: NGram | None = None) -> Nats:
    """Nats of every target, in the order of the text."""
    several = len(evaluator.story_starts(ids)) > 1
    symbols = np.append(ids[1:], [BOUNDARY] if several else []).astype(np.int32)
    segments = int(np.count_nonzero(symbols == BOUNDARY)) if several else choose_segments(len(symbols))
    framed = Frame(STORIES if several else 0, symbols, symbols[:0], segments)
    meter = _Meter(framed)
    with coder.one_thread():
        coder.run(lm, None if several else framed.lengths, segments, meter, Adaptation(vocab, ngram))
    return meter.nats


class _Meter:
    """A coder that writes nothing, and keeps what each symbol would cost."""

    def __init__(self, framed: Frame) -> None:
        self._symbols = framed.symbols
        ends = np.cumsum(framed.lengths)
        self._next = ends - framed.lengths
        self.nats: Nats = np.zeros(len(framed.symbols))

    def code(self, segments: coder.Numbers, probabilities: coder.Probabilities) -> coder.SymbolRows:
        at = self._next[segments]
        self._next[segments] += 1
        symbols: npt.NDArray[np.int32] = self._symbols[at]
        nats = -np.log(probabilities[np.arange(len(at)), symbols])
        self.nats[at] = np.where(symbols == UNKNOWN, loss.ESCAPE_NATS, nats)
        return symbols
