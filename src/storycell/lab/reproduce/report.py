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
from storycell.report import charts
from storycell.report.charts import Series
from storycell.report.page import Figure, Section, escaped, figure, page, write_json, write_page

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
    ("stories that the grammar can write", "parses", ".2%"),
)


def losses(lines: Sequence[Line], context: Mapping[str, Any]) -> str:
    """The article's table, beside the article's figures, the baselines under it."""
    columns = (*_LOSSES, *_EFFORT)
    head = ["model", "article: loss", "article: perplexity", *(heading for heading, *_ in columns)]
    rows = []
    for line in lines:
        article = line.entrant.article or ()
        said = [f'<td class="article">{value:g}</td>' for value in article] or ["<td></td>"] * 2
        rows.append([line.entrant.title, *said, *(_of_runs(line, name, form) for _, name, form in columns)])
    for k, baseline in enumerate(context["baselines"]):
        told = {"metrics.chars": "train_chars", "metrics.elapsed_s": "elapsed_s", "metrics.chars_per_s": "chars_per_s"}
        names = [told.get(name, name.removeprefix("measured.")) for _, name, _ in columns]
        found = [
            _of_context(context, f"baselines.{k}.{name}", form) for name, (*_, form) in zip(names, columns, strict=True)
        ]
        rows.append([baseline["name"], "<td></td>", "<td></td>", *found])
    return table(head, rows, "Losses in nats per character of held-out text")


def judgements(lines: Sequence[Line], context: Mapping[str, Any]) -> str:
    """The counts on the samples of each model, and on real stories."""
    used = [entry for entry in _COUNTS if _lookup(context, f"judgements.{entry[1]}") is not None]
    rows = [["held-out stories themselves", *(_of_context(context, f"judgements.{n}", form) for _, n, form in used)]]
    rows += [
        [line.entrant.title, *(_of_runs(line, f"measured.judgements.{n}", form) for _, n, form in used)]
        for line in lines
    ]
    return table(["", *(heading for heading, *_ in used)], rows, "Counts on the samples")


def claims(found: Sequence[Claim]) -> str:
    """What became of each claim."""
    rows = []
    for k, claim in enumerate(found):
        verdict, evidence = escaped(claim.verdict), escaped(claim.evidence)
        rows.append([claim.claim, f'<td class="verdict">{verdict}</td>', f'<td data-claim="{k}">{evidence}</td>'])
    return table(["claim", "here", "evidence"], rows, "What the article claims")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table whose first column is text and whose other cells are `<td>` elements."""
    top = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in head)
    body = "".join(f'<tr><th scope="row">{escaped(row[0])}</th>{"".join(row[1:])}</tr>' for row in rows)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escaped(caption)}"><table>'
        f"<caption>{escaped(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def shown(values: Sequence[float], form: str) -> str:
    """The mean of a figure, and its spread where there are several seeds that differ."""
    mean, spread = mean_of(values), spread_of(values)
    if mean is None or not math.isfinite(mean):
        return ""
    return f"{mean:{form}} ± {spread:{form}}" if spread else f"{mean:{form}}"


def _of_runs(line: Line, name: str, form: str) -> str:
    runs = " ".join(run.path.name for run in line.runs)
    return _cell(line.values(name), name, runs, form)


def _of_context(context: Mapping[str, Any], name: str, form: str) -> str:
    value = _lookup(context, name)
    return _cell([] if value is None else [value], name, "context", form)


def _cell(values: list[float], name: str, source: str, form: str) -> str:
    if not values:
        return "<td></td>"
    return f'<td data-from="{source}" data-figure="{name}" data-format="{form}">{shown(values, form)}</td>'


def _lookup(data: Any, name: str) -> float | None:
    for part in name.split("."):
        data = data[int(part)] if isinstance(data, list) else data.get(part) if isinstance(data, dict) else None
    return None if data is None else float(data)


_STYLE = """
main { max-width: 86rem; } td { white-space: nowrap; } tbody th { min-width: 11rem; }
table { font-size: 0.82rem; } th, td { padding-right: 0.6rem; } figure { max-width: 54rem; }
td[data-claim], td.verdict { white-space: normal; text-align: left; } td.article { color: var(--yellow); }
.sample { white-space: pre-wrap; font: 0.95rem/1.55 var(--serif); max-width: 44rem;
  border-left: 3px solid var(--line); padding-left: 0.9rem; }
"""
_READING = (
    "Stories: each from a zero state to its end. Windows: cut from the text as it lies, each from a zero state, as "
    "long as the chunk that the model was trained on (for the baselines, as the longest of these). "
    "With several seeds: mean ± standard deviation over seeds. Perplexity is exp(loss). The article's own figures are "
    "in the second and third column; it does not say on what text and how long it trained, so they are no target, only "
    "the claim. A compressor's figure holds its container; an n-gram's numbers are the n-grams it has seen."
)
_COUNTING = (
    "{samples} samples a model and seed, from the article's beginning, at temperature {temperature:g}, the model's own "
    "distribution. A quote or bracket has a partner if it is closed, or opened, within its paragraph. Names are words "
    "that the training text writes with a capital in the middle of sentences; one that is said once and never again is "
    "what a wandering story is made of. The first row is real text, cut to the same length."
)


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
    """The page."""
    context = context_of(out)
    reading = f'<p class="note">{escaped(_READING)}</p>'
    sections = [
        Section("The table", losses(lines, context) + reading),
        Section("What the article claims", claims(claims_of(lines)), "claims"),
        Section("Learning curves", _curves(lines)),
        Section("What the samples are like", judgements(lines, context) + _how_counted(plan), "counts"),
        Section("Samples", "".join(map(_sample, lines))),
    ]
    if radius := _radius(lines):
        sections.append(Section("The spectral radius of the RNN", radius, "radius"))
    items = "".join(f"<li>{escaped(item)}</li>" for item in summary["differs"])
    sections.append(Section("What differs from the article", f"<ul>{items}</ul>", "differs"))
    return page("The article's models, on equal terms", sections, lead=_lead(plan, summary), style=_STYLE)


def _lead(plan: Plan, summary: dict[str, Any]) -> str:
    each = f"{plan.amount:,.0f} characters" if plan.unit == "chars" else f"{plan.amount:g} minutes"
    done, planned = summary["runs_finished"], summary["runs_planned"]
    said = f"Held-out text: {summary['text']}, {summary['targets']:,} targets. {each} of training for every model."
    if done < planned:
        said += f" {done} of {planned} runs are finished; the others are not in the tables yet."
    notes = "".join(f'<p class="note">{escaped(note)}</p>' for note in summary["notes"])
    return f"<p>{escaped(said)}</p>{notes}"


def _curves(lines: Sequence[Line]) -> str:
    drawn = []
    for name, label, x_of in (
        ("loss-against-characters", "characters read, millions", lambda m: m["chars"] / 1e6),
        ("loss-against-time", "seconds of training, evaluations included", lambda m: m["elapsed_s"]),
    ):
        series = _series(lines, x_of, lambda m: m["valid_nats"])
        alt = f"Validation loss against {label}: " + "; ".join(f"{s.name} ends at {s.y[-1]:.3f}" for s in series)
        numbers = {s.name: {"x": list(s.x), "valid_nats": list(s.y)} for s in series}
        svg = charts.curves(series, label, "validation loss, nats per character")
        caption = "Logged on the way, on a part of the held-out text; the band is from the lowest to the highest seed."
        drawn.append(figure(Figure(name, svg, alt, caption, numbers)))
    return "".join(drawn)


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


def _radius(lines: Sequence[Line]) -> str:
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
        return ""
    alt = "; ".join(f"{s.name}: from {s.y[0]:.3f} to {s.y[-1]:.3f}" for s in series)
    svg = charts.curves(series, "characters read, millions", "largest |eigenvalue| of the hidden weights")
    caption = "It starts at 1, so that gradients neither vanish nor explode at first. First seed."
    numbers = {s.name: {"chars_millions": list(s.x), "spectral_radius": list(s.y)} for s in series}
    return figure(Figure("spectral-radius", svg, alt, caption, numbers))


def _sample(line: Line) -> str:
    text = measure.read_samples(line.runs[0].path)[0]
    return f'<h3>{escaped(line.entrant.title)}</h3><p class="sample">{escaped(text)}</p>'


def _how_counted(plan: Plan) -> str:
    said = _COUNTING.format(samples=plan.samples, temperature=TEMPERATURE)
    return f'<p class="note">{escaped(said)}</p>'


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
        "settles in states that no story begins with, and what it has learnt is of no use from a zero state.",
        f"Gradients are {clip}; the article mentions no clipping.",
        f"Computed by {training['backend']} in {training['precision']}; the article wrote its own cells.",
        "The loss is over whole held-out stories with their ends. The article's loss and perplexity do not satisfy "
        "perplexity = exp(loss) exactly, so the two were averaged differently there.",
        "The weights that are measured are the best on the way by validation loss, not the last ones.",
    ]
