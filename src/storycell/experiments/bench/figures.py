"""Rates -> the figures of a measurement, as plain JSON and as lines to read.

In: what was measured (`Workload` and what was chosen), a `Rate` for each contestant, the ceiling. Out: a dict with the
keys that `storycell bench --json` promises; `lines` for people.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from storycell.api.machine import machine, versions
from storycell.backends.native import isa
from storycell.experiments.bench.rounds import Rate

NAMES = {
    "storycell": "storycell",
    "torch_fp32": "torch, float32",
    "torch_bf16": "torch, bf16 autocast",
    "torch_compile": "torch.compile, bf16",
    "article": "the article's loop",
    "plain_python": "a plain comprehension",
}


class Ceiling(NamedTuple):
    """What the machine could reach at best, and how that was found."""

    chars_per_s: float
    reason: str


def summary(task: str, made: dict[str, Any], rates: dict[str, Rate], ceiling: Ceiling | None) -> dict[str, Any]:
    """The figures: sizes, rates, ratios of medians, spread, ceiling, machine."""
    medians = {name: rate.median for name, rate in rates.items()}
    own = medians["storycell"]
    torchs = [medians[name] for name in ("torch_fp32", "torch_bf16") if name in medians]
    return {
        "task": task,
        **made,
        "chars_per_s": round(own),
        **{f"{name}_chars_per_s": _rounded(medians.get(name)) for name in NAMES if name != "storycell"},
        "ratio_to_best_torch": round(own / max(torchs), 3) if torchs else None,
        **{f"ratio_to_{name}": round(own / rate, 3) for name, rate in medians.items() if name != "storycell"},
        "ceiling_chars_per_s": round(ceiling.chars_per_s) if ceiling else None,
        "share_of_ceiling": round(own / ceiling.chars_per_s, 3) if ceiling else None,
        "ceiling": ceiling.reason if ceiling else None,
        "spread": {name: [round(rate.slowest), round(rate.fastest)] for name, rate in rates.items()},
        "machine": machine() | {"kernel": _kernel()} | versions(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _rounded(rate: float | None) -> int | None:
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
    if figures.get("torch_compile_skipped"):
        yield f"  torch.compile was left out: {figures['torch_compile_skipped']}"
    about = figures["machine"]
    yield (
        f"{about['processor']}, {about['cores']} cores, load {figures['load_average']}; "
        f"kernel {about['kernel']}; torch {about['torch']}"
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
