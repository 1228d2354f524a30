"""What the article claims, held against what was measured: it holds, it holds on average only, or it does not.

In: the lines of the table. Out: `Claim`s: what is claimed, a verdict, the evidence in figures. An inequality between
two models holds where it does for every seed and the mean difference is beyond two standard errors of it: over seeds
where there are several, over stories (paired) where there is one.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from storycell.evaluator import mean_and_stderr
from storycell.experiments.reproduce.plan import ADAM_CLAIM
from storycell.experiments.reproduce.table import Finished, Line

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
            _judged(by_key["rnn-32"], by_key["lstm-32"], "unknown_words", "has fewer words that are none", less)
        )
    if {"rnn-32", "lstm-128x2"} <= by_key.keys():
        pair = by_key["rnn-32"], by_key["lstm-128x2"]
        found.append(_judged(*pair, "quotes_closed", "closes more of its quotes", more))
        found.append(_judged(*pair, "marks_spaced", "spaces more of its punctuation rightly", more))
        found.append(_judged(*pair, "paragraphs_finished", "ends more of its paragraphs with a sentence", more))
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
    evidence = f"its loss is {abs(mean):.4f} ± {stderr:.4f} {way} (standard error over {over}); lower in {count}"
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


def _judged(first: Line, second: Line, name: str, what: str, better: Callable[[float, float], bool]) -> Claim:
    """A judgement by eye, as a share counted on the samples of both."""
    a, b = (line.mean(f"measured.judgements.{name}") for line in (first, second))
    claim = f"The {second.entrant.title} {what} than the {first.entrant.title}"
    if a is None or b is None:
        return Claim(claim, IN_PART, "the samples hold too little to tell")
    pairs = zip(first.values(f"measured.judgements.{name}"), second.values(f"measured.judgements.{name}"), strict=False)
    in_all = all(better(*pair) for pair in pairs)
    verdict = HOLDS if in_all else IN_PART if better(a, b) else FAILS
    return Claim(claim, verdict, f"{b:.2%} against {a:.2%}", {first.entrant.key: a, second.entrant.key: b})
