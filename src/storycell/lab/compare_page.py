"""The page of a comparison: table, curves, and where one model beats another; and the table as plain text.

It is one offline HTML file, whose words are in `compare.html`. Nothing is computed here.
"""

from typing import Any

from storycell import loss
from storycell.lab.compare import Comparison
from storycell.report.drawings import Series, draw_bars, draw_curves
from storycell.report.page import Figure, render


def html(found: Comparison) -> str:
    """The whole page."""
    return render(
        "lab/compare.html",
        found=found,
        rows=[_cells(row) for row in found.rows],
        windows=next((row["windows"] for row in found.rows if "windows" in row), None),
        curves=_draw_curves(found),
        bars=[_draw_bars(found, row["name"]) for row in found.rows[1:] if row["kind"] == "run"],
        models=[model["name"] for model in found.breakdown[0]["models"]],
        breakdown=_breakdown(found),
    )


def plain(found: Comparison) -> str:
    """The table for a terminal."""
    lines = [f"{'model':<34}{'nats/char':>20}{'windows':>20}{'bits':>8}{'perplexity':>12}{'difference':>22}"]
    lines += [
        f"{row['name'][:33]:<34}{_pm(row['loss_nats'], row['stderr_nats']):>20}"
        f"{_pm(row.get('windows_nats'), row.get('windows_stderr_nats')):>20}"
        f"{row['bits_per_char']:>8.3f}{row['perplexity']:>12.3f}{_difference(row):>22}"
        for row in found.rows
    ]
    return "\n".join(lines)


def _pm(value: float | None, error: float | None) -> str:
    return "" if value is None else loss.plus_minus(value, error)


def _difference(row: dict[str, Any]) -> str:
    if "difference_nats" not in row:
        return ""
    return loss.plus_minus(row["difference_nats"], row["difference_stderr_nats"], "+.4f")


def _cells(row: dict[str, Any]) -> list[str]:
    interval = row.get("difference_interval")
    return [
        row["name"],
        _pm(row["loss_nats"], row["stderr_nats"]),
        _pm(row.get("windows_nats"), row.get("windows_stderr_nats")),
        f"{row['bits_per_char']:.4f}",
        f"{row['perplexity']:.3f}",
        _difference(row),
        "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}",
        _whole(row.get("params")),
        _whole(row.get("train_chars")),
        _whole(row.get("chars_per_s")),
    ]


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _draw_curves(found: Comparison) -> list[Figure]:
    drawn = []
    for name, key, label, scale in (
        ("loss-against-characters", "chars", "characters read, millions", 1e-6),
        ("loss-against-time", "elapsed_s", "seconds of training, evaluations included", 1.0),
    ):
        series = []
        for k, scores in enumerate(found.scored):
            points = [(m[key] * scale, m["valid_nats"]) for m in scores.metrics if m["valid_nats"] is not None]
            if points:
                x, y = zip(*points, strict=True)
                series.append(Series(scores.name, x, y, k))
        if not series:
            return []
        numbers = {s.name: {key: list(s.x), "valid_nats": list(s.y)} for s in series}
        svg = draw_curves(series, label, "validation loss, nats per character", log_x=True)
        ends = "; ".join(f"{s.name} ends at {s.y[-1]:.3f}" for s in series)
        caption = "The validation loss that each run logged on the way, on a part of its own held-out text."
        drawn.append(Figure(name, svg, f"Validation loss on the way against {label}: {ends}", caption, numbers))
    return drawn


def _breakdown(found: Comparison) -> dict[str, list[list[str]]]:
    """The rows of a table for each group of the text's characters."""
    groups: dict[str, list[list[str]]] = {}
    for row in found.breakdown:
        line = [row["part"], f"{row['share']:.1%}", *map(_part, row["models"])]
        groups.setdefault(row["group"], []).append(line)
    return groups


def _part(model: dict[str, Any]) -> str:
    said = f"{model['loss_nats']:.3f}"
    if model["difference_stderr_nats"] > 0:
        said += f" ({model['difference_nats']:+.3f} ± {model['difference_stderr_nats']:.3f})"
    return said


def _draw_bars(found: Comparison, name: str) -> Figure:
    """How much each part of the text adds to the difference between a run and the first one."""
    chosen = [(row, next(m for m in row["models"] if m["name"] == name)) for row in found.breakdown]
    labels = [row["part"] for row, _ in chosen]
    weights = [model["weight"] for _, model in chosen]
    errors = [row["share"] * model["difference_stderr_nats"] for row, model in chosen]
    first = found.rows[0]["name"]
    svg = draw_bars(labels, weights, errors, f"nats per character of the whole text: {name} minus {first}")
    alt = f"What each part of the text adds to the difference between {name} and {first}"
    caption = f"{alt}; to the left, {name} is better. Each of the three groups sums to the whole."
    slug = "".join(c if c.isalnum() else "-" for c in f"difference-{name}")
    return Figure(slug, svg, alt, caption, {"part": labels, "weight": weights, "stderr": errors})
