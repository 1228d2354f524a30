"""One step of one unit: its sums make the gates, and its numbers are those of a trace."""

import math

import numpy as np
import pytest
from test_trace import TEXT, ids_of, network

import storycell
from storycell.engine.cells import weight_shapes
from storycell.engine.inference import EngineNetwork
from storycell.engine.random import draw_weights
from storycell.errors import SettingsError
from storycell.inspect.step import UnitStep, unit_step
from storycell.inspect.trace import trace
from storycell.language_model import LanguageModel
from storycell.nn.adapter import TorchModel
from storycell.types import BOUNDARY

CLOSE = 1e-5  # of float32 sums of a few hundred terms


def drawn(cell: str, embedding: int, ngrams: int = 0, matches: int = 0, gate_norm: bool = False) -> LanguageModel:
    shapes = weight_shapes(20, 12, 2, cell, embedding, True, (64 if ngrams else 0) + matches * 20)
    weights = draw_weights(shapes, cell, 12, 1, -1.0)
    random = np.random.default_rng(1)
    weights = {name: (w + random.normal(0, 0.3, w.shape)).astype(np.float32) for name, w in weights.items()}
    return EngineNetwork(weights, cell, ngrams=ngrams, matches=matches, gate_norm=gate_norm)


def squashed(step: UnitStep, cell: str) -> dict[str, float]:
    found = {}
    for one in step.sums:
        total = one.bias + one.x + one.h * (step.after["r"] if one.name == "n" else 1.0)
        is_tanh = one.name in ("g", "n") or cell == "rnn"
        found[one.name] = math.tanh(total) if is_tanh else 1 / (1 + math.exp(-total))
    return found


@pytest.mark.parametrize(("cell", "gate_norm"), [("lstm", False), ("gru", False), ("rnn", False), ("lstm", True)])
@pytest.mark.parametrize(("embedding", "ngrams", "matches"), [(0, 0, 0), (6, 0, 0), (6, 3, 0), (6, 0, 5), (6, 3, 5)])
def test_the_sums_of_a_step_make_its_gates_and_it_is_a_row_of_the_trace(
    cell: str, gate_norm: bool, embedding: int, ngrams: int, matches: int
) -> None:
    model, ids = drawn(cell, embedding, ngrams, matches, gate_norm), np.array([BOUNDARY, 3, 7, 2, 19, 3, 7, 2])
    vocab = storycell.load("demo").vocab
    path = trace(model, ids, vocab)
    for layer in range(2):
        for unit in (0, 5, 11):
            step = unit_step(model, ids, layer, unit)
            assert [one.name for one in step.sums] == list({"lstm": "ifgo", "gru": "rzn", "rnn": "h"}[cell])
            for name, value in squashed(step, cell).items():
                assert value == pytest.approx(step.after[name], abs=CLOSE)
            for name in path.names:
                assert step.after[name] == pytest.approx(path[name, layer][-1, unit], abs=CLOSE)
                assert np.allclose(step.layer[name], path[name, layer][-1], atol=CLOSE)
            for name, value in step.before.items():
                assert value == pytest.approx(path[name, layer][-2, unit], abs=CLOSE)
            assert np.allclose(step.h, path["h", layer][-2], atol=CLOSE)
            assert step.x.shape == ((12,) if layer else (embedding or 20,))


def test_a_text_begins_with_the_step_of_its_boundary_from_nothing() -> None:
    step = unit_step(drawn("lstm", 6), np.array([BOUNDARY]), 1, 3)
    assert step.before == {"h": 0.0, "c": 0.0}
    assert not step.h.any()
    assert step.after["c"] == pytest.approx(step.after["i"] * step.after["g"], abs=CLOSE)


def test_a_step_of_no_such_unit_or_cell_is_refused() -> None:
    model = drawn("lstm", 6)
    for layer, unit in ((2, 0), (-1, 0), (0, 12), (0, -1)):
        with pytest.raises(SettingsError, match="layers count from 0 to 1, units from 0 to 11"):
            unit_step(model, np.array([BOUNDARY, 3]), layer, unit)
    with pytest.raises(SettingsError, match="a step of a 'mingru' cannot be shown"):
        unit_step(TorchModel(network("mingru")), ids_of(TEXT), 0, 0)


def test_the_python_surface_takes_a_text() -> None:
    model = storycell.load("demo")
    step = model.step("Once upon a", 1, 64)
    path = model.trace("Once upon a")
    assert all(step.after[name] == pytest.approx(path[name, 1][-1, 64], abs=CLOSE) for name in path.names)
