"""Steering: a direction is a difference of means, and more of it makes its answer likelier; random ones do not."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from support.tiny_runs import command
from test_inspection import stories, text_ids

import storycell
from storycell.data.stories import corpus
from storycell.errors import SettingsError
from storycell.inspect import pairs
from storycell.inspect.features import inside_quotes
from storycell.inspect.latch import LATCH, wire_by_hand
from storycell.inspect.steering import Direction, direction, dose_curve
from storycell.inspect.trace import trace

ROUNDING = 1e-5  # means of float32


def test_a_direction_is_the_difference_of_the_means() -> None:
    texts = stories(20)
    model, vocab = wire_by_hand("".join(texts))
    path = trace(model, text_ids(texts, vocab), vocab)
    inside = inside_quotes(path.text) > 0
    found = direction(path, "inside quotes, not outside")
    h = path["h", 0].astype(np.float64)
    assert np.abs(found.vector - (h[inside].mean(0) - h[~inside].mean(0))).max() < ROUNDING
    assert abs(found.vector[LATCH] - 2 * 0.7616) < 0.05  # from tanh(-1) outside to tanh(1) inside
    own = direction(path, (inside, ~inside), layer=0)
    assert np.array_equal(own.vector, found.vector)
    with pytest.raises(SettingsError, match="too few"):
        direction(path, "she, not he")
    with pytest.raises(SettingsError, match="there is no direction 'x'"):
        direction(path, "x")


def test_the_wired_latch_is_steered_into_quotations_and_by_nothing_random() -> None:
    """Its own direction, on prompts in which no quote is open, makes a quote all it expects; nothing else does."""
    given = [pair for pair in pairs.pairs(pairs.QUOTED, 40) if '"' not in pair.base]
    model, vocab = wire_by_hand("".join(pair.base + pair.then for pair in given) + '"')
    pushed = np.zeros(4)
    pushed[1] = 1.5  # the unit that says that a quote may close
    curve = dose_curve(model, vocab, Direction("may close", 0, pushed), given, doses=(0.0, 1.0))
    assert curve.shares[0] < 0.01
    assert curve.shares[1] > 0.99
    null = dose_curve(model, vocab, Direction("nothing", 0, np.array([0.0, 0.0, 0.0, 1e-3])), given, doses=(0.0, 1.0))
    assert abs(null.shares[1] - null.shares[0]) < 1e-3
    assert abs(np.linalg.norm(curve.direction.random(3).vector) - 1.5) < 1e-9


def test_the_shipped_model_is_steered_from_he_to_she() -> None:
    model = storycell.load("demo")
    path = model.trace("<|endoftext|>\n".join(islice(corpus.generate(4), 40)))
    curve = dose_curve(model.network, model.vocab, direction(path, "she, not he"), pairs.pairs("she or he", 8))
    assert (np.diff(curve.shares) > 0).all()  # the more, the likelier
    plain = curve.shares[curve.doses.index(0.0)]
    assert curve.shares[-1] > 0.5 > plain
    assert np.abs(curve.random - plain).max() < (curve.shares[-1] - plain) / 2


def test_a_saved_direction_steers_from_the_command_line_as_from_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = storycell.load("demo")
    text = "<|endoftext|>\n".join(islice(corpus.generate(4), 10))
    along, file = model.direction(text, "she, not he"), tmp_path / "she.json"
    along.save(file)
    loaded = Direction.load(file)
    assert (loaded.layer, loaded.about) == (1, "she, not he")
    assert np.array_equal(loaded.vector, along.vector)
    plain = model.generate("One day,", chars=120, seed=3)
    steered = model.steer(along, 3.0).generate("One day,", chars=120, seed=3)
    assert steered != plain
    assert model.steer(file, 0.0).generate("One day,", chars=120, seed=3) == plain
    given = ["sample", "demo", "One day,", "--chars", "120", "--seed", "3", "--json"]
    assert json.loads(command(capsys, *given, "--steer", f"{file}:3.0").out)["text"] == steered
    once = model.steer(along).generate("One day,", chars=120, seed=3)
    assert json.loads(command(capsys, *given, "--steer", file).out)["text"] == once
    command(capsys, *given, "--steer", f"{file}:much").stated(2, "'much' is no dose")
    command(capsys, *given, "--steer", f"{tmp_path / 'no.json'}:1").stated(2, "no.json", "Direction.save")
    for wrong in ("{", "[]", '{"format": "x"}', '{"format": "storycell direction 1", "layer": 0, "vector": ["a"]}'):
        (tmp_path / "wrong.json").write_text(wrong)
        command(capsys, *given, "--steer", tmp_path / "wrong.json").stated(2, "is no direction")
    Direction("short", 0, np.ones(3)).save(tmp_path / "short.json")
    command(capsys, *given, "--steer", tmp_path / "short.json").stated(2, f"{model.network.hidden_size} finite numbers")
