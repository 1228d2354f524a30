"""The notation that the stories' rules are written in: a parser that builds a `Grammar` from rules and word lists.

    rule =                        an unindented line opens a rule
        one alternative           each indented line is one alternative, equally likely ...
        3* another                ... unless it carries a weight
            and more          a line indented further continues the one above, after a space
    <rule>   <p>                  the expansion of another rule; a line break
    [big|small|]                  one of these, equally likely
    {toy=toys.a}                  draw from the list `toys`, bind the word to `toy`, write its form `a` ("an egg")
    {=toys}  {x=toys!toy!y}       draw and bind to nothing; draw a word other than those bound to `toy` and `y`
    {spot=spots@place}            draw from the list `spots_K`, K being the kind of the word bound to `place`
    {toy}  {hero.he}              the bound word again, in its base form or another
    "hero: Hello!"                a quotation, with its speaker (the label is not written)

Brackets and rules nest freely, but rules may not be recursive, so every story ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from storycell.data.stories.grammar import FORMS, Chain, Choice, Draw, Grammar, Node, Recall, Speaker, Text, WordList

TOKEN = re.compile(r'[\[\]|]|<\w+>|\{[^}]*\}|"\w+: |[^\[\]|<{"]+|"')
SLOT = re.compile(r"\{(?P<var>\w*)(?P<draw>=(?P<list>\w+)(@(?P<by>\w+))?)?(\.(?P<form>\w+))?(?P<avoid>(!\w+)*)\}")


class Builder:
    """Turns rules into nodes, each rule once."""

    def __init__(self, rules: str, lists: Mapping[str, WordList]) -> None:
        self.rules = dict(split_rules(rules))
        self.lists = lists
        self.variables: dict[str, int] = {"": 0}
        self.built: dict[str, Node | None] = {"p": Text("\n")}

    def rule(self, name: str) -> Node:
        """The node of a rule, built on first use."""
        if name not in self.built:
            self.built[name] = None
            weights, texts = zip(*self.rules[name], strict=True)
            options = [self.whole(text) for text in texts]
            self.built[name] = options[0] if len(options) == 1 else Choice(options, weights)
        node = self.built[name]
        if node is None:
            raise ValueError(f"rule {name!r} is recursive")
        return node

    def whole(self, text: str) -> Node:
        """The node of one alternative, all of it."""
        tokens = Tokens(text)
        node = self.chain(tokens)
        if tokens.next:
            raise ValueError(f"unbalanced brackets in {text!r}")
        return node

    def chain(self, tokens: Tokens) -> Node:
        """Nodes up to the end of the text or of this bracketed alternative."""
        nodes: list[Node] = []
        while tokens.next not in ("", "|", "]"):
            token = tokens.take()
            nodes.extend(self.bracket(tokens) if token == "[" else self.token(token))
        return nodes[0] if len(nodes) == 1 else Chain(nodes)

    def bracket(self, tokens: Tokens) -> list[Node]:
        """The alternatives between [ and ]."""
        options = [self.chain(tokens)]
        while tokens.next == "|":
            tokens.take()
            options.append(self.chain(tokens))
        if tokens.next != "]":
            raise ValueError("an alternative in brackets does not end")
        tokens.take()
        return [Choice(options, [1.0] * len(options))]

    def token(self, token: str) -> list[Node]:
        """The nodes of anything but a bracket."""
        if token[0] == "<":
            return [self.rule(token[1:-1])]
        if token[0] == "{":
            return [self.slot(token)]
        if token[0] == '"' and len(token) > 1:
            return [Speaker(self.variable(token[1:-2])), Text('"')]
        return [Text(token)]

    def slot(self, token: str) -> Node:
        """A draw or a recall."""
        match = SLOT.fullmatch(token)
        if match is None:
            raise ValueError(f"cannot read the slot {token}")
        var, form = self.variable(match["var"]), FORMS.index(match["form"] or "base")
        if match["draw"] is None:
            return Recall(var, form)
        by = self.variable(match["by"] or "")
        avoid = [self.variable(name) for name in match["avoid"].split("!")[1:]]
        stem = match["list"]
        names = {n.removeprefix(stem + "_"): n for n in self.lists if n.startswith(stem + "_")} if by else {"": stem}
        return Draw(var, {kind: self.lists[name] for kind, name in names.items()}, form, by, avoid)

    def variable(self, name: str) -> int:
        """The slot number of a variable (0 is no variable)."""
        return self.variables.setdefault(name, len(self.variables))


class Tokens:
    """The tokens of one alternative, with one token of foresight ("" at the end)."""

    def __init__(self, text: str) -> None:
        self.rest: list[str] = [*TOKEN.findall(text), ""]
        if "".join(self.rest) != text:
            raise ValueError(f"cannot read the alternative {text!r}")

    @property
    def next(self) -> str:
        """The coming token."""
        return self.rest[0]

    def take(self) -> str:
        """The coming token, taken away."""
        return self.rest.pop(0)


def split_rules(rules: str) -> Iterator[tuple[str, list[tuple[float, str]]]]:
    """Each rule's name with its weighted alternatives."""
    for block in re.split(r"\n(?=\w)", rules.strip("\n")):
        head, *lines = [line for line in re.sub(r"\n {5,}", " ", block).split("\n") if line.strip()]
        yield head.removesuffix(" ="), [split_weight(line.strip()) for line in lines]


def split_weight(line: str) -> tuple[float, str]:
    """An alternative and its weight (1 unless the line starts like `3* `)."""
    match = re.match(r"(\d+)\* ", line)
    return (float(match[1]), line[match.end() :]) if match else (1.0, line)


def build(rules: str, lists: Mapping[str, WordList], start: str = "story") -> Grammar:
    """The grammar whose texts are the expansions of the start rule."""
    builder = Builder(rules, lists)
    return Grammar(builder.rule(start), len(builder.variables) - 1)


def literal_texts(grammar: Grammar) -> Iterator[str]:
    """Every fixed text and every form of a word that a grammar can write, those of one rule once."""
    seen: set[int] = set()
    forms: dict[int, set[int]] = {}
    words: dict[int, list[WordList]] = {}
    todo: list[Node] = [grammar.start]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Text):
            yield node.text
        elif isinstance(node, Chain):
            todo.extend(node.nodes)
        elif isinstance(node, Choice):
            todo.extend(node.options)
        elif isinstance(node, Draw):
            forms.setdefault(node.var, set()).add(node.form)
            words.setdefault(node.var, []).extend(node.lists.values())
            yield from (word.forms[node.form] for each in node.lists.values() for word in each.words)
        elif isinstance(node, Recall):
            forms.setdefault(node.var, set()).add(node.form)
    for var, lists in words.items():
        yield from (
            word.forms[form] for form in sorted(forms[var] if var else ()) for each in lists for word in each.words
        )
