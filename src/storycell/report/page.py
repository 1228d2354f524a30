"""What every page is made of: Jinja templates -> one HTML file that opens from disk, on a phone and in the dark.

A page is a template that extends `report/page.html`: it sets `title` and `sections` (block -> heading, in order) and
has a block for each. Templates are named by their path in the package, all that they print is escaped, and a name that
they do not know is an error. Figures are inline SVG in the colours of the theme; the page's script can save each as
SVG, PNG, or the JSON of its numbers.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from storycell import loss
from storycell.atomic import write_atomically
from storycell.runs import files
from storycell.web import names, theme


@dataclass(frozen=True)
class Figure:
    """A drawing with its numbers. `alt` says in words what it shows, to those who cannot see it."""

    name: str  # letters, digits, hyphens: the id in the page and the name of a saved file
    svg: str
    alt: str
    caption: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A cell of a table that has attributes; any other is its text alone."""

    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@cache
def environment() -> Environment:
    """What all templates are read and rendered with."""
    made = Environment(
        loader=FunctionLoader(theme.read),  # not PackageLoader: a package that is being edited may lie in two folders
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    made.globals |= {
        "inf": math.inf,
        "nan": math.nan,
        "css": lambda *paths: Markup(theme.css(*paths)),
        "script": lambda *paths: Markup(theme.script(*paths)),
        "embed_json": embed_json,
        "inline_svg": inline_svg,
        "in_order": names.in_order,
        "name_of": names.name_of,
    }
    made.filters |= {
        "number": format,  # {{ x | number(".3f") }}
        "bits": loss.bits_per_char,
        "plus_minus": loss.plus_minus,  # {{ mean | plus_minus(error, ".3f") }}
    }
    return made


def render(template: str, **values: Any) -> Markup:
    """A template of the package as HTML that can be encoded: half a surrogate pair, as in odd file names, is U+FFFD."""
    html = environment().get_template(template).render(values)
    return Markup(html.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def embed_json(name: str, data: Any) -> Markup:
    """A script element that holds JSON; no text inside can end it, whatever it is. Not finite becomes null."""
    text = json.dumps(files.plain(data), separators=(",", ":"), ensure_ascii=False)
    text = re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(text))


def inline_svg(figure: Figure) -> Markup:
    """The drawing as an element of the page: ids its own, colours the page's."""
    text = figure.svg[figure.svg.index("<svg") :].strip()
    text = re.sub(r"\b(id=\"|href=\"#|url\(#)", lambda m: f"{m[1]}{figure.name}-", text)
    return Markup(theme.with_variables(text))


def write_page(path: Path, html: str) -> None:
    """Write an HTML file; its folder is made if need be."""
    with files.writing(path, files.OTHER_OUT):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, html.encode())
