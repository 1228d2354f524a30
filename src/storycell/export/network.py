"""`Network`: a model as the arrays that an exported file stores, in one fixed order.

The tensors of a model are simplified without changing what they compute: two biases that are only ever added become one
(those of a normalised gate stay two, as one is divided and one is not), and an embedding is multiplied by the first
layer's weights, which leaves one-hot characters, where the product is smaller than the two and no context is added to
it. Every runtime computes with the product, and multiplying takes milliseconds; it is size that decides, since a file
is kept and sent for longer than it takes to open.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from storycell.config import ModelSettings
from storycell.context import TABLE, Context
from storycell.engine.cells import CELLS
from storycell.errors import ExportError
from storycell.language_model import LanguageModel
from storycell.runs.network import new_model

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """The sizes of a network; D is 0 where characters enter as one-hot vectors.

    N is the longest n-gram, of R rows, and M the longest match that add a row to the embedding (`storycell.context`), 0
    where none does. With `gate_norm` what goes into a gate, `bias` included, is divided by its root mean square, and
    `gate_bias` is added.
    """

    cell: str
    V: int
    D: int
    H: int
    L: int
    N: int = 0
    R: int = 0
    M: int = 0
    gate_norm: bool = False

    @property
    def G(self) -> int:  # noqa: N802 - the axis
        """Gates of the cell."""
        return CELLS[self.cell].gates

    @property
    def context(self) -> Context:
        """What is added to the embedding."""
        return Context(self.N, self.R, self.M, self.V)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by name, in the order in which files store them."""
        rows = self.G * self.H
        shapes: dict[str, tuple[int, ...]] = {"embedding": (self.V, self.D)} if self.D else {}
        if self.context:
            shapes["context"] = (self.context.rows, self.D)
        for k in range(self.L):
            shapes[f"weight_ih_l{k}"] = (rows, self.H if k else self.D or self.V)
            shapes[f"weight_hh_l{k}"] = (rows, self.H)
            shapes[f"bias_l{k}"] = (rows,)
            if self.cell == "gru":
                shapes[f"bias_hn_l{k}"] = (self.H,)
            if self.gate_norm:
                shapes[f"gate_bias_l{k}"] = (rows,)
        return shapes | {"output": (self.V, self.H), "output_bias": (self.V,)}


@dataclass(frozen=True)
class Network:
    """The sizes and the tensors, float32; gates are stacked as torch stacks them."""

    shape: Shape
    tensors: dict[str, Array]

    @classmethod
    def of(cls, model: LanguageModel) -> "Network":
        """The network of a model; `ExportError` for a cell of the user's own or weights that are not finite."""
        if model.cell not in CELLS:
            raise ExportError(f"the cell {model.cell!r} cannot be exported; {', '.join(CELLS)} can")
        weights = {name: w.astype(np.float64) for name, w in model.weights().items()}
        spoilt = next((name for name, w in weights.items() if not np.isfinite(w).all()), None)
        if spoilt:
            raise ExportError(f"{spoilt} holds numbers that are not finite; there is no model to export")
        sizes = model.vocab_size, model.embedding_size, model.hidden_size, model.num_layers
        context = model.context
        shape = Shape(model.cell, *sizes, context.ngrams, context.ngram_rows, context.matches, model.gate_norm)
        tensors: dict[str, npt.NDArray[np.float64]] = {}
        for k in range(shape.L):
            tensors |= _layer(shape, k, weights)
        tensors |= {"output": weights["output.weight"], "output_bias": weights["output.bias"]}
        if shape.D:
            embedding, first = weights["embedding.weight"], tensors["weight_ih_l0"]
            if shape.context:
                tensors |= {"embedding": embedding, "context": weights[TABLE]}
            elif shape.V * len(first) <= embedding.size + first.size:
                shape = replace(shape, D=0)
                tensors["weight_ih_l0"] = first @ embedding.T
            else:
                tensors["embedding"] = embedding
        return cls(shape, {name: tensors[name].astype(np.float32) for name in shape.tensors()})

    def one_hot(self) -> "Network":
        """The same network without an embedding: a row of the first layer's table for each character."""
        shape = self.shape
        if not shape.D:
            return self
        flat = replace(shape, D=0)
        first = self.tensors["weight_ih_l0"].astype(np.float64) @ self.tensors["embedding"].astype(np.float64).T
        tensors = self.tensors | {"weight_ih_l0": first.astype(np.float32)}
        return Network(flat, {name: tensors[name] for name in flat.tensors()})

    def as_model(self, backend: str = "auto") -> LanguageModel:
        """A model with these tensors: the run as the file has it."""
        shape = self.shape
        sizes = ModelSettings(
            cell=shape.cell,
            layers=shape.L,
            hidden=shape.H,
            embedding=shape.D,
            ngrams=shape.N,
            ngram_rows=shape.R or 1,
            matches=shape.M,
            gate_norm=shape.gate_norm,
        )
        weights = {"output.weight": self.tensors["output"], "output.bias": self.tensors["output_bias"]}
        if shape.D:
            weights["embedding.weight"] = self.tensors["embedding"]
        if shape.context:
            weights[TABLE] = self.tensors["context"]
        for k in range(shape.L):
            bias_ih = self.tensors[f"bias_l{k}"]
            bias_hh = np.zeros_like(bias_ih)
            if shape.gate_norm:
                bias_ih, bias_hh = self.tensors[f"gate_bias_l{k}"], bias_ih
            if shape.cell == "gru":
                bias_hh[2 * shape.H :] = self.tensors[f"bias_hn_l{k}"]
            for name in ("weight_ih", "weight_hh"):
                weights[f"recurrent.{name}_l{k}"] = self.tensors[f"{name}_l{k}"]
            weights |= {f"recurrent.bias_ih_l{k}": bias_ih, f"recurrent.bias_hh_l{k}": bias_hh}
        return new_model(shape.V, sizes, backend=backend).with_weights(weights)


def _layer(shape: Shape, k: int, weights: dict[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    """The tensors of one layer: its biases as one, but for the GRU's, of which `r` multiplies a part, and those of
    normalised gates, of which `bias_ih` is added after the division.
    """
    H, none = shape.H, np.zeros(shape.G * shape.H)
    bias = weights.get(f"recurrent.bias_ih_l{k}", none).copy()
    bias_hh = weights.get(f"recurrent.bias_hh_l{k}", none)
    layer = {f"{name}_l{k}": weights[f"recurrent.{name}_l{k}"] for name in ("weight_ih", "weight_hh")}
    if shape.cell == "gru":
        bias[: 2 * H] += bias_hh[: 2 * H]
        return layer | {f"bias_l{k}": bias, f"bias_hn_l{k}": bias_hh[2 * H :]}
    if shape.gate_norm:
        return layer | {f"bias_l{k}": bias_hh, f"gate_bias_l{k}": bias}
    return layer | {f"bias_l{k}": bias + bias_hh}
