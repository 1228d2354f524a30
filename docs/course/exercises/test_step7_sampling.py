"""Whether the exercises of step 7 are done."""

import numpy as np
import pytest
from step7_sampling import draw, min_p, with_temperature


def test_temperature_one_is_softmax() -> None:
    assert with_temperature(np.log([0.5, 0.3, 0.2]), 1.0) == pytest.approx([0.5, 0.3, 0.2])


def test_half_the_temperature_squares_the_odds() -> None:
    p = with_temperature(np.log([0.6, 0.4]), 0.5)
    assert p[0] / p[1] == pytest.approx((0.6 / 0.4) ** 2)
    assert p.sum() == pytest.approx(1)


def test_large_logits_do_no_harm() -> None:
    assert with_temperature(np.array([1000.0, 1000.0, -1000.0]), 0.1) == pytest.approx([0.5, 0.5, 0.0])


def test_what_is_less_likely_than_a_share_of_the_likeliest_is_cut() -> None:
    p = np.array([0.5, 0.3, 0.15, 0.05])
    assert min_p(p, 0.2) == pytest.approx(np.array([0.5, 0.3, 0.15, 0.0]) / 0.95)
    assert min_p(p, 0.0) == pytest.approx(p)
    assert min_p(p, 1.0) == pytest.approx([1, 0, 0, 0])


def test_a_number_stands_for_the_character_within_whose_stretch_it_lies() -> None:
    p = np.array([0.25, 0.0, 0.5, 0.25])
    assert [draw(p, u) for u in (0.0, 0.2, 0.25, 0.7, 0.75, 0.999)] == [0, 0, 2, 2, 3, 3]


def test_many_draws_are_as_frequent_as_they_are_probable() -> None:
    p = np.array([0.1, 0.6, 0.3])
    drawn = [draw(p, (k + 0.5) / 1000) for k in range(1000)]
    assert np.bincount(drawn, minlength=3) == pytest.approx(1000 * p, abs=1)
