"""Blocks -> stories, piece by piece, so that a story may be larger than memory.

In: the blocks of a source, with the byte 0xFF between stories. Out: pieces of stories, with what is known when a story
begins: that it does, or a hash that says where it belongs. What is held between two blocks is plain data, so that a
pass over a text can be left and taken up again.

The surprising decision: a story is hashed by its beginning alone, so that its place is known before it has ended.
"""

import hashlib
from collections.abc import Iterable, Iterator

from storycell.vocab import BOUNDARY_BYTE

HASHED_BYTES = 4096


class Cutter:
    """Cuts blocks at boundaries. Empty stories vanish."""

    def __init__(self, begins: bool = True) -> None:
        self.begins = begins  # whether the next piece is the first of its story

    def cut(self, block: bytes) -> Iterator[tuple[bool, bytes]]:
        """(whether a story begins here, some of its bytes)."""
        for k, piece in enumerate(block.split(BOUNDARY_BYTE)):
            self.begins = self.begins or k > 0
            if piece:
                begins, self.begins = self.begins, False
                yield begins, piece


class HashingCutter:
    """Cuts blocks at boundaries, and hashes each story.

    Hashed are its first 4,096 bytes, white space around them apart, so that a story at the end of a file, which may
    lack its last line end, has the hash that it has elsewhere.
    """

    def __init__(self, begins: bool = True, goes_on: bool = False, held: bytes = b"") -> None:
        self._cutter = Cutter(begins)
        self._goes_on = goes_on  # whether the beginning of the story has been given
        self._held = held  # the beginning of a story that is too short to be hashed, as far as it is known

    @property
    def state(self) -> tuple[bool, bool, bytes]:
        """What another one has to be made of to go on from here."""
        return self._cutter.begins, self._goes_on, self._held

    def cut(self, block: bytes) -> Iterator[tuple[int | None, bytes]]:
        """(the 64-bit hash of the story that begins here, or None where one goes on; some of its bytes)."""
        for begins, piece in self._cutter.cut(block):
            if begins:
                yield from self.end()
            if self._goes_on:
                yield None, piece
                continue
            self._held += piece
            if len(self._held) >= HASHED_BYTES:
                held, self._held, self._goes_on = self._held, b"", True
                yield _hash(held), held

    def end(self) -> Iterator[tuple[int, bytes]]:
        """What is held of a story that has ended."""
        held, self._held, self._goes_on = self._held, b"", False
        if held:
            yield _hash(held), held


def _hash(start: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(start[:HASHED_BYTES].strip(), digest_size=8).digest(), "big")


def pieces(blocks: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Pieces of all stories in some blocks: (whether a story begins here, some of its bytes)."""
    cutter = Cutter()
    for block in blocks:
        yield from cutter.cut(block)


def hashed_pieces(blocks: Iterable[bytes]) -> Iterator[tuple[int | None, bytes]]:
    """Pieces with the hash of the story that begins there, None where one goes on."""
    cutter = HashingCutter()
    for block in blocks:
        yield from cutter.cut(block)
    yield from cutter.end()
