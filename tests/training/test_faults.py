"""Whatever happens to a training, at whatever moment: it goes on, and ends as if nothing had happened, to the bit."""

import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.forked_training import Nursery, kill, one_sentence
from test_resume import assert_equal_runs

import storycell
from storycell.runs.folder import RunFolder

pytestmark = pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="the trainings are forked")

KILLS = 10
SOAK_KILLS = 100
STEPS = 250
LONGEST_S = 0.4  # a kill comes at a random moment up to that
NETWORK = ["--hidden=12", "--embedding=5", "--layers=2", "--dropout=0.1", "--streams=4", "--chunk=16", "--threads=1"]
FLAGS = [*NETWORK, f"--steps={STEPS}", "--evaluations=2", "--save-every=0.02"]
OPERATIONS = 60  # on the disk, that a kill may come before: the making of the folder, and some saves


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with pytest.MonkeyPatch.context() as patch, Nursery() as made:
        patch.setenv("STORYCELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield made


@pytest.fixture(scope="module")
def undisturbed(nursery: Nursery, training_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    ended = nursery.run("train", training_text, "--out", run, *FLAGS, within=run)
    assert ended.code == 0, ended.said
    return run


def words_for(run: Path, training_text: Path) -> list[object]:
    """What begins a run, or goes on with it."""
    return ["train", "--resume", run] if run.exists() else ["train", training_text, "--out", run, *FLAGS]


def killed_again_and_again(nursery: Nursery, training_text: Path, undisturbed: Path, folder: Path, kills: int) -> None:
    """Kill at random moments and at random disk operations, by turns; compare every run that comes to its end."""
    chance, survived = random.Random(kills), 0
    run = folder / "run0"
    while survived < kills or not run.exists():
        words = words_for(run, training_text)
        if survived % 2 and survived < kills:
            ended = nursery.run(*words, within=run, kill_at=chance.randrange(1, OPERATIONS))
        else:
            pid = nursery.start(*words, within=run)
            if survived < kills:
                time.sleep(chance.random() * LONGEST_S)
                kill(pid, signal.SIGKILL)
            ended = nursery.wait()
        assert ended.code in (0, -signal.SIGKILL), ended.said
        if ended.code:
            survived += 1
            if run.exists():
                assert storycell.load(run).generate("", chars=3) is not None
                RunFolder(run).load_last(storycell.load(run).lm.shapes())
        else:
            assert_equal_runs(run, undisturbed)
            if survived < kills:
                run = folder / f"run{survived}"
    ended = nursery.run("train", "--resume", run, within=run)
    assert ended.code == 0, ended.said
    assert_equal_runs(run, undisturbed)
    assert not [p for p in run.iterdir() if p.name.endswith(".part")]


def test_killed_at_any_moment_a_run_ends_equal_to_one_that_was_not(
    nursery: Nursery, training_text: Path, undisturbed: Path, tmp_path: Path
) -> None:
    killed_again_and_again(nursery, training_text, undisturbed, tmp_path, KILLS)


@pytest.mark.soak
def test_killed_a_hundred_times_runs_end_equal_to_one_that_was_not(
    nursery: Nursery, training_text: Path, undisturbed: Path, tmp_path: Path
) -> None:
    killed_again_and_again(nursery, training_text, undisturbed, tmp_path, SOAK_KILLS)


@pytest.mark.parametrize("seed", range(2))
def test_a_disk_that_fills_up_anywhere_loses_nothing(
    nursery: Nursery, training_text: Path, undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    """A limit on the size of a file is hit in another file, or never, from one size to the next."""
    run = tmp_path / "run"
    largest = max(p.stat().st_size for p in undisturbed.iterdir())
    limit = round(300 * (largest / 300) ** ((seed + random.Random(seed).random()) / 2))
    full = nursery.run("train", training_text, "--out", run, *FLAGS, within=run, file_bytes=limit)
    assert "file too large" in one_sentence(full)
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.glob(".run*"))
    ended = nursery.run(*words_for(run, training_text), within=run)
    assert ended.code == 0, ended.said
    assert_equal_runs(run, undisturbed)


def test_polite_stops_at_any_moment_end_equal(
    nursery: Nursery, training_text: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """As a scheduler stops a job, or a person: once the folder is there, the next step is always to resume."""
    run, chance = tmp_path / "run", random.Random(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        pid = nursery.start(*words_for(run, training_text), within=run)
        time.sleep(0.05 + chance.random() * LONGEST_S)
        kill(pid, number)
        ended = nursery.wait()
        assert ended.code in (0, 128 + number, -number), ended.said  # the last: before it listens to signals
        assert "Traceback" not in ended.said
        if ended.code > 0 and run.exists():
            assert f"storycell train --resume {run}" in ended.said or "storycell: interrupted" in ended.said
    ended = nursery.run(*words_for(run, training_text), within=run)
    assert ended.code == 0, ended.said
    assert_equal_runs(run, undisturbed)


def test_a_text_that_changes_under_training_changes_nothing_until_it_is_resumed(
    nursery: Nursery, training_text: Path, undisturbed: Path, tmp_path: Path
) -> None:
    text, run = tmp_path / "small.txt", tmp_path / "run"
    shutil.copy(training_text, text)
    nursery.start("train", text, "--out", run, *FLAGS, within=run)
    while not (run / "last.safetensors").exists():
        time.sleep(0.005)
    text.write_text("Something else.\n" * 50)
    assert nursery.wait().code == 0
    assert_equal_runs(run, undisturbed)
    again = nursery.run("train", "--resume", run, f"--steps={STEPS + 10}", within=run)
    assert "not the text" in one_sentence(again)


def test_files_swapped_between_runs_are_noticed_and_mended_by_a_copy(
    nursery: Nursery, training_text: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Of two runs of another size each file of the one, put into the other, is refused by name or is as good."""
    other = tmp_path / "other"
    words = ["train", training_text, "--out", other, *FLAGS, "--hidden=9", "--vocab=bytes", "--steps=20"]
    assert nursery.run(*words, within=other).code == 0
    mixed = tmp_path / "mixed"
    shutil.copytree(undisturbed, mixed)
    for name in ("config.json", "vocab.json", "model.safetensors", "last.safetensors"):
        shutil.copy(other / name, mixed / name)
        verb = (
            ["sample", mixed] if name == "model.safetensors" else ["train", "--resume", mixed, f"--steps={STEPS + 1}"]
        )
        assert str(mixed) in one_sentence(nursery.run(*verb, within=mixed))
        shutil.copy(undisturbed / name, mixed / name)
    assert_equal_runs(mixed, undisturbed)
    assert nursery.run("train", "--resume", mixed, f"--steps={STEPS + 1}", within=mixed).code == 0


def test_a_clock_that_jumps_changes_nothing(
    training_text: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock, set forward and back at random while a training runs."""
    chance, asked = random.Random(1), list[int]()

    def jumping() -> float:
        asked.append(1)
        return 1.7e9 + chance.uniform(-1e9, 1e9)

    monkeypatch.setattr(time, "time", jumping)
    names = {
        name.removeprefix("--"): float(value) if "." in value else int(value)
        for name, value in (flag.split("=") for flag in FLAGS)
    }
    names["save_every"] = names.pop("save-every")
    run = storycell.train(training_text, out=tmp_path / "run", **names)
    assert_equal_runs(run.path, undisturbed)
