"""Properties of the characters of a text that a reader knows and units are tested against.

A `Feature` is one number per character: what is true once that character was read (so "inside quotes" begins with the
opening quote and ends with the closing one). Straight quotes open and close by turns, so that a missing one would
invert everything after it; therefore the end of a line closes them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_OPENING = {'"': '"', "“": "”", "„": "“", "«": "»"}
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+\b")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_LEAST_NAMES = 20  # a name that occurs less often is not worth a feature


@dataclass(frozen=True)
class Feature:
    """One meaning: `values [T]`, 0 or 1 where `is_binary`, otherwise a count whose order is what matters."""

    name: str
    values: npt.NDArray[np.float32]
    is_binary: bool = True


def features(text: str) -> dict[str, Feature]:
    """All features of a text `[T]`, by name."""
    found = [
        Feature("inside quotes", inside(text, _OPENING)),
        Feature("inside brackets", inside(text, _BRACKETS)),
        Feature("a quote comes next", _next(text, lambda c: c in _quotes())),
        Feature("a space comes next", _next(text, lambda c: c == " ")),
        Feature("first letter of a word", _word_starts(text)),
        Feature("position in the word", _since(text, lambda c: not c.isalpha()), False),
        Feature("position in the line", _since(text, lambda c: c in "\n\0"), False),
        Feature("position in the sentence", _since(text, lambda c: c in ".!?\n\0"), False),
        Feature("position in the story", _since(text, lambda c: c == "\0"), False),
        Feature("a vowel", _is(text, lambda c: c in "aeiouAEIOU")),
        Feature("a capital letter", _is(text, str.isupper)),
        Feature("the end of a sentence", _is(text, lambda c: c in ".!?")),
        Feature("last pronoun is she or her", last_of(text, {"she", "her", "hers"}, {"he", "him", "his", "they"})),
    ]
    found += [
        Feature(f"last name is {name}", last_of(text, {name}, names - {name})) for name, names in _find_names(text)
    ]
    return {feature.name: feature for feature in found}


def inside(text: str, pairs: dict[str, str]) -> npt.NDArray[np.float32]:
    """1 from an opening mark to the character before its closing one; a line or story that ends closes all."""
    out = np.zeros(len(text), dtype=np.float32)
    waiting: list[str] = []
    for t, c in enumerate(text):
        if c in "\n\0":
            waiting.clear()
        elif waiting and c == waiting[-1]:
            waiting.pop()
        elif c in pairs:
            waiting.append(pairs[c])
        out[t] = bool(waiting)
    return out


def inside_quotes(text: str) -> npt.NDArray[np.float32]:
    """1 between an opening quote (itself included) and its closing one (itself not), `[T]`."""
    return inside(text, _OPENING)


def is_quote(text: str) -> npt.NDArray[np.bool_]:
    """Whether each character is a double quote of any kind, `[T]`."""
    return np.array([c in _quotes() for c in text], dtype=np.bool_)


def last_of(text: str, these: set[str], others: Iterable[str]) -> npt.NDArray[np.float32]:
    """1 where, of all the words in `these` and `others`, the last one read is one of `these`; a story starts at 0."""
    out = np.zeros(len(text), dtype=np.float32)
    others = set(others)
    marks = [(m.end() - 1, m[0]) for m in re.finditer(f"{_WORD.pattern}|\0", text)]
    now, since = 0.0, 0
    for at, word in marks:
        plain = word if word in these or word in others else word.lower()
        said = 1.0 if plain in these else 0.0 if plain in others or plain == "\0" else now
        out[since:at] = now
        now, since = said, at
    out[since:] = now
    return out


def words(text: str) -> list[tuple[int, int, str]]:
    """(start, end, word) of every word."""
    return [(m.start(), m.end(), m[0]) for m in _WORD.finditer(text)]


def names_of(text: str) -> list[tuple[str, int]]:
    """Words with a capital where no sentence begins, the commonest first, with how often they occur."""
    return [(name, n) for name, n in Counter(_NAME.findall(text)).most_common(40) if name != "I"]


def _find_names(text: str) -> list[tuple[str, set[str]]]:
    common = [name for name, n in names_of(text) if n >= _LEAST_NAMES]
    return [(name, set(common)) for name in common[:3]] if len(common) > 1 else []


def _quotes() -> set[str]:
    return {*_OPENING, *_OPENING.values()}


def _is(text: str, test: Callable[[str], bool]) -> npt.NDArray[np.float32]:
    return np.array([test(c) for c in text], dtype=np.float32)


def _next(text: str, test: Callable[[str], bool]) -> npt.NDArray[np.float32]:
    return np.array([test(c) for c in text[1:]] + [False], dtype=np.float32)


def _word_starts(text: str) -> npt.NDArray[np.float32]:
    letters = np.array([c.isalpha() for c in text], dtype=np.float32)
    out = letters.copy()
    out[1:] *= 1 - letters[:-1]
    return out


def _since(text: str, ends: Callable[[str], bool]) -> npt.NDArray[np.float32]:
    """How many characters since one that `ends` the unit (0 at that one)."""
    out = np.zeros(len(text), dtype=np.float32)
    count = 0
    for t, c in enumerate(text):
        count = 0 if ends(c) else count + 1
        out[t] = count
    return out
