"""The page of a comparison: table, curves, and where one model beats another; and the table as plain text.

It is one offline HTML file. Nothing is computed here.
"""

from typing import Any

from storycell import loss
from storycell.lab.compare import Comparison
from storycell.report import charts
from storycell.report.charts import Series
from storycell.report.page import Figure, Section, escaped, figure, page, table

WIDE = "main { max-width: 76rem; } td { white-space: nowrap; } tbody th { min-width: 8rem; }"
_COLUMNS = (
    "model",
    "nats per character, whole stories",
    "zero-state windows",
    "bits",
    "perplexity",
    "difference from the first",
    "95 % interval",
    "parameters",
    "characters read",
    "characters/s",
)


def html(found: Comparison) -> str:
    """The whole page."""
    where = f"{found.passage.name}: {len(found.passage.targets):,} targets in {_stories(found)}"
    lead = f"<p>{escaped(where)}.</p>" + "".join(f'<p class="note">{escaped(note)}</p>' for note in found.notes)
    sections = [Section("Table", table(_COLUMNS, [_cells(row) for row in found.rows]) + _how_to_read(found))]
    if curves := _curves(found):
        sections.append(Section("Learning curves", curves))
    sections.append(Section("Where they differ", _breakdown(found), "where"))
    title = " beside ".join(row["name"] for row in found.rows if row["kind"] == "run")
    return page(title, sections, lead=lead, data={"comparison": found.summary()}, style=WIDE)


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


def _stories(found: Comparison) -> str:
    return "one story" if len(found.passage.stories) == 1 else f"{len(found.passage.stories):,} stories"


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


def _how_to_read(found: Comparison) -> str:
    windows = next((row["windows"] for row in found.rows if "windows" in row), None)
    said = (
        "Whole stories: each from a zero state to its end. "
        f"Windows: the text cut into pieces of {windows}, each from a zero state. "
        "± is one standard error, over stories (blocks of 1,000 characters of a single-story text). "
        "Differences are paired, character by character on the same text; below zero is better than the first row. "
        "A compressor's figure holds its container; an n-gram's numbers are the n-grams it has seen."
    )
    return f'<p class="note">{escaped(said)}</p>'


def _curves(found: Comparison) -> str:
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
            return ""
        numbers = {s.name: {key: list(s.x), "valid_nats": list(s.y)} for s in series}
        svg = charts.curves(series, label, "validation loss, nats per character", log_x=True)
        alt = f"Validation loss on the way against {label}: " + "; ".join(
            f"{s.name} ends at {s.y[-1]:.3f}" for s in series
        )
        caption = "The validation loss that each run logged on the way, on a part of its own held-out text."
        drawn.append(figure(Figure(name, svg, alt, caption, numbers)))
    return "".join(drawn)


def _breakdown(found: Comparison) -> str:
    parts = []
    names = [m["name"] for m in found.breakdown[0]["models"]]
    for group in dict.fromkeys(row["group"] for row in found.breakdown):
        rows = [row for row in found.breakdown if row["group"] == group]
        lines = [[row["part"], f"{row['share']:.1%}", *map(_part, row["models"])] for row in rows]
        parts.append(table(["", "share of the text", *names], lines, f"Nats per character by {group}"))
    runs = [row["name"] for row in found.rows if row["kind"] == "run"]
    return "".join([*(_bars(found, name) for name in runs[1:]), *parts])


def _part(model: dict[str, Any]) -> str:
    said = f"{model['loss_nats']:.3f}"
    if model["difference_stderr_nats"] > 0:
        said += f" ({model['difference_nats']:+.3f} ± {model['difference_stderr_nats']:.3f})"
    return said


def _bars(found: Comparison, name: str) -> str:
    """How much each part of the text adds to the difference between a run and the first one."""
    first = found.rows[0]["name"]
    chosen = [(row, next(m for m in row["models"] if m["name"] == name)) for row in found.breakdown]
    labels = [row["part"] for row, _ in chosen]
    weights = [model["weight"] for _, model in chosen]
    errors = [row["share"] * model["difference_stderr_nats"] for row, model in chosen]
    errors = [error if error == error else 0.0 for error in errors]
    svg = charts.bars(labels, weights, errors, f"nats per character of the whole text: {name} minus {first}")
    alt = f"What each part of the text adds to the difference between {name} and {first}"
    caption = f"{escaped(alt)}; to the left, {escaped(name)} is better. Each of the three groups sums to the whole."
    numbers = {"part": labels, "weight": weights, "stderr": errors}
    slug = "".join(c if c.isalnum() else "-" for c in f"difference-{name}")
    return figure(Figure(slug, svg, alt, caption, numbers))
