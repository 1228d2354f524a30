"""Solutions of step 7."""

import numpy as np
from numpy.typing import NDArray


def with_temperature(logits: NDArray, T: float) -> NDArray:
    p = np.exp((logits - logits.max()) / T)
    return p / p.sum()


def min_p(probabilities: NDArray, share: float) -> NDArray:
    kept = np.where(probabilities >= share * probabilities.max(), probabilities, 0.0)
    return kept / kept.sum()


def draw(probabilities: NDArray, u: float) -> int:
    return int(np.searchsorted(np.cumsum(probabilities), u, side="right"))
