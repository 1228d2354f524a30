"""Which column of a table, or field of JSON objects, holds the text.

In: the names there are, and the one that the user gave, if any. Out: one name; a `CorpusError` lists them where it is
not clear.
"""

from collections.abc import Sequence

from storycell.errors import CorpusError

KNOWN = (
    "text", "story", "content", "body", "document", "passage", "article", "sentence", "lyrics", "poem", "quote",
    "review", "comment", "message", "tweet",
)  # fmt: skip
_SHOWN = 20
_SHOWN_CHARS = 30


def clear_column(names: Sequence[str]) -> str | None:
    """The name that says that it is the text: `text`, or the only one of those that are usual."""
    usual = [name for name in names if name.strip().lower() in KNOWN]
    texts = [name for name in usual if name.strip().lower() == "text"]
    found = texts or usual
    return found[0] if len(found) == 1 else None


def no_column(name: str, what: str, names: Sequence[str], wanted: str | None) -> CorpusError:
    """The error about a table whose text is in none of its columns, as far as one can see."""
    shown = ", ".join(" ".join(n.split())[:_SHOWN_CHARS] for n in names[:_SHOWN]) + (
        ", …" if len(names) > _SHOWN else ""
    )
    why = f"without a column {wanted!r}" if wanted else "and which of its columns is the text is not clear"
    return CorpusError(
        f"{name} is {what} {why} ({shown or 'it has none'}): name it with --column NAME, or by its number where the "
        "first record of a table names none; --column '' learns the file as it lies"
    )
