"""JSON lines -> normalised blocks: one field of each line is a story, or several with separator lines.

In: chunks of a file, cut anywhere. Out: blocks as of `storycell.corpus.blocks`, a boundary after each line's text.

A line that grows without end, as a small packed file may hold, is refused before it fills the memory; one object has to
fit in it.
"""

import codecs
import json
from dataclasses import dataclass

from storycell.corpus.blocks import START, Place, normalised, not_utf8
from storycell.errors import CorpusError
from storycell.vocab import BOUNDARY_BYTE

LONGEST_LINE_BYTES = 128 << 20


@dataclass(frozen=True)
class JsonLines:
    """A file of JSON lines, whose text is in one field of each."""

    column: str = "text"

    def reader(self, name: str, place: Place = START) -> "JsonReader":
        """What reads it from a place on."""
        return JsonReader(name, place, self.column)

    def __str__(self) -> str:
        return f"JSON lines: the field {self.column!r} of each is a story"


class JsonReader:
    """Chunks of JSON lines -> blocks; a place is always behind a whole line."""

    def __init__(self, name: str, place: Place = START, column: str = "text") -> None:
        self.name, self.place, self.column = name, place, column
        self._held: list[bytes] = []  # of the line that has not ended

    def feed(self, chunk: bytes, final: bool = False) -> bytes:
        """The stories of the lines that have ended; `CorpusError` names a line that holds none."""
        whole, end, rest = chunk.rpartition(b"\n")
        data = b""
        if end or final:
            data = b"".join([*self._held, whole, end, rest if final else b""])
            self._held = []
        self._held.append(rest)
        if sum(map(len, self._held)) > LONGEST_LINE_BYTES:
            raise CorpusError(f"{self.name} has a line of more than {LONGEST_LINE_BYTES:,} bytes; is it JSON lines?")
        stories: list[bytes] = []
        offset = self.place.offset
        for number, line in enumerate(data.split(b"\n"), self.place.lines + 1):
            stories.append(self._story(line, number, offset))
            offset += len(line) + 1
        self.place = Place(self.place.offset + len(data), self.place.lines + data.count(b"\n"))
        return b"".join(stories)

    def _story(self, line: bytes, number: int, offset: int) -> bytes:
        if not line.strip():
            return b""
        name = f"{self.name} line {number:,}"
        mark = len(codecs.BOM_UTF8) if offset == 0 and line.startswith(codecs.BOM_UTF8) else 0
        try:
            text = line[mark:].decode()
        except UnicodeDecodeError as error:
            raise CorpusError(not_utf8(name, offset + mark + error.start, line, mark + error.start)) from None
        try:
            story = json.loads(text)[self.column].encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CorpusError(
                f'{name}: not a JSON object with a field "{self.column}" that holds Unicode text'
            ) from None
        return b"".join(normalised([story], name)) + BOUNDARY_BYTE
