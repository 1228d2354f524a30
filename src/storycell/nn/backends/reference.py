"""The readable loop: every layer, every character, one step of the cell. The oracle of all faster backends.

It is slow (thousands of small operations a chunk) and exact: its formulas are the cells', its gradients autograd's. A
cell that can do a whole chunk at once (`Cell.run`) is asked to.
"""

import torch
import torch.nn.functional as F

from storycell.nn.backends.backend import Backend
from storycell.nn.cells.cell import Cell, State, Weights
from storycell.nn.cells.registry import get_cell


class ReferenceBackend(Backend):
    """Any registered cell, one character after the other."""

    name = "reference"
    merit = "the only one that runs a cell of your own"

    def obstacle(self, cell: str, weight: torch.Tensor | None = None) -> str | None:
        """None: any cell that exists can be stepped."""
        get_cell(cell)
        return None

    def run(
        self,
        cell: str,
        x: torch.Tensor,
        state: State,
        layers: list[dict[str, torch.Tensor]],
        dropout: float = 0.0,
    ) -> tuple[torch.Tensor, State]:
        """As `Backend.run`."""
        return run_layers(get_cell(cell), x, state, layers, dropout)


def run_layers(
    cell: Cell, x: torch.Tensor, state: State, layers: list[Weights], dropout: float
) -> tuple[torch.Tensor, State]:
    """As `Backend.run`, by the cell's own lines."""
    finals = []
    for k, weights in enumerate(layers):
        if k > 0 and dropout > 0:
            x = F.dropout(x, dropout)
        now = {name: state[name][k] for name in cell.state_names}
        x, now = cell.run(x, now, weights) or run_stepwise(cell, x, now, weights)
        finals.append(now)
    return x, {name: torch.stack([final[name] for final in finals]) for name in cell.state_names}


def run_stepwise(cell: Cell, x: torch.Tensor, state: State, w: Weights) -> tuple[torch.Tensor, State]:
    """One layer, character by character: `x [B T D]`, states `[B H]` -> outputs `[B T H]`, the states after them."""
    names = cell.state_names
    outputs = []
    for x_t in x.unbind(dim=1):
        values = cell.step(x_t, state, w)
        state = {name: values[name] for name in names}
        outputs.append(state[names[0]])
    return torch.stack(outputs, dim=1), state
