"""Where does a step of `storycell train` go, and what of the bare step's speed is left?

    python benchmarks/training_step.py [--recipe base] [--steps 40] [--rounds 5] [--threads N] [--precision fp32]

In turns within one run: a training by the recipe on the embedded stories, as the command makes it, between its first
and its last step but one (the last is followed by an evaluation); the bare step of the same network on characters that
are there already, once with AdamW and once with the recipe's own optimiser; and a large matrix product, the best that
is installed. Each is told by the clock and in processor time (of all threads), the parts of the training's steps as
shares: gradient, AdamW, what Muon takes on top, batches, and the rest, which is Python. Ends in one JSON line; on a
busy machine the ratios in processor time are those to read.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import storycell
from storycell import config, threads
from storycell.config import Settings
from storycell.data import batches
from storycell.lab.bench import roofline
from storycell.lab.bench.results import keep
from storycell.lab.bench.timing import Work, in_turns, on_threads
from storycell.lab.bench.train import draw_text, step
from storycell.lab.bench.workload import RATE, V, Workload
from storycell.training.engine_learner import EngineLearner
from storycell.training.processes import ProcessGroup
from storycell.training.start import resolve_settings
from storycell.training.trainer import Report

CLOCKS: dict[str, Callable[[], float]] = {"elapsed": time.perf_counter, "processor": time.process_time}
PARTS = {"gradient": (EngineLearner, "gradient"), "apply": (EngineLearner, "apply"), "batches": (batches.Streams, "at")}
Times = dict[str, float]  # seconds of a step by part and clock: "gradient elapsed", "step processor"


def now() -> Times:
    """What every clock shows."""
    return {clock: read() for clock, read in CLOCKS.items()}


@contextmanager
def watched() -> Iterator[Times]:
    """Within, seconds and calls of every part add up in what is given."""
    spent: Times = defaultdict(float)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            began = now()
            try:
                return function(*given)
            finally:
                for clock, read in CLOCKS.items():
                    spent[f"{part} {clock}"] += read() - began[clock]

        return call

    with ExitStack() as patches:
        for part, (kind, name) in PARTS.items():
            patches.enter_context(mock.patch.object(kind, name, timed(part, getattr(kind, name))))
        yield spent


def training(settings: Settings, steps: int) -> Times:
    """Seconds of a step of a whole training."""
    seen: list[Times] = []
    with watched() as spent, tempfile.TemporaryDirectory(prefix="storycell-bench-") as folder:

        def after(report: Report) -> None:
            seen.append(now() | dict(spent))

        storycell.train(
            recipe=settings.recipe, steps=steps + 2, evaluations=1, out=Path(folder) / "run", callback=after,
            threads=settings.training.threads, precision=settings.training.precision, device="cpu",
        )  # fmt: skip
    first, last = seen[0], seen[steps]  # the report after these is of the step that was evaluated
    taken = {name: (last[name] - first[name]) / steps for name in last}
    return {name if " " in name else f"step {name}": value for name, value in taken.items()}


def bare(settings: Settings, optimizer: str) -> Callable[[int], Times]:
    """Seconds of a step of the same network, with nothing around it, so many at a time."""
    training = settings.training
    learner = EngineLearner(settings.with_changes(optimizer=optimizer, lr=RATE), V)
    work = step(learner, draw_text(Workload(streams=training.streams, chunk=training.chunk)))

    def steps(count: int) -> Times:
        work()  # warms the caches
        with watched() as spent:
            began = now()
            for _ in range(count):
                work()
            spent |= {f"step {clock}": read() - began[clock] for clock, read in CLOCKS.items()}
        return {name: value / count for name, value in spent.items()}

    return steps


def product(work: Work) -> Callable[[int], Times]:
    """Seconds of an operation of a large matrix product."""

    def operations(_: int) -> Times:
        work()
        began = now()
        done = sum(work() for _ in range(10))
        return {f"step {clock}": (read() - began[clock]) / done for clock, read in CLOCKS.items()}

    return operations


def main() -> None:
    """Measure, print, and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="base")
    parser.add_argument("--steps", type=int, default=40, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=threads.default())
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    args = parser.parse_args()
    changed = config.recipe(args.recipe).with_changes(threads=args.threads, device="cpu", precision=args.precision)
    settings = resolve_settings(ProcessGroup(), changed)
    with on_threads(args.threads):
        repeated = {"bare": bare(settings, "adamw"), "same": bare(settings, settings.training.optimizer)}
        repeated |= {name: product(work) for name, work in roofline.products(settings.training.precision).items()}
        tasks = {name: partial(task, args.steps) for name, task in repeated.items()}
        tasks["train"] = partial(training, settings, args.steps)
        rounds: dict[str, list[Times]] = {name: [] for name in tasks}

        def timing(name: str) -> Callable[[], float]:
            def once() -> float:
                rounds[name].append(tasks[name]())
                return rounds[name][-1]["step elapsed"]

            return once

        in_turns({name: timing(name) for name in tasks}, args.rounds, lambda: time.sleep(0.02))
    figures = summary(rounds, settings)
    for clock in CLOCKS:
        shares = ", ".join(f"{part} {share:.1%}" for part, share in figures[clock]["shares"].items())
        print(
            f"{clock} time: training reads {figures[clock]['train_chars_per_s']:,} characters/s, "
            f"{figures[clock]['train_to_bare']:.2f} of the bare step's {figures[clock]['bare_chars_per_s']:,} and "
            f"{figures[clock]['train_to_same']:.2f} of that with the same optimiser; {shares}; the bare step reaches "
            f"{figures[clock]['share_of_product']:.0%} of {figures[clock]['product']}"
        )
    keep({"benchmark": "training_step", "recipe": args.recipe, "threads": args.threads} | figures)


def summary(rounds: dict[str, list[Times]], settings: Settings) -> dict[str, Any]:
    """Medians over the rounds, for each clock: characters per second, their ratio, the shares of a training's step."""
    chars = settings.training.streams * settings.training.chunk
    figures: dict[str, Any] = {"model": settings.model.model_dump(), "precision": settings.training.precision}
    for clock in CLOCKS:
        median = {
            (name, part): statistics.median(times[f"{part} {clock}"] for times in found)
            for name, found in rounds.items()
            for part in ("step", *PARTS)
            if f"{part} {clock}" in found[0]
        }
        products = {name: median[name, "step"] for name in rounds if name not in ("train", "bare", "same")}
        quickest = min(products, key=products.__getitem__)
        network = settings.model
        flop = roofline.training_flop(network.cell, network.layers, network.hidden, V)
        whole, adamw = median["train", "step"], median["bare", "apply"]
        parts = {part: median["train", part] for part in PARTS}
        shares = {
            "gradient": parts["gradient"],
            "AdamW": adamw,
            "Muon": parts["apply"] - adamw,
            "batches": parts["batches"],
        }
        shares["Python"] = whole - sum(parts.values())
        figures[clock] = {
            "train_chars_per_s": round(chars / whole),
            "bare_chars_per_s": round(chars / median["bare", "step"]),
            "train_to_bare": round(median["bare", "step"] / whole, 3),
            "train_to_same": round(median["same", "step"] / whole, 3),
            "share_of_product": round(flop * chars * products[quickest] / median["bare", "step"], 3),
            "product": quickest,
            "shares": {name: round(part / whole, 4) for name, part in shares.items()},
        }
    return figures


if __name__ == "__main__":
    main()
