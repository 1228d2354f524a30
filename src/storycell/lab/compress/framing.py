r"""Bytes <-> segments of symbols, losslessly.

A `Frame` has the segments that the model reads, each from a zero state, and the few flags that normalisation would
lose. Text is seen as `eval` sees it: line ends are `\n`, a byte order mark is dropped, a separator line is the one id
that ends a story. A text without separators is cut into segments of equal length, so that they can be read side by
side; each costs one cold start.

Bytes that are not UTF-8 become lone surrogates (Python's `surrogateescape`), so every file is a string of code points,
and a symbol that the model does not know is an escape with its code point, whatever it is.
"""

import codecs
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.data.vocab import SEPARATOR, Vocabulary
from storycell.types import BOUNDARY, RESERVED, UNKNOWN

CODE_BITS = 21  # of an escaped code point
SEGMENT = 1 << 16  # symbols in a segment of a text without separators, at least
MOST_SEGMENTS = 64
MARK, CRLF, STORIES, ENDS_WITH_LINE, ENDS_BARE = 1, 2, 4, 8, 16  # flags of a frame

_END = -1  # no code point
_BARE = SEPARATOR
_LINE = SEPARATOR + "\n"
_SEPARATOR_LINE = re.compile("^" + re.escape(_LINE), re.MULTILINE)

Symbols = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Frame:
    """A piece of a file as the model reads it: symbols `[n]`, all segments after one another, and `escaped [unknown]`,
    the code points of the unknown ones."""

    flags: int
    symbols: Symbols
    escaped: Symbols
    segments: int

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How many symbols each segment has, `[segments]`."""
        if self.flags & STORIES:
            ends = np.flatnonzero(self.symbols == BOUNDARY) + 1
            return np.diff(ends, prepend=0)
        return even_lengths(len(self.symbols), self.segments)


def choose_segments(symbols: int) -> int:
    """Into how many segments a text without separators is cut."""
    return max(1, min(MOST_SEGMENTS, symbols // SEGMENT))


def even_lengths(symbols: int, segments: int) -> npt.NDArray[np.int64]:
    """The lengths `[segments]` of equal parts of a text without separators."""
    return np.diff(np.arange(segments + 1) * symbols // segments)


def frame(data: bytes, vocab: Vocabulary) -> Frame:
    """Bytes -> what the model reads."""
    flags, text = _normalise(data)
    if text == _BARE or text.endswith("\n" + _BARE):
        flags, text = flags | ENDS_BARE, text + "\n"
    stories = _SEPARATOR_LINE.split(text)
    if len(stories) == 1:
        symbols, escaped = _symbols(text, vocab)
        return Frame(flags, symbols, escaped, choose_segments(len(symbols)))
    flags |= STORIES
    if not stories[-1]:
        flags |= ENDS_WITH_LINE
        stories.pop()
    parts = [_symbols(story, vocab) for story in stories]
    end = np.array([BOUNDARY], dtype=np.int32)
    symbols = np.concatenate([one for ids, _ in parts for one in (ids, end)])
    return Frame(flags, symbols, np.concatenate([escaped for _, escaped in parts]), len(stories))


def unframe(framed: Frame, vocab: Vocabulary) -> bytes:
    """What the model read -> bytes; `ValueError` where no bytes give this frame."""
    if framed.flags & STORIES:
        codes = _codes_of(framed, vocab)
        ends = np.flatnonzero(codes == _END)
        stories = [_text(codes[a:b], vocab) for a, b in zip([0, *(ends[:-1] + 1)], ends, strict=True)]
        if framed.flags & ENDS_WITH_LINE:
            stories.append(b"")
        data = _encode(_LINE).join(stories)
        if framed.flags & ENDS_BARE:
            data = data[:-1]
    else:
        data = _text(_codes_of(framed, vocab), vocab)
    if framed.flags & CRLF:
        data = data.replace(b"\n", b"\r\n")
    return codecs.BOM_UTF8 * bool(framed.flags & MARK) + data


def _normalise(data: bytes) -> tuple[int, str]:
    flags = 0
    if data.startswith(codecs.BOM_UTF8):
        flags, data = MARK, data[len(codecs.BOM_UTF8) :]
    if b"\r\n" in data:
        plain = data.replace(b"\r\n", b"\n")
        if plain.replace(b"\n", b"\r\n") == data:
            flags, data = flags | CRLF, plain
    return flags, data.decode("utf-8", "surrogateescape")


def _symbols(text: str, vocab: Vocabulary) -> tuple[Symbols, Symbols]:
    """Ids `[n]`, never the boundary, and the code points of those that are `UNKNOWN`."""
    if vocab.kind == "bytes":
        ids = np.frombuffer(_encode(text), dtype=np.uint8).astype(np.int32) + RESERVED
        return ids, np.zeros(0, dtype=np.int32)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.int32)
    ids = vocab.ids_of_text(text).astype(np.int32)
    return ids, codes[vocab.spell(ids) == UNKNOWN]


def _codes_of(framed: Frame, vocab: Vocabulary) -> Symbols:
    """The code point (or byte) of every character, `[chars]`; of a boundary `_END`."""
    table = np.array([_END, 0, *map(ord, vocab.characters)], dtype=np.int32)
    characters = vocab.spell(framed.symbols)
    codes: Symbols = table[characters]
    codes[characters == UNKNOWN] = framed.escaped
    return codes


def _text(codes: Symbols, vocab: Vocabulary) -> bytes:
    if vocab.kind == "bytes":
        return codes.astype(np.uint8).tobytes()
    return _encode(codes.tobytes().decode("utf-32-le", "surrogatepass"))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
