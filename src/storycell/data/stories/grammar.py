"""A probabilistic grammar: five kinds of node, each of which can both generate text and parse it.

`generate` draws one text and the log-probability of the draws made; `read` finds every way the same tree could have
generated a given text. The tree is built by `notation` from the rules in `templates`.

`predict` gives the exact probability of every next character at every place of a text: `read` on the way tells a
`Tally` what each way of going on would write next, whether the text has it or not.

`read` does not search. It carries a table {(position, bindings): log-probability} through the tree, node by node, and
adds states that coincide, so the resulting probability is summed over all derivations and is exact whether or not the
grammar is ambiguous.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

_NOTHING = 1e-12  # a probability that subtraction has left of none
FORMS = ("base", "a", "A", "Cap", "he", "him", "his", "himself", "He", "His", "past", "many")
PRONOUNS = frozenset({"he", "him", "his", "himself", "He", "His"})


class Word:
    """One entry of the lexicon with all its forms; words are compared by identity, so bindings hash fast."""

    __slots__ = ("forms",)

    def __init__(self, forms: tuple[str, ...]) -> None:
        self.forms = forms

    def __repr__(self) -> str:
        return f"Word({self.forms[0]!r})"


Trace = tuple[Any, ...] | None  # linked list of (position, event, speaker or referent, rest)
Bindings = tuple[Any, ...]  # slot 0 holds a Trace, slot i the Word bound to variable i
States = dict[tuple[int, Bindings], float]


@dataclass(slots=True)
class Draft:
    """A text being generated: where chance comes from, what is bound, and what has been drawn so far."""

    rand: Callable[[], float]
    bound: list[Word | None]
    parts: list[str] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)


class Node(ABC):
    """A piece of the grammar."""

    prefix = ""  # every text the node can generate starts with this

    @abstractmethod
    def generate(self, draft: Draft) -> None:
        """Append one random expansion to the draft."""

    @abstractmethod
    def read(self, text: str, states: States, tally: Tally | None = None) -> States:
        """Advance every state over each expansion of this node found at its position; tell the tally of all."""


def add(states: States, key: tuple[int, Bindings], log_p: float) -> None:
    """Add a probability to a state, in logarithms."""
    old = states.get(key)
    if old is None:
        states[key] = log_p
    else:
        high, low = (old, log_p) if old > log_p else (log_p, old)
        states[key] = high + math.log1p(math.exp(low - high))


END = "\0"  # what a tally calls the end of the text


class Tally:
    """How likely each place of a text has been reached and each character written there, in logarithms.

    Each derivation of a beginning has one word or fixed text that spans a place; so it is counted there once.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.logs: list[dict[str, float]] = [{} for _ in range(len(text) + 1)]

    def write(self, mine: str, at: int, log_p: float) -> None:
        """Something that writes `mine` at this place: count its characters up to the first that is not the text's."""
        text = self.text
        for k, c in enumerate(mine, at):
            self.add(k, c, log_p)
            if k == len(text) or text[k] != c:
                break

    def add(self, at: int, c: str, log_p: float) -> None:
        """Count one character at a place."""
        here = self.logs[at]
        old = here.get(c)
        if old is None:
            here[c] = log_p
        else:
            high, low = (old, log_p) if old > log_p else (log_p, old)
            here[c] = high + math.log1p(math.exp(low - high))


class Text(Node):
    """Fixed letters."""

    def __init__(self, text: str) -> None:
        self.text = self.prefix = text

    def generate(self, draft: Draft) -> None:
        draft.parts.append(self.text)

    def read(self, text: str, states: States, tally: Tally | None = None) -> States:
        mine, size = self.text, len(self.text)
        if tally is not None:
            for (at, _), lp in states.items():
                tally.write(mine, at, lp)
        return {(at + size, env): lp for (at, env), lp in states.items() if text.startswith(mine, at)}


class Chain(Node):
    """Nodes one after another."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self.prefix = nodes[0].prefix if nodes else ""

    def generate(self, draft: Draft) -> None:
        for node in self.nodes:
            node.generate(draft)

    def read(self, text: str, states: States, tally: Tally | None = None) -> States:
        for node in self.nodes:
            states = node.read(text, states, tally)
            if not states:
                break
        return states


class Choice(Node):
    """One of several nodes, with fixed probabilities."""

    def __init__(self, options: Sequence[Node], weights: Sequence[float]) -> None:
        total = sum(weights)
        self.options = tuple(options)
        self.logs = [math.log(w / total) for w in weights]
        self.cumulative = [c / total for c in accumulate(weights)][:-1]

    def generate(self, draft: Draft) -> None:
        i = bisect(self.cumulative, draft.rand())
        draft.logs.append(self.logs[i])
        self.options[i].generate(draft)

    def read(self, text: str, states: States, tally: Tally | None = None) -> States:
        out: States = {}
        for option, log_w in zip(self.options, self.logs, strict=True):
            prefix = option.prefix
            here = {k: lp + log_w for k, lp in states.items() if not prefix or text.startswith(prefix, k[0])}
            if prefix and tally is not None:
                for key, lp in states.items():
                    if key not in here:
                        tally.write(prefix, key[0], lp + log_w)
            if here:
                for key, lp in option.read(text, here, tally).items():
                    add(out, key, lp)
        return out


class WordList:
    """Words with their weights, which need not sum to one."""

    def __init__(self, words: Sequence[Word], weights: Sequence[float]) -> None:
        total = sum(weights)
        self.words = tuple(words)
        self.cumulative = [c / total for c in accumulate(weights)][:-1]
        self.p = {word: w / total for word, w in zip(words, weights, strict=True)}
        self.logs = {word: math.log(p) for word, p in self.p.items()}
        self.followers: dict[int, dict[str, dict[str, float]]] = {}
        self.indices: dict[int, tuple[int, dict[str, list[tuple[str, Word]]]]] = {}

    def draw(self, rand: Callable[[], float], avoid: Sequence[Word | None]) -> Word:
        """One word, redrawn while it is one to avoid."""
        while (word := self.words[bisect(self.cumulative, rand())]) in avoid:
            pass
        return word

    def log_p(self, word: Word, avoid: Sequence[Word | None]) -> float:
        """What `draw` gives this word: its weight, renormalised over the words not avoided."""
        if not avoid:
            return self.logs[word]
        return self.logs[word] - math.log1p(-sum(self.p.get(w, 0.0) for w in dict.fromkeys(avoid) if w is not None))

    def next_characters(self, form: int) -> dict[str, dict[str, float]]:
        """What follows each beginning of a word in this form: beginning -> character -> probability of both."""
        if form not in self.followers:
            table: dict[str, dict[str, float]] = {}
            for word, p in self.p.items():
                letters = word.forms[form]
                for k, c in enumerate(letters):
                    row = table.setdefault(letters[:k], {})
                    row[c] = row.get(c, 0.0) + p
            self.followers[form] = table
        return self.followers[form]

    def tell(self, tally: Tally, at: int, form: int, avoid: Sequence[Word | None], log_p: float) -> None:
        """Tell a tally of all words that may be drawn at this place."""
        avoided = [w for w in dict.fromkeys(avoid) if w is not None and w in self.p]
        scale = log_p - (math.log1p(-sum(self.p[w] for w in avoided)) if avoided else 0.0)
        table, text = self.next_characters(form), tally.text
        for k in range(at, len(text) + 1):
            begun = text[at:k]
            row = table.get(begun)
            if row is None:
                break
            for c, p in row.items():
                for w in avoided:
                    if w.forms[form].startswith(begun + c):
                        p -= self.p[w]
                if p > _NOTHING:
                    tally.add(k, c, scale + math.log(p))

    def starting(self, text: str, at: int, form: int) -> list[tuple[str, Word]]:
        """The words whose given form may stand at this place in the text, looked up by their first letters."""
        if form not in self.indices:
            head = min(4, *(len(w.forms[form]) for w in self.words), 4)
            index: dict[str, list[tuple[str, Word]]] = {}
            for word in self.words:
                index.setdefault(word.forms[form][:head], []).append((word.forms[form], word))
            self.indices[form] = (head, index)
        head, index = self.indices[form]
        return [c for c in index.get(text[at : at + head], ()) if text.startswith(c[0], at)]


class Draw(Node):
    """A word drawn from a list, written in one form, and bound to a variable (0: bound to none).

    The list is `lists[""]`, or, if `by` names a variable, the one for that variable's `kind`.
    Words now bound to the variables in `avoid` cannot be drawn.
    """

    def __init__(self, var: int, lists: Mapping[str, WordList], form: int, by: int, avoid: Sequence[int]) -> None:
        self.var, self.lists, self.form, self.by, self.avoid = var, lists, form, by, tuple(avoid)

    def list_for(self, env: Sequence[Any]) -> WordList:
        """The word list in force given what is bound."""
        return self.lists[env[self.by].forms[-1] if self.by else ""]

    def generate(self, draft: Draft) -> None:
        env = draft.bound
        words, avoid = self.list_for(env), [env[i] for i in self.avoid]
        word = words.draw(draft.rand, avoid)
        draft.logs.append(words.log_p(word, avoid))
        draft.parts.append(word.forms[self.form])
        if self.var:
            env[self.var] = word

    def read(self, text: str, states: States, tally: Tally | None = None) -> States:
        out: States = {}
        var = self.var
        for (at, env), lp in states.items():
            words, avoid = self.list_for(env), [env[i] for i in self.avoid]
            if tally is not None:
                words.tell(tally, at, self.form, avoid, lp)
            for form, word in words.starting(text, at, self.form):
                if word not in avoid:
                    after = (*env[:var], word, *env[var + 1 :]) if var else env
                    add(out, (at + len(form), after), lp + words.log_p(word, avoid))
        return out


class Recall(Node):
    """A bound word written again, in any of its forms; a pronoun leaves a trace of whom it means."""

    def __init__(self, var: int, form: int) -> None:
        self.var, self.form, self.pronoun = var, form, FORMS[form] in PRONOUNS

    def generate(self, draft: Draft) -> None:
        word = draft.bound[self.var]
        assert word is not None, "a variable is recalled before it is drawn"
        draft.parts.append(word.forms[self.form])

    def read(self, text: str, states: States, tally: Tally | None = None) -> States:
        out: States = {}
        for (at, env), lp in states.items():
            form: str = env[self.var].forms[self.form]
            if tally is not None:
                tally.write(form, at, lp)
            if text.startswith(form, at):
                add(out, (at + len(form), note_event(env, at, "pronoun", self.var) if self.pronoun else env), lp)
        return out


class Speaker(Node):
    """Writes nothing: notes that the quotation starting here is spoken by a variable's word."""

    def __init__(self, var: int) -> None:
        self.var = var

    def generate(self, draft: Draft) -> None:
        pass

    def read(self, text: str, states: States, tally: Tally | None = None) -> States:
        return {(at, note_event(env, at, "speaker", self.var)): lp for (at, env), lp in states.items()}


def note_event(env: Bindings, at: int, event: str, var: int) -> Bindings:
    """The bindings with an event noted in slot 0, unless nobody is tracing (None there)."""
    return env if env[0] is None else ((at, event, env[var].forms[0], env[0]), *env[1:])


@dataclass(frozen=True, slots=True)
class Grammar:
    """A start node and the number of variables its rules use."""

    start: Node
    variables: int

    def generate(self, rand: Callable[[], float]) -> tuple[str, float]:
        """One random text and the log-probability of the draws that made it."""
        draft = Draft(rand, [None] * (self.variables + 1))
        self.start.generate(draft)
        return "".join(draft.parts), sum(draft.logs)

    def read(self, text: str, trace: bool = False) -> list[tuple[float, Trace]]:
        """Every surviving way to have written the whole text: its log-probability and, if asked, its trace."""
        env: Bindings = (() if trace else None, *[None] * self.variables)
        ends = self.start.read(text, {(0, env): 0.0})
        return [(lp, end[0]) for (at, end), lp in ends.items() if at == len(text)]

    def predict(self, text: str) -> list[dict[str, float]]:
        """The probability of every next character after each beginning of a text, the empty one and all of it included.

        `END` is that the text ends there. Empty from the first place on that the grammar cannot reach.
        """
        tally = Tally(text)
        env: Bindings = (None,) * (self.variables + 1)
        for (at, _), lp in self.start.read(text, {(0, env): 0.0}, tally).items():
            tally.add(at, END, lp)
        found = []
        for row in tally.logs:
            high = max(row.values(), default=0.0)
            weights = {c: math.exp(lp - high) for c, lp in row.items()}
            total = sum(weights.values())
            found.append({c: w / total for c, w in weights.items()})
        return found

    def log_probability(self, text: str) -> float:
        """The exact natural logarithm of the probability that `generate` gives this text."""
        logs = [lp for lp, _ in self.read(text)]
        if not logs:
            return -math.inf
        high = max(logs)
        return high + math.log(sum(math.exp(lp - high) for lp in logs))
