"""The gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in the form that cuDNN and torch.nn.GRU compute.

    r = sigmoid(W_xr x + b_xr + W_hr h + b_hr)          reset gate
    z = sigmoid(W_xz x + b_xz + W_hz h + b_hz)          update gate: 1 keeps the old state
    n = tanh   (W_xn x + b_xn + r * (W_hn h + b_hn))    candidate
    h = (1 - z) * n + z * h

The paper multiplies `r` into `h` before the matrix; here, as in torch, it comes after, which is faster and as good.
Weights stack the gates in the order `r z n` along their first axis.
"""

import torch

from storycell.nn.cells.cell import Cell, Hold, Values, Weights, affine, unheld


class GRU(Cell):
    """Two gates and no separate cell state: three quarters of an LSTM's weights."""

    name = "gru"
    gates = 3
    state_names = ("h",)

    def step(self, x: torch.Tensor, state: Values, w: Weights, hold: Hold = unheld) -> Values:
        """One character: `x [B D]`, `h [B H]` -> `r z n h [B H]`."""
        h = state["h"]
        r_x, z_x, n_x = affine(x, w, "ih").chunk(3, dim=-1)
        r_h, z_h, n_h = affine(h, w, "hh").chunk(3, dim=-1)
        r = hold("r", torch.sigmoid(r_x + r_h))
        z = hold("z", torch.sigmoid(z_x + z_h))
        n = hold("n", torch.tanh(n_x + r * n_h))
        h = hold("h", (1 - z) * n + z * h)
        return {"r": r, "z": z, "n": n, "h": h}
