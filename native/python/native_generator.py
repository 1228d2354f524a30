"""Generation: whole character steps in one call."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from . import native_library as lib
from .native_model import States, by_layer, fold, initial, pad_last, rounded, unpadded


class Generator:
    """Writes characters; packs the weights once. Make a new one after the weights change.

    What a stream writes depends on its own states, characters and random state only, bit for
    bit, never on the streams beside it or the number of threads.
    """

    def __init__(
        self,
        cell: str,
        parameters: Mapping[str, torch.Tensor],
        precision: str = "float32",
        unknown: int = 1,
    ) -> None:
        if precision not in lib.PRECISIONS:
            raise ValueError(f"precision must be one of {sorted(lib.PRECISIONS)}")
        self.precision, self.unknown = precision, unknown
        with torch.no_grad():
            self._model = model = fold(cell, {k: v.detach() for k, v in parameters.items()})
            self._isa = lib.isa()
            gates, units = lib.GATES[cell], rounded(model.units)
            self._weights = by_layer(cell, model.layers, model.flat)
            self._packed = []
            for index, w in enumerate(self._weights):
                recurrent = lib.pack(
                    precision, w["recurrent"].t(), units, units, gates if gates > 1 else 0
                )
                inputs = (
                    lib.pack(precision, w["input"].t(), units, gates * units) if index else None
                )
                self._packed.append((recurrent, inputs))
            w_out, b_out = parameters["output.weight"].detach(), parameters["output.bias"].detach()
            wide = rounded(model.characters)
            if tuple(w_out.shape) != (model.characters, model.units):
                raise ValueError(f"output.weight must be {(model.characters, model.units)}")
            self._output = lib.pack(precision, pad_last(w_out, model.units).t(), units, wide)
            self._bias = functional.pad(b_out, (0, wide - model.characters)).contiguous()

    @torch.no_grad()
    def generate(
        self,
        current: torch.Tensor,
        random: torch.Tensor,
        length: int,
        states: States | None = None,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        greedy: bool = False,
    ) -> tuple[torch.Tensor, States, torch.Tensor]:
        """Feeds `current` [B] and each character drawn; returns ids [B, length], the states after
        the last character fed, and the random states.

        random: [B, 4] int64, each in [0, 2^32): xoshiro128++ states, not all zero. top_k <= 0,
        top_p >= 1 and min_p <= 0 switch a filter off.
        """
        model, f32 = self._model, torch.float32
        if lib.isa() != self._isa:
            raise RuntimeError("the weights were packed for another instruction set")
        if current.dim() != 1 or not len(current):
            raise ValueError(f"current must be [B], not {tuple(current.shape)}")
        B, L, H = len(current), model.layers, rounded(model.units)
        gates = lib.GATES[model.cell]
        lib.address(current, "current", torch.int64, (B,), contiguous=False)
        lib.address(random, "random", torch.int64, (B, 4), contiguous=False)
        if ((random < 0) | (random >= 2**32)).any() or (random == 0).all(1).any():
            raise ValueError("random states must be four words below 2^32, not all zero")
        if length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        if not greedy and not (0 < temperature < float("inf")):
            raise ValueError(f"temperature must be positive and finite, not {temperature}")
        hidden, cell_state = initial(model, states, B)
        carry = (cell_state if model.cell == "lstm" else hidden).clone()
        element = lib.ELEMENT[self.precision]
        slots = [torch.zeros(2, B, H, dtype=element) for _ in range(L)]
        projected = torch.empty(B, gates * H) if L > 1 else None
        layers = (lib.GenerationLayer * L)()
        for index, (layer, weight) in enumerate(zip(layers, self._weights, strict=True)):
            lib.convert(self.precision, hidden[index], slots[index][0])
            layer.packed_recurrent = self._packed[index][0].data_ptr()
            layer.hidden = slots[index].data_ptr()
            layer.carry = carry[index].data_ptr()
            if model.cell == "gru":
                layer.reset_bias = weight["reset_bias"].data_ptr()
            if index:
                layer.packed_input = self._packed[index][1].data_ptr()
                layer.input_bias = weight["bias"].data_ptr()
                layer.projected = projected.data_ptr()
            else:
                layer.table = model.table.data_ptr()
        logits = torch.empty(B, len(self._bias))
        current = current.clone().contiguous()
        # Two's complement keeps the low 32 bits, which are the words.
        words = torch.where(random >= 2**31, random - 2**32, random).to(torch.int32).contiguous()
        out = torch.empty(B, length, dtype=torch.int64)
        a = lib.Generation()
        a.cell, a.precision = lib.CELLS[model.cell], lib.PRECISIONS[self.precision]
        a.layers, a.streams, a.units, a.characters = L, B, H, model.characters
        a.length, a.layer = length, lib.ctypes.addressof(layers)
        a.packed_output, a.output_bias = self._output.data_ptr(), self._bias.data_ptr()
        a.logits, a.current, a.random = logits.data_ptr(), current.data_ptr(), words.data_ptr()
        a.out = out.data_ptr()
        a.temperature, a.top_p, a.min_p = temperature, top_p, min_p
        a.top_k, a.greedy, a.unknown = top_k, int(greedy), self.unknown
        lib.call("storycell_generate", a)
        if model.cell == "gru":
            final = carry
        else:
            final = torch.stack([lib.widen(self.precision, s[0]) for s in slots])
        random = words.to(torch.int64) & 0xFFFFFFFF
        return out, unpadded(model, final.to(f32), carry), random
