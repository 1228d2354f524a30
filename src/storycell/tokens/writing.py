"""One token file, written story by story.

In: pieces of stories, as bytes. Out: their ids in a file, each story after a boundary, and the counts of what is in it.

The surprising decision: a file that exists is opened as it is and cut to length when it is complete, so that one whose
writer was killed is written on.
"""

import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from storycell.tokens.folder import Half
from storycell.vocab import BOUNDARY_BYTE, UNKNOWN, Vocabulary

_WAITING_BYTES = 1 << 20


class TokenWriter:
    """Appends stories to a token file and counts what it wrote."""

    def __init__(self, path: Path, vocab: Vocabulary) -> None:
        self.path, self.vocab = path, vocab
        self.stories = self.utf8_bytes = self.tokens = self.unknown_chars = 0
        self._item_bytes = np.dtype(vocab.dtype).itemsize
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def __enter__(self) -> "TokenWriter":
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
        """What `go_on` needs, once everything so far is safe on disk."""
        self._flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        return [self.tokens, self.stories, self.utf8_bytes, self.unknown_chars]

    @staticmethod
    def go_on(writers: "list[TokenWriter]", done: list[list[int]]) -> bool:
        """Be as when `flushed` gave each its part of `done`; False if the files do not hold as much."""
        if not all(writer._holds(counts[0]) for writer, counts in zip(writers, done, strict=True)):
            return False
        for writer, counts in zip(writers, done, strict=True):
            writer.tokens, writer.stories, writer.utf8_bytes, writer.unknown_chars = counts
            writer._file.seek(writer.tokens * writer._item_bytes)
        return True

    def _holds(self, tokens: int) -> bool:
        return os.fstat(self._file.fileno()).st_size >= tokens * self._item_bytes

    def half(self) -> Half:
        """What was written."""
        return Half(self.tokens, self.tokens - self.stories, self.stories, self.utf8_bytes, self.unknown_chars)
