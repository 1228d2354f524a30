"""Quantized weights, and a network's tensors as printable text for HTML and C files.

Matrices `[rows, columns]` are rounded to float16, or to whole numbers with a scale for each row (`int8`); vectors (the
biases, a hundredth of a model) always stay float32. As text, a tensor is base64 of little-endian numbers; an `int8`
matrix is the base64 of its scales, then one character for each weight. Its whole numbers run from -44 to 44, because 89
characters need no escaping in C, JSON or a script: a weight takes one byte of text, where base64 takes one and a third.
"""

import base64
from typing import Literal, get_args

import numpy as np

from storycell.errors import ExportError, SettingsError
from storycell.export.network import Array, Network, Shape
from storycell.quantized import Scaled

Weights = Literal["fp32", "fp16", "int8"]
PRINTABLE = 44  # from -44 to 44 where it stores one printable character for each


def check_rounding(weights: str) -> Weights:
    """The name of a rounding; `SettingsError` lists them if there is none of that name."""
    for name in get_args(Weights):
        if weights == name:
            return name  # type: ignore[no-any-return]
    raise SettingsError(f"weights = {weights!r}: it must be {', '.join(get_args(Weights))}")


def round_network(network: Network, weights: Weights, largest: int) -> Network:
    """The network with its matrices rounded as a file stores them; `largest` is that of `Scaled`."""
    tensors = {
        name: array if array.ndim == 1 else _round_matrix(name, array, weights, largest)
        for name, array in network.tensors.items()
    }
    return Network(network.shape, tensors)


def _round_matrix(name: str, matrix: Array, weights: Weights, largest: int) -> Array:
    if weights == "int8":
        return Scaled.of(matrix, largest).matrix()
    if weights == "fp32":
        return matrix
    with np.errstate(over="ignore"):
        half = matrix.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(f"{name} holds weights above 65,504, too large for fp16; export with --weights fp32")
    return half.astype(np.float32)


ESCAPED = b'"<?\\'  # ends a string, opens a tag, opens a trigraph, escapes
LEVELS = bytes(c for c in range(33, 127) if c not in ESCAPED)[: 2 * PRINTABLE + 1]


def encode(network: Network, weights: Weights) -> str:
    """All tensors, one after the other."""
    return "".join(
        _base64(array.astype("<f4")) if array.ndim == 1 else _encode(array, weights)
        for array in network.tensors.values()
    )


def _encode(matrix: Array, weights: Weights) -> str:
    if weights == "int8":
        scaled = Scaled.of(matrix, PRINTABLE)
        levels = np.frombuffer(LEVELS, np.uint8)[scaled.whole.ravel().astype(np.int64) + PRINTABLE]
        return _base64(scaled.scales.astype("<f4")) + levels.tobytes().decode("ascii")
    return _base64(matrix.astype("<f2" if weights == "fp16" else "<f4"))


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def decode(text: str, shape: Shape, weights: Weights) -> Network:
    """What `encode` wrote; `ExportError` if it is not that."""
    reader = _Reader(text)
    tensors = {}
    for name, axes in shape.tensors().items():
        if len(axes) == 1 or weights == "fp32":
            tensors[name] = reader.floats(axes, "<f4")
        elif weights == "fp16":
            tensors[name] = reader.floats(axes, "<f2")
        else:
            scales = reader.floats(axes[:1], "<f4")
            tensors[name] = reader.levels(axes) * scales[:, None]
    if reader.rest():
        raise ExportError(f"{reader.rest():,} characters of weights too many")
    return Network(shape, tensors)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def floats(self, axes: tuple[int, ...], kind: str) -> Array:
        size = int(np.prod(axes)) * np.dtype(kind).itemsize
        data = base64.b64decode(self._take(-(-size // 3) * 4), validate=True)
        return np.frombuffer(data, kind).astype(np.float32).reshape(axes)

    def levels(self, axes: tuple[int, ...]) -> Array:
        codes = np.frombuffer(self._take(int(np.prod(axes))).encode("ascii"), np.uint8).astype(np.int64)
        skipped = sum((codes > c).astype(np.int64) for c in ESCAPED)  # as story.c and runtime.js count
        return (codes - 33 - skipped - PRINTABLE).astype(np.float32).reshape(axes)

    def _take(self, count: int) -> str:
        taken = self._text[self._at : self._at + count]
        if len(taken) < count:
            raise ExportError("the weights end too early")
        self._at += count
        return taken

    def rest(self) -> int:
        """Characters not yet read."""
        return len(self._text) - self._at
