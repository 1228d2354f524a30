"""Without each unit: what the model loses when one unit at a time shows its mean, by kind of character."""

from typing import Any

import numpy as np

from storycell import loss
from storycell.inspect.ablation import Ablation, Loss
from storycell.inspect.inspection import Inspection
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, INK, LINE, ORANGE


def build(found: Inspection) -> Section | None:
    """The units that each kind of character misses most."""
    known = found.ablation
    if known is None or not known.best:
        return None
    kinds = sorted(known.best, key=lambda kind: -_clear(known.best[kind]))
    values = {
        "worst": known.best[kinds[0]][0],
        "base": known.base_nats[kinds[0]],
        "rows": [_row(known, one) for kind in kinds for one in known.best[kind][:3]],
        "units": len(next(iter(known.ranking.values()))),
    }
    return Section(36, "Without each unit", values, [_draw(known, kinds)])


def _clear(losses: list[Loss]) -> float:
    return losses[0].nats - 1.96 * losses[0].stderr


def _bits(one: Loss) -> str:
    return loss.plus_minus(loss.bits_per_char(one.nats), 1.96 * loss.bits_per_char(one.stderr), "+.3f")


def _row(known: Ablation, one: Loss) -> list[str]:
    base = loss.bits_per_char(known.base_nats[one.kind])
    return [one.kind, f"{one.layer}:{one.unit}", f"{base:.2f}", _bits(one), f"{one.chars:,}"]


def _draw(known: Ablation, kinds: list[str]) -> Figure:
    """For every kind the first units of its ranking, measured on the other half."""

    def draw(axes: Any) -> None:
        axes.axvline(0, color=LINE, linewidth=1)
        for k, kind in enumerate(kinds):
            for j, one in enumerate(known.best[kind]):
                bits, error = loss.bits_per_char(one.nats), 1.96 * loss.bits_per_char(one.stderr)
                y = k + (j - (len(known.best[kind]) - 1) / 2) * 0.2
                colour = ORANGE if bits > error else BLUE
                axes.errorbar(
                    bits, y, xerr=error, fmt="o", color=colour, ecolor=INK, elinewidth=0.9, capsize=2, markersize=4
                )
                axes.annotate(f" {one.layer}:{one.unit}", (bits + error, y), fontsize=6.5, va="center", color=INK)
        axes.set_yticks(range(len(kinds)), kinds)
        axes.invert_yaxis()
        axes.set_xlabel("more bits for each character of the kind, without the unit")
        axes.grid(axis="x")

    alt = "; ".join(f"{k}: without {o.layer}:{o.unit} {_bits(o)} bits" for k in kinds for o in known.best[k][:1])
    numbers = {
        "best": {kind: [vars(one) for one in losses] for kind, losses in known.best.items()},
        "base_nats": known.base_nats,
        "ranking": {kind: np.round(change, 5).tolist() for kind, change in known.ranking.items()},
    }
    return Figure("ablation", draw_svg(draw, height=0.9 + 0.62 * len(kinds)), alt, numbers=numbers)
