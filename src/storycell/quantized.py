"""Matrices in bytes: whole numbers with a scale for each row, as engine and files have them.

A run's `model.safetensors` may hold any matrix so: `…weight… [R D]` as int8 beside its `…scale… [R]`. Training stores
the table of a context like that; the model in the package is stored so as a whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.context import TABLE

BYTE = 127  # whole numbers from -127 to 127 where a file stores bytes
_KEPT, _LARGEST = np.uint32(0xFFE00000), np.float32(125.7)  # of a float32: sign, exponent and 3 significant bits
_ROWS = 1024  # of a matrix that are rounded at a time

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scaled:
    """A matrix as whole numbers `[rows, columns]` times a scale for each row `[rows]`."""

    whole: npt.NDArray[np.int8]
    scales: Floats

    @classmethod
    def of(cls, matrix: npt.NDArray[np.floating[Any]], largest: int) -> "Scaled":
        """The nearest such matrix, with whole numbers from `-largest` to `largest`."""
        return cls._rounded(matrix, (_row_maxima(matrix) / largest).astype(np.float32), largest)

    @classmethod
    def in_float16(cls, matrix: npt.NDArray[np.floating[Any]]) -> "Scaled":
        """One in bytes that is in float16 too, to the bit: scales have 3 significant bits, whole numbers 7.

        Of what it stands for it finds the same again: with these two constants a largest weight never rounds so far
        down that a smaller scale would do for it.
        """
        scales = (_row_maxima(matrix) / _LARGEST).astype(np.float32)
        return cls._rounded(matrix, ((scales.view(np.uint32) + ~_KEPT) & _KEPT).view(np.float32), int(_LARGEST))

    @classmethod
    def stored(cls, matrix: npt.NDArray[np.floating[Any]]) -> "Scaled":
        """In bytes: what `in_float16` gave to the bit, the nearest of any other matrix."""
        if all(np.array_equal(cls.in_float16(matrix[at]).matrix(), matrix[at]) for at in _parts(matrix)):
            return cls.in_float16(matrix)
        return cls.of(matrix, BYTE)

    @classmethod
    def _rounded(cls, matrix: npt.NDArray[np.floating[Any]], scales: Floats, largest: int) -> "Scaled":
        scales[scales == 0] = 1
        whole = np.empty(matrix.shape, np.int8)
        for at in _parts(matrix):
            numbers = np.rint(matrix[at].astype(np.float64) / scales[at, None])
            whole[at] = np.clip(numbers, -largest, largest, out=numbers)
        return cls(whole, scales)

    def matrix(self) -> Floats:
        """What it stands for, float32."""
        return self.whole.astype(np.float32) * self.scales[:, None]


def _row_maxima(matrix: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """The largest absolute value of each row, `[rows]`."""
    maxima: npt.NDArray[np.floating[Any]] = np.maximum(matrix.max(axis=1, initial=0), -matrix.min(axis=1, initial=0))
    return maxima


def _parts(matrix: npt.NDArray[np.floating[Any]]) -> Iterator[slice]:
    """Rows of a matrix, so few at a time that what is made of them is never large."""
    return (slice(first, first + _ROWS) for first in range(0, len(matrix), _ROWS))


def in_bytes(weights: Mapping[str, Any], names: Iterable[str] = (TABLE,)) -> dict[str, Any]:
    """Weights with some of their matrices in bytes, by default a context's table, if there is one.

    What `from_bytes` gave is stored without another change.
    """
    stored = dict(weights)
    for name in names:
        if name in stored:
            scaled = Scaled.stored(np.asarray(stored[name], np.float32))
            stored |= {name: scaled.whole, _scale(name): scaled.scales}
    return stored


def from_bytes(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The weights that `in_bytes` stored, in float32 again; what is anything else is left as it is."""
    weights = dict(stored)
    for name, matrix in stored.items():
        scales = stored.get(_scale(name))
        if matrix.dtype == np.int8 and matrix.ndim == 2 and scales is not None and scales.shape == matrix.shape[:1]:
            weights[name] = Scaled(matrix, weights.pop(_scale(name)).astype(np.float32)).matrix()
    return weights


def _scale(name: str) -> str:
    return name.replace("weight", "scale")
