"""Raw bytes of a file -> normalised blocks of stories -> stories.

In: an iterator of byte chunks, as they come from a disk or a decompressor, and the name to use in errors. Out: blocks
of UTF-8 that hold whole characters, lines ended by `\\n`, a byte order mark at the start dropped, and each separator
line replaced by the byte 0xFF (see `storycell.vocab`). Concatenated, the blocks are the text, wherever the chunks were
cut.

The surprising decision: nothing here looks at a character. Chunks are validated, cut and replaced by the C routines
behind `bytes`, which is what makes a gigabyte a matter of seconds.
"""

import codecs
import hashlib
from collections.abc import Iterable, Iterator
from itertools import pairwise

from storycell.errors import CorpusError
from storycell.vocab import BOUNDARY_BYTE, SEPARATOR

HASHED_BYTES = 4096
_SEPARATOR = SEPARATOR.encode()
_LINE = _SEPARATOR + b"\n"
_MARKS = (  # the marks of UTF-32 first: that of UTF-16 begins one of them
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONGEST_MARK = 4


def normalised(chunks: Iterable[bytes], name: str, encoding: str = "utf-8") -> Iterator[bytes]:
    """The blocks of one text: see the module. `CorpusError` names the text and the byte position of what is wrong."""
    chunks = _mark_in_one_chunk(chunks)
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    yield from _separated(_plain_ends(_validated(chunks, name) if is_utf8 else _decoded(chunks, name, encoding)))


def pieces(blocks: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Blocks cut at boundaries: (whether a story begins here, some of its bytes). Empty stories vanish."""
    begins = True
    for block in blocks:
        for k, piece in enumerate(block.split(BOUNDARY_BYTE)):
            begins = begins or k > 0
            if piece:
                yield begins, piece
                begins = False


def hashed_pieces(blocks: Iterable[bytes]) -> Iterator[tuple[int | None, bytes]]:
    """Pieces with the 64-bit hash of the story that begins there, None where one goes on.

    Hashed are its first 4,096 bytes, white space around them apart, so that a story at the end of a file, which may
    lack its last line end, has the hash that it has elsewhere.
    """
    held, goes_on = b"", False
    for begins, piece in pieces(blocks):
        if begins:
            if held:
                yield _hash(held), held
            held, goes_on = b"", False
        if goes_on:
            yield None, piece
            continue
        held += piece
        if len(held) >= HASHED_BYTES:
            yield _hash(held), held
            held, goes_on = b"", True
    if held:
        yield _hash(held), held


def _hash(start: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(start[:HASHED_BYTES].strip(), digest_size=8).digest(), "big")


def _mark_in_one_chunk(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, the first chunk long enough to hold any byte order mark."""
    rest = iter(chunks)
    first = b""
    for chunk in rest:
        first += chunk
        if len(first) >= _LONGEST_MARK:
            break
    yield first
    yield from rest


def _validated(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Chunks that end at a character, checked to be UTF-8 without NUL, the byte order mark dropped."""
    position, rest = 0, b""
    for chunk in chunks:
        block = rest + chunk
        _refuse_marks_and_nuls(block, name, position)
        whole = len(block) if block.isascii() else _whole_characters(block, name, position)
        block, rest = block[:whole], block[whole:]
        yield block.removeprefix(codecs.BOM_UTF8) if position == 0 else block
        position += whole
    if rest:
        raise CorpusError(_not_utf8(name, position))


def _whole_characters(block: bytes, name: str, position: int) -> int:
    """How many bytes of a block are whole characters; the few left begin one that the next block ends."""
    try:
        return codecs.utf_8_decode(block, "strict", False)[1]
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
    for chunk in _with_end(chunks):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
            block = text.removeprefix("\ufeff" if position == 0 else "").encode()
        except UnicodeError as error:
            at = position - pending + error.start if isinstance(error, UnicodeDecodeError) else position
            raise CorpusError(
                f"{name} cannot be read as {encoding}, from byte {at:,} on; try another --encoding"
            ) from None
        if b"\0" in block:
            raise CorpusError(f"{name} read as {encoding} holds NUL characters; try another --encoding")
        yield block
        position += len(chunk)


def _with_end(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks that hold something, and an empty one that says that the text has ended."""
    yield from filter(None, chunks)
    yield b""


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
    parts = block.split(_LINE)
    out = [parts[0]]
    for before, part in pairwise(parts):
        is_line = before.endswith(b"\n") or (not before and at_line_start)
        out += [BOUNDARY_BYTE if is_line else _LINE, part]
        at_line_start = True
    return b"".join(out)
