"""Gradients through time: how fast they fade in this run, and which of the cell's two ways they took."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from storycell.inspect.gradients import GradientFlow, geometric
from storycell.inspect.inspection import Inspection
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, INK, ORANGE, SERIES


def build(found: Inspection) -> Section:
    """Curves of every flow, half-lives, and the cell's two terms where there are two."""
    flow, labels = found.flows["trained"], _labels(found)
    top = max(layer for _, layer in flow.norms)
    states = [state for state, layer in flow.norms if layer == top]
    curves = {state: flow.curve(state, top) for state in states}
    best = max(states, key=lambda state: curves[state][-1])
    at_one = found.flows["RNN at 1"].curve("h", 0)
    values = {
        "lives": {state: flow.half_life(state, top)[0] for state in states},
        "last": len(at_one) - 1,
        "best": best,
        "left": curves[best][len(at_one) - 1],
        "left_at_one": at_one[-1],
        "far": min(32, len(at_one) - 1),
        "rows": [
            _row(flow, state, layer, labels[name]) for name, flow in found.flows.items() for state, layer in flow.norms
        ],
        "terms": _terms(flow),
        "step": flow.step_name,
    }
    figures = [_draw_curves(found.flows, labels)] + ([_draw_terms(flow)] if flow.rest else [])
    return Section(50, "Gradients through time", values, figures)


def _labels(found: Inspection) -> dict[str, str]:
    cell = found.subject.model.cell
    names = {"trained": f"this {cell}", "untrained": f"the {cell} untrained"}
    if found.against:
        other = found.flows["second"].step_name
        unit = "" if other == found.trace.step_name else f", by {other}"
        names["second"] = f"{found.against.name} ({found.against.model.cell}{unit})"
    return {name: names.get(name, name.replace("RNN at ", "radius ")) for name in found.flows}


def _row(flow: GradientFlow, state: str, layer: int, label: str) -> list[str]:
    life, low, high = ("none" if np.isinf(n) else f"{n:.1f}" for n in flow.half_life(state, layer))
    curve = flow.curve(state, layer)
    far = curve[min(32, len(curve) - 1)]
    return [
        f"{label}, d{state} of layer {layer}",
        f"{life} ({low} to {high})",
        f"{far:.2g}",
        f"{curve[-1]:.2g}",
        f"{flow.samples}",
    ]


def _terms(flow: GradientFlow) -> list[tuple[int, float, float]]:
    """(layer, through the sum, through h and the gates) at the last lag, of every layer."""
    ends = [
        (layer, geometric(flow.through_sum["c", layer])[-1], geometric(flow.rest["c", layer])[-1])
        for _, layer in flow.through_sum
    ]
    return [(layer, float(through_sum), float(rest)) for layer, through_sum, rest in ends]


def _draw_curves(flows: Mapping[str, GradientFlow], labels: Mapping[str, str]) -> Figure:
    """Norms against the lag, each curve relative to lag 0: this run's states, then RNNs before training."""
    step = flows["trained"].step_name

    def draw(all_axes: Any) -> None:
        left, right = all_axes
        colours = {axes: iter(SERIES * 3) for axes in all_axes}
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
            axes.set_xlabel(f"lag k, {step}s back")
            axes.grid()
            axes.legend(loc="best")
        left.set_ylabel("norm of the gradient, lag 0 = 1")
        left.set_title("gradients of the last layer's states", loc="left")
        right.set_title("a vanilla RNN before training, by spectral radius", loc="left")

    def lives_of(flow: GradientFlow) -> dict[str, dict[str, float]]:
        keys = ("half_life", "low", "high")
        return {f"{s} {k}": dict(zip(keys, flow.half_life(s, k), strict=True)) for s, k in flow.norms}

    lives = {name: lives_of(flow) for name, flow in flows.items()}
    curves = {name: {f"{s} {k}": flow.curve(s, k) for s, k in flow.norms} for name, flow in flows.items()}
    alt = "; ".join(
        f"{labels[name]}: "
        + ", ".join(f"{key} half-life {v['half_life']:.1f} {flows[name].step_name}s" for key, v in life.items())
        for name, life in lives.items()
    )
    svg = draw_svg(draw, height=3.5, ncols=2, sharey=True)
    return Figure("gradients", svg, alt, numbers={"curves": curves, "half_lives": lives})


def _draw_terms(flow: GradientFlow) -> Figure:
    """The gradient of the cell state, split: through the sum, and through h and the gates."""
    numbers: dict[str, dict[str, Any]] = {}
    for k in sorted({k for _, k in flow.through_sum}):
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
            axes.set_xlabel(f"lag k, {flow.step_name}s back")
            axes.set_title(title, loc="left")
            axes.grid()
        all_axes[0][0].set_ylim(bottom=1e-5)
        all_axes[0][0].set_ylabel("norm of dL/dc, lag 0 = 1")
        all_axes[0][0].legend()

    svg = draw_svg(draw, height=3.2, ncols=len(numbers), squeeze=False, sharey=True)
    alt = "; ".join(
        f"{name}: at lag {len(n['all']) - 1} the sum carries {n['through_sum'][-1]:.2g}, the rest {n['rest'][-1]:.2g}"
        for name, n in numbers.items()
    )
    return Figure("two-terms", svg, alt, numbers=numbers)
