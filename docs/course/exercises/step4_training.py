"""Step 4, training. Fill in, then: python -m pytest docs/course/exercises/test_step4_training.py"""

from numpy.typing import NDArray


def largest_rate(steepness: list[float]) -> float:
    """The learning rate above which gradient descent does not come down to 0 in all of the weights.

    The loss is half the sum of steepness[k] * w[k]^2; every steepness is positive.
    """
    raise NotImplementedError


def adam_step(
    w: NDArray, gradient: NDArray, mean: NDArray, square: NDArray, n: int, rate: float
) -> tuple[NDArray, NDArray, NDArray]:
    """(w, mean, square) after step number n = 1, 2, ... of Adam with the means' factors 0.9 and 0.999 and epsilon 1e-8.

    The arrays that are given are not changed.
    """
    raise NotImplementedError


def clip(gradients: list[NDArray], limit: float) -> list[NDArray]:
    """The gradients of all weight matrices, scaled down together where their joint norm is above the limit.

    The joint norm is the root of the sum of the squares of all their numbers.
    """
    raise NotImplementedError
