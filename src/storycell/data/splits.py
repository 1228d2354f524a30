"""The second pass over a text: its token files, one to train on and one held out for validation.

Of a story that is more than a tenth of the text the last tenth is held out. Of the others some are held out whole:
those whose hash is below a threshold, a twentieth of all hashes to begin with. So a text of many stories holds out
about a twentieth of them, a text that is one story (or a few) its end, and both are the same wherever a story stands in
its file. Where this comes to less than a fortieth of the text or more than an eighth, because the stories are few or
some are repeated often, the pass is made again with a threshold that gives a twentieth as nearly as can be, from what
the first attempt measured. A story is hashed by its first 4,096 bytes, so that one larger than memory can be placed
when its beginning has been seen; equal stories are always in the same split.

A token file that exists already is opened as it is and cut to length when it is complete, so one whose writer was
killed is continued.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from storycell.data.corpus import Corpus
from storycell.data.resumable import Journal, Progress, no_progress, walk
from storycell.data.story_pieces import Cutter, HashingCutter
from storycell.data.survey import Survey, length_of
from storycell.data.tokens import TokenFile
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.errors import CorpusError
from storycell.types import UNKNOWN

_WAITING_BYTES = 1 << 20


class TokenWriter:
    """Appends stories to a token file and counts what it wrote."""

    def __init__(self, path: Path, vocab: Vocabulary) -> None:
        self.path, self.vocab = path, vocab
        self.stories = self.utf8_bytes = self.tokens = self.unknown_chars = self.length = 0
        self._item_bytes = np.dtype(vocab.dtype).itemsize
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def __enter__(self) -> "TokenWriter":
        self._file: IO[bytes] = self.path.open("r+b" if self.path.exists() else "w+b")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        with self._file:
            if kind is None:
                self._flush(ends=True)
                self._file.flush()
                self._file.truncate()
                os.fsync(self._file.fileno())

    def add(self, piece: bytes, begins: bool) -> None:
        """Some bytes of a story; `begins` says that they are its first. No bytes are no story."""
        if not piece:
            return
        if begins:
            self.stories += 1
            self._waiting.append(BOUNDARY_BYTE)
        self._waiting.append(piece)
        self.utf8_bytes += len(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= _WAITING_BYTES:
            self._flush()

    def _flush(self, ends: bool = False) -> None:
        ids, rest = self.vocab.encode_part(b"".join(self._waiting), ends=ends)
        self._waiting, self._waiting_bytes = [rest], len(rest)
        self._file.write(ids.data)
        self.tokens += len(ids)
        self.length += self.vocab.count_chars(ids)
        self.unknown_chars += int(np.count_nonzero(ids == UNKNOWN))

    @property
    def chars(self) -> int:
        """How many characters it wrote, once it is complete (of bytes: how many bytes)."""
        return self.length - self.stories

    def flush_counts(self) -> list[Any]:
        """What `go_on` needs, once everything so far is safe on disk."""
        self._flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        return [
            self.tokens, self.stories, self.utf8_bytes, self.unknown_chars, self.length, b"".join(self._waiting).hex(),
        ]  # fmt: skip

    @staticmethod
    def go_on(writers: "list[TokenWriter]", done: list[list[Any]]) -> bool:
        """Be as when `flush_counts` gave each its part of `done`; False if the files do not hold as much."""
        if not all(len(counts) == 6 and writer._holds(counts[0]) for writer, counts in zip(writers, done, strict=True)):
            return False
        for writer, counts in zip(writers, done, strict=True):
            writer.tokens, writer.stories, writer.utf8_bytes, writer.unknown_chars, writer.length, waiting = counts
            writer._waiting = [bytes.fromhex(waiting)]
            writer._waiting_bytes = len(writer._waiting[0])
            writer._file.seek(writer.tokens * writer._item_bytes)
        return True

    def _holds(self, tokens: int) -> bool:
        return os.fstat(self._file.fileno()).st_size >= tokens * self._item_bytes

    def token_file(self) -> TokenFile:
        """What was written."""
        return TokenFile(self.tokens, self.chars, self.stories, self.utf8_bytes, self.unknown_chars)


RULE = 2  # the number of this way to split; what another one has made is not gone on with
VALID_SHARE = 0.05  # of the text, to be had in whole stories
VALID_TAIL = 10  # of a large story a tenth
LEAST_SHARE, MOST_SHARE = 1 / 40, 1 / 8  # of the text; outside, another threshold is looked for
_BUCKETS = 1 << 14  # of hashes, whose lengths are added up
_BUCKET_WIDTH = 2**64 // _BUCKETS
_TRANSLATING = "translating"


@dataclass(frozen=True)
class Split:
    """What is in the two token files, and how many stories are in both, cut in two."""

    train: TokenFile
    valid: TokenFile | None
    cut_stories: int | None  # None where a text of its own is validated on


@dataclass
class _Choice:
    """Which hashes are held out: those below the threshold, but for some buckets."""

    threshold: int = int(VALID_SHARE * 2**64)
    skipped: frozenset[int] = frozenset()  # buckets of stories that are together too long to be held out

    def holds_out(self, hashed: int) -> bool:
        return hashed < self.threshold and hashed // _BUCKET_WIDTH not in self.skipped


class _Whole:
    """A task that writes all stories to one file."""

    def __init__(self, writer: TokenWriter) -> None:
        self._writer, self._cutter = writer, Cutter()

    def take(self, block: bytes) -> None:
        for begins, piece in self._cutter.cut(block):
            self._writer.add(piece, begins)

    def end_of_source(self) -> None:
        self._cutter = Cutter()

    def state(self) -> list[Any]:
        begins, white = self._cutter.state
        return [self._writer.flush_counts(), begins, white.hex()]

    def go_on(self, state: list[Any]) -> bool:
        written, begins, white = state
        self._cutter = Cutter(begins, bytes.fromhex(white))
        return TokenWriter.go_on([self._writer], [written])


class _Splitting:
    """A task that cuts the large stories in two, and sends each of the others to a side by its hash."""

    def __init__(self, train: TokenWriter, valid: TokenWriter, large: dict[int, int], choice: _Choice) -> None:
        self._train, self._valid = train, valid
        self._kept = {number: length - length // VALID_TAIL for number, length in large.items()}
        self._in_bytes = train.vocab.kind == "bytes"
        self._cutter, self._stories = HashingCutter(), 0
        self._bucket, self._is_held_out = 0, False  # of the story that goes on
        self._left: int | None = None  # how much of it is still to be trained on, if it is a large one
        self._in_tail = False  # whether some of its end has been written
        self.choice, self.lengths = choice, [0] * _BUCKETS  # of the stories that are not large, by their hashes

    def take(self, block: bytes) -> None:
        for hashed, piece in self._cutter.cut(block):
            self._add(hashed, piece)

    def end_of_source(self) -> None:
        for hashed, piece in self._cutter.end():
            self._add(hashed, piece)
        self._cutter = HashingCutter()

    def _add(self, hashed: int | None, piece: bytes) -> None:
        begins = hashed is not None
        if hashed is not None:
            self._bucket, self._is_held_out = hashed // _BUCKET_WIDTH, self.choice.holds_out(hashed)
            self._left, self._in_tail = self._kept.get(self._stories), False
            self._stories += 1
        if self._left is not None:
            self._add_cut(piece, begins, self._left)
            return
        self.lengths[self._bucket] += length_of(piece, self._in_bytes)
        (self._valid if self._is_held_out else self._train).add(piece, begins)

    def _add_cut(self, piece: bytes, begins: bool, left: int) -> None:
        """Some of a large story, `left` characters of which are still to be trained on."""
        length = length_of(piece, self._in_bytes)
        end = len(piece)
        if length > left:
            end = left if self._in_bytes else len(piece.decode()[:left].encode())
        self._train.add(piece[:end], begins)
        self._left = max(0, left - length)
        if tail := piece[end:]:
            self._valid.add(tail, begins=not self._in_tail)
            self._in_tail = True

    def fit(self, survey: Survey) -> _Choice:
        """The choice that holds out a twentieth of the text, as nearly as can be, once all has been measured."""
        held_out = sum(length // VALID_TAIL for length in survey.large.values())
        threshold, skipped = 0, set[int]()
        for bucket, length in enumerate(self.lengths):
            if held_out >= survey.length * VALID_SHARE:
                break
            if held_out + length > survey.length * MOST_SHARE:
                skipped.add(bucket)
            elif length:
                held_out, threshold = held_out + length, (bucket + 1) * _BUCKET_WIDTH
        return _Choice(threshold, frozenset(bucket for bucket in skipped if bucket * _BUCKET_WIDTH < threshold))

    def state(self) -> dict[str, Any]:
        (begins, white), goes_on, held = self._cutter.state
        found = [(bucket, length) for bucket, length in enumerate(self.lengths) if length]
        return {
            "written": [self._train.flush_counts(), self._valid.flush_counts()],
            "cutter": [begins, white.hex(), goes_on, held.hex()],
            "story": [self._stories, self._bucket, self._is_held_out, self._left, self._in_tail],
            "choice": [self.choice.threshold, sorted(self.choice.skipped)],
            "lengths": found,
        }

    def go_on(self, state: dict[str, Any]) -> bool:
        if not TokenWriter.go_on([self._train, self._valid], state["written"]):
            return False
        begins, white, goes_on, held = state["cutter"]
        self._cutter = HashingCutter((begins, bytes.fromhex(white)), goes_on, bytes.fromhex(held))
        self._stories, self._bucket, self._is_held_out, self._left, self._in_tail = state["story"]
        threshold, skipped = state["choice"]
        self.choice = _Choice(threshold, frozenset(skipped))
        for bucket, length in state["lengths"]:
            self.lengths[bucket] = length
        return True


def write_tokens(
    corpus: Corpus,
    vocab: Vocabulary,
    path: Path,
    progress: Progress = no_progress,
    journal: Journal | None = None,
    what: str = _TRANSLATING,
) -> TokenFile:
    """A whole corpus into one token file, with the vocabulary given; what it says is in the file."""
    with TokenWriter(path, vocab) as writer:
        walk(corpus, _Whole(writer), what, progress, journal)
    if not writer.stories:
        raise CorpusError(f"{corpus.name} holds no characters but white space")
    return writer.token_file()


def write_both(
    corpus: Corpus, valid: Corpus, vocab: Vocabulary, folder: Path, progress: Progress, journal: Journal
) -> Split:
    """Two texts, a split each."""
    what = f"{_TRANSLATING} what is held out"
    held_out = write_tokens(valid, vocab, folder / "valid.tokens", progress, journal, what)
    return Split(write_tokens(corpus, vocab, folder / "train.tokens", progress, journal), held_out, None)


def write_split(
    corpus: Corpus, vocab: Vocabulary, survey: Survey, folder: Path, progress: Progress, journal: Journal
) -> Split:
    """One text, a part of which is held out: see the module."""
    choice = _Choice()
    while True:
        with (
            TokenWriter(folder / "train.tokens", vocab) as train,
            TokenWriter(folder / "valid.tokens", vocab) as valid,
        ):
            splitting = _Splitting(train, valid, survey.large, choice)
            walk(corpus, splitting, _TRANSLATING, progress, journal)
        held_out = valid.chars
        choice = splitting.fit(survey)
        if LEAST_SHARE * survey.length <= held_out <= MOST_SHARE * survey.length or choice == splitting.choice:
            cut = sum(length >= VALID_TAIL for length in survey.large.values())
            return Split(train.token_file(), valid.token_file() if valid.stories else None, cut)
        journal.known.pop(_TRANSLATING, None)
