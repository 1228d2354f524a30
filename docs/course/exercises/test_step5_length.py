"""Whether the exercises of step 5 are done."""

import numpy as np
import pytest
from step5_length import chunks, parameters, reach


def test_rows_go_on_where_they_ended_and_targets_are_the_next_characters() -> None:
    steps = chunks(np.arange(50), streams=3, chunk=4)
    assert len(steps) == 4
    assert all(x.shape == y.shape == (3, 4) for x, y in steps)
    rows = np.concatenate([x for x, _ in steps], axis=1)
    assert np.array_equal(rows, [np.arange(16), np.arange(16, 32), np.arange(32, 48)])
    assert all(np.array_equal(y, x + 1) for x, y in steps)


def test_the_last_character_is_a_target_and_no_input() -> None:
    assert len(chunks(np.arange(8), streams=2, chunk=4)) == 0
    ((x, y),) = chunks(np.arange(9), streams=2, chunk=4)
    assert x.max() == 7
    assert y.max() == 8


def test_a_gradient_stops_at_the_beginning_of_its_chunk() -> None:
    assert [reach(place, 4) for place in range(9)] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert np.mean([reach(place, 32) for place in range(320)]) == 15.5


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_parameters_are_those_of_the_package(layers: int) -> None:
    from storycell.config import ModelSettings
    from storycell.runs.network import new_model

    settings = ModelSettings(cell="lstm", layers=layers, hidden=24, embedding=0, gate_bias=False)
    assert parameters(31, 24, layers) == sum(w.size for w in new_model(31, settings).weights().values())
