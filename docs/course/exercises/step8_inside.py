"""Step 8, looking inside. Fill in, then: python -m pytest docs/course/exercises/test_step8_inside.py"""

from numpy.typing import NDArray


def auc(values: NDArray, yes: NDArray) -> float:
    """The probability that a unit is higher at a random yes than at a random no; equal values count one half.

    `values [T]` are the unit's, `yes [T]` booleans, of which some are True and some are False.
    """
    raise NotImplementedError


def saturated(gate: NDArray) -> tuple[NDArray, NDArray]:
    """(share of time below 0.1, share of time above 0.9) of every unit, both `[H]`, for a gate `[T H]`."""
    raise NotImplementedError


def difference_of_means(h: NDArray, yes: NDArray) -> NDArray:
    """The mean of h `[T H]` at the characters of `yes [T]` minus its mean at the others: a direction `[H]`."""
    raise NotImplementedError
