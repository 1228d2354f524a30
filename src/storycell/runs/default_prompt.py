"""The default prompt: without one, a model begins as its own texts begin.

It is found in the ids of a training text, or from a vocabulary and what a run folder records of its text, and is the
same for `storycell sample`, `generate`, the samples drawn during training, exported files and the served page.
"""

from storycell.data.vocab import Vocabulary
from storycell.runs.folder import TextRecord
from storycell.types import UNKNOWN, Ids

BEGINNING = "Once upon a"
SEARCHED = 1 << 24  # ids at the start of a text in which the words are looked for


def tells_stories(ids: Ids, vocab: Vocabulary) -> bool:
    """Whether the words that stories begin with are in a text of ids `[n]`."""
    words = vocab.encode(BEGINNING)
    if UNKNOWN in words:
        return False
    text, wanted, size = ids[:SEARCHED].tobytes(), words.tobytes(), words.itemsize
    at = text.find(wanted)
    while at % size and at >= 0:  # between two ids of two bytes
        at = text.find(wanted, at + 1)
    return at >= 0


def default_prompt(vocab: Vocabulary, text: TextRecord) -> str:
    """The prompt of a model that knows these characters from this text: a story's first words, or nothing.

    A run that an older version made does not say what its text tells; there the vocabulary decides.
    """
    knows = vocab.kind == "bytes" or set(BEGINNING) <= set(vocab.characters)
    return BEGINNING if knows and text.tells_stories is not False else ""
