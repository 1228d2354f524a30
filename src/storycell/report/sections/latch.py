"""The quote latch: the article's story wired by hand, the run's own unit beside it, and whether the model uses it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storycell import loss
from storycell.inspect.inspection import Inspection
from storycell.inspect.latch import HoldResult, LatchReading, Moments
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.names import name_of
from storycell.web.theme import BLUE, INK, ORANGE, YELLOW

_MOMENTS = ("i", "f", "o", "r", "z", "c", "h")  # what the table has a column for
_TOLD = {"quotes": {"i": "1", "f": "0", "o": "1"}, "between": {"i": "0", "f": "1", "o": "1"}}  # by the article


def build(found: Inspection) -> Section:
    """Strips of the ideal and the run's unit, its means by place, and the causal test."""
    latch = found.latch
    figures = [_draw_reading("latch-ideal", latch.ideal, "Wired by hand: unit 0 of four, the latch.")]
    for k, read in enumerate(latch.readings):
        figures.append(_draw_reading(f"latch-{k + 1}", read, f"This run: layer {read.layer}, unit {read.unit}."))
    if latch.holds:
        figures.append(_draw_holds(latch.holds))
    names = [n for n in _MOMENTS if n in latch.moments[0].means] if latch.moments else []
    values = {
        "latch": latch,
        "best": found.findings["inside quotes"][0] if latch.readings else None,
        "is_lstm": "f" in found.trace.names,
        "means": {m.where: m.means for m in latch.moments},
        "moment_names": [f"{n} {name_of(n)}" for n in names],
        "moments": _moment_rows(latch.moments, names),
        "holds": [_hold_row(r) for r in latch.holds],
        "random": [r for r in latch.holds if r.label.startswith("random unit")],
    }
    return Section(30, "The quote latch", values, figures)


def _moment_rows(moments: Sequence[Moments], names: Sequence[str]) -> list[list[str]]:
    rows = [
        [m.where, f"{m.chars:,}", *(loss.plus_minus(m.means[n], 1.96 * m.stderrs[n], ".3f") for n in names)]
        for m in moments
    ]
    if "f" in names:
        rows += [[f"the article: {where}", "", *(told.get(n, "") for n in names)] for where, told in _TOLD.items()]
    return rows


def _hold_row(r: HoldResult) -> list[str]:
    return [
        r.label,
        ", ".join(f"{layer}:{unit}" for _, layer, unit in r.units) or "-",
        loss.plus_minus(r.closing, 1.96 * r.closing_stderr),
        f"{r.closing_places:,}",
        loss.plus_minus(r.opening, 1.96 * r.opening_stderr),
        f"{r.opening_places:,}",
    ]


def _draw_reading(name: str, read: LatchReading, caption: str) -> Figure:
    """One unit along a sentence: a strip for each gate and state, and the chance of a quote next."""
    shown = [n for n in ("i", "f", "o", "r", "z", "c", "h") if n in read.values]
    strips: dict[str, Any] = {f"{name_of(n)}  {n}": read.values[n] for n in shown}
    strips |= {"chance of a quote next": read.quote_next}

    def draw(axes: Any) -> None:
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        for y, (label, strip) in enumerate(strips.items()):
            values = np.asarray(strip, dtype=float)
            scale = max(float(np.abs(values).max()), 1e-9) if label.endswith("  c") else 1.0
            cells = [Rectangle((t + 0.04, y + 0.06), 0.92, 0.88) for t in range(len(read.text))]
            high = ORANGE if strip is read.quote_next else BLUE
            colours = [(high if v >= 0 else ORANGE, min(1.0, abs(v) / scale)) for v in values]
            axes.add_collection(PatchCollection(cells, facecolor=colours, edgecolor="none"))
        for t, c in enumerate(read.text):
            letter = "" if c == " " else c
            axes.text(t + 0.5, -0.32, letter, ha="center", va="center", fontsize=9, fontfamily="monospace")
            if c in '"“”':
                axes.axvspan(t, t + 1, color=YELLOW, alpha=0.16, linewidth=0, zorder=0)
        axes.set_xlim(0, len(read.text))
        axes.set_ylim(len(strips), -0.8)
        axes.set_yticks(np.arange(len(strips)) + 0.5, list(strips))
        axes.set_xticks([])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)

    at_quotes = [t for t, c in enumerate(read.text) if c in '"“”']
    alt = f"Layer {read.layer}, unit {read.unit} along {read.text!r}. " + "; ".join(
        f"{name_of(n)} at the quotes " + " and ".join(f"{read.values[n][t]:.2f}" for t in at_quotes) for n in shown
    )
    numbers = {"text": read.text, "layer": read.layer, "unit": read.unit, "quote_next": read.quote_next}
    return Figure(name, draw_svg(draw, height=0.5 + 0.27 * len(strips)), alt, caption, numbers | dict(read.values))


def _draw_holds(results: Sequence[HoldResult]) -> Figure:
    """The causal test: the chance of a quote where one closes, and where none is open."""
    panels = {
        "closing": ("closing a quote that is open", ORANGE),
        "opening": ("closing a quote that nobody opened", BLUE),
    }

    def draw(all_axes: Any) -> None:
        y = np.arange(len(results))[::-1]
        for axes, (part, (about, colour)) in zip(all_axes, panels.items(), strict=True):
            means = np.array([getattr(r, part) for r in results])
            errors = 1.96 * np.array([getattr(r, f"{part}_stderr") for r in results])
            axes.barh(y, means, 0.62, color=colour, alpha=0.8)
            axes.errorbar(means, y, xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
            axes.set_title(about, loc="left", fontsize=9)
            axes.set_xlim(0, max(0.05, 1.05 * float(np.nanmax(means + errors))))
            axes.grid(axis="x")
            axes.set_xlabel("probability of a quote next")
        all_axes[0].set_yticks(y, [r.label for r in results])

    svg = draw_svg(draw, height=1.0 + 0.28 * len(results), ncols=2, sharey=True)
    alt = "; ".join(f"{r.label}: closing {r.closing:.3f}, opening {r.opening:.3f}" for r in results)
    return Figure("holds", svg, alt, numbers={"holds": [vars(r) for r in results]})
