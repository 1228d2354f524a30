"""One step of one unit, with all its numbers: what it was fed, what each gate added up, what became of its memory.

A gate is a squashed sum: of its bias, of what the input x adds (a row of weights times x) and of what the hidden state
before adds. In a GRU's candidate `n` the part of the hidden state is multiplied by the reset gate before it is added;
in a normalised gate what x, h and the inner bias add is divided by the root mean square of their sums over the layer.
The pages show the same numbers, computed by their own script; a test holds them to these, and these to `inspect.trace`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.context import PAST
from storycell.engine.cells import CELLS, NORMALISED_LSTM, layer_weights
from storycell.errors import SettingsError
from storycell.language_model import LanguageModel
from storycell.types import BOUNDARY, Ids

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sum:
    """What a gate (or candidate, or the RNN's h) squashes: `bias + x + h`; for a GRU's n `bias + x + r * h`."""

    name: str
    bias: float
    x: float
    h: float
    value: float


@dataclass(frozen=True)
class UnitStep:
    """A step of a unit: `x [D]` (of layer 0 the character's embedding, or one-hot) and `h [H]` come in."""

    x: Floats
    h: Floats
    sums: list[Sum]
    before: Mapping[str, float]  # the unit's states before, by name
    after: Mapping[str, float]  # every value of the unit
    layer: Mapping[str, Floats]  # every value of all units of the layer, [H]


def unit_step(model: LanguageModel, read: Ids | Sequence[int], layer: int, unit: int) -> UnitStep:
    """The step in which the last of some ids `[N]` is read, the first of which is a boundary.

    `SettingsError` where there is no such unit, or for cells other than lstm, gru and rnn.
    """
    if model.cell not in CELLS:
        raise SettingsError(f"a step of a {model.cell!r} cannot be shown; {', '.join(CELLS)} can")
    if not 0 <= layer < model.num_layers or not 0 <= unit < model.hidden_size:
        raise SettingsError(
            f"layer {layer}, unit {unit}: layers count from 0 to {model.num_layers - 1}, units from 0 to "
            f"{model.hidden_size - 1}"
        )
    ids = np.asarray(read, np.int64)
    is_first = len(ids) == 1 or ids[-1] == BOUNDARY
    state = model.zero_state(1) if is_first else model.state_after(ids[np.newaxis, :-1])
    x = model.inputs(ids[np.newaxis, -1:], state[PAST][0] if PAST in state else None)[0]
    output = model.state_names[0]
    for k in range(layer + 1):
        before = {name: state[name][k] for name in model.state_names}
        values = model.layer_step(k, x, before)
        x, given = values[output], x
    h = before[output][0].astype(np.float64)
    return UnitStep(
        x=given[0].astype(np.float64),
        h=h,
        sums=_sums(model, layer, unit, given[0].astype(np.float64), h, values),
        before={name: float(before[name][0, unit]) for name in model.state_names},
        after={name: float(value[0, unit]) for name, value in values.items()},
        layer={name: value[0].astype(np.float64) for name, value in values.items()},
    )


def _sums(
    model: LanguageModel, layer: int, unit: int, x: Floats, h: Floats, values: Mapping[str, npt.NDArray[np.floating]]
) -> list[Sum]:
    w = {name: weight.astype(np.float64) for name, weight in layer_weights(model.weights(), layer).items()}
    cell, H, found = CELLS[model.cell], model.hidden_size, []
    none = np.zeros(cell.gates * H)
    b_x, b_h = w.get("bias_ih", none), w.get("bias_hh", none)
    roots = NORMALISED_LSTM.normalise(x[None], h[None], w)[1].ravel() if model.gate_norm else np.ones(cell.gates)
    for k, name in enumerate(cell.value_names[: cell.gates]):  # the squashed sums, as the weights have their rows
        row, root = k * H + unit, roots[k]
        of_x, of_h, inner = w["weight_ih"][row] @ x, w["weight_hh"][row] @ h, b_h[row]
        if name == "n":
            of_h, inner = of_h + inner, 0.0  # inside the product with r
        bias, value = b_x[row] + inner / root, values[name][0, unit]
        found.append(Sum(name, float(bias), float(of_x / root), float(of_h / root), float(value)))
    return found
