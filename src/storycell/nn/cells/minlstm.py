"""The minimal long short-term memory cell (Feng et al. 2024, "Were RNNs All We Needed?", arXiv:2410.01201).

    f = sigmoid(W_xf x + b_f)        forget gate
    i = sigmoid(W_xi x + b_i)        input gate
    g = W_xg x + b_g                 candidate
    h = f / (f + i) * h + i / (f + i) * g

The gates see the character and not the state, and share out one unit between old and new, so `h` needs neither a tanh
nor an output gate; all of a chunk can be computed at once. The share f / (f + i) is computed as
sigmoid(softplus(-i) - softplus(-f)) of what goes into the gates, which is the same number and never 0 / 0.

Weights stack `i f g` along their first axis, the LSTM's order. `f` starts at `forget_bias`.
"""

import torch
import torch.nn.functional as F

from storycell.nn.cells.cell import Cell, Hold, Values, Weights, affine, unheld
from storycell.nn.cells.recurrence import recur


class MinLSTM(Cell):
    """Three quarters of an LSTM's input weights, and no hidden weights at all."""

    name = "minlstm"
    gates = 3
    state_names = ("h",)

    def shapes(self, D: int, H: int, bias: bool) -> dict[str, tuple[int, ...]]:
        """One matrix, and one bias where biases are wanted."""
        return {"weight_ih": (3 * H, D)} | ({"bias_ih": (3 * H,)} if bias else {})

    def initialise(self, w: Weights, generator: torch.Generator, forget_bias: float) -> None:
        """Uniform on +-1/sqrt(H), as torch's cells; the forget gate at `forget_bias`."""
        H = w["weight_ih"].shape[0] // 3
        w["weight_ih"].uniform_(-(H**-0.5), H**-0.5, generator=generator)
        if "bias_ih" in w:
            w["bias_ih"].zero_()[H : 2 * H] = forget_bias

    def step(self, x: torch.Tensor, state: Values, w: Weights, hold: Hold = unheld) -> Values:
        """One character: `x [B D]`, `h [B H]` -> `i f g h [B H]`; `f` and `i` as shares, which sum to one."""
        i, f, g = affine(x, w, "ih").to(state["h"].dtype).chunk(3, dim=-1)
        more = F.softplus(-i) - F.softplus(-f)
        i = hold("i", torch.sigmoid(-more))
        f = hold("f", torch.sigmoid(more))
        g = hold("g", g)
        h = hold("h", f * state["h"] + i * g)
        return {"i": i, "f": f, "g": g, "h": h}

    def run(self, x: torch.Tensor, state: Values, w: Weights) -> tuple[torch.Tensor, Values]:
        """A whole chunk: `x [B T D]`, `h [B H]` -> every `h [B T H]`, the last one."""
        i, f, g = affine(x, w, "ih").to(state["h"].dtype).chunk(3, dim=-1)
        more = F.softplus(-i) - F.softplus(-f)
        y = recur(torch.sigmoid(more), torch.sigmoid(-more) * g, state["h"])
        return y, {"h": y[:, -1]}
