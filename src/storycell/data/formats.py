"""The form of a text file, detected from its beginning: plain text, JSON lines, JSON values, or a table.

Detection sees the first characters, the file's ending and the column that the user named, and gives a `Form`, which
makes the reader of the file. A plain text may begin with a bracket, and its lines may hold commas. So a file is JSON
only if it begins with a whole JSON value; and a table, unless its name says so, only if its first record has column
names with the text's among them and every record has as many fields.

Notices about a text go to the logger `storycell` as warnings, each once for a corpus; without any logging configured
they are lines on standard error.
"""

import csv
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from storycell.data.blocks import START, LinesReader, Place, Reader, TextReader
from storycell.data.documents import text_document
from storycell.data.json_text import Around, IncompleteValueError, JsonLines, JsonValues, behind_blanks, value_at
from storycell.data.tables import Table, clear_column, kind_of, no_column, records
from storycell.data.vocab import SEPARATOR
from storycell.errors import CorpusError

_LOGGER = logging.getLogger("storycell")


class Notes:
    """Remembers what has been said."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, kind: str, note: str) -> None:
        """Say something, unless something of the same kind has been said."""
        if kind not in self._said:
            self._said.add(kind)
            _LOGGER.warning("%s", note)


JSON_LINES_ENDINGS = (".jsonl", ".ndjson")
_NO_DELIMITER = "\x1f"  # of a table of one column, where nothing else divides all records equally
_TABLE_ENDINGS = {".csv": (",", ";", "\t", "|", _NO_DELIMITER), ".tsv": ("\t",), ".tab": ("\t",)}
_LONGEST_HEADING = 40  # characters of a column's name, where only the content says that it is one
_LOOKS_LIKE = 5  # records: from so many on, a text that looks like a table is worth a note
_OBJECT = re.compile(r'\{\s*(?:"(?:[^"\\\n]|\\.){0,200}"\s*:|\})')
_MARKUP = re.compile(r"\s*(?:<!--.*?-->\s*)?<(?:(!doctype html|html|head|body)|(\?xml|mediawiki))\b", re.I | re.S)


class Form(Protocol):
    """How the stories lie in a file. `repr` says all that they depend on, `str` says it to a user."""

    def reader(self, name: str, place: Place = START) -> Reader:
        """What reads it from a place on."""


@dataclass(frozen=True)
class PlainText:
    """A text that is all stories, but for separator lines."""

    looks_like: str = ""  # something else, though it is read as it lies

    def reader(self, name: str, place: Place = START) -> TextReader:
        """What reads it from a place on."""
        return TextReader(name, place)

    def __str__(self) -> str:
        return self.looks_like


@dataclass(frozen=True)
class Lines:
    """A text of which each line is a story; a line of blanks is none."""

    def reader(self, name: str, place: Place = START) -> LinesReader:
        """What reads it from a place on."""
        return LinesReader(name, place)

    def __str__(self) -> str:
        return "a list: each line is a story"


class MoreWantedError(Exception):
    """The beginning is too short to tell; its first value or record has not ended."""


@dataclass(frozen=True)
class Head:
    """The beginning of a file."""

    text: str
    is_all: bool  # whether the file ends there
    name: str
    ending: str  # of its name, as `.csv`
    column: str | None  # that the user named; "" if it is to be read as it lies
    lines: bool = False  # whether each line is a story
    labels: tuple[str, ...] = ()  # columns, or fields, whose values each story begins with

    def form(self) -> Form:
        """The form of the file; `CorpusError` if it has one whose text cannot be told; `MoreWantedError`."""
        if self.lines:
            return Lines()
        if self.column == "":
            return PlainText()
        found = self._json_lines() if self.ending in JSON_LINES_ENDINGS else text_document(self.text, self.ending)
        found = found or self._json() or self._table()
        if self.labels and not isinstance(found, Table | JsonLines | JsonValues):
            raise CorpusError(
                f"{self.name} is {found or 'a plain text'}, without columns for labels; make CSV or JSON lines of it"
            )
        if self.labels and isinstance(found, JsonLines):
            return replace(found, labels=self.labels)
        if self.labels and isinstance(found, JsonValues):
            if found.column is None:
                raise CorpusError(f"{self.name} is a JSON array of strings, which have no labels; leave --label out")
            return replace(found, labels=self.labels)
        return found or PlainText(self._looks_like())

    # JSON

    def _json_lines(self) -> Form:
        """By its name it is JSON lines; which field of the first object?"""
        line = self.text.removeprefix("\ufeff").lstrip()
        try:
            value, _ = value_at(line, 0)
        except IncompleteValueError:
            if not self.is_all:
                raise MoreWantedError from None
            return JsonLines(self.column or "text")
        except ValueError:
            return JsonLines(self.column or "text")  # whose reader says which line is wrong
        if not isinstance(value, dict):
            return JsonLines(self.column or "text")
        return JsonLines(self._field(value, "JSON lines"))

    def _json(self) -> Form | None:
        start = behind_blanks(self.text, len(self.text) - len(self.text.removeprefix("\ufeff")))
        try:
            if self.text.startswith("[", start):
                form = self._array(start + 1, "[")
            elif _OBJECT.match(self.text, start):
                form = self._object(start)
            else:
                form = None
        except IncompleteValueError:
            if not self.is_all:
                raise MoreWantedError from None
            form = None
        except ValueError:
            form = None
        if form is None and self.ending == ".json" and self.text.strip("\ufeff \t\r\n"):
            raise CorpusError(
                f"{self.name} is not JSON that can be read: an array of objects or strings, an object with one such "
                "array in it, or JSON lines; make one of these of it, for example with `jq -c`"
            )
        return form

    def _array(self, at: int, around: Around) -> Form | None:
        """The array whose first element comes at a place; None if it may be a text that begins with a bracket."""
        element = behind_blanks(self.text, at)
        if not (_OBJECT.match(self.text, element) or self.text.startswith('"', element)):
            return None
        value, end = value_at(self.text, element)
        behind = behind_blanks(self.text, end)
        if self.text.startswith(",", behind):
            behind = behind_blanks(self.text, behind + 1)
            if behind < len(self.text) and self.text[behind] != self.text[element]:
                return None
        elif behind < len(self.text) and self.text[behind] != "]":
            return None
        column = self._field(value, "a JSON array of objects") if isinstance(value, dict) else None
        if column is None and self.column:
            raise CorpusError(
                f"{self.name} is a JSON array of strings, which have no column {self.column!r}; leave it out"
            )
        return JsonValues(column, around, self._bytes(at))

    def _object(self, at: int) -> Form | None:
        """An object at a place, with more behind it or without; None if what is behind it is something else."""
        members, array, end = self._members(at)
        column = clear_column(members) if self.column is None else self.column if self.column in members else None
        if end is None:
            if array is not None and column is None:
                return self._array(array, "{")
            raise IncompleteValueError
        behind = behind_blanks(self.text, end)
        is_last = behind == len(self.text) and self.is_all
        if not is_last and behind == len(self.text):
            raise IncompleteValueError
        if not is_last and not _OBJECT.match(self.text, behind):
            return None
        if array is not None and column is None and is_last:
            return self._array(array, "{")
        value, _ = value_at(self.text, at)
        column = self._field(value, "JSON")
        if "\n" not in self.text[at:end] and (is_last or "\n" in self.text[end:behind]):
            return JsonLines(column)
        return JsonValues(column, "", self._bytes(at))

    def _members(self, at: int) -> tuple[list[str], int | None, int | None]:
        """Of an object: the names of its strings, where its first array begins, and where it ends, if it does."""
        names: list[str] = []
        array = end = None
        at = behind_blanks(self.text, at + 1)
        while not self.text.startswith("}", at):
            name, at = value_at(self.text, at)
            at = behind_blanks(self.text, at)
            if not isinstance(name, str) or not self.text.startswith(":", at):
                raise IncompleteValueError if at == len(self.text) else ValueError
            value_starts = at = behind_blanks(self.text, at + 1)
            is_array = self.text.startswith("[", at)
            if is_array and array is None:
                element = behind_blanks(self.text, at + 1)
                if self.text.startswith('"', element) or _OBJECT.match(self.text, element):
                    array = value_starts + 1
            try:
                value, at = value_at(self.text, at)
            except IncompleteValueError:
                return names, array if array == value_starts + 1 else None, None
            names += [name] if isinstance(value, str) else []
            at = behind_blanks(self.text, at)
            if self.text.startswith(",", at):
                at = behind_blanks(self.text, at + 1)
            elif not self.text.startswith("}", at):
                raise IncompleteValueError if at == len(self.text) else ValueError
        end = at + 1
        return names, array, end

    def _field(self, value: dict[str, object], what: str) -> str:
        """The field of an object that holds the text."""
        if self.column:
            if self.column in value:
                return self.column
        elif column := clear_column(list(value)) or (next(iter(value)) if len(value) == 1 else None):
            return column
        raise no_column(self.name, what, list(value), self.column)

    def _bytes(self, characters: int) -> int:
        return len(self.text[:characters].encode())

    # Tables

    def _table(self) -> Form | None:
        text = self.text.removeprefix("\ufeff")
        if not self.is_all:
            text = text[: max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1]
        if not text.strip():
            return None
        by_name = self.ending in _TABLE_ENDINGS
        found: list[Table] = []
        for rows, delimiter, quoted in self._tables(text):
            if table := self._as_table(rows, delimiter, quoted, by_name):
                found.append(table)
        if found:
            return max(found, key=lambda table: table.width)
        if by_name:
            raise self._no_table(text)
        return None

    def _tables(self, text: str) -> Iterator[tuple[list[list[str]], str, bool]]:
        """The records that a text may be divided into, the delimiter, and whether quotation marks count."""
        delimiters = _TABLE_ENDINGS.get(self.ending, _TABLE_ENDINGS[".csv"])
        for delimiter in delimiters:
            for quoted in (True, False) if delimiter == "\t" else (True,):  # TSV is written without such marks, too
                rows = self._rows(text, delimiter, quoted)
                if rows and (len(rows[0]) > 1 or delimiter in (delimiters[0], _NO_DELIMITER)):
                    yield rows, delimiter, quoted
                    break

    def _rows(self, text: str, delimiter: str, quoted: bool) -> list[list[str]]:
        """The records at the beginning, if they have as many fields each; else none."""
        try:
            found, _, _ = records(text, delimiter, quoted, self.is_all)
        except csv.Error:
            return []
        if not found and not self.is_all and self.ending in _TABLE_ENDINGS:
            raise MoreWantedError
        rows = [fields for _, fields in found]
        return rows if len({len(fields) for fields in rows}) == 1 else []

    def _as_table(self, rows: list[list[str]], delimiter: str, quoted: bool, by_name: bool) -> Table | None:
        heading, width = rows[0], len(rows[0])
        if not by_name and not self._is_table(rows):
            return None
        column = self.column if self.column is not None else clear_column(heading)
        if column is None:
            return None
        if heading.count(column) == 1:
            if missing := [label for label in self.labels if heading.count(label) != 1]:
                raise CorpusError(
                    f"{self.name} has no column {missing[0]!r} for a label; its columns are {', '.join(heading)[:200]}"
                )
            labels = tuple(heading.index(label) for label in self.labels)
            return Table(column, heading.index(column), width, delimiter, quoted, labels=labels)
        if by_name and column.isdecimal() and 1 <= int(column) <= width:
            return Table(column, int(column) - 1, width, delimiter, quoted, headed=False)
        return None

    def _is_table(self, rows: list[list[str]]) -> bool:
        """Whether nobody would take it for a text, though its name does not say what it is."""
        heading, width = rows[0], len(rows[0])
        if not _is_heading(heading):
            return False
        if len(rows) < 2:
            if not self.is_all and width > 1 and clear_column(heading):
                raise MoreWantedError
            return False
        if width > 1:
            return True
        # one column: what was quoted had a reason for it
        return clear_column(heading) is not None and all(any(c in row[0] for c in '\n",') for row in rows[1:])

    def _no_table(self, text: str) -> CorpusError:
        kind = "TSV" if self.ending != ".csv" else "CSV"
        best: list[list[str]] = []
        for rows, delimiter, _ in self._tables(text):
            if delimiter != _NO_DELIMITER and len(rows[0]) > len(best[0] if best else []):
                best = rows
        if best:
            return no_column(self.name, kind, best[0], self.column)
        return CorpusError(
            f"{self.name} cannot be read as {kind}: its records do not have as many fields each, or a quotation mark "
            "is missing; mend it, or give --column '' to learn the file as it lies"
        )

    def _looks_like(self) -> str:
        """What a note calls a text that is read as it lies, if that may not be what was meant."""
        if markup := _MARKUP.match(self.text):
            kind = "HTML" if markup[1] else "XML"
            means = (
                "; named .html, its words are taken out"
                if markup[1]
                else "; `pandoc FILE -t plain` takes the words out"
            )
            return f"is {kind}, and its tags are read with the words{means}"
        text = self.text[: self.text.rfind("\n") + 1]
        for delimiter in _TABLE_ENDINGS[".csv"]:
            rows = self._rows(text, delimiter, quoted=True)
            spaced = any(field.startswith(" ") for row in rows for field in row[1:])
            if len(rows) >= _LOOKS_LIKE and len(rows[0]) > 1 and _is_heading(rows[0]) and not spaced:
                return (
                    f"seems to be {kind_of(delimiter)} with the columns {', '.join(rows[0])[:100]}, but is read as "
                    "it lies; --column NAME takes one of them"
                )
        if _is_list(text):
            return "looks like a list, and is read as one long story; --lines makes a story of each line"
        return ""


_LEAST_LINES = 50
_SHORT_LINE = 40  # characters
_ENDS = tuple(".,;:!?\"'”’)-")


def _is_list(text: str) -> bool:
    """Whether lines are short, hardly any is empty, and hardly any ends as a sentence or a verse does."""
    lines = [line.strip() for line in text.split("\n")[:-1]]
    filled = [line for line in lines if line]
    if len(filled) < _LEAST_LINES or len(filled) < 0.98 * len(lines) or SEPARATOR in lines:
        return False
    short = sum(len(line) <= _SHORT_LINE for line in filled)
    return short >= 0.95 * len(filled) and sum(line.endswith(_ENDS) for line in filled) <= 0.03 * len(filled)


def _is_heading(names: Sequence[str]) -> bool:
    """Whether a record can be one of column names."""
    return len(set(names)) == len(names) and all(
        name and name == name.strip() and len(name) <= _LONGEST_HEADING and not _is_number(name) and "\n" not in name
        for name in names
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
