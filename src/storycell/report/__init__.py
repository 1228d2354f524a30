"""One offline HTML file: the frame that every report shares, and what fills it.

`page(title, sections)` gives the whole file as a string; `Section`, `Figure`, `embed_json` and `image` make what goes
in. `inspection_page` fills it with what `storycell inspect` found. Nothing is fetched: style, script, figures and
numbers are inside, and a content policy forbids the rest.
"""

from storycell.report.inspection import figures_of, inspection_page
from storycell.report.page import Figure, Section, embed_json, escaped, figure, image, page, plain, table, themed

__all__ = [
    "Figure",
    "Section",
    "embed_json",
    "escaped",
    "figure",
    "figures_of",
    "image",
    "inspection_page",
    "page",
    "plain",
    "table",
    "themed",
]
