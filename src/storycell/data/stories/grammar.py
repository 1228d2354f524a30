"""A probabilistic grammar: five kinds of node, each of which can both generate text and parse it.

`generate` draws one text and the log-probability of the draws made; `read` finds every way the same tree could have
generated a given text. The tree is built by `notation` from the rules in `templates`.

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
    def read(self, text: str, states: States) -> States:
        """Advance every state over each expansion of this node found at its position."""


def add(states: States, key: tuple[int, Bindings], log_p: float) -> None:
    """Add a probability to a state, in logarithms."""
    old = states.get(key)
    if old is None:
        states[key] = log_p
    else:
        high, low = (old, log_p) if old > log_p else (log_p, old)
        states[key] = high + math.log1p(math.exp(low - high))


class Text(Node):
    """Fixed letters."""

    def __init__(self, text: str) -> None:
        self.text = self.prefix = text

    def generate(self, draft: Draft) -> None:
        draft.parts.append(self.text)

    def read(self, text: str, states: States) -> States:
        mine, size = self.text, len(self.text)
        return {(at + size, env): lp for (at, env), lp in states.items() if text.startswith(mine, at)}


class Chain(Node):
    """Nodes one after another."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self.prefix = nodes[0].prefix if nodes else ""

    def generate(self, draft: Draft) -> None:
        for node in self.nodes:
            node.generate(draft)

    def read(self, text: str, states: States) -> States:
        for node in self.nodes:
            states = node.read(text, states)
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

    def read(self, text: str, states: States) -> States:
        out: States = {}
        for option, log_w in zip(self.options, self.logs, strict=True):
            prefix = option.prefix
            here = {k: lp + log_w for k, lp in states.items() if text.startswith(prefix, k[0])} if prefix else states
            if here:
                extra = 0.0 if prefix else log_w
                for key, lp in option.read(text, here).items():
                    add(out, key, lp + extra)
        return out


class WordList:
    """Words with their weights, which need not sum to one."""

    def __init__(self, words: Sequence[Word], weights: Sequence[float]) -> None:
        total = sum(weights)
        self.words = tuple(words)
        self.cumulative = [c / total for c in accumulate(weights)][:-1]
        self.p = {word: w / total for word, w in zip(words, weights, strict=True)}
        self.logs = {word: math.log(p) for word, p in self.p.items()}
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

    def read(self, text: str, states: States) -> States:
        out: States = {}
        var = self.var
        for (at, env), lp in states.items():
            words, avoid = self.list_for(env), [env[i] for i in self.avoid]
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

    def read(self, text: str, states: States) -> States:
        out: States = {}
        for (at, env), lp in states.items():
            form: str = env[self.var].forms[self.form]
            if text.startswith(form, at):
                add(out, (at + len(form), note_event(env, at, "pronoun", self.var) if self.pronoun else env), lp)
        return out


class Speaker(Node):
    """Writes nothing: notes that the quotation starting here is spoken by a variable's word."""

    def __init__(self, var: int) -> None:
        self.var = var

    def generate(self, draft: Draft) -> None:
        pass

    def read(self, text: str, states: States) -> States:
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

    def log_probability(self, text: str) -> float:
        """The exact natural logarithm of the probability that `generate` gives this text."""
        logs = [lp for lp, _ in self.read(text)]
        if not logs:
            return -math.inf
        high = max(logs)
        return high + math.log(sum(math.exp(lp - high) for lp in logs))
