"""Raw bytes of a file -> normalised blocks of stories.

In: an iterator of byte chunks, as they come from a disk or a decompressor, and the name to use in errors. Out: blocks
of UTF-8 that hold whole characters, lines ended by `\\n`, a byte order mark at the start dropped, and each separator
line replaced by the byte 0xFF (see `storycell.vocab`). Concatenated, the blocks are the text.

The surprising decision: nothing here looks at a character. Chunks are validated, cut and replaced by the C routines
behind `bytes`, which is what makes a gigabyte a matter of seconds.
"""

import codecs
from collections.abc import Iterable, Iterator
from itertools import pairwise

from storycell.errors import CorpusError
from storycell.vocab import BOUNDARY_BYTE, SEPARATOR

_SEPARATOR = SEPARATOR.encode()
_LINE = _SEPARATOR + b"\n"
_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def normalised(chunks: Iterable[bytes], name: str, encoding: str = "utf-8") -> Iterator[bytes]:
    """The blocks of one text: see the module. `CorpusError` names the text and the byte position of what is wrong."""
    if codecs.lookup(encoding).name == "utf-8":
        yield from _separated(_plain_ends(_validated(chunks, name)))
    else:
        yield from _separated(_plain_ends(_decoded(chunks, name, encoding)))


def _validated(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Chunks that end at a character, checked to be UTF-8 without NUL, the byte order mark dropped."""
    position, rest = 0, b""
    for chunk in chunks:
        block = rest + chunk
        _refuse_marks_and_nuls(block, name, position)
        rest = b""
        if not block.isascii():
            valid = codecs.utf_8_decode(block, "surrogateescape", False)[1]
            block, rest = block[:valid], block[valid:]
            _refuse_invalid(block, name, position)
        consumed = len(block)
        if position == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
        position += consumed
        yield block
    if rest:
        raise CorpusError(_not_utf8(name, position))


def _refuse_invalid(block: bytes, name: str, position: int) -> None:
    try:
        block.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(_not_utf8(name, position + error.start)) from None


def _not_utf8(name: str, position: int) -> str:
    return (
        f"{name} is not UTF-8: invalid byte at position {position:,}; name its encoding, for example --encoding latin-1"
    )


def _refuse_marks_and_nuls(block: bytes, name: str, position: int) -> None:
    if position == 0:
        for mark, encoding in _MARKS:
            if block.startswith(mark):
                raise CorpusError(f"{name} is {encoding.upper()}, not UTF-8; read it with --encoding {encoding}")
    if b"\0" in block:
        at = position + block.index(b"\0")
        raise CorpusError(f"{name} looks binary (a NUL byte at position {at:,}); give a text file")


def _decoded(chunks: Iterable[bytes], name: str, encoding: str) -> Iterator[bytes]:
    """Chunks of another encoding as UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)()
    position = 0
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).removeprefix("\ufeff" if position == 0 else "").encode()
            position += len(chunk)
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError:
        raise CorpusError(
            f"{name} cannot be read as {encoding}: see byte {position:,} and after; try another --encoding"
        ) from None


def _plain_ends(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Every line end, `\\r\\n` and `\\r` too, as `\\n`."""
    held = b""
    for chunk in blocks:
        block = held + chunk
        held = b""
        if b"\r" in block:
            if block.endswith(b"\r"):
                block, held = block[:-1], b"\r"
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield block
    if held:
        yield b"\n"


def _separated(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Separator lines as the boundary byte. A line that may still become a separator is held back."""
    held, at_line_start = b"", True
    for chunk in blocks:
        block = held + chunk
        end = block.rfind(b"\n") + 1
        block, held = block[:end], block[end:]
        if block:
            yield _replaced(block, at_line_start)
            at_line_start = True
        if held and not (at_line_start and _SEPARATOR.startswith(held)):
            yield held
            held, at_line_start = b"", False
    if held:
        yield BOUNDARY_BYTE if held == _SEPARATOR else held


def _replaced(block: bytes, at_line_start: bool) -> bytes:
    """A block that ends with a line end, its separator lines replaced."""
    if _LINE not in block:
        return block
    pieces = block.split(_LINE)
    out = [pieces[0]]
    for before, piece in pairwise(pieces):
        is_line = before.endswith(b"\n") or (not before and at_line_start)
        out += [BOUNDARY_BYTE if is_line else _LINE, piece]
        at_line_start = True
    return b"".join(out)
