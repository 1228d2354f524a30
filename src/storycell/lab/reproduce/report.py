"""The report of an experiment: one offline HTML page and one JSON file, made from the files of its runs.

It measures nothing, so it can be made again at any time, as far as the experiment has come. In its tables `data-from`
and `data-figure` of a cell say where its number was read, `data-format` how it is formatted; a test reads them all
again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storycell.lab.reproduce import measure
from storycell.lab.reproduce.claims import Claim, Finished, Line, claims_of, context_of, lines_of, mean_of, spread_of
from storycell.lab.reproduce.plan import TEMPERATURE, Plan
from storycell.report.drawings import Series, draw_curves
from storycell.report.page import Cell, Figure, render, write_page
from storycell.runs.files import write_json

_LOSSES = (  # heading, figure, format
    ("loss, whole stories", "measured.loss_nats", ".4f"),
    ("standard error over stories", "measured.stderr_nats", ".4f"),
    ("loss, zero-state windows", "measured.windows_nats", ".4f"),
    ("bits per character", "measured.bits_per_char", ".4f"),
    ("perplexity", "measured.perplexity", ".3f"),
    ("parameters", "measured.params", ",.0f"),
)
_EFFORT = (
    ("characters read", "metrics.chars", ",.0f"),
    ("steps", "metrics.step", ",.0f"),
    ("seconds", "metrics.elapsed_s", ",.1f"),
    ("characters/s", "metrics.chars_per_s", ",.0f"),
)
_COUNTS = (
    ("words not in the training text", "unknown_words", ".2%"),
    ("quotes with a partner", "quotes_closed", ".2%"),
    ("brackets with a partner", "brackets_closed", ".2%"),
    ("punctuation spaced rightly", "marks_spaced", ".2%"),
    ("paragraphs that end with a sentence", "paragraphs_finished", ".2%"),
    ("paragraphs a sample", "paragraphs", ".2f"),
    ("names a sample", "names", ".2f"),
    ("of these, said once and never again", "names_once", ".2%"),
    ("stories that end", "ended", ".2%"),
    ("stories that the grammar can generate", "parses", ".2%"),
)


def losses(lines: Sequence[Line], context: Mapping[str, Any]) -> list[list[str | Cell]]:
    """The rows of the article's table, beside the article's figures; the baselines are the last ones."""
    columns = (*_LOSSES, *_EFFORT)
    rows: list[list[str | Cell]] = []
    for line in lines:
        said = [Cell(f"{value:g}", {"class": "article"}) for value in line.entrant.article or ()] or [Cell(), Cell()]
        rows.append([line.entrant.title, *said, *(_of_runs(line, name, form) for _, name, form in columns)])
    for k, baseline in enumerate(context["baselines"]):
        told = {"metrics.chars": "train_chars", "metrics.elapsed_s": "elapsed_s", "metrics.chars_per_s": "chars_per_s"}
        names = [told.get(name, name.removeprefix("measured.")) for _, name, _ in columns]
        found = [
            _of_context(context, f"baselines.{k}.{name}", form) for name, (*_, form) in zip(names, columns, strict=True)
        ]
        rows.append([baseline["name"], "", "", *found])
    return rows


def counts(
    lines: Sequence[Line], context: Mapping[str, Any], used: Sequence[tuple[str, str, str]]
) -> list[list[str | Cell]]:
    """The counts on real stories, and on the samples of each model."""
    rows: list[list[str | Cell]] = [
        ["held-out stories themselves", *(_of_context(context, f"judgements.{name}", form) for _, name, form in used)]
    ]
    for line in lines:
        found = (_of_runs(line, f"measured.judgements.{name}", form) for _, name, form in used)
        rows.append([line.entrant.title, *found])
    return rows


def claims(found: Sequence[Claim]) -> list[list[str | Cell]]:
    """What became of each claim."""
    return [
        [claim.claim, Cell(claim.verdict, {"class": "verdict"}), Cell(claim.evidence, {"data-claim": f"{k}"})]
        for k, claim in enumerate(found)
    ]


def show_mean(values: Sequence[float], form: str) -> str:
    """The mean of a figure, and its spread where there are several seeds that differ."""
    mean, spread = mean_of(values), spread_of(values)
    if mean is None or not math.isfinite(mean):
        return ""
    return f"{mean:{form}} ± {spread:{form}}" if spread else f"{mean:{form}}"


def _of_runs(line: Line, name: str, form: str) -> Cell:
    runs = " ".join(run.path.name for run in line.runs)
    return _cell(line.values(name), name, runs, form)


def _of_context(context: Mapping[str, Any], name: str, form: str) -> Cell:
    value = _lookup(context, name)
    return _cell([] if value is None else [value], name, "context", form)


def _cell(values: list[float], name: str, source: str, form: str) -> Cell:
    if not values:
        return Cell()
    return Cell(show_mean(values, form), {"data-from": source, "data-figure": name, "data-format": form})


def _lookup(data: Any, name: str) -> float | None:
    for part in name.split("."):
        data = data[int(part)] if isinstance(data, list) else data.get(part) if isinstance(data, dict) else None
    return None if data is None else float(data)


def write(plan: Plan, out: Path) -> dict[str, Any]:
    """Write both files; returns what the JSON holds. With no finished run, nothing is written."""
    lines = lines_of(plan, out)
    if not lines:
        return {"rows": []}
    summary = summary_of(plan, out, lines)
    write_json(out / "report.json", summary)
    write_page(out / "report.html", html(plan, out, lines, summary))
    return summary


def summary_of(plan: Plan, out: Path, lines: Sequence[Line]) -> dict[str, Any]:
    """Rows, baselines, claims and conditions, as JSON."""
    context = context_of(out)
    done = sum(len(line.runs) for line in lines)
    return {
        "rows": [line.row() for line in lines],
        "baselines": context["baselines"],
        "real_stories": context["judgements"],
        "claims": [asdict(claim) for claim in claims_of(lines)],
        "text": context["text"],
        "targets": context["targets"],
        "budget": {plan.unit: plan.amount},
        "runs_finished": done,
        "runs_planned": len(plan.runs),
        "notes": context["notes"],
        "differs": differences(plan, lines, context),
    }


def html(plan: Plan, out: Path, lines: Sequence[Line], summary: dict[str, Any]) -> str:
    """The page; its words are in `report.html`."""
    context = context_of(out)
    counted = [entry for entry in _COUNTS if _lookup(context, f"judgements.{entry[1]}") is not None]
    return render(
        "lab/reproduce/report.html",
        plan=plan,
        summary=summary,
        temperature=TEMPERATURE,
        loss_heads=[heading for heading, *_ in (*_LOSSES, *_EFFORT)],
        losses=losses(lines, context),
        claims=claims(claims_of(lines)),
        curves=_draw_curves(lines),
        count_heads=[heading for heading, *_ in counted],
        counts=counts(lines, context, counted),
        samples=[(line.entrant.title, measure.read_samples(line.runs[0].path)[0]) for line in lines],
        radius=_draw_radius(lines),
    )


def _draw_curves(lines: Sequence[Line]) -> list[Figure]:
    drawn = []
    for name, label, x_of in (
        ("loss-against-characters", "characters read, millions", lambda m: m["chars"] / 1e6),
        ("loss-against-time", "seconds of training, evaluations included", lambda m: m["elapsed_s"]),
    ):
        series = _series(lines, x_of, lambda m: m["valid_nats"])
        alt = f"Validation loss against {label}: " + "; ".join(f"{s.name} ends at {s.y[-1]:.3f}" for s in series)
        numbers = {s.name: {"x": list(s.x), "valid_nats": list(s.y)} for s in series}
        svg = draw_curves(series, label, "validation loss, nats per character")
        caption = "Logged on the way, on a part of the held-out text; the band is from the lowest to the highest seed."
        drawn.append(Figure(name, svg, alt, caption, numbers))
    return drawn


Picked = Callable[[dict[str, Any]], Any]


def _series(lines: Sequence[Line], x_of: Picked, y_of: Picked) -> list[Series]:
    """A line for each model: the mean over its seeds at every evaluation, and the range."""
    series = []
    for k, line in enumerate(lines):
        curves = [[(x_of(m), y_of(m)) for m in run.metrics if y_of(m) is not None] for run in line.runs]
        points = list(zip(*curves, strict=False))  # one entry an evaluation: as many pairs as there are seeds
        if not points:
            continue
        x = [sum(a for a, _ in point) / len(point) for point in points]
        y = [sum(b for _, b in point) / len(point) for point in points]
        band = [min(b for _, b in point) for point in points], [max(b for _, b in point) for point in points]
        series.append(Series(line.entrant.title, x, y, k, band if len(line.runs) > 1 else None))
    return series


def _draw_radius(lines: Sequence[Line]) -> Figure | None:
    def start(run: Finished) -> dict[str, Any]:
        return {"chars": 0, "spectral_radius_l0": run.figure("measured.watched_at_start.spectral_radius_l0")}

    watched = [line for line in lines if start(line.runs[0])["spectral_radius_l0"] is not None]
    series = []
    for k, line in enumerate(watched):
        run = line.runs[0]
        points = [m for m in [start(run), *run.metrics] if m.get("spectral_radius_l0") is not None]
        x, y = [m["chars"] / 1e6 for m in points], [m["spectral_radius_l0"] for m in points]
        series.append(Series(line.entrant.title, x, y, k))
    if not series:
        return None
    alt = "; ".join(f"{s.name}: from {s.y[0]:.3f} to {s.y[-1]:.3f}" for s in series)
    svg = draw_curves(series, "characters read, millions", "largest |eigenvalue| of the hidden weights")
    caption = "It starts at 1, so that gradients neither vanish nor explode at first. First seed."
    numbers = {s.name: {"chars_millions": list(s.x), "spectral_radius": list(s.y)} for s in series}
    return Figure("spectral-radius", svg, alt, caption, numbers)


def differences(plan: Plan, lines: Sequence[Line], context: dict[str, Any]) -> list[str]:
    """What is not as in the article, or not stated there, in sentences; figures from the settings of the runs."""
    config = lines[0].runs[0].files["config"]
    training, text = config["settings"]["training"], config["text"]
    per_step = training["streams"] * training["chunk"]
    clip = "not clipped" if training["clip"] is None else f"clipped to a norm of {training['clip']:g}"
    corpus = "the embedded stories, not TinyStories" if context["embedded"] else f"{context['text']}"
    rates = ", ".join(f"{line.entrant.title} {line.runs[0].figure('config.settings.training.lr'):g}" for line in lines)
    same = "characters" if plan.unit == "chars" else "minutes"
    return [
        f"Text: {corpus}, {text['train_chars']:,} characters to learn from. The article names TinyStories, but not how "
        "much of it, nor what it held out.",
        f"Budget and batch are not stated there. Here every model gets the same {same}, in steps of {per_step:,} "
        "characters: streams times chunk is constant, so a longer chunk means fewer streams.",
        f"Learning rates, constant: {rates}. The article states none.",
        "The state is carried from chunk to chunk, and gradients stop at the chunk. The article takes a state "
        "that is passed in; whether it carried one from chunk to chunk is not stated.",
        f"With a chance of {training['reset']:.0%} a stream starts a chunk from the zero state. Without that, the RNN "
        "settles in states that no story begins with, and what it has learned is of no use from a zero state.",
        f"Gradients are {clip}; the article mentions no clipping.",
        f"Computed by {training['backend']} in {training['precision']}; the article wrote its own cells.",
        "The loss is over whole held-out stories with their ends. The article's loss and perplexity do not satisfy "
        "perplexity = exp(loss) exactly, so the two were averaged differently there.",
        "The weights that are measured are the best on the way by validation loss, not the last ones.",
    ]
