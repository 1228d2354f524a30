r"""Raw bytes of a file -> normalised blocks.

A block is UTF-8 that holds whole characters, with lines ended by `\n`, a byte order mark at the start dropped, and each
separator line replaced by the byte 0xFF (see `storycell.data.vocab`). Concatenated, the blocks are the text, wherever
the chunks were cut. Behind every block there is a `Place` from which reading can go on later.

Nothing here looks at single characters: chunks are validated, cut and replaced by the C routines behind `bytes`, which
is what makes a gigabyte a matter of seconds.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from storycell.data import encodings
from storycell.data.vocab import BOUNDARY_BYTE, SEPARATOR
from storycell.errors import CorpusError
from storycell.types import LABEL_END

_SEPARATOR = SEPARATOR.encode()
_LINE = _SEPARATOR + b"\n"
LONGEST_RECORD_BYTES = 16 << 20  # of a table or of JSON values, which may take 40 times as much when it is parsed
LONGEST_LABEL = 200  # characters
_LONGEST_MARK = 4
_LOOKED_AT = 1 << 15  # bytes before and after an invalid one, to tell the encoding by


class Place(NamedTuple):
    """Where reading can go on, with nothing from before it needed but this."""

    offset: int = 0  # bytes of the unpacked text before it (of another encoding: as UTF-8)
    lines: int = 0  # JSON lines before it
    at_line_start: bool = True


START = Place()


class Bookmark:
    """Where a text is to be read from; after each block, the place behind it."""

    def __init__(self, place: Place = START) -> None:
        self.place = place


class Reader(Protocol):
    """Turns chunks into blocks. `place` is behind what it has given so far."""

    place: Place

    def feed(self, chunk: bytes, final: bool = False) -> bytes:
        """What can be said of the text so far and was not said before; `final` says that it ends here."""


def read_on(reader: Reader, chunks: Iterable[bytes], bookmark: Bookmark) -> Iterator[bytes]:
    """The blocks of the chunks, the bookmark always behind the last one. None of them is empty."""
    for chunk in chunks:
        if block := reader.feed(chunk):
            bookmark.place = reader.place
            yield block
    block = reader.feed(b"", final=True)
    bookmark.place = reader.place
    if block:
        yield block


def normalise(chunks: Iterable[bytes], name: str, encoding: str = "utf-8") -> Iterator[bytes]:
    """The blocks of one text: see the module. `CorpusError` names the text and the byte position of what is wrong."""
    chunks = chunks if is_utf8(encoding) else decode(chunks, name, encoding)
    yield from read_on(TextReader(name), chunks, Bookmark())


def after(chunks: Iterable[bytes], offset: int) -> Iterator[bytes]:
    """The bytes behind the first `offset` of them."""
    for chunk in chunks:
        yield chunk[offset:]
        offset = max(0, offset - len(chunk))


def is_utf8(encoding: str) -> bool:
    """Whether it is one of the names of UTF-8."""
    return codecs.lookup(encoding).name == "utf-8"


class TextReader:
    """Chunks of UTF-8, cut anywhere -> normalised blocks.

    Held back is only what the next chunk may change: a character or a byte order mark that is not whole, a `\\r`, and a
    line that may become a separator. So a place needs no more than an offset and whether a line begins there.
    """

    def __init__(self, name: str, place: Place = START) -> None:
        self.name, self.place = name, place
        self._held = b""

    def feed(self, chunk: bytes, final: bool = False) -> bytes:
        """As `Reader.feed`; `CorpusError` if the bytes are not text."""
        data = self._held + chunk
        offset, _, at_line_start = self.place
        if offset == 0:
            if len(data) < _LONGEST_MARK and not final:
                self._held = data
                return b""
            refuse_marks(data, self.name)
            offset = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
            data = data[offset:]
        end = self._settled_length(data, offset, at_line_start, final)
        self._held, data = data[end:], data[:end]
        ends_line = data.endswith((b"\n", b"\r")) if data else at_line_start
        self.place = Place(offset + end, 0, ends_line)
        return _mark_separators(_plain_ends(data), at_line_start, final)

    def _settled_length(self, data: bytes, offset: int, at_line_start: bool, final: bool) -> int:
        """How many of the bytes no later one can change."""
        if b"\0" in data:
            at = offset + data.index(b"\0")
            raise CorpusError(_binary(self.name, at, data))
        end = len(data) if data.isascii() else self._whole_characters(data, offset)
        if final:
            if end < len(data):
                raise CorpusError(not_utf8(self.name, offset + end, data, end))
            return end
        if data.endswith(b"\r", 0, end):
            end -= 1
        line = max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end)) + 1
        is_line = line > 0 or at_line_start
        return line if is_line and _SEPARATOR.startswith(data[line : min(end, line + len(_LINE))]) else end

    def _whole_characters(self, data: bytes, offset: int) -> int:
        """How many bytes are whole characters; the few left begin one that the next chunk ends."""
        try:
            return codecs.utf_8_decode(data, "strict", False)[1]
        except UnicodeDecodeError as error:
            raise CorpusError(not_utf8(self.name, offset + error.start, data, error.start)) from None


class LinesReader(TextReader):
    """The same, where each line is a story."""

    def feed(self, chunk: bytes, final: bool = False) -> bytes:
        """As `Reader.feed`."""
        return super().feed(chunk, final).replace(b"\n", BOUNDARY_BYTE)


def with_header(values: Sequence[object], block: bytes, name: str) -> bytes:
    """A block of stories that each begin with their labels; without labels, as it is.

    Blanks in a value are single spaces. `CorpusError` where one is no text or number, or takes more than a line.
    """
    if not values:
        return block
    header = b""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise CorpusError(f"{name}: a label must be a text or a number, not {str(value)[:40]!r}")
        text = "" if value is None else " ".join(str(value).replace(LABEL_END, " ").split())
        if len(text) > LONGEST_LABEL:
            raise CorpusError(
                f"{name}: the label {text[:40]!r}… has more than {LONGEST_LABEL} characters; is it a label?"
            )
        header += text.encode() + LABEL_END.encode()
    stories = block.replace(LABEL_END.encode(), b" ").split(BOUNDARY_BYTE)
    return BOUNDARY_BYTE.join(header + story if story.strip() else story for story in stories)


def not_utf8(name: str, position: int, data: bytes, at: int) -> str:
    """What to say of a text with an invalid byte at a position, which is that number `at` of some data."""
    said = f"{name} is not UTF-8: invalid byte at position {position:,}; "
    start = max(data.rfind(b"\n", 0, at) + 1, at - _LOOKED_AT)
    around = data[start : at + _LOOKED_AT]
    if encodings.is_mostly_utf8(around):
        return said + "the rest is UTF-8, so it is damaged: copy it again, or mend it with `iconv -c -f utf-8 -t utf-8`"
    likely = encodings.likely(around)
    if likely is None:
        return said + "name its encoding with --encoding, or give a text file"
    return said + f"it is likely {likely}, to be read with --encoding {likely}"


def _binary(name: str, position: int, data: bytes) -> str:
    """What to say of a text with a NUL byte at a position."""
    if likely := encodings.guess_utf16_or_32(data):
        return f"{name} is likely {likely.upper()} without a mark, not UTF-8; read it with --encoding {likely}"
    return f"{name} looks binary (a NUL byte at position {position:,}); give a text file"


def refuse_marks(data: bytes, name: str) -> None:
    """`CorpusError` if a text begins with the mark of another encoding than UTF-8."""
    if encoding := encodings.find_byte_order_mark(data):
        raise CorpusError(f"{name} is {encoding.upper()}, not UTF-8; read it with --encoding {encoding}")


def decode(chunks: Iterable[bytes], name: str, encoding: str) -> Iterator[bytes]:
    """Chunks of another encoding as UTF-8; `CorpusError` says from which byte on it cannot be read."""
    decoder = codecs.getincrementaldecoder(encoding)()
    windows = encodings.instead_of(encoding)
    position = 0
    for chunk in _with_end(chunks):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
            block = text.encode()
        except UnicodeError as error:
            at = position - pending + error.start if isinstance(error, UnicodeDecodeError) else position
            raise CorpusError(
                f"{name} cannot be read as {encoding}, from byte {at:,} on; try another --encoding"
            ) from None
        if b"\0" in block:
            better = encodings.find_byte_order_mark(chunk) or encodings.guess_utf16_or_32(chunk)
            raise CorpusError(
                f"{name} read as {encoding} holds NUL characters; "
                + (f"it is likely --encoding {better}" if better else "try another --encoding")
            )
        if windows and (control := encodings.CONTROLS.search(text)):
            raise CorpusError(
                f"{name} read as {encoding} holds control characters (U+{ord(control[0]):04X}, from byte "
                f"{position + control.start():,} on); it is likely --encoding {windows}, which has letters and "
                "quotation marks there"
            )
        yield block
        position += len(chunk)


def _with_end(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks that hold something, and an empty one that says that the text has ended."""
    yield from filter(None, chunks)
    yield b""


def _plain_ends(data: bytes) -> bytes:
    """Every line end, `\\r\\n` and `\\r` too, as `\\n`."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _mark_separators(block: bytes, at_line_start: bool, final: bool) -> bytes:
    """A block with its separator lines as the boundary byte; the last line of a text may lack its end."""
    if _SEPARATOR not in block:
        return block
    if final and block.endswith(_SEPARATOR):
        before = block.removesuffix(_SEPARATOR)
        if before.endswith(b"\n") or (not before and at_line_start):
            block = before + _LINE
    parts = block.split(_LINE)
    out = [parts[0]]
    for before, part in pairwise(parts):
        is_line = before.endswith(b"\n") or (not before and at_line_start)
        out += [BOUNDARY_BYTE if is_line else _LINE, part]
        at_line_start = True
    return b"".join(out)
