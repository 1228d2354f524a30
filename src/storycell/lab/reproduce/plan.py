"""What is trained: the article's models on equal terms, and whatever is to be compared with them.

A `Plan` (the text, a budget for each model, seeds, more cells) is kept in `plan.json`, so that an interrupted
experiment goes on as it began and two experiments are never mixed. The article's own figures are here and nowhere else.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storycell import config
from storycell.data.corpus import Named, open_corpus
from storycell.errors import CorpusError, RunFolderError, SettingsError
from storycell.runs import files
from storycell.runs.files import write_json
from storycell.runs.folder import refuse_unknown_cell
from storycell.training.start import Texts

CHARS = 10_000_000  # a model, unless another budget is given
SAMPLES = 100
SAMPLE_CHARS = 1200
TEMPERATURE = 1.0  # the model's own distribution; anything lower would flatter it


@dataclass(frozen=True)
class Entrant:
    """One model: a recipe, and what is changed in it."""

    key: str  # the name of its folders
    title: str
    recipe: str
    cell: str = ""  # instead of the recipe's
    lr: float | None = None  # the same
    article: tuple[float, float] | None = None  # the loss and perplexity that the article reports

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings on top of the recipe."""
        return {name: value for name, value in (("cell", self.cell), ("lr", self.lr)) if value}

    @property
    def settings(self) -> config.Settings:
        """All settings but budget and seed."""
        return config.resolve(self.recipe, **self.overrides)


ENTRANTS = (
    Entrant("rnn-32-sgd", "RNN, length 32, plain SGD", "article-rnn-32-sgd"),
    Entrant("rnn-32", "RNN, length 32", "article-rnn-32", article=(1.058, 2.86)),
    Entrant("lstm-32", "LSTM, length 32", "article-lstm-32", article=(0.9177, 2.45)),
    Entrant("lstm-128", "LSTM, length 128", "article-lstm-128", article=(0.8285, 2.32)),
    Entrant("lstm-128x2", "two-layer LSTM, length 128", "article-lstm-128x2", article=(0.7964, 2.22)),
)
CELL_RATES = {"gru": 4e-3}  # where the LSTM's is not the best of the same grid (LOG.md)
ADAM_CLAIM = {"loss": 0.33, "perplexity": 0.25}  # what the article says Adam improved the RNN by


@dataclass(frozen=True)
class Plan:
    """One experiment."""

    words: list[str]
    valid_words: list[str] | None
    unit: str  # chars or minutes
    amount: float
    seeds: int
    cells: list[str]  # more cells, each in the place of the two-layer LSTM's
    samples: int
    settings: dict[str, Any]  # threads, backend and the like, for every run

    @property
    def entrants(self) -> list[Entrant]:
        """The article's models, then the other cells."""
        more = [
            Entrant(f"{cell}-128x2", f"two-layer {cell}, length 128", "article-lstm-128x2", cell, CELL_RATES.get(cell))
            for cell in self.cells
        ]
        return [*ENTRANTS, *more]

    @property
    def runs(self) -> list[tuple[Entrant, int]]:
        """Every run: all models with the first seed, then all with the second, and so on."""
        return [(entrant, seed) for seed in range(1, self.seeds + 1) for entrant in self.entrants]

    @property
    def budget(self) -> dict[str, float]:
        """As a setting of a training."""
        return {self.unit: int(self.amount) if self.unit == "chars" else self.amount}


def folder_of(out: Path, entrant: Entrant, seed: int) -> Path:
    """The run folder of one model and seed."""
    return out / "runs" / f"{entrant.key}-seed{seed}"


def make(
    words: list[str],
    valid_words: list[str] | None,
    *,
    chars: int | None = None,
    minutes: float | None = None,
    seeds: int = 1,
    more_cells: Sequence[str] = (),
    samples: int = SAMPLES,
    settings: dict[str, Any] | None = None,
) -> Plan:
    """A plan, checked: `SettingsError` says what makes no sense."""
    if chars is not None and minutes is not None:
        raise SettingsError("chars and minutes: give one budget, in characters or minutes a model")
    for name, count in (("seeds", seeds), ("samples", samples)):
        if count < 1:
            raise SettingsError(f"{name} = {count}: it must be at least 1")
    for cell in more_cells:
        refuse_unknown_cell(cell)
    unit, amount = ("minutes", minutes) if minutes is not None else ("chars", CHARS if chars is None else chars)
    plan = Plan(words, valid_words, unit, amount, seeds, list(more_cells), samples, settings or {})
    for entrant in plan.entrants:
        entrant.settings.with_changes(**plan.budget, **plan.settings)
    _refuse_unequal(plan)
    return plan


def _refuse_unequal(plan: Plan) -> None:
    """Every model reads as many characters a step: the recipes are made that way, and stay so."""
    steps = {e.settings.training.streams * e.settings.training.chunk for e in plan.entrants}
    if len(steps) != 1:
        raise SettingsError(f"the recipes read {sorted(steps)} characters a step: they are not on equal terms")


def settle(plan: Plan, out: Path) -> Plan:
    """Keep the plan in the folder `out`, or check that it is the one begun there; more seeds and cells may be added."""
    path = out / "plan.json"
    if path.exists():
        begun = json.loads(files.read_text(path))
        fixed = ("words", "valid_words", "unit", "amount", "samples")
        if wrong := [name for name in fixed if begun.get(name) != asdict(plan)[name]]:
            raise RunFolderError(
                f"{out} holds an experiment with {wrong[0]} = {begun.get(wrong[0])!r}, not "
                f"{asdict(plan)[wrong[0]]!r}; repeat the first command to go on with it, or name another --out"
            )
    write_json(path, asdict(plan))
    return plan


def text_of(text: Texts | None, valid: Texts | None) -> tuple[Texts, Texts | None, str]:
    """The text to train on, what is held out, and a note; TinyStories where it can be had, or the embedded stories."""
    if text is not None:
        return text, valid, ""
    try:
        for split in ("train", "valid"):
            open_corpus(["tinystories"], split=split, recorded=True)
    except CorpusError as error:
        return Named("stories"), None, f"on the embedded stories, not on TinyStories: {error}"
    return Named("tinystories"), None, ""
