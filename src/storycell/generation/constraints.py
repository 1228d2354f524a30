"""Constraints: what may come next, exactly, whatever the model would like to generate.

A `Constraint` has states, which never change and are handed in and out. It says which ids may follow a state
(`allowed`), and what the state is behind one of them (`advance`). `sampler.advance` draws each character as without
constraints; one that is refused is drawn again, among those that are allowed. So the next character has the model's own
distribution, under its temperature and filters, conditioned on being allowed; and a constraint that refuses nothing
changes nothing, to the bit. Where the filters leave nothing that is allowed, they are applied to what is.

That is done step by step. What is allowed is what can still become a text that the rules allow as a whole, so no text
ends in a dead end; but of whole texts the distribution is the product of these steps, not the model's distribution
conditioned on the whole: a beginning is not less likely because few of its continuations are allowed.

`Rules` are the constraints as a user names them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from storycell.data.vocab import LONGEST_HEADER, Vocabulary
from storycell.errors import SettingsError
from storycell.generation import rhyme
from storycell.generation.automaton import Automaton, Bools, automaton_of
from storycell.types import BOUNDARY, LABEL_END, RESERVED, UNKNOWN, Ids

_MOST_CELLS = 200_000_000  # of the table of a least length, a byte each
_NOT_WITH_RHYME = ("match", "starts_with", "contains", "min_chars", "rhyme_with")
_MULTIPLIER = 0x9E3779B97F4A7C15 | 1  # of the rolling hash, modulo 2**64; what it finds is looked up in the text
_MASK = 2**64 - 1


class Constraint(Protocol):
    """What may come next."""

    def start(self) -> Any:
        """The state before a text begins."""

    def allowed(self, state: Any) -> Bools:
        """Which ids may follow, `[V]`; the boundary among them where the text may end."""

    def advance(self, state: Any, k: int) -> Any:
        """The state behind an id that is allowed."""

    def follow(self, state: Any, ids: Sequence[int]) -> tuple[int, Any]:
        """(how many of the ids are allowed one after the other, the state behind these)."""


class Pattern:
    """Texts of an automaton that have `least` to `most` characters."""

    def __init__(self, automaton: Automaton, least: int, most: int) -> None:
        self.automaton, self.least, self.most = automaton, least, most
        self._distances = automaton.distances
        states = len(automaton.table)
        if least * states > _MOST_CELLS:
            raise SettingsError(f"min_chars = {least:,}: that is too long for such a pattern")
        self._early = np.zeros((least, states), np.bool_)  # may a text of t characters in this state become long enough
        lives: Bools = np.asarray(self._distances <= most - least)
        for t in range(least - 1, -1, -1):
            lives = np.asarray(((automaton.table >= 0) & lives[automaton.table]).any(axis=1))
            self._early[t] = lives

    def lives(self, state: int, t: int) -> bool:
        """Whether a text of t characters in that state can still be completed."""
        if t < self.least:
            return bool(self._early[t, state])
        return bool(self._distances[state] <= self.most - t)

    def start(self) -> tuple[int, int]:
        """(state of the automaton, characters)."""
        return 0, 0

    def allowed(self, state: tuple[int, int]) -> Bools:
        """As `Constraint.allowed`."""
        s, t = state
        row = self.automaton.table[s]
        lives = self._early[t + 1] if t + 1 < self.least else self._distances <= self.most - t - 1
        found: Bools = ((row >= 0) & lives[row])[self.automaton.column]
        found[BOUNDARY] = self._may_end(s, t)
        found[UNKNOWN] = False
        return found

    def _may_end(self, s: int, t: int) -> bool:
        return bool(self.automaton.accepts[s]) and t >= self.least

    def advance(self, state: tuple[int, int], k: int) -> tuple[int, int]:
        """As `Constraint.advance`."""
        s, t = state
        return (s, t) if k == BOUNDARY else (int(self.automaton.table[s, self.automaton.column[k]]), t + 1)

    def follow(self, state: tuple[int, int], ids: Sequence[int]) -> tuple[int, tuple[int, int]]:
        """As `Constraint.follow`."""
        s, t = state
        for n, k in enumerate(ids):
            if k == BOUNDARY:
                return n + self._may_end(s, t), (s, t)
            following = self._rows[s][self._columns[k]] if k != UNKNOWN else -1
            if following < 0 or not self.lives(following, t + 1):
                return n, (s, t)
            s, t = following, t + 1
        return len(ids), (s, t)

    @cached_property
    def _rows(self) -> list[list[int]]:
        found: list[list[int]] = self.automaton.table.tolist()
        return found

    @cached_property
    def _columns(self) -> list[int]:
        found: list[int] = self.automaton.column.tolist()
        return found


class NoCopy:
    """Never `length` characters in a row that stand in a text, in one of its stories; an end is always allowed.

    All windows of the text are kept as 64-bit hashes, sorted: eight bytes a character. A window that is found among
    them is looked up in the text itself, so what is refused is a copy, and every copy is refused. A state is what was
    read last, `length - 1` ids at most.
    """

    def __init__(self, text: Ids, length: int, vocab_size: int) -> None:
        if length < 1:
            raise SettingsError(f"no_copy = {length}: it must be at least 1")
        self.length, self._vocab_size = length, vocab_size
        self._size = np.dtype(text.dtype).itemsize
        self._dtype = text.dtype
        self._text = np.ascontiguousarray(text).tobytes()
        self._hashes = np.zeros(0, np.uint64)
        if len(text) >= length:
            hashes = self._windows(text)
            breaks = np.concatenate([[0], np.cumsum(text < RESERVED)])  # of stories; an unknown character equals none
            whole = breaks[length:] == breaks[:-length]
            self._hashes = np.sort(hashes[whole])

    def _windows(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
        """The hash of every window of `length` ids, `[n - length + 1]`."""
        n = len(ids) - self.length + 1
        found = np.zeros(n, np.uint64)
        wide = ids.astype(np.uint64) + np.uint64(1)
        done, power, doubled = 0, _MULTIPLIER, wide  # `doubled`: hashes of windows whose length is a power of two
        size, rest = 1, self.length
        with np.errstate(over="ignore"):
            while rest:
                if rest & 1:
                    found = found * np.uint64(power) + doubled[done : done + n]
                    done += size
                rest >>= 1
                if rest:
                    doubled = doubled[:-size] * np.uint64(power) + doubled[size:]
                    power, size = power * power & _MASK, 2 * size
        return found

    def start(self) -> tuple[int, ...]:
        """Nothing was read."""
        return ()

    def allowed(self, state: tuple[int, ...]) -> Bools:
        """As `Constraint.allowed`."""
        found = np.ones(self._vocab_size, np.bool_)
        found[UNKNOWN] = False
        if len(state) == self.length - 1 and len(self._hashes):
            first = self._windows(np.array([*state, RESERVED], np.int64))  # of the others it differs by their distance
            hashes = first[0] + np.arange(self._vocab_size - RESERVED, dtype=np.uint64)
            for k in np.flatnonzero(self._are_known(hashes)) + RESERVED:
                found[k] = not self._stands((*state, int(k)))
        return found

    def _are_known(self, hashes: npt.NDArray[np.uint64]) -> Bools:
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        found: Bools = self._hashes[places] == hashes
        return found

    def advance(self, state: tuple[int, ...], k: int) -> tuple[int, ...]:
        """As `Constraint.advance`."""
        return (*state, k)[-(self.length - 1) :] if self.length > 1 else ()

    def follow(self, state: tuple[int, ...], ids: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """As `Constraint.follow`."""
        ended = ids.index(BOUNDARY) if BOUNDARY in ids else len(ids)
        read = (*state, *ids[:ended])
        n = len(ids)
        if len(read) >= self.length and len(self._hashes):
            for w in np.flatnonzero(self._are_known(self._windows(np.array(read, self._dtype)))).tolist():
                if self._stands(read[w : w + self.length]):
                    n = w + self.length - 1 - len(state)
                    read = read[: len(state) + n]
                    break
        return n, read[-(self.length - 1) :] if self.length > 1 else ()

    def _stands(self, window: tuple[int, ...]) -> bool:
        """Whether a window is in the text, at a place where an id begins."""
        needle, at = np.array(window, self._dtype).tobytes(), -1
        while (at := self._text.find(needle, at + 1)) >= 0:
            if at % self._size == 0:
                return True
        return False


class Both:
    """What two constraints allow."""

    def __init__(self, a: Constraint, b: Constraint) -> None:
        self.a, self.b = a, b

    def start(self) -> tuple[Any, Any]:
        """The two states."""
        return self.a.start(), self.b.start()

    def allowed(self, state: tuple[Any, Any]) -> Bools:
        """As `Constraint.allowed`; it may be nothing, where each allows what the other refuses."""
        found: Bools = self.a.allowed(state[0]) & self.b.allowed(state[1])
        return found

    def advance(self, state: tuple[Any, Any], k: int) -> tuple[Any, Any]:
        """As `Constraint.advance`."""
        return self.a.advance(state[0], k), self.b.advance(state[1], k)

    def follow(self, state: tuple[Any, Any], ids: Sequence[int]) -> tuple[int, tuple[Any, Any]]:
        """As `Constraint.follow`."""
        (m, a), (n, b) = self.a.follow(state[0], ids), self.b.follow(state[1], ids)
        if m > n:
            m, a = self.a.follow(state[0], ids[:n])
        elif n > m:
            n, b = self.b.follow(state[1], ids[:m])
        return n, (a, b)


@dataclass(frozen=True)
class Rules:
    """What a text must be like, as a user says it. Lengths count the whole text, its prompt included."""

    match: str | None = None  # a regular expression of Python's that the whole text matches
    alphabet: str | None = None  # the only characters that it has
    starts_with: str | None = None
    contains: str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    no_copy: int | None = None  # never so many characters in a row that stand in the training text
    rhyme: str | None = None  # a letter for each line, the same for lines that rhyme, as AABB
    rhyme_with: str | None = None  # a word that the last one rhymes with

    def __post_init__(self) -> None:
        for name in ("min_chars", "max_chars", "no_copy"):
            value = getattr(self, name)
            if value is not None and value < (0 if name == "min_chars" else 1):
                raise SettingsError(f"{name} = {value}: it must be at least {0 if name == 'min_chars' else 1}")
        if self.max_chars is not None and (self.min_chars or 0) > self.max_chars:
            raise SettingsError(
                f"min_chars = {self.min_chars} is above max_chars = {self.max_chars}; give a smaller one"
            )
        if self.rhyme is not None:
            rhyme.letters_of(self.rhyme)
            if others := [name for name in _NOT_WITH_RHYME if getattr(self, name) is not None]:
                raise SettingsError(
                    f"rhyme = {self.rhyme!r} goes with alphabet, max_chars and no_copy; leave {others[0]} out"
                )

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))

    @property
    def shapes_text(self) -> bool:
        """Whether a text has to be completed: there is more than that it must not copy."""
        return any(getattr(self, field.name) is not None for field in fields(self) if field.name != "no_copy")

    def constraint(self, vocab: Vocabulary, most: int, training: Callable[[], Ids]) -> Constraint | None:
        """The constraint, for texts of at most `most` characters; `training` gives the training text where needed.

        `SettingsError` where no text can be as the rules say.
        """
        found: Constraint | None = None
        if self and vocab.kind == "pieces":
            raise SettingsError(
                f"{self._said()}: rules go character by character, and this model predicts pieces of words; train "
                "one of characters for it, without --vocab pieces"
            )
        if self.rhyme is not None:
            most = self.max_chars or most
            found = rhyme.Scheme(self.rhyme, vocab, self._alphabet(vocab), most, rhyme.dictionary())
        elif self.shapes_text:
            found = self._pattern(vocab, most)
        if self.no_copy is not None:
            copies = NoCopy(training(), self.no_copy, len(vocab))
            found = copies if found is None else Both(found, copies)
        return found

    def _alphabet(self, vocab: Vocabulary) -> Bools:
        letters = vocab.characters if self.alphabet is None else self.alphabet
        found = np.zeros(len(vocab), np.bool_)
        found[RESERVED:] = [c in letters for c in vocab.characters]
        return found

    def _pattern(self, vocab: Vocabulary, most: int) -> Pattern:
        alphabet = self._alphabet(vocab)
        patterns = [] if self.match is None else [self.match]
        patterns += [] if self.starts_with is None else [re.escape(self.starts_with) + "(?s:.*)"]
        patterns += [] if self.contains is None else [f"(?s:.*){re.escape(self.contains)}(?s:.*)"]
        automaton = None
        if self.rhyme_with is not None:
            automaton = rhyme.rhyming_with(self.rhyme_with, vocab, alphabet, rhyme.dictionary())
            if automaton.is_empty:
                raise SettingsError(
                    f"no word that rhymes with {self.rhyme_with!r} is made of the characters that may be used"
                )
        for pattern in patterns or ["(?s:.*)"][automaton is not None :]:
            one = automaton_of(pattern, vocab, alphabet)
            if one.is_empty:
                raise SettingsError(
                    f"no text in the {int(alphabet.sum())} characters that may be used matches {pattern!r}"
                )
            automaton = one if automaton is None else automaton.intersect(one)
        assert automaton is not None
        least, most = self.min_chars or 0, most if self.max_chars is None else self.max_chars
        if least > most:
            raise SettingsError(f"min_chars = {least}: at most {most} characters are generated; allow more")
        found = Pattern(automaton, least, most)
        if automaton.is_empty or not found.lives(*found.start()):
            raise SettingsError(
                f"no text of {least} to {most} characters is all that was asked for: {self._said()}; ask for less"
            )
        return found

    def _said(self) -> str:
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return ", ".join(f"{name.replace('_', '-')} {getattr(self, name)!r}" for name in names)


class OpenLabels:
    """As many labels as a vocabulary has, whatever they are, and then the end. A state is how many have ended."""

    def __init__(self, vocab: Vocabulary) -> None:
        self._count, self._end = len(vocab.labels), int(vocab.encode(LABEL_END)[0])
        self._within = np.arange(len(vocab)) >= RESERVED
        self._behind = np.arange(len(vocab)) == BOUNDARY

    def start(self) -> int:
        """None has ended."""
        return 0

    def allowed(self, state: int) -> Bools:
        """As `Constraint.allowed`."""
        return self._within if state < self._count else self._behind

    def advance(self, state: int, k: int) -> int:
        """As `Constraint.advance`."""
        return state + (k == self._end)

    def follow(self, state: int, ids: Sequence[int]) -> tuple[int, int]:
        """As `Constraint.follow`."""
        for n, k in enumerate(ids):
            if not self.allowed(state)[k]:
                return n, state
            state = self.advance(state, k)
        return len(ids), state


def begin(constraint: Constraint, ids: Sequence[int]) -> Any:
    """The state behind a prompt, which counts as a part of the text; `SettingsError` where it cannot be one."""
    if isinstance(constraint, NoCopy):  # what the user wrote is no copy
        return tuple(ids[-(constraint.length - 1) :]) if constraint.length > 1 else ()
    if isinstance(constraint, Both):
        return begin(constraint.a, ids), begin(constraint.b, ids)
    n, state = constraint.follow(constraint.start(), ids)
    if n < len(ids):
        raise SettingsError(
            f"no text with this prompt is as the constraints say, from its character {n + 1} on; give another prompt"
        )
    return state


def header_of(
    vocab: Vocabulary, labels: Mapping[str, Sequence[str]], given: Mapping[str, str]
) -> list[int] | Constraint | None:
    """What texts with the `given` labels begin with: ids; where some are left open, a constraint on the model's choice.

    `labels` are those that the model knows, with their values (none where they are too many to list). `SettingsError`
    names what it does not know.
    """
    for name, value in given.items():
        if name not in labels:
            known = f"its labels are {', '.join(labels)}" if labels else "it was trained without any"
            raise SettingsError(f"the model has no label {name!r}; {known}")
        if labels[name] and value not in labels[name]:
            shown = ", ".join(labels[name][:20]) + (", …" if len(labels[name]) > 20 else "")
            raise SettingsError(f"the model knows no {name} {value!r}; it knows {shown}")
    if not labels:
        return None
    if len(given) == len(labels):
        header = "".join(given[name] + LABEL_END for name in labels)
        return vocab.prompt_ids(header)[0]
    if vocab.kind == "pieces" and not given:
        return OpenLabels(vocab)
    if vocab.kind != "characters":
        raise SettingsError(f"a model of {vocab.kind} has to be told all its labels: {', '.join(labels)}")
    pattern = ""
    for name, values in labels.items():
        chosen = [given[name]] if name in given else values
        one = "|".join(re.escape(value) for value in chosen) if chosen else f"[^{LABEL_END}]*"
        pattern += f"(?:{one}){LABEL_END}"
    characters = np.arange(len(vocab)) >= RESERVED
    return Pattern(automaton_of(pattern, vocab, characters), 0, LONGEST_HEADER)
