"""JSON lines -> normalised blocks: the field `text` of each line is a story, or several with separator lines.

In: chunks of a file, cut anywhere. Out: blocks as of `storycell.corpus.blocks`, a boundary after each line's text.

The surprising decision: a line that grows without end, as a small packed file may hold, is refused before it fills the
memory; one object has to fit in it.
"""

import json

from storycell.corpus.blocks import START, Place, normalised
from storycell.errors import CorpusError
from storycell.vocab import BOUNDARY_BYTE

LONGEST_LINE_BYTES = 128 << 20


class JsonReader:
    """Chunks of JSON lines -> blocks; a place is always behind a whole line."""

    def __init__(self, name: str, place: Place = START) -> None:
        self.name, self.place = name, place
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
        block = b"".join(self._story(line, k) for k, line in enumerate(data.split(b"\n"), self.place.lines + 1))
        self.place = Place(self.place.offset + len(data), self.place.lines + data.count(b"\n"))
        return block

    def _story(self, line: bytes, number: int) -> bytes:
        if not line.strip():
            return b""
        name = f"{self.name} line {number:,}"
        try:
            text = json.loads(line)["text"].encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CorpusError(f'{name}: not a JSON object with a field "text" that holds Unicode text') from None
        return b"".join(normalised([text], name)) + BOUNDARY_BYTE
