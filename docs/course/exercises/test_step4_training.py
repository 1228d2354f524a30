"""Whether the exercises of step 4 are done."""

import numpy as np
import pytest
from step4_training import adam_step, clip, largest_rate


@pytest.mark.parametrize("steepness", [[100.0, 1.0], [0.5], [3.0, 7.0, 2.0]])
def test_below_the_largest_rate_descent_arrives_and_above_it_leaves(steepness: list[float]) -> None:
    rate, s = largest_rate(steepness), np.array(steepness)
    below, above = np.ones(len(s)), np.ones(len(s))
    for _ in range(2000):
        below, above = below - 0.99 * rate * s * below, above - 1.01 * rate * s * above
    assert np.abs(below).max() < 0.01
    assert np.abs(above).max() > 100


def test_the_first_step_of_adam_is_the_rate_whatever_the_gradient() -> None:
    zero = np.zeros(3)
    w, _, _ = adam_step(np.ones(3), np.array([1e-3, -20.0, 4.0]), zero, zero, 1, 0.05)
    assert w == pytest.approx([0.95, 1.05, 0.95], abs=1e-4)


def test_three_steps_of_adam_are_those_of_the_page() -> None:
    w, mean, square = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2)
    before = w.copy()
    for n in (1, 2, 3):
        w, mean, square = adam_step(w, np.array([100.0, 1.0]) * w, mean, square, n, 0.05)
    assert np.array_equal(before, [1.0, 1.0])
    assert w == pytest.approx([0.850312, 0.850312], abs=1e-5)


def test_a_long_gradient_is_shortened_and_keeps_its_direction() -> None:
    one, two = clip([np.array([[3.0, 0.0]]), np.array([4.0])], 1.0)
    assert one == pytest.approx(np.array([[0.6, 0.0]]))
    assert two == pytest.approx(np.array([0.8]))


def test_a_short_gradient_is_left_alone() -> None:
    (same,) = clip([np.array([0.3, -0.4])], 1.0)
    assert same == pytest.approx([0.3, -0.4])
    (zero,) = clip([np.zeros(2)], 1.0)
    assert np.array_equal(zero, np.zeros(2))
