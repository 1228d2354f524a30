"""The weights that a new model starts with, drawn by numpy as torch would draw them from the same seed.

torch's generator on a CPU is a Mersenne twister (Matsumoto & Nishimura 1998, https://doi.org/10.1145/272991.272995)
that numpy has, too. Uniform numbers take 24 bits of a draw; normal ones come by Box and Muller's method in blocks of
16, or one by one in double precision where there are fewer than 16.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storycell.context import TABLE
from storycell.engine.cells import spectral_radius
from storycell.types import UNKNOWN

EMBEDDING_STD = 4.0  # wide, so that a character is heard over the recurrence from the first step (LOG.md)

Floats = NDArray[np.float32]


class TorchGenerator:
    """`torch.Generator().manual_seed(seed)`."""

    def __init__(self, seed: int) -> None:
        self._words = np.random.RandomState(seed % (1 << 32))
        self._kept: float | None = None  # the second of a pair of normal numbers

    def _draws(self, count: int) -> NDArray[np.uint32]:
        return self._words.randint(0, 1 << 32, count, np.uint32)

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Floats:
        """float32 in [low, high)."""
        unit = (self._draws(math.prod(shape)) & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)
        return (unit * np.float32(high - low) + np.float32(low)).reshape(shape)

    def normal(self, shape: tuple[int, ...], std: float = 1.0) -> Floats:
        """float32 around 0."""
        count = math.prod(shape)
        if count < 16:
            return np.array([self._one() * std for _ in range(count)], np.float32).reshape(shape)
        drawn = self.uniform((count,))
        out = np.empty(count, np.float32)
        whole = count // 16 * 16
        out[:whole] = _box_muller(drawn[:whole])
        if count > whole:  # the last 16 are drawn anew
            out[-16:] = _box_muller(self.uniform((16,)))
        return (out * np.float32(std)).reshape(shape)

    def _one(self) -> float:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return kept
        high_1, low_1, high_2, low_2 = (int(word) for word in self._draws(4))
        u1, u2 = (((high << 32 | low) & ((1 << 53) - 1)) * 2.0**-53 for high, low in ((high_1, low_1), (high_2, low_2)))
        radius, angle = math.sqrt(-2 * math.log1p(-u2)), 2 * math.pi * u1
        self._kept = radius * math.sin(angle)
        return radius * math.cos(angle)


def _box_muller(uniform: Floats) -> Floats:
    """Blocks of 16: the first 8 give the radius, the others the angle."""
    blocks = uniform.reshape(-1, 2, 8)
    radius = np.sqrt(np.float32(-2) * np.log(1 - blocks[:, 0]))
    angle = np.float32(2 * math.pi) * blocks[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


def draw_weights(
    shapes: Mapping[str, tuple[int, ...]], cell: str, hidden_size: int, seed: int, forget_bias: float
) -> dict[str, Floats]:
    """What `CharLM.initialise` draws for tensors of these names and shapes."""
    generator, bound, H = TorchGenerator(seed), hidden_size**-0.5, hidden_size
    weights: dict[str, Any] = {}
    layers = 0
    while f"recurrent.weight_hh_l{layers}" in shapes:
        layer = [name for name in shapes if name.startswith("recurrent.") and name.endswith(f"_l{layers}")]
        for name in layer:
            weights[name] = generator.uniform(shapes[name], -bound, bound)
        if cell == "lstm" and f"recurrent.bias_ih_l{layers}" in shapes:
            weights[f"recurrent.bias_ih_l{layers}"][H : 2 * H] = forget_bias
            weights[f"recurrent.bias_hh_l{layers}"][H : 2 * H] = 0.0
        elif cell == "rnn":
            recurrent = generator.normal((H, H))
            weights[f"recurrent.weight_hh_l{layers}"] = recurrent / np.float32(spectral_radius(recurrent))
        layers += 1
    weights["output.weight"] = generator.uniform(shapes["output.weight"], -bound, bound)
    weights["output.bias"] = np.zeros(shapes["output.bias"], np.float32)
    if "embedding.weight" in shapes:
        weights["embedding.weight"] = generator.normal(shapes["embedding.weight"], EMBEDDING_STD)
        weights["embedding.weight"][UNKNOWN : UNKNOWN + 1] = 0.0  # never trained: an unknown character says nothing
    else:
        weights["recurrent.weight_ih_l0"][:, UNKNOWN : UNKNOWN + 1] = 0.0
    if TABLE in shapes:
        weights[TABLE] = np.zeros(shapes[TABLE], np.float32)
    return weights
