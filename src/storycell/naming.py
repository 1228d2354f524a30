"""Names of files and runs, which may hold any character at all, made fit to be shown.

In: a name as the system gives it. Out: one line of text that any file, figure or page can hold.
"""

import unicodedata

_NOT_SHOWN = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of pairs (bytes that are not UTF-8), line ends
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the order of writing
_REPLACEMENT = "\ufffd"


def show_name(name: str) -> str:
    """The name in one line, with U+FFFD for each character that is no text or changes the order of what follows."""
    return "".join(_REPLACEMENT if unicodedata.category(c) in _NOT_SHOWN or c in _TURNING else c for c in name)
