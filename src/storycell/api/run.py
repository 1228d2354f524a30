"""`Run`: a run folder seen from Python: its settings, its curve, its model."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from storycell.api.model import Model, load
from storycell.checkpoint import RunConfig, RunFolder
from storycell.config import Settings


@dataclass(frozen=True)
class Run:
    """One training. `summary` is what it ended with (the keys that `storycell train --json` prints)."""

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    interrupted: str = ""  # the signal that stopped it, if one did

    @cached_property
    def config(self) -> RunConfig:
        """Everything in `config.json`."""
        return RunFolder(self.path).config()

    @property
    def settings(self) -> Settings:
        """Every setting, resolved."""
        return self.config.settings

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The learning curve: the lines of `metrics.jsonl`."""
        return RunFolder(self.path).metrics()

    @cached_property
    def model(self) -> Model:
        """The best weights, ready to write and to be measured."""
        return load(self.path)
