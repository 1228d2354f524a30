"""Folders in use, full disks, Ctrl-C: whatever stops a training, what was saved goes on later.

Trainings that a signal ends run in a process of their own, the others in this one.
"""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.tiny_runs import FLAGS, command, running

import storycell
from storycell.runs.folder import RunFolder
from storycell.training import loop, start

DISK_BYTES = 20_000  # the largest file on the full disk: larger than last.safetensors, smaller than loss.png


# Folders and disks


def test_an_output_folder_in_use_is_left_alone(
    made: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in made.iterdir()}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("Dear Ann,")
    command(capsys, "train", text, "--out", made, *FLAGS).stated(1, "holds a run already", f"--resume {made}")
    for name in ("full", "text.txt"):
        command(capsys, "train", text, "--out", tmp_path / name, *FLAGS).stated(1, name, "holds something else")
        command(capsys, "prepare", text, "--out", tmp_path / name).stated(1, name, "name another")
    command(capsys, "train", text, "--out", text / "run", *FLAGS).stated(1, "text.txt/run", "not a directory")
    long = "x" * 300
    command(capsys, "train", text, "--out", tmp_path / long, *FLAGS).stated(1, "ile name too long")
    assert {p: p.stat().st_mtime_ns for p in made.iterdir()} == before


def test_the_working_folder_is_not_taken_for_a_run(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name in (".", "..", "./"):
        command(capsys, "train", text, "--out", name, *FLAGS).stated(1, "--out")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_folder_that_may_not_be_written_is_named(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a read-only file system, which a test that may run as root has to pretend."""

    def fail(path: object, *_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", fail)
    outcome = command(capsys, "train", "--resume", made, "--steps", 5)
    outcome.stated(1, f"{made} cannot be written: read-only file system", "--resume")
    assert command(capsys, "sample", made, "--chars", 3).code == 0


FULL_DISK = f"""
import resource, signal, sys
from storycell.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({DISK_BYTES}, {DISK_BYTES}))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is a Unix one")
def test_a_full_disk_loses_nothing_that_was_saved(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["train", str(text), "--out", str(run), *FLAGS, "--matches=0", "--steps=20", "--evaluations=2"]
    words.append("--save-every=0.000001")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, *words], capture_output=True, timeout=120, check=False)
    said = done.stderr.decode()
    assert done.returncode == 1, said
    held_out, sentence = said.splitlines()
    assert held_out.startswith("held out to validate on: ")
    assert sentence.startswith(f"storycell: {run} cannot be written: file too large; what was saved before is whole")
    assert not list(run.glob("*.part"))
    assert not list(run.glob(".*.part"))
    assert command(capsys, "sample", run, "--chars", 3).code == 0
    assert RunFolder(run).load_last(storycell.load(run).lm.shapes())[1]["position"]["step"] >= 9
    resumed = command(capsys, "train", "--resume", run, "--json")
    assert resumed.code == 0
    assert '"step": 20' in resumed.out
    assert (run / "loss.png").exists()


# Interruptions


def test_ctrl_c_before_anything_began_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most of the first two seconds go into importing torch; that is when people change their minds."""

    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(importlib, "import_module", interrupted)
    try:
        command(capsys, "sample").stated(130, "interrupted")
        command(capsys, "train").stated(130, "interrupted", "storycell train --resume RUN")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no signal to stand in for another")
def test_every_signal_that_asks_to_end_is_noted_by_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows Ctrl-Break is among them, for which another signal stands here."""
    monkeypatch.setattr(loop, "STOPPING", (*loop.STOPPING, signal.SIGUSR1))
    for number in loop.STOPPING:
        before = signal.getsignal(number)
        with loop.Interruption() as interruption:
            signal.raise_signal(number)
        assert interruption.number == number
        assert signal.getsignal(number) is before
    assert {"SIGINT", "SIGTERM", "SIGBREAK"} & {s.name for s in signal.Signals} <= {s.name for s in loop.STOPPING}


@pytest.mark.parametrize(
    ("words", "recipe", "name"),
    [
        (["book.txt"], "quick", "book-quick-1"),
        (["-"], "quick", "stdin-quick-1"),
        (["aux.txt"], "base", "aux-base-1"),  # with something behind it no device of Windows
        (['What? "A: B".txt'], "quick", "What---A--B--quick-1"),
        (["ends in dots...txt"], "quick", "ends-in-dots-quick-1"),
        (["Война и мир.epub"], "small", "Война-и-мир-small-1"),
        (["x" * 250 + ".txt"], "quick", "x" * 60 + "-quick-1"),
        (["book.txt"], "mine/my recipe.toml", "book-my-recipe-1"),
    ],
)
def test_a_run_that_is_not_named_gets_a_name_that_every_file_system_takes(
    words: list[str], recipe: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert start._free_name(words, recipe) == Path("runs", name)
    Path("runs", name).mkdir(parents=True)
    assert start._free_name(words, recipe) == Path("runs", f"{name[:-1]}2")


@contextmanager
def started(text: Path, run: Path, *before: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A long training in a process of its own, which has begun; `before` are the words of what starts it."""
    words = ["train", text, "--out", run, *FLAGS, "--steps=1000000", "--save-every=0.05"]
    with running([*before, sys.executable, "-m", "storycell", *words]) as training:
        created = wait_for_a_save(run, training, 0)
        wait_for_a_save(run, training, created)  # a second one: now it trains, and heeds signals
        yield training


def wait_for_a_save(run: Path, training: "subprocess.Popen[bytes]", saved_at: int) -> int:
    """Until the run was saved at another time than `saved_at`; returns when."""
    deadline = time.monotonic() + 60
    while not (run / "last.safetensors").exists() or (now := changed_at(run)) == saved_at:
        assert training.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return now


def changed_at(run: Path) -> int:
    return (run / "last.safetensors").stat().st_mtime_ns


def test_a_ctrl_c_that_strikes_in_a_finaliser_ends_the_command_without_a_traceback() -> None:
    code = (
        "import sys, importlib\nmain = importlib.import_module('storycell.cli.main')\n"
        "class Held:\n    def __del__(self): raise KeyboardInterrupt\n"
        "def strike(words):\n    Held()\n    print('went on')\n    return 0\n"
        "main._run_command = strike\nsys.exit(main.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_second_ctrl_c_ends_at_once_and_the_run_goes_on_later(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with started(text, run) as training:
        time.sleep(0.3)
        for _ in range(2):
            training.send_signal(signal.SIGINT)
            time.sleep(0.002)
        _, said = training.communicate(timeout=30)
    assert training.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in said.decode()
    step = RunFolder(run).load_last(storycell.load(run).lm.shapes())[1]["position"]["step"]
    assert command(capsys, "train", "--resume", run, "--steps", step + 2).code == 0


def test_ctrl_c_while_the_program_ends_is_quiet() -> None:
    """torch and others have work to do then, which takes a while; the answer was given before."""
    program = """
import atexit, os, signal, sys
from storycell.cli import main
atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), sum(range(1000))))
sys.argv[1:] = ["--version"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stdout.startswith("storycell ")
    assert done.stderr == ""


def test_two_trainings_cannot_write_to_one_folder(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with started(text, run) as training:
        command(capsys, "train", text, "--out", run, *FLAGS).stated(1, "holds a run already")
        command(capsys, "train", "--resume", run).stated(1, "another training is writing to", str(run))
        training.send_signal(signal.SIGTERM)
        _, said = training.communicate(timeout=60)
    assert training.returncode == 143
    assert f"next: storycell train --resume {run}" in said.decode()


def test_an_ignored_ctrl_c_stays_ignored(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in the background of a script, or under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert command(capsys, "train", text, "--out", tmp_path / "run", *FLAGS).code == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


IGNORING = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")  # as a script starts what it ends with `&`


@pytest.mark.skipif(sys.platform == "win32", reason="the signals are Unix's")
def test_in_the_background_of_a_script_ctrl_c_stays_ignored_and_sigterm_stops(text: Path, tmp_path: Path) -> None:
    """Ctrl-C is for the script in front; whoever means the training says so with SIGTERM, which saves."""
    run = tmp_path / "run"
    with started(text, run, *IGNORING) as training:
        saved_at = changed_at(run)
        for _ in range(3):  # a save may be under way when the signal comes
            training.send_signal(signal.SIGINT)
            saved_at = wait_for_a_save(run, training, saved_at)
        training.send_signal(signal.SIGTERM)
        _, said = training.communicate(timeout=60)
    assert training.returncode == 143
    assert "stopped by SIGTERM" in said.decode()
    assert f"next: storycell train --resume {run}" in said.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="the signals are Unix's")
def test_what_a_test_starts_heeds_ctrl_c_however_the_suite_was_started() -> None:
    child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the signals are Unix's")
def test_the_suite_in_the_background_of_a_script_is_the_suite() -> None:
    name = test_what_a_test_starts_heeds_ctrl_c_however_the_suite_was_started.__name__
    words = [*IGNORING, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{name}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
