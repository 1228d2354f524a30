"""How far it remembers: the loss from missing context, and where in a text the loss is highest."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storycell import loss
from storycell.inspect.inspection import Inspection
from storycell.inspect.memory import ContextLoss, PlaceLoss
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, LINE


def build(found: Inspection) -> Section:
    """The extra loss by how much is known, the furthest range that is still felt, and the loss by place."""
    extra = [_extra_bits(c) for c in found.contexts]
    felt = [k for k, (mean, error) in enumerate(extra) if mean > error]
    last = felt[-1] if felt else 0
    values = {
        "first": (found.contexts[0], *extra[0]),
        "last": (found.contexts[last], *extra[last]),
        "rows": [_row(c) for c in found.contexts],
    }
    return Section(60, "How far it remembers", values, [_draw_contexts(found.contexts), _draw_places(found.places)])


def _extra_bits(c: ContextLoss) -> tuple[float, float]:
    """Bits a character more than with the whole story, and half of their 95 % interval."""
    return loss.bits_per_char(c.nats - c.full_nats), 1.96 * loss.bits_per_char(c.extra_stderr)


def _range(c: ContextLoss) -> tuple[str, ...]:
    return (f"{c.least}",) if c.least == c.most else (f"{c.least}", f"{c.most}")


def _row(c: ContextLoss) -> list[str]:
    return [
        " to ".join(_range(c)),
        f"{loss.bits_per_char(c.nats):.3f}",
        f"{loss.bits_per_char(c.full_nats):.3f}",
        loss.plus_minus(*_extra_bits(c), "+.4f"),
        f"{c.chars:,}",
    ]


def _draw_contexts(losses: Sequence[ContextLoss]) -> Figure:
    """The extra loss from missing context, against how many characters are known."""

    def draw(axes: Any) -> None:
        x = [np.sqrt(c.least * c.most) for c in losses]
        extra, errors = zip(*map(_extra_bits, losses), strict=True)
        axes.axhline(0, color=LINE, linewidth=1)
        axes.errorbar(x, extra, errors, color=BLUE, marker="o", markersize=4, capsize=2, linewidth=1.6)
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, ["-".join(_range(c)) for c in losses])
        axes.minorticks_off()
        axes.set_xlabel("characters known")
        axes.set_ylabel("extra bits a character")
        axes.grid()

    alt = "; ".join(f"{c.least} to {c.most} known: {_extra_bits(c)[0]:.3f} extra bits" for c in losses)
    return Figure("context", draw_svg(draw, height=2.9), alt, numbers={"contexts": [vars(c) for c in losses]})


def _draw_places(losses: Sequence[PlaceLoss]) -> Figure:
    """Mean bits by place: word, line, story, quotation."""
    kinds = list(dict.fromkeys(c.place for c in losses))

    def draw(all_axes: Any) -> None:
        for axes, kind in zip(all_axes[0], kinds, strict=True):
            rows = [c for c in losses if c.place == kind]
            x = np.arange(len(rows))
            bits = [loss.bits_per_char(c.nats) for c in rows]
            errors = [1.96 * loss.bits_per_char(c.stderr) for c in rows]
            axes.errorbar(x, bits, errors, color=BLUE, marker="o", markersize=4, capsize=2, linewidth=1.3)
            axes.set_xticks(x, [c.label for c in rows], rotation=55, fontsize=7.5)
            axes.set_title(kind, loc="left", fontsize=8.5)
            axes.grid(axis="y")
        all_axes[0][0].set_ylim(bottom=0)
        all_axes[0][0].set_ylabel("bits a character")

    svg = draw_svg(draw, height=2.8, ncols=len(kinds), squeeze=False, sharey=True)
    alt = "; ".join(f"{c.place} {c.label}: {loss.bits_per_char(c.nats):.2f} bits" for c in losses)
    return Figure("places", svg, alt, numbers={"places": [vars(c) for c in losses]})
