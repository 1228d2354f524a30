"""Generation by the kernel: whole character steps in one call (all layers, output, filters and draw) for many streams.

A call takes the last id of every stream, its state, its generator's words and its sampling settings, and moves them all
on. What a stream generates depends, bit for bit, on its own numbers only: not on the streams beside it, nor on threads.
"""

import ctypes
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from storycell.nn.backends.backend import Network
from storycell.nn.backends.native import library as lib
from storycell.nn.backends.native.tensors import fold, initial, pad_last, unpad
from storycell.nn.cells.cell import State


@dataclass(frozen=True)
class Generated:
    """What a call wrote, and where it left the streams."""

    ids: torch.Tensor  # [B length] int64
    logits: torch.Tensor | None  # [B length V]: what each id was drawn from
    state: State  # [L B H], after everything but the last id was fed
    random: torch.Tensor  # [B 4] int64


class Generator:
    """A network's weights, packed once; make a new one after they change."""

    def __init__(self, network: Network, unknown: int, precision: str = "fp32") -> None:
        """`unknown` is an id that is never drawn."""
        self.precision, self.unknown = precision, unknown
        with torch.no_grad():
            self._isa = lib.isa()
            self._folded = folded = fold(network.cell, network.layers, network.embedding, characters=True)
            self._weights = folded.by_layer
            H, gates = lib.pad_width(folded.units), lib.GATES[network.cell]
            interleaved = gates if gates > 1 else 0
            self._recurrent = [lib.pack(precision, w["recurrent"].t(), H, H, interleaved) for w in self._weights]
            self._inputs = [lib.pack(precision, w["input"].t(), H, gates * H) for w in self._weights[1:]]
            self._V = len(network.output_bias)
            wide = lib.pad_width(self._V)
            self._output = lib.pack(precision, pad_last(network.output_weight).t(), H, wide)
            self._bias = F.pad(network.output_bias.detach(), (0, wide - self._V)).contiguous()

    @torch.no_grad()
    def generate(
        self,
        fed: torch.Tensor,
        state: State,
        random: torch.Tensor,
        choices: list[lib.Choice],
        length: int,
        keeps_logits: bool = False,
    ) -> Generated:
        """Feed `fed [B]` and then each id drawn, `length` times.

        `random [B 4]` int64 holds the words of every stream's xoshiro128++, `choices` how each stream chooses.
        Raises `FloatingPointError` where the logits are not finite.
        """
        if lib.isa() != self._isa:
            raise RuntimeError("the weights were packed for another instruction set")
        B = len(fed)
        lib.address(fed, "fed", torch.int64, (B,), contiguous=False)
        lib.address(random, "random", torch.int64, (B, 4), contiguous=False)
        if len(choices) != B or length < 1:
            raise ValueError(f"{len(choices)} choices and {length} characters for {B} streams")
        if ((random < 0) | (random >= 2**32)).any() or (random == 0).all(1).any():
            raise ValueError("random states must be four words below 2^32, not all zero")
        h, c = initial(self._folded, state)
        carry = (c if self._folded.cell == "lstm" else h).clone()
        slots = [lib.empty(2, B, h.shape[-1], dtype=lib.ELEMENT[self.precision]) for _ in self._weights]
        scratch, layers = self._layers(h, carry, slots)
        logits = lib.empty(B, len(self._bias))
        kept = lib.empty(B, length, len(self._bias)) if keeps_logits else None
        fed = fed.clone()
        words = torch.where(random >= 2**31, random - 2**32, random).to(torch.int32)  # the same low 32 bits
        out = lib.empty(B, length, dtype=torch.int64)
        a = lib.Generation()
        a.cell, a.precision = lib.CELLS[self._folded.cell], lib.PRECISIONS[self.precision]
        a.layers, a.streams, a.units, a.characters = len(slots), B, h.shape[-1], self._V
        a.length, a.unknown = length, self.unknown
        a.layer = ctypes.addressof(layers)
        a.packed_output = self._output.data_ptr()
        a.output_bias = lib.address(self._bias, "output bias", torch.float32, (len(self._bias),))
        a.logits, a.current, a.random, a.out = logits.data_ptr(), fed.data_ptr(), words.data_ptr(), out.data_ptr()
        a.kept_logits = None if kept is None else kept.data_ptr()
        how = (lib.Choice * B)(*choices)
        a.choice = ctypes.addressof(how)
        lib.call("generate", a)
        del scratch
        gru = self._folded.cell == "gru"
        final = carry if gru else torch.stack([lib.widen(self.precision, slot[0]) for slot in slots])
        return Generated(
            out,
            None if kept is None else kept[..., : self._V],
            unpad(self._folded, final, carry),
            words.to(torch.int64) & 0xFFFFFFFF,
        )

    def _layers(
        self, h: torch.Tensor, carry: torch.Tensor, slots: list[torch.Tensor]
    ) -> tuple[torch.Tensor, "ctypes.Array[lib.GenerationLayer]"]:
        """The kernel's view of every layer; the scratch it points to has to outlive the call."""
        (B, H), gates = h.shape[1:], lib.GATES[self._folded.cell]
        scratch = lib.empty(B, gates * H)
        layers = (lib.GenerationLayer * len(slots))()
        for k, (layer, weight) in enumerate(zip(layers, self._weights, strict=True)):
            lib.convert(self.precision, h[k], slots[k][0])
            layer.packed_recurrent = self._recurrent[k].data_ptr()
            layer.hidden, layer.carry = slots[k].data_ptr(), carry[k].data_ptr()
            if "reset_bias" in weight:
                layer.reset_bias = lib.address(weight["reset_bias"], "bias_hh", torch.float32, (H,))
            if k > 0:
                layer.packed_input = self._inputs[k - 1].data_ptr()
                layer.input_bias = lib.address(weight["bias"], "bias", torch.float32, (gates * H,))
                layer.projected = scratch.data_ptr()
            else:
                assert self._folded.table is not None
                layer.table = lib.address(self._folded.table, "table", torch.float32, (self._V, gates * H))
        return scratch, layers
