"""Names of files and runs, which may hold any character at all, made fit to be shown; facts as a notebook shows them.

In: a name as the system gives it. Out: one line of text that any file, figure or page can hold.
"""

import html
import unicodedata
from collections.abc import Mapping

_NOT_SHOWN = {"Cc", "Cs", "Zl", "Zp"}  # control characters, surrogates (bytes that are not UTF-8), line ends
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the order of writing
_REPLACEMENT = "\ufffd"


def show_name(name: str) -> str:
    """The name in one line, with U+FFFD for each character that is no text or changes the order of what follows."""
    return "".join(_REPLACEMENT if unicodedata.category(c) in _NOT_SHOWN or c in _TURNING else c for c in name)


def show_facts(title: str, facts: Mapping[str, object]) -> str:
    """A small table in HTML, which needs no style or script of a page's: numbers with thousands, to four places."""

    def shown(value: object) -> str:
        if isinstance(value, float):
            return f"{value:,.4f}"
        return f"{value:,}" if isinstance(value, int) else html.escape(show_name(str(value)))

    left = "style='text-align:left'"
    rows = "".join(f"<tr><td {left}>{html.escape(k)}</td><td {left}>{shown(v)}</td></tr>" for k, v in facts.items())
    return f"<table><caption {left}><b>{html.escape(show_name(title))}</b></caption>{rows}</table>"
