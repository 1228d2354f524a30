"""The report of `inspect`: an `Inspection` -> one HTML page for somebody who has just read how an LSTM works.

Every section says in a few words what the article predicts and what this run does, then shows it. What the null or the
untrained network shows as well is not called a finding. Numbers come from the `Inspection` and are only formatted here;
the data that the page's script colours the text with are base64 of float32, so that it shows what Python computes.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from storycell import loss
from storycell.inspect.inspection import Inspection
from storycell.inspect.latch import HeldStory, HoldResult, Moments
from storycell.inspect.saturation import HIGH
from storycell.inspect.trace import Array, Trace
from storycell.inspect.units import SHIFTS, Finding
from storycell.report import drawings, prose
from storycell.report import drawings as latch_drawings
from storycell.report.drawings import GATE_NAMES
from storycell.report.page import Figure, Html, Section, escaped, figure, page, table

_SNIPPET = 34  # characters of context around a similar moment


def value_order(names: Sequence[str]) -> list[str]:
    """States first, then gates: the order in which values are offered."""
    return sorted(names, key=lambda n: "chifogrzn".find(n) % 99)


def browse_data(found: Inspection) -> dict[str, Any]:
    """What the reader's script needs: characters, values as base64 float32, guesses, similar moments."""
    path, browsed = found.trace, found.browsed
    part = slice(browsed.rows.start, browsed.rows.stop)
    values = {layer: path.values(layer, part) for layer in sorted({layer for layer, _, _ in browsed.units})}
    return {
        "characters": list(path.text[part]),
        "bits": np.round(path.nats[part] / math.log(2), 4),
        "names": value_order(path.names),
        "labels": GATE_NAMES,
        "units": [
            {"layer": layer, "unit": unit, "label": label, **_columns(path, layer, unit, values[layer])}
            for layer, unit, label in browsed.units
        ],
        "alphabet": ["■", "�", *path.vocab.characters],
        "likely": browsed.likely,
        "probabilities": np.round(browsed.likely_probabilities.astype(float), 4),
        "similar": [[_snippet(path.text, int(row)) for row in rows] for rows in browsed.similar],
        "cosines": np.round(browsed.similar_cosines.astype(float), 3),
    }


def _columns(path: Trace, layer: int, unit: int, values: Mapping[str, Array]) -> Mapping[str, Any]:
    """Every value of a unit along the browsed part, and the size that its colours take as full."""
    scales = {}
    for name in path.names:
        whole = path.states[layer][name][1:, unit] if name in path.states[layer] else values[name][:, unit]
        scales[name] = 1.0 if name != "c" else float(np.quantile(np.abs(whole), 0.98)) or 1.0
    encoded = {
        name: base64.b64encode(np.ascontiguousarray(column[:, unit], dtype="<f4").tobytes()).decode()
        for name, column in values.items()
    }
    return {"values": encoded, "scales": scales}


def _snippet(text: str, row: int) -> list[str]:
    """Before, at, and after a place."""
    if row < 0:
        return ["", "", ""]
    return [text[max(0, row - _SNIPPET) : row], text[row], text[row + 1 : row + 1 + _SNIPPET // 2]]


def inspection_page(found: Inspection, text_name: str) -> str:
    """The whole file."""
    parts = (_text, _units, _latch, _saturation, _gradients, _memory, _mistakes, _similar)
    return page(
        f"Inside {found.subject.name}",
        [part(found) for part in parts],
        lead=prose.lead(found, text_name),
        data={"browse": browse_data(found)},
        style=_resource("inspection.css"),
        script=_resource("inspection.js"),
    )


def figures(found: Inspection) -> dict[str, Figure]:
    """Every drawing of the report, by name."""
    made = [drawings.units([fs[0] for fs in found.findings.values()])] if found.findings else []
    made.append(latch_drawings.reading("latch-ideal", found.latch.ideal, "Wired by hand: unit 0 of four, the latch."))
    for k, read in enumerate(found.latch.readings):
        about = f"This run: layer {read.layer}, unit {read.unit}."
        made.append(latch_drawings.reading(f"latch-{k + 1}", read, about))
    if found.latch.holds:
        made.append(latch_drawings.holds(found.latch.holds))
    made.append(drawings.saturations(found.saturation))
    made.append(drawings.gradient_curves(found.flows, _flow_labels(found)))
    if found.flows["trained"].rest:
        made.append(drawings.two_terms(found.flows["trained"]))
    made += [drawings.context(found.contexts), drawings.places(found.places), drawings.mistake_bars(found.mistakes)]
    return {drawn.name: drawn for drawn in made}


def _flow_labels(found: Inspection) -> dict[str, str]:
    cell = found.subject.lm.cell
    names = {"trained": f"this {cell}", "untrained": f"the {cell} untrained"}
    if found.against:
        names["second"] = f"{found.against.name} ({found.against.lm.cell})"
    return {name: names.get(name, name.replace("RNN at ", "radius ")) for name in found.flows}


def _text(found: Inspection) -> Section:
    units = "".join(
        f'<option value="{k}">layer {layer}, unit {unit}{" - " + escaped(label) if label else ""}</option>'
        for k, (layer, unit, label) in enumerate(found.browsed.units)
    )
    values = "".join(
        f'<option value="{n}">{n} - {drawings.GATE_NAMES.get(n, n)}</option>' for n in value_order(found.trace.names)
    )
    body = f"""{prose.text(found)}
<div class="controls">
<label>Unit <select id="unit">{units}</select></label>
<label>Colour by <select id="value">{values}<option value="bits">surprise in bits</option></select></label>
<span class="scale" aria-hidden="true"><i id="low"></i><b></b><i id="high"></i></span>
</div>
<div class="browser">
<div id="reader" tabindex="0" role="application" aria-roledescription="text to walk through"
 aria-label="The text; arrow keys move from character to character" aria-describedby="moment"></div>
<aside id="moment" aria-live="polite"></aside>
</div>
<p class="note">Click or point at a character, or step with the arrow keys; hold Shift to move by words. Blue is high,
orange is low (of a cell state: above and below zero). Values are those after the character was read; its surprise is
the loss it had before. Statistics elsewhere on this page use the whole text of {len(found.trace):,} characters.</p>"""
    return Section("The text, coloured by a unit", body, "text")


def _units(found: Inspection) -> Section:
    if not found.findings:
        return Section(
            "Units with a meaning", "<p>No feature occurs often enough in this text to be told.</p>", "units"
        )
    best = [fs[0] for fs in found.findings.values()]
    good = sorted((f for f in best if f.is_finding), key=lambda f: -f.excess)
    others = [f for f in best if not f.is_finding]
    body = (
        prose.units(found, good)
        + _figure(found, "units")
        + _finding_table(found, good, "Found: more than chance, and more than the untrained network")
    )
    if others:
        body += (
            "<details><summary>Not findings: the untrained network does as well, or chance would</summary>"
            f"{_finding_table(found, others, 'Tried, and not a finding')}</details>"
        )
    return Section("Units with a meaning", body, "units")


def _finding_table(found: Inspection, rows: Sequence[Finding], caption: str) -> str:
    places = {(layer, unit): k for k, (layer, unit, _) in enumerate(found.browsed.units)}
    head = [
        "feature",
        "layer:unit",
        "score, 95 % interval",
        "untrained",
        "excess, 95 % interval",
        "p, corrected",
        "places",
    ]
    lines = [
        [
            f.feature,
            _unit_button(f, places.get((f.layer, f.unit))),
            f"{f.measure} {f.score:.3f} ({f.low:.3f} to {f.high:.3f})",
            f"{f.twin_score:.3f}",
            f"{f.excess:+.3f} ({f.excess_low:.3f} to {f.excess_high:.3f})",
            f"{'≤ ' if f.p_value <= 1 / (1 + SHIFTS) else ''}{f.p_value:.2f}",
            f"{f.yes:,}",
        ]
        for f in rows
    ]
    return table(
        head, lines, f"{caption}; places are those with the feature, of {rows[0].chars:,}" if rows else caption
    )


def _unit_button(f: Finding, place: int | None) -> str:
    """The unit, with the sign of what it does; pressed, it colours the text."""
    name = f"{f.layer}:{f.unit} {'+' if f.sign > 0 else '−'}"
    about = f"Colour the text by unit {f.unit} of layer {f.layer}"
    return name if place is None else Html(f'<button type="button" data-unit="{place}" title="{about}">{name}</button>')


def _latch(found: Inspection) -> Section:
    latch = found.latch
    body = prose.latch(found) + "<h3>Wired by hand</h3>" + prose.IDEAL + _figure(found, "latch-ideal")
    if latch.readings:
        body += "<h3>Found in this run</h3>" + prose.found_latch(found)
        body += "".join(_figure(found, f"latch-{k + 1}") for k in range(len(latch.readings)))
        body += _moment_table(latch.moments)
    if latch.holds:
        body += "<h3>Is it what the model listens to?</h3>" + prose.holds(latch.holds) + _figure(found, "holds")
        body += _hold_table(latch.holds) + _held_stories(latch.stories)
    return Section("The quote latch", body, "latch")


def _moment_table(rows: Sequence[Moments]) -> str:
    if not rows:
        return ""
    names = [n for n in ("i", "f", "o", "r", "z", "c", "h") if n in rows[0].means]
    lines = [
        [m.where, f"{m.chars:,}", *(loss.plus_minus(m.means[n], 1.96 * m.stderrs[n], ".3f") for n in names)]
        for m in rows
    ]
    if "f" in names:
        for where, told in (("quotes", {"i": "1", "f": "0", "o": "1"}), ("between", {"i": "0", "f": "1", "o": "1"})):
            lines.append([f"the article: {where}", "", *(told.get(n, "") for n in names)])
    heads = [f"{n} {drawings.GATE_NAMES.get(n, '')}" for n in names]
    return table(["where", "characters", *heads], lines, "The unit over the whole text: means with 95 % intervals")


def _hold_table(rows: Sequence[HoldResult]) -> str:
    lines = [
        [
            r.label,
            ", ".join(f"{layer}:{unit}" for _, layer, unit in r.units) or "-",
            loss.plus_minus(r.closing, 1.96 * r.closing_stderr),
            f"{r.closing_places:,}",
            loss.plus_minus(r.opening, 1.96 * r.opening_stderr),
            f"{r.opening_places:,}",
        ]
        for r in rows
    ]
    head = [
        "held",
        "layer:unit",
        "a closing quote, held outside",
        "places",
        "a quote with none open, held inside",
        "places",
    ]
    return table(head, lines, "Probability of a quote next, mean and 95 % interval over stories")


def _held_stories(stories: Sequence[HeldStory]) -> str:
    items = "".join(
        f"<dt>{escaped(s.label)} <span>{s.quotes} quotes in {s.chars:,} characters of 8 stories"
        f' ({1000 * s.quotes / max(1, s.chars):.1f} in 1,000)</span></dt><dd class="mono">{escaped(s.text)}</dd>'
        for s in stories
    )
    about = "<h3>What it writes</h3><p>The same eight seeds each time; the first story is shown.</p>"
    return f'{about}<dl class="held">{items}</dl>'


def _saturation(found: Inspection) -> Section:
    rows = [
        [
            f"{drawings.GATE_NAMES.get(s.gate, s.gate)}, layer {s.layer}",
            f"{s.left.mean():.1%}",
            f"{s.right.mean():.1%}",
            f"{int((s.left > HIGH).sum())}",
            f"{int((s.right > HIGH).sum())}",
        ]
        for s in found.saturation
    ]
    head = ["gate", "time shut", "time open", "units shut > 90 % of the time", "units open > 90 % of the time"]
    about = f"Means over {found.trace.hidden} units a layer and {len(found.trace):,} characters"
    return Section(
        "Gates, open and shut",
        prose.saturation(found) + _figure(found, "saturation") + table(head, rows, about),
        "saturation",
    )


def _gradients(found: Inspection) -> Section:
    labels = _flow_labels(found)
    rows = []
    for name, flow in found.flows.items():
        for state, layer in flow.norms:
            life, low, high = flow.half_life(state, layer)
            curve = flow.curve(state, layer)
            far = min(32, len(curve) - 1)
            rows.append(
                [
                    f"{labels[name]}, d{state} of layer {layer}",
                    f"{_number(life)} ({_number(low)} to {_number(high)})",
                    f"{curve[far]:.2g}",
                    f"{curve[-1]:.2g}",
                    flow.samples,
                ]
            )
    far, last = min(32, len(curve) - 1), len(curve) - 1
    head = [
        "gradient",
        "half-life in characters, 95 % interval",
        f"left at lag {far}",
        f"at lag {last}",
        "characters sampled",
    ]
    body = prose.gradients(found) + _figure(found, "gradients")
    if "two-terms" in figures_of(found):
        body += prose.two_terms(found) + _figure(found, "two-terms")
    return Section("Gradients through time", body + table(head, rows, "How fast gradients fade"), "gradients")


def _memory(found: Inspection) -> Section:
    rows = [
        [
            f"{c.least}" if c.least == c.most else f"{c.least} to {c.most}",
            f"{loss.bits_per_char(c.nats):.3f}",
            f"{loss.bits_per_char(c.full_nats):.3f}",
            loss.plus_minus(
                loss.bits_per_char(c.nats - c.full_nats), 1.96 * loss.bits_per_char(c.extra_stderr), "+.4f"
            ),
            f"{c.chars:,}",
        ]
        for c in found.contexts
    ]
    head = ["characters known", "bits a character", "the same, all known", "extra, 95 % interval", "characters"]
    body = prose.memory(found) + _figure(found, "context") + table(head, rows) + prose.PLACES + _figure(found, "places")
    return Section("How far it remembers", body, "memory")


def _mistakes(found: Inspection) -> Section:
    names = list(found.mistakes)
    head = ["kind of mistake"]
    for name in names:
        prefix = f"{name}: " if len(names) > 1 else ""
        head += [f"{prefix}in 1,000 characters", f"{prefix}share of all bits"]
    rows = [
        [
            kind[0].kind,
            *(
                told
                for m in kind
                for told in (loss.plus_minus(m.per_thousand, 1.96 * m.stderr, ".1f"), f"{m.bits_share:.1%}")
            ),
        ]
        for kind in zip(*found.mistakes.values(), strict=True)
    ]
    body = prose.mistakes(found) + _figure(found, "mistakes") + table(head, rows, "Mistakes by kind, 95 % intervals")
    return Section("What it still gets wrong", body, "mistakes")


def _similar(found: Inspection) -> Section:
    body = f"""{prose.SIMILAR}
<div id="similar" class="similar" aria-live="polite"></div>"""
    return Section("Similar moments", body, "similar-moments")


def figures_of(found: Inspection) -> dict[str, Figure]:
    """The drawings, made once for an inspection."""
    kept: dict[str, Figure] | None = found.__dict__.get("_figures")
    if kept is None:
        kept = figures(found)
        object.__setattr__(found, "_figures", kept)
    return kept


def _figure(found: Inspection, name: str) -> str:
    return figure(figures_of(found)[name])


def _number(value: float) -> str:
    return "none" if math.isinf(value) else f"{value:.1f}"


def _resource(name: str) -> str:
    return (resources.files("storycell") / "report" / name).read_text(encoding="utf-8")
