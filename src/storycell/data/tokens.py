"""A folder of token files, as `prepare` makes it: what is in it, and reading it.

`Prepared` has the vocabulary, the counts of both splits, and their ids, mapped from disk. A token file is
`0 s1 … sn 0 s1 … sm`: every story after its boundary, ids as uint8 or uint16, nothing else. A folder is opened only if
its counts fit the sizes of its files, so truncated files are noticed before anything is read.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from storycell import loss
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.errors import RunFolderError, VocabularyError
from storycell.types import BOUNDARY, Ids

FORMAT = 1
FILES = ("train.tokens", "valid.tokens", "vocab.json", "prepared.json")
_LARGEST_JSON = 64 << 20
_CHECKED_AT_A_TIME = 1 << 24
_BLOCK = 1 << 22  # ids


@dataclass(frozen=True)
class TokenFile:
    """What is in one token file."""

    tokens: int  # ids, boundaries included
    chars: int
    stories: int
    utf8_bytes: int
    unknown_chars: int

    def __post_init__(self) -> None:
        """Refuse what a damaged `prepared.json` may say, with `ValueError`."""
        if any(type(count) is not int or count < 0 for count in astuple(self)) or not self.chars:
            raise ValueError(f"{self} makes no sense")
        if self.tokens > self.chars + self.stories:
            raise ValueError("its tokens are more than its characters and boundaries")

    @property
    def chars_per_id(self) -> float:
        """How many characters an id stands for on average, boundaries included; 1 but for pieces."""
        return (self.chars + self.stories) / self.tokens

    def open(self, path: Path, vocab: Vocabulary) -> Ids:
        """The ids of this token file, mapped from disk `[tokens]`; `RunFolderError` if it is not as long as that."""
        expected = self.tokens * np.dtype(vocab.dtype).itemsize
        try:
            size = path.stat().st_size
            if size == expected:
                return np.memmap(path, dtype=vocab.dtype, mode="r")
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error.strerror or error}; prepare the text again") from None
        raise RunFolderError(f"{path} has {size:,} bytes, not {expected:,}; prepare the text again")


@dataclass(frozen=True)
class Prepared:
    """A folder of token files, open for reading."""

    folder: Path
    name: str  # the words that named the text
    digest: str  # of the text, the vocabulary and the split
    vocab: Vocabulary
    train: TokenFile
    valid: TokenFile | None
    cut_stories: int | None = None  # how many are in both splits, in parts; None where a text was given to validate on

    @property
    def stories(self) -> int:
        """The number of stories in the text, and in the one to validate on if one was given."""
        return self.train.stories + (self.valid.stories if self.valid else 0) - (self.cut_stories or 0)

    @property
    def held_out(self) -> str:
        """What is validated on, in a sentence for the user."""
        if self.valid is None:
            return (
                "nothing is held out to validate on: the text is too short, or its stories too much alike; "
                "--valid FILE names a text to validate on"
            )
        unit = "bytes" if self.vocab.kind == "bytes" else "characters"
        total = self.train.chars + self.valid.chars
        if self.cut_stories is None:
            said = f"validated on {self.valid.chars:,} {unit} in {_stories(self.valid.stories)}"
        else:
            whole = self.valid.stories - self.cut_stories
            parts = [_stories(whole)] if whole else []
            parts += [f"the last tenth of {_stories(self.cut_stories)}"] if self.cut_stories else []
            share = f"{self.valid.chars / total:.1%} of the text"
            said = f"held out to validate on: {share}, {self.valid.chars:,} {unit}: {' and '.join(parts)}"
        if unknown := self.valid.unknown_chars:
            said += (
                f"; {unknown:,} of its characters the model cannot know, since they are in no text that it is trained "
                f"on: each counts {loss.ESCAPE_BITS:g} bits"
            )
        return said

    @property
    def train_ids(self) -> Ids:
        """The ids of the training split, mapped from disk `[tokens]`."""
        return self.train.open(self.folder / "train.tokens", self.vocab)

    @property
    def valid_ids(self) -> Ids | None:
        """The ids of the validation split, mapped from disk `[tokens]`; None where there is none."""
        return None if self.valid is None else self.valid.open(self.folder / "valid.tokens", self.vocab)

    @contextmanager
    def ids_blamed(self) -> Iterator[None]:
        """Within, what a backend raises at an id outside the vocabulary is a `RunFolderError` about its file."""
        try:
            yield
        except (IndexError, RuntimeError):  # of a look-up; of torch's one-hot
            self.check_ids()
            raise

    def check_ids(self) -> None:
        """Read both splits; `RunFolderError` if one holds an id that the vocabulary has not, as no file made here does.

        Opening a folder does not read it, so this is for when an id was found to be out of range.
        """
        for name, ids in (("train.tokens", self.train_ids), ("valid.tokens", self.valid_ids)):
            if ids is None:
                continue
            for start in range(0, len(ids), _CHECKED_AT_A_TIME):
                if ids[start : start + _CHECKED_AT_A_TIME].max() >= len(self.vocab):
                    raise RunFolderError(
                        f"{self.folder / name} holds ids that are not in vocab.json; prepare the text again"
                    )


def _stories(count: int) -> str:
    return "1 story" if count == 1 else f"{count:,} stories"


def is_prepared(folder: str | Path) -> bool:
    """Whether a folder was made by `prepare`."""
    return (Path(folder) / "prepared.json").is_file()


def open_prepared(folder: str | Path) -> Prepared:
    """The token files in a folder; `RunFolderError` says what is damaged."""
    folder = Path(folder)
    try:
        about = json.loads(_small_text(folder / "prepared.json"))
        vocab = Vocabulary.from_json(_small_text(folder / "vocab.json"))
        name, digest = about["name"], about["digest"]
        if not (isinstance(name, str) and isinstance(digest, str)) or about["format"] != FORMAT:
            raise ValueError("prepared.json says what prepare does not write")
        if about["vocab_size"] != len(vocab):
            raise ValueError(f"vocab.json has {len(vocab)} ids, prepared.json says {about['vocab_size']}")
        valid = None if about["valid"] is None else TokenFile(**about["valid"])
        cut_stories = about.get("cut_stories")  # not in folders that were made before it was written
        if cut_stories is not None and (type(cut_stories) is not int or cut_stories < 0):
            raise ValueError("it says how many stories were cut, and it is no number")
        prepared = Prepared(folder, name, digest, vocab, TokenFile(**about["train"]), valid, cut_stories)
        if vocab.kind != "pieces" and any(split and split.chars_per_id != 1 for split in (prepared.train, valid)):
            raise ValueError("its tokens are not its characters and boundaries")
        _ = prepared.train_ids, prepared.valid_ids
    except KeyError as error:
        raise RunFolderError(f"{folder / 'prepared.json'} does not say {error}; prepare the text again") from None
    except (OSError, ValueError, TypeError, VocabularyError, RecursionError) as error:
        raise RunFolderError(
            f"{folder} is not a folder that prepare made, or is damaged ({error}); prepare the text again"
        ) from None
    return prepared


def _small_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_LARGEST_JSON + 1)
    if len(data) > _LARGEST_JSON:
        raise ValueError(f"{path.name} is too large to be what prepare wrote")
    return data.decode()


def as_blocks(ids: Ids, vocab: Vocabulary) -> Iterator[bytes]:
    """Ids `[tokens]` as blocks of UTF-8, the byte 0xFF for a boundary: what a corpus gives, and a compressor reads."""
    written = [BOUNDARY_BYTE if k == BOUNDARY else vocab.bytes_of(k) for k in range(len(vocab))]
    for start in range(0, len(ids), _BLOCK):
        yield b"".join(map(written.__getitem__, ids[start : start + _BLOCK].tolist()))


def split_stories(ids: Ids) -> list[Ids]:
    """The stories in a token array, each with the boundary that begins it: views, `[n + 1]` each."""
    starts = [*np.flatnonzero(np.asarray(ids) == BOUNDARY).tolist(), len(ids)]
    return [ids[a:b] for a, b in pairwise(starts)]
