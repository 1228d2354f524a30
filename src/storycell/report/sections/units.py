"""Units with a meaning: the best unit for every feature, held to chance and to the untrained network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from storycell.inspect.inspection import Inspection
from storycell.inspect.units import SHIFTS, Finding
from storycell.report.drawings import draw_svg, literal
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, GREY, LINE


def build(found: Inspection) -> Section:
    """Findings, the furthest ahead of the untrained network first, and what is none."""
    best = [findings[0] for findings in found.findings.values()]
    good = sorted((f for f in best if f.is_finding), key=lambda f: -f.excess)
    places = {(layer, unit): k for k, (layer, unit, _) in enumerate(found.browsed.units)}
    values = {
        "good": good,
        "findings": [_row(f, places) for f in good],
        "others": [_row(f, places) for f in best if not f.is_finding],
        "chars": best[0].chars if best else 0,
        "shifts": SHIFTS,
    }
    return Section(20, "Units with a meaning", values, [_draw(best)] if best else [])


def _row(f: Finding, places: Mapping[tuple[int, int], int]) -> list[Any]:
    """The feature, its unit as (name, place in the text's list or None, what to say), and the scores."""
    unit = f"{f.layer}:{f.unit} {'+' if f.sign > 0 else '−'}"
    return [
        f.feature,
        (unit, places.get((f.layer, f.unit)), f"Colour the text by unit {f.unit} of layer {f.layer}"),
        f"{f.measure} {f.score:.3f} ({f.low:.3f} to {f.high:.3f})",
        f"{f.untrained_score:.3f}",
        f"{f.excess:+.3f} ({f.excess_low:.3f} to {f.excess_high:.3f})",
        f"{'≤ ' if f.p_value <= 1 / (1 + SHIFTS) else ''}{f.p_value:.2f}",
        f"{f.yes:,}",
    ]


def _draw(findings: Sequence[Finding]) -> Figure:
    """Every feature: the best unit of the run with its interval, and the untrained network's."""
    panels = {"AUC": ("yes or no: AUC (½ is chance)", 0.5), "rho": ("counts: rank correlation (0 is chance)", 0.0)}

    def draw(all_axes: Any) -> None:
        for axes, (measure, (about, chance)) in zip(all_axes, panels.items(), strict=True):
            rows = [f for f in reversed(findings) if f.measure == measure]
            y = np.arange(len(rows))
            untrained = [f.untrained_score for f in rows]
            axes.hlines(y, untrained, [f.score for f in rows], color=LINE, linewidth=1)
            axes.plot(untrained, y, "o", color=GREY, markerfacecolor="none", label="untrained network")
            axes.hlines(y, [f.low for f in rows], [f.high for f in rows], color=BLUE, linewidth=3.5, alpha=0.5)
            axes.plot([f.score for f in rows], y, "o", color=BLUE, label="this run, 95 % interval")
            axes.set_yticks(y, [literal(f.feature) for f in rows])
            axes.set_ylim(-0.7, max(0.7, len(rows) - 0.3))
            axes.axvline(chance, color=LINE, linestyle=":", linewidth=1)
            axes.set_xlabel(about)
            axes.grid(axis="x")
        all_axes[0].legend(loc="upper left", bbox_to_anchor=(0, 1.12), ncols=2, fontsize=9)

    counts = [max(1, sum(f.measure == measure for f in findings)) for measure in panels]
    svg = draw_svg(draw, height=1.6 + 0.26 * sum(counts), nrows=2, gridspec_kw={"height_ratios": counts})
    alt = "; ".join(f"{f.feature}: {f.measure} {f.score:.2f}, untrained {f.untrained_score:.2f}" for f in findings)
    return Figure("units", svg, alt, numbers={"findings": [vars(f) | {"is_finding": f.is_finding} for f in findings]})
