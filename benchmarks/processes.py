"""What do several processes gain, and cost, against one process with as many threads?

    torchrun --nproc-per-node 2 benchmarks/processes.py [--rounds N] [--steps N]

In turns within one run: the first process alone, with all threads, while the others wait; then all together at the same
global batch, with their share of the threads. Also the time of the two things that processes say to each other in a
step: the mean of the gradients, and a handful of numbers. Keeps `benchmarks/results/processes.json`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from storycell import config
from storycell.data import batches
from storycell.lab.bench.results import keep
from storycell.lab.bench.timing import in_turns, seconds
from storycell.threads import computing_on, cores
from storycell.training.engine_learner import EngineLearner
from storycell.training.processes import ProcessGroup
from storycell.training.start import joined
from storycell.training.trainer import Trainer

OUT = Path(__file__).parent / "results" / "processes.json"
V, STREAMS, CHUNK = 93, 64, 128
NETWORKS = [(1, 256, "bf16"), (1, 256, "fp32"), (2, 256, "bf16"), (1, 512, "bf16"), (1, 1024, "bf16")]


def main() -> None:
    """Measure every network; the first process keeps and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    args = parser.parse_args()
    with joined() as group:
        rows = [measured(group, L, H, precision, args.rounds, args.steps) for L, H, precision in NETWORKS]
        if group.leads:
            keep({"rows": rows}, OUT)


def measured(group: ProcessGroup, L: int, H: int, precision: str, rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds a step, alone and together, and of what is said in a step; medians and spreads of the rounds."""
    threads = cores()
    alone, together = trainer(ProcessGroup(), L, H, precision), trainer(group, L, H, precision)
    params = sum(int(np.prod(shape)) for shape in alone.learner.layout.parameters.values())
    gradient = torch.zeros(params)
    tasks: dict[str, Callable[[], float]] = {
        "alone_ms": lambda: stepping(alone, steps) if group.leads else 0.0,
        "together_ms": lambda: stepping(together, steps),
        "gradient_ms": lambda: 1e3 * seconds(lambda: dist.all_reduce(gradient), steps),
        "numbers_ms": lambda: 1e3 * seconds(lambda: group.exchange(1.0, 2.0, 3.0), steps),
    }
    in_turns(tasks, 1, lambda: group.exchange(0.0))  # warms up
    times = in_turns(tasks, rounds, lambda: group.exchange(0.0))
    row: dict[str, Any] = {"layers": L, "hidden": H, "precision": precision, "params": params, "threads": threads}
    row |= {"processes": group.count, "streams": STREAMS, "chunk": CHUNK}
    for name, found in times.items():
        row |= {name: round(found.median, 3), f"{name}_range": [round(found.least, 3), round(found.most, 3)]}
    return row | {"together_to_alone": round(row["alone_ms"] / max(row["together_ms"], 1e-9), 3)}


def trainer(group: ProcessGroup, L: int, H: int, precision: str) -> Trainer:
    """A training that never ends, on characters drawn at random: what they are does not change the time."""
    given: dict[str, Any] = {"layers": L, "hidden": H, "streams": STREAMS, "chunk": CHUNK, "precision": precision}
    settings = config.Settings().with_changes(**given, steps=10**9, device="cpu", backend="native")
    ids = np.random.default_rng(1).integers(2, V, 10**6, dtype=np.uint8)
    share = len(range(STREAMS)[group.rows(STREAMS)]) / STREAMS
    with computing_on(group.threads(cores()), group.threads(cores())):
        learner = EngineLearner(settings, V, group, share)
    return Trainer(learner, batches.make(ids, settings.training), settings.training, processes=group)


def stepping(trainer: Trainer, steps: int) -> float:
    """Milliseconds a step."""
    reports = trainer.reports()
    return 1e3 * seconds(lambda: next(reports), steps)


if __name__ == "__main__":
    main()
