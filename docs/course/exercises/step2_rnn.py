"""Step 2, the vanilla RNN. Fill in, then: python -m pytest docs/course/exercises/test_step2_rnn.py"""

from numpy.typing import NDArray


def rnn_states(W_xh: NDArray, W_hh: NDArray, ids: list[int]) -> NDArray:
    """The hidden state after each of the characters `ids`, from a zero state: `[characters H]`.

    W_xh `[H V]` has a column for every character, W_hh is `[H H]`.
    """
    raise NotImplementedError


def gradient_back(W_hh: NDArray, states: NDArray, d: NDArray) -> NDArray:
    """The gradient with respect to states[0], `[H]`, given `d [H]`, the gradient with respect to states[-1].

    `states [characters H]` are what `rnn_states` gives. No other path leads from the one to the other.
    """
    raise NotImplementedError


def characters_until(factor: float, share: float) -> int:
    """After how many steps, each of which multiplies a gradient by `factor`, less than `share` of it is left.

    Both are between 0 and 1.
    """
    raise NotImplementedError
