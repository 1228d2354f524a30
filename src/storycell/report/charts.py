"""Curves and bars of several models -> SVG files in the report's palette. Imports no torch.

They are drawn without matplotlib's global state; the page replaces the colours by its own CSS variables, so that one
drawing serves light and dark.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storycell.naming import shown

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000", "#888888")
_GREY = "#888888"


@dataclass(frozen=True)
class Series:
    """A line of a chart; `band` are the lowest and highest values around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0  # a place in COLOURS, which are used over again
    band: tuple[Sequence[float], Sequence[float]] | None = None


def curves(
    series: Sequence[Series], x_label: str, y_label: str, *, log_x: bool = False, top: float | None = None
) -> bytes:
    """Lines with their names at their ends; `top` cuts off what is above it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for line in series:
        colour = COLOURS[line.colour % len(COLOURS)]
        axes.plot(line.x, line.y, color=colour, linewidth=1.6, marker="o", markersize=2.5, label=literal(line.name))
        if line.band is not None:
            axes.fill_between(line.x, *line.band, color=colour, alpha=0.15, linewidth=0)
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    if top is not None:
        axes.set_ylim(top=top)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False, fontsize=9)
    return _svg(figure, axes)


def bars(names: Sequence[str], values: Sequence[float], errors: Sequence[float], x_label: str) -> bytes:
    """Horizontal bars with error bars, the first on top; blue to the left of zero, orange to the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 0.9 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    at = range(len(names))
    colours = [COLOURS[0] if value < 0 else COLOURS[1] for value in values]
    axes.barh(at, values, xerr=errors, color=colours, height=0.62, error_kw={"ecolor": _GREY, "linewidth": 1})
    axes.set_yticks(at, [literal(name) for name in names])
    axes.invert_yaxis()
    axes.axvline(0.0, color=_GREY, linewidth=0.8)
    axes.set_xlabel(x_label)
    return _svg(figure, axes)


def _svg(figure: Any, axes: Any) -> bytes:
    from matplotlib import rc_context

    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    image = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "storycell"}):  # text as text; the same file every time
        figure.savefig(image, format="svg", transparent=True, metadata={"Date": None})
    return image.getvalue()


def literal(name: str) -> str:
    """A name as matplotlib shows it letter by letter: two dollar signs would make a formula of what is between them."""
    return shown(name).replace("$", r"\$")
