"""JSON -> normalised blocks (see `storycell.data.blocks`): each value, or one of its fields, is a story.

Read are JSON lines, JSON values one after the other, and an array, which may be the one list in an object, as in
`{"data": [ … ]}`. A field may itself hold several stories with separator lines between them.

Values are decoded one by one as they come. Only the unfinished one is held in memory, and one that grows without end,
as a small packed file may hold, is refused before it fills the memory.
"""

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from storycell.data import blocks
from storycell.data.blocks import START, Place, normalise, not_utf8, with_header
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.errors import CorpusError

_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_CUT = 16  # characters: an error so near the end may come of the end, in the middle of a number or an escape
_LONGEST_TAIL = 1 << 20

Around = Literal["", "[", "{"]


class IncompleteValueError(ValueError):
    """What there is of a value may be the beginning of one."""


def value_at(text: str, at: int) -> tuple[Any, int]:
    """(a JSON value that begins at a place, the place behind it); `ValueError` if there is none.

    `IncompleteValueError` if it may be one when more is known.
    """
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        if error.pos > len(text) - _CUT or error.msg.startswith("Unterminated string"):
            raise IncompleteValueError(str(error)) from None
        raise
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def behind_blanks(text: str, at: int) -> int:
    """The place behind the blanks at a place."""
    found = _BLANKS.match(text, at)
    return found.end() if found else at


@dataclass(frozen=True)
class JsonValues:
    """A file of JSON values in an array, in an array in an object, or one after the other."""

    column: str | None  # the field with the text; None: each value is a text itself
    around: Around = "["
    start: int = 0  # bytes before the first value
    labels: tuple[str, ...] = field(default=(), repr=False)  # the fields that hold labels

    def reader(self, name: str, place: Place = START) -> "JsonValuesReader":
        """What reads it from a place on."""
        return JsonValuesReader(name, place, self)

    def __str__(self) -> str:
        shape = {"[": "a JSON array", "{": "a JSON object with an array in it", "": "JSON"}[self.around]
        return (
            f"{shape}: "
            + (f"the field {self.column!r} of each object" if self.column else "each string")
            + " is a story"
        )


class JsonValuesReader:
    """Chunks of JSON values -> blocks; a place is always behind a whole value, and counts values as lines."""

    def __init__(self, name: str, place: Place, form: JsonValues) -> None:
        self.name, self.place, self.form = name, place, form
        self._held: list[bytes] = []
        self._size = 0
        self._wanted = 0  # bytes that must be held before it is worth while to try again

    def feed(self, chunk: bytes, final: bool = False) -> bytes:
        """The stories of the values that have ended; `CorpusError` names one that holds none."""
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size > blocks.LONGEST_RECORD_BYTES:
            raise CorpusError(
                f"{self.name} has a value of more than {blocks.LONGEST_RECORD_BYTES:,} bytes; make smaller ones of it"
            )
        if self._size < self._wanted and not final:
            return b""
        data = b"".join(self._held)
        skipped = max(0, self.form.start - self.place.offset)
        if len(data) < skipped:
            self._held = [data]
            return b""
        text = self._decode(data, skipped, final)
        stories, end = self._stories(text, final)
        if stories:
            done = skipped + len(text[:end].encode())
            self.place = Place(self.place.offset + done, self.place.lines + len(stories))
            data = data[done:]
        self._held, self._size, self._wanted = [data], len(data), 2 * len(data)
        return b"".join(story + BOUNDARY_BYTE for story in stories)

    def _decode(self, data: bytes, skipped: int, final: bool) -> str:
        try:
            return codecs.utf_8_decode(data[skipped:], "strict", final)[0]
        except UnicodeDecodeError as error:
            at = skipped + error.start
            raise CorpusError(not_utf8(self.name, self.place.offset + at, data, at)) from None

    def _stories(self, text: str, final: bool) -> tuple[list[bytes], int]:
        """The stories of the whole values, and the place behind the last of them."""
        stories: list[bytes] = []
        end = 0
        while True:
            number = self.place.lines + len(stories) + 1
            at = behind_blanks(text, end)
            try:
                if self.form.around and number > 1 and text[at : at + 1] not in ("", "]"):
                    if text[at] != ",":
                        raise ValueError("a comma is missing")
                    at = behind_blanks(text, at + 1)
                elif text[at : at + 1] == "]" and self.form.around:
                    self._check_tail(text[at + 1 :], final)
                    return stories, end
                if at == len(text):
                    if final and self.form.around:
                        raise ValueError("the array does not end")
                    return stories, end
                value, behind = value_at(text, at)
            except IncompleteValueError as error:
                if not final:
                    return stories, end
                raise self._wrong(number, str(error)) from None
            except (ValueError, RecursionError) as error:
                raise self._wrong(number, str(error)) from None
            stories.append(self._story(value, number))
            end = behind

    def _check_tail(self, tail: str, final: bool) -> None:
        """`ValueError` unless what is behind the array is what may be there."""
        if len(tail) > _LONGEST_TAIL:
            raise ValueError("too much comes after the array; make JSON lines of it")
        if not final:
            return
        if self.form.around == "[":
            if tail.strip():
                raise ValueError("something comes after the end of the array")
            return
        rest = json.loads("{" + tail.strip().removeprefix(","))
        if any(isinstance(value, list) and value for value in rest.values()):
            raise ValueError(
                "there is more than one array; make JSON lines of the right one, as with `jq -c '.NAME[]'`"
            )

    def _story(self, value: Any, number: int) -> bytes:
        column = self.form.column
        try:
            text = value if column is None else value[column]
            encoded: bytes = text.encode()
            labels = [value[label] for label in self.form.labels]
        except (ValueError, KeyError, TypeError, AttributeError):
            what = "a string" if column is None else f'an object with a field "{column}" that holds Unicode text'
            what += _and_labels(self.form.labels)
            raise CorpusError(f"{self.name} value {number:,}: not {what}") from None
        name = f"{self.name} value {number:,}"
        return with_header(labels, b"".join(normalise([encoded], name)), name)

    def _wrong(self, number: int, why: str) -> CorpusError:
        return CorpusError(f"{self.name} cannot be read as JSON, from value {number:,} on: {why[:200]}")


LONGEST_LINE_BYTES = 128 << 20


@dataclass(frozen=True)
class JsonLines:
    """A file of JSON lines, whose text is in one field of each."""

    column: str = "text"
    labels: tuple[str, ...] = field(default=(), repr=False)  # the fields that hold labels

    def reader(self, name: str, place: Place = START) -> "JsonReader":
        """What reads it from a place on."""
        return JsonReader(name, place, self.column, self.labels)

    def __str__(self) -> str:
        return f"JSON lines: the field {self.column!r} of each is a story"


class JsonReader:
    """Chunks of JSON lines -> blocks; a place is always behind a whole line."""

    def __init__(self, name: str, place: Place = START, column: str = "text", labels: tuple[str, ...] = ()) -> None:
        self.name, self.place, self.column, self.labels = name, place, column, labels
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
            value = json.loads(text)
            story = value[self.column].encode()
            labels = [value[label] for label in self.labels]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CorpusError(
                f'{name}: not a JSON object with a field "{self.column}" that holds Unicode text'
                + _and_labels(self.labels)
            ) from None
        return with_header(labels, b"".join(normalise([story], name)), name) + BOUNDARY_BYTE


def _and_labels(labels: tuple[str, ...]) -> str:
    return f", and with {', '.join(map(repr, labels))}" if labels else ""
