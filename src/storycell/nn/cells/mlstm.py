"""The multiplicative long short-term memory cell (Krause, Lu, Murray & Renals 2016, arXiv:1609.07959).

    m = (W_mx x) * (W_mh h)                 what was remembered, seen in the light of the character
    i = sigmoid(W_xi x + W_mi m + b_i)      then an LSTM's gates, with `m` in the place of `h`
    f = sigmoid(W_xf x + W_mf m + b_f)
    g = tanh   (W_xg x + W_mg m + b_g)
    o = sigmoid(W_xo x + W_mo m + b_o)
    c = f * c + i * g
    h = o * tanh(c)

So every character has a transition of its own: diag(W_mx x) between two shared matrices is as good as one matrix a
character, at the price of 1.25 LSTMs. Weights stack the gates in the order `i f g o`; `weight_hh` is applied to `m`.
"""

import torch
import torch.nn.functional as F

from storycell.nn.cells.cell import Hold, Values, Weights, affine, unheld
from storycell.nn.cells.lstm import LSTM


class MultiplicativeLSTM(LSTM):
    """An LSTM that starts as torch's, with two more matrices in front."""

    name = "mlstm"

    def shapes(self, D: int, H: int, bias: bool) -> dict[str, tuple[int, ...]]:
        """The LSTM's, and `weight_mx [H D]`, `weight_mh [H H]`."""
        return super().shapes(D, H, bias) | {"weight_mx": (H, D), "weight_mh": (H, H)}

    def step(self, x: torch.Tensor, state: Values, w: Weights, hold: Hold = unheld) -> Values:
        """One character: `x [B D]`, `h c [B H]` -> `m i f g o c h [B H]`."""
        m = hold("m", F.linear(x, w["weight_mx"]) * F.linear(state["h"], w["weight_mh"]))
        i, f, g, o = (affine(x, w, "ih") + affine(m, w, "hh")).chunk(4, dim=-1)
        i = hold("i", torch.sigmoid(i))
        f = hold("f", torch.sigmoid(f))
        g = hold("g", torch.tanh(g))
        o = hold("o", torch.sigmoid(o))
        c = hold("c", f * state["c"] + i * g)
        h = hold("h", o * torch.tanh(c))
        return {"m": m, "i": i, "f": f, "g": g, "o": o, "c": c, "h": h}
