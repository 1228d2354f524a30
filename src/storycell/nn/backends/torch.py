"""torch's own layers: oneDNN on a CPU, cuDNN on an NVIDIA GPU, Metal on an Apple one.

It calls the functions that torch.nn.LSTM, GRU and RNN call, with our weights, which have torch's names, shapes and gate
order. An LSTM with normalised gates, of which torch has no layer, is computed by the cell's own lines.
"""

import torch

from storycell.nn.backends.backend import Backend
from storycell.nn.backends.reference import run_layers
from storycell.nn.cells.cell import State
from storycell.nn.cells.lstm import NormalisedLSTM
from storycell.nn.cells.registry import get_cell


class TorchBackend(Backend):
    """lstm, gru and rnn, as fast as torch computes them."""

    name = "torch"
    merit = "torch's own layers"

    def obstacle(self, cell: str, weight: torch.Tensor | None = None) -> str | None:
        """None for torch's three cells, wherever the weights are."""
        return (
            None if cell in ("lstm", "gru", "rnn", NormalisedLSTM.name) else f"torch has no layer for the cell {cell!r}"
        )

    def run(
        self,
        cell: str,
        x: torch.Tensor,
        state: State,
        layers: list[dict[str, torch.Tensor]],
        dropout: float = 0.0,
    ) -> tuple[torch.Tensor, State]:
        """As `Backend.run`."""
        if cell == NormalisedLSTM.name:
            return run_layers(get_cell(cell), x, state, layers, dropout)
        flat = [weight for weights in layers for weight in weights.values()]
        bias, train = len(layers[0]) == 4, dropout > 0
        if cell == "lstm":
            hc = [state["h"], state["c"]]
            y, h, c = torch.lstm(x, hc, flat, bias, len(layers), dropout, train, False, True)
            return y, {"h": h, "c": c}
        layer = torch.gru if cell == "gru" else torch.rnn_tanh
        y, h = layer(x, state["h"], flat, bias, len(layers), dropout, train, False, True)
        return y, {"h": h}
