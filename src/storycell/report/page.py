"""The frame of a report: title, sections, figures -> one HTML file that opens from disk, on a phone and in the dark.

Titles are plain text, bodies HTML (use `escaped` for text that is not yours). Figures are inline SVG whose colours are
replaced by the page's own CSS variables, so one drawing serves light and dark; the page's script can save each as SVG,
PNG, or the JSON of its numbers. Pages and JSON are written to disk atomically.
"""

import base64
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from storycell.runs import files

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
_COLOURS = {  # what plots draw with -> the page's variables
    "#000000": "var(--ink)",
    "#111111": "var(--ink)",
    "#ffffff": "var(--paper)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--orange)",
    "#009e73": "var(--green)",
    "#cc79a7": "var(--pink)",
    "#e69f00": "var(--yellow)",
    "#888888": "var(--muted)",
    "#b0b0b0": "var(--line)",
}


@dataclass(frozen=True)
class Section:
    """A titled part of a page; `body` is HTML, `id` its address (`#id`), made from the title if left out."""

    title: str
    body: str
    id: str = ""

    @property
    def anchor(self) -> str:
        """What the table of contents links to."""
        return self.id or re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Figure:
    """A drawing with its numbers. `alt` says in words what it shows, to those who cannot see it."""

    name: str  # letters, digits, hyphens: the id in the page and the name of a saved file
    svg: bytes | str
    alt: str
    caption: str = ""  # HTML
    numbers: Mapping[str, Any] = field(default_factory=dict)


def page(
    title: str,
    sections: Sequence[Section],
    *,
    lead: str = "",
    data: Mapping[str, Any] | None = None,
    style: str = "",
    script: str = "",
) -> str:
    """The whole file. `lead` is HTML under the title; `data` become JSON scripts by id, before `script` runs."""
    contents = "".join(f'<li><a href="#{s.anchor}">{escaped(s.title)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title">'
        f'<h2 id="{s.anchor}-title">{escaped(s.title)}</h2>{s.body}</section>\n'
        for s in sections
    )
    embedded = "\n".join(embed_json(name, value) for name, value in (data or {}).items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escaped(title)}</title>
<style>
{_resource("page.css")}{style}
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the text</a>
<nav aria-label="Contents"><ol>{contents}</ol><button type="button" id="theme">Dark or light</button></nav>
<main id="main">
<header><h1>{escaped(title)}</h1>{lead}</header>
{body}</main>
{embedded}
<script>
{_resource("page.js")}{script}
</script>
</body>
</html>
"""


def escaped(text: object) -> str:
    """Text as HTML, safe inside elements and attributes."""
    return html.escape(str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def embed_json(name: str, data: Any) -> str:
    """A script element that holds JSON; no text inside can end it, whatever it is. Not finite becomes null."""
    text = json.dumps(plain(data), separators=(",", ":"), ensure_ascii=False)
    text = re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    return f'<script type="application/json" id="{escaped(name)}">{text}</script>'


def plain(value: Any) -> Any:
    """Arrays as lists, numbers that JSON has not as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def figure(drawn: Figure) -> str:
    """A figure with its caption, and buttons that save it as SVG, PNG and JSON."""
    name = escaped(drawn.name)
    kinds = ["svg", "png", *(["json"] if drawn.numbers else [])]
    buttons = " ".join(
        f'<button type="button" data-save="{kind}" aria-label="Save {name} as {kind.upper()}">{kind.upper()}</button>'
        for kind in kinds
    )
    numbers = embed_json(f"numbers-{drawn.name}", drawn.numbers) if drawn.numbers else ""
    svg = themed(drawn.svg, drawn.name)
    return (
        f'<figure id="figure-{name}" data-name="{name}"><div class="drawing" role="img" tabindex="0" '
        f'aria-label="{escaped(drawn.alt)}">{svg}</div>'
        f'<figcaption>{drawn.caption} <span class="save">{buttons}</span></figcaption>{numbers}</figure>'
    )


def themed(svg: bytes | str, name: str) -> str:
    """An SVG file as an element of the page: ids its own, colours the page's."""
    text = svg.decode() if isinstance(svg, bytes) else svg
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"\b(id=\"|href=\"#|url\(#)", lambda m: f"{m[1]}{name}-", text)
    return re.sub("|".join(_COLOURS), lambda m: _COLOURS[m[0].lower()], text, flags=re.IGNORECASE)


def image(data: bytes, alt: str, kind: str = "image/png") -> str:
    """A picture inside the page, as a data address."""
    return f'<img alt="{escaped(alt)}" src="data:{kind};base64,{base64.b64encode(data).decode()}">'


class Html(str):
    """A cell of a table that is HTML already."""

    __slots__ = ()


def table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table of text (or `Html`); numbers stand to the right; the first column names the row."""
    top = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{escaped(row[0])}</th>{"".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    about = f"<caption>{escaped(caption)}</caption>" if caption else ""
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escaped(caption or "table")}"><table>{about}'
        f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _cell(content: object) -> str:
    return content if isinstance(content, Html) else escaped(content)


def _resource(name: str) -> str:
    return (resources.files("storycell") / "report" / name).read_text(encoding="utf-8")


def write_page(path: Path, html: str) -> None:
    """Write an HTML file; its folder is made if need be."""
    _write(path, html.encode())


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file; numbers that are not finite become null."""
    _write(path, (json.dumps(plain(data), indent=1) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    with files.writing(path, "free space, or name another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, data)
