"""`storycell reproduce`: the article's models, trained on equal terms, measured and tabulated."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storycell.cli.display import TrainingDisplay, say
from storycell.cli.flags import print_json
from storycell.lab.reproduce import plan as plans
from storycell.lab.reproduce import report
from storycell.lab.reproduce.report import shown
from storycell.lab.reproduce.train import carry_out
from storycell.training.loop import Callback
from storycell.training.start import name_texts

_SIGNALS = {"SIGINT": 130, "SIGTERM": 143}
_OF_RUNS = ("backend", "precision", "threads", "evaluations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `reproduce`."""
    parser.add_argument(
        "--text", action="append", metavar="TEXT", help="training text (default: TinyStories, or stories)"
    )
    parser.add_argument("--valid", action="append", metavar="FILE", help="text to hold out, not a part of TEXT")
    parser.add_argument("--chars", type=int, help=f"characters to train each model on (default {plans.CHARS:,})")
    parser.add_argument("--minutes", type=float, help="minutes to train each model for, instead")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, for mean and spread (default 1)")
    parser.add_argument(
        "--cells", nargs="+", default=[], metavar="CELL", help="more cells, in the two-layer LSTM's place"
    )
    parser.add_argument(
        "--samples", type=int, default=plans.SAMPLES, help=f"samples to count on (default {plans.SAMPLES})"
    )
    parser.add_argument("--out", default="runs/reproduce", metavar="DIR", help="folder of runs and report")
    parser.add_argument("--backend", help="backend for the recurrent layers, for every run (default: auto)")
    parser.add_argument("--precision", help="auto, fp32 or bf16, for every run")
    parser.add_argument("--threads", type=int, help="processor threads, for every run")
    parser.add_argument("--evaluations", type=int, help="points of each learning curve (default 12)")


def run(arguments: argparse.Namespace) -> int:
    """Train what is not there yet, report on what is; print the table or JSON."""
    out = Path(arguments.out)
    text, valid, note = plans.text_of(arguments.text, arguments.valid)
    if note:
        say(note)
    settings = {name: value for name in _OF_RUNS if (value := getattr(arguments, name)) is not None}
    plan = plans.make(
        name_texts(text),
        None if valid is None else name_texts(valid),
        chars=arguments.chars,
        minutes=arguments.minutes,
        seeds=arguments.seeds,
        more_cells=arguments.cells,
        samples=arguments.samples,
        settings=settings,
    )
    plans.settle(plan, out)
    interrupted = carry_out(plan, out, say, _watching, after_run=lambda: report.write(plan, out))
    summary = report.write(plan, out)
    if interrupted:
        say(f"stopped by {interrupted}, everything saved; next: the same command goes on")
    elif arguments.json:
        print_json(summary | {"page": str(out / "report.html")})
    else:
        print(_table(summary))
    if summary["rows"]:
        say(f"next: open {out / 'report.html'}")
    return _SIGNALS.get(interrupted, 0)


@contextmanager
def _watching() -> Iterator[Callback | None]:
    with TrainingDisplay() as display:
        yield display.show


def _table(summary: dict[str, Any]) -> str:
    lines = [f"{'model':<34}{'nats/char':>20}{'perplexity':>12}{'article':>18}"]
    for row in summary["rows"]:
        spread = row["spread"].get("loss_nats")
        loss = shown([row["loss_nats"]], ".4f") + (f" ± {spread:.4f}" if spread else "")
        article = "{loss:g} / {perplexity:g}".format(**row["article"]) if "article" in row else ""
        lines.append(f"{row['name']:<34}{loss:>20}{row['perplexity']:>12.3f}{article:>18}")
    lines += [f"{b['name']:<34}{b['loss_nats']:>20.4f}{b['perplexity']:>12.3f}" for b in summary["baselines"]]
    return "\n".join([*lines, "", *(f"{c['verdict']}: {c['claim']}: {c['evidence']}" for c in summary["claims"])])
