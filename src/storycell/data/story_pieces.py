"""Blocks -> stories, piece by piece, so that a story may be larger than memory.

When a story begins, its pieces are announced with a hash of the beginning alone, so that its split is known before it
has ended. A story of nothing but white space is none: its beginning is held back until something else comes. What is
held between two blocks is plain data, so that a pass over a text can be interrupted and resumed.
"""

import hashlib
from collections.abc import Iterable, Iterator

from storycell.data.vocab import BOUNDARY_BYTE

HASHED_BYTES = 4096
LONGEST_WHITE_BYTES = 1 << 16  # of white space that is held back; what is longer is text, so that memory has a bound

CutterState = tuple[bool, bytes]  # what a `Cutter` is made of to go on


class Cutter:
    """Cuts blocks at boundaries. Stories that are empty or white space vanish."""

    def __init__(self, begins: bool = True, white: bytes = b"") -> None:
        self._begins = begins  # whether the next piece is the first of its story
        self._white = white  # how that story begins, as far as it is known

    @property
    def state(self) -> CutterState:
        """What another one has to be made of to go on from here."""
        return self._begins, self._white

    def cut(self, block: bytes) -> Iterator[tuple[bool, bytes]]:
        """(whether a story begins here, some of its bytes)."""
        for k, piece in enumerate(block.split(BOUNDARY_BYTE)):
            if k > 0:
                self._begins, self._white = True, b""
            if not piece:
                continue
            if self._begins and _is_white(piece) and len(self._white) + len(piece) <= LONGEST_WHITE_BYTES:
                self._white += piece
                continue
            begins, whole = self._begins, self._white + piece
            self._begins, self._white = False, b""
            yield begins, whole


def _is_white(piece: bytes) -> bool:
    """Whether whole characters of UTF-8 are white space, all of them, as `str.isspace` has it."""
    rest = piece.lstrip()
    return not rest or (rest[:4].decode("utf-8", "ignore")[:1].isspace() and piece.decode("utf-8", "replace").isspace())


class HashingCutter:
    """Cuts blocks at boundaries, and hashes each story.

    Hashed are its first 4,096 bytes, white space around them apart, so that a story at the end of a file, which may
    lack its last line end, has the hash that it has elsewhere.
    """

    def __init__(self, cutter: CutterState = (True, b""), goes_on: bool = False, held: bytes = b"") -> None:
        self._cutter = Cutter(*cutter)
        self._goes_on = goes_on  # whether the beginning of the story has been given
        self._held = held  # the beginning of a story that is too short to be hashed, as far as it is known

    @property
    def state(self) -> tuple[CutterState, bool, bytes]:
        """What another one has to be made of to go on from here."""
        return self._cutter.state, self._goes_on, self._held

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


def hash_pieces(blocks: Iterable[bytes]) -> Iterator[tuple[int | None, bytes]]:
    """Pieces with the hash of the story that begins there, None where one goes on."""
    cutter = HashingCutter()
    for block in blocks:
        yield from cutter.cut(block)
    yield from cutter.end()


def stories_in(blocks: Iterable[bytes]) -> list[bytes]:
    """All stories in some blocks, in memory."""
    found: list[list[bytes]] = []
    for begins, piece in pieces(blocks):
        if begins:
            found.append([])
        found[-1].append(piece)
    return [b"".join(story) for story in found]
