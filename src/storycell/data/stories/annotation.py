"""Facts that a story's letters do not show: who is speaking, and whom a pronoun means.

An `Annotation` has one entry per character. The facts come from the most probable derivation of the text, not from its
surface, so the speaker of a quotation is known from its first letter on, long before the text says who spoke.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.data.stories.grammar import Grammar, Trace


@dataclass(frozen=True, slots=True)
class Annotation:
    """Per character: is it inside a quotation (its quotes included), who speaks it, whom a pronoun there means."""

    inside_quotes: npt.NDArray[np.bool_]
    speaker: tuple[str, ...]
    referent: tuple[str, ...]


def annotate_with(grammar: Grammar, story: str) -> Annotation:
    """The annotation of a story; ValueError if the grammar cannot generate it."""
    derivations = grammar.read(story, trace=True)
    if not derivations:
        raise ValueError("the story grammar cannot generate this text")
    speaker, referent = [""] * len(story), [""] * len(story)
    trace: Trace = max(derivations, key=lambda derivation: derivation[0])[1]
    while trace:
        at, event, who, trace = trace
        row, end = (speaker, quote_end(story, at)) if event == "speaker" else (referent, word_end(story, at))
        row[at:end] = [who] * (end - at)
    return Annotation(np.array([bool(who) for who in speaker], dtype=np.bool_), tuple(speaker), tuple(referent))


def quote_end(story: str, at: int) -> int:
    """Just past the quotation opened at this place."""
    return story.index('"', at + 1) + 1


def word_end(story: str, at: int) -> int:
    """Just past the word that starts at this place."""
    while story[at].isalpha():
        at += 1
    return at
