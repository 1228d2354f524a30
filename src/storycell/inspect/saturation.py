"""How much of the time gates are open, shut, or in between, after Karpathy, Johnson & Fei-Fei 2015 (arXiv:1506.02078),
figure 2.

For each gate and layer of a `Trace`: the share of steps (characters, or pieces) at which each unit is left-saturated
(below 0.1) and right-saturated (above 0.9). A tanh (the hidden state of an RNN) is saturated below -0.9 and above 0.9.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.inspect.trace import Trace
from storycell.web.names import GATES

LOW, HIGH = 0.1, 0.9
_TANH_LOW = -0.9
_ROWS = 16_384  # steps of one pass; bounds the memory


@dataclass(frozen=True)
class Saturation:
    """One gate of one layer: `left [H]` and `right [H]`, shares of `chars` steps."""

    gate: str
    layer: int
    left: npt.NDArray[np.float64]
    right: npt.NDArray[np.float64]
    chars: int
    low: float  # a unit is left-saturated below this


def saturation(trace: Trace) -> list[Saturation]:
    """Every gate of every layer; of a cell without gates its output, as a tanh."""
    gates = tuple(name for name in GATES if name in trace.names) or (trace.output,)
    found = []
    for layer in range(trace.layers):
        counts = {gate: np.zeros((2, trace.hidden)) for gate in gates}
        lows = {gate: _TANH_LOW if gate == trace.output else LOW for gate in gates}
        for a in range(0, len(trace.ids), _ROWS):
            for gate, values in trace.step_values(layer, slice(a, a + _ROWS), gates).items():
                counts[gate] += [(values < lows[gate]).sum(0), (values > HIGH).sum(0)]
        found += [
            Saturation(gate, layer, left / len(trace.ids), right / len(trace.ids), len(trace.ids), lows[gate])
            for gate, (left, right) in counts.items()
        ]
    return found
