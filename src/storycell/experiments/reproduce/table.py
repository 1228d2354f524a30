"""The files of an experiment, read: every figure that its report shows is looked up here, by name.

In: the folder of an experiment. Out: `Finished` runs whose figures are found by dotted names (`measured.loss_nats`,
`metrics.chars_per_s`, `config.settings.training.lr`), and rows of plain JSON with mean and spread over seeds.

The surprising decision: a figure is asked for by its name in the files, and the page keeps that name beside it; so a
test can look up every figure of a page again, and nothing that was not measured can get in.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from storycell.checkpoint import RunFolder, disk
from storycell.experiments.reproduce import measure
from storycell.experiments.reproduce.plan import Entrant, Plan, folder_of

FIGURES = {  # of a row: its name in the JSON -> where it stands in the files of a run
    "loss_nats": "measured.loss_nats",
    "stderr_nats": "measured.stderr_nats",
    "windows_nats": "measured.windows_nats",
    "bits_per_char": "measured.bits_per_char",
    "perplexity": "measured.perplexity",
    "params": "measured.params",
    "chars": "metrics.chars",
    "steps": "metrics.step",
    "elapsed_s": "metrics.elapsed_s",
    "chars_per_s": "metrics.chars_per_s",
}
JUDGEMENTS = (
    "unknown_words",
    "quotes_closed",
    "brackets_closed",
    "marks_spaced",
    "paragraphs",
    "paragraphs_finished",
    "names",
    "names_once",
    "ended",
    "parses",
)


@dataclass(frozen=True)
class Finished:
    """One measured run."""

    path: Path

    @cached_property
    def files(self) -> dict[str, Any]:
        """What its files say: `config`, `measured`, and the last line of the `metrics`."""
        config = json.loads(disk.read_text(self.path / "config.json"))
        return {"config": config, "measured": measure.measured(self.path), "metrics": self.metrics[-1]}

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Its learning curve."""
        return RunFolder(self.path).metrics()

    def figure(self, name: str) -> float | None:
        """The number of that dotted name; None where there is none."""
        found: Any = self.files
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return None if found is None or isinstance(found, str) else float(found)


@dataclass(frozen=True)
class Line:
    """One model of the table: its runs, one a seed."""

    entrant: Entrant
    runs: tuple[Finished, ...]

    def values(self, name: str) -> list[float]:
        """The figure of that name for every seed that has it."""
        return [value for run in self.runs if (value := run.figure(name)) is not None]

    def mean(self, name: str) -> float | None:
        """Its mean over seeds."""
        return mean_of(self.values(name))

    def row(self) -> dict[str, Any]:
        """All figures as JSON: means, and under `spread` the standard deviations over seeds where there are several."""
        judged = {name: f"measured.judgements.{name}" for name in JUDGEMENTS}
        every = {name: self.values(where) for name, where in (FIGURES | judged).items()}
        row: dict[str, Any] = {"name": self.entrant.title, "key": self.entrant.key, "seeds": len(self.runs)}
        row |= {name: mean_of(values) for name, values in every.items() if values}
        row["spread"] = {name: spread_of(values) for name, values in every.items() if len(values) > 1}
        row["runs"] = [str(run.path) for run in self.runs]
        if self.entrant.article:
            row["article"] = dict(zip(("loss", "perplexity"), self.entrant.article, strict=True))
        return row


def mean_of(values: Sequence[float]) -> float | None:
    """The mean, None of nothing."""
    return math.fsum(values) / len(values) if values else None


def spread_of(values: Sequence[float]) -> float | None:
    """The standard deviation over seeds, None of fewer than two."""
    return statistics.stdev(values) if len(values) > 1 else None


def lines_of(plan: Plan, out: Path) -> list[Line]:
    """The models that have a finished run, in the order of the plan."""
    lines = []
    for entrant in plan.entrants:
        paths = [folder_of(out, entrant, seed) for seed in range(1, plan.seeds + 1)]
        runs = tuple(Finished(path) for path in paths if measure.is_measured(path))
        if runs:
            lines.append(Line(entrant, runs))
    return lines


def context_of(out: Path) -> dict[str, Any]:
    """What was measured of the text itself."""
    found: dict[str, Any] = disk.read_json(out / "context.json")
    return found
