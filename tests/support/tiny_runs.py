"""What the tests of the command line share: a tiny run, made once for each of them, and calls of the command.

`GRAMMAR` is a run that has learnt: two layers of 128 after twelve million characters of the embedded stories.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import storycell
from storycell.cli.main import main
from storycell.nn.adapter import TorchModel
from storycell.runs.folder import RunFolder
from storycell.types import BOUNDARY

GRAMMAR = Path(__file__).parents[1] / "golden" / "grammar"  # tools/pack_demo.py made it
NETWORK = {"hidden": 8, "embedding": 4, "streams": 4, "chunk": 16, "evaluations": 1}
# One thread: two of them wait for each other at every step while other tests or people use the machine.
FLAGS = [*(f"--{name}={value}" for name, value in NETWORK.items()), "--steps=3", "--threads=1"]
TEXT = "<|endoftext|>\n".join(
    f"Once upon a time {('Ann', 'Ben', 'Cleo')[k % 3]} had {k} “red” balls.\n'Good!' said cat number {k * 7}.\n"
    for k in range(60)
)


@dataclass(frozen=True)
class Outcome:
    """What a command ended with."""

    code: int
    out: str
    err: str

    def stated(self, code: int, *parts: str) -> None:
        """It failed as it should: with this code, nothing printed, and a short message that holds all `parts`."""
        assert self.code == code, self.err
        assert self.out == ""
        *notes, message = self.err.splitlines()
        assert message.startswith("storycell: "), self.err
        assert not notes, self.err
        assert len(message) < 600
        assert not any(word in message for word in ("Traceback", "unexpected", "this is a bug", "pydantic"))
        for part in parts:
            assert part in message


def command(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    """Run the command in this process."""
    capsys.readouterr()
    threads = torch.get_num_threads()
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr()
    return Outcome(code, said.out, said.err)


def process(*words: object, **keywords: object) -> Outcome:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "storycell", *map(str, words)], capture_output=True, timeout=120, check=False, **keywords
    )  # type: ignore[call-overload]
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def running(words: Sequence[object], **keywords: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A process with both streams piped; whatever happens, it has ended and nothing of it is open afterwards."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*map(str, words)], **(pipes | keywords)) as process:
        try:
            yield process
        finally:
            process.kill()


def endless(made: Path, folder: Path) -> Path:
    """A copy of a run whose stories hardly ever end: after three steps of training that is otherwise left to chance."""
    run = folder / made.name
    shutil.copytree(made, run)
    lm = storycell.load(run).lm
    with torch.no_grad():
        lm.output.bias[BOUNDARY] = -20.0
    RunFolder(run).save_weights(TorchModel(lm).weights(), {"step": 3, "valid_nats": None})
    return run


def make(folder: Path, cache: Path) -> Path:
    """Train for three steps on `TEXT`; returns the run folder, beside which the text lies."""
    text = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYCELL_CACHE", str(cache))
        assert main(["train", str(text), "--out", str(folder / "run"), *FLAGS]) == 0
    torch.set_num_threads(threads)
    return folder / "run"
