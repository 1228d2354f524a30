"""Loss curves as PNG bytes. Imports no torch, opens no window.

The palette is the theme's, and figures are drawn without matplotlib's global state.
"""

import io
import warnings
from typing import Any

from storycell.naming import shown
from storycell.web.theme import BLUE, GREY, ORANGE


def loss_curve(metrics: list[dict[str, Any]], title: str, floor_nats: float | None = None) -> bytes:
    """Training and validation loss against characters read, from the lines of a `metrics.jsonl`."""
    from matplotlib.figure import Figure

    trained = [(m["chars"] / 1e6, m["train_nats"]) for m in metrics if m.get("train_nats") is not None]
    valid = [(m["chars"] / 1e6, m["valid_nats"]) for m in metrics if m.get("valid_nats") is not None]
    figure = Figure(figsize=(7.2, 4.0), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if trained:
        axes.plot(*zip(*trained, strict=True), color=BLUE, linewidth=1.2, label="training, mean since the last point")
    if valid:
        axes.plot(
            *zip(*valid, strict=True), color=ORANGE, marker="o", markersize=4, label="validation, part of the text"
        )
        axes.annotate(f"{valid[-1][1]:.3f}", valid[-1], textcoords="offset points", xytext=(4, 8), color=ORANGE)
    if floor_nats is not None:
        axes.axhline(floor_nats, color=GREY, linestyle="--", linewidth=1)
        axes.annotate(
            f"floor {floor_nats:.3f}", (0.01, floor_nats), xycoords=("axes fraction", "data"), va="bottom", color=GREY
        )
    finite = sorted(nats for _, nats in [*trained, *valid] if nats == nats)
    if finite:
        low = min(finite[0], floor_nats if floor_nats is not None else finite[0])
        axes.set_ylim(max(0.0, low - 0.08), min(finite[-1], low + 2.2) + 0.05)
    axes.set_xlabel("characters read, millions")
    axes.set_ylabel("loss, nats per character")
    axes.set_title(literal(title), fontsize=10)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if trained or valid:
        axes.legend(loc="upper right", frameon=False)
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a title in a script the font does not have
        figure.savefig(image, format="png")
    return image.getvalue()


def literal(name: str) -> str:
    """A name as matplotlib shows it letter by letter: two dollar signs would make a formula of what is between them."""
    return shown(name).replace("$", r"\$")
