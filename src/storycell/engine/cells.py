"""The engine's cells in plain numpy, one step at a time: to look into, to hold values, and for gradients through time.

They compute line by line what `storycell.nn.cells` computes with torch, in the type of the arrays they are given. `w`
is one layer's weights under torch's names without the layer; without biases there are no entries for them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.context import TABLE
from storycell.language_model import Hold, unheld

Array = npt.NDArray[np.floating[Any]]
Arrays = dict[str, Array]
Weights = Mapping[str, Array]

NORM_EPSILON = 1e-5  # added to the mean square of a gate that is normalised


class Cell:
    """Base of the cells: names, shapes of weights (`weight_ih [G*H D]`, `weight_hh [G*H H]`, two biases `[G*H]`)."""

    name: str
    gates: int  # G
    state_names: tuple[str, ...] = ("h",)  # the first is the output
    value_names: tuple[str, ...]  # of a step, in the order of computation

    def shapes(self, D: int, H: int, bias: bool) -> dict[str, tuple[int, ...]]:
        """The shapes of one layer's weights, by name."""
        rows = self.gates * H
        weights: dict[str, tuple[int, ...]] = {"weight_ih": (rows, D), "weight_hh": (rows, H)}
        return weights | ({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {})

    def step(self, x: Array, state: Arrays, w: Weights, hold: Hold = unheld) -> Arrays:
        """One character: `x [N D]`, `state` -> every value of the step by name, `[N H]`, the new state among them.

        Every value passes through `hold` as it is computed, so that what is held in one line changes those below.
        """
        raise NotImplementedError

    def back(
        self, x: Array, values: Arrays, before: Arrays, gradients: Arrays, w: Weights
    ) -> tuple[Array, Arrays, Arrays]:
        """The derivative of `step`, from what it read, the values it gave and the state before it.

        `gradients` are those to `value_names`' states after the step (that to h without what reaches it through this
        step's c). Returns the gradient to x `[N D]`; those to the state before, and those to the state after in full.
        """
        raise NotImplementedError


class LSTM(Cell):
    """The long short-term memory cell (Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735;
    forget gate: Gers, Schmidhuber & Cummins 2000, https://doi.org/10.1162/089976600300015015).

        i = sigmoid(W_xi x + W_hi h + b_i)      input gate: 1 adds the candidate to the cell, 0 ignores it
        f = sigmoid(W_xf x + W_hf h + b_f)      forget gate: 1 keeps what the cell held, 0 erases it
        g = tanh   (W_xg x + W_hg h + b_g)      candidate
        o = sigmoid(W_xo x + W_ho h + b_o)      output gate: 1 shows the cell to the rest of the network
        c = f * c + i * g                       the sum through which gradients pass unharmed
        h = o * tanh(c)
    """

    name, gates = "lstm", 4
    state_names = ("h", "c")
    value_names = ("i", "f", "g", "o", "c", "h")

    def step(self, x: Array, state: Arrays, w: Weights, hold: Hold = unheld) -> Arrays:
        """One character: `x [N D]`, `h c [N H]` -> `i f g o c h [N H]`."""
        h, c = state["h"], state["c"]
        i, f, g, o = np.split(self.open(x, h, w), 4, axis=-1)
        i = hold("i", sigmoid(i))
        f = hold("f", sigmoid(f))
        g = hold("g", np.tanh(g))
        o = hold("o", sigmoid(o))
        c = hold("c", f * c + i * g)
        h = hold("h", o * np.tanh(c))
        return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}

    def open(self, x: Array, h: Array, w: Weights) -> Array:
        """What the gates are opened by, `[N 4H]`."""
        return affine(x, w, "ih") + affine(h, w, "hh")

    def open_back(self, d: Array, x: Array, h: Array, w: Weights) -> Array:
        """From the gradient to what the gates are opened by that to W x + U h, both `[N 4H]`."""
        return d

    def back(
        self, x: Array, values: Arrays, before: Arrays, gradients: Arrays, w: Weights
    ) -> tuple[Array, Arrays, Arrays]:
        """dc = dc + dh o (1 - tanh(c)^2); from there to the gates, to c before by f, to x and h before by the gates."""
        i, f, g, o, dh = (*(values[name] for name in "ifgo"), gradients["h"])
        shown = np.tanh(values["c"])
        dc = gradients["c"] + dh * o * (1 - shown * shown)
        di, df = dc * g * i * (1 - i), dc * before["c"] * f * (1 - f)
        dg, do = dc * i * (1 - g * g), dh * shown * o * (1 - o)
        d = self.open_back(np.concatenate((di, df, dg, do), axis=-1), x, before["h"], w)
        return d @ w["weight_ih"], {"h": d @ w["weight_hh"], "c": dc * f}, {"h": dh, "c": dc}


class NormalisedLSTM(LSTM):
    """An LSTM whose gates are normalised: each of i, f, g and o is opened by

        s / sqrt(mean over the units of s^2 + 1e-5) + b_x    where s = W x + U h + b_h

    with a mean of its own: RMS normalisation (Zhang & Sennrich 2019, arXiv:1910.07467) inside the gates (as layer
    normalisation in Ba, Kiros & Hinton 2016, arXiv:1607.06450). It has the weights of the LSTM, and needs its biases:
    `bias_hh` is b_h, `bias_ih` b_x.
    """

    def open(self, x: Array, h: Array, w: Weights) -> Array:
        """What the gates are opened by, `[N 4H]`."""
        n, _ = self.normalise(x, h, w)
        opened: Array = n.reshape(len(n), -1) + w["bias_ih"]
        return opened

    def open_back(self, d: Array, x: Array, h: Array, w: Weights) -> Array:
        """(d - n mean(n d)) / rms of each gate, n being what is normalised."""
        n, rms = self.normalise(x, h, w)
        each = d.reshape(n.shape)
        through: Array = ((each - n * (n * each).mean(-1, keepdims=True)) / rms).reshape(d.shape)
        return through

    @staticmethod
    def normalise(x: Array, h: Array, w: Weights) -> tuple[Array, Array]:
        """What goes into each gate over its root mean square, `[N 4 H]`, and that, `[N 4 1]`."""
        sums = (x @ w["weight_ih"].T + affine(h, w, "hh")).reshape(len(h), 4, -1)
        rms = np.sqrt((sums * sums).mean(-1, keepdims=True) + NORM_EPSILON)
        return sums / rms, rms


class GRU(Cell):
    """The gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in the form that cuDNN and torch.nn.GRU compute.

    r = sigmoid(W_xr x + b_xr + W_hr h + b_hr)          reset gate
    z = sigmoid(W_xz x + b_xz + W_hz h + b_hz)          update gate: 1 keeps the old state
    n = tanh   (W_xn x + b_xn + r * (W_hn h + b_hn))    candidate
    h = (1 - z) * n + z * h
    """

    name, gates = "gru", 3
    value_names = ("r", "z", "n", "h")

    def step(self, x: Array, state: Arrays, w: Weights, hold: Hold = unheld) -> Arrays:
        """One character: `x [N D]`, `h [N H]` -> `r z n h [N H]`."""
        h = state["h"]
        r_x, z_x, n_x = np.split(affine(x, w, "ih"), 3, axis=-1)
        r_h, z_h, n_h = np.split(affine(h, w, "hh"), 3, axis=-1)
        r = hold("r", sigmoid(r_x + r_h))
        z = hold("z", sigmoid(z_x + z_h))
        n = hold("n", np.tanh(n_x + r * n_h))
        h = hold("h", (1 - z) * n + z * h)
        return {"r": r, "z": z, "n": n, "h": h}

    def back(
        self, x: Array, values: Arrays, before: Arrays, gradients: Arrays, w: Weights
    ) -> tuple[Array, Arrays, Arrays]:
        """To z and n, from n through r to what r multiplies; to h before by z and by the gates."""
        r, z, n, dh = (*(values[name] for name in "rzn"), gradients["h"])
        n_h = np.split(affine(before["h"], w, "hh"), 3, axis=-1)[2]
        dn, dz = dh * (1 - z) * (1 - n * n), dh * (before["h"] - n) * z * (1 - z)
        dr = dn * n_h * r * (1 - r)
        dx = np.concatenate((dr, dz, dn), axis=-1) @ w["weight_ih"]
        return dx, {"h": np.concatenate((dr, dz, dn * r), axis=-1) @ w["weight_hh"] + dh * z}, {"h": dh}


class RNN(Cell):
    """The vanilla recurrent network (Elman 1990, https://doi.org/10.1207/s15516709cog1402_1).

    h = tanh(W_xh x + W_hh h + b)
    """

    name, gates = "rnn", 1
    value_names = ("h",)

    def step(self, x: Array, state: Arrays, w: Weights, hold: Hold = unheld) -> Arrays:
        """One character: `x [N D]`, `h [N H]` -> `h [N H]`."""
        return {"h": hold("h", np.tanh(affine(x, w, "ih") + affine(state["h"], w, "hh")))}

    def back(
        self, x: Array, values: Arrays, before: Arrays, gradients: Arrays, w: Weights
    ) -> tuple[Array, Arrays, Arrays]:
        """d = dh (1 - h^2), to x and h before by the weights."""
        d = gradients["h"] * (1 - values["h"] * values["h"])
        return d @ w["weight_ih"], {"h": d @ w["weight_hh"]}, {"h": gradients["h"]}


CELLS: dict[str, Cell] = {cell.name: cell for cell in (LSTM(), GRU(), RNN())}
NORMALISED_LSTM = NormalisedLSTM()


def affine(x: Array, w: Weights, source: str) -> Array:
    """`x` times the weights from `source` (`ih` or `hh`), plus their bias where there is one: `[N D]` -> `[N G*H]`."""
    y: Array = x @ w[f"weight_{source}"].T
    return y + w[f"bias_{source}"] if f"bias_{source}" in w else y


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), to the last digit on both sides."""
    small = np.exp(-np.abs(x))
    y: Array = np.where(x < 0, small, 1) / (1 + small)
    return y


def weight_shapes(
    vocab_size: int,
    hidden_size: int,
    layers: int,
    cell: str,
    embedding_size: int,
    gate_bias: bool,
    context_rows: int = 0,
) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of a character model, by torch's names, in their order.

    `context_rows` is how many rows its context's table has; 0: there is none.
    """
    V, H, D = vocab_size, hidden_size, embedding_size or vocab_size
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (V, D)} if embedding_size else {}
    for k in range(layers):
        layer = CELLS[cell].shapes(H if k else D, H, gate_bias)
        shapes |= {f"recurrent.{name}_l{k}": shape for name, shape in layer.items()}
    shapes |= {"output.weight": (V, H), "output.bias": (V,)}
    return shapes | ({TABLE: (context_rows, D)} if context_rows else {})


def layer_weights(weights: Mapping[str, Any], layer: int) -> Arrays:
    """One layer's weights by torch's names without the layer."""
    begin, end = "recurrent.", f"_l{layer}"
    found = {name: w for name, w in weights.items() if name.startswith(begin) and name.endswith(end)}
    return {name[len(begin) : -len(end)]: w for name, w in found.items()}


def spectral_radius(W: Any) -> float:
    """The largest absolute eigenvalue of hidden weights `[H H]`, computed in float64."""
    return float(np.abs(np.linalg.eigvals(np.asarray(W, np.float64))).max())
