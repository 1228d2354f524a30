"""Means with standard errors over draws that are not single characters: stories, windows, blocks of a text."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def mean_and_stderr(
    sums: Sequence[float] | npt.NDArray[np.float64], counts: Sequence[int] | npt.NDArray[np.int64]
) -> tuple[float, float]:
    """The mean of what `sums` sum up, `counts` at a time, and its standard error: nan where there is one sum only.

    The error is that of a ratio of sums (Cochran 1977, "Sampling Techniques", chapter 6).
    """
    total, n = int(sum(counts)), len(sums)
    mean = math.fsum(sums) / total
    residuals = np.array(sums) - mean * np.array(counts)
    return mean, math.sqrt(n / (n - 1) * float(residuals @ residuals)) / total if n > 1 else math.nan


def clustered_mean(values: npt.NDArray[np.floating], groups: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The mean of values `[n]` and its standard error over the groups that their numbers, from 0, put them in."""
    sums, counts = np.bincount(groups, weights=values), np.bincount(groups)
    return mean_and_stderr(sums[counts > 0].tolist(), counts[counts > 0].tolist())
