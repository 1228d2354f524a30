"""One offline HTML file: the frame that every report shares, and what fills it.

`page(title, sections)` gives the whole file as a string; `Section`, `Figure`, `embed_json` and `image` make what goes
in. Nothing in it is fetched: style, script, figures and numbers are inside, and a content policy forbids the rest.
"""

from storycell.report.page import Figure, Section, embed_json, escaped, figure, image, page, table, themed

__all__ = ["Figure", "Section", "embed_json", "escaped", "figure", "image", "page", "table", "themed"]
