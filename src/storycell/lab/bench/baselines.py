"""What storycell is measured against: torch's own layer as one would use it, and a plain loop.

Both are modules: ids `[B T]` and a state -> logits `[B T V]` and the next state.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn


class TorchModel(nn.Module):
    """An embedding, torch.nn.LSTM (or GRU, or RNN) and an output layer."""

    def __init__(self, cell: str, V: int, D: int, H: int, L: int) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
        self.embedding = nn.Embedding(V, D, dtype=torch.float32, device="cpu")
        self.recurrent = kind(D, H, L, batch_first=True, dtype=torch.float32, device="cpu")
        self.output = nn.Linear(H, V, dtype=torch.float32, device="cpu")

    def forward(self, ids: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """ids `[B T]` -> logits `[B T V]` and torch's own state."""
        y, state = self.recurrent(self.embedding(ids), state)
        return self.output(y), state


class PlainLoop(nn.Module):
    """The formulas in a loop over characters, as the article computes them: one-hot input, a pair of matrices for each
    gate, no gate biases."""

    GATES: ClassVar = {"lstm": 4, "rnn": 1}

    def __init__(self, cell: str, V: int, H: int, L: int) -> None:
        super().__init__()
        self.V, self.H, self.L, self.G = V, H, L, self.GATES[cell]
        widths = [V if k == 0 else H for k in range(L) for _ in range(self.G)]
        self.W_x = nn.ParameterList(torch.randn(D, H, dtype=torch.float32, device="cpu") * H**-0.5 for D in widths)
        self.W_h = nn.ParameterList(torch.randn(H, H, dtype=torch.float32, device="cpu") * H**-0.5 for _ in widths)
        self.output = nn.Linear(H, V, dtype=torch.float32, device="cpu")

    def forward(self, ids: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """ids `[B T]` -> logits `[B T V]` and, for each layer, `(h, c)` `[B H]`."""
        if state is None:
            zeros = torch.zeros(len(ids), self.H, dtype=torch.float32, device="cpu")
            state = [(zeros, zeros)] * self.L
        outputs = []
        for x in F.one_hot(ids, self.V).float().unbind(dim=1):
            now = []
            for k in range(self.L):
                h, c = state[k]
                x, c = self._cell(x, h, c, k)
                now.append((x, c))
            state = now
            outputs.append(self.output(x))
        return torch.stack(outputs, dim=1), state

    def _cell(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        gates = range(layer * self.G, (layer + 1) * self.G)
        sums = [x @ self.W_x[gate] + h @ self.W_h[gate] for gate in gates]
        if self.G == 1:
            return torch.tanh(sums[0]), c
        i, f, g, o = sums
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


def detach(state: Any) -> Any:
    """A state of any of the models, cut off from the graph."""
    if isinstance(state, torch.Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {name: value.detach() for name, value in state.items()}
    return type(state)(detach(part) for part in state)
