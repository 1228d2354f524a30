"""Names of the people in chats and mail -> made-up ones; telephone numbers and e-mail addresses masked.

Everybody that the files name as a writer, or mark as mentioned, gets the next of `MADE_UP`, in the order in which they
are met, unless somebody has that name. Replaced are, as whole words, in any case (which is kept), with and without
accents: the whole name, its words one by one, and `@` with either. Who is only spoken about keeps the name.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import islice

MADE_UP = (
    *("Alex", "Bo", "Casey", "Dana", "Eli", "Finn", "Gale", "Harper", "Indy", "Jules", "Kit", "Lou", "Max", "Nico"),
    *("Ollie", "Pat", "Quinn", "Robin", "Sam", "Toni", "Uma", "Val", "Wren", "Xen", "Yuri", "Zoe"),
)
NOBODY = "Someone"  # a writer whom an export does not name
PHONE, EMAIL, HANDLE = "[phone]", "[e-mail]", "@someone"

_TITLES = {"dr", "mr", "mrs", "ms", "miss", "prof", "herr", "frau", "mme", "sr", "sra"}
_LETTER = r"[^\W\d_]"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # no blanks around words
_BETWEEN = r"[\s.,_'\u2019-]{0,3}"  # the words of a name
_MARKS = "[\u2066-\u2069\u200e\u200f~]*"  # that messengers put around a name that is mentioned
_EMAIL = r"[\w.+%'-]+@[\w-]+(?:\.[\w-]+)+"
_NUMBER = r"(?<!\w)(?:\+|00)?\(?\d(?:[ \u00a0\u202f().\-/]{0,2}\d){6,14}(?!\w)"
_WORD = rf"(?:{_LETTER}|[\u0300-\u036f])+(?:['\u2019-](?:{_LETTER}|[\u0300-\u036f])+)*"
_PIECE = rf"(?:{_LETTER}|[\u0300-\u036f])+|\d+"
_MOST_PATTERNS = 1000  # kept compiled
_DATE = r"\d{4}([-./])\d{1,2}\1\d{1,2}(?!\d)|\d{1,2}([-./])\d{1,2}\2\d{4}(?!\d)"


class Anonymiser:
    """Whom the files of a corpus name, and what takes the place of their names."""

    def __init__(self) -> None:
        self._person: dict[str, int] = {}  # of each name, in one case
        self._names: list[list[str]] = []  # of each person
        self._made_up: list[str] = []
        self._by_piece: dict[str, set[int]] = {}  # word or digits of a name -> people
        self._unspaced: set[int] = set()  # people whose names may stand in the middle of letters
        self._patterns: dict[tuple[int, ...], _Pattern] = {}
        self.counts: Counter[str] = Counter()  # what was replaced since it was last cleared

    @property
    def people(self) -> int:
        """How many were met."""
        return len(self._names)

    def meet(self, people: Iterable[tuple[str, ...]]) -> None:
        """Whom a file names, each by one or more names; who has one of them already is the same."""
        for names in people:
            found = [" ".join(name.split()) for name in names]
            found = [name for name in found if re.search(r"\w", name) and name != NOBODY]
            if not found:
                continue
            known = [self._person[key] for key in map(_key, found) if key in self._person]
            person = known[0] if known else len(self._names)
            if not known:
                self._names.append([])
            for name in found:
                if _key(name) not in self._person:
                    self._person[_key(name)] = person
                    self._names[person].append(name)
                    self._note_pieces(name, person)
        self._patterns.clear()

    def _note_pieces(self, name: str, person: int) -> None:
        if re.search(f"[{_UNSPACED}]", name):
            self._unspaced.add(person)
        for spelling in _spellings(name):
            pieces = re.findall(_PIECE, _key(spelling))
            for piece in [*pieces, "".join(pieces)]:
                self._by_piece.setdefault(piece, set()).add(person)

    def name_of(self, writer: str) -> str:
        """What a writer is called."""
        writer = " ".join(writer.split())
        return self._called(self._person[_key(writer)]) if _key(writer) in self._person else writer

    def replace(self, text: str) -> str:
        """What somebody said, without the names of people, numbers and addresses."""
        pattern = self._pattern_for(text)
        return pattern.regex.sub(lambda match: self._replacement(match, pattern), text)

    def names_somebody(self, text: str) -> bool:
        """Whether somebody's name is in a text."""
        pattern = self._pattern_for(text)
        return any(match.lastgroup in pattern.person for match in pattern.regex.finditer(text))

    def _called(self, person: int) -> str:
        if len(self._made_up) <= person:
            taken = {word for names in self._names for name in names for word in map(_key, re.findall(r"\w+", name))}
            every = (f"{name}{n or ''}" for n in range(len(self._names) + 2) for name in MADE_UP)
            free = (name for name in every if _key(name) not in taken and name not in self._made_up)
            self._made_up += islice(free, len(self._names) - len(self._made_up))
        return self._made_up[person]

    def _pattern_for(self, text: str) -> "_Pattern":
        """What finds all in a text that is to be replaced; of people it knows those of whom there is a piece in it."""
        pieces = set(re.findall(_PIECE, _key(text)))
        people = set(self._unspaced).union(
            *(self._by_piece[piece] for piece in sorted(pieces) if piece in self._by_piece)
        )
        chosen = tuple(sorted(people))
        if chosen not in self._patterns:
            if len(self._patterns) > _MOST_PATTERNS:
                self._patterns.clear()
            self._patterns[chosen] = _Pattern({person: self._names[person] for person in chosen})
        return self._patterns[chosen]

    def _replacement(self, match: re.Match[str], pattern: "_Pattern") -> str:
        found, group = match[0], match.lastgroup or ""
        if group == "number":
            if re.match(_DATE, found):
                return found
            self.counts["numbers"] += 1
            return PHONE
        if group == "email":
            self.counts["addresses"] += 1
            return EMAIL
        self.counts["names"] += 1
        if group == "handle":
            return self._handle(match["handle"])
        before = found[: match.start(group) - match.start()]
        return before + _in_case_of(match[group], self._called(pattern.person[group]))

    def _handle(self, handle: str) -> str:
        """What takes the place of `@handle`, which may have a name in it, as `@ann_m92`."""
        pattern = self._pattern_for(handle)
        for match in pattern.regex.finditer(re.sub(r"[\d_]+", " ", handle)):
            if match.lastgroup in pattern.person:
                return "@" + self._called(pattern.person[match.lastgroup]).lower()
        return HANDLE


class _Pattern:
    """Finds e-mail addresses, mentions by `@`, whole names, the longest first, their words, and numbers."""

    def __init__(self, people: dict[int, list[str]]) -> None:
        whole = [(name, person) for person, names in people.items() for name in names]
        whole.sort(key=lambda each: -len(each[0]))
        forms = [(form, person) for name, person in whole for form in _forms(name)]
        forms += [
            (_as_pattern([word]), person)
            for person, names in people.items()
            for word in dict.fromkeys(word for name in names for word in _words(name))
        ]
        self.person = {f"{kind}{k}": person for k, (_, person) in enumerate(forms) for kind in "mn"}  # of each group
        mentioned, named = (
            "|".join(f"(?P<{kind}{k}>{pattern})" for k, (pattern, _) in enumerate(forms)) for kind in "mn"
        )
        alternatives = [f"(?P<email>{_EMAIL})"]
        alternatives += [rf"@{_MARKS}(?:{mentioned})(?!\w)"] if forms else []
        alternatives += [rf"(?<!\w)@(?P<handle>{_LETTER}\w{{2,}})"]
        alternatives += [named] if forms else []
        self.regex = re.compile("|".join([*alternatives, f"(?P<number>{_NUMBER})"]), re.IGNORECASE)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _pieces(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name) or [name]


def _words(name: str) -> list[str]:
    """The words by which somebody may be called: of several, those that are written as names, without titles."""
    words = re.findall(_WORD, name)
    words += [part for word in words if "-" in word for part in word.split("-")]
    words = [word for word in words if len(word) > 1 and word.casefold() not in _TITLES]
    return [word for word in words if not word.islower()] or words


def _forms(name: str) -> list[str]:
    """Patterns of a whole name: as it is written, and with its last word first."""
    pieces = _pieces(name)
    forms = [_as_pattern(pieces) + (r"\.?" if name.endswith(".") else "")]
    return [*forms, _as_pattern([pieces[-1], *pieces[:-1]])] if len(pieces) > 1 else forms


def _as_pattern(pieces: list[str]) -> str:
    """What matches words one after the other, however they are spelt and joined, and not inside of a longer one."""
    body = _BETWEEN.join(f"(?:{'|'.join(dict.fromkeys(map(re.escape, _spellings(piece))))})" for piece in pieces)
    begins = "" if re.match(f"[{_UNSPACED}]", pieces[0]) else f"(?<!{_LETTER})"
    ends = "" if re.search(f"[{_UNSPACED}]$", pieces[-1]) else f"(?!{_LETTER})"
    return f"{begins}{body}{ends}"


def _spellings(word: str) -> list[str]:
    """A word as it may be typed: its accents on the letters, behind them, or left out; ß as SS."""
    apart = unicodedata.normalize("NFD", word)
    bare = "".join(c for c in apart if not unicodedata.combining(c))
    return [unicodedata.normalize("NFC", word), apart, bare, word.casefold()]


def _in_case_of(name: str, made_up: str) -> str:
    if name.isupper() and len(name) > 1:
        return made_up.upper()
    return made_up.lower() if name.islower() else made_up
