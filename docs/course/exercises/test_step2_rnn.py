"""Whether the exercises of step 2 are done."""

import numpy as np
import pytest
from step2_rnn import characters_until, gradient_back, rnn_states

DRAW = np.random.default_rng(2)
W_XH, W_HH = DRAW.normal(size=(5, 3)), 0.6 * DRAW.normal(size=(5, 5))
IDS = [0, 2, 1, 1, 0, 2, 2]


def test_states_of_a_network_without_recurrence_follow_the_character_alone() -> None:
    states = rnn_states(W_XH, np.zeros((5, 5)), IDS)
    assert states.shape == (7, 5)
    assert np.allclose(states, np.tanh(W_XH.T[IDS]))


def test_states_are_those_of_the_package() -> None:
    from storycell.engine.cells import CELLS

    state, expected = {"h": np.zeros((1, 5))}, []
    for k in IDS:
        state = CELLS["rnn"].step(np.eye(3)[[k]], state, {"weight_ih": W_XH, "weight_hh": W_HH})
        expected.append(state["h"][0])
    assert np.allclose(rnn_states(W_XH, W_HH, IDS), expected)


def _states(first: np.ndarray) -> np.ndarray:
    states = [first]
    for k in IDS[1:]:
        states.append(np.tanh(W_XH[:, k] + W_HH @ states[-1]))
    return np.array(states)


def test_the_gradient_is_what_nudging_the_first_state_does() -> None:
    first, d = np.tanh(W_XH[:, 0]), DRAW.normal(size=5)
    nudged = [d @ (_states(first + n)[-1] - _states(first - n)[-1]) / 2e-6 for n in 1e-6 * np.eye(5)]
    assert gradient_back(W_HH, _states(first), d) == pytest.approx(np.array(nudged), abs=1e-7)


def test_the_gradient_with_respect_to_the_last_state_itself_is_unchanged() -> None:
    d = DRAW.normal(size=5)
    assert np.array_equal(gradient_back(W_HH, np.zeros((1, 5)), d), d)


def test_a_half_is_under_a_tenth_after_four_steps_and_nine_tenths_after_22() -> None:
    assert characters_until(0.5, 0.1) == 4
    assert characters_until(0.9, 0.1) == 22
    assert characters_until(0.5, 0.5) == 2
