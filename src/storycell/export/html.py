"""Export to one page that generates stories: `page.html` beside this module, with its style, its scripts, those of
`web` and a model put in.

Its content security policy allows only its own scripts and its style, by their digests, and WebAssembly
(`wasm-unsafe-eval`, which lets no text become a script). So nothing in it, a name or a character of the vocabulary, can
become a script, and it never uses the network.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

from storycell.data.pieces import character_classes
from storycell.data.vocab import Vocabulary
from storycell.engine.cells import NORM_EPSILON
from storycell.errors import ExportError
from storycell.export import encoding
from storycell.export.encoding import Weights, check_rounding
from storycell.export.network import Network, Shape
from storycell.web import theme, wasm

_STYLES = ("web/story.css", "web/generate.css", "web/step.css", "export/page.css")


@dataclass(frozen=True)
class Steering:
    """A direction in what a layer shows, and a random one of the same length: `vectors` are two of `[H]`."""

    about: str
    layer: int
    vectors: list[list[float]]


@dataclass(frozen=True)
class Features:
    """What a page offers beside generating: labels to choose by, a slider for a direction, tunes shown and played."""

    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)  # each with its values
    steer: Steering | None = None
    has_tunes: bool = False


PLAIN = Features()


def write(
    network: Network,
    vocab: Vocabulary,
    weights: Weights,
    name: str,
    about: str,
    prompt: str = "",
    features: Features = PLAIN,
) -> str:
    """The text of the page; `name` is the model's, `about` a line on it, `prompt` what stands in its first box."""
    shape, has_pieces = network.shape, vocab.kind == "pieces"
    model = {
        **{"name": name, "about": about, "cell": shape.cell, "V": shape.V, "D": shape.D, "H": shape.H, "L": shape.L},
        **({"N": shape.N, "R": shape.R} if shape.N else {}),
        **({"M": shape.M} if shape.M else {}),
        **({"gateNorm": NORM_EPSILON} if shape.gate_norm else {}),
        **({"labels": features.labels} if features.labels else {}),
        **{"weights": weights, "kind": vocab.kind, "characters": vocab.characters},
        **({"merges": vocab.merges, "classes": character_classes(vocab.characters)} if has_pieces else {}),
        **({"steer": asdict(features.steer)} if features.steer else {}),
    }
    parts = {
        "STYLE": theme.css(*_STYLES, *(["web/tunes.css"] * features.has_tunes)),
        "RUNTIME": _compact(_file("runtime.js") + (theme.script("web/pieces.js") if has_pieces else "")),
        "PAGE": _compact(theme.script("export/page.js")),
    }
    tunes = theme.tunes_script() if features.has_tunes else ""
    rules = {"script": ("RUNTIME", "PAGE"), "style": ("STYLE",)}
    allowed = [f"{kind}-src {' '.join(digest(parts[key]) for key in keys)}" for kind, keys in rules.items()]
    allowed[0] += f" {digest(tunes)}" * features.has_tunes + " 'wasm-unsafe-eval'"
    parts |= {
        "POLICY": "; ".join(["default-src 'none'", *allowed, "img-src data:", "base-uri 'none'", "form-action 'none'"]),
        "TITLE": html.escape(name),
        "PROMPT": html.escape(prompt),
        "MODEL": script_json(model),
        "WEIGHTS": encoding.encode(network, weights),
        "TUNES": f"<script>{tunes}</script>\n" if features.has_tunes else "",
        "ENGINE": wasm.elements(),
    }
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], _file("page.html"))


def _file(name: str) -> str:
    return (resources.files("storycell.export") / name).read_text(encoding="utf-8")


def _compact(script: str) -> str:
    """A script without its lines of comment and its indentation, a fifth: a page is sent more often than it is read.

    None may hold a text of several lines, which would be indented otherwise.
    """
    return re.sub(r"^[ \t]*(//.*\n)?", "", script, flags=re.MULTILINE)


def digest(text: str) -> str:
    """What a content security policy calls the script or style of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_json(data: Any) -> str:
    """JSON that can stand in a script element: nothing in it can close the element or open a comment."""
    return json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def read(text: str) -> Network:
    """The network in a page, from its two data elements alone."""
    try:
        model, weights = (
            re.search(f'<script type="{kind}" id="{name}">(.*?)</script>', text, re.DOTALL)[1]  # type: ignore[index]
            for kind, name in (("application/json", "model"), ("text/plain", "weights"))
        )
        facts = json.loads(model)
        V, D, H, L = (int(facts[axis]) for axis in "VDHL")
        N, R, M = (int(facts.get(axis, 0)) for axis in "NRM")
        shape = Shape(facts["cell"], V, D, H, L, N, R, M, "gateNorm" in facts)
        return encoding.decode(weights, shape, check_rounding(facts["weights"]))
    except (TypeError, KeyError, ValueError) as error:
        raise ExportError(f"the file is not what was written: {error}") from None
