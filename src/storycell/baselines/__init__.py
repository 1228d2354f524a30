"""What a language model has to beat: a character n-gram with modified Kneser-Ney smoothing, and two compressors.

In: token ids laid out as in a token file, or a text. Out: nats of every target, or bits. They stand in the same
tables as the networks, scored by the same convention (see `storycell.evaluator`).
"""

from storycell.baselines.compressors import COMPRESSORS, compressed_bits
from storycell.baselines.ngram import NGram

__all__ = ["COMPRESSORS", "NGram", "compressed_bits"]
