"""Whether the exercises of step 3 are done."""

import math

import numpy as np
import pytest
from step3_lstm import forget_bias, lstm_step, shares

DRAW = np.random.default_rng(3)
H, D = 4, 3
W_X, W_H, B = DRAW.normal(size=(4 * H, D)), DRAW.normal(size=(4 * H, H)), DRAW.normal(size=4 * H)


def test_a_step_is_that_of_the_package() -> None:
    from storycell.engine.cells import CELLS

    x, h, c = DRAW.normal(size=D), DRAW.normal(size=H), DRAW.normal(size=H)
    weights = {"weight_ih": W_X, "weight_hh": W_H, "bias_ih": B}
    expected = CELLS["lstm"].step(x[None], {"h": h[None], "c": c[None]}, weights)
    new_h, new_c = lstm_step(x, h, c, W_X, W_H, B)
    assert np.allclose(new_c, expected["c"][0])
    assert np.allclose(new_h, expected["h"][0])


def test_open_forget_and_shut_input_gates_keep_the_cell_and_an_open_output_gate_shows_it() -> None:
    b = np.repeat([-50.0, 50.0, 0.0, 50.0], H)
    c = np.array([0.5, -1.0, 2.0, 0.0])
    h, kept = lstm_step(np.ones(D), np.zeros(H), c, 0 * W_X, 0 * W_H, b)
    assert kept == pytest.approx(c)
    assert h == pytest.approx(np.tanh(c))


def test_shares_add_up_to_the_cell() -> None:
    i, f, g = DRAW.random(30), DRAW.random(30), DRAW.normal(size=30)
    c = 0.0
    for t in range(30):
        c = f[t] * c + i[t] * g[t]
    assert shares(i, f, g).shape == (30,)
    assert shares(i, f, g).sum() == pytest.approx(c)


def test_a_shut_forget_gate_takes_the_share_of_all_before_it_and_not_its_own() -> None:
    i, g = np.ones(5), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert shares(i, np.array([1.0, 1.0, 0.0, 1.0, 1.0]), g) == pytest.approx([0, 0, 3, 4, 5])
    assert shares(i, np.full(5, 0.5), g) == pytest.approx([1 / 16, 2 / 8, 3 / 4, 4 / 2, 5])


@pytest.mark.parametrize("n", [1, 10, 250])
def test_half_is_left_after_n_characters(n: int) -> None:
    assert (1 / (1 + math.exp(-forget_bias(n)))) ** n == pytest.approx(0.5)
