"""The truth beside the model, where the grammar that wrote the text is known."""

from typing import Any

import numpy as np

from storycell import loss
from storycell.inspect.inspection import Inspection
from storycell.inspect.truth import KindOfPlace, Place
from storycell.report.inspection import Section

_CONTEXT = 44


def build(found: Inspection) -> Section | None:
    """What the model loses by kind, where it loses most, and a text to walk through."""
    known = found.truth
    if known is None:
        return None
    whole = known.kinds[0]
    values = {
        "whole": whole,
        "sure": next((k for k in known.kinds if k.kind == "the rules leave no choice"), None),
        "stories": known.stories,
        "rows": [_row(kind) for kind in known.kinds],
        "worst": [_worst(found.trace.text, place) for place in known.worst],
    }
    text = found.trace.text
    data = {
        "characters": [text[p.row] for p in known.shown],
        "bits": [round(loss.bits_per_char(p.excess_nats), 4) for p in known.shown],
        "truth": [_pairs(p.truth) for p in known.shown],
        "model": [_pairs(p.model) for p in known.shown],
    }
    return Section(75, "Where it differs from the truth", values, data={"truth-text": data})


def _pairs(likely: list[tuple[str, float]]) -> list[Any]:
    return [[c, float(np.round(p, 4))] for c, p in likely]


def _row(kind: KindOfPlace) -> list[str]:
    return [
        kind.kind,
        f"{loss.bits_per_char(kind.true_nats):.3f}",
        loss.plus_minus(loss.bits_per_char(kind.excess_nats), 1.96 * loss.bits_per_char(kind.stderr), "+.3f"),
        f"{kind.share:.1%}",
        f"{kind.chars:,}",
    ]


def _worst(text: str, place: Place) -> list[str]:
    before = text[max(0, place.row - _CONTEXT) : place.row].split("\0")[-1].replace("\n", "↵")
    return [f"… {before}", _told(place.truth), _told(place.model), f"{loss.bits_per_char(place.excess_nats):.1f}"]


def _told(likely: list[tuple[str, float]]) -> str:
    signs = {" ": "␣", "\n": "↵", "\0": "end"}
    return ", ".join(f"{signs.get(c, c)} {p:.0%}" for c, p in likely[:2])
