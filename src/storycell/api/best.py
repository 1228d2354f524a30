"""The recipe `best`: what a text of this size deserves in a budget of this length.

In: settings, and how many characters there are to train on. Out: those settings of the recipe that depend on both.
Wide layers pay when the budget is long; dropout pays when the text is read again and again (LOG.md has the runs).

The surprising decision: minutes are counted as the characters that two cores of a laptop read, whatever this machine
does, so the same command makes the same network everywhere.
"""

import math
from bisect import bisect_right
from typing import Any, NamedTuple

from storycell.config import Settings

WIDTHS = {256: 90_000, 384: 42_000}  # hidden width of two layers: characters learnt from a second
WIDER_FROM = 8 * 60  # seconds
SMALL_TEXT = 4_000_000  # characters: a smaller text is read in smaller steps


class Dropouts(NamedTuple):
    """Dropout by how often the text is read."""

    passes: tuple[float, ...] = (2.5, 8, 16)
    dropout: tuple[float, ...] = (0.0, 0.1, 0.25, 0.35)

    def of(self, passes: float) -> float:
        """The dropout for a text read so many times."""
        return self.dropout[bisect_right(self.passes, passes)]


def fitted(settings: Settings, train_chars: int) -> dict[str, Any]:
    """`hidden`, `dropout` and `streams` for a text of `train_chars`, by name."""
    unit, amount = settings.training.budget
    training = settings.training
    chars = {"chars": amount, "steps": amount * training.streams * training.chunk, "minutes": math.nan}[unit]
    seconds = amount * 60 if unit == "minutes" else chars / WIDTHS[256]
    hidden = 384 if seconds >= WIDER_FROM else 256
    if unit == "minutes":
        chars = seconds * WIDTHS[hidden]
    streams = 32 if train_chars < SMALL_TEXT else 64
    return {"hidden": hidden, "dropout": Dropouts().of(chars / train_chars), "streams": streams}
