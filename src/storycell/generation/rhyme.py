"""Rhyme, exactly: last words that sound alike from their last stressed vowel on, by a pronouncing dictionary.

Two words rhyme if they are different words and, in one of the pronunciations of each, the sounds from the last vowel
with a stress (primary or secondary) to the end are the same: moon, June; the CMU dictionary, which is of American
English. A word is a run of letters, digits and apostrophes inside of it; a line's last word may have anything but those
behind it.

`rhyming_with` gives an automaton of all texts whose last word rhymes with a given one, for `Pattern`. `Scheme` is a
constraint of its own: which words may end a line depends on the lines before. Both know at every character how many are
needed at least, so that a text that has begun can always be ended in time.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.extras import require
from storycell.generation.automaton import NO_STATE, Automaton, Bools
from storycell.types import BOUNDARY, RESERVED, UNKNOWN

Dictionary = Mapping[str, frozenset[str]]  # word in small letters -> how it may sound from the stress on
APOSTROPHES = "'\u2019"
MOST_LINES = 32
_NEVER = 1 << 40  # characters
_LAST = "\U0010ffff"


@cache
def dictionary() -> Dictionary:
    """The words of the CMU dictionary that are made of letters, a vowel among them, and apostrophes between them."""
    require("pronouncing", "rhyme")
    import pronouncing

    pronouncing.init_cmu()
    found: dict[str, frozenset[str]] = {}
    for word, phones in pronouncing.pronunciations:
        if re.fullmatch(r"i|(?=.*[aeiouy])[a-z]+(?:'[a-z]+)+|(?=.*[aeiouy])[a-z]{2,}", word):
            found[word] = found.get(word, frozenset()) | {_without_stress(pronouncing.rhyming_part(phones))}
    return found


def _without_stress(sounds: str) -> str:
    return re.sub(r"\d", "", sounds)


def rhymes_of(word: str, known: Dictionary) -> list[str]:
    """The words that rhyme with one; `SettingsError` where the dictionary has not got it, or no rhyme of it."""
    word = word.strip().lower().replace("\u2019", "'")
    if word not in known:
        raise SettingsError(f"rhyme_with = {word!r}: the pronouncing dictionary has no such word; name another")
    found = [other for other, parts in known.items() if other != word and parts & known[word]]
    if not found:
        raise SettingsError(f"rhyme_with = {word!r}: no word of the pronouncing dictionary rhymes with it")
    return found


class _Place(NamedTuple):
    """Where in a line one is: in a word that may end it (the words from `low` to `high` begin so), or elsewhere."""

    kind: int
    low: int = 0
    high: int = 0
    depth: int = 0
    word: int = -1  # the word that has ended here, if the line may end with it


_START, _BETWEEN, _PLAIN, _PLAIN_APOSTROPHE, _INSIDE, _ENDED, _APOSTROPHE = range(7)
START = _Place(_START)  # of a line: no word yet


class Words:
    """Lines that end with one of some words."""

    def __init__(self, words: Iterable[str], alphabet: str) -> None:
        self.words = sorted(words)
        self._lengths = np.array([len(word) for word in self.words], np.int64)
        separators = [c for c in alphabet if not _is_letter(c) and c != "\n"]
        plain = any(c not in APOSTROPHES for c in separators)
        self._separator = 1 if plain else 2 if separators else _NEVER  # the characters that it takes to begin a word
        self._least = self._shortest(0, len(self.words))

    def _shortest(self, low: int, high: int) -> int:
        return int(self._lengths[low:high].min()) if low < high else _NEVER

    def _begin(self, c: str) -> _Place:
        return self._deeper(_Place(_INSIDE, 0, len(self.words)), c) or _Place(_PLAIN)

    def _deeper(self, at: _Place, c: str) -> _Place | None:
        """One character on in a word; None where no word goes on so."""
        if at.low == at.high:
            return None
        prefix = self.words[at.low][: at.depth] + c.lower()
        low = bisect_left(self.words, prefix, at.low, at.high)
        high = bisect_left(self.words, prefix + _LAST, low, at.high)
        if low == high:
            return None
        ended = low if len(self.words[low]) == at.depth + 1 else at.word if c == "'" else -1
        return _Place(_INSIDE, low, high, at.depth + 1, ended)

    def step(self, at: _Place, c: str) -> _Place:
        """The place behind one more character of the line."""
        c = "'" if c in APOSTROPHES else c
        if _is_letter(c):
            if at.kind == _INSIDE:
                return self._deeper(at, c) or _Place(_PLAIN)
            inside = at.kind in (_PLAIN, _PLAIN_APOSTROPHE, _APOSTROPHE)
            return _Place(_PLAIN) if inside else self._begin(c)
        if at.kind in (_START, _BETWEEN, _ENDED):
            return at
        if c == "'":
            if at.kind == _PLAIN:
                return _Place(_PLAIN_APOSTROPHE)
            if at.kind == _INSIDE and self.words[at.low][at.depth - 1] != "'":
                other = _Place(_APOSTROPHE, word=at.word) if at.word >= 0 else _Place(_PLAIN_APOSTROPHE)
                return self._deeper(at, c) or other
        return _Place(_ENDED, word=at.word) if at.word >= 0 else _Place(_BETWEEN)

    def word(self, at: _Place) -> str | None:
        """The word that the line would end with; None where it may not end."""
        return self.words[at.word] if at.word >= 0 else None

    def need(self, at: _Place) -> int:
        """The least number of characters until the line may end."""
        if at.word >= 0:
            return 0
        if at.kind == _INSIDE:
            return min(self._separator + self._least, self._shortest(at.low, at.high) - at.depth)
        return self._least + {_PLAIN: self._separator, _PLAIN_APOSTROPHE: 1}.get(at.kind, 0)

    def language(self, at: _Place) -> object:
        """What is equal for two places if the same may follow both, words apart."""
        ended = at.word >= 0
        if at.kind == _INSIDE:
            rest = tuple(word[at.depth :] for word in self.words[at.low : at.high])
            return ended, rest, self.words[at.low][at.depth - 1] == "'"
        return ended, _BETWEEN if at.kind == _START else at.kind


class _AnyWord:
    """Lines with a word in them, whatever it is."""

    def __init__(self, alphabet: str) -> None:
        self._least = 1 if any(map(_is_letter, alphabet)) else _NEVER

    def step(self, at: _Place, c: str) -> _Place:
        return _Place(_ENDED, word=0) if _is_letter(c) else at

    def word(self, at: _Place) -> str | None:
        return "" if at.word >= 0 else None

    def need(self, at: _Place) -> int:
        return 0 if at.word >= 0 else self._least


@lru_cache(maxsize=1 << 16)
def _is_letter(c: str) -> bool:
    """Whether a character is a part of a word, an apostrophe apart."""
    return c.isalnum() or unicodedata.category(c).startswith("M")


def _spelt(words: Iterable[str], alphabet: str) -> list[str]:
    """Those words that can be written in an alphabet, in small letters or large ones."""
    letters = {c.lower() for c in alphabet} | ({"'"} if any(c in alphabet for c in APOSTROPHES) else set())
    return [word for word in words if letters.issuperset(word)]


def _characters(vocab: Vocabulary, alphabet: Bools) -> str:
    if vocab.kind != "characters":
        raise SettingsError("rhyme is a matter of characters, and this model generates bytes")
    return "".join(c for c, there in zip(vocab.characters, alphabet[RESERVED:], strict=True) if there)


def rhyming_with(word: str, vocab: Vocabulary, alphabet: Bools, known: Dictionary) -> Automaton:
    """The texts in the characters of `alphabet [V]` whose last word rhymes with `word`; it may be empty."""
    characters = _characters(vocab, alphabet)
    lines = Words(_spelt(rhymes_of(word, known), characters), characters)
    sorts: dict[str, int] = {}  # characters that are read alike -> column
    column = np.zeros(len(vocab), np.intp)  # the first one leads nowhere
    for k, c in enumerate(vocab.characters, RESERVED):
        if alphabet[k]:
            alike = c.lower() if _is_letter(c) else "'" if c in APOSTROPHES else " "
            column[k] = sorts.setdefault(alike, len(sorts) + 1)
    numbers, places, rows = {lines.language(START): 0}, [START], list[list[int]]()
    for at in places:
        row = [NO_STATE]
        for c in sorts:
            following = lines.step(at, c)
            key = lines.language(following)
            if key not in numbers:
                numbers[key] = len(numbers)
                places.append(following)
            row.append(numbers[key])
        rows.append(row)
    accepts = np.array([lines.word(at) is not None for at in places])
    return Automaton(np.array(rows, np.int32), accepts, column)


Known = tuple[frozenset[str], tuple[str, ...]]  # of a letter of the scheme: how its lines sound, the words they have
State = tuple[int, tuple[Known | None, ...], _Place, int]  # line, known of each letter, place, characters of the line


class Scheme:
    """Texts of as many lines as a scheme such as `ABAB` has letters; lines with the same letter rhyme.

    Each line has its share of the `most` characters, with the end of the line, whether the last one has it or not.
    Lines without a word do not count, but what is in them does.
    A letter that stands once is a line that need not rhyme.
    """

    def __init__(self, scheme: str, vocab: Vocabulary, alphabet: Bools, most: int, known: Dictionary) -> None:
        self.letters = letters_of(scheme)
        self.share = most // len(self.letters)
        self._known, self._vocab = known, vocab
        self._characters = _characters(vocab, alphabet)
        self._usable = [k for k in range(RESERVED, len(vocab)) if alphabet[k]]
        self._distinct = sorted(set(self.letters))
        self._by_part: dict[str, list[str]] = {}
        for word in _spelt(known, self._characters):
            for part in known[word] if len(word) < self.share else ():
                self._by_part.setdefault(part, []).append(word)
        self._lines: dict[tuple[Known | None, int], Words] = {}
        self._any = _AnyWord(self._characters)
        nothing: tuple[None, ...] = (None,) * len(self._distinct)
        if "\n" not in self._characters or any(
            not self._is_in_time((line, nothing, START, 0)) for line in range(len(self.letters))
        ):
            raise SettingsError(
                f"no text of {len(self.letters)} lines of at most {max(0, self.share - 1):,} characters rhymes as "
                f"{self.letters} in the characters that may be used; allow more of them"
            )

    def start(self) -> State:
        """As `Constraint.start`."""
        return 0, (None,) * len(self._distinct), START, 0

    def allowed(self, state: State) -> Bools:
        """As `Constraint.allowed`."""
        found = np.zeros(len(self._vocab), np.bool_)
        found[self._usable] = [self._follows(state, k) is not None for k in self._usable]
        found[BOUNDARY] = self._may_end(state)
        return found

    def advance(self, state: State, k: int) -> State:
        """As `Constraint.advance`."""
        following = state if k == BOUNDARY else self._follows(state, k)
        assert following is not None
        return following

    def follow(self, state: State, ids: Sequence[int]) -> tuple[int, State]:
        """As `Constraint.follow`."""
        for n, k in enumerate(ids):
            if k == BOUNDARY:
                return n + self._may_end(state), state
            following = None if k == UNKNOWN or k not in self._usable else self._follows(state, k)
            if following is None:
                return n, state
            state = following
        return len(ids), state

    def _may_end(self, state: State) -> bool:
        line, known, at, _ = state
        if line == len(self.letters):
            return True
        return line == len(self.letters) - 1 and self._words(line, known).word(at) is not None

    def _follows(self, state: State, k: int) -> State | None:
        """The state behind a character; None where the text could not be completed any more."""
        line, known, at, t = state
        if line == len(self.letters):
            return None
        c, words = self._vocab.text_of(k), self._words(line, known)
        if c != "\n":
            following = line, known, words.step(at, c), t + 1
        elif at == START:
            following = line, known, at, t + 1
        elif (word := words.word(at)) is not None and t < self.share:
            following = line + 1, self._learn(line, known, word), START, 0
        else:
            return None
        return following if self._is_in_time(following) else None

    def _is_in_time(self, state: State) -> bool:
        """Whether the line can still be ended."""
        line, known, at, t = state
        if line == len(self.letters):
            return True
        return self._words(line, known).need(at) < self.share - t

    def _learn(self, line: int, known: tuple[Known | None, ...], word: str) -> tuple[Known | None, ...]:
        """What is known when a line has ended with a word."""
        if not word:
            return known
        found, k = list(known), self._distinct.index(self.letters[line])
        parts, used = known[k] or (self._known[word], ())
        found[k] = parts & self._known[word], tuple(sorted((*used, word)))
        return tuple(found)

    def _words(self, line: int, known: tuple[Known | None, ...]) -> Words | _AnyWord:
        """What a line may end with."""
        letter = self.letters[line]
        if self.letters.count(letter) == 1:
            return self._any
        return self._choices(known[self._distinct.index(letter)], self.letters[line + 1 :].count(letter))

    def _choices(self, known: Known | None, later: int) -> Words:
        """The last words of a line that `later` others will rhyme with."""
        if (known, later) not in self._lines:
            parts, used = known or (frozenset(self._by_part), ())
            found = {
                word
                for part in parts
                if len(words := set(self._by_part.get(part, ())).difference(used)) > later
                for word in words
            }
            self._lines[known, later] = Words(found, self._characters)
        return self._lines[known, later]


def letters_of(scheme: str) -> str:
    """The letters of a scheme, one for each line; `SettingsError` where it is none."""
    letters = re.sub(r"\s", "", scheme).upper()
    if not re.fullmatch(rf"[A-Z]{{2,{MOST_LINES}}}", letters) or len(set(letters)) == len(letters):
        raise SettingsError(
            f"rhyme = {scheme!r}: it must be a letter for each of 2 to {MOST_LINES} lines, the same for lines that "
            "rhyme, as AABB or ABAB"
        )
    return letters
