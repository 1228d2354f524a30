"""The text that several models are scored on, and the text that one of them was trained on.

A `ScoredText` has stories as strings, so that models with different vocabularies can be compared on it character by
character.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from storycell.data.story_pieces import stories_in
from storycell.data.tokens import Prepared
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.errors import CorpusError
from storycell.runs.folder import RunConfig, TextRecord
from storycell.runs.text import (
    Notice,
    Scored,
    is_embedded,
    open_held_out,
    open_words,
    read_in_characters,
    read_scored_blocks,
)
from storycell.types import Ids

END = 0x110000  # the code that stands for the end of a story, where there are several

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScoredText:
    """Stories to score. Several of them have ends, and these are predicted too (see `evaluator`)."""

    name: str
    stories: tuple[str, ...]
    is_embedded: bool = False  # whether the grammar knows its true probability

    @cached_property
    def targets(self) -> Codes:
        """The code point of every target, `END` for the end of a story, `[targets]`."""
        end = [END] if len(self.stories) > 1 else []
        return np.concatenate([[*map(ord, story), *end] for story in self.stories]).astype(np.int64)

    @cached_property
    def story_of(self) -> npt.NDArray[np.int64]:
        """The number of the story that each target belongs to, `[targets]`."""
        end = int(len(self.stories) > 1)
        return np.repeat(np.arange(len(self.stories)), [len(story) + end for story in self.stories])

    @property
    def utf8_bytes(self) -> int:
        """The size of the stories, separators not counted."""
        return sum(len(story.encode()) for story in self.stories)

    def ids(self, vocab: Vocabulary) -> Ids:
        """The stories as a token file would hold them, `0 s1 … sn 0 s1 … sm`."""
        text = b"".join(BOUNDARY_BYTE + story.encode() for story in self.stories)
        return vocab.encode_block(text)


def of_words(
    words: Sequence[str], encoding: str = "utf-8", column: str | None = None, record: TextRecord | None = None
) -> ScoredText:
    """The text that words name; of a corpus that holds something out, what it holds out."""
    return _score(open_words(words, encoding=encoding, column=column, record=record))


def held_out(config: RunConfig, vocab: Vocabulary, notice: Notice = lambda _: None) -> ScoredText:
    """What a run held out from its training text; `CorpusError` where it is not there any more."""
    text = open_held_out(config, vocab, notice)
    return _score(read_in_characters(config, vocab) if isinstance(text, Prepared) else text)


def load_training_ids(config: RunConfig, vocab: Vocabulary) -> tuple[Ids, Vocabulary]:
    """What a run was trained on, in characters, `[tokens]`, and their vocabulary; `CorpusError` as above."""
    prepared = read_in_characters(config, vocab)
    if prepared.vocab.kind != "characters":
        raise CorpusError(f"{prepared.name} was prepared as {prepared.vocab.kind}; baselines count characters")
    return prepared.train_ids, prepared.vocab


def _score(text: Scored) -> ScoredText:
    stories = tuple(story.decode("utf-8", "replace") for story in stories_in(read_scored_blocks(text)))
    if not stories:
        raise CorpusError(f"{text.name} holds no characters to score")
    return ScoredText(text.name, stories, is_embedded(text))
