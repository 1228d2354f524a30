"""Files and folders -> sources of byte chunks.

In: the words a user typed: files, folders, globs, `-`; `.gz`, `.zst` and `.jsonl` by their ending. Out: `Source`s, each
read in constant memory, as often as wanted (standard input and pipes are kept in temporary files for that).

The surprising decision: `.zst` is unpacked a little at a time through zstandard's lower interface, because its stream
reader takes a truncated file for a complete one.
"""

import atexit
import glob
import gzip
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from storycell.corpus import walking
from storycell.corpus.blocks import Bookmark, TextReader, after, decoded, is_utf8, read_on
from storycell.corpus.json_lines import JsonReader
from storycell.errors import CorpusError

CHUNK_BYTES = 1 << 20
_ZSTD_BYTES = 1 << 11  # read at a time; the most that these unpack to is 64 MB, as 512 blocks of one repeated byte
_TEXT_ENDINGS = (".txt", ".text", ".md", ".jsonl")
_PACKED_ENDINGS = (".gz", ".zst")


class Readable(Protocol):
    """A file or a decompressor."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


Advance = Callable[[int], None]  # is told how many bytes were read from disk


@dataclass(frozen=True)
class FileSource:
    """One file: UTF-8 (or `encoding`) text, plain or packed, or JSON lines with a field `text`."""

    path: Path
    encoding: str = "utf-8"
    shown: str = ""

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.shown or str(self.path)

    @property
    def size_bytes(self) -> int:
        """Its size on disk."""
        with self._failures_named():
            return self.path.stat().st_size

    @property
    def stamp(self) -> tuple[int, ...]:
        """Its size and when it was last written to."""
        with self._failures_named():
            about = self.path.stat()
            return about.st_size, about.st_mtime_ns

    def blocks(self, advance: Advance = lambda _: None, bookmark: Bookmark | None = None) -> Iterator[bytes]:
        """Its normalised blocks (see `storycell.corpus.blocks`), from the bookmark on.

        A plain file of UTF-8 is read from there; any other is unpacked and decoded up to there first, which is a
        quarter of the work or less.
        """
        mark = bookmark or Bookmark()
        packing, is_jsonl = self._format
        as_it_is = is_jsonl or is_utf8(self.encoding)
        with self._failures_named(), self.path.open("rb") as raw:
            if sought := as_it_is and not packing:
                raw.seek(mark.place.offset)
            chunks = _told(_unpacked(raw, packing), raw, advance)
            chunks = chunks if as_it_is else decoded(chunks, self.name, self.encoding)
            reader = (JsonReader if is_jsonl else TextReader)(self.name, mark.place)
            yield from read_on(reader, chunks if sought else after(chunks, mark.place.offset), mark)

    def raw_chunks(self) -> Iterator[bytes]:
        """How it is read, and its bytes as they lie on disk."""
        yield repr(self._format).encode()
        with self._failures_named(), self.path.open("rb") as raw:
            yield from _read(raw)

    @property
    def _format(self) -> tuple[str, bool]:
        """(the ending that names its packing, or nothing; whether it holds JSON lines)."""
        name = self.path.name.lower()
        packing = next((ending for ending in _PACKED_ENDINGS if name.endswith(ending)), "")
        return packing, name.removesuffix(packing).endswith(".jsonl")

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        """What a disk or a decompressor raises, as a `CorpusError` with the name of the file."""
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorpusError(f"{self.name} is truncated or damaged ({error}); unpack or copy it again") from None
        except OSError as error:
            raise CorpusError(f"{self.name} cannot be read: {error.strerror or error}") from None


def _read(stream: Readable) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _unpacked(raw: IO[bytes], packing: str) -> Iterator[bytes]:
    if packing == ".gz":
        with gzip.open(raw) as stream:
            yield from _read(stream)
    else:
        yield from _gathered(_zstd_parts(raw)) if packing == ".zst" else _read(raw)


def _zstd_parts(raw: IO[bytes]) -> Iterator[bytes]:
    """The contents of all frames, in parts of any size; `EOFError` if a frame is damaged or lacks its end."""
    import zstandard

    unpacker = zstandard.ZstdDecompressor().decompressobj()
    complete = True
    try:
        while packed := raw.read(_ZSTD_BYTES):
            while packed:
                yield unpacker.decompress(packed)
                complete, packed = unpacker.eof, unpacker.unused_data
                if complete:
                    unpacker = zstandard.ZstdDecompressor().decompressobj()
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None
    if not complete:
        raise EOFError("it ends too early")


def _told(chunks: Iterator[bytes], raw: IO[bytes], advance: Advance) -> Iterator[bytes]:
    """The same chunks; how much was read from disk for each is told."""
    position = 0
    for chunk in chunks:
        advance(raw.tell() - position)
        position = raw.tell()
        yield chunk


def _gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of at least `CHUNK_BYTES`."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def standard_input(encoding: str) -> FileSource:
    """What comes in through `-`, kept in a temporary file until the process ends."""
    if sys.stdin is None:
        raise CorpusError("standard input is closed; name a file")
    return _kept(sys.stdin.buffer, "standard input", encoding)


def _kept(stream: IO[bytes], shown: str, encoding: str) -> FileSource:
    with tempfile.NamedTemporaryFile(prefix="storycell-", suffix=".txt", delete=False) as kept:
        atexit.register(Path(kept.name).unlink, missing_ok=True)
        try:
            shutil.copyfileobj(stream, kept, CHUNK_BYTES)
        except OSError as error:
            raise CorpusError(f"{shown} cannot be kept in {kept.name}: {error.strerror or error}") from None
    return FileSource(Path(kept.name), encoding, shown)


def expand(word: str, encoding: str) -> list[FileSource] | None:
    """The files that a word names: itself, those in a folder, those that a glob matches. None if it names none."""
    try:
        return _expanded(word, encoding) if word else None
    except OSError as error:
        raise CorpusError(f"{word[:200]} cannot be read: {error.strerror or error}") from None


def _expanded(word: str, encoding: str) -> list[FileSource] | None:
    path = Path(word)
    if (path / "prepared.json").is_file():
        raise CorpusError(f"the folder {word} was made by prepare; give it alone, or the text it was made from")
    if walking.is_run(path):
        raise CorpusError(f"the folder {word} is a run, not a text; give the text")
    if path.is_dir():
        found = [p for p in walking.files_in(path) if _is_text(p)]
        if not found:
            endings = " ".join(_TEXT_ENDINGS)
            raise CorpusError(
                f"the folder {word} holds no text; a text ends in one of {endings} (or these with .gz, .zst), "
                "and what is in a run or a cache is none"
            )
        return [FileSource(p, encoding) for p in found]
    if path.exists() and not path.is_file():  # a pipe can be read once
        with path.open("rb") as pipe:
            return [_kept(pipe, word, encoding)]
    if path.exists():
        return [FileSource(path, encoding)]
    if glob.has_magic(word):
        return [FileSource(p, encoding) for p in walking.matching(word)] or None
    return None


def _is_text(path: Path) -> bool:
    endings = tuple(end + packed for end in _TEXT_ENDINGS for packed in ("", *_PACKED_ENDINGS))
    return path.name.lower().endswith(endings)


def looks_like_a_path(word: str) -> bool:
    """Whether a word that names no file was meant to name one."""
    return os.sep in word or "." in word or glob.has_magic(word)
