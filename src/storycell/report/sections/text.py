"""The text, to walk through, coloured by the most telling units.

What the page's script colours with are base64 of float32, so that it shows what Python computes.
"""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from storycell.inspect.inspection import Inspection
from storycell.inspect.trace import Array, Trace
from storycell.report.inspection import Section

_SNIPPET = 34  # characters of context around a similar moment


def build(found: Inspection) -> Section:
    """Nothing but what the script reads."""
    return Section(10, "The text, coloured by a unit", data={"browse": browse_data(found)})


def browse_data(found: Inspection) -> dict[str, Any]:
    """What the reader's script needs: characters, values as base64 float32, guesses, similar moments."""
    path, browsed = found.trace, found.browsed
    part = slice(browsed.rows.start, browsed.rows.stop)
    values = {layer: path.values(layer, part) for layer in sorted({layer for layer, _, _ in browsed.units})}
    return {
        "characters": list(path.text[part]),
        "bits": np.round(path.nats[part] / math.log(2), 4),
        "units": [
            {"layer": layer, "unit": unit, "label": label, **_columns(path, layer, unit, values[layer])}
            for layer, unit, label in browsed.units
        ],
        "alphabet": ["■", "�", *map(_visible, path.vocab.texts)],
        "likely": browsed.likely,
        "probabilities": np.round(browsed.likely_probabilities.astype(float), 4),
        "similar": [[_snippet(path, int(row)) for row in rows] for rows in browsed.similar],
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


def _snippet(path: Trace, row: int) -> list[str]:
    """Before, at, and after a place."""
    text = path.text
    if row < 0:
        return ["", "", ""]
    span = path.span(row)
    before, at = text[max(0, span.start - _SNIPPET) : span.start], text[span.start : span.stop]
    return [before, at, text[span.stop : span.stop + _SNIPPET // 2]]


def _visible(text: str) -> str:
    """A piece with signs for its blanks and line ends; for a single character the script has its own."""
    return text.replace(" ", "␣").replace("\n", "↵") if len(text) > 1 else text
