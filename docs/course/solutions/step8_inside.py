"""Solutions of step 8."""

import numpy as np
from numpy.typing import NDArray


def auc(values: NDArray, yes: NDArray) -> float:
    a, b = values[yes][:, None], values[~yes][None]
    return float(np.mean((a > b) + 0.5 * (a == b)))


def saturated(gate: NDArray) -> tuple[NDArray, NDArray]:
    return (gate < 0.1).mean(axis=0), (gate > 0.9).mean(axis=0)


def difference_of_means(h: NDArray, yes: NDArray) -> NDArray:
    return h[yes].mean(axis=0) - h[~yes].mean(axis=0)
