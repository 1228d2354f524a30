"""The vanilla recurrent network (Elman 1990, https://doi.org/10.1207/s15516709cog1402_1).

    h = tanh(W_xh x + W_hh h + b)

The hidden weights start with spectral radius 1 (their largest eigenvalue has absolute value 1), as in the article's
series: a smaller radius lets gradients vanish, a larger one lets them explode. Training then moves it where it will.
"""

import torch

from storycell.nn.cells.cell import Cell, Hold, Values, Weights, affine, unheld


class RNN(Cell):
    """One tanh, no gates: the baseline that the LSTM was invented to replace."""

    name = "rnn"
    gates = 1
    state_names = ("h",)

    def initialise(self, w: Weights, generator: torch.Generator, forget_bias: float) -> None:
        """As torch does, with the hidden weights drawn from a normal distribution and scaled to spectral radius 1."""
        super().initialise(w, generator, forget_bias)
        W_hh = w["weight_hh"]
        W_hh.normal_(generator=generator)
        W_hh /= spectral_radius(W_hh)

    def watch(self, w: Weights) -> dict[str, float]:
        """How far the hidden weights have drifted from the spectral radius they started with."""
        return {"spectral_radius": spectral_radius(w["weight_hh"])}

    def step(self, x: torch.Tensor, state: Values, w: Weights, hold: Hold = unheld) -> Values:
        """One character: `x [B D]`, `h [B H]` -> `h [B H]`."""
        h = hold("h", torch.tanh(affine(x, w, "ih") + affine(state["h"], w, "hh")))
        return {"h": h}


def spectral_radius(W: torch.Tensor) -> float:
    """The largest absolute value of a square matrix's eigenvalues."""
    return float(torch.linalg.eigvals(W.detach().cpu().double()).abs().max())
