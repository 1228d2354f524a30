"""Solutions of step 2."""

import numpy as np
from numpy.typing import NDArray


def rnn_states(W_xh: NDArray, W_hh: NDArray, ids: list[int]) -> NDArray:
    h, states = np.zeros(len(W_hh)), []
    for k in ids:
        h = np.tanh(W_xh[:, k] + W_hh @ h)
        states.append(h)
    return np.array(states)


def gradient_back(W_hh: NDArray, states: NDArray, d: NDArray) -> NDArray:
    for h in states[:0:-1]:
        d = W_hh.T @ ((1 - h**2) * d)
    return d


def characters_until(factor: float, share: float) -> int:
    steps, remaining = 0, 1.0
    while remaining >= share:
        steps, remaining = steps + 1, remaining * factor
    return steps
