"""The processes of one training, forked with what torchrun would tell them, so that a test pays no import for each.

A test hands over the words of the command and may give faults to single ranks: `poison` (the number of the step whose
loss is not a number there, -1 for all from the third), `slow_clock` (how many times slower time passes there),
`more` (words that only this rank gets), `file_bytes` (no file may become larger) and `digests` (a file that gets a line
for the weights and moments after each step of the engine, which draws other weights in every rank).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SERVER = """
import hashlib, json, math, os, resource, signal, sys, time
import torch
import torch.distributed, torch.nn.parallel
import matplotlib.figure
import storycell.api, storycell.cli.train, storycell.training.curve, storycell.training.trainer
from storycell.cli.main import main
from storycell.engine import EngineModel, random
from storycell.nn.model import CharLM
from storycell.training.engine_learner import EngineLearner

storycell.training.curve.loss_curve([], "")  # finding the fonts takes a second, which the children need not
torch.optim.SGD(torch.nn.Linear(1, 1).parameters())  # this imports half of torch

def child(order):
    said, printed = (os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("said", "printed"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0); os.dup2(printed, 1); os.dup2(said, 2)
    os.environ.update(order["environment"])
    if (poison := order.get("poison")) is not None:
        forward, calls = CharLM.forward, iter(range(10**9))
        def poisoned(self, ids, state=None, targets=None):
            value, state = forward(self, ids, state, targets)
            call = next(calls)
            return (value * math.nan if call == poison or (poison < 0 and call > 2) else value), state
        CharLM.forward = poisoned
        gradient = EngineModel.gradient
        def poisoned_gradient(self, *args, **keywords):
            found, call = gradient(self, *args, **keywords), next(calls)
            if call == poison or (poison < 0 and call > 2):
                self.gradients[0] = math.nan
                return math.nan, math.nan
            return found
        EngineModel.gradient = poisoned_gradient
    if digests := order.get("digests"):
        drawn, apply = random.draw_weights, EngineLearner.apply
        def draw_other(*args):
            return {name: value + 1e-3 * order["rank"] for name, value in drawn(*args).items()}
        def applied(self, rate):
            apply(self, rate)
            kept = self.snapshot()
            all_bytes = b"".join(kept[name].tobytes() for name in sorted(kept) if not name.startswith("state."))
            with open(digests, "a") as file:
                print(hashlib.sha256(all_bytes).hexdigest(), file=file)
        random.draw_weights, EngineLearner.apply = draw_other, applied
    if slow := order.get("slow_clock"):
        real = time.monotonic
        begin = storycell.training.trainer.Trainer.__init__
        begin.__defaults__ = (lambda: real() / slow, *begin.__defaults__[1:])
    if order.get("file_bytes"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"],) * 2)
    torch.set_num_threads(1)
    code = main(order["words"])
    sys.stdout.flush(); sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    children = []
    for order in json.loads(line):
        if not (pid := os.fork()):
            try:
                child(order)
            finally:
                os._exit(70)
        children.append(pid)
    print(json.dumps(children), flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How the processes ended, by rank: exit code (minus a killing signal), standard error, standard output."""

    codes: list[int]
    said: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)


class Ranks:
    """Starts trainings of several processes, one training after the other. Use it as a context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "Ranks":
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=60)

    def start(self, count: int, *words: object, faults: dict[int, dict[str, Any]] | None = None) -> list[int]:
        """Begin; returns the process ids by rank."""
        port, orders = _free_port(), []
        for rank in range(count):
            fault = dict((faults or {}).get(rank, {}))
            more = fault.pop("more", [])
            orders.append(
                {
                    "rank": rank,
                    "words": [*map(str, words), *more],
                    "environment": environment(rank, count, port) if count > 1 else {},
                    "said": str(self.folder / f"said{rank}"),
                    "printed": str(self.folder / f"printed{rank}"),
                    **fault,
                }
            )
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps(orders), file=self._server.stdin, flush=True)
        pids: list[int] = json.loads(self._server.stdout.readline())
        self.pids = pids
        return pids

    def wait(self) -> Ended:
        """Until all have ended."""
        assert self._server.stdout
        codes = json.loads(self._server.stdout.readline())
        said, printed = (
            [(self.folder / f"{n}{r}").read_text() for r in range(len(codes))] for n in ("said", "printed")
        )
        return Ended(codes, said, printed)

    def run(self, count: int, *words: object, faults: dict[int, dict[str, Any]] | None = None) -> Ended:
        """Begin and wait."""
        self.start(count, *words, faults=faults)
        return self.wait()


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun sets for a process of a training on one machine."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def send(pids: list[int], number: signal.Signals) -> None:
    """The same signal to several processes."""
    for pid in pids:
        os.kill(pid, number)


def wait_for_a_save(run: Path, older: int = 0) -> int:
    """Until `last.safetensors` is newer than the instant `older` in ns; returns its instant."""
    path, deadline = run / "last.safetensors", time.monotonic() + 120
    while not (path.exists() and path.stat().st_mtime_ns > older):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.stat().st_mtime_ns


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
