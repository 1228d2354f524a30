"""What `config.json` holds: every setting, resolved; the text; versions; the machine."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from storycell.config import Settings, StrictModel


class TextRecord(StrictModel):
    """Which text a run was trained on."""

    words: list[str]
    valid_words: list[str] | None = None
    encoding: str = "utf-8"
    column: str | None = None
    vocab: str = "characters"
    digest: str
    train_chars: int = Field(ge=0)
    valid_chars: int = Field(ge=0)
    tells_stories: bool | None = None  # has it a story's first words; None where an older version made the run


class RunConfig(StrictModel):
    """The whole of `config.json`."""

    format: Literal[1] = 1
    made_at: str
    settings: Settings
    text: TextRecord
    init: str | None = None
    versions: dict[str, str]
    machine: dict[str, str | int]


def now() -> str:
    """This instant, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
