"""Step 3, the LSTM gate by gate. Fill in, then: python -m pytest docs/course/exercises/test_step3_lstm.py"""

from numpy.typing import NDArray


def lstm_step(x: NDArray, h: NDArray, c: NDArray, W_x: NDArray, W_h: NDArray, b: NDArray) -> tuple[NDArray, NDArray]:
    """(h, c) after a character x `[D]`, given those before it, `[H]`.

    W_x `[4H D]`, W_h `[4H H]` and b `[4H]` are stacked in the order i f g o.
    """
    raise NotImplementedError


def shares(i: NDArray, f: NDArray, g: NDArray) -> NDArray:
    """What each of T characters has in the cell after the last of them, `[T]`: its sum is the cell state.

    i, f and g `[T]` are one unit's; the cell began at 0.
    """
    raise NotImplementedError


def forget_bias(n: float) -> float:
    """The bias of a forget gate that sees nothing else and keeps half of a memory for n characters."""
    raise NotImplementedError
