"""A model's weights and states as the kernels take them: widths padded to whole lanes, biases folded.

The tensors of `Folded` are still differentiable, so autograd undoes the padding and the folding by itself. Padded units
have zero weights, stay exactly zero and never reach a real one, so the kernels need no code for tails.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from storycell.nn.backends.backend import Weights
from storycell.nn.backends.native import library as lib
from storycell.nn.backends.native.ops import Linear
from storycell.nn.cells.cell import State


class Folded(NamedTuple):
    """Weights of a stack as the kernels take them."""

    cell: str
    units: int  # H, before padding
    table: torch.Tensor | None  # [V, G*H]: what each character adds to the first layer's gates; None for dense inputs
    flat: list[torch.Tensor]  # of every layer: those that `weight_names` names
    names: list[list[str]]  # of every layer

    @property
    def by_layer(self) -> list[Weights]:
        """`flat` as one dict a layer."""
        return by_layer(self.names, self.flat)


def by_layer(names: list[list[str]], flat: Sequence[torch.Tensor]) -> list[Weights]:
    """A flat list of tensors as one dict a layer."""
    tensors = iter(flat)
    return [{name: next(tensors) for name in layer} for layer in names]


def weight_names(cell: str, reads_vectors: bool) -> list[str]:
    """`recurrent [G*H, H]`; where vectors are read `input [G*H, D]` and `bias [G*H]`; gru's `reset_bias [H]`."""
    names = ["recurrent"] + (["input", "bias"] if reads_vectors else [])
    return names + (["reset_bias"] if cell == "gru" else [])


def fold(cell: str, layers: list[Weights], embedding: torch.Tensor | None, characters: bool) -> Folded:
    """The weights of a stack that reads `characters` (through `embedding [V D]`, or one-hot without it) or vectors."""
    gates, units = lib.GATES[cell], layers[0]["weight_hh"].shape[1]
    flat: list[torch.Tensor] = []
    names = [weight_names(cell, reads_vectors=k > 0 or not characters) for k in range(len(layers))]
    table = None
    for k, w in enumerate(layers):
        bias, reset_bias = _biases(cell, w, gates, units)
        flat.append(pad_last(pad_gates(w["weight_hh"], gates, units)).contiguous())
        w_ih = pad_gates(w["weight_ih"], gates, units)
        if k == 0 and characters:
            table = _table(embedding, w_ih, bias)
        else:
            flat += [pad_last(w_ih).contiguous(), bias.contiguous()]
        if reset_bias is not None:
            flat.append(reset_bias.contiguous())
    return Folded(cell, units, table, flat, names)


def _biases(cell: str, w: Weights, gates: int, units: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Both biases as one `[G*H]`; gru's third recurrent one stays apart, inside r * (…)."""
    if "bias_ih" not in w:
        zeros = w["weight_hh"].new_zeros(gates * units)
        b_ih, b_hh = zeros, zeros
    else:
        b_ih, b_hh = w["bias_ih"], w["bias_hh"]
    if cell != "gru":
        return pad_gates(b_ih + b_hh, gates, units), None
    folded = torch.cat((b_ih[: 2 * units] + b_hh[: 2 * units], b_ih[2 * units :]))
    return pad_gates(folded, gates, units), pad_last(b_hh[2 * units :])


def _table(embedding: torch.Tensor | None, w_ih: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    if embedding is None:
        return (w_ih.t() + bias).contiguous()
    table: torch.Tensor = Linear.apply(  # type: ignore[no-untyped-call]
        pad_last(embedding).contiguous(), pad_last(w_ih).contiguous(), bias.contiguous()
    )
    return table


def pad_gates(tensor: torch.Tensor, gates: int, units: int) -> torch.Tensor:
    """Zeros after each gate's block of rows, up to whole lanes: `[G*units …]` -> `[G*padded(units) …]`."""
    more = lib.pad_width(units) - units
    if not more:
        return tensor
    padded = F.pad(tensor.reshape(gates, units, -1), (0, 0, 0, more))
    return padded.reshape(gates * (units + more), *tensor.shape[1:])


def pad_last(tensor: torch.Tensor) -> torch.Tensor:
    """Zeros at the end of the last axis, up to whole lanes."""
    more = lib.pad_width(tensor.shape[-1]) - tensor.shape[-1]
    return F.pad(tensor, (0, more)) if more else tensor


def without_padding(tensor: torch.Tensor, units: int) -> torch.Tensor:
    """Undo `pad_last`: the tensor itself, or a contiguous copy of its real units."""
    return tensor if tensor.shape[-1] == units else tensor[..., :units].contiguous()


def initial(folded: Folded, state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded hidden and cell state `[L B H]`, contiguous; an empty tensor where the cell has no cell state."""
    h = pad_last(state["h"]).contiguous()
    return h, pad_last(state["c"]).contiguous() if folded.cell == "lstm" else lib.empty(0)


def unpad(folded: Folded, h: torch.Tensor, c: torch.Tensor) -> State:
    """The states of the real units, by name."""
    state = {"h": without_padding(h, folded.units)}
    return state | ({"c": without_padding(c, folded.units)} if folded.cell == "lstm" else {})
