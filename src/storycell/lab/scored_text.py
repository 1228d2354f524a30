"""The text that several models are scored on, and the text that one of them was trained on.

A `ScoredText` has stories as strings, so that models with different vocabularies can be compared on it character by
character.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storycell.data import corpus
from storycell.data.prepare import prepare_cached
from storycell.data.story_pieces import stories_in
from storycell.data.tokens import Prepared, is_prepared, open_prepared, split_stories
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.errors import CorpusError
from storycell.runs import text as checkpoint
from storycell.runs.folder import TextRecord
from storycell.types import BOUNDARY, Ids

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


def of_words(words: Sequence[str], encoding: str = "utf-8", column: str | None = None) -> ScoredText:
    """The passage that words name; of a corpus that holds something out, what it holds out."""
    if len(words) == 1 and is_prepared(words[0]):
        return _of_prepared(open_prepared(words[0]), words[0])
    return _of_corpus(corpus.open_corpus(words, encoding, "valid", column))


def held_out(record: TextRecord) -> ScoredText:
    """What a run held out from its training text; `CorpusError` where it is not there any more."""
    if (valid := checkpoint.open_valid(record)) is not None:
        return _of_corpus(valid)
    return _of_prepared(_prepared(record), " ".join(record.words))


def learnt(record: TextRecord) -> tuple[Ids, Vocabulary]:
    """What a run was trained on, in characters, `[tokens]`, and their vocabulary; `CorpusError` as above."""
    prepared = _prepared(record)
    if prepared.vocab.kind != "characters":
        raise CorpusError(f"{' '.join(record.words)} was prepared as bytes; baselines count characters")
    return prepared.train_ids, prepared.vocab


def as_bytes(ids: Ids, vocab: Vocabulary) -> bytes:
    """Ids as UTF-8, a byte for a boundary: what a compressor reads."""
    written = [BOUNDARY_BYTE if k == BOUNDARY else vocab.bytes_of(k) for k in range(len(vocab))]
    return b"".join(map(written.__getitem__, ids.tolist()))


def _prepared(record: TextRecord) -> Prepared:
    """The token files of a run's text, in characters."""
    if "-" in record.words:
        raise CorpusError("the training text was standard input, which is gone")
    if missing := [w for w in record.words if Path(w).is_absolute() and not Path(w).exists()]:
        raise CorpusError(f"the training text {missing[0]} is not there any more")
    return checkpoint.read_text(record.model_copy(update={"vocab": "characters"}))


def _of_corpus(text: corpus.Corpus) -> ScoredText:
    if text.is_embedded:
        return _of_prepared(prepare_cached(text), text.name)
    stories = tuple(story.decode() for story in stories_in(text.blocks()))
    if not stories:
        raise CorpusError(f"{text.name} holds no characters to score")
    return ScoredText(text.name, stories)


def _of_prepared(prepared: Prepared, name: str) -> ScoredText:
    if prepared.valid_ids is None:
        raise CorpusError(f"{name} is too short to hold anything out; name a text to score with --text")
    texts = (prepared.vocab.decode(story[1:][story[1:] != BOUNDARY]) for story in split_stories(prepared.valid_ids))
    return ScoredText(name, tuple(texts), is_embedded=prepared.name == "stories")
