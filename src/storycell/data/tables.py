"""CSV and TSV -> normalised blocks (see `storycell.data.blocks`): one column of each record holds the text.

A cell is a story, or several with separator lines between them. The column is the one that the user named, or an
obvious one (`text`, `story`, …); where that is not clear a `CorpusError` lists the names. Fields of JSON objects are
chosen in the same way.

Records are parsed by Python's `csv`, strictly, from whole lines. Only the unfinished one is held in memory, and one
that grows without end, as behind a quotation mark that never closes, is refused before it fills the memory.
"""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from storycell.data import blocks
from storycell.data.blocks import START, Place, normalise, not_utf8, with_header
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.errors import CorpusError

KNOWN = (
    "text", "story", "content", "body", "document", "passage", "article", "sentence", "lyrics", "poem", "quote",
    "review", "comment", "message", "tweet",
)  # fmt: skip
_SHOWN = 20
_SHOWN_CHARS = 30


def clear_column(names: Sequence[str]) -> str | None:
    """The name that says that it is the text: `text`, or the only one of those that are usual."""
    usual = [name for name in names if name.strip().lower() in KNOWN]
    texts = [name for name in usual if name.strip().lower() == "text"]
    found = texts or usual
    return found[0] if len(found) == 1 else None


def no_column(name: str, what: str, names: Sequence[str], wanted: str | None) -> CorpusError:
    """The error about a table whose text is in none of its columns, as far as one can see."""
    shown = ", ".join(" ".join(n.split())[:_SHOWN_CHARS] for n in names[:_SHOWN]) + (
        ", …" if len(names) > _SHOWN else ""
    )
    why = f"without a column {wanted!r}" if wanted else "and which of its columns is the text is not clear"
    return CorpusError(
        f"{name} is {what} {why} ({shown or 'it has none'}): name it with --column NAME, or by its number where the "
        "first record of a table names none; --column '' learns the file as it lies"
    )


Row = tuple[int, list[str]]  # the line that a record begins on, counted from 0; its fields


@contextmanager
def _long_fields() -> Iterator[None]:
    """Fields as long as a story may be; the limit is the whole process's, so it is put back."""
    before = csv.field_size_limit(blocks.LONGEST_RECORD_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def records(text: str, delimiter: str, quoted: bool, final: bool) -> tuple[list[Row], int, int]:
    """(the whole records at the beginning of a text, the characters and the lines that they take).

    `final` says that the text ends here; otherwise it has to end with a line. `csv.Error` if it is no such table.
    """
    characters = 0

    def lines() -> Iterator[str]:
        nonlocal characters
        for line in io.StringIO(text, newline=""):
            characters += len(line)
            yield line

    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines(), delimiter=delimiter, quoting=quoting, strict=True)
    rows: list[Row] = []
    taken = lines_taken = line_number = 0
    try:
        with _long_fields():
            for row in reader:
                if row:
                    rows.append((line_number, row))
                    taken, lines_taken = characters, reader.line_num
                line_number = reader.line_num
    except csv.Error as error:
        if final or "unexpected end of data" not in str(error):
            raise csv.Error(f"line {line_number + 1:,}: {error}") from None
    return rows, taken, lines_taken


@dataclass(frozen=True)
class Table:
    """A file of records with as many fields each."""

    column: str
    index: int  # of the column
    width: int  # fields of each record
    delimiter: str = ","
    quoted: bool = True  # whether quotation marks may stand around fields
    headed: bool = True  # whether the first record names the columns
    labels: tuple[int, ...] = field(default=(), repr=False)  # the indices of the columns that hold labels

    def reader(self, name: str, place: Place = START) -> "TableReader":
        """What reads it from a place on."""
        return TableReader(name, place, self)

    def __str__(self) -> str:
        column = f"column {self.column!r}" if self.headed else f"column {self.index + 1}"
        return f"{kind_of(self.delimiter)}: the {column} of each record is a story"


def kind_of(delimiter: str) -> str:
    """What a table with a delimiter is called."""
    return {"\t": "TSV", ",": "CSV", "\x1f": "CSV"}.get(delimiter, f"CSV with {delimiter!r} between its fields")


class TableReader:
    """Chunks of a table -> blocks; a place is always behind a whole record."""

    def __init__(self, name: str, place: Place, form: Table) -> None:
        self.name, self.place, self.form = name, place, form
        self._held: list[bytes] = []
        self._size = 0
        self._wanted = 0  # bytes that must be held before it is worth while to try again

    def feed(self, chunk: bytes, final: bool = False) -> bytes:
        """The stories of the records that have ended; `CorpusError` names one that is no record."""
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size > blocks.LONGEST_RECORD_BYTES:
            raise CorpusError(
                f"{self.name} has a record of more than {blocks.LONGEST_RECORD_BYTES:,} bytes; "
                "is a quotation mark missing?"
            )
        if self._size < self._wanted and not final:
            return b""
        data = b"".join(self._held)
        end = len(data) if final else max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(0, len(data) - 1))) + 1
        mark = len(codecs.BOM_UTF8) if self.place.offset == 0 and data.startswith(codecs.BOM_UTF8) else 0
        text = self._decode(data, mark, max(mark, end))
        try:
            rows, taken, lines = records(text, self.form.delimiter, self.form.quoted, final)
        except csv.Error as error:
            what = kind_of(self.form.delimiter)
            raise CorpusError(f"{self.name} cannot be read as {what} ({self._locate_error(str(error))})") from None
        if self.form.headed and self.place.offset == 0:
            rows = rows[1:]
        block = b"".join(self._story(line, fields) for line, fields in rows)
        if taken:
            done = mark + len(text[:taken].encode())
            self.place = Place(self.place.offset + done, self.place.lines + lines)
            data = data[done:]
        self._held, self._size, self._wanted = [data], len(data), 2 * len(data)
        return block

    def _decode(self, data: bytes, start: int, end: int) -> str:
        try:
            return data[start:end].decode()
        except UnicodeDecodeError as error:
            at = start + error.start
            raise CorpusError(not_utf8(self.name, self.place.offset + at, data, at)) from None

    def _story(self, line: int, fields: list[str]) -> bytes:
        name = f"{self.name} line {self.place.lines + line + 1:,}"
        if len(fields) != self.form.width:
            raise CorpusError(
                f"{name}: a record of {len(fields)} fields, where the first has {self.form.width}; is a quotation mark "
                "missing?"
            )
        block = b"".join(normalise([fields[self.form.index].encode()], name))
        return with_header([fields[k] for k in self.form.labels], block, name) + BOUNDARY_BYTE

    def _locate_error(self, error: str) -> str:
        """An error of `csv` with the line counted from the beginning of the file."""
        number, _, why = error.removeprefix("line ").partition(": ")
        return f"line {int(number.replace(',', '')) + self.place.lines:,}: {why}"
