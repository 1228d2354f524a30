"""The recipe `best`: what a text of this size deserves in a budget of this length.

In: settings, and how many characters there are to train on. Out: those settings of the recipe that depend on both.
Wide layers pay when the budget is long or the text short; decay and dropout pay when the text is read again and again
(LOG.md has the runs).

The surprising decision: minutes are counted as the characters that two cores of a laptop read, whatever this machine
does, so the same command makes the same network everywhere.
"""

from bisect import bisect_right
from typing import Any

from storycell.config import Settings

NARROW, WIDE = 256, 384  # hidden units of each of two layers
CHARS_PER_S = {NARROW: 90_000, WIDE: 42_000}  # learnt from
WIDE_FROM_S = 8 * 60  # a budget as long as that
WIDE_FROM_PASSES = 8  # or a text that narrow layers would read as often
SMALL_TEXT = 4_000_000  # characters: a smaller text is read in smaller steps
PASSES = (2.5, 6.5, 20)  # how often the text is read: up to the first the first dropout and decay, and so on
DROPOUTS = (0.0, 0.05, 0.1, 0.2)
WEIGHT_DECAYS = (0.05, 0.1, 0.3, 0.3)


def fitted(settings: Settings, train_chars: int, *, keeps_network: bool = False) -> dict[str, Any]:
    """`streams`, `dropout`, `weight_decay` and `hidden` for a text of `train_chars` characters, by name.

    `keeps_network` leaves `hidden` out: another run brings its own.
    """
    training = settings.training
    unit, amount = training.budget
    streams = min(training.streams, 32 if train_chars < SMALL_TEXT else 64)
    chars = amount * {"chars": 1, "steps": streams * training.chunk, "minutes": 60 * CHARS_PER_S[NARROW]}[unit]
    wide = chars >= min(WIDE_FROM_S * CHARS_PER_S[NARROW], WIDE_FROM_PASSES * train_chars)
    if wide and unit == "minutes":
        chars *= CHARS_PER_S[WIDE] / CHARS_PER_S[NARROW]
    often = bisect_right(PASSES, chars / train_chars)
    fit = {"streams": streams, "dropout": DROPOUTS[often], "weight_decay": WEIGHT_DECAYS[often]}
    return fit if keeps_network else fit | {"hidden": WIDE if wide else NARROW}
