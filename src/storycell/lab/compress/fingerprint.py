"""Two digests of 8 bytes that stand in a compressed file: of the model, and of what its step computes on this machine.

Machines whose second digest differs cannot read each other's files, and say so at once; the digest of the original, at
the end of a file, catches what this one misses.
"""

import hashlib

import numpy as np

from storycell.data.vocab import Vocabulary
from storycell.evaluation.ngram import NGram
from storycell.lab.compress import coder
from storycell.lab.compress.coder import Adaptation, Encoder
from storycell.lab.compress.framing import Frame
from storycell.language_model import LanguageModel
from storycell.types import RESERVED

BYTES = 8
_PROBE_SYMBOLS = 16 * coder.LANES + 1  # sixteen steps of all lanes and one of a single lane


def of_model(lm: LanguageModel, vocab: Vocabulary) -> bytes:
    """A digest of weights, settings and vocabulary."""
    content = hashlib.blake2b(digest_size=BYTES)
    cell = f"{lm.cell} with normalised gates" if lm.gate_norm else lm.cell
    content.update(f"{cell} {lm.num_layers} {lm.hidden_size} {lm.embedding_size}\n{vocab.to_json()}".encode())
    for name, weight in sorted(lm.weights().items()):
        content.update(f"{name} {tuple(weight.shape)}".encode())
        content.update(np.ascontiguousarray(weight, np.float32).data)
    return content.digest()


def of_ngram(ngram: NGram) -> bytes:
    """A digest of what an n-gram has counted."""
    content = hashlib.blake2b(f"{ngram.V} {ngram.order}".encode(), digest_size=BYTES)
    content.update(np.ascontiguousarray(ngram.keys, np.int64).data)
    return content.digest()


def of_arithmetic(lm: LanguageModel, adaptation: Adaptation | None = None) -> bytes:
    """A digest of the probabilities, and of what the coder makes of them, for symbols that are always the same."""
    known = np.arange(RESERVED, lm.vocab_size, dtype=np.int32)
    framed = Frame(0, np.resize(known, _PROBE_SYMBOLS), known[:0], coder.LANES)
    probe = _Probe(framed)
    coder.run(lm, framed.lengths, framed.segments, probe, adaptation)
    probe.content.update(probe.words().data)
    return probe.content.digest()


class _Probe(Encoder):
    """An encoder that digests the probabilities it is given."""

    def __init__(self, framed: Frame) -> None:
        super().__init__(framed, lambda _: None)
        self.content = hashlib.blake2b(digest_size=BYTES)

    def code(self, segments: coder.Numbers, probabilities: coder.Probabilities) -> coder.SymbolRows:
        self.content.update(probabilities.data)
        return super().code(segments, probabilities)
