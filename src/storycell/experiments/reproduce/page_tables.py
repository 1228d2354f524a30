"""The tables of the report as HTML, each figure with the name under which it stands in the files.

In: lines of the table, what was measured of the text. Out: HTML. `data-from` and `data-figure` of a cell say where its
number was read, `data-format` how it is written; a test reads them all again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from storycell.experiments.reproduce.claims import Claim
from storycell.experiments.reproduce.table import Line, mean_of, spread_of
from storycell.report import escaped

_LOSSES = (  # heading, figure, format
    ("loss, whole stories", "measured.loss_nats", ".4f"),
    ("standard error over stories", "measured.stderr_nats", ".4f"),
    ("loss, zero-state windows", "measured.windows_nats", ".4f"),
    ("bits per character", "measured.bits_per_char", ".4f"),
    ("perplexity", "measured.perplexity", ".3f"),
    ("numbers learnt", "measured.params", ",.0f"),
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
