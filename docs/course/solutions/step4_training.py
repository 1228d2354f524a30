"""Solutions of step 4."""

import numpy as np
from numpy.typing import NDArray


def largest_rate(steepness: list[float]) -> float:
    return 2 / max(steepness)


def adam_step(
    w: NDArray, gradient: NDArray, mean: NDArray, square: NDArray, n: int, rate: float
) -> tuple[NDArray, NDArray, NDArray]:
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    step = (mean / (1 - 0.9**n)) / (np.sqrt(square / (1 - 0.999**n)) + 1e-8)
    return w - rate * step, mean, square


def clip(gradients: list[NDArray], limit: float) -> list[NDArray]:
    norm = float(np.sqrt(sum((g**2).sum() for g in gradients)))
    return [g * min(1.0, limit / norm) if norm else g for g in gradients]
