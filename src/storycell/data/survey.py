"""The first pass over a text: which characters it has, how many, and which of its stories are large.

It gives the vocabulary, and the `Survey` from which the second pass (`storycell.data.splits`) decides what is held out.
Lengths are in characters, or in bytes where these are the ids.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from storycell.data import pieces
from storycell.data import vocab as vocabularies
from storycell.data.blocks import Bookmark
from storycell.data.corpus import Corpus
from storycell.data.resumable import Journal, Progress, no_progress, walk, with_progress
from storycell.data.story_pieces import Cutter
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.types import RESERVED

LARGE_SHARE = 10  # a story is large if it is more than a tenth of the text; so there are fewer large stories than this
_CONTINUATION = bytes(range(0x80, 0xC0))  # the bytes of a character in UTF-8 after its first


def length_of(piece: bytes, in_bytes: bool) -> int:
    """The length of whole characters of UTF-8: in characters, or in bytes."""
    return len(piece) if in_bytes or piece.isascii() else len(piece.translate(None, _CONTINUATION))


@dataclass(frozen=True)
class Survey:
    """How long a text is, and the lengths of its large stories by their numbers, from 0 on."""

    length: int
    stories: int
    large: dict[int, int]


class Count:
    """A task that counts characters and measures stories."""

    def __init__(self, in_bytes: bool) -> None:
        self.counts = np.zeros(0x110000, dtype=np.int64)
        self._in_bytes, self._cutter = in_bytes, Cutter()
        self._stories = self._total = 0
        self._length = 0  # of the story that goes on
        self._longest: list[tuple[int, int]] = []  # a heap of (length, number) of stories that have ended

    def take(self, block: bytes) -> None:
        """As `Task.take`."""
        kept: list[bytes] = []
        for begins, piece in self._cutter.cut(block):
            if begins:
                self._end_story()
                self._stories += 1
            self._length += length_of(piece, self._in_bytes)
            kept.append(piece)
        vocabularies.add_counts(self.counts, b"".join(kept))

    def _end_story(self) -> None:
        if not self._length:
            return
        self._total += self._length
        if len(self._longest) < LARGE_SHARE:
            heapq.heappush(self._longest, (self._length, self._stories - 1))
        elif self._length > self._longest[0][0]:
            heapq.heapreplace(self._longest, (self._length, self._stories - 1))
        self._length = 0

    def end_of_source(self) -> None:
        """As `Task.end_of_source`."""
        self._end_story()
        self._cutter = Cutter()

    def state(self) -> dict[str, Any]:
        """As `Task.state`."""
        codes = np.flatnonzero(self.counts)
        begins, white = self._cutter.state
        return {
            "codes": codes.tolist(),
            "counts": self.counts[codes].tolist(),
            "stories": [self._stories, self._total, self._length, self._longest],
            "cutter": [begins, white.hex()],
        }

    def go_on(self, state: dict[str, Any]) -> bool:
        """As `Task.go_on`."""
        self.counts[state["codes"]] = state["counts"]
        self._stories, self._total, self._length, longest = state["stories"]
        self._longest = [(length, number) for length, number in longest]
        begins, white = state["cutter"]
        self._cutter = Cutter(begins, bytes.fromhex(white))
        return True

    def survey(self) -> Survey:
        """What was measured, once all sources have ended."""
        large = {number: length for length, number in sorted(self._longest) if length * LARGE_SHARE > self._total}
        return Survey(self._total, self._stories, large)


def survey(
    corpus: Corpus, vocab: str | Vocabulary, progress: Progress = no_progress, journal: Journal | None = None
) -> tuple[Vocabulary, Survey]:
    """The vocabulary of a text (or the one given), and what the second pass needs to know of its stories."""
    count = Count(in_bytes=vocab == "bytes" or (isinstance(vocab, Vocabulary) and vocab.kind == "bytes"))
    walk(corpus, count, "counting characters", progress, journal)
    found = count.survey()
    if not found.stories:
        raise CorpusError(f"{corpus.name} holds no characters but white space: there is nothing to learn from")
    if isinstance(vocab, str):
        kind, ids = vocabularies.parse_kind(vocab)
        vocab = vocabularies.BYTES if kind == "bytes" else vocabularies.from_counts(count.counts)
        vocab = _with_pieces(corpus, vocab, ids, progress) if kind == "pieces" else vocab
        vocab = replace(vocab, labels=corpus.labels) if corpus.labels else vocab
    return vocab, found


_SAMPLED_BYTES = 32 << 20  # of a text, from which its pieces are learnt
_SAMPLE_BYTES = 1 << 16  # that lie side by side, where the text is larger than that


def _with_pieces(corpus: Corpus, characters: Vocabulary, ids: int, progress: Progress) -> Vocabulary:
    """A vocabulary of `ids` ids, the characters among them; of a large text, from samples evenly spread over it."""
    if ids <= len(characters):
        raise SettingsError(
            f"pieces = {ids:,}: the text has {len(characters.characters):,} different characters, each of which is a "
            "piece; ask for more"
        )
    stride = max(1, -(-corpus.size_bytes // _SAMPLED_BYTES))
    words, find, at = Counter[str](), pieces.word_pattern(characters.characters), 0
    advance = with_progress("finding pieces", corpus, progress)
    for source in corpus.sources:
        for block in source.blocks(advance, Bookmark()):
            for story in _sampled(block, at, stride).split(BOUNDARY_BYTE):
                pieces.count_words(words, find, story)
            at += len(block)
    merges = pieces.learn_merges(words, characters.characters, ids - RESERVED)
    return replace(characters, kind="pieces", merges=tuple(merges))


def _sampled(block: bytes, at: int, stride: int) -> bytes:
    """What of a block is in the sample: one in `stride` parts of the text, wherever the block, at a place, begins."""
    if stride == 1:
        return block
    every = _SAMPLE_BYTES * stride
    starts = range(at // every * every - at, len(block), every)
    return BOUNDARY_BYTE.join(block[max(0, start) : max(0, start + _SAMPLE_BYTES)] for start in starts)


def build_vocabulary(corpus: Corpus) -> Vocabulary:
    """The characters of a text."""
    return survey(corpus, "characters")[0]
