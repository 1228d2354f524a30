"""`bench train`: whole training steps (forward, loss, backward, clipping, AdamW), in characters per second.

Compared are storycell's learner, as `storycell train` has it, and, where torch is installed, torch's layer in float32
and under autocast to bf16 (and compiled), the article's loop; and the ceiling. All read the same random characters from
the state that their step before left, as training does.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from storycell import extras, threads
from storycell.config import Settings, TrainSettings
from storycell.errors import SettingsError
from storycell.lab.bench import results, roofline
from storycell.lab.bench.timing import Work, on_threads, time_interleaved
from storycell.lab.bench.workload import CLIP, RATE, V, Workload
from storycell.training.learner import Learner
from storycell.training.processes import ProcessGroup
from storycell.training.start import build_learner, resolve_settings

Text = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # inputs and targets [B T]


def train(workload: Workload) -> dict[str, Any]:
    """Measure training steps; the figures as `results.summary` gives them."""
    workload = workload.model_copy(
        update={"streams": workload.streams or 64, "threads": workload.threads or threads.default()},
    )
    assert workload.threads
    settings, text, skipped = resolve(workload), draw_text(workload), None
    precision = settings.training.precision
    with on_threads(workload.threads):
        contestants = {"storycell": step(build_learner(settings, V), text)}
        if extras.is_installed("torch"):
            from storycell.lab.bench import baselines

            contestants |= baselines.training(workload, text)
            compiled = baselines.compiled(workload, text) if workload.compile else None
            skipped = compiled if isinstance(compiled, str) else None
            contestants |= {"torch_compile": compiled} if callable(compiled) else {}
        elif workload.compile:
            skipped = "torch is not installed"
        rates = time_interleaved(contestants | roofline.products(precision), workload.rounds)
    flop_per_s, reason = roofline.take_best(rates)
    flop = roofline.training_flop(workload.cell, workload.layers, workload.hidden, V)
    chosen = {"precision": precision, "backend": settings.training.backend, "torch_compile_skipped": skipped}
    ceiling = results.Ceiling(flop_per_s / flop, f"{reason} in {precision}")
    return results.summary("train", workload.model_dump() | chosen, rates, ceiling)


def resolve(workload: Workload) -> Settings:
    """The settings of a training of that workload, on the CPU; `SettingsError` where none can be had."""
    if workload.precision == "int8":
        raise SettingsError("bench train has no precision int8, which is for generation: bench sample --precision int8")
    training = TrainSettings(
        streams=workload.streams or 64,
        chunk=workload.chunk,
        lr=RATE,
        clip=CLIP,
        backend=workload.backend,
        precision=workload.precision,
        threads=workload.threads,
        device="cpu",
    )
    return resolve_settings(ProcessGroup(), Settings(model=workload.model, training=training))


def draw_text(workload: Workload) -> Text:
    """Characters at random: what they are does not change the time."""
    shape = (workload.streams or 64, workload.chunk + 1)
    ids = np.random.default_rng(1).integers(2, V, shape)
    return np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:])


def step(learner: Learner, text: Text) -> Work:
    """Steps of storycell's own learner, the state carried."""
    ids, targets = text
    kept, done = None, 0

    def work() -> int:
        nonlocal kept, done
        learner.gradient(ids, targets, done, kept)
        learner.apply(RATE)
        kept, done = np.ones(len(ids), bool), done + 1
        return ids.size

    return work
