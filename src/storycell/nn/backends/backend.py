"""`Backend`: what every backend computes, and the tensors it is handed.

A backend has to `run` a stack of cells over a chunk of vectors; logits and losses follow from that. One that knows how
to do better with characters (look a table up instead of multiplying, never write the logits to memory) overrides those.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from storycell.nn.cells.cell import State
from storycell.nn.loss import mean_nats, nats_each

Weights = dict[str, torch.Tensor]
Scorer = Callable[[torch.Tensor, torch.Tensor, State], tuple[torch.Tensor, State]]  # as `Backend.nats`


@dataclass(frozen=True)
class Network:
    """A character model's tensors, as its module hands them over for one chunk."""

    cell: str  # its form: with normalised gates another name than the cell's (`registry.name_form`)
    embedding: torch.Tensor | None  # [V D]; None feeds one-hot characters, so D = V
    layers: list[Weights]  # of every layer, under torch's names without the layer
    output_weight: torch.Tensor  # [V H]
    output_bias: torch.Tensor  # [V]
    dropout: float  # between layers and before the output; 0 when not training
    bf16: bool  # whether matmul inputs are rounded to bf16
    context: torch.Tensor | None = None  # [B T D] that is added to the embedding for it

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """What the first layer reads: ids `[B T]` -> `[B T D]`."""
        if self.embedding is not None:
            vectors = F.embedding(ids, self.embedding)
            return vectors if self.context is None else vectors + self.context
        return F.one_hot(ids, len(self.output_bias)).to(self.output_weight.dtype)


class Backend(ABC):
    """Runs a stack of cells over a chunk."""

    name: str
    merit: str  # why `auto` would take it, in a few words

    @abstractmethod
    def obstacle(self, cell: str, weight: torch.Tensor | None = None) -> str | None:
        """Why this backend cannot compute a cell with weights like `weight`, or None if it can."""

    @abstractmethod
    def run(
        self,
        cell: str,
        x: torch.Tensor,
        state: State,
        layers: list[Weights],
        dropout: float = 0.0,
    ) -> tuple[torch.Tensor, State]:
        """Inputs `x [B T D]`, state `[L B H]`, weights of each layer -> outputs `[B T H]`, final state `[L B H]`.

        `dropout` is the probability, while training, that an output of a layer below the last is dropped.
        """

    def multiplies_bf16(self, device: torch.device) -> bool:
        """Whether bf16 products are done in hardware there, so that bf16 is faster and not slower."""
        if device.type == "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        if device.type != "cpu":
            return False
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)

    def exclusive(self) -> AbstractContextManager[None]:
        """Within, torch leaves the cores to this backend's threads, where it has threads of its own."""
        return nullcontext()

    def hidden(self, network: Network, ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """ids `[B T]` -> outputs of the last layer `[B T H]`, final state."""
        return self.run(network.cell, network.vectors(ids), state, network.layers, network.dropout)

    def logits(self, network: Network, ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """ids `[B T]` -> logits `[B T V]`, float32 at least, and the final state."""
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=network.bf16):
            y, state = self.hidden(network, ids, state)
            if network.dropout:
                y = F.dropout(y, network.dropout)
            logits = F.linear(y, network.output_weight, network.output_bias)
        return logits if logits.dtype == torch.float64 else logits.float(), state

    def nats(
        self, network: Network, ids: torch.Tensor, targets: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """The loss of every target: ids and targets `[B T]` -> nats `[B T]`, final state. Not differentiable."""
        logits, state = self.logits(network, ids, state)
        return nats_each(logits, targets), state

    def scorer(self, network: Network) -> Scorer:
        """`nats` of this network as it is now; what depends on its weights alone is computed once, here."""
        return partial(self.nats, network)

    def mean_nats(
        self, network: Network, ids: torch.Tensor, targets: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """The mean loss of a target, a scalar in nats, differentiable, and the final state."""
        logits, state = self.logits(network, ids, state)
        return mean_nats(logits, targets), state
