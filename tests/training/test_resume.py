"""Exact resume: a run cut anywhere and resumed equals one that was never cut, to the bit."""

import math
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.tiny_runs import running

import storycell
from storycell import Report
from storycell.errors import ResumeError
from storycell.runs import tensors
from storycell.training import start, trainer
from storycell.training.engine_learner import EngineLearner
from storycell.training.torch_learner import TorchLearner

TINY = {
    "hidden": 12,
    "embedding": 5,
    "layers": 2,
    "dropout": 0.1,
    "streams": 4,
    "chunk": 16,
    "evaluations": 3,
    "threads": 1,
}
FILES = ("model.safetensors", "last.safetensors")
ATTEMPTS = 20  # kills


class CutShort(Exception):  # noqa: N818 - it is no error
    """What stops a training in the middle, as a crash would."""


def crash_after(step: int) -> object:
    def callback(report: Report) -> None:
        if report.step == step:
            raise CutShort

    return callback


def weights(run: Path, name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / name)


def assert_equal_runs(a: Path, b: Path) -> None:
    for name in FILES:
        ours, theirs = weights(a, name), weights(b, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    clocks = re.compile(r'"(elapsed_s|chars_per_s)": [0-9.e+-]+')
    assert clocks.sub("", (a / "metrics.jsonl").read_text()) == clocks.sub("", (b / "metrics.jsonl").read_text())
    assert (a / "samples.txt").read_text() == (b / "samples.txt").read_text()


CASES = [(cell, precision, 1) for cell in ("lstm", "gru", "rnn") for precision in ("fp32", "bf16")]


@pytest.mark.parametrize(("cell", "precision", "threads"), [*CASES, ("lstm", "fp32", 2), ("lstm", "bf16", 2)])
@pytest.mark.usefixtures("trained_by")
def test_resume_is_bitwise(cell: str, precision: str, threads: int, story_file: Path, tmp_path: Path) -> None:
    cut_twice_equals_whole({"cell": cell, "precision": precision, "threads": threads}, story_file, tmp_path)


@pytest.mark.parametrize("optimizer", ["muon", "normuon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.usefixtures("trained_by")
def test_resume_with_muon_is_bitwise(precision: str, optimizer: str, story_file: Path, tmp_path: Path) -> None:
    changes = {"optimizer": optimizer, "layers": 2, "precision": precision, "average": 0.9, "dropout": 0.1}
    cut_twice_equals_whole(changes, story_file, tmp_path)


def cut_twice_equals_whole(changes: dict[str, Any], story_file: Path, tmp_path: Path) -> None:
    settings = TINY | changes | {"steps": 40, "save_every": 1e-6}
    whole = storycell.train(story_file, out=tmp_path / "whole", **settings)
    with pytest.raises(CutShort):
        storycell.train(story_file, out=tmp_path / "cut", callback=crash_after(17), **settings)
    with pytest.raises(CutShort):
        storycell.resume(tmp_path / "cut", callback=crash_after(29))
    resumed = storycell.resume(tmp_path / "cut")
    assert_equal_runs(whole.path, resumed.path)
    assert whole.summary["valid_nats"] == resumed.summary["valid_nats"]
    assert resumed.summary["step"] == 40


def test_resume_is_bitwise_after_a_return_to_the_last_good_state(
    trained_by: str, story_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is no number at steps 24 to 28, between the two cuts: training goes back to step 20."""
    monkeypatch.setattr(trainer, "KEEP_EVERY", 10)
    learner: type[EngineLearner] | type[TorchLearner] = EngineLearner if trained_by == "engine" else TorchLearner
    real = learner.gradient

    def poisoned(self: Any, ids: Any, targets: Any, step: int, *others: Any) -> tuple[float, float]:
        nats, norm = real(self, ids, targets, step, *others)
        return (math.nan if step in range(23, 23 + trainer.SKIPS_IN_A_ROW) else nats), norm

    monkeypatch.setattr(learner, "gradient", poisoned)
    settings = TINY | {"steps": 40, "save_every": 1e-6}
    whole = storycell.train(story_file, out=tmp_path / "whole", **settings)
    assert whole.summary["skipped"] == trainer.SKIPS_IN_A_ROW
    for cut in (22, 26):  # after the good state was kept, and among the steps that were skipped
        out = tmp_path / f"cut{cut}"
        with pytest.raises(CutShort):
            storycell.train(story_file, out=out, callback=crash_after(cut), **settings)
        saved, _ = tensors.read_tensors(out / "last.safetensors")
        assert any(name.startswith("good.state.") for name in saved)
        assert_equal_runs(whole.path, storycell.resume(out).path)
    assert not any(name.startswith("good.") for name in weights(out, "last.safetensors"))  # no use any more


def without_the_good_state(path: Path) -> None:
    """Make a `last.safetensors` as it was before it held the last good state."""
    state, about = tensors.read_tensors(path)
    del about["position"]["good_step"]
    path.write_bytes(tensors.pack_tensors({k: t for k, t in state.items() if not k.startswith("good.")}, about))


@pytest.mark.usefixtures("trained_by")
def test_a_run_that_an_earlier_version_saved_goes_on(story_file: Path, tmp_path: Path) -> None:
    settings = TINY | {"steps": 40, "save_every": 1e-6}
    whole = storycell.train(story_file, out=tmp_path / "whole", **settings)
    with pytest.raises(CutShort):
        storycell.train(story_file, out=tmp_path / "cut", callback=crash_after(17), **settings)
    without_the_good_state(tmp_path / "cut" / "last.safetensors")
    assert_equal_runs(whole.path, storycell.resume(tmp_path / "cut").path)


@pytest.mark.parametrize("damage", ["good.model.output.bias", "good.state.h", "good_step"])
def test_a_good_state_that_does_not_fit_is_refused_before_it_is_needed(
    trained_by: str, story_file: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "KEEP_EVERY", 10)
    settings = TINY | {"steps": 40, "save_every": 1e-6}
    with pytest.raises(CutShort):
        storycell.train(story_file, out=tmp_path / "cut", callback=crash_after(17), **settings)
    path = tmp_path / "cut" / "last.safetensors"
    state, about = tensors.read_tensors(path)
    if damage == "good_step":
        about["position"]["good_step"] = None
    else:
        state[damage] = state[damage][:1]
    path.write_bytes(tensors.pack_tensors(state, about))
    with pytest.raises(ResumeError, match=r"last.safetensors does not hold what resuming needs"):
        storycell.resume(tmp_path / "cut")


def test_what_was_done_after_the_last_save_is_done_again_and_logged_once(story_file: Path, tmp_path: Path) -> None:
    settings = TINY | {"steps": 40, "save_every": 1e9}
    whole = storycell.train(story_file, out=tmp_path / "whole", **settings)
    with pytest.raises(CutShort):
        storycell.train(story_file, out=tmp_path / "cut", callback=crash_after(31), **settings)
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) > 10
    assert_equal_runs(whole.path, storycell.resume(tmp_path / "cut").path)


def test_a_finished_run_goes_on_with_a_larger_budget(story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", steps=10, **TINY)
    assert storycell.resume(run.path).summary["step"] == 10
    longer = storycell.resume(run.path, steps=25)
    assert longer.summary["step"] == 25
    assert longer.settings.training.steps == 25
    in_chars = storycell.resume(run.path, chars=30 * 64)
    assert in_chars.summary["step"] == 30
    assert in_chars.settings.training.budget == ("chars", 30 * 64)


def test_another_text_or_network_is_refused_by_name(story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", steps=3, **TINY)
    with pytest.raises(ResumeError, match="hidden cannot change from 12 to 13"):
        storycell.resume(run.path, hidden=13)
    with pytest.raises(ResumeError, match="streams cannot change"):
        storycell.resume(run.path, streams=8)
    other = tmp_path / "other.txt"
    other.write_text(story_file.read_text() + "<|endoftext|>\nOne more story.\n")
    with pytest.raises(ResumeError, match="not the text"):
        storycell.resume(run.path, text=other)
    story_file.write_text(story_file.read_text().replace("red", "tan"))
    with pytest.raises(ResumeError, match="not the text"):
        storycell.resume(run.path)


@pytest.mark.parametrize("begun", ["engine", "torch"])
def test_a_run_that_one_learner_began_goes_on_with_the_other(
    begun: str, story_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the bit, for they add in another order, but to the loss; and nothing about the run has to be changed."""
    settings = TINY | {"steps": 30, "save_every": 1e-6, "dropout": 0.0, "precision": "fp32", "average": 0.5}
    choices = {"engine": start.uses_engine, "torch": lambda *_: False}
    monkeypatch.setattr(start, "uses_engine", choices.pop(begun))
    whole = storycell.train(story_file, out=tmp_path / "whole", **settings)
    with pytest.raises(CutShort):
        storycell.train(story_file, out=tmp_path / "cut", callback=crash_after(17), **settings)
    ((_, other),) = choices.items()
    monkeypatch.setattr(start, "uses_engine", other)
    resumed = storycell.resume(tmp_path / "cut")
    assert resumed.summary["valid_nats"] == pytest.approx(whole.summary["valid_nats"], abs=1e-4)
    assert resumed.summary["step"] == 30


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "storycell", *map(str, words)]


@pytest.fixture
def training(story_file: Path, tmp_path: Path) -> list[str]:
    flags = [f"--{name}={value}" for name, value in TINY.items()]
    return command("train", story_file, "--out", tmp_path / "run", "--steps", 100_000, "--save-every", 0.02, *flags)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_at_random_moments_every_run_folder_opens_and_resumes(training: list[str], tmp_path: Path) -> None:
    """`kill -9` again and again into one run, at random moments, saves among them; what was saved is never lost."""
    run, chance, reached = tmp_path / "run", random.Random(3), 0
    for attempt in range(ATTEMPTS):
        words = training if attempt == 0 else command("train", "--resume", run)
        with running(words) as process:
            wait_for(run / "last.safetensors", process)
            stamp = (run / "last.safetensors").stat().st_mtime_ns
            while process.poll() is None and attempt > 0 and (run / "last.safetensors").stat().st_mtime_ns == stamp:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.2)
            process.kill()
            _, said = process.communicate()
        assert process.returncode == -signal.SIGKILL, said
        storycell.load(run).generate("", chars=5)
        with safetensors.safe_open(run / "last.safetensors", "pt") as file:
            step = int(re.search(r'"step": (\d+)', file.metadata()["about"]).group(1))  # type: ignore[union-attr]
        assert step >= reached
        reached = step
    assert reached > 0
    ended = storycell.resume(run, steps=reached + 5)
    assert ended.summary["step"] == reached + 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_polite_stop_saves_and_says_how_to_go_on(training: list[str], tmp_path: Path, number: int, code: int) -> None:
    run = tmp_path / "run"
    with running(training) as process:
        wait_for(run / "last.safetensors", process)
        time.sleep(0.5)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"storycell train --resume {run}" in said.decode()
    assert "Traceback" not in said.decode()
    stopped_at = int(re.search(r"at step ([\d,]+)", said.decode()).group(1).replace(",", ""))  # type: ignore[union-attr]
    assert storycell.resume(run, steps=stopped_at + 3).summary["step"] == stopped_at + 3
