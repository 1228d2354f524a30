"""The minimal gated recurrent unit (Feng et al. 2024, "Were RNNs All We Needed?", arXiv:2410.01201).

    z = sigmoid(W_xz x + b_z)        update gate: 1 takes the candidate, 0 keeps the old state
    g = W_xg x + b_g                 candidate
    h = (1 - z) * h + z * g

It is a GRU whose gate and candidate see the character and not the state, so that all of a chunk can be computed at
once: two matrix products, then a linear recurrence. (The paper's `z` is as here; torch's GRU calls 1 - z by that name.)
What a layer cannot do, react to what it remembers, a second layer can.

Weights stack `z g` along their first axis. The gate starts at -`forget_bias`: a bias above 0 keeps, as in the LSTM.
"""

import torch

from storycell.nn.cells.cell import Cell, Hold, Values, Weights, affine, unheld
from storycell.nn.cells.recurrence import recur


class MinGRU(Cell):
    """A third of a GRU's input weights fewer, and no hidden weights at all."""

    name = "mingru"
    gates = 2
    state_names = ("h",)

    def shapes(self, D: int, H: int, bias: bool) -> dict[str, tuple[int, ...]]:
        """One matrix, and one bias where biases are wanted."""
        return {"weight_ih": (2 * H, D)} | ({"bias_ih": (2 * H,)} if bias else {})

    def initialise(self, w: Weights, generator: torch.Generator, forget_bias: float) -> None:
        """Uniform on +-1/sqrt(H), as torch's cells; the gate at -`forget_bias`."""
        H = w["weight_ih"].shape[0] // 2
        w["weight_ih"].uniform_(-(H**-0.5), H**-0.5, generator=generator)
        if "bias_ih" in w:
            w["bias_ih"].zero_()[:H] = -forget_bias

    def step(self, x: torch.Tensor, state: Values, w: Weights, hold: Hold = unheld) -> Values:
        """One character: `x [B D]`, `h [B H]` -> `z g h [B H]`."""
        z, g = affine(x, w, "ih").to(state["h"].dtype).chunk(2, dim=-1)
        z = hold("z", torch.sigmoid(z))
        g = hold("g", g)
        h = hold("h", (1 - z) * state["h"] + z * g)
        return {"z": z, "g": g, "h": h}

    def run(self, x: torch.Tensor, state: Values, w: Weights) -> tuple[torch.Tensor, Values]:
        """A whole chunk: `x [B T D]`, `h [B H]` -> every `h [B T H]`, the last one."""
        z, g = affine(x, w, "ih").to(state["h"].dtype).chunk(2, dim=-1)
        y = recur(torch.sigmoid(-z), torch.sigmoid(z) * g, state["h"])
        return y, {"h": y[:, -1]}
