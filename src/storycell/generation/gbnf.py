"""llama.cpp's grammars (GBNF) as regular expressions, where they are regular.

A grammar whose rules do not lead back to themselves is a regular expression with names: each name is replaced by what
it stands for, from `root` on. One whose rules do is refused; what repeats is written with `*`, `+` or `{m,n}`.

Syntax: https://github.com/ggml-org/llama.cpp/tree/master/grammars. Line breaks are read as blanks, since a rule begins
where a name stands before `::=`.
"""

import re
from collections.abc import Iterator

from storycell.errors import SettingsError

MOST_CHARS = 20_000  # of the expression; names that stand for names grow it exponentially

_TOKEN = re.compile(
    r"""(?:\s|\#[^\n]*)*(?:
        (?P<rule>[A-Za-z0-9_-]+)(?:\s|\#[^\n]*)*::= | (?P<name>[A-Za-z0-9_-]+)
      | "(?P<text>(?:[^"\\]|\\.)*)" | \[(?P<set>(?:[^\]\\]|\\.)*)\]
      | (?P<repeat>[*+?]|\{\s*\d+\s*(?:,\s*\d*\s*)?\}) | (?P<sign>[().|]) | (?P<end>\Z) )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_CHARACTER = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|(.)", re.DOTALL)
Token = tuple[str, str]  # kind, text


def pattern_of(grammar: str) -> str:
    """The regular expression of Python's that matches the texts of a grammar.

    `SettingsError` where it is no grammar, or none of a regular language, or too large.
    """
    rules: dict[str, list[Token]] = {}
    tokens, at = list[Token](), 0
    while True:
        found = _TOKEN.match(grammar, at)
        if found is None:
            raise SettingsError(f"the grammar cannot be read from its character {at + 1} on: {grammar[at : at + 30]!r}")
        kind, at = str(found.lastgroup), found.end()
        if kind == "end":
            break
        if kind == "rule":
            if found["rule"] in rules:
                raise SettingsError(f"the grammar has two rules {found['rule']!r}; join them with |")
            tokens = rules[found["rule"]] = []
        elif rules:
            tokens.append((kind, found[kind]))
        else:
            raise SettingsError("the grammar must begin with a rule, as in: root ::= [a-z]+")
    try:
        return _Grammar(rules).rule("root")
    except RecursionError:
        raise SettingsError("the grammar is nested too deep") from None


class _Grammar:
    """Rules by name, each replaced once."""

    def __init__(self, rules: dict[str, list[Token]]) -> None:
        self._rules = rules
        self._known: dict[str, str] = {}
        self._open: list[str] = []

    def rule(self, name: str) -> str:
        """What a name stands for."""
        if name in self._known:
            return self._known[name]
        if name not in self._rules:
            raise SettingsError(f"the grammar has no rule {name!r}")
        if name in self._open:
            way = " -> ".join([*self._open[self._open.index(name) :], name])
            raise SettingsError(
                f"the grammar's rules lead back to themselves ({way}), so it may not be regular; repeat with *, + or "
                "{m,n} instead"
            )
        self._open.append(name)
        tokens = iter(self._rules[name])
        found = self._alternatives(tokens, name, depth=0)
        self._open.pop()
        self._known[name] = found
        return found

    def _alternatives(self, tokens: Iterator[Token], name: str, depth: int) -> str:
        """What stands up to the end of the rule, or of the group that is open."""
        items, size = [""], 0  # `|` among them
        for kind, value in tokens:
            if kind == "repeat":
                if items[-1] in ("", "|"):
                    raise SettingsError(f"the grammar's rule {name!r} has a {value} behind nothing")
                often = "".join(value.split())
                items[-1] = f"(?:{items[-1]}{often})"  # in brackets: in Python `*+` is possessive
            elif value == "|" and kind == "sign":
                items += ["|", ""]
            elif value == ")" and kind == "sign":
                if not depth:
                    raise SettingsError(f"the grammar's rule {name!r} closes a group that it did not open")
                return f"(?:{''.join(items)})"
            elif value == "(" and kind == "sign":
                items.append(self._alternatives(tokens, name, depth + 1))
            else:
                items.append(self._part(kind, value, name))
            size += len(items[-1])
            if size > MOST_CHARS:
                raise SettingsError(f"the grammar is longer than {MOST_CHARS:,} characters with its names replaced")
        if depth:
            raise SettingsError(f"the grammar's rule {name!r} does not close a group")
        return f"(?:{''.join(items)})"

    def _part(self, kind: str, value: str, name: str) -> str:
        if kind == "name":
            return self.rule(value)
        if kind == "text":
            return f"(?:{''.join(re.escape(c) for c, _ in _characters(value))})"
        if kind == "set":
            return _set_of(value, name)
        return "(?s:.)"


def _characters(text: str) -> list[tuple[str, bool]]:
    """The characters of a text in quotes or brackets, and whether each was escaped."""
    found = []
    for x, u, wide, other, plain in _CHARACTER.findall(text):
        code = x or u or wide
        if code and int(code, 16) > 0x10FFFF:
            raise SettingsError(f"the grammar names the character {code}, which there is not")
        found.append((chr(int(code, 16)) if code else plain or _ESCAPES.get(other, other), not plain))
    return found


def _set_of(text: str, name: str) -> str:
    negated, text = text.startswith("^"), text.removeprefix("^")
    characters = _characters(text)
    if not characters:
        raise SettingsError(f"the grammar's rule {name!r} has an empty set of characters")
    parts, k = [], 0
    while k < len(characters):
        first = last = characters[k][0]
        if characters[k + 1 : k + 2] == [("-", False)] and k + 2 < len(characters):
            last = characters[k + 2][0]
            k += 2
            if last < first:
                raise SettingsError(f"the grammar's rule {name!r} has the range {first}-{last}, which is turned round")
        parts.append(f"\\U{ord(first):08x}-\\U{ord(last):08x}")
        k += 1
    return f"[{'^' * negated}{''.join(parts)}]"
