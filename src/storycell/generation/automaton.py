"""Regular expressions -> deterministic automata over the ids of a vocabulary.

A pattern is Python's own (`re`), matched against a whole text. It is parsed by the parser of the standard library, so
that it means what `re.fullmatch` says; what is no regular language (back-references, look-around, boundaries of words)
is refused. From the parse comes Glushkov's automaton (1961), one position for each character of the pattern, and from
that, by sets of positions, a deterministic one. Ids that no pattern tells apart share a column of its table, so a
vocabulary of thousands costs no more than one of a hundred.

Libraries were tried first: interegular (not released since 2024, without bounds), greenery (another syntax, and seconds
for a range of lengths) and outlines-core (which did not come back from `[A-Z][^.!?]{10,80}[.!?]`). A server that takes
patterns from anybody needs bounds, which are here `MOST_POSITIONS`, `MOST_STATES` and `MOST_WORK`.
"""

import importlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.types import RESERVED

MOST_POSITIONS = 4_000  # of the characters of a pattern, repetitions written out
MOST_STATES = 10_000
MOST_WORK = 5_000_000  # positions looked at while sets of them are found: some seconds
NO_STATE = -1

Bools = npt.NDArray[np.bool_]
Table = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Automaton:
    """A regular language of ids; state 0 is where a text begins, and from every state the language can be reached."""

    table: Table  # [S C]: the next state, or NO_STATE
    accepts: Bools  # [S]
    column: npt.NDArray[np.intp]  # [V]: the column of each id, among them one that leads nowhere

    @property
    def distances(self) -> npt.NDArray[np.int64]:
        """The length of the shortest text from each state that ends in the language, `[S]`."""
        found = np.where(self.accepts, 0, np.iinfo(np.int64).max)
        frontier, length = self.accepts.copy(), 0
        leads = [self.table[:, c] for c in range(self.table.shape[1])]
        while frontier.any():
            length += 1
            reaches = np.zeros_like(frontier)
            for column in leads:
                there = column >= 0
                reaches[there] |= frontier[column[there]]
            frontier = reaches & (found > length)
            found[frontier] = length
        return found

    @property
    def is_empty(self) -> bool:
        """Whether no text is in the language."""
        return not self.accepts.any()

    def intersect(self, other: "Automaton") -> "Automaton":
        """The texts that are in both languages."""
        pairs, column = np.unique(np.stack([self.column, other.column]), axis=1, return_inverse=True)
        ours, theirs = self.table[:, pairs[0]], other.table[:, pairs[1]]
        numbers, rows, waiting = {(0, 0): 0}, [], [(0, 0)]
        for a, b in waiting:
            row = []
            for x, y in zip(ours[a].tolist(), theirs[b].tolist(), strict=True):
                if x < 0 or y < 0:
                    row.append(NO_STATE)
                    continue
                if (x, y) not in numbers:
                    numbers[x, y] = len(numbers)
                    waiting.append((x, y))
                    _check_size(len(numbers))
                row.append(numbers[x, y])
            rows.append(row)
        accepts = np.array([self.accepts[a] and other.accepts[b] for a, b in waiting])
        return _trim(np.array(rows, np.int32), accepts, column.reshape(-1))


def automaton_of(pattern: str, vocab: Vocabulary, alphabet: Bools) -> Automaton:
    """The texts in the characters of `alphabet [V]` that a pattern matches as a whole; it may be empty.

    `SettingsError` where the pattern is none, or none of a regular language, or too large.
    """
    if vocab.kind != "characters":
        raise SettingsError(f"a pattern is matched against characters, and this model generates {vocab.kind}")
    parser: Any = importlib.import_module("re._parser")
    try:
        parsed = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SettingsError(f"{pattern!r} is no regular expression: {error}") from None
    builder = _Glushkov(vocab, alphabet)
    try:
        return builder.determinise(builder.whole(parsed))
    except _UnsupportedError as error:
        raise SettingsError(
            f"{pattern!r} holds {error}, which is not supported: a pattern is matched against the whole text, "
            "character by character"
        ) from None
    except RecursionError:
        raise SettingsError("the pattern is nested too deep") from None


class _UnsupportedError(Exception):
    """What a regular language has not."""


@dataclass
class _Part:
    """A part of a pattern: whether it matches nothing, and the positions that it may begin and end with, as bits."""

    nullable: bool
    first: int
    last: int


_EMPTY = _Part(True, 0, 0)
_NAMES = {
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a conditional group",
    "ASSERT": "look-around",
    "ASSERT_NOT": "look-around",
    "AT": "an anchor or a boundary of words inside",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repetition",
}
_BEGINNINGS, _ENDS = {"AT_BEGINNING", "AT_BEGINNING_STRING"}, {"AT_END", "AT_END_STRING"}


class _Glushkov:
    """Positions of a pattern, what each reads, and which may follow which."""

    def __init__(self, vocab: Vocabulary, alphabet: Bools) -> None:
        self._characters = vocab.characters
        self._alphabet = alphabet
        self._reads: list[bytes] = []  # by position: which ids, as the bytes of [V] booleans
        self._follow: list[int] = []
        self._known: dict[tuple[str, str, int], bytes] = {}

    def whole(self, parsed: Any) -> _Part:
        """A whole pattern, in which anchors at the two ends say nothing new."""
        items, flags = list(parsed), parsed.state.flags
        while items and str(items[0][0]) == "AT" and str(items[0][1]) in _BEGINNINGS:
            del items[0]
        while items and str(items[-1][0]) == "AT" and str(items[-1][1]) in _ENDS:
            del items[-1]
        return self._sequence(items, flags)

    def _sequence(self, items: Any, flags: int) -> _Part:
        part = _EMPTY
        for item in reversed(list(items)):  # from the end, so that a chain of optional parts stays short
            part = self._concatenate(self._item(item, flags), part)
        return part

    def _concatenate(self, a: _Part, b: _Part) -> _Part:
        for p in _bits(a.last):
            self._follow[p] |= b.first
        return _Part(
            a.nullable and b.nullable,
            a.first | b.first if a.nullable else a.first,
            b.last | a.last if b.nullable else b.last,
        )

    def _item(self, item: Any, flags: int) -> _Part:
        kind, value = str(item[0]), item[1]
        if kind in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self._position(kind, value, flags)
        if kind == "SUBPATTERN":
            _, added, removed, inner = value
            return self._sequence(inner, (flags | added) & ~removed)
        if kind == "BRANCH":
            parts = [self._sequence(branch, flags) for branch in value[1]]
            found = _Part(False, 0, 0)
            for part in parts:
                found = _Part(found.nullable or part.nullable, found.first | part.first, found.last | part.last)
            return found
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = value
            return self._repeat(int(least), most, inner, flags)
        raise _UnsupportedError(_NAMES.get(kind, kind.lower()))

    def _repeat(self, least: int, most: Any, inner: Any, flags: int) -> _Part:
        part = self._sequence(inner, flags)
        if not part.first:  # nothing, however often
            return part
        if str(most) == "MAXREPEAT":
            for p in _bits(part.last):
                self._follow[p] |= part.first
            if least:
                least -= 1
            else:
                part = _Part(True, part.first, part.last)
        elif optional := int(most) - least:
            part = _Part(True, part.first, part.last)
            for _ in range(optional - 1):  # x{0,3} as (x(x(x)?)?)?
                part = self._concatenate(self._sequence(inner, flags), part)
                part = _Part(True, part.first, part.last)
        elif least:
            least -= 1
        else:
            return _EMPTY
        for _ in range(least):
            part = self._concatenate(self._sequence(inner, flags), part)
        return part

    def _position(self, kind: str, value: Any, flags: int) -> _Part:
        if len(self._reads) == MOST_POSITIONS:
            raise SettingsError(
                f"the pattern has more than {MOST_POSITIONS:,} characters, repetitions written out; use --min-chars "
                "and --max-chars for the length of a text"
            )
        key = kind, str(value), flags
        if key not in self._known:
            reads = self._alphabet.copy()
            for k, c in enumerate(self._characters, RESERVED):
                if reads[k]:
                    reads[k] = _reads(kind, value, c, flags)
            self._known[key] = reads.tobytes()
        self._reads.append(self._known[key])
        self._follow.append(0)
        bit = 1 << (len(self._reads) - 1)
        return _Part(False, bit, bit)

    def determinise(self, part: _Part) -> Automaton:
        """The deterministic automaton of a whole pattern: a state is the set of positions that may be read next."""
        kinds = sorted(set(self._reads))
        by_kind = np.frombuffer(b"".join(kinds), np.bool_).reshape(len(kinds), len(self._alphabet))
        patterns, column = np.unique(by_kind, axis=1, return_inverse=True)  # [kinds C]: ids that are read alike
        reading = [0] * patterns.shape[1]  # of each column: the positions that read it
        of_kind = {kind: patterns[k] for k, kind in enumerate(kinds)}
        for p, kind in enumerate(self._reads):
            for c in np.flatnonzero(of_kind[kind]):
                reading[c] |= 1 << p
        start = (part.first, part.nullable)
        numbers, waiting, rows, work = {start: 0}, [start], list[list[int]](), 0
        for positions, _ in waiting:
            row = []
            for here in reading or [0]:
                matched = positions & here
                if not matched:
                    row.append(NO_STATE)
                    continue
                following = 0
                for p in _bits(matched):
                    following |= self._follow[p]
                    work += 1
                found = (following, bool(matched & part.last))
                if found not in numbers:
                    numbers[found] = len(numbers)
                    waiting.append(found)
                    _check_size(len(numbers), work)
                row.append(numbers[found])
            rows.append(row)
        accepts = np.array([accept for _, accept in waiting])
        ids = column.reshape(-1) if kinds else np.zeros(len(self._alphabet), np.intp)
        return _trim(np.array(rows, np.int32), accepts, ids)


def _check_size(states: int, work: int = 0) -> None:
    if states > MOST_STATES or work > MOST_WORK:
        raise SettingsError(
            f"the pattern needs more than {MOST_STATES:,} states, as one with a long `.{{n}}` behind a `.*` may; make "
            "it simpler"
        )


def _trim(table: Table, accepts: Bools, column: npt.NDArray[np.intp]) -> Automaton:
    """An automaton without the ways that end outside the language."""
    whole = Automaton(table, accepts, column)
    lives = whole.distances < np.iinfo(np.int64).max
    return Automaton(np.where((table >= 0) & lives[table], table, NO_STATE).astype(np.int32), accepts, column)


def _bits(mask: int) -> list[int]:
    """The numbers of the bits that are set."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _reads(kind: str, value: Any, c: str, flags: int) -> bool:
    """Whether a part of a pattern that is one character matches `c`."""
    if kind == "ANY":
        return bool(flags & re.DOTALL) or c != "\n"
    if flags & re.IGNORECASE:
        return any(_is_in(kind, value, form, flags) for form in (c, c.lower(), c.upper()) if len(form) == 1) ^ (
            _is_negated(kind, value)
        )
    return _is_in(kind, value, c, flags) ^ _is_negated(kind, value)


def _is_negated(kind: str, value: Any) -> bool:
    return kind == "NOT_LITERAL" or (kind == "IN" and str(value[0][0]) == "NEGATE")


def _is_in(kind: str, value: Any, c: str, flags: int) -> bool:
    """Whether a character is one of those that are listed, whether these are then taken or left."""
    if kind != "IN":
        return ord(c) == int(value)
    for name, what in value:
        if (
            (str(name) == "LITERAL" and ord(c) == what)
            or (str(name) == "RANGE" and what[0] <= ord(c) <= what[1])
            or (str(name) == "CATEGORY" and _is_category(str(what), c, flags))
        ):
            return True
    return False


def _is_category(category: str, c: str, flags: int) -> bool:
    """Whether a character is of a class such as `\\w`, as `re` has it."""
    shorthand = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[category.rpartition("_")[2]]
    found = re.match(shorthand, c, flags & re.ASCII) is not None
    return found ^ ("NOT" in category)
