"""Weights in fewer bits: float16, or whole numbers with a scale for each row.

In: a matrix `[rows, columns]`, float32. Out: what is stored, and the float32 matrix that it stands for. Vectors (the
biases) are never rounded: they are a hundredth of a model.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from storycell.errors import ExportError, SettingsError
from storycell.export.network import Array, Network

Weights = Literal["fp32", "fp16", "int8"]
BYTE = 127  # whole numbers from -127 to 127 where a file stores bytes
PRINTABLE = 44  # from -44 to 44 where it stores one printable character for each


@dataclass(frozen=True)
class Scaled:
    """A matrix as whole numbers `[rows, columns]` times a scale for each row `[rows]`."""

    whole: npt.NDArray[np.int8]
    scales: Array

    @classmethod
    def of(cls, matrix: Array, largest: int) -> "Scaled":
        """The nearest such matrix, with whole numbers from `-largest` to `largest`."""
        scales = (np.abs(matrix).max(axis=1) / largest).astype(np.float32)
        scales[scales == 0] = 1
        whole = np.rint(matrix.astype(np.float64) / scales[:, None])
        return cls(np.clip(whole, -largest, largest).astype(np.int8), scales)

    def matrix(self) -> Array:
        """What it stands for, float32."""
        return self.whole.astype(np.float32) * self.scales[:, None]


def checked(weights: str) -> Weights:
    """The name of a rounding; `SettingsError` lists them if there is none of that name."""
    for name in get_args(Weights):
        if weights == name:
            return name  # type: ignore[no-any-return]
    raise SettingsError(f"weights = {weights!r}: it must be {', '.join(get_args(Weights))}")


def rounded(network: Network, weights: Weights, largest: int) -> Network:
    """The network with its matrices rounded as a file stores them; `largest` is that of `Scaled`."""
    tensors = {
        name: array if array.ndim == 1 else _rounded(name, array, weights, largest)
        for name, array in network.tensors.items()
    }
    return Network(network.shape, tensors)


def _rounded(name: str, matrix: Array, weights: Weights, largest: int) -> Array:
    if weights == "int8":
        return Scaled.of(matrix, largest).matrix()
    if weights == "fp32":
        return matrix
    with np.errstate(over="ignore"):
        half = matrix.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(f"{name} holds weights above 65,504, too large for fp16; export with --weights fp32")
    return half.astype(np.float32)
