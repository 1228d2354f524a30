"""Who wrote this memory: the cell's sum unrolled over the characters read, to walk through, and how long units keep."""

import base64
from itertools import pairwise
from typing import Any

import numpy as np

from storycell import loss
from storycell.inspect.authors import MemoryAuthors
from storycell.inspect.inspection import Inspection
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import SERIES

_ROWS = 8


def build(found: Inspection) -> Section | None:
    """The passage for the page's script, the units that opening quotes write, lengths of memory by layer."""
    known = found.authors
    if known is None:
        return None
    quoted = sorted(
        (
            (float(q.opening[u]), float(q.opening_stderr[u]), float(q.before[u]), layer, int(u))
            for layer, q in enumerate(known.quotes)
            if q is not None
            for u in np.argsort(-q.opening)[:_ROWS]
        ),
        reverse=True,
    )[:_ROWS]
    step = found.trace.step_name
    labels = {(layer, unit): label for layer, unit, label in found.browsed.units}
    rows = [
        [
            f"{layer}:{unit}",
            loss.plus_minus(100 * share, 196 * error, ".1f"),
            f"{100 * before:.2f}",
            f"{known.lengths[layer][unit]:,}",
            labels.get((layer, unit), "") or "-",
        ]
        for share, error, before, layer, unit in quoted
    ]
    values = {
        "rows": rows,
        "best": quoted[0] if quoted else None,
        "quotations": max((q.quotations for q in known.quotes if q is not None), default=0),
        "units": known.passage.units,
        "lengths": [(int(np.median(lengths)), int(lengths.max()), int(lengths.argmax())) for lengths in known.lengths],
        "is_lstm": found.trace.memory == "c",
        "step": step,
    }
    return Section(
        32, "Who wrote this memory", values, [_draw(known, quoted, step)], {"authors-passage": _passage(found, known)}
    )


def _passage(found: Inspection, known: MemoryAuthors) -> dict[str, Any]:
    """What the script unrolls; base64 of float32."""
    passage = known.passage
    return {
        "characters": found.trace.texts(passage.rows),
        "step": found.trace.step_name,
        "at": passage.at - passage.rows.start,
        "state": found.trace.memory,
        "units": [
            {
                "layer": layer,
                "unit": unit,
                "kept": _encoded(passage.kept[k]),
                "written": _encoded(passage.written[k]),
                "before": float(passage.before[k]),
            }
            for k, (layer, unit, _) in enumerate(passage.units)
        ],
    }


def _encoded(column: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(column, dtype="<f4").tobytes()).decode()


def _draw(known: MemoryAuthors, quoted: list[tuple[float, float, float, int, int]], step: str) -> Figure:
    """How many units of each layer keep for how long."""
    longest = max(int(lengths.max()) for lengths in known.lengths)
    edges = 2.0 ** np.arange(0, int(np.ceil(np.log2(longest + 1))) + 1)
    counts = [np.histogram(lengths, edges)[0] for lengths in known.lengths]

    def draw(axes: Any) -> None:
        wide = 0.8 / len(counts)
        for layer, row in enumerate(counts):
            at = np.arange(len(row)) + (layer - (len(counts) - 1) / 2) * wide
            axes.bar(at, row, wide, color=SERIES[layer % len(SERIES)], alpha=0.85, label=f"layer {layer}")
        names = [f"{int(a)}" if b == a + 1 else f"{int(a)}-{int(b) - 1}" for a, b in pairwise(edges)]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel(f"{step}s within which half of a unit's memory was written")
        axes.set_ylabel("units")
        axes.grid(axis="y")
        axes.legend()

    alt = "; ".join(
        f"layer {k}: median length of memory {np.median(n):.0f} {step}s, longest {n.max()}"
        for k, n in enumerate(known.lengths)
    )
    numbers = {
        "lengths": {str(k): n.tolist() for k, n in enumerate(known.lengths)},
        "opening quotes": [
            {"layer": layer, "unit": u, "share": s, "stderr": e, "before": b} for s, e, b, layer, u in quoted
        ],
    }
    return Figure("memory-lengths", draw_svg(draw, height=2.8), alt, numbers=numbers)
