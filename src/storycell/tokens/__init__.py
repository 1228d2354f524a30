"""Stories -> memory-mapped token files, in constant memory.

In: a `Corpus`, and the vocabulary to use or its kind. Out: a folder with `train.tokens` and `valid.tokens` (ids as
uint8 or uint16, nothing else), `vocab.json` and `prepared.json`. Two passes over the text: characters are counted, then
translated. A pass that was stopped or killed goes on from where it was, in the middle of a file too.

| file | what is in it |
|---|---|
| `folder` | the folder's format, and reading it |
| `preparing` | `prepare`, from a corpus to a folder |
| `passes` | one pass over a corpus, and where it goes on |
| `counting` | the first pass: characters, and how long the stories are |
| `halves` | the second pass: what is trained on, and what is held out |
| `writing` | one token file |
| `cache` | what has been prepared before |
"""

from storycell.tokens.cache import cache_folder, cached
from storycell.tokens.counting import vocabulary_of
from storycell.tokens.folder import FORMAT, Half, Prepared, is_prepared, open_prepared, stories_of
from storycell.tokens.halves import write_tokens
from storycell.tokens.passes import Progress, silent
from storycell.tokens.preparing import prepare

__all__ = [
    "FORMAT",
    "Half",
    "Prepared",
    "Progress",
    "cache_folder",
    "cached",
    "is_prepared",
    "open_prepared",
    "prepare",
    "silent",
    "stories_of",
    "vocabulary_of",
    "write_tokens",
]
