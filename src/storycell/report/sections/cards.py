"""Unit cards: all that is known of a few units."""

from collections.abc import Sequence
from typing import Any

from storycell import loss
from storycell.inspect.ablation import unit_kinds
from storycell.inspect.cards import Card
from storycell.inspect.inspection import Inspection
from storycell.report.inspection import Section


def build(found: Inspection) -> Section | None:
    """A card for each unit, with what the other sections found of it."""
    if not found.cards:
        return None
    return Section(38, "Unit cards", {"cards": [_values(found, one) for one in found.cards]})


def _values(found: Inspection, one: Card) -> dict[str, Any]:
    place = (one.layer, one.unit)
    best = [f for fs in found.findings.values() for f in fs if (f.layer, f.unit) == place]
    finding = max(best, key=lambda f: (f.is_finding, f.excess), default=None)
    missed = unit_kinds(found.ablation).get(place, [])[:2] if found.ablation else []
    top = max(int(one.counts.max()), 1)
    return {
        "card": one,
        "finding": finding,
        "length": int(found.authors.lengths[one.layer][one.unit]) if found.authors else None,
        "missed": [
            f"{m.kind} {loss.plus_minus(loss.bits_per_char(m.nats), 1.96 * loss.bits_per_char(m.stderr), '+.3f')}"
            for m in missed
        ],
        "carries": [
            f"{c.fact} ({share:.0%})"
            for c in found.carriers
            for u, share in c.ranking[:5]
            if u == place and share > 0.05
        ],
        "bars": [(k, 40 * int(n) / top) for k, n in enumerate(one.counts)],
        "zero": None if not one.edges[0] < 0 < one.edges[-1] else _place(one, 0.0),
        "promotes": _named(one.promotes, "+.2f"),
        "suppresses": _named(one.suppresses, "+.2f"),
        "raises": _named(one.raises, "+.2%"),
        "lowers": _named(one.lowers, "+.2%"),
    }


def _place(one: Card, value: float) -> float:
    return float(len(one.counts) * (value - one.edges[0]) / (one.edges[-1] - one.edges[0]))


def _named(characters: Sequence[tuple[str, float]], form: str) -> list[tuple[str, str]]:
    signs = {" ": "␣", "\n": "↵", "\t": "⇥"}
    return [("".join(signs.get(c, c) for c in text), format(number, form)) for text, number in characters]
