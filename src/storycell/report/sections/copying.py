"""Where it copies: what rows of n-grams and matches are worth at the moment, and passages that a match carried."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storycell import loss
from storycell.inspect.copying import MATCHES, MatchGroup, Passage, Worth
from storycell.inspect.inspection import Inspection
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, ORANGE

_LEVELS = (0.1, 0.5, 1.5)  # bits that a match saved, from which a character is coloured more and more


def build(found: Inspection) -> Section | None:
    """What was left out and what that cost, the loss by the length of the match, the passages."""
    copied = found.copying
    if copied is None:
        return None
    values = {
        "worth": {one.rows: _extra_bits(one) for one in copied.worth},
        "rows": [_row(one) for one in copied.worth],
        "groups": [_group_row(one) for one in copied.groups],
        "matched": 1 - sum(g.chars for g in copied.groups if not g.least) / max(1, sum(g.chars for g in copied.groups)),
        "passages": [_passage(one) for one in copied.passages],
        "levels": _LEVELS,
        "step": copied.step_name,
    }
    figures = [_draw(copied.groups, copied.step_name)] if copied.groups else []
    title = "Where it copies" if any(one.rows == MATCHES for one in copied.worth) else "What n-grams add"
    return Section(62, title, values, figures)


def _extra_bits(one: Worth | MatchGroup) -> tuple[float, float]:
    """Bits a character more without the rows, and half of their 95 % interval."""
    return loss.bits_per_char(one.without_nats - one.nats), 1.96 * loss.bits_per_char(one.stderr)


def _bits(one: Worth | MatchGroup) -> list[str]:
    return [
        f"{loss.bits_per_char(one.nats):.3f}",
        f"{loss.bits_per_char(one.without_nats):.3f}",
        loss.plus_minus(*_extra_bits(one), "+.3f"),
    ]


def _row(one: Worth) -> list[str]:
    return [one.rows, *_bits(one)]


def _group_row(one: MatchGroup) -> list[str]:
    return [_length(one), f"{one.chars:,}", f"{one.hits:.0%}" if one.least else "", *_bits(one)]


def _length(one: MatchGroup) -> str:
    return "none" if not one.most else f"{one.least}" if one.least == one.most else f"{one.least} to {one.most}"


def _passage(one: Passage) -> dict[str, Any]:
    """The passage with its characters in groups of one colour."""
    levels = np.digitize(one.gains / np.log(2), _LEVELS).tolist()
    parts: list[tuple[int, str]] = []
    for level, c in zip(levels, _visible(one.text), strict=True):
        if parts and parts[-1][0] == level:
            parts[-1] = level, parts[-1][1] + c
        else:
            parts.append((level, c))
    texts = {name: _visible(getattr(one, name)) for name in ("before", "earlier_before", "earlier")}
    return {"passage": one, "parts": parts, "bits": loss.bits_per_char(float(one.gains.sum())), **texts}


def _visible(text: str) -> str:
    return text.replace("\n", "↵").replace("\t", "⇥")


def _draw(groups: Sequence[MatchGroup], step: str) -> Figure:
    """The loss by the length of the match before a character, with the match's row and without it."""

    def draw(axes: Any) -> None:
        at = np.arange(len(groups))
        for shift, colour, label, nats in (
            (-0.2, BLUE, "as it is", [g.nats for g in groups]),
            (0.2, ORANGE, "without the row of the match", [g.without_nats for g in groups]),
        ):
            axes.bar(at + shift, [loss.bits_per_char(n) for n in nats], 0.38, color=colour, label=label)
        axes.set_xticks(at, [_length(g) for g in groups])
        axes.set_xlabel(f"{step}s that match")
        axes.set_ylabel("bits a character")
        axes.grid(axis="y")
        axes.legend()

    alt = "; ".join(
        f"match of {_length(g)}: {loss.bits_per_char(g.nats):.2f} bits, without its row "
        f"{loss.bits_per_char(g.without_nats):.2f}"
        for g in groups
    )
    return Figure("matches", draw_svg(draw, height=2.9), alt, numbers={"groups": [vars(g) for g in groups]})
