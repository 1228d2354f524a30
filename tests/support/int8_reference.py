"""Generation in int8 in plain numpy, to which the engine is held: exact sums of whole numbers, everything else float32.

Each weight matrix is whole numbers from -127 to 127 with a scale for each row (`storycell.export.encoding.Scaled`), the
hidden states that matrices multiply are 127ths, and what a character adds to the first layer's gates stays float32.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.engine.cells import layer_weights, sigmoid
from storycell.quantized import BYTE, Scaled

Floats = npt.NDArray[np.floating[Any]]  # float32
Bytes = npt.NDArray[np.int8]
State = dict[str, Floats]


def in_bytes(h: Floats) -> Bytes:
    """Hidden states as 127ths; what is outside [-1, 1] becomes the nearest end."""
    rounded: Bytes = np.rint(np.clip(h * np.float32(BYTE), -BYTE, BYTE)).astype(np.int8)
    return rounded


def product(h: Bytes, matrix: Scaled) -> Floats:
    """Hidden states `[N H]` times the rows of a matrix `[M H]`: `[N M]`."""
    sums = h.astype(np.float64) @ matrix.whole.T.astype(np.float64)  # whole numbers below 2^53: exact
    result: Floats = sums.astype(np.float32) * (matrix.scales / np.float32(BYTE))
    return result


class Int8Reference:
    """A network of these weights (by torch's names), one character at a time; with normalised gates or without."""

    def __init__(self, weights: Mapping[str, Floats], cell: str, *, gate_norm: bool = False) -> None:
        self.cell, self.gate_norm = cell, gate_norm
        layers = sum("weight_hh" in name for name in weights)
        self.layers = [layer_weights(weights, k) for k in range(layers)]
        self.recurrent = [Scaled.of(w["weight_hh"], BYTE) for w in self.layers]
        self.inputs = [Scaled.of(w["weight_ih"], BYTE) for w in self.layers[1:]]
        self.output, self.output_bias = Scaled.of(weights["output.weight"], BYTE), weights["output.bias"]
        embedding = weights.get("embedding.weight")
        first = self.layers[0]["weight_ih"].T  # [D G*H]: with one-hot characters a row for each
        self.table = first if embedding is None else embedding @ first
        self.first = first

    def step(self, ids: npt.NDArray[np.int64], state: State, added: Floats | None = None) -> tuple[Floats, State]:
        """Characters `[B]` and the state before, `[L B H]` by name: logits `[B V]` and the state after.

        `added` `[B D]` are the rows of a context.
        """
        after: dict[str, list[Floats]] = {name: [] for name in state}
        x = self.table[ids] if added is None else self.table[ids] + added @ self.first
        for k, w in enumerate(self.layers):
            if k:
                x = product(in_bytes(after["h"][k - 1]), self.inputs[k - 1])
            h = product(in_bytes(state["h"][k]), self.recurrent[k])
            zero = np.zeros(len(self.recurrent[k].whole), np.float32)
            if self.gate_norm:
                sums = (x + h + w["bias_hh"]).reshape(len(x), 4, -1)
                root = np.sqrt((sums * sums).mean(-1, keepdims=True) + np.float32(1e-5))
                x, h = (sums / root).reshape(x.shape) + w["bias_ih"], zero
            else:
                x, h = x + w.get("bias_ih", zero), h + w.get("bias_hh", zero)
            for name, value in self._cell(x, h, {name: value[k] for name, value in state.items()}).items():
                after[name].append(value)
        logits = product(in_bytes(after["h"][-1]), self.output) + self.output_bias
        return logits, {name: np.stack(values) for name, values in after.items()}

    def _cell(self, x: Floats, h: Floats, before: State) -> State:
        if self.cell == "lstm":
            i, f, g, o = np.split(x + h, 4, axis=-1)
            c = sigmoid(f) * before["c"] + sigmoid(i) * np.tanh(g)
            return {"h": sigmoid(o) * np.tanh(c), "c": c}
        if self.cell == "gru":
            (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(x, 3, axis=-1), np.split(h, 3, axis=-1)
            r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
            return {"h": (1 - z) * np.tanh(n_x + r * n_h) + z * before["h"]}
        return {"h": np.tanh(x + h)}
