"""The second pass over a text: its stories into a training half and a validation half.

In: a corpus and a vocabulary. Out: token files, and what is in each.

The surprising decision: a story goes to the validation half by a hash of its first 4,096 bytes, not of all of it, so
that a story larger than memory is placed when its beginning has been seen. Equal stories are always on the same side.
"""

from pathlib import Path
from typing import Any

from storycell.corpus import Corpus
from storycell.corpus.pieces import Cutter, HashingCutter
from storycell.errors import CorpusError
from storycell.journal import Journal
from storycell.tokens.folder import Half
from storycell.tokens.passes import Progress, silent, walk
from storycell.tokens.writing import TokenWriter
from storycell.vocab import Vocabulary

VALID_SHARE = 0.05  # of the stories, where there are several
VALID_TAIL = 0.10  # of the characters, where there is one story
_TRANSLATING = "translating"

Halves = dict[str, Half | None]


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
        return [self._writer.flushed(), self._cutter.begins]

    def go_on(self, state: list[Any]) -> bool:
        written, begins = state
        self._cutter = Cutter(begins)
        return TokenWriter.go_on([self._writer], [written])


class _Split:
    """A task that sends a share of the stories to the validation half, by their hashes."""

    def __init__(self, train: TokenWriter, valid: TokenWriter, threshold: int) -> None:
        self._sides = [train, valid]
        self._cutter, self._side = HashingCutter(), 0  # where the story that goes on goes
        self.threshold, self.smallest, self.largest = threshold, 2**64, 0

    def take(self, block: bytes) -> None:
        for hashed, piece in self._cutter.cut(block):
            self._add(hashed, piece)

    def end_of_source(self) -> None:
        for hashed, piece in self._cutter.end():
            self._add(hashed, piece)
        self._cutter = HashingCutter()

    def _add(self, hashed: int | None, piece: bytes) -> None:
        if hashed is not None:
            self._side = int(hashed < self.threshold)
            self.smallest, self.largest = min(self.smallest, hashed), max(self.largest, hashed)
        self._sides[self._side].add(piece, begins=hashed is not None)

    def state(self) -> list[Any]:
        begins, goes_on, held = self._cutter.state
        written = [side.flushed() for side in self._sides]
        figures = [self._side, self.threshold, self.smallest, self.largest]
        return [written, [begins, goes_on, held.hex()], figures]

    def go_on(self, state: list[Any]) -> bool:
        written, (begins, goes_on, held), figures = state
        if not TokenWriter.go_on(self._sides, written):
            return False
        self._cutter = HashingCutter(begins, goes_on, bytes.fromhex(held))
        self._side, self.threshold, self.smallest, self.largest = figures
        return True


class _Cut:
    """A task that cuts one story: its first `kept` characters stay, the rest is held out."""

    def __init__(self, train: TokenWriter, valid: TokenWriter, kept: int, in_bytes: bool) -> None:
        self._sides, self._kept, self._in_bytes, self._done = [train, valid], kept, in_bytes, 0

    def take(self, block: bytes) -> None:
        for _, piece in Cutter().cut(block):
            text: bytes | str = piece if self._in_bytes else piece.decode()
            before = text[: max(0, self._kept - self._done)]
            cut = len(before if isinstance(before, bytes) else before.encode())
            for side, part in zip(self._sides, (piece[:cut], piece[cut:]), strict=True):
                side.add(part, begins=not side.stories)
            self._done += len(text)

    def end_of_source(self) -> None:
        """Other sources hold nothing: there is one story."""

    def state(self) -> list[Any]:
        return [[side.flushed() for side in self._sides], self._done]

    def go_on(self, state: list[Any]) -> bool:
        written, self._done = state
        return TokenWriter.go_on(self._sides, written)


def write_tokens(
    corpus: Corpus,
    vocab: Vocabulary,
    path: Path,
    progress: Progress = silent,
    journal: Journal | None = None,
    what: str = _TRANSLATING,
) -> Half:
    """A whole corpus into one token file, with the vocabulary given; what it says is in the file."""
    with TokenWriter(path, vocab) as writer:
        walk(corpus, _Whole(writer), what, progress, journal)
    if not writer.stories:
        raise CorpusError(f"{corpus.name} holds no characters")
    return writer.half()


def write_both(
    corpus: Corpus, valid: Corpus, vocab: Vocabulary, folder: Path, progress: Progress, journal: Journal
) -> Halves:
    """Two texts, a half each."""
    what = f"{_TRANSLATING} what is held out"
    held_out = write_tokens(valid, vocab, folder / "valid.tokens", progress, journal, what)
    return {"train": write_tokens(corpus, vocab, folder / "train.tokens", progress, journal), "valid": held_out}


def write_split(corpus: Corpus, vocab: Vocabulary, folder: Path, progress: Progress, journal: Journal) -> Halves:
    """Several stories: a share of them is held out.

    Where they are so few that this leaves a half empty, the story with the smallest hash goes to the validation half,
    or that with the largest to the training half, in a second round.
    """
    threshold = int(VALID_SHARE * 2**64)
    while True:
        with (
            TokenWriter(folder / "train.tokens", vocab) as train,
            TokenWriter(folder / "valid.tokens", vocab) as valid,
        ):
            split = _Split(train, valid, threshold)
            walk(corpus, split, _TRANSLATING, progress, journal)
        if train.stories and valid.stories:
            return {"train": train.half(), "valid": valid.half()}
        if split.smallest == split.largest:
            raise CorpusError(f"{corpus.name}: all its stories begin alike, so none can be held out; give --valid FILE")
        threshold = split.largest if valid.stories else split.smallest + 1
        journal.known.pop(_TRANSLATING, None)


def write_cut(
    corpus: Corpus, vocab: Vocabulary, total: int, folder: Path, progress: Progress, journal: Journal
) -> Halves:
    """One story of `total` characters: its end is held out."""
    with TokenWriter(folder / "train.tokens", vocab) as train, TokenWriter(folder / "valid.tokens", vocab) as valid:
        kept = total - int(total * VALID_TAIL)
        walk(corpus, _Cut(train, valid, kept, vocab.kind == "bytes"), _TRANSLATING, progress, journal)
    return {"train": train.half(), "valid": valid.half() if valid.stories else None}
