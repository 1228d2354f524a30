"""The long short-term memory cell (Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; forget
gate: Gers, Schmidhuber & Cummins 2000, https://doi.org/10.1162/089976600300015015).

    i = sigmoid(W_xi x + W_hi h + b_i)      input gate: 1 adds the candidate to the cell, 0 ignores it
    f = sigmoid(W_xf x + W_hf h + b_f)      forget gate: 1 keeps what the cell held, 0 erases it
    g = tanh   (W_xg x + W_hg h + b_g)      candidate
    o = sigmoid(W_xo x + W_ho h + b_o)      output gate: 1 shows the cell to the rest of the network
    c = f * c + i * g                       the sum through which gradients pass unharmed
    h = o * tanh(c)

Weights stack the gates in the order `i f g o` along their first axis, as torch.nn.LSTM does.
"""

import torch

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
        i, f, g, o = (affine(x, w, "ih") + affine(h, w, "hh")).chunk(4, dim=-1)
        i = hold("i", torch.sigmoid(i))
        f = hold("f", torch.sigmoid(f))
        g = hold("g", torch.tanh(g))
        o = hold("o", torch.sigmoid(o))
        c = hold("c", f * c + i * g)
        h = hold("h", o * torch.tanh(c))
        return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}
