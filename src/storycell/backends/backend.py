"""The signature that every backend has."""

from abc import ABC, abstractmethod

import torch

from storycell.shapes import State


class Backend(ABC):
    """Runs a stack of cells over a chunk."""

    name: str
    merit: str  # why `auto` would take it, in a few words

    @abstractmethod
    def obstacle(self, cell: str) -> str | None:
        """Why this backend cannot compute a cell, or None if it can."""

    @abstractmethod
    def run(
        self,
        cell: str,
        x: torch.Tensor,
        state: State,
        layers: list[dict[str, torch.Tensor]],
        dropout: float = 0.0,
    ) -> tuple[torch.Tensor, State]:
        """Inputs `x [B T D]`, state `[L B H]`, weights of each layer -> outputs `[B T H]`, final state `[L B H]`.

        `dropout` is the probability, while training, that an output of a layer below the last is dropped.
        """
