"""Rates -> the figures of a benchmark: a dict with the keys that `storycell bench --json` promises, and lines to read.

For the scripts in `benchmarks/`: `about` says where something was measured, and `keep` prints and keeps it; `measure`
runs many workloads one after the other and keeps their figures as they come; `chart` draws them.
"""

import io
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from storycell import extras
from storycell.engine.library import isa
from storycell.lab.bench.timing import Spread
from storycell.lab.bench.workload import Workload
from storycell.runs.machine import machine, versions
from storycell.web.theme import BLUE, GREY, LINE, ORANGE

NAMES = {
    "storycell": "storycell",
    "storycell_bf16": "storycell, bf16",
    "storycell_fp32": "storycell, float32",
    "torch_fp32": "torch, float32",
    "torch_bf16": "torch, bf16 autocast",
    "torch_compile": "torch.compile, bf16",
    "article": "the article's loop",
    "plain_python": "a plain comprehension",
}
NO_TORCH = (
    "torch is not installed, so neither its layers nor the article's loop were measured; pip install 'storycell[torch]'"
)


class Ceiling(NamedTuple):
    """What the machine could reach at best, and how that was found."""

    chars_per_s: float
    reason: str


def summary(task: str, made: dict[str, Any], rates: dict[str, Spread], ceiling: Ceiling | None) -> dict[str, Any]:
    """The figures: sizes, rates, ratios of medians, spread, ceiling, machine."""
    medians = {name: rate.median for name, rate in rates.items()}
    own = medians["storycell"]
    torchs = [medians[name] for name in ("torch_fp32", "torch_bf16") if name in medians]
    return {
        "task": task,
        **made,
        "chars_per_s": round(own),
        **{f"{name}_chars_per_s": _round(medians.get(name)) for name in NAMES if name != "storycell"},
        "ratio_to_best_torch": round(own / max(torchs), 3) if torchs else None,
        **{f"ratio_to_{name}": round(own / rate, 3) for name, rate in medians.items() if name != "storycell"},
        "ceiling_chars_per_s": round(ceiling.chars_per_s) if ceiling else None,
        "share_of_ceiling": round(own / ceiling.chars_per_s, 3) if ceiling else None,
        "ceiling": ceiling.reason if ceiling else None,
        "note": None if torchs or task == "prepare" else NO_TORCH,
        "spread": {name: [round(rate.least), round(rate.most)] for name, rate in rates.items()},
        **about(),
    }


def about() -> dict[str, Any]:
    """Where something is measured: the machine, the kernel and the versions, and how busy the machine is."""
    return {
        "machine": machine() | {"kernel": _kernel()} | versions(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def commit() -> str:
    """The commit of the working folder, with `-dirty` where it is changed; empty where there is none."""
    described = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(described, capture_output=True, text=True, check=False).stdout.strip()


def keep(figures: dict[str, Any], path: Path | None = None) -> None:
    """Print figures as one JSON line, with the place and the commit; write them to `path` too."""
    figures = figures | about() | {"commit": commit()}
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures), flush=True)


def _round(rate: float | None) -> int | None:
    return None if rate is None else round(rate)


def _kernel() -> str:
    try:
        return isa()
    except (ImportError, RuntimeError):
        return "none"


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """The figures for people: what was measured, one line a contestant, the ceiling, the machine."""
    yield _what(figures)
    yield f"  {'':<22}{'characters/s':>13}   {'slowest to fastest':<21}"
    for name, (slowest, fastest) in figures["spread"].items():
        rate = figures["chars_per_s" if name == "storycell" else f"{name}_chars_per_s"]
        note = "" if name == "storycell" else f"   storycell x {figures[f'ratio_to_{name}']:.1f}"
        share = figures["ceiling_chars_per_s"] and f"   {rate / figures['ceiling_chars_per_s']:.0%} of the ceiling"
        yield f"  {NAMES[name]:<22}{rate:>13,}   {f'{slowest:,} to {fastest:,}':<21}{share or '':<22}{note}".rstrip()
    if figures["ceiling"]:
        yield f"  {'the ceiling':<22}{figures['ceiling_chars_per_s']:>13,}   {figures['ceiling']}"
    if figures["note"]:
        yield f"  {figures['note']}"
    if figures.get("torch_compile_skipped"):
        yield f"  torch.compile was left out: {figures['torch_compile_skipped']}"
    about = figures["machine"]
    yield (
        f"{about['processor']}, {about['cores']} cores, load {figures['load_average']}; "
        f"kernel {about['kernel']}; torch {about.get('torch', 'not installed')}"
    )


def _what(figures: dict[str, Any]) -> str:
    threads = f"{figures['threads']} thread{'s' if figures['threads'] > 1 else ''}"
    if figures["task"] == "prepare":
        return f"prepare: {figures['text_bytes'] / 1e6:.1f} MB of text, {threads}"
    sizes = f"{figures['cell']}, {figures['layers']} x {figures['hidden']}, {threads}"
    streams = f"{figures['streams']} stream{'s' if figures['streams'] > 1 else ''}"
    if figures["task"] == "sample":
        return f"sample: {sizes}, {streams}, {figures['backend']} backend, {figures['precision']}"
    return f"train: {sizes}, {streams} x {figures['chunk']}, {figures['backend']} backend, {figures['precision']}"


Figures = dict[str, Any]
_BARS = (("article", LINE), ("torch_fp32", GREY), ("torch_bf16", ORANGE), ("storycell", BLUE))


def measure(task: Callable[[Workload], Figures], workloads: Iterable[Workload], path: Path) -> list[Figures]:
    """Measure each workload, print its lines, and write all figures to `path` after each."""
    rows: list[Figures] = []
    for workload in workloads:
        rows.append(task(workload) | {"commit": commit()})
        print("\n".join(lines(rows[-1])), flush=True)
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


def chart(rows: list[Figures], threads: int) -> bytes:
    """Characters per second against hidden width, a panel for each number of layers; above our bars, how many times
    the better of torch's two."""
    extras.require("matplotlib", "a chart")
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
            axes.bar(*zip(*places, strict=True), width=0.19, color=colour, label=NAMES[name])
    for k, row in enumerate(rows):
        if row["ratio_to_best_torch"] is None:
            continue
        text = f"{row['ratio_to_best_torch']:.1f}×"
        place = (k + 0.3, row["chars_per_s"])
        axes.annotate(text, place, textcoords="offset points", xytext=(0, 2), ha="center", fontsize=8, color=BLUE)
    axes.margins(y=0.15)
