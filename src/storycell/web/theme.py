"""The colours of `theme.css` for figures, and the style sheets and scripts of this folder as text to put into a page.

The scripts are ES modules, so that an editor and node read them as they are. A page gets one classic script in which
each module stands once, after those that it imports; the modules of a page therefore share one name space.
"""

import json
import re
from functools import cache
from importlib import resources

_COLOUR = re.compile(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
_IMPORT = re.compile(r'^import (?:\{[^}]*\}|(\w+)) from "([^"]+)"(?: with \{ type: "json" \})?;\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const |let |async function|function|class )", re.MULTILINE)


@cache
def _colours() -> tuple[dict[str, str], dict[str, str]]:
    found = _COLOUR.findall(css())
    return {name: light for name, light, _ in found}, {name: dark for name, _, dark in found}


def css(*paths: str) -> str:
    """The theme, then style sheets of the package: `css("web/story.css", "report/page.css")`."""
    return "\n".join(read(path) for path in ("web/theme.css", *paths))


def script(*paths: str) -> str:
    """Modules of the package, `script("report/page.js")`, and all that they import, as one classic script."""
    texts: dict[str, str] = {}
    for path in paths:
        _gather(path, texts)
    return '"use strict";\n' + "\n".join(texts.values())


def tunes_script() -> str:
    """What shows and plays the tunes of a page: abcjs and `tunes.js`, in a name space of their own."""
    return f"{read('web/abcjs.js')}(() => {{\n{script('web/tunes.js')}}})();\n"


def _gather(path: str, texts: dict[str, str]) -> None:
    text = read(path)
    for default, target in _IMPORT.findall(text):
        imported = _resolve(path, target)
        if imported in texts:
            continue
        if default:
            texts[imported] = f"const {default} = {json.dumps(json.loads(read(imported)), ensure_ascii=False)};\n"
        else:
            _gather(imported, texts)
    texts[path] = _EXPORT.sub("", _IMPORT.sub("", text))


def _resolve(path: str, target: str) -> str:
    """Where an import of the module at `path` leads, relative to the package."""
    parts = path.split("/")[:-1]
    for step in target.split("/"):
        if step == "..":
            parts.pop()
        elif step != ".":
            parts.append(step)
    return "/".join(parts)


def read(path: str) -> str:
    """A file of the package, `read("export/page.html")`."""
    return resources.files("storycell").joinpath(*path.split("/")).read_text(encoding="utf-8")


LIGHT, DARK = _colours()
"""Colours by the name of their variable, `LIGHT["blue"]`, as `#rrggbb`. Figures are drawn in the light ones."""
SERIES = tuple(LIGHT[name] for name in ("blue", "orange", "green", "pink", "yellow", "ink", "muted"))
"""What the curves of a figure take in turn."""
BLUE, ORANGE, GREEN, PINK, YELLOW, INK, GREY = SERIES
LINE = LIGHT["line"]

_VARIABLES = {
    "#000000": "var(--ink)",  # what matplotlib draws with, unasked
    "#ffffff": "var(--paper)",
    **{LIGHT[name]: f"var(--{name})" for name in ("ink", "muted", "line", "blue", "orange", "green", "pink", "yellow")},
}


def with_variables(svg: str) -> str:
    """A drawing in which the theme's light colours are its variables, so that it follows the page into the dark."""
    return re.sub("|".join(_VARIABLES), lambda found: _VARIABLES[found[0].lower()], svg, flags=re.IGNORECASE)
