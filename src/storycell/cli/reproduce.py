"""`storycell reproduce`: the article's models, trained on equal terms, measured and tabulated."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from storycell import extras
from storycell.cli.flags import NAME, Verb, print_json, valid_option
from storycell.lab.reproduce import plan as plans
from storycell.lab.reproduce import report
from storycell.lab.reproduce.report import show_mean
from storycell.lab.reproduce.train import carry_out
from storycell.training.display import TrainingDisplay, say
from storycell.training.loop import Callback
from storycell.training.start import name_texts

_SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


@click.command("reproduce", cls=Verb)
@click.option(
    "--text",
    "words",
    multiple=True,
    type=NAME,
    metavar="TEXT",
    help="training text (default: TinyStories, or stories); may be repeated",
)
@valid_option
@click.option("--chars", type=int, help=f"characters to train each model on (default {plans.CHARS:,})")
@click.option("--minutes", type=float, help="minutes to train each model for, instead")
@click.option("--seeds", type=int, default=1, help="how many seeds, for mean and spread (default 1)")
@click.option(
    "--cells", default="", metavar="CELL,...", help="more cells, with commas between, in the two-layer LSTM's place"
)
@click.option("--samples", type=int, default=plans.SAMPLES, help=f"samples to count on (default {plans.SAMPLES})")
@click.option("--out", "folder", default="runs/reproduce", type=NAME, metavar="DIR", help="folder of runs and report")
@click.option("--backend", help="backend for the recurrent layers, for every run (default: auto)")
@click.option("--precision", help="auto, fp32 or bf16, for every run")
@click.option("--threads", type=int, help="processor threads, for every run")
@click.option("--evaluations", type=int, help="points of each learning curve (default 12)")
def command(
    words: tuple[str, ...],
    valid_words: tuple[str, ...],
    chars: int | None,
    minutes: float | None,
    seeds: int,
    cells: str,
    samples: int,
    folder: str,
    as_json: bool,
    **of_runs: Any,
) -> int:
    """Train what is not there yet, report on what is; print the table or JSON."""
    out = Path(folder)
    text, valid, note = plans.text_of(list(words) or None, list(valid_words) or None)
    if note:
        say(note)
    plan = plans.make(
        name_texts(text),
        None if valid is None else name_texts(valid),
        chars=chars,
        minutes=minutes,
        seeds=seeds,
        more_cells=[name for name in cells.split(",") if name],
        samples=samples,
        settings={name: value for name, value in of_runs.items() if value is not None},
    )
    plans.settle(plan, out)
    extras.require("matplotlib", "the report")
    interrupted = carry_out(plan, out, say, _watching, after_run=lambda: report.write(plan, out))
    summary = report.write(plan, out)
    if interrupted:
        say(f"stopped by {interrupted}, everything saved; next: the same command goes on")
    elif as_json:
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
        loss = show_mean([row["loss_nats"]], ".4f") + (f" ± {spread:.4f}" if spread else "")
        article = "{loss:g} / {perplexity:g}".format(**row["article"]) if "article" in row else ""
        lines.append(f"{row['name']:<34}{loss:>20}{row['perplexity']:>12.3f}{article:>18}")
    lines += [f"{b['name']:<34}{b['loss_nats']:>20.4f}{b['perplexity']:>12.3f}" for b in summary["baselines"]]
    return "\n".join([*lines, "", *(f"{c['verdict']}: {c['claim']}: {c['evidence']}" for c in summary["claims"])])
