"""A process that has imported everything and forks a training whenever it is asked to, so that a kill costs no import.

A test hands it the words of a command and, if it likes, a fault: `kill_at` (the number of the disk operation inside
the run folder before which the child kills itself with SIGKILL), `file_bytes` (no file may become larger), `nan_from`
and `nan_to` (the loss of these training steps, counted from 1, is not a number) or `obeys_modes` (what may not be
written cannot be, even by root). It gets the child's process id at once and, from `wait`, how it ended and what it
said.
"""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FAULTS = ("kill_at", "file_bytes", "nan_from", "nan_to", "obeys_modes")
_NURSERY = """
import ctypes, json, os, resource, signal, sys
import torch
import matplotlib.figure
import storycell.api, storycell.cli.train, storycell.training.curve
from storycell.cli.main import main
from storycell.training.engine_learner import EngineLearner

def child(order):
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0); os.dup2(said, 1); os.dup2(said, 2)
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "os.truncate") and order["within"] in str(arguments[0]):
            count += 1
            if count == order["kill_at"]:
                os.kill(os.getpid(), signal.SIGKILL)
    if order["kill_at"]:
        sys.addaudithook(hook)
    if order["file_bytes"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"],) * 2)
    if order["nan_from"]:
        gradient, steps = EngineLearner.gradient, 0
        def poisoned(self, *arguments):
            nonlocal steps
            nats, norm = gradient(self, *arguments)
            steps += 1
            return float("nan") if order["nan_from"] <= steps < order["nan_to"] else nats, norm
        EngineLearner.gradient = poisoned
    torch.set_num_threads(1)
    if order["obeys_modes"] and os.getuid() == 0:
        libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, sets) == 0
        sets[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of the effective ones
        assert libc.capset(header, sets) == 0
    code = main(order["words"])
    sys.stdout.flush(); sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    if not (pid := os.fork()):
        child(json.loads(line))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (minus the signal that killed it), and its standard error."""

    code: int
    said: str


class Nursery:
    """Trainings, one after the other. Use it as a context."""

    def __enter__(self) -> "Nursery":
        self._process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def start(self, *words: object, within: Path, **fault: int) -> int:
        """Begin, perhaps with a fault; returns the process id."""
        self._said = within.with_name("said.txt")
        order = {"words": [str(word) for word in words], "within": str(within), "said": str(self._said)}
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(order | dict.fromkeys(FAULTS, 0) | fault), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def wait(self) -> Ended:
        """Until the child has ended."""
        assert self._process.stdout
        code = int(self._process.stdout.readline())
        return Ended(code, self._said.read_text())

    def run(self, *words: object, within: Path, **fault: int) -> Ended:
        """Begin and wait."""
        self.start(*words, within=within, **fault)
        return self.wait()


def kill(pid: int, number: int) -> None:
    """Send a signal to a child, which may have ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def one_sentence(ended: Ended) -> str:
    """The last line of what a failed command said, which has to be the only one that is an error."""
    assert ended.code == 1, ended.said
    *notes, message = ended.said.splitlines()
    assert message.startswith("storycell: ")
    assert not any("Traceback" in note or note.startswith("storycell:") for note in notes), ended.said
    return message
