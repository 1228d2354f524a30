r"""Pieces of words: a text is cut into words, and each word into pieces by byte-pair encoding over its characters.

The words are close to those of GPT-2 (https://github.com/openai/gpt-2/blob/master/src/encoder.py): letters, digits or
signs with the blank before them, clitics of English, blanks, line ends. A piece never reaches over the end of a word.
Which pieces there are is learnt from a text (Sennrich et al. 2016, arXiv:1508.07909) by Hugging Face's `tokenizers`, an
extra; cutting a text into them needs nothing but this module.

Where a word ends depends on no more than the word after it. So of a text that may go on the pieces of all but its last
two words are settled.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from storycell import extras
from storycell.types import RESERVED, UNKNOWN

PIECES = 2048  # ids, where a vocabulary of pieces is asked for without a number
UNSETTLED = 2  # words at the end of a text that what follows may change
_LONGEST = 40  # characters of a word; what is longer is several
_CACHED = 1 << 18  # words

Merges = Sequence[tuple[str, str]]


def word_pattern(characters: str) -> "re.Pattern[str]":
    """What finds the words of a text; every character is in one. Of `characters` the combining marks are letters."""
    marks = "".join(re.escape(c) for c in characters if unicodedata.category(c)[0] == "M")
    letter = rf"(?:[^\W\d_]|[{marks}])" if marks else r"[^\W\d_]"
    return re.compile(
        rf"'(?:s|t|re|ve|m|ll|d)\b| ?{letter}{{1,{_LONGEST}}}| ?\d{{1,{_LONGEST}}}"
        rf"| ?(?:[^\w\s]|_){{1,{_LONGEST}}}\n{{0,8}}|[^\S\n\x1f]{{1,{_LONGEST}}}|\n{{1,8}}|\s"
    )


def character_classes(characters: str) -> str:
    """What `word_pattern` takes each character for, a letter each: for a program that has no such tables.

    `l` a letter, `m` a combining mark, `d` a digit, `_` itself, `s` white space, `o` any other.
    """
    return "".join(
        "_" if c == "_"
        else "d" if re.match(r"\d", c)
        else "l" if re.match(r"\w", c)
        else "m" if unicodedata.category(c)[0] == "M"
        else "s" if re.match(r"\s", c)
        else "o"
        for c in characters
    )  # fmt: skip


def piece_texts(characters: str, merges: Merges) -> list[str]:
    """The texts of all pieces in the order of their ids, the first of which is `RESERVED`: characters, then merged."""
    return list(dict.fromkeys([*characters, *(a + b for a, b in merges)]))


class Encoder(dict[str, bytes]):
    """Words -> the ids of their pieces, as bytes of a type; a word that is new is cut when it is asked for."""

    def __init__(self, characters: str, merges: Merges, dtype: type[np.unsignedinteger]) -> None:
        super().__init__()
        self._dtype = dtype
        self._find = word_pattern(characters).findall
        self._ids = {text: k for k, text in enumerate(piece_texts(characters, merges), RESERVED)}
        self._ranks = {(self._ids[a], self._ids[b]): k for k, (a, b) in reversed(list(enumerate(merges)))}
        self._merged = {(self._ids[a], self._ids[b]): self._ids[a + b] for a, b in merges}

    def words(self, text: str) -> list[str]:
        """The words of a text."""
        found: list[str] = self._find(text)
        return found

    def encode(self, words: Iterable[str]) -> bytes:
        """The ids of words; of a character that is not known `UNKNOWN`."""
        if len(self) > _CACHED:
            self.clear()
        return b"".join(map(self.__getitem__, words))

    def __missing__(self, word: str) -> bytes:
        ids = np.array(self._cut(word), self._dtype).tobytes()
        self[word] = ids
        return ids

    def _cut(self, word: str) -> list[int]:
        """The pieces of a word: of two neighbours that can be merged the first ones learnt, from the left, always."""
        ids = [self._ids.get(c, UNKNOWN) for c in word]
        never = len(self._ranks)
        while len(ids) > 1:
            ranks = [self._ranks.get(pair, never) for pair in pairwise(ids)]
            at = ranks.index(best := min(ranks))
            if best == never:
                break
            ids[at : at + 2] = [self._merged[ids[at], ids[at + 1]]]
        return ids


def learn_merges(words: "Counter[str]", characters: str, count: int) -> list[tuple[str, str]]:
    """The merges that make `count` pieces, characters included, of words; fewer where no pair occurs twice.

    `MissingExtraError` where `tokenizers` is not installed.
    """
    extras.require("tokenizers", "finding the pieces of a text (--vocab pieces)")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split("\0", "removed")  # the words are ours; no text holds this character
    trainer = trainers.BpeTrainer(
        vocab_size=count, min_frequency=2, initial_alphabet=list(characters), show_progress=False, special_tokens=[]
    )
    learner.train_from_iterator(("\0".join([word] * n) for word, n in sorted(words.items())), trainer)
    return [(a, b) for a, b in json.loads(learner.to_str())["model"]["merges"]]


def count_words(words: "Counter[str]", find: "re.Pattern[str]", block: bytes) -> None:
    """Add the words of some bytes of a text, which may begin and end within a character."""
    words.update(find.findall(block.decode("utf-8", "ignore")))


def piece_lengths(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """How many characters each id stands for, `[V]`; the reserved ones for one."""
    return np.array([1] * RESERVED + [len(text) for text in texts])


@dataclass(frozen=True)
class Prefixes:
    """Which pieces begin with the same characters: in the `order [P]` of their texts, they stand side by side.

    `first` and `end`, `[chars]`, say from where to where, for each piece in the order of ids and each of its
    characters: those that begin with the piece's characters up to and with this one.
    """

    order: npt.NDArray[np.intp]
    first: npt.NDArray[np.intp]
    end: npt.NDArray[np.intp]


def find_prefixes(texts: Sequence[str]) -> Prefixes:
    """The prefixes of all pieces."""
    ordered = sorted(range(len(texts)), key=texts.__getitem__)
    order, at = np.array(ordered, np.intp), np.arange(len(texts))
    lengths = np.array([len(text) for text in texts])
    starts = np.cumsum(lengths) - lengths
    shared = np.zeros(len(texts), np.intp)  # characters that a text has in common with the one before it
    for k in range(1, len(texts)):
        before, text = texts[ordered[k - 1]], texts[ordered[k]]
        differ = (n for n, (a, b) in enumerate(zip(before, text, strict=False)) if a != b)
        shared[k] = next(differ, min(len(before), len(text)))
    first, end = np.zeros((2, lengths.sum()), np.intp)
    for depth in range(1, lengths.max(initial=0) + 1):
        begins = (shared < depth) | (at == 0)
        edges = np.append(np.flatnonzero(begins), len(texts))
        group = np.cumsum(begins) - 1
        reaches = lengths[order] >= depth
        places = starts[order[reaches]] + depth - 1
        first[places], end[places] = edges[group[reaches]], edges[group[reaches] + 1]
    return Prefixes(order, first, end)
