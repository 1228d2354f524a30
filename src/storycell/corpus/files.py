"""Files and folders -> sources of byte chunks.

In: the words a user typed: files, folders, globs, `-`; `.gz`, `.zst` and `.jsonl` by their ending. Out: `Source`s, each
read in constant memory, as often as wanted (standard input is kept in a temporary file for that).
"""

import atexit
import glob
import gzip
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from storycell.corpus.blocks import normalised
from storycell.errors import CorpusError
from storycell.vocab import BOUNDARY_BYTE

CHUNK_BYTES = 4 << 20
_TEXT_ENDINGS = (".txt", ".text", ".md", ".jsonl")
_PACKED_ENDINGS = ("", ".gz", ".zst")


class Readable(Protocol):
    """What a decompressor gives: bytes, a chunk at a time."""

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
        return self.path.stat().st_size

    def blocks(self, advance: Advance = lambda _: None) -> Iterator[bytes]:
        """Its normalised blocks (see `storycell.corpus.blocks`)."""
        try:
            with self.path.open("rb") as raw:
                chunks = _chunks(_unpacked(raw, self.path.suffix), raw, advance)
                if ".jsonl" in self.path.suffixes[-2:]:
                    yield from _json_stories(chunks, self.name)
                else:
                    yield from normalised(chunks, self.name, self.encoding)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorpusError(f"{self.name} is truncated or damaged ({error}); unpack or copy it again") from None
        except OSError as error:
            raise CorpusError(f"{self.name} cannot be read: {error.strerror or error}") from None

    def raw_chunks(self) -> Iterator[bytes]:
        """Its bytes as they lie on disk."""
        with self.path.open("rb") as raw:
            while chunk := raw.read(CHUNK_BYTES):
                yield chunk


def _unpacked(raw: IO[bytes], suffix: str) -> Readable:
    if suffix == ".gz":
        return gzip.open(raw)
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=False)
    return raw


def _chunks(stream: Readable, raw: IO[bytes], advance: Advance) -> Iterator[bytes]:
    position = 0
    while chunk := _read(stream):
        advance(raw.tell() - position)
        position = raw.tell()
        yield chunk


def _read(stream: Readable) -> bytes:
    """A chunk; zstandard's own error is turned into one that is known without importing it."""
    try:
        return stream.read(CHUNK_BYTES)
    except Exception as error:
        if type(error).__name__ == "ZstdError":
            raise EOFError(str(error)) from None
        raise


def _json_stories(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """JSON lines: the field `text` of each line is a story (or several, with separator lines)."""
    for number, line in enumerate(_lines(chunks), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"].encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CorpusError(
                f'{name} line {number:,}: not a JSON object with a field "text" that holds Unicode text'
            ) from None
        yield b"".join(normalised([text], f"{name} line {number:,}")) + BOUNDARY_BYTE


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        for line in others:
            yield b"".join(rest)
            rest = [line]
    yield b"".join(rest)


def standard_input() -> FileSource:
    """What comes in through `-`, kept in a temporary file until the process ends."""
    with tempfile.NamedTemporaryFile(prefix="storycell-", suffix=".txt", delete=False) as kept:
        atexit.register(Path(kept.name).unlink, missing_ok=True)
        try:
            shutil.copyfileobj(sys.stdin.buffer, kept, CHUNK_BYTES)
        except OSError as error:
            raise CorpusError(f"standard input cannot be kept in {kept.name}: {error.strerror}") from None
    return FileSource(Path(kept.name), shown="standard input")


def expand(word: str, encoding: str) -> list[FileSource] | None:
    """The files that a word names: itself, those in a folder, those that a glob matches. None if it names none."""
    path = Path(word)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if _is_text(p) and not _hidden(p.relative_to(path)))
        if not found:
            endings = " ".join(_TEXT_ENDINGS)
            raise CorpusError(
                f"the folder {word} holds no text; a text ends in one of {endings} (or these with .gz, .zst)"
            )
        return [FileSource(p, encoding) for p in found]
    if path.exists():
        return [FileSource(path, encoding)]
    if glob.has_magic(word):
        matched = [Path(p) for p in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207 - Path.glob cannot start anywhere
        return [FileSource(p, encoding) for p in matched if p.is_file()] or None
    return None


def _is_text(path: Path) -> bool:
    return path.is_file() and any(
        path.name.endswith(end + packed) for end in _TEXT_ENDINGS for packed in _PACKED_ENDINGS
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def looks_like_a_path(word: str) -> bool:
    """Whether a word that names no file was meant to name one."""
    return os.sep in word or "." in word or glob.has_magic(word)
