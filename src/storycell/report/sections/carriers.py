"""What carries a fact: parts of one story's state put into another, which differs in that fact alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storycell.inspect.inspection import Inspection
from storycell.inspect.patching import Carriers, Restored
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, GREY, INK, LINE


def build(found: Inspection) -> Section | None:
    """A drawing and a table for every fact that the model carries; what it does not is named."""
    carried = [c for c in found.carriers if c.is_carried]
    if not found.carriers:
        return None
    values = {
        "carried": [(c, _few(c), _random(c), [_row(r) for r in c.rows]) for c in carried],
        "missing": [c for c in found.carriers if not c.is_carried],
        "transplants": found.transplants,
    }
    return Section(34, "What carries a fact", values, [_draw(k, c) for k, c in enumerate(carried)])


def _few(c: Carriers) -> Restored:
    """The fewest best units that restore half."""
    best = [r for r in c.rows if "best" in r.label]
    return next((r for r in best if r.moved >= 0.5), best[-1])


def _random(c: Carriers) -> Restored | None:
    """As many random units; None in a network so small that its best units are all it has."""
    n = len(_few(c).units)
    fits = [r for r in c.rows if r.label == ("a random unit" if n == 1 else f"{n} random units")]
    return fits[0] if fits else next((r for r in c.rows if "random" in r.label), None)


def _row(r: Restored) -> list[str]:
    units = ", ".join(f"{layer}:{unit}" for layer, unit in r.units[:5]) + (", …" if len(r.units) > 5 else "")
    return [
        r.label,
        units or "-",
        f"{r.share:.2f} ({r.low:.2f} to {r.high:.2f})",
        f"{r.probability:.3f}",
        f"{r.moved:.2f} ({r.moved_low:.2f} to {r.moved_high:.2f})",
    ]


def _draw(number: int, c: Carriers) -> Figure:
    """The share restored by every part, with its interval."""
    rows: Sequence[Restored] = c.rows

    def draw(axes: Any) -> None:
        y = np.arange(len(rows))[::-1]
        shares = np.array([r.share for r in rows])
        errors = np.array([[r.share - r.low, r.high - r.share] for r in rows]).T
        colours = [GREY if "random" in r.label else BLUE for r in rows]
        axes.barh(y, shares, 0.66, color=colours, alpha=0.85)
        axes.errorbar(shares, y, xerr=np.maximum(errors, 0), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        axes.axvline(1, color=LINE, linestyle=":", linewidth=1)
        axes.axvline(0, color=LINE, linewidth=1)
        axes.set_yticks(y, [r.label for r in rows])
        axes.set_xlabel("share of the difference in logits that is restored (1: as the whole state does)")
        axes.grid(axis="x")

    alt = f"{c.fact}: " + "; ".join(f"{r.label} {r.share:.2f} ({r.low:.2f} to {r.high:.2f})" for r in rows)
    numbers = {
        **{key: value for key, value in vars(c).items() if key not in ("rows", "ranking", "example")},
        "rows": [vars(r) for r in rows],
        "ranking": [[*unit, share] for unit, share in c.ranking[:50]],
        "example": vars(c.example),
    }
    return Figure(f"carriers-{number}", draw_svg(draw, height=0.8 + 0.23 * len(rows)), alt, numbers=numbers)
