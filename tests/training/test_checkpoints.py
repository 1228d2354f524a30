"""Weights kept at log-spaced steps: which, how small, and what becomes of them when a run is cut, killed or edited."""

import os
import signal
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_runs import FLAGS, command
from test_resume import TINY, CutShort, assert_equal_runs, crash_after

import storycell
from storycell import atomic
from storycell.errors import RunFolderError
from storycell.language_model import LanguageModel
from storycell.runs import folder, tensors
from storycell.runs.folder import MOST_CHECKPOINTS, RunFolder, is_checkpoint, most_checkpoints

HALF = 2.0**-11  # float16: half of the last of 11 binary places, relative
SETTINGS = TINY | {"steps": 40, "save_every": 1e-6, "checkpoints": "log"}
STEPS = [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32]


def shapes_of(model: LanguageModel) -> dict[str, tuple[int, ...]]:
    return {name: weight.shape for name, weight in model.weights().items()}


def contents(run: Path) -> dict[str, dict[str, Any]]:
    """Of every file what is said of it and the bytes of its tensors; the order of its metadata is left to chance."""
    found = {}
    for path in (run / "checkpoints").iterdir():
        stored, about = tensors.read_tensors(path)
        found[path.name] = about | {name: value.tobytes() for name, value in stored.items()}
    return found


def test_two_steps_of_every_doubling_are_kept_and_few_of_the_longest_run() -> None:
    steps = [step for step in range(2**15 + 1) if is_checkpoint(step)]
    assert steps[:11] == STEPS
    assert {2**k for k in range(16)} <= set(steps)
    assert all(b / a < 1.6 for a, b in pairwise(steps[4:]))
    assert len(steps) == 2 * 15 + 1  # 0 and 30 more: 1.4 and 2.8 are 1 and 3


def test_all_of_them_together_stay_below_a_bound() -> None:
    assert most_checkpoints(1_000) == MOST_CHECKPOINTS == 20
    assert most_checkpoints(50_000_000) * 50_000_000 <= folder.LARGEST_CHECKPOINTS_BYTES
    assert most_checkpoints(10**12) == 3  # of a huge network the beginning and two more


def test_a_run_keeps_its_weights_in_16_bits(story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", **SETTINGS | {"steps": 32})
    opened, model = RunFolder(run.path), run.model.network
    assert opened.checkpoints() == STEPS
    last, _ = opened.load_last(shapes_of(model))
    fresh = model.copy_untrained(1).weights()
    for step, expected in ((0, fresh), (32, {name: last[f"model.{name}"] for name in fresh})):
        kept = opened.load_checkpoint(step, shapes_of(model))
        assert kept.keys() == expected.keys()
        assert all(weight.dtype == np.float32 for weight in kept.values())
        assert all(np.allclose(kept[name], expected[name], rtol=HALF, atol=1e-7) for name in kept)
    for step in STEPS:
        assert (run.path / f"checkpoints/step-{step}.safetensors").stat().st_size < 2.5 * run.model.params + 3000


def test_without_being_asked_for_there_are_none(story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", **SETTINGS | {"checkpoints": "none"})
    assert RunFolder(run.path).checkpoints() == []
    assert not (run.path / "checkpoints").exists()


@pytest.mark.parametrize("changes", [{}, {"average": 0.9}, {"ngrams": 4, "ngram_rows": 64, "matches": 5}])
@pytest.mark.usefixtures("trained_by")
def test_a_run_cut_and_resumed_has_the_checkpoints_of_one_that_was_not(
    changes: dict[str, Any], story_file: Path, tmp_path: Path
) -> None:
    whole = storycell.train(story_file, out=tmp_path / "whole", **SETTINGS | changes)
    with pytest.raises(CutShort):
        storycell.train(story_file, out=tmp_path / "cut", callback=crash_after(17), **SETTINGS | changes)
    resumed = storycell.resume(tmp_path / "cut")
    assert_equal_runs(whole.path, resumed.path)
    assert contents(whole.path) == contents(resumed.path)
    assert len(contents(whole.path)) == len(STEPS)


def test_checkpoints_of_steps_after_the_last_save_are_cut_when_a_run_is_resumed(
    story_file: Path, tmp_path: Path
) -> None:
    settings = SETTINGS | {"save_every": 1e9}
    with pytest.raises(CutShort):
        storycell.train(story_file, out=tmp_path / "cut", callback=crash_after(17), **settings)
    run = RunFolder(tmp_path / "cut")
    assert run.checkpoints() == STEPS[:9]
    (run.path / "checkpoints" / ".step-23.safetensors.part").write_bytes(b"half")

    def look(report: storycell.Report) -> None:
        if report.step == 2:
            assert run.checkpoints() == [0, 1, 2]  # training began again at step 0
            raise CutShort

    with pytest.raises(CutShort):
        storycell.resume(run.path, callback=look)
    assert [path.name for path in (run.path / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_the_beginning_and_the_latest_stay_where_there_are_too_many(
    story_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MOST_CHECKPOINTS", 5)
    run = storycell.train(story_file, out=tmp_path / "run", **SETTINGS)
    assert RunFolder(run.path).checkpoints() == [0, 11, 16, 23, 32]
    resumed = storycell.resume(run.path, steps=50)
    assert RunFolder(resumed.path).checkpoints() == [0, 16, 23, 32, 45]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trainings are forked")
def test_killed_before_any_operation_on_the_disk_a_run_ends_with_the_same_checkpoints(
    story_file: Path, tmp_path: Path
) -> None:
    """A kill comes before the nth write, rename or removal, for every n there is until a training comes to its end."""
    settings = TINY | {"steps": 9, "save_every": 1e-6, "checkpoints": "log", "evaluations": 1}
    whole = storycell.train(story_file, out=tmp_path / "whole", **settings)
    kills, run = 0, tmp_path / "run"
    for nth in range(1, 500, 3):
        pid = os.fork()
        if not pid:
            kill_at(nth)
            if run.exists():
                storycell.resume(run, quiet=True)
            else:
                storycell.train(story_file, out=run, quiet=True, **settings)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
        if run.exists():
            opened = RunFolder(run)
            shapes = shapes_of(storycell.load(run).network)
            assert all(opened.load_checkpoint(step, shapes) for step in opened.checkpoints())
    else:
        raise AssertionError("no training came to its end")
    assert kills > 5
    assert contents(run) == contents(whole.path)
    assert_equal_runs(run, whole.path)


def kill_at(nth: int) -> None:
    """End this process, as a power cut would, before the nth operation on the disk."""
    left = nth

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        return call

    for owner, name in ((os, "fsync"), (os, "truncate"), (Path, "unlink"), (Path, "mkdir"), (atomic, "put_in_place")):
        setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.parametrize("damage", ["other vocabulary", "other step", "other shape", "truncated"])
def test_a_damaged_checkpoint_is_refused_in_a_sentence(damage: str, story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", **SETTINGS | {"steps": 5})
    opened, shapes = RunFolder(run.path), shapes_of(run.model.network)
    path = run.path / "checkpoints" / "step-4.safetensors"
    if damage == "other vocabulary":
        other = storycell.load("demo").vocab
        atomic.write_atomically(run.path / "vocab.json", other.to_json().encode())
    elif damage == "other step":
        path.write_bytes((run.path / "checkpoints" / "step-3.safetensors").read_bytes())
    elif damage == "other shape":
        shapes["output.bias"] = (3,)
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunFolderError, match=r"step-4\.safetensors"):
        RunFolder(opened.path).load_checkpoint(4, shapes)


def test_the_command_says_what_they_take(story_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = command(capsys, "train", story_file, "--out", tmp_path / "run", *FLAGS, "--checkpoints", "log")
    assert done.code == 0
    assert "checkpoints: at most 20, about 0.0 MB together" in done.err
    assert RunFolder(tmp_path / "run").checkpoints() == [0, 1, 2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_folder_of_checkpoints_that_leads_elsewhere_is_not_written_to(story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", **SETTINGS | {"steps": 5})
    mine = (run.path / "checkpoints").rename(tmp_path / "mine")
    (run.path / "checkpoints").symlink_to(mine)
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    with pytest.raises(RunFolderError, match="is a link"):
        storycell.resume(run.path, steps=9)
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before
