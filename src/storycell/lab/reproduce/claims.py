"""The article's claims, held against what was measured: each holds, holds on average only, or does not hold.

A `Claim` is a statement, a verdict, and the evidence in figures. An inequality between two models holds where it does
for every seed and the mean difference is beyond two standard errors of it: over seeds where there are several, over
stories (paired) where there is one.

The runs of an experiment are read as `Finished` runs, whose figures are looked up by dotted names in their files
(`measured.loss_nats`, `metrics.chars_per_s`, `config.settings.training.lr`); a `Line` of the table has their mean and
spread over seeds. The page keeps the name beside each figure, so a test can look up every figure of a page again, and
nothing that was not measured can get in.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from storycell.evaluation.statistics import mean_and_stderr
from storycell.lab.reproduce import measure
from storycell.lab.reproduce.plan import ADAM_CLAIM, Entrant, Plan, folder_of
from storycell.loss import plus_minus
from storycell.runs import files as disk
from storycell.runs.folder import RunFolder

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
        return {"config": config, "measured": measure.read_measures(self.path), "metrics": self.metrics[-1]}

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


HOLDS, IN_PART, FAILS = "holds", "holds in part", "does not hold"
ERRORS = 2.0  # so many standard errors make a difference
DRIFT = 0.05  # a spectral radius that moved less has stayed
ABOUT = 0.25  # "about a third" is a third, give or take a quarter of it


@dataclass(frozen=True)
class Claim:
    """One claim of the article and what became of it."""

    claim: str
    verdict: str
    evidence: str
    figures: dict[str, Any] = field(default_factory=dict)


def claims_of(lines: Sequence[Line]) -> list[Claim]:
    """All claims that the finished runs can answer."""
    by_key = {line.entrant.key: line for line in lines}
    found: list[Claim] = []
    if {"rnn-32-sgd", "rnn-32"} <= by_key.keys():
        found.append(_adam(by_key["rnn-32-sgd"], by_key["rnn-32"]))
    order = ("rnn-32", "lstm-32", "lstm-128", "lstm-128x2")
    for worse, better in pairwise(order):
        if {worse, better} <= by_key.keys():
            found.append(_inequality(by_key[worse], by_key[better]))
    if "rnn-32" in by_key:
        found.append(_drift(by_key["rnn-32"]))
    if {"rnn-32", "lstm-32"} <= by_key.keys():
        found.append(
            _judge(by_key["rnn-32"], by_key["lstm-32"], "unknown_words", "has fewer words that are none", less)
        )
    if {"rnn-32", "lstm-128x2"} <= by_key.keys():
        pair = by_key["rnn-32"], by_key["lstm-128x2"]
        found.append(_judge(*pair, "quotes_closed", "closes more of its quotes", more))
        found.append(_judge(*pair, "marks_spaced", "spaces more of its punctuation rightly", more))
        found.append(_judge(*pair, "paragraphs_finished", "ends more of its paragraphs with a sentence", more))
    return found


def _adam(sgd: Line, adam: Line) -> Claim:
    """Loss and perplexity that Adam saves, as shares of plain SGD's."""
    shares = {}
    for name, where in (("loss", "measured.loss_nats"), ("perplexity", "measured.perplexity")):
        before, after = sgd.mean(where), adam.mean(where)
        assert before is not None
        assert after is not None
        shares[name] = 1 - after / before
    sizes = [abs(shares[name] - claimed) <= ABOUT * claimed for name, claimed in ADAM_CLAIM.items()]
    verdict = FAILS if min(shares.values()) <= 0 else HOLDS if all(sizes) else IN_PART
    said = " and ".join(
        f"a {name} {abs(share):.1%} {'lower' if share > 0 else 'higher'}" for name, share in shares.items()
    )
    evidence = f"with Adam, {said} than with plain SGD at the learning rate of its recipe"
    loss, perplexity = ADAM_CLAIM["loss"], ADAM_CLAIM["perplexity"]
    claim = f"Adam takes about {loss:.0%} off the RNN's loss and {perplexity:.0%} off its perplexity"
    return Claim(claim, verdict, evidence, {f"{name}_share": share for name, share in shares.items()})


def _inequality(worse: Line, better: Line) -> Claim:
    """Whether one model's loss is above another's, seed by seed."""
    pairs = list(zip(worse.runs, better.runs, strict=False))
    differences = [_loss(a) - _loss(b) for a, b in pairs]
    mean, stderr, over = _mean_and_error(pairs, differences)
    in_all = min(differences) > 0
    verdict = HOLDS if in_all and mean > ERRORS * stderr else IN_PART if mean > 0 else FAILS
    count = "every seed" if in_all else f"{sum(d > 0 for d in differences)} of {len(differences)} seeds"
    way = "lower" if mean > 0 else "higher"
    evidence = f"its loss is {plus_minus(abs(mean), stderr)} {way} (standard error over {over}); lower in {count}"
    figures = {"difference_nats": mean, "stderr_nats": stderr, "differences_nats": differences}
    return Claim(f"{better.entrant.title} is better than {worse.entrant.title}", verdict, evidence, figures)


def _loss(run: Finished) -> float:
    nats: float = run.files["measured"]["loss_nats"]
    return nats


def _mean_and_error(
    pairs: Sequence[tuple[Finished, Finished]], differences: Sequence[float]
) -> tuple[float, float, str]:
    """The mean difference, its standard error, and over what."""
    if len(differences) > 1:
        return statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences)), "seeds"
    a, b = (run.files["measured"] for run in pairs[0])
    sums = np.array(a["sums_nats"]) - np.array(b["sums_nats"])
    return *mean_and_stderr(sums.tolist(), a["counts"]), "stories, paired; one seed only"


def _drift(line: Line) -> Claim:
    """Where training takes the RNN's spectral radius, which starts at 1."""
    claim = "Hidden weights with principal eigenvalue 1 do not stay that way"
    start = line.mean("measured.watched_at_start.spectral_radius_l0")
    ends = [curve[-1] for run in line.runs if (curve := radii_of(run))]
    if start is None or not ends:
        return Claim(claim, IN_PART, "its files do not hold the spectral radius")
    end = statistics.fmean(ends)
    verdict = FAILS if abs(end - start) < DRIFT else HOLDS
    evidence = f"its spectral radius goes from {start:.3f} to {end:.3f} in training"
    return Claim(claim, verdict, evidence, {"start": start, "ends": ends})


def radii_of(run: Finished) -> list[float]:
    """The spectral radius of the first layer's hidden weights at every evaluation."""
    return [m["spectral_radius_l0"] for m in run.metrics if "spectral_radius_l0" in m]


def less(a: float, b: float) -> bool:
    """Whether the second is smaller."""
    return b < a


def more(a: float, b: float) -> bool:
    """Whether the second is larger."""
    return b > a


def _judge(first: Line, second: Line, name: str, what: str, better: Callable[[float, float], bool]) -> Claim:
    """A judgement by eye, as a share counted on the samples of both."""
    a, b = (line.mean(f"measured.judgements.{name}") for line in (first, second))
    claim = f"The {second.entrant.title} {what} than the {first.entrant.title}"
    if a is None or b is None:
        return Claim(claim, IN_PART, "the samples hold too little to tell")
    pairs = zip(first.values(f"measured.judgements.{name}"), second.values(f"measured.judgements.{name}"), strict=False)
    in_all = all(better(*pair) for pair in pairs)
    verdict = HOLDS if in_all else IN_PART if better(a, b) else FAILS
    return Claim(claim, verdict, f"{b:.2%} against {a:.2%}", {first.entrant.key: a, second.entrant.key: b})
