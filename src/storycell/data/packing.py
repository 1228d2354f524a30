"""Compressed files -> the bytes in them, a chunk at a time, through all members or frames.

Damaged or truncated input raises one of `FAILURES`. Memory is bounded: chunks are no larger than is asked for, and a
`.zst` that wants more than 128 MB is refused.
"""

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Protocol

ENDINGS = (".gz", ".zst")
FAILURES = (EOFError, zlib.error, gzip.BadGzipFile)
_ZSTD_BYTES = 1 << 11  # read at a time; the most that these unpack to is 64 MB, as 512 blocks of one repeated byte
_BEGINNINGS = ((b"\x1f\x8b\x08", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"))
LONGEST_BEGINNING = 4


class Readable(Protocol):
    """A file or a decompressor."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def packing_of(start: bytes) -> str:
    """The packing of a file, by its first bytes; nothing if it is none that is known here."""
    return next((ending for beginning, ending in _BEGINNINGS if start.startswith(beginning)), "")


def unpack(raw: IO[bytes], packing: str, size: int) -> Iterator[bytes]:
    """What is in a file, in chunks of about `size` bytes."""
    if packing == ".gz":
        with gzip.open(raw) as stream:
            yield from read(stream, size)
    elif packing == ".zst":
        for chunk in _regroup(_zstd_parts(raw), size):
            yield from (chunk[at : at + size] for at in range(0, len(chunk), size))
    else:
        yield from read(raw, size)


def read(stream: Readable, size: int) -> Iterator[bytes]:
    """The chunks of a stream."""
    while chunk := stream.read(size):
        yield chunk


def _zstd_parts(raw: IO[bytes]) -> Iterator[bytes]:
    """The contents of all frames, in parts of any size; `EOFError` if a frame is damaged or lacks its end."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    unpacker = zstd.ZstdDecompressor()
    complete = True
    try:
        while packed := raw.read(_ZSTD_BYTES):
            while packed:
                yield unpacker.decompress(packed)
                complete, packed = unpacker.eof, unpacker.unused_data
                if complete:
                    unpacker = zstd.ZstdDecompressor()
    except zstd.ZstdError as error:
        raise EOFError(str(error)) from None
    if not complete:
        raise EOFError("it ends too early")


def _regroup(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in blocks of at least `size`."""
    held: list[bytes] = []
    length = 0
    for part in parts:
        held.append(part)
        length += len(part)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    yield b"".join(held)
