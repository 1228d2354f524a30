"""What a general compressor makes of a text, in bits: xz and bz2, from Python's own library.

Where a compressor is given the training text first, its bits are the size of both texts together less the size of the
first alone, so that it has read what a model has read. bz2 forgets after 900 kB, so only xz is asked that question; its
window is made as long as both texts.
"""

import bz2
import lzma
from collections.abc import Callable

MOST_TRAINING_BYTES = (
    64 << 20
)  # bytes of the training text that xz reads, the last ones: its window costs eleven times as much
_PRESET = 6


def xz(data: bytes) -> int:
    """The size of `data` under xz at preset 6, with a window as long as the data; container included."""
    window = max(1 << 16, 1 << (len(data) - 1).bit_length()) if data else 1 << 16
    return len(
        lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": _PRESET, "dict_size": min(window, 1 << 27)}])
    )


def bz2_size(data: bytes) -> int:
    """The size of `data` under bz2 at its best."""
    return len(bz2.compress(data, 9))


COMPRESSORS: dict[str, Callable[[bytes], int]] = {"xz": xz, "bz2": bz2_size}


def compressed_bits(name: str, text: bytes, training: bytes = b"") -> int:
    """Bits that a compressor takes for `text` when it has read `training` before it."""
    size = COMPRESSORS[name]
    training = training[-MOST_TRAINING_BYTES:]
    return 8 * (size(training + text) - (size(training) if training else 0))
