"""Does a GPU train, measure, go on and compute as the CPU does, and how fast beside a plain loop of torch's?

At most five minutes.

    python benchmarks/gpu_check.py [--device cuda] [--out benchmarks/results/gpu.json]
    python benchmarks/gpu_check.py --device cpu --small    # the same steps on a CPU, to try this script out

On stories of the embedded grammar, with the network of the recipe `base`. Each answer is a number with what it may be
at most: losses on the held-out text of GPU and CPU, losses of every character of a text, a training stopped and
gone on with beside one that was not. Ends in one JSON line, and 1 where a check fails or there is no such device.
"""

import argparse
import tempfile
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import storycell
from storycell import extras, threads
from storycell.config import Settings, TrainSettings
from storycell.data.stories.corpus import generate
from storycell.errors import StorycellError
from storycell.lab.bench import results
from storycell.lab.bench.timing import Work, time_interleaved
from storycell.lab.bench.train import draw_text, step
from storycell.lab.bench.workload import RATE, V, Workload
from storycell.training.processes import ProcessGroup
from storycell.training.start import build_learner, resolve_settings

LOSS = 2e-3  # nats between the mean losses of GPU and CPU: bf16 and TF32 keep 8 to 11 bits
CHARACTER = 0.1  # nats between the losses of a single character, which may be a rare one
RESUMED = 1e-3  # nats between a training and the one that was stopped: a GPU adds in no fixed order


def main() -> int:
    """Check, print, keep; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny network and a few steps")
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, without what is measured (default 1)")
    parser.add_argument("--out", type=Path, help="a file to keep the JSON in")
    args = parser.parse_args()
    if reason := missing(args.device):
        print(reason)
        return 1
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        figures = check(args.device, Path(folder), small=args.small, minutes=args.minutes)
    figures["seconds"] = round(time.perf_counter() - began, 1)
    for name, (found, most) in figures["checks"].items():
        print(f"{name}: {found:.2g}, at most {most:g}: {'ok' if found <= most else 'FAILED'}")
    results.keep(figures, args.out)
    return 0 if figures["passed"] else 1


def missing(device: str) -> str:
    """Why nothing can be checked, in a sentence; empty where it can."""
    if not extras.is_installed("torch"):
        return "torch is not installed, which computes on GPUs: pip install 'storycell[torch]'."
    from storycell.nn.devices import find_device

    try:
        find_device(device)
    except StorycellError as error:
        return f"Nothing was checked: {error}."
    return ""


def check(device: str, folder: Path, *, small: bool, minutes: float) -> dict[str, Any]:
    """Every figure, and in `checks` what was found beside the most that it may be."""
    sizes: dict[str, Any] = {"hidden": 16, "embedding": 8, "layers": 1, "streams": 4, "chunk": 16} if small else {}
    budget: dict[str, Any] = {"steps": 20} if small else {"minutes": minutes}
    computing = {"device": device, "backend": "torch", "quiet": True, **sizes} | ({"threads": 1} if small else {})
    texts = _write_texts(folder, 60 if small else 8000, 20 if small else 500)
    run = storycell.train(**texts, recipe="base", out=folder / "run", **budget, **computing)
    on_gpu = storycell.load(run.path, device=device, backend="torch")
    on_cpu = storycell.load(run.path, device="cpu")
    held_out = texts["valid"].read_text(encoding="utf-8")
    losses = {name: model.evaluate(held_out) for name, model in (("device", on_gpu), ("cpu", on_cpu))}
    text = next(iter(generate(7)))
    characters = np.abs(on_gpu.score(text) - on_cpu.score(text))
    whole, stopped = _whole_and_stopped(folder, texts, 8 if small else 60, computing)
    checks = {
        "loss of the held-out text, device and CPU": (abs(losses["device"].loss_nats - losses["cpu"].loss_nats), LOSS),
        "loss as training ended, and measured again": (
            abs(losses["device"].loss_nats - run.summary["valid_nats"]),
            LOSS,
        ),
        "loss of a character, device and CPU": (float(characters.max()), CHARACTER),
        "loss of a training, whole and resumed": (abs(whole - stopped), RESUMED),
    }
    with threads.computing_on(1, 1) if small else nullcontext():
        speed = _speed(device, sizes, rounds=1 if small else 5)
    return {
        "device": device,
        "device_name": _name(device),
        "trained": {key: run.summary[key] for key in ("step", "chars", "valid_nats", "elapsed_s")},
        "evaluated_chars": losses["device"].chars,
        "checks": checks,
        "passed": all(found <= most for found, most in checks.values()),
        **speed,
    }


def _write_texts(folder: Path, train: int, valid: int) -> dict[str, Path]:
    """So many stories to train on and to validate on, as files."""
    stories, paths = generate(1), {"text": folder / "train.txt", "valid": folder / "valid.txt"}
    for path, count in zip(paths.values(), (train, valid), strict=True):
        path.write_text("<|endoftext|>\n".join(islice(stories, count)), encoding="utf-8")
    return paths


def _whole_and_stopped(
    folder: Path, texts: dict[str, Path], steps: int, computing: dict[str, Any]
) -> tuple[float, float]:
    """Held-out losses of a training of so many steps, and of one that was stopped in the middle."""
    schedule = {"schedule": "constant", "warmup": 0.0, "evaluations": 1, "recipe": "base"}
    whole = storycell.train(**texts, out=folder / "whole", steps=steps, **schedule, **computing)
    half = storycell.train(**texts, out=folder / "half", steps=steps // 2, **schedule, **computing)
    rest = storycell.resume(half.path, steps=steps, quiet=True)
    return whole.summary["valid_nats"], rest.summary["valid_nats"]


def _speed(device: str, sizes: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Characters a second of whole training steps, in turns: storycell, and torch's LSTM in a plain loop of a page."""
    import torch

    from storycell.lab.bench import baselines

    workload = Workload(**({"layers": 2, "hidden": 256, "embedding": 64, "streams": 64, "chunk": 128} | sizes))
    assert workload.streams
    text = draw_text(workload)
    training = TrainSettings(
        streams=workload.streams, chunk=workload.chunk, lr=RATE, steps=10**6, device=device, backend="torch"
    )
    settings = resolve_settings(ProcessGroup(), Settings(model=workload.model, training=training))
    width = (workload.cell, V, workload.embedding, workload.hidden, workload.layers)

    def finished(work: Work) -> Work:
        """The same, until the device has done it."""

        def run() -> int:
            done = work()
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize()
            return done

        return run

    def plain(bf16: bool) -> Work:
        return finished(baselines.step(baselines.TorchModel(*width).to(device), text, bf16))

    contestants = {
        "storycell": finished(step(build_learner(settings, V), text)),
        "torch_fp32": plain(False),
        "torch_bf16": plain(True),
    }
    rates = {name: round(spread.median) for name, spread in time_interleaved(contestants, rounds).items()}
    best = max(rates["torch_fp32"], rates["torch_bf16"])
    return {
        "chars_per_s": rates,
        "precision": settings.training.precision,
        "ratio_to_best_torch": round(rates["storycell"] / best, 3),
    }


def _name(device: str) -> str:
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(results.about()["machine"]["processor"])


if __name__ == "__main__":
    raise SystemExit(main())
