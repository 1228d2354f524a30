"""A model's parameters and states as the kernels take them: padded to lanes, biases folded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional

from . import native_library as lib
from .native_stack import Linear


class States(NamedTuple):
    """hidden [L, B, H]; cell [L, B, H] for lstm, else None."""

    hidden: torch.Tensor
    cell: torch.Tensor | None


def rounded(n: int) -> int:
    return (n + 15) // 16 * 16


def pad_gates(tensor: torch.Tensor, gates: int, units: int) -> torch.Tensor:
    """Pads each gate's block of rows from `units` to a multiple of 16 with zeros."""
    more = rounded(units) - units
    if not more:
        return tensor
    blocks = tensor.reshape(gates, units, -1)
    padded = functional.pad(blocks, (0, 0, 0, more))
    return padded.reshape(gates * (units + more), *tensor.shape[1:])


def pad_last(tensor: torch.Tensor, units: int) -> torch.Tensor:
    more = rounded(units) - units
    return functional.pad(tensor, (0, more)) if more else tensor


class Model(NamedTuple):
    """A model's tensors as the kernels take them: padded, biases folded, still differentiable."""

    cell: str
    layers: int
    units: int
    characters: int
    table: torch.Tensor
    flat: list  # per layer: recurrent, then [input, bias] above the first, then gru's reset_bias


def fold(cell: str, parameters: Mapping[str, torch.Tensor]) -> Model:
    if cell not in lib.CELLS:
        raise ValueError(f"cell must be one of {sorted(lib.CELLS)}, not {cell!r}")
    gates = lib.GATES[cell]
    for name, tensor in parameters.items():
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise TypeError(f"{name} must be float32 on the CPU")
    embedding = parameters["embedding.weight"]
    units = parameters["weight_hh_l0"].shape[-1]
    layers = 0
    while f"weight_hh_l{layers}" in parameters:
        layers += 1
    flat: list = []
    table = None
    for index in range(layers):
        w_ih, w_hh, b_ih, b_hh = (
            parameters[f"{name}_l{index}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        inputs = units if index else embedding.shape[-1]
        for name, tensor, shape in (
            ("weight_ih", w_ih, (gates * units, inputs)),
            ("weight_hh", w_hh, (gates * units, units)),
            ("bias_ih", b_ih, (gates * units,)),
            ("bias_hh", b_hh, (gates * units,)),
        ):
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{name}_l{index} must be {shape}, not {tuple(tensor.shape)}")
        # gru's third recurrent bias stays inside r * (...); all others join the input's.
        if cell == "gru":
            folded = torch.cat((b_ih[: 2 * units] + b_hh[: 2 * units], b_ih[2 * units :]))
        else:
            folded = b_ih + b_hh
        flat.append(pad_last(pad_gates(w_hh, gates, units), units).contiguous())
        if index:
            flat.append(pad_last(pad_gates(w_ih, gates, units), units).contiguous())
            flat.append(pad_gates(folded, gates, units).contiguous())
        else:
            table = Linear.apply(
                pad_last(embedding, inputs).contiguous(),
                pad_last(pad_gates(w_ih, gates, units), inputs).contiguous(),
                pad_gates(folded, gates, units).contiguous(),
            )
        if cell == "gru":
            flat.append(pad_last(b_hh[2 * units :], units).contiguous())
    return Model(cell, layers, units, embedding.shape[0], table, flat)


def weight_names(cell: str, index: int) -> list:
    names = ["recurrent"] + (["input", "bias"] if index else [])
    return names + (["reset_bias"] if cell == "gru" else [])


def by_layer(cell: str, layers: int, flat: list) -> list:
    """The flat list of tensors as one dict per layer."""
    tensors = iter(flat)
    return [{name: next(tensors) for name in weight_names(cell, i)} for i in range(layers)]


def initial(model: Model, states: States | None, streams: int) -> tuple:
    shape = (model.layers, streams, model.units)
    out = []
    for index in range(2 if model.cell == "lstm" else 1):
        tensor = states[index] if states is not None else None
        if tensor is None:
            tensor = torch.zeros(shape)
        elif tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            raise ValueError(f"states must be float32 {shape}, not {tuple(tensor.shape)}")
        out.append(pad_last(tensor, model.units).contiguous())
    return out[0], out[1] if len(out) > 1 else torch.zeros(0)


def unpadded(model: Model, hidden: torch.Tensor, cell_state: torch.Tensor) -> States:
    u = model.units
    return States(hidden[..., :u], cell_state[..., :u] if model.cell == "lstm" else None)
