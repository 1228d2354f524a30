"""The first pass over a text: which characters it has, how many, and whether it is more than one story."""

from typing import Any

import numpy as np

from storycell import vocab as vocabularies
from storycell.corpus import Corpus
from storycell.corpus.pieces import Cutter
from storycell.errors import CorpusError
from storycell.journal import Journal
from storycell.tokens.passes import Progress, silent, walk
from storycell.vocab import Vocabulary

MANY = 2  # stories; how many more there are does not matter yet


class Count:
    """A task that counts characters, and stories as far as `MANY`."""

    def __init__(self) -> None:
        self.counts = np.zeros(0x110000, dtype=np.int64)
        self.stories = 0
        self._cutter = Cutter()

    def take(self, block: bytes) -> None:
        """As `Task.take`."""
        vocabularies.add_counts(self.counts, block)
        if self.stories < MANY:
            self.stories += sum(begins for begins, _ in self._cutter.cut(block))

    def end_of_source(self) -> None:
        """As `Task.end_of_source`."""
        self._cutter = Cutter()

    def state(self) -> dict[str, Any]:
        """As `Task.state`."""
        codes = np.flatnonzero(self.counts)
        both = {"codes": codes.tolist(), "counts": self.counts[codes].tolist()}
        return both | {"stories": self.stories, "begins": self._cutter.begins}

    def go_on(self, state: dict[str, Any]) -> bool:
        """As `Task.go_on`."""
        self.counts[state["codes"]] = state["counts"]
        self.stories, self._cutter = state["stories"], Cutter(state["begins"])
        return True


def survey(
    corpus: Corpus, vocab: str | Vocabulary, progress: Progress = silent, journal: Journal | None = None
) -> tuple[Vocabulary, int, int]:
    """The vocabulary, the stories (`MANY` for any more), the characters (bytes, where they are the ids)."""
    count = Count()
    walk(corpus, count, "counting characters", progress, journal)
    if not count.counts.any():
        raise CorpusError(f"{corpus.name} holds no characters: there is nothing to learn from")
    in_bytes = vocab == "bytes" or (isinstance(vocab, Vocabulary) and vocab.kind == "bytes")
    total = vocabularies.utf8_bytes(count.counts) if in_bytes else int(count.counts.sum())
    if isinstance(vocab, str):
        vocab = vocabularies.BYTES if vocab == "bytes" else vocabularies.from_counts(count.counts)
    return vocab, min(count.stories, MANY), total


def vocabulary_of(corpus: Corpus) -> Vocabulary:
    """The characters of a text."""
    return survey(corpus, "characters")[0]
