"""Whether the exercises of step 8 are done."""

import numpy as np
import pytest
from step8_inside import auc, difference_of_means, saturated

DRAW = np.random.default_rng(8)


def test_a_perfect_unit_has_1_a_reversed_one_0_and_a_constant_one_a_half() -> None:
    yes = np.array([False, True, True, False])
    assert auc(np.array([0.1, 0.9, 0.8, 0.2]), yes) == 1
    assert auc(np.array([0.9, 0.1, 0.2, 0.8]), yes) == 0
    assert auc(np.zeros(4), yes) == 0.5


def test_one_pair_in_four_the_wrong_way_round() -> None:
    assert auc(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True])) == 0.75


def test_any_increasing_function_of_a_unit_tells_as_much() -> None:
    values, yes = DRAW.normal(size=80), DRAW.random(80) < 0.3
    assert auc(np.exp(values), yes) == pytest.approx(auc(values, yes))
    assert auc(-values, yes) == pytest.approx(1 - auc(values, yes))


def test_shares_of_time() -> None:
    shut, opened = saturated(np.array([[0.05, 0.5], [0.95, 0.5], [0.01, 0.99], [0.5, 0.91]]))
    assert shut == pytest.approx([0.5, 0])
    assert opened == pytest.approx([0.25, 0.5])


def test_adding_the_difference_moves_the_mean_of_no_to_that_of_yes() -> None:
    h, yes = DRAW.normal(size=(60, 5)), DRAW.random(60) < 0.5
    assert h[~yes].mean(axis=0) + difference_of_means(h, yes) == pytest.approx(h[yes].mean(axis=0))
