"""What only the grammar of the embedded stories knows about each of their characters.

In: a block of stories. Out: `Feature`s, `[T]` with a boundary's character before each story but the first.
"""

from collections.abc import Sequence

import numpy as np

from storycell.data.stories import corpus as stories
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.inspect.features import Feature


def grammar_features(block: bytes) -> dict[str, Feature]:
    """Where quotations truly are, and who speaks, in a block of embedded stories (the byte 0xFF between two)."""
    inside: list[float] = []
    named: list[float] = []
    for story in map(bytes.decode, block.split(BOUNDARY_BYTE)):
        known = stories.annotate(story) if stories.parses(story) else None
        quoted = known.inside_quotes if known else np.zeros(len(story), dtype=np.bool_)
        speakers = known.speaker if known else ("",) * len(story)
        closing = np.append(quoted[:-1] & ~quoted[1:], False)  # the closing quote itself ends the quotation
        inside += [0.0, *(quoted & ~closing)]
        named += [0.0, *_last_named(speakers)]
    truths = {"truly inside quotes": inside, "the last speaker has a name": named}
    return {name: Feature(name, np.array(values[1:], dtype=np.float32)) for name, values in truths.items()}


def _last_named(speakers: Sequence[str]) -> list[float]:
    """1 where who spoke last, or speaks now, is called by a name; 0 before anybody has spoken."""
    now, found = 0.0, []
    for who in speakers:
        now = float(who[0].isupper()) if who else now
        found.append(now)
    return found
