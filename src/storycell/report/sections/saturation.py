"""Gates, open and shut: how much of the time each unit's gates are at one end, after Karpathy, Johnson and Li (2015).

https://arxiv.org/abs/1506.02078
"""

from collections.abc import Sequence
from typing import Any

from storycell.inspect.inspection import Inspection
from storycell.inspect.saturation import HIGH, Saturation
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.names import name_of
from storycell.web.theme import BLUE, GREEN, LINE, ORANGE


def build(found: Inspection) -> Section:
    """A scatter and a table of all gates, and how many forget gates are nearly always open."""
    forget = [s for s in found.saturation if s.gate == "f"]
    values = {
        "keepers": sum(int((s.right > HIGH).sum()) for s in forget),
        "forget_gates": sum(len(s.right) for s in forget),
        "rows": [
            [
                _name(s),
                f"{s.left.mean():.1%}",
                f"{s.right.mean():.1%}",
                f"{int((s.left > HIGH).sum())}",
                f"{int((s.right > HIGH).sum())}",
            ]
            for s in found.saturation
        ],
    }
    return Section(40, "Gates, open and shut", values, [_draw(found.saturation)])


def _name(s: Saturation) -> str:
    return f"{name_of(s.gate)}, layer {s.layer}"


def _draw(found: Sequence[Saturation]) -> Figure:
    """A scatter for each gate and layer, as in the paper: share of time shut against share of time open."""
    gates = list(dict.fromkeys(s.gate for s in found))
    layers = 1 + max(s.layer for s in found)

    def draw(all_axes: Any) -> None:
        for s in found:
            axes = all_axes[s.layer][gates.index(s.gate)]
            colour = (BLUE, ORANGE, GREEN)[gates.index(s.gate) % 3]
            axes.plot([0, 1], [1, 0], color=LINE, linewidth=0.8)
            axes.plot(s.left, s.right, "o", color=colour, markersize=3.2, alpha=0.55, markeredgewidth=0)
            axes.set_title(_name(s), loc="left")
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            axes.grid()
        for axes in all_axes[-1]:
            axes.set_xlabel(f"share of time below {found[0].low:g}")
        for row in all_axes:
            row[0].set_ylabel("share of time above 0.9")

    height = 2.9 * layers if len(gates) > 1 else 3.4 * layers
    svg = draw_svg(draw, height=height, nrows=layers, ncols=len(gates), squeeze=False)
    alt = "; ".join(
        f"{s.gate} of layer {s.layer}: on average {s.left.mean():.0%} shut, {s.right.mean():.0%} open" for s in found
    )
    numbers = {f"{s.gate} {s.layer}": {"left": s.left, "right": s.right, "chars": s.chars} for s in found}
    return Figure("saturation", svg, alt, numbers=numbers)
