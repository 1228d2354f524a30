"""The figures of the quote latch: a unit along a sentence, and what becomes of quotes when units are held.

In: `LatchReading`s and `HoldResult`s. Out: `Figure`s, as in `storycell.report.drawings`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storycell.inspector.latch import HoldResult, LatchReading
from storycell.plots import BLUE, ORANGE
from storycell.report.drawings import GATE_NAMES, INK, YELLOW, drawn
from storycell.report.page import Figure


def reading(name: str, read: LatchReading, caption: str) -> Figure:
    """One unit along a sentence: a strip for each gate and state, and the chance of a quote next."""
    gates = [n for n in ("i", "f", "o", "r", "z") if n in read.values]
    states = [n for n in ("c", "h") if n in read.values]
    rows = [*gates, *states, "next"]
    labels = [f"{GATE_NAMES[n]}  {n}" for n in [*gates, *states]] + ["chance of a quote next"]
    T = len(read.text)

    def draw(axes: Any) -> None:
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        for y, row in enumerate(rows):
            values = np.asarray(read.quote_next if row == "next" else read.values[row], dtype=float)
            scale = max(float(np.abs(values).max()), 1e-9) if row == "c" else 1.0
            cells = [Rectangle((t + 0.04, y + 0.06), 0.92, 0.88) for t in range(T)]
            plus, minus = (ORANGE, ORANGE) if row == "next" else (BLUE, ORANGE)
            colours = [(plus if v >= 0 else minus, min(1.0, abs(v) / scale)) for v in values]
            axes.add_collection(PatchCollection(cells, facecolor=colours, edgecolor="none"))
        for t, c in enumerate(read.text):
            axes.text(
                t + 0.5, -0.32, "" if c == " " else c, ha="center", va="center", fontsize=9, fontfamily="monospace"
            )
            if c in '"“”':
                axes.axvspan(t, t + 1, color=YELLOW, alpha=0.16, linewidth=0, zorder=0)
        axes.set_xlim(0, T)
        axes.set_ylim(len(rows), -0.8)
        axes.set_yticks(np.arange(len(rows)) + 0.5, labels)
        axes.set_xticks([])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)

    svg = drawn(draw, height=0.5 + 0.27 * len(rows))
    at_quotes = [t for t, c in enumerate(read.text) if c in '"“”']
    alt = f"Layer {read.layer}, unit {read.unit} along {read.text!r}. " + "; ".join(
        f"{GATE_NAMES.get(n, n)} at the quotes " + " and ".join(f"{read.values[n][t]:.2f}" for t in at_quotes)
        for n in [*gates, *states]
    )
    numbers: dict[str, Any] = {"text": read.text, "layer": read.layer, "unit": read.unit, "quote_next": read.quote_next}
    return Figure(name, svg, alt, caption, numbers | dict(read.values))


def holds(results: Sequence[HoldResult]) -> Figure:
    """The causal test: the chance of a quote where one closes, and where none is open."""

    def draw(all_axes: Any) -> None:
        y = np.arange(len(results))[::-1]
        panels = (
            ("closing", "closing a quote that is open", ORANGE),
            ("opening", "closing a quote that nobody opened", BLUE),
        )
        for axes, (part, about, colour) in zip(all_axes, panels, strict=True):
            means = np.array([getattr(r, part) for r in results])
            errors = 1.96 * np.array([getattr(r, f"{part}_stderr") for r in results])
            axes.barh(y, means, 0.62, color=colour, alpha=0.8)
            axes.errorbar(means, y, xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
            axes.set_title(about, loc="left", fontsize=9)
            axes.set_xlim(0, max(0.05, 1.05 * float(np.nanmax(means + errors))))
            axes.grid(axis="x")
            axes.set_xlabel("probability of a quote next")
        all_axes[0].set_yticks(y, [r.label for r in results])

    svg = drawn(draw, height=1.0 + 0.28 * len(results), ncols=2, sharey=True)
    alt = "; ".join(f"{r.label}: closing {r.closing:.3f}, opening {r.opening:.3f}" for r in results)
    return Figure(
        "holds", svg, alt, "", {"holds": [{k: getattr(r, k) for k in r.__dataclass_fields__} for r in results]}
    )
