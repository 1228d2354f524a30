"""A machine that fails a training: numbers that are none, folders without rights, a full disk, a clock that jumps.

Each ends in one sentence, nothing that had been saved is lost, and the next step works.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.forked_training import Ended, Nursery, one_sentence
from test_resume import assert_equal_runs

import storycell
from storycell.data import corpus, prepare
from storycell.errors import CorpusError
from storycell.nn.adapter import TorchModel
from storycell.runs.folder import RunFolder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the trainings are forked")

STEPS = 40
NETWORK = ["--hidden=24", "--embedding=5", "--streams=4", "--chunk=16", "--threads=1"]
FLAGS = [*NETWORK, f"--steps={STEPS}", "--evaluations=2", "--save-every=0.02"]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with pytest.MonkeyPatch.context() as patch, Nursery() as made:
        patch.setenv("STORYCELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield made


def story_file(folder: Path) -> Path:
    path = folder / "small.txt"
    stories = [f"Once upon a time {'Ann' if k % 3 else 'Ben'} had {k * k} red balls.\n" for k in range(120)]
    path.write_text("<|endoftext|>\n".join(stories))
    return path


def weights_are_finite(run: Path) -> bool:
    lm = storycell.load(run).lm
    state, _ = RunFolder(run).load_last(lm.shapes())
    return all(bool(np.isfinite(array).all()) for array in [*TorchModel(lm).weights().values(), *state.values()])


def test_a_few_steps_that_are_not_finite_are_left_out(nursery: Nursery, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = nursery.run("train", story_file(tmp_path), "--out", run, *FLAGS, within=run, nan_from=12, nan_to=15)
    assert ended.code == 0, ended.said
    assert weights_are_finite(run)
    last = RunFolder(run).metrics()[-1]
    assert last["skipped"] == 3
    assert math.isfinite(last["train_nats"])
    assert "NaN" not in (run / "metrics.jsonl").read_text()


def test_a_loss_that_stays_not_finite_ends_in_a_sentence_and_nothing_saved_is_lost(
    nursery: Nursery, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["train", story_file(tmp_path), "--out", run, *FLAGS, "--steps=4000"]
    message = one_sentence(nursery.run(*words, within=run, nan_from=2000, nan_to=1 << 30))
    assert "not finite" in message
    assert weights_are_finite(run)
    position = RunFolder(run).load_last(storycell.load(run).lm.shapes())[1]["position"]
    assert position["step"] > 10
    ended = nursery.run("train", "--resume", run, "--steps", position["step"] + 5, within=run)  # on a sound machine
    assert ended.code == 0, ended.said
    assert weights_are_finite(run)


@pytest.fixture
def guarded(nursery: Nursery, tmp_path: Path) -> Iterator[Path]:
    """A folder that may be read only, with a run and its text in it."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    run = folder / "run"
    assert nursery.run("train", story_file(folder), "--out", run, *FLAGS, within=run).code == 0
    for path in (folder, run):
        path.chmod(0o555)
    for path in run.iterdir():
        path.chmod(0o444)
    try:
        yield folder
    finally:
        for path in (folder, run):
            path.chmod(0o755)


def test_a_read_only_folder_is_named_and_its_run_is_still_read(nursery: Nursery, guarded: Path, tmp_path: Path) -> None:
    """Really without rights: a child of root gives them up."""
    folder, run = guarded, guarded / "run"

    def child(*words: object) -> Ended:
        return nursery.run(*words, within=tmp_path / "run", obeys_modes=1)

    before = {path: path.read_bytes() for path in run.iterdir()}
    resumed = one_sentence(child("train", "--resume", run, "--steps", STEPS + 5))
    assert f"{run} cannot be written: permission denied" in resumed
    new = one_sentence(child("train", folder / "small.txt", "--out", folder / "new", *FLAGS))
    assert "permission denied" in new
    assert str(folder) in new or "STORYCELL_CACHE" in new or "cache" in new
    prepared = one_sentence(child("prepare", folder / "small.txt", "--out", folder / "tokens"))
    assert f"{folder / 'tokens'} cannot be written: Permission denied" in prepared
    sampled = child("sample", run, "--chars", 5, "--seed", 1)
    assert sampled.code == 0, sampled.said
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    shutil.copytree(run, tmp_path / "mine")
    for path in (tmp_path / "mine", *(tmp_path / "mine").iterdir()):
        path.chmod(0o755)
    ended = nursery.run("train", "--resume", tmp_path / "mine", "--steps", STEPS + 5, within=tmp_path / "mine")
    assert ended.code == 0, ended.said


ON_A_DISK_OF_ITS_OWN = """
size=$1; disk=$2; kept=$3; shift 3
mount -t tmpfs -o size="$size" none "$disk" || exit 99
"$@"
code=$?
cp -r "$disk/run" "$kept"
exit $code
"""


def test_a_disk_that_is_full_in_the_middle_of_a_save_loses_nothing(nursery: Nursery, tmp_path: Path) -> None:
    """A real disk, in memory, with room for the folder and for half of another `last.safetensors`."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this user may not mount a file system of its own")
    whole, disk, kept = tmp_path / "whole", tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    text = story_file(tmp_path)
    wide = [*FLAGS, "--hidden=64", "--save-every=0.001"]
    assert nursery.run("train", text, "--out", whole, *wide, within=whole).code == 0
    sizes = {path.name: path.stat().st_size for path in whole.iterdir()}
    made = sum(sizes[name] for name in ("config.json", "vocab.json", "model.safetensors", "last.safetensors"))
    room = made + sizes["last.safetensors"] // 2
    words = [sys.executable, "-m", "storycell", "train", text, "--out", disk / "run", *wide]
    script = ["unshare", "-rm", "sh", "-c", ON_A_DISK_OF_ITS_OWN, "sh", room, disk, kept, *words]
    done = subprocess.run([*map(str, script)], capture_output=True, check=False)
    said = done.stderr.decode()
    if done.returncode == 99:
        pytest.skip("this user may not mount a file system of its own")
    assert "cannot be written: no space left on device" in one_sentence(Ended(done.returncode, said))
    assert not list(kept.glob(".*.part"))
    assert RunFolder(kept).load_last(storycell.load(kept).lm.shapes())[1]["position"]["step"] < STEPS
    ended = nursery.run("train", "--resume", kept, within=kept)
    assert ended.code == 0, ended.said
    assert_equal_runs(kept, whole)


def test_a_budget_in_minutes_does_not_follow_a_clock_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years forward and back at every look at the wall clock: the budget is spent as if nobody had touched it."""
    now = [1.7e9]

    def jumping() -> float:
        now[0] += 3e7 if len(now) % 2 else -6e7
        return now[0]

    monkeypatch.setattr(time, "time", jumping)
    began = time.monotonic()
    settings = {"hidden": 8, "embedding": 4, "streams": 4, "chunk": 16, "evaluations": 1, "threads": 1}
    run = storycell.train(story_file(tmp_path), out=tmp_path / "run", minutes=0.02, **settings)
    assert 1.2 <= run.summary["elapsed_s"] < time.monotonic() - began
    elapsed = [entry["elapsed_s"] for entry in RunFolder(run.path).metrics()]
    assert elapsed == sorted(elapsed)


@pytest.mark.parametrize("change", ["longer", "shorter", "replaced"])
def test_a_text_that_changes_while_it_is_prepared_is_refused(tmp_path: Path, change: str) -> None:
    """The hash would be that of the old text, and the cache would give the new one for it."""
    text = story_file(tmp_path)
    old = text.read_bytes() + change.encode()
    new = {"longer": old + b"More.\n", "shorter": old[:-5], "replaced": old.replace(b"Ann", b"Eve")}[change]
    changed = list[int]()

    def progress(what: str, done: int, total: int) -> None:
        if what == "counting characters" and not changed:
            changed.append(1)
            text.write_bytes(new)

    for make in (lambda **more: prepare.prepare(corpus.open_corpus([str(text)]), tmp_path / "out", **more),
                 lambda **more: prepare.prepare_cached(corpus.open_corpus([str(text)]), **more)):  # fmt: skip
        text.write_bytes(old)
        changed.clear()
        with pytest.raises(CorpusError, match=r"small\.txt was changed while it was read"):
            make(progress=progress)
        assert not (tmp_path / "out").exists()
    again = prepare.prepare_cached(corpus.open_corpus([str(text)]))
    assert again.train.utf8_bytes + (again.valid.utf8_bytes if again.valid else 0) < len(new)


def test_the_log_of_a_sick_run_is_still_json(nursery: Nursery, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", story_file(tmp_path), "--out", run, *FLAGS, "--steps=8", "--json"]
    ended = nursery.run(*words, within=run, nan_from=1, nan_to=7)
    assert ended.code == 0, ended.said
    summary = json.loads(ended.said.splitlines()[-1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert summary["skipped"] == 6
    assert torch.isfinite(torch.tensor(summary["valid_nats"]))
