"""`compare`: any runs and the baselines on one text, beside each other.

A `Comparison` is rows of plain JSON, and a page. The first run is the one that all others are compared with, character
by character on the same text.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from storycell import api
from storycell.api import Model
from storycell.data.tokens import as_blocks
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation.compressors import MOST_TRAINING_BYTES
from storycell.lab import breakdown as kinds
from storycell.lab import scored_text, scoring
from storycell.lab.scored_text import ScoredText
from storycell.lab.scoring import Scores
from storycell.runs.folder import RunConfig

ORDERS = (4, 8, 12)  # of the n-grams in the table

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `rows` are in the order of the runs, the baselines after them."""

    text: ScoredText
    scored: list[Scores]
    rows: list[dict[str, Any]]
    breakdown: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "text": self.text.name,
            "stories": len(self.text.stories),
            "chars": len(self.text.targets),
            "against": self.rows[0]["name"],
            "rows": self.rows,
            "breakdown": self.breakdown,
            "notes": self.notes,
        }


def compare(
    runs: Sequence[str | Path],
    text: Sequence[str] | None = None,
    *,
    encoding: str = "utf-8",
    column: str | None = None,
    windows: int | None = None,
    baselines: bool = True,
    backend: str = "auto",
    say: Say = lambda note: None,
) -> Comparison:
    """Score runs and baselines on a text; without one, on what the first run held out.

    `windows` is the length of the zero-state windows; without it, the longest chunk that one of the runs was trained
    on. The baselines learn from the training text of the first run, where that can still be read.
    """
    if not runs:
        raise SettingsError("there is nothing to compare; name one run or more")
    if windows is not None and windows < 1:
        raise SettingsError(f"windows = {windows}: it must be at least 1")
    models = [api.load(run, backend=backend) for run in runs]
    target = _target(models[0], text, encoding, column, say)
    length = windows or max(model.config.settings.training.chunk for model in models)
    scored = []
    for name, model in zip(names_of(models), models, strict=True):
        say(f"scoring {name}")
        scored.append(scoring.of_run(model, target, length, name))
    notes: list[str] = []
    if baselines:
        scored += baselines_on(models[0].config, models[0].vocab, target, length, notes, say)
    floor = scoring.of_floor(target)
    scored += [floor] if floor else []
    rows = [scoring.row(scores, target, against=scored[0]) for scores in scored]
    return Comparison(target, scored, rows, kinds.breakdown(target, scored), notes)


def names_of(models: Sequence[Model]) -> list[str]:
    """A name for each model: the last part of its folder, with as much before it as makes it the only one."""
    paths = [Path(os.path.abspath(model.path)) for model in models]  # noqa: PTH100 - links stay as they were named
    for parts in count(1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names if len(set(names)) == len(names) else [f"{name} ({k})" for k, name in enumerate(names, 1)]


def _target(model: Model, text: Sequence[str] | None, encoding: str, column: str | None, say: Say) -> ScoredText:
    if text:
        return scored_text.of_words(text, encoding, column, model.config.text)
    try:
        return scored_text.held_out(model.config, model.vocab, say)
    except CorpusError as error:
        raise CorpusError(f"what {model.path} held out cannot be read: {error}; name a text with --text") from None


def baselines_on(
    config: RunConfig, known: Vocabulary, target: ScoredText, windows: int, notes: list[str], say: Say
) -> list[Scores]:
    """n-grams, xz and bz2; what needs the training text is left out, with a note, where that is gone."""
    alone = [scoring.of_compressor(name, target) for name in ("xz", "bz2")]
    try:
        training_ids, vocab = scored_text.load_training_ids(config, known)
    except CorpusError as error:
        notes.append(f"no n-gram, and xz only alone: {error}")
        return alone
    ngrams = []
    for order in ORDERS:
        say(f"counting {order}-grams")
        ngrams.append(scoring.of_ngram(training_ids, vocab, target, windows, order))
    if len(training_ids) > scoring.MOST_COUNTED:
        notes.append(f"the n-grams counted the first {scoring.MOST_COUNTED:,} of {len(training_ids):,} characters")
    say("compressing")
    read = b"".join(as_blocks(training_ids[max(0, len(training_ids) - MOST_TRAINING_BYTES) :], vocab))
    return [*ngrams, scoring.of_compressor("xz", target, read + BOUNDARY_BYTE), *alone]
