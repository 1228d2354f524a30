"""A network run by numpy in float64: the expected logits of an exported file, by code that shares nothing with the
backends but the formulas.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from storycell.engine.cells import NORM_EPSILON
from storycell.errors import ExportError
from storycell.export.network import Network

Float = npt.NDArray[np.float64]


LARGEST_ERROR = 1e-4  # as a share of the largest logit; float32's rounding, which is all that may differ, makes 1e-6


def require_close(path: Path, error: float, expected: Float) -> None:
    """`ExportError` unless logits that were read back differ by no more than rounding from those `expected`."""
    allowed = LARGEST_ERROR * max(1.0, float(np.abs(expected).max()))
    if not error <= allowed:
        raise ExportError(
            f"{path} was not written: a logit of what was read back differs by {error:.3g} from the run's, "
            f"and at most {allowed:.1g} of that can be rounding; this is a bug, please report it"
        )


def logits(network: Network, ids: list[int]) -> Float:
    """The logits after each of `ids [T]`: `[T, V]`."""
    shape, context = network.shape, network.shape.context
    w = {name: array.astype(np.float64) for name, array in network.tensors.items()}
    states = [{name: np.zeros(shape.H) for name in ("h", "c")} for _ in range(shape.L)]
    rows = []
    for k, met in zip(ids, context.rows_of([ids], np.zeros((1, context.memory)))[0], strict=True):
        x = w["embedding"][k] if shape.D else np.eye(1, shape.V, k)[0]
        if context:
            x = x + w["context"][met].sum(0)
        for layer, state in enumerate(states):
            own = {name: w[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias")}
            own["bias_hn"] = w.get(f"bias_hn_l{layer}", np.zeros(0))
            x, y = own["weight_ih"] @ x + own["bias"], own["weight_hh"] @ state["h"]
            if shape.gate_norm:
                gates = (x + y).reshape(shape.G, shape.H)
                x = (gates / np.sqrt((gates**2).mean(1, keepdims=True) + NORM_EPSILON)).ravel()
                y = w[f"gate_bias_l{layer}"]
            x = _STEPS[shape.cell](x, y, state, own)
        rows.append(w["output"] @ x + w["output_bias"])
    return np.array(rows)


def _lstm(x: Float, y: Float, state: dict[str, Float], w: dict[str, Float]) -> Float:
    i, f, g, o = np.split(x + y, 4)
    state["c"] = _sigmoid(f) * state["c"] + _sigmoid(i) * np.tanh(g)
    state["h"] = _sigmoid(o) * np.tanh(state["c"])
    return state["h"]


def _gru(x: Float, y: Float, state: dict[str, Float], w: dict[str, Float]) -> Float:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(x, 3), np.split(y, 3)
    z = _sigmoid(z_x + z_h)
    n = np.tanh(n_x + _sigmoid(r_x + r_h) * (n_h + w["bias_hn"]))
    state["h"] = (1 - z) * n + z * state["h"]
    return state["h"]


def _rnn(x: Float, y: Float, state: dict[str, Float], w: dict[str, Float]) -> Float:
    state["h"] = np.tanh(x + y)
    return state["h"]


def _sigmoid(x: Float) -> Float:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


_STEPS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
