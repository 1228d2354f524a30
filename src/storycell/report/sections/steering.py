"""Steering: how far adding a direction to what a layer shows turns what the model expects, by dose."""

from collections.abc import Sequence
from typing import Any

from storycell.inspect.inspection import Inspection
from storycell.inspect.steering import DoseCurve
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, GREY


def build(found: Inspection) -> Section | None:
    """A curve for each direction, random ones beside it."""
    curves = found.doses
    if not curves:
        return None
    told = [(c, c.doses.index(0.0), c.doses.index(1.0)) for c in curves]
    return Section(39, "Steering", {"told": told}, [_draw(curves)])


def _draw(curves: Sequence[DoseCurve]) -> Figure:
    """Panels side by side."""

    def draw(all_axes: Any) -> None:
        for axes, c in zip(all_axes[0], curves, strict=True):
            for k, row in enumerate(c.random):
                label = "random directions, as long" if k == 0 else None
                axes.plot(c.doses, row, color=GREY, linewidth=1, marker="o", markersize=2.5, label=label)
            axes.errorbar(
                c.doses,
                c.shares,
                1.96 * c.stderrs,
                color=BLUE,
                marker="o",
                markersize=4,
                capsize=2,
                label=c.direction.about,
            )
            axes.set_title(c.direction.about, loc="left", fontsize=9)
            axes.set_ylim(-0.03, 1.03)
            axes.set_xlabel("dose")
            axes.grid()
            axes.legend(fontsize=7.5)
        all_axes[0][0].set_ylabel("share of the direction's answer")

    svg = draw_svg(draw, height=3.0, ncols=len(curves), squeeze=False, sharey=True)
    alt = "; ".join(
        f"{c.direction.about}: " + ", ".join(f"dose {d:g} {s:.2f}" for d, s in zip(c.doses, c.shares, strict=True))
        for c in curves
    )
    numbers = {
        c.direction.about: {
            "layer": c.direction.layer, "doses": c.doses, "shares": c.shares, "stderrs": c.stderrs, "random": c.random,
        }
        for c in curves
    }  # fmt: skip
    return Figure("steering", svg, alt, numbers=numbers)
