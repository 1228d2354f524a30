"""Does it help a vanilla RNN to start at spectral radius 1, and does it stay there?

Three RNNs that differ only in the spectral radius of their hidden weights at the start (0.9, 1, 1.1) learn the same
text for the same number of steps. Reported for each: the radius before and after, the loss, and how much of dL/dh is
left 8 and 32 characters back, before and after. Ends in one JSON line.

    python benchmarks/rnn_radius.py TRAIN VALID [--steps 1000]
"""

import argparse
import tempfile
from pathlib import Path

import torch

import storycell
from storycell.evaluation.texts import encode_text
from storycell.inspect.gradients import gradient_flow, spectral_radius
from storycell.inspect.trace import trace
from storycell.lab.bench.results import keep
from storycell.language_model import LanguageModel
from storycell.nn.adapter import TorchModel
from storycell.nn.cells import cell
from storycell.nn.cells.registry import register_cell
from storycell.nn.cells.rnn import RNN

RADII = (0.9, 1.0, 1.1)
LAGS = (8, 32)
SEEN_CHARS = 20_000


def cell_at(radius: float) -> type[RNN]:
    """The RNN, its hidden weights scaled after the usual start; under its own name, so that torch's layers run it."""

    class Scaled(RNN):
        def initialise(self, w: cell.Weights, generator: torch.Generator, forget_bias: float) -> None:
            super().initialise(w, generator, forget_bias)
            w["weight_hh"] *= radius

    return Scaled


def seen(network: LanguageModel, model: storycell.Model, text: str) -> dict[str, float]:
    """Radius and gradients of a network on a text."""
    curve = gradient_flow(trace(network, encode_text(text, model.vocab), model.vocab), max(LAGS)).curve("h", 0)
    return {"radius": spectral_radius(network)} | {f"left_at_{lag}": float(curve[lag]) for lag in LAGS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train")
    parser.add_argument("valid")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    text = Path(given.valid).read_text(encoding="utf-8")[:SEEN_CHARS]
    rows = []
    for radius in RADII:
        register_cell(cell_at(radius))
        with tempfile.TemporaryDirectory() as folder:
            run = storycell.train(
                given.train, valid=given.valid, recipe="quick", cell="rnn", steps=given.steps, threads=given.threads,
                evaluations=1, backend="torch", out=Path(folder) / "run",
            )  # fmt: skip
            model, seed = run.model, run.settings.training.seed
        network = TorchModel(model.lm)
        before, after = seen(network.copy_untrained(seed), model, text), seen(network, model, text)
        rows.append({"radius": radius, "before": before, "after": after, "valid_nats": run.summary["valid_nats"]})
        print(f"{radius:g}: {before} -> {after}, {run.summary['valid_nats']:.3f} nats per character")
    register_cell(RNN)
    chars = run.summary["chars"]
    keep({"benchmark": "rnn_radius", "steps": given.steps, "chars": chars, "threads": given.threads, "rows": rows})


if __name__ == "__main__":
    main()
