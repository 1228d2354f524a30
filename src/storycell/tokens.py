"""Stories -> memory-mapped token files, in constant memory.

In: a `Corpus`, and the vocabulary to use or its kind. Out: a folder with `train.tokens` and `valid.tokens` (ids as
uint8 or uint16, nothing else), `vocab.json` and `prepared.json`. A token file is `0 s1 … sn 0 s1 … sm`: every story
after its boundary. Two passes over the text: characters are counted, then translated.

The surprising decision: a story goes to the validation half by a hash of its first 4,096 bytes, not of all of it, so
that a story larger than memory is placed when its beginning has been seen. Equal stories are always on the same side.
"""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import platformdirs

from storycell import vocab as vocabularies
from storycell.corpus import Corpus
from storycell.corpus.blocks import hashed_pieces, pieces
from storycell.errors import CorpusError, RunFolderError, SettingsError, VocabularyError
from storycell.journal import Journal
from storycell.shapes import Ids
from storycell.vocab import BOUNDARY, BOUNDARY_BYTE, UNKNOWN, Vocabulary

FORMAT = 1
VALID_SHARE = 0.05  # of the stories, where there are several
VALID_TAIL = 0.10  # of the characters, where there is one story
_WAITING_BYTES = 1 << 20
_LARGEST_JSON = 64 << 20

Halves = dict[str, "Half | None"]
Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all


def _silent(what: str, done: int, total: int) -> None:
    """The progress display of a caller that wants none."""


@dataclass(frozen=True)
class Half:
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
        if self.tokens != self.chars + self.stories:
            raise ValueError("its tokens are not its characters and boundaries")

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
    train: Half
    valid: Half | None

    @property
    def train_ids(self) -> Ids:
        """The ids of the training half, mapped from disk `[tokens]`."""
        return self.train.open(self.folder / "train.tokens", self.vocab)

    @property
    def valid_ids(self) -> Ids | None:
        """The ids of the validation half, mapped from disk `[tokens]`; None where there is none."""
        return None if self.valid is None else self.valid.open(self.folder / "valid.tokens", self.vocab)


def prepare(
    corpus: Corpus,
    out: Path,
    *,
    valid: Corpus | None = None,
    vocab: str | Vocabulary = "characters",
    digest: str = "",
    progress: Progress = _silent,
) -> Prepared:
    """Write the token files of a corpus to the folder `out`, which appears when it is complete, and open them.

    `vocab` is a `Vocabulary`, or `characters` or `bytes` to find one. Without `valid`, a part of the corpus becomes the
    validation half. Raises `CorpusError` where the text cannot be read or holds nothing, `RunFolderError` where `out`
    holds something or cannot be written; either way nothing is left behind. One that is stopped or killed goes on, when
    it is called again, from the last file of the text that it had finished.
    """
    if isinstance(vocab, str) and vocab not in ("characters", "bytes"):
        raise SettingsError(f"vocab = {vocab!r}: it must be characters or bytes")
    _refuse_occupied(out)
    digest = digest or _digest(corpus, valid, vocab)
    with _unfinished(out, digest) as journal:
        partial = journal.folder
        vocab, stories, total = _survey(corpus, vocab, progress, journal)
        if valid is not None:
            halves = _write_both(corpus, valid, vocab, partial, progress, journal)
        elif stories > 1:
            halves = _write_split(corpus, vocab, partial, progress, journal)
        else:
            halves = _write_cut(corpus, vocab, total - int(total * VALID_TAIL), partial, progress)
        (partial / "vocab.json").write_text(vocab.to_json(), encoding="ascii")
        about = {"format": FORMAT, "name": corpus.name, "digest": digest, "vocab_size": len(vocab)}
        about |= {name: half and asdict(half) for name, half in halves.items()}
        (partial / "prepared.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        journal.forget()
        if partial.parent == out:
            for name in ("train.tokens", "valid.tokens", "vocab.json", "prepared.json"):
                (partial / name).rename(out / name)
        else:
            partial.rename(out)
    return open_prepared(out)


@contextmanager
def _unfinished(out: Path, digest: str) -> Iterator[Journal]:
    """The folder that becomes `out`. Nothing is left of it after an error; after a stop or a kill it goes on later."""
    beside = out if out.exists() else out.parent
    new_folders = [folder for folder in (beside, *beside.parents) if not folder.exists()]
    stopped = False
    journal = None
    try:
        journal = Journal(beside, f".{out.name}", digest)
        yield journal
    except OSError as error:
        raise RunFolderError(
            f"{out} cannot be written: {error.strerror or error}; free space or name another folder"
        ) from None
    except (KeyboardInterrupt, SystemExit):
        stopped = journal is not None and journal.is_worth_keeping
        raise
    finally:
        if journal:
            journal.close()
        if journal and not stopped:
            shutil.rmtree(journal.folder, ignore_errors=True)
        for folder in new_folders:  # innermost first; those that hold something now stay
            with suppress(OSError):
                folder.rmdir()


def cached(
    corpus: Corpus,
    *,
    valid: Corpus | None = None,
    vocab: str | Vocabulary = "characters",
    progress: Progress = _silent,
) -> Prepared:
    """As `prepare`, in the user's cache: what has been prepared once is opened at once, by a hash of its content."""
    digest = _digest(corpus, valid, vocab)
    folder = cache_folder() / digest
    if folder.exists():
        try:
            return replace(open_prepared(folder), name=corpus.name)
        except RunFolderError:
            shutil.rmtree(folder, ignore_errors=True)  # damaged: made again below
    try:
        return prepare(corpus, folder, valid=valid, vocab=vocab, digest=digest, progress=progress)
    except RunFolderError:
        if not is_prepared(folder):
            raise
        return replace(open_prepared(folder), name=corpus.name)  # another process was faster


def cache_folder() -> Path:
    """Where prepared text is kept: `STORYCELL_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("STORYCELL_CACHE") or platformdirs.user_cache_path("storycell")) / "tokens"


def is_prepared(folder: str | Path) -> bool:
    """Whether a folder was made by `prepare`."""
    return (Path(folder) / "prepared.json").is_file()


def vocabulary_of(corpus: Corpus) -> Vocabulary:
    """The characters of a text."""
    return _survey(corpus, "characters", _silent)[0]


def open_prepared(folder: str | Path) -> Prepared:
    """The token files in a folder; `RunFolderError` says what is damaged."""
    folder = Path(folder)
    try:
        about = json.loads(_small_text(folder / "prepared.json"))
        vocab = Vocabulary.from_json(_small_text(folder / "vocab.json"))
        name, digest, valid = about["name"], about["digest"], about["valid"]
        if not (isinstance(name, str) and isinstance(digest, str)) or about["format"] != FORMAT:
            raise ValueError("prepared.json says what prepare does not write")
        if about["vocab_size"] != len(vocab):
            raise ValueError(f"vocab.json has {len(vocab)} ids, prepared.json says {about['vocab_size']}")
        prepared = Prepared(folder, name, digest, vocab, Half(**about["train"]), valid and Half(**valid))
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


def _digest(corpus: Corpus, valid: Corpus | None, vocab: str | Vocabulary) -> str:
    parts = [
        str(FORMAT),
        corpus.digest(),
        valid.digest() if valid else "",
        vocab if isinstance(vocab, str) else vocab.to_json(),
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _survey(
    corpus: Corpus, vocab: str | Vocabulary, progress: Progress, journal: Journal | None = None
) -> tuple[Vocabulary, int, int]:
    """First pass: the vocabulary, the stories (two for any more), the characters (bytes, where they are the ids)."""
    counts = np.zeros(0x110000, dtype=np.int64)
    stories = first = 0
    if journal and (known := journal.known.get("counted")):
        first, stories = known["sources"], known["stories"]
        counts[known["codes"]] = known["counts"]
    advance = _counter("counting characters", corpus, progress, first)
    for k, source in enumerate(corpus.sources[first:], first + 1):
        blocks = _counted(source.blocks(advance), counts)
        stories += sum(1 for _ in islice((begins for begins, _ in pieces(blocks) if begins), 2 - stories))
        deque(blocks, maxlen=0)  # the rest is counted too, and not cut into stories
        if journal and k > 1 and (journal.is_due() or k == len(corpus.sources)):
            codes = np.flatnonzero(counts)
            both = {"codes": codes.tolist(), "counts": counts[codes].tolist()}
            journal.save(counted={"sources": k, "stories": stories, **both})
    if not counts.any():
        raise CorpusError(f"{corpus.name} holds no characters: there is nothing to learn from")
    in_bytes = vocab == "bytes" or (isinstance(vocab, Vocabulary) and vocab.kind == "bytes")
    total = vocabularies.utf8_bytes(counts) if in_bytes else int(counts.sum())
    if isinstance(vocab, Vocabulary):
        return vocab, stories, total
    return vocabularies.BYTES if vocab == "bytes" else vocabularies.from_counts(counts), stories, total


def _counted(blocks: Iterator[bytes], counts: npt.NDArray[np.int64]) -> Iterator[bytes]:
    for block in blocks:
        vocabularies.add_counts(counts, block)
        yield block


def _counter(what: str, corpus: Corpus, progress: Progress, first: int = 0) -> Callable[[int], None]:
    """Tells how many bytes of a corpus are read; those of the sources before `first` have been."""
    done, total = sum(source.size_bytes for source in corpus.sources[:first]), corpus.size_bytes

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(what, done, total)

    return advance


def _write_both(
    corpus: Corpus, valid: Corpus, vocab: Vocabulary, folder: Path, progress: Progress, journal: Journal
) -> Halves:
    """Two texts, a half each."""
    held_out = write_tokens(valid, vocab, folder / "valid.tokens", progress)
    return {"train": write_tokens(corpus, vocab, folder / "train.tokens", progress, journal), "valid": held_out}


def _write_split(corpus: Corpus, vocab: Vocabulary, folder: Path, progress: Progress, journal: Journal) -> Halves:
    """Several stories: a share of them is held out, by their hashes.

    Where they are so few that this leaves a half empty, the story with the smallest hash goes to the validation half,
    or that with the largest to the training half, in a second round.
    """
    threshold = int(VALID_SHARE * 2**64)
    while True:
        with _Writer(folder / "train.tokens", vocab) as train, _Writer(folder / "valid.tokens", vocab) as valid:
            first, smallest, largest = _go_back(journal, [train, valid], [2**64, 0])
            advance = _counter("translating", corpus, progress, first)
            for k, source in enumerate(corpus.sources[first:], first + 1):
                side = train
                for hashed, piece in hashed_pieces(source.blocks(advance)):
                    if hashed is not None:
                        side = valid if hashed < threshold else train
                        smallest, largest = min(smallest, hashed), max(largest, hashed)
                    side.add(piece, begins=hashed is not None)
                _keep(journal, k, [train, valid], [smallest, largest])
        if train.stories and valid.stories:
            return {"train": train.half(), "valid": valid.half()}
        if smallest == largest:
            raise CorpusError(f"{corpus.name}: all its stories begin alike, so none can be held out; give --valid FILE")
        threshold = largest if valid.stories else smallest + 1
        journal.known.pop("translated", None)


def _keep(journal: Journal, sources: int, writers: "list[_Writer]", figures: list[int]) -> None:
    """Note that so many sources have been translated, if it is time to."""
    if journal.is_due():
        done = [writer.flushed() for writer in writers]
        journal.save(translated={"sources": sources, "written": done, "figures": figures})


def _go_back(journal: Journal, writers: "list[_Writer]", figures: list[int]) -> list[int]:
    """How many sources an earlier attempt translated, and its figures; the writers go on where it was then."""
    known = journal.known.get("translated")
    if not known or not all(w.can_go_on(n) for w, n in zip(writers, known["written"], strict=True)):
        return [0, *figures]
    for writer, done in zip(writers, known["written"], strict=True):
        writer.go_on(done)
    return [known["sources"], *known["figures"]]


def _write_cut(corpus: Corpus, vocab: Vocabulary, kept: int, folder: Path, progress: Progress) -> Halves:
    """One story: its first `kept` characters stay, the rest is held out."""
    advance = _counter("translating", corpus, progress)
    done = 0
    with _Writer(folder / "train.tokens", vocab) as train, _Writer(folder / "valid.tokens", vocab) as valid:
        for _, piece in pieces(corpus.blocks(advance)):
            text: bytes | str = piece if vocab.kind == "bytes" else piece.decode()
            before = text[: max(0, kept - done)]
            cut = len(before if isinstance(before, bytes) else before.encode())
            train.add(piece[:cut], begins=not train.stories)
            valid.add(piece[cut:], begins=not valid.stories)
            done += len(text)
    return {"train": train.half(), "valid": valid.half() if valid.stories else None}


def write_tokens(
    corpus: Corpus, vocab: Vocabulary, path: Path, progress: Progress = _silent, journal: Journal | None = None
) -> Half:
    """A whole corpus into one token file, with the vocabulary given; what it says is in the file."""
    with _Writer(path, vocab) as writer:
        first = _go_back(journal, [writer], [])[0] if journal else 0
        advance = _counter("translating", corpus, progress, first)
        for k, source in enumerate(corpus.sources[first:], first + 1):
            for begins, piece in pieces(source.blocks(advance)):
                writer.add(piece, begins)
            if journal:
                _keep(journal, k, [writer], [])
    if not writer.stories:
        raise CorpusError(f"{corpus.name} holds no characters")
    return writer.half()


class _Writer:
    """Appends stories to a token file and counts what it wrote."""

    def __init__(self, path: Path, vocab: Vocabulary) -> None:
        self.path, self.vocab = path, vocab
        self.stories = self.utf8_bytes = self.tokens = self.unknown_chars = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def __enter__(self) -> "_Writer":
        self._file: IO[bytes] = self.path.open("r+b" if self.path.exists() else "w+b")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        with self._file:
            if kind is None:
                self._flush()
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

    def _flush(self) -> None:
        ids = self.vocab.encode_block(b"".join(self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        self._file.write(ids.data)
        self.tokens += len(ids)
        self.unknown_chars += int(np.count_nonzero(ids == UNKNOWN))

    def flushed(self) -> list[int]:
        """What `go_on` needs, once everything so far is in the file."""
        self._flush()
        self._file.flush()
        return [self.tokens, self.stories, self.utf8_bytes, self.unknown_chars]

    def can_go_on(self, done: list[int]) -> bool:
        """Whether the file still holds what it did then."""
        return os.fstat(self._file.fileno()).st_size >= done[0] * np.dtype(self.vocab.dtype).itemsize

    def go_on(self, done: list[int]) -> None:
        """Be as when `flushed` gave `done`."""
        self.tokens, self.stories, self.utf8_bytes, self.unknown_chars = done
        self._file.seek(self.tokens * np.dtype(self.vocab.dtype).itemsize)

    def half(self) -> Half:
        """What was written."""
        return Half(self.tokens, self.tokens - self.stories, self.stories, self.utf8_bytes, self.unknown_chars)


def _refuse_occupied(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(not _is_unfinished(p, out) for p in out.iterdir())):
        raise RunFolderError(f"{out} exists and is not empty; name another folder")


def _is_unfinished(path: Path, out: Path) -> bool:
    return path.name.startswith(f".{out.name}.") and path.suffix == ".part"


def stories_of(ids: Ids) -> list[Ids]:
    """The stories in a token array, each with the boundary that begins it: views, `[n + 1]` each."""
    starts = [*np.flatnonzero(np.asarray(ids) == BOUNDARY).tolist(), len(ids)]
    return [ids[a:b] for a, b in pairwise(starts)]
