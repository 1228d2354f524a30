"""What it still gets wrong: mistakes by kind, of this run and perhaps a second one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from storycell import loss
from storycell.inspect.inspection import Inspection
from storycell.inspect.mistakes import MistakeKind
from storycell.report.drawings import draw_svg, literal
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, INK, ORANGE


def build(found: Inspection) -> Section:
    """How often each kind happens, and its share of the loss."""
    own = found.mistakes[found.subject.name]
    values = {
        "all": own[0],
        "worst": max(own[1:], key=lambda m: m.bits_share),
        "other": found.mistakes[found.against.name][0] if found.against else None,
        "names": list(found.mistakes),
        "rows": [_row(kind) for kind in zip(*found.mistakes.values(), strict=True)],
    }
    return Section(70, "What it still gets wrong", values, [_draw(found.mistakes)])


def _row(kind: Sequence[MistakeKind]) -> list[str]:
    """One kind of mistake of every model."""
    row = [kind[0].kind]
    for m in kind:
        row += [loss.plus_minus(m.per_thousand, 1.96 * m.stderr, ".1f"), f"{m.bits_share:.1%}"]
    return row


def _draw(by_model: Mapping[str, Sequence[MistakeKind]]) -> Figure:
    """Mistakes of each kind in a thousand characters, a bar for each model."""
    kinds = [m.kind for m in next(iter(by_model.values())) if m.kind != "all"]

    def draw(axes: Any) -> None:
        y = np.arange(len(kinds))[::-1]
        n = len(by_model)
        for k, (name, rows) in enumerate(by_model.items()):
            some = [m for m in rows if m.kind != "all"]
            at = y + (0 if n == 1 else (0.5 - k) * 0.38)
            counts, errors = [m.per_thousand for m in some], [1.96 * m.stderr for m in some]
            axes.barh(at, counts, 0.7 / n, color=(BLUE, ORANGE)[k % 2], alpha=0.85, label=literal(name))
            axes.errorbar(counts, at, xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        axes.set_yticks(y, kinds)
        axes.set_xlabel("mistakes in 1,000 characters")
        axes.grid(axis="x")
        if n > 1:
            axes.legend(loc="lower right")

    alt = "; ".join(f"{name}, {m.kind}: {m.per_thousand:.1f}" for name, rows in by_model.items() for m in rows)
    numbers = {name: [vars(m) for m in rows] for name, rows in by_model.items()}
    return Figure("mistakes", draw_svg(draw, height=0.8 + 0.34 * len(kinds)), alt, numbers=numbers)
