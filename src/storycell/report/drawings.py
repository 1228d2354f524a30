"""The figures of an inspection: arrays -> SVG, in colours that a page replaces by its own.

A `Figure` has in its `numbers` what was drawn. Text stays text in the SVG, and takes the font of the page.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from storycell.inspect.gradients import GradientFlow, geometric
from storycell.inspect.latch import HoldResult, LatchReading
from storycell.inspect.memory import ContextCost, PlaceCost
from storycell.inspect.mistakes import MistakeKind
from storycell.inspect.saturation import Saturation
from storycell.inspect.units import Finding
from storycell.report.charts import literal
from storycell.report.page import Figure
from storycell.training.curve import BLUE, GREY, ORANGE

INK, LINE, GREEN, PINK, YELLOW = "#111111", "#B0B0B0", "#009E73", "#CC79A7", "#E69F00"
GATE_NAMES = {
    "i": "input gate", "f": "forget gate", "o": "output gate", "g": "candidate", "c": "cell state", "h": "hidden state",
    "r": "reset gate", "z": "update gate", "n": "candidate",
}  # fmt: skip
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "storycell", "font.family": "sans-serif", "font.size": 9,
    "axes.edgecolor": LINE, "axes.labelcolor": GREY, "axes.titlesize": 10, "axes.titlecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": GREY, "ytick.labelcolor": GREY,
    "grid.color": LINE, "grid.alpha": 0.45, "grid.linewidth": 0.6, "legend.frameon": False, "text.color": INK,
}  # fmt: skip
_WIDTH = 8.6  # inches; the page scales it


def drawn(draw: Any, width: float = _WIDTH, height: float = 3.2, **grid: Any) -> str:
    """Call `draw` with a figure's axes (an array of them for a grid) and give the SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        draw(canvas.subplots(**grid))
        out = io.StringIO()
        canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def units(findings: Sequence[Finding]) -> Figure:
    """Every feature: the best unit of the run with its interval, and the untrained network's."""

    def draw(all_axes: Any) -> None:
        for axes, measure, about in zip(
            all_axes,
            ("AUC", "rho"),
            ("yes or no: AUC (½ is chance)", "counts: rank correlation (0 is chance)"),
            strict=True,
        ):
            rows = [f for f in reversed(findings) if f.measure == measure]
            y = np.arange(len(rows))
            axes.hlines(y, [f.twin_score for f in rows], [f.score for f in rows], color=LINE, linewidth=1)
            axes.plot(
                [f.twin_score for f in rows], y, "o", color=GREY, markerfacecolor="none", label="untrained network"
            )
            axes.hlines(y, [f.low for f in rows], [f.high for f in rows], color=BLUE, linewidth=3.5, alpha=0.5)
            axes.plot([f.score for f in rows], y, "o", color=BLUE, label="this run, 95 % interval")
            axes.set_yticks(y, [literal(f.feature) for f in rows])
            axes.set_ylim(-0.7, max(0.7, len(rows) - 0.3))
            axes.axvline(0.5 if measure == "AUC" else 0.0, color=LINE, linestyle=":", linewidth=1)
            axes.set_xlabel(about)
            axes.grid(axis="x")
        all_axes[0].legend(loc="upper left", bbox_to_anchor=(0, 1.12), ncols=2)

    counts = [max(1, sum(f.measure == m for f in findings)) for m in ("AUC", "rho")]
    svg = drawn(draw, height=1.6 + 0.26 * sum(counts), nrows=2, gridspec_kw={"height_ratios": counts})
    alt = "; ".join(f"{f.feature}: {f.measure} {f.score:.2f}, untrained {f.twin_score:.2f}" for f in findings)
    numbers = [{k: getattr(f, k) for k in f.__dataclass_fields__} | {"is_finding": f.is_finding} for f in findings]
    return Figure("units", svg, alt, "", {"findings": numbers})


def saturations(found: Sequence[Saturation]) -> Figure:
    """A scatter for each gate and layer, as in the paper: share of time shut against share of time open."""
    gates = list(dict.fromkeys(s.gate for s in found))
    layers = 1 + max(s.layer for s in found)

    def draw(all_axes: Any) -> None:
        for s in found:
            axes = all_axes[s.layer][gates.index(s.gate)]
            axes.plot([0, 1], [1, 0], color=LINE, linewidth=0.8)
            axes.plot(s.left, s.right, "o", color=(BLUE, ORANGE, GREEN)[gates.index(s.gate) % 3], markersize=3.2,
                      alpha=0.55, markeredgewidth=0)  # fmt: skip
            axes.set_title(f"{GATE_NAMES.get(s.gate, s.gate)}, layer {s.layer}", loc="left")
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
            axes.set_xticks([0, 0.5, 1])
            axes.set_yticks([0, 0.5, 1])
            axes.grid()
        for axes in all_axes[-1]:
            axes.set_xlabel(f"share of time below {found[0].low:g}")
        for row in all_axes:
            row[0].set_ylabel("share of time above 0.9")

    height = 2.9 * layers if len(gates) > 1 else 3.4 * layers
    svg = drawn(draw, height=height, nrows=layers, ncols=len(gates), squeeze=False)
    alt = "; ".join(
        f"{s.gate} of layer {s.layer}: on average {s.left.mean():.0%} shut, {s.right.mean():.0%} open" for s in found
    )
    numbers = {f"{s.gate} {s.layer}": {"left": s.left, "right": s.right, "chars": s.chars} for s in found}
    return Figure("saturation", svg, alt, "", numbers)


def gradient_curves(flows: Mapping[str, GradientFlow], labels: Mapping[str, str]) -> Figure:
    """Norms against the lag, each curve relative to lag 0: this run's states, then RNNs before training."""

    def draw(all_axes: Any) -> None:
        left, right = all_axes
        colours = {axes: iter((BLUE, ORANGE, GREEN, PINK, YELLOW, GREY, INK) * 3) for axes in all_axes}
        for name, flow in flows.items():
            axes = right if name.startswith("RNN at") else left
            top = max(k for _, k in flow.norms)
            for state, layer in flow.norms:
                if layer != top:
                    continue
                curve = np.maximum(flow.curve(state, layer), 1e-14)
                label = labels[name] + (f", {state}" if len({s for s, _ in flow.norms}) > 1 else "")
                dashed = "--" if name == "untrained" else "-"
                axes.plot(curve, color=next(colours[axes]), label=label, linestyle=dashed, linewidth=1.6)
        for axes in all_axes:
            axes.set_yscale("log")
            axes.set_ylim(1e-12, 4)
            axes.set_xlabel("lag k, characters back")
            axes.grid()
            axes.legend(loc="best", fontsize=8)
        left.set_ylabel("norm of the gradient, lag 0 = 1")
        left.set_title("gradients of the last layer's states", loc="left")
        right.set_title("a vanilla RNN before training, by spectral radius", loc="left")

    svg = drawn(draw, height=3.5, ncols=2, sharey=True)
    lives = {
        name: {
            f"{s} {k}": dict(zip(("half_life", "low", "high"), flow.half_life(s, k), strict=True))
            for s, k in flow.norms
        }
        for name, flow in flows.items()
    }
    curves = {name: {f"{s} {k}": flow.curve(s, k) for s, k in flow.norms} for name, flow in flows.items()}
    alt = "; ".join(f"{labels[name]}: " + ", ".join(f"{key} half-life {v['half_life']:.1f} characters"
                    for key, v in life.items()) for name, life in lives.items())  # fmt: skip
    return Figure("gradients", svg, alt, "", {"curves": curves, "half_lives": lives})


def two_terms(flow: GradientFlow) -> Figure:
    """The gradient of the cell state, split: through the sum, and through h and the gates."""
    layers = sorted({k for _, k in flow.through_sum})

    numbers: dict[str, dict[str, Any]] = {}
    for k in layers:
        start = geometric(flow.norms["c", k])[0]
        parts = {"all": flow.norms, "through_sum": flow.through_sum, "rest": flow.rest}
        numbers[f"layer {k}"] = {name: geometric(part["c", k]) / start for name, part in parts.items()}
        numbers[f"layer {k}"]["rest"][0] = np.nan  # nothing can have gone another way yet

    def draw(all_axes: Any) -> None:
        for axes, (title, curves) in zip(all_axes[0], numbers.items(), strict=True):
            axes.plot(curves["all"], color=INK, linewidth=2.2, alpha=0.35, label="all of it")
            axes.plot(curves["through_sum"], color=BLUE, label="through the sum c = f·c + i·g")
            axes.plot(curves["rest"], color=ORANGE, label="through h and the gates")
            axes.set_yscale("log")
            axes.set_xlabel("lag k, characters back")
            axes.set_title(title, loc="left")
            axes.grid()
        all_axes[0][0].set_ylim(bottom=1e-5)
        all_axes[0][0].set_ylabel("norm of dL/dc, lag 0 = 1")
        all_axes[0][0].legend(fontsize=8)

    svg = drawn(draw, height=3.2, ncols=len(layers), squeeze=False, sharey=True)
    alt = "; ".join(
        f"{name}: at lag {len(n['all']) - 1} the sum carries {n['through_sum'][-1]:.2g}, the rest {n['rest'][-1]:.2g}"
        for name, n in numbers.items()
    )
    return Figure("two-terms", svg, alt, "", numbers)


def context(costs: Sequence[ContextCost]) -> Figure:
    """The extra loss from missing context, against how many characters are known."""

    def draw(axes: Any) -> None:
        x = [np.sqrt(c.least * c.most) for c in costs]
        extra = np.array([c.nats - c.full_nats for c in costs]) / np.log(2)
        errors = 1.96 * np.array([c.extra_stderr for c in costs]) / np.log(2)
        axes.axhline(0, color=LINE, linewidth=1)
        axes.errorbar(x, extra, errors, color=BLUE, marker="o", markersize=4, capsize=2, linewidth=1.6)
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(c.least) if c.least == c.most else f"{c.least}-{c.most}" for c in costs])
        axes.minorticks_off()
        axes.set_xlabel("characters known")
        axes.set_ylabel("extra bits a character")
        axes.grid()

    alt = "; ".join(f"{c.least} to {c.most} known: {(c.nats - c.full_nats) / np.log(2):.3f} extra bits" for c in costs)
    rows = [{k: getattr(c, k) for k in c.__dataclass_fields__} for c in costs]
    return Figure("context", drawn(draw, height=2.9), alt, "", {"contexts": rows})


def places(costs: Sequence[PlaceCost]) -> Figure:
    """Mean bits by place: word, line, story, quotation."""
    kinds = list(dict.fromkeys(c.place for c in costs))

    def draw(all_axes: Any) -> None:
        for axes, kind in zip(all_axes[0], kinds, strict=True):
            rows = [c for c in costs if c.place == kind]
            x = np.arange(len(rows))
            axes.errorbar(x, [c.nats / np.log(2) for c in rows], [1.96 * c.stderr / np.log(2) for c in rows],
                          color=BLUE, marker="o", markersize=4, capsize=2, linewidth=1.3)  # fmt: skip
            axes.set_xticks(x, [c.label for c in rows], rotation=55, fontsize=7.5)
            axes.set_title(kind, loc="left", fontsize=8.5)
            axes.grid(axis="y")
        all_axes[0][0].set_ylim(bottom=0)
        all_axes[0][0].set_ylabel("bits a character")

    svg = drawn(draw, height=2.8, ncols=len(kinds), squeeze=False, sharey=True)
    alt = "; ".join(f"{c.place} {c.label}: {c.nats / np.log(2):.2f} bits" for c in costs)
    return Figure(
        "places", svg, alt, "", {"places": [{k: getattr(c, k) for k in c.__dataclass_fields__} for c in costs]}
    )


def mistake_bars(by_model: Mapping[str, Sequence[MistakeKind]]) -> Figure:
    """Mistakes of each kind in a thousand characters, a bar for each model."""
    kinds = [m.kind for m in next(iter(by_model.values())) if m.kind != "all"]

    def draw(axes: Any) -> None:
        y = np.arange(len(kinds))[::-1]
        n = len(by_model)
        for k, (name, rows) in enumerate(by_model.items()):
            some = [m for m in rows if m.kind != "all"]
            at = y + (0 if n == 1 else (0.5 - k) * 0.38)
            axes.barh(
                at,
                [m.per_thousand for m in some],
                0.7 / n,
                color=(BLUE, ORANGE)[k % 2],
                alpha=0.85,
                label=literal(name),
            )
            axes.errorbar([m.per_thousand for m in some], at, xerr=[1.96 * m.stderr for m in some], fmt="none",
                          ecolor=INK, elinewidth=1, capsize=2)  # fmt: skip
        axes.set_yticks(y, kinds)
        axes.set_xlabel("mistakes in 1,000 characters")
        axes.grid(axis="x")
        if n > 1:
            axes.legend(loc="lower right")

    alt = "; ".join(f"{name}, {m.kind}: {m.per_thousand:.1f}" for name, rows in by_model.items() for m in rows)
    numbers = {n: [{k: getattr(m, k) for k in m.__dataclass_fields__} for m in rows] for n, rows in by_model.items()}
    return Figure("mistakes", drawn(draw, height=0.8 + 0.34 * len(kinds)), alt, "", numbers)


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
