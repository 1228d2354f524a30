"""A run that an older version made: tests/golden/older-run, cut at step 20 of 24, and what that version made of it.

Its table held n-grams alone and was called `ngram_table`, and its settings say nothing of matches. `expected.json` has
the nats of a story before and after the rest of the training.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from support.instruction_sets import needs_kernel

import storycell
from storycell.context import TABLE, Context
from storycell.runs.folder import RunFolder
from storycell.runs.network import load_run

MADE = Path(__file__).parents[1] / "golden" / "older-run"
EXPECTED = json.loads((MADE / "expected.json").read_text(encoding="utf-8"))
TEXT = (MADE / "text.txt").read_text(encoding="utf-8")
STORY = TEXT.split("<|endoftext|>\n")[1]
FILES = ("model.safetensors", "last.safetensors", "checkpoints/step-0.safetensors", "checkpoints/step-16.safetensors")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MADE, tmp_path / "run"))


def test_it_is_what_an_older_version_writes() -> None:
    for name in FILES:
        names = safetensors.numpy.load_file(MADE / name).keys()
        assert any("ngram_table." in name for name in names)
        assert not any("context_table" in name for name in names)
    model = json.loads((MADE / "config.json").read_text(encoding="utf-8"))["settings"]["model"]
    assert "matches" not in model


@needs_kernel
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_it_opens_and_reads_a_text_as_it_did(backend: str, run: Path) -> None:
    network = load_run(run, backend=backend).network
    assert network.context == Context(3, 40, 0, network.vocab_size)
    model = storycell.load(run)
    ids = np.concatenate([[0], model.vocab.prompt_ids(STORY)[0], [0]])[None]
    nats = network.nats(ids[:, :-1], ids[:, 1:])[0][0]
    assert nats[: len(EXPECTED["nats"])] == pytest.approx(EXPECTED["nats"], abs=1e-4)
    assert model.score(STORY) == pytest.approx(EXPECTED["nats"], abs=1e-4)
    assert model.evaluate(STORY).loss_nats == pytest.approx(EXPECTED["evaluated"], abs=1e-4)


@needs_kernel
def test_its_training_goes_on_from_all_that_was_saved(run: Path) -> None:
    shapes = {name: weight.shape for name, weight in load_run(run).network.weights().items()}
    state, _ = RunFolder(run).load_last(shapes)
    assert {f"optimizer.{TABLE}.sum", "state.past", f"average.{TABLE}", f"model.{TABLE}"} <= state.keys()
    assert not any("ngram_table" in name for name in state)
    text = run / "text.txt"
    storycell.resume(run, text=text)
    assert storycell.load(run).score(STORY) == pytest.approx(EXPECTED["resumed_nats"], abs=5e-4)
    now = safetensors.numpy.load_file(run / "last.safetensors")
    assert {name for name in state if not name.startswith("good.")} == now.keys()
    assert RunFolder(run).config().settings.model.matches == 0


def test_its_checkpoints_open(run: Path) -> None:
    network = load_run(run).network
    shapes = {name: weight.shape for name, weight in network.weights().items()}
    folder = RunFolder(run)
    first, later = (folder.load_checkpoint(step, shapes) for step in (0, 16))
    assert not first[TABLE].any()
    assert later[TABLE].any()


def test_another_run_starts_from_it(run: Path, tmp_path: Path) -> None:
    small = {"steps": 1, "lr": 1e-9, "streams": 4, "chunk": 8, "evaluations": 1, "threads": 1, "average": 0.0}
    made = storycell.train(run / "text.txt", out=tmp_path / "next", init=run, **small).path
    table = load_run(run).network.weights()[TABLE]
    assert np.abs(load_run(made).network.weights()[TABLE] - table).max() < 1e-4
    assert np.abs(table).max() > 1e-2
