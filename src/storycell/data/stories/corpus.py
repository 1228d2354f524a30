"""The embedded corpus `stories`: small children's stories whose exact probability is known.

A seed gives endless stories, each independent of the others, and for any text there is the probability that the grammar
generates it; minus the mean of its logarithm is a floor on the loss that no model can beat in expectation. Story `k`
has its own random generator, seeded by the pair (seed, k), so any story can be made without those before it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache
from itertools import count

from storycell.data.stories.annotation import Annotation, annotate_with
from storycell.data.stories.grammar import Grammar
from storycell.data.stories.lexicon import word_lists
from storycell.data.stories.notation import build, literal_texts
from storycell.data.stories.templates import PHRASES, PLOTS


@cache
def story_grammar() -> Grammar:
    """The story grammar, built on first use."""
    return build(PHRASES + PLOTS, word_lists())


def story_at(seed: int, index: int) -> tuple[str, float]:
    """Story number `index` of a seed, and the log-probability of the draws that made it."""
    if seed < 0 or index < 0:
        raise ValueError("seed and index must not be negative")
    return story_grammar().generate(random.Random(seed << 48 | index).random)


def generate(seed: int = 0) -> Iterator[str]:
    """Endless stories, a pure function of the seed."""
    return (story_at(seed, index)[0] for index in count())


def log_probability(story: str) -> float:
    """The exact natural logarithm of a story's probability, its final newline included; -inf if it has none."""
    return story_grammar().log_probability(story)


def predict(story: str) -> list[dict[str, float]]:
    """The exact probability of every next character after each beginning of a story, `[characters + 1]`.

    The character `END` of `storycell.data.stories.grammar` is the end of the story. Where the grammar cannot have
    written the beginning there is nothing.
    """
    return story_grammar().predict(story)


def parses(story: str) -> bool:
    """Whether the grammar can generate this text."""
    return bool(story_grammar().read(story))


def annotate(story: str) -> Annotation:
    """Who speaks and whom pronouns mean, at every character; ValueError if the grammar cannot generate the story."""
    return annotate_with(story_grammar(), story)


@cache
def words() -> frozenset[str]:
    """Every word type, in lower case, that the grammar can generate."""
    return frozenset(
        w for text in literal_texts(story_grammar()) for w in re.findall(r"[a-z]+(?:[-'][a-z]+)*", text.lower())
    )
