"""How figures are drawn: matplotlib -> SVG in the light colours of the theme, which the page makes those of its scheme.

Nothing touches matplotlib's global state. Text stays text in the SVG, and takes the font of the page; the same numbers
give the same bytes.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from storycell import extras
from storycell.naming import show_name
from storycell.web.theme import BLUE, GREY, INK, LINE, ORANGE, SERIES

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "storycell", "font.family": "sans-serif", "font.size": 9,
    "axes.edgecolor": LINE, "axes.labelcolor": GREY, "axes.titlesize": 10, "axes.titlecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": GREY, "ytick.labelcolor": GREY,
    "grid.color": LINE, "grid.alpha": 0.7, "grid.linewidth": 0.6, "legend.frameon": False, "legend.fontsize": 8,
    "text.color": INK,
}  # fmt: skip
_WIDTH = 8.6  # inches; the page scales it


def draw_svg(draw: Callable[[Any], None], height: float = 3.2, **grid: Any) -> str:
    """Call `draw` with a figure's axes (an array of them for a grid) and give the SVG."""
    extras.require("matplotlib", "a page with figures")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        canvas = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(canvas.subplots(**grid))
        out = io.StringIO()
        canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def literal(name: str) -> str:
    """A name as matplotlib shows it letter by letter: two dollar signs would make a formula of what is between them."""
    return show_name(name).replace("$", r"\$")


@dataclass(frozen=True)
class Series:
    """A line of a chart; `band` are the lowest and highest values around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0  # a place in the theme's series, which are used over again
    band: tuple[Sequence[float], Sequence[float]] | None = None


def draw_curves(series: Sequence[Series], x_label: str, y_label: str, *, log_x: bool = False) -> str:
    """Lines with their names in a legend."""

    def draw(axes: Any) -> None:
        for line in series:
            colour = SERIES[line.colour % len(SERIES)]
            axes.plot(line.x, line.y, color=colour, linewidth=1.6, marker="o", markersize=2.5, label=literal(line.name))
            if line.band is not None:
                axes.fill_between(line.x, *line.band, color=colour, alpha=0.15, linewidth=0)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid()
        axes.legend()

    return draw_svg(draw, height=4.4)


def draw_bars(names: Sequence[str], values: Sequence[float], errors: Sequence[float], x_label: str) -> str:
    """Horizontal bars with error bars (none where it is not finite), the first on top; orange to the right of zero."""

    def draw(axes: Any) -> None:
        at = range(len(names))
        colours = [BLUE if value < 0 else ORANGE for value in values]
        widths = [error if math.isfinite(error) else 0.0 for error in errors]
        axes.barh(at, values, xerr=widths, color=colours, height=0.62, error_kw={"ecolor": INK, "linewidth": 1})
        axes.set_yticks(at, [literal(name) for name in names])
        axes.invert_yaxis()
        axes.axvline(0.0, color=GREY, linewidth=0.8)
        axes.set_xlabel(x_label)
        axes.grid(axis="x")

    return draw_svg(draw, height=0.9 + 0.3 * len(names))
