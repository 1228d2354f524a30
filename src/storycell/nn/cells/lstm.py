"""The long short-term memory cell (Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; forget
gate: Gers, Schmidhuber & Cummins 2000, https://doi.org/10.1162/089976600300015015).

    i = sigmoid(W_xi x + W_hi h + b_i)      input gate: 1 adds the candidate to the cell, 0 ignores it
    f = sigmoid(W_xf x + W_hf h + b_f)      forget gate: 1 keeps what the cell held, 0 erases it
    g = tanh   (W_xg x + W_hg h + b_g)      candidate
    o = sigmoid(W_xo x + W_ho h + b_o)      output gate: 1 shows the cell to the rest of the network
    c = f * c + i * g                       the sum through which gradients pass unharmed
    h = o * tanh(c)

Weights stack the gates in the order `i f g o` along their first axis, as torch.nn.LSTM does.

With normalised gates W x + U h + `bias_hh` of each gate is divided by its root mean square over the units, before
`bias_ih` is added (Zhang & Sennrich 2019, arXiv:1910.07467, in the place of Ba, Kiros & Hinton 2016, arXiv:1607.06450):

    i = sigmoid(s / sqrt(mean(s^2) + 1e-5) + b_xi)   where s = W_xi x + W_hi h + b_hi; likewise f, g, o
"""

import torch
import torch.nn.functional as F

from storycell.engine.cells import NORM_EPSILON
from storycell.nn.cells.cell import Cell, Hold, Values, Weights, affine, unheld


class LSTM(Cell):
    """The article's cell; with `gate_bias` off and one-hot characters it is exactly the article's."""

    name = "lstm"
    gates = 4
    state_names = ("h", "c")

    def initialise(self, w: Weights, generator: torch.Generator, forget_bias: float) -> None:
        """As torch does, but the forget gate starts at `forget_bias`: above 0 a new cell keeps, below it lets go."""
        super().initialise(w, generator, forget_bias)
        if "bias_ih" in w:
            H = w["weight_hh"].shape[1]
            w["bias_ih"][H : 2 * H] = forget_bias
            w["bias_hh"][H : 2 * H] = 0.0

    def step(self, x: torch.Tensor, state: Values, w: Weights, hold: Hold = unheld) -> Values:
        """One character: `x [B D]`, `h c [B H]` -> `i f g o c h [B H]`."""
        h, c = state["h"], state["c"]
        i, f, g, o = self.sums(x, h, w)
        i = hold("i", torch.sigmoid(i))
        f = hold("f", torch.sigmoid(f))
        g = hold("g", torch.tanh(g))
        o = hold("o", torch.sigmoid(o))
        c = hold("c", f * c + i * g)
        h = hold("h", o * torch.tanh(c))
        return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}

    def sums(self, x: torch.Tensor, h: torch.Tensor, w: Weights) -> tuple[torch.Tensor, ...]:
        """What goes into each gate: `x [B D]`, `h [B H]` -> four `[B H]`, in the order of the weights."""
        return (affine(x, w, "ih") + affine(h, w, "hh")).chunk(4, dim=-1)


class NormalisedLSTM(LSTM):
    """An LSTM with normalised gates: the same weights, of which it makes other sums. It needs the biases."""

    name = "lstm with normalised gates"

    def sums(self, x: torch.Tensor, h: torch.Tensor, w: Weights) -> tuple[torch.Tensor, ...]:
        """As `LSTM.sums`; products may be bf16, what is made of them is in the type of the state."""
        both = F.linear(x, w["weight_ih"]).to(h.dtype) + F.linear(h, w["weight_hh"]).to(h.dtype) + w["bias_hh"]
        gates = both.reshape(len(both), self.gates, -1)  # [B 4 H]
        root_mean_square = (gates.square().mean(-1, keepdim=True) + NORM_EPSILON).sqrt()
        s: torch.Tensor = (gates / root_mean_square).reshape(both.shape)
        return (s + w["bias_ih"]).chunk(4, dim=-1)
