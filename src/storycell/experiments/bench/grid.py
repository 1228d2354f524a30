"""Many workloads one after the other, kept as JSON as they come, and their picture.

In: workloads, a task, a file. Out: the figures of all, as a list in the file; `chart`, PNG bytes.
"""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from storycell.experiments.bench import figures
from storycell.experiments.bench.workload import Workload
from storycell.plots import BLUE, GREY, ORANGE

Figures = dict[str, Any]
_BARS = (("article", "#cccccc"), ("torch_fp32", GREY), ("torch_bf16", ORANGE), ("storycell", BLUE))


def measure(
    task: Callable[[Workload], Figures], workloads: Iterable[Workload], path: Path, commit: str
) -> list[Figures]:
    """Measure each workload, print its lines, and write all figures to `path` after each."""
    rows: list[Figures] = []
    for workload in workloads:
        rows.append(task(workload) | {"commit": commit})
        print("\n".join(figures.lines(rows[-1])), flush=True)
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


def chart(rows: list[Figures], threads: int) -> bytes:
    """Characters per second against hidden width, a panel for each number of layers; above our bars, how many times
    the better of torch's two."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["threads"] == threads]
    depths = sorted({row["layers"] for row in rows})
    figure = Figure(figsize=(7.6, 3.4), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for axes, layers in zip(panels, depths, strict=True):
        shown = sorted((row for row in rows if row["layers"] == layers), key=lambda row: int(row["hidden"]))
        _bars(axes, shown)
        axes.set_title(f"{layers} layer{'s' if layers > 1 else ''}", fontsize=10)
        axes.set_xticks(range(len(shown)), [str(row["hidden"]) for row in shown])
        axes.set_xlabel("hidden width")
    panels[0].set_ylabel("training, characters per second")
    panels[-1].legend(frameon=False, fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _bars(axes: Any, rows: list[Figures]) -> None:
    axes.set_yscale("log")
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for n, (name, colour) in enumerate(_BARS):
        key = "chars_per_s" if name == "storycell" else f"{name}_chars_per_s"
        places = [(k + 0.2 * (n - 1.5), row[key]) for k, row in enumerate(rows) if row[key]]
        if places:
            axes.bar(*zip(*places, strict=True), width=0.19, color=colour, label=figures.NAMES[name])
    for k, row in enumerate(rows):
        text = f"{row['ratio_to_best_torch']:.1f}×"
        place = (k + 0.3, row["chars_per_s"])
        axes.annotate(text, place, textcoords="offset points", xytext=(0, 2), ha="center", fontsize=8, color=BLUE)
    axes.margins(y=0.15)
