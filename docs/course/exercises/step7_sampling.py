"""Step 7, sampling. Fill in, then: python -m pytest docs/course/exercises/test_step7_sampling.py"""

from numpy.typing import NDArray


def with_temperature(logits: NDArray, T: float) -> NDArray:
    """The probabilities `[V]` of logits `[V]` at a temperature above 0; logits of a thousand must do no harm."""
    raise NotImplementedError


def min_p(probabilities: NDArray, share: float) -> NDArray:
    """The probabilities with 0 in place of those below `share` times the largest, adding up to 1 again."""
    raise NotImplementedError


def draw(probabilities: NDArray, u: float) -> int:
    """The character that u stands for, which is at least 0 and below 1.

    From 0 to p0 it is character 0, from there to p0 + p1 character 1, and so on.
    """
    raise NotImplementedError
