"""The file format around compressed blocks.

    "SCZ" 1              magic and version; 2 where the prediction was adapted
    model      8 bytes   digest of weights, settings and vocabulary
    arithmetic 8 bytes   digest of what the step computes on this machine
    n-gram     8 bytes   of version 2 only: digest of the n-gram of the training text; zeros where there was none
    blocks               1 + sizes + words of the range coder, or 2 + sizes + deflated bytes
    0                    the end
    check     16 bytes   digest of the original bytes
    crc        4 bytes   CRC-32 of everything before

Two checks end the file. The CRC tells in a moment whether the file is damaged; the digest of the original proves, when
all is decoded, that nothing is wrong, whatever went wrong on the way.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import IO, Protocol

from storycell.data.vocab import Vocabulary
from storycell.errors import CodecError
from storycell.lab.compress import fingerprint, framing
from storycell.lab.compress.coder import Adaptation
from storycell.lab.compress.framing import Frame
from storycell.language_model import LanguageModel
from storycell.runs.machine import instruction_set, versions

PLAIN, ADAPTED = b"SCZ\x01", b"SCZ\x02"
BLOCK_BYTES = 8 << 20  # of the original in one block, at most
CODED, DEFLATED, END = 1, 2, 0
CHECK_BYTES = 16
_TAIL_BYTES = 4  # the CRC
_DIGEST = fingerprint.BYTES
_DEFLATED = struct.Struct("<II")
_CODED = struct.Struct("<IIBII")


class Sink(Protocol):
    """Where blocks are written."""

    def write(self, data: bytes, /) -> object:
        """Append to it."""


@dataclass(frozen=True)
class BlockHead:
    """What stands before the payload of a block."""

    raw_bytes: int  # of the original
    payload_bytes: int
    flags: int = 0
    symbols: int = 0
    segments: int = 0


@dataclass(frozen=True)
class Head:
    """What a file starts with."""

    model: bytes
    arithmetic: bytes
    ngram: bytes | None = None  # None where nothing was adapted

    def __bytes__(self) -> bytes:
        return (PLAIN if self.ngram is None else ADAPTED) + self.model + self.arithmetic + (self.ngram or b"")

    @property
    def is_adapted(self) -> bool:
        """Whether the model's prediction was adapted to the text."""
        return self.ngram is not None

    @property
    def needs_ngram(self) -> bool:
        """Whether it was mixed with the n-gram of the training text, too."""
        return self.ngram is not None and any(self.ngram)


def head(lm: LanguageModel, vocab: Vocabulary, adaptation: Adaptation | None = None) -> Head:
    """What a file starts with that is made here."""
    ngram = None
    if adaptation is not None:
        ngram = bytes(_DIGEST) if adaptation.ngram is None else fingerprint.of_ngram(adaptation.ngram)
    return Head(fingerprint.of_model(lm, vocab), fingerprint.of_arithmetic(lm, adaptation), ngram)


def check_head(found: Head, name: str, lm: LanguageModel, vocab: Vocabulary, adaptation: Adaptation | None) -> None:
    """Refuse a file that another model, n-gram, or other arithmetic, wrote."""
    here = head(lm, vocab, adaptation)
    if found.model != here.model:
        raise CodecError(f"{name} was compressed with another model; decompress it with the run that it was made with")
    if found.ngram != here.ngram:
        raise CodecError(
            f"{name} was compressed with the n-gram of another training text than the run's is now; put the text back "
            "as it was"
        )
    if found.arithmetic != here.arithmetic:
        place = f"backend {lm.backend}, {instruction_set()} here; {', '.join(map(' '.join, versions().items()))}"
        raise CodecError(
            f"{name} was compressed where the model's arithmetic differs ({place}); decompress it on the machine, with "
            "the versions and the --backend it was made with"
        )


def read_head(file: IO[bytes], name: str) -> Head:
    """The head of a file, after its CRC has been found right; the file stands at its first block."""
    magic = file.read(len(PLAIN))
    if not magic.startswith(PLAIN[:3]):
        raise CodecError(f"{name} is not a file that `storycell compress` wrote")
    if magic not in (PLAIN, ADAPTED):
        raise CodecError(f"{name} was written by another version of storycell, in a format this one does not know")
    file.seek(0)
    crc, held = 0, b""
    while chunk := file.read(1 << 20):
        held += chunk
        crc, held = zlib.crc32(held[:-_TAIL_BYTES], crc), held[-_TAIL_BYTES:]
    if held != struct.pack("<I", crc):
        raise CodecError(f"{name} is truncated or damaged: its CRC is wrong; copy it again")
    file.seek(len(PLAIN))
    digests = [file.read(_DIGEST) for _ in range(2 if magic == PLAIN else 3)]
    return Head(*digests)


def write_deflated(raw: bytes, file: Sink) -> None:
    """A block that the model would not make smaller."""
    payload = zlib.compress(raw, 9)
    file.write(bytes([DEFLATED]) + _DEFLATED.pack(len(raw), len(payload)) + payload)


def write_coded(raw_bytes: int, framed: Frame, payload: bytes, file: Sink) -> None:
    """A block that the model has read."""
    sizes = _CODED.pack(raw_bytes, len(payload), framed.flags, len(framed.symbols), framed.segments)
    file.write(bytes([CODED]) + sizes + payload)


def read_block_head(file: IO[bytes]) -> tuple[int, BlockHead]:
    """The kind of the next block, and its sizes, within bounds; `CodecError` if they are not."""
    kind = file.read(1)
    if kind == bytes([END]):
        return END, BlockHead(0, 0)
    if kind not in (bytes([CODED]), bytes([DEFLATED])):
        raise CodecError("it holds a block of no known kind")
    layout = _CODED if kind[0] == CODED else _DEFLATED
    sizes = file.read(layout.size)
    if len(sizes) < layout.size:
        raise CodecError("it ends inside a block")
    block = BlockHead(*layout.unpack(sizes))
    most = block.raw_bytes + 1
    if not 0 < block.raw_bytes <= BLOCK_BYTES or block.payload_bytes > 2 * BLOCK_BYTES:
        raise CodecError("it holds a block of an impossible size")
    if kind[0] == CODED and not 0 < block.segments <= block.symbols <= most:
        raise CodecError("it holds a block with impossible counts")
    if block.flags >= 2 * framing.ENDS_BARE:
        raise CodecError("it holds a block with flags that this version does not know")
    return kind[0], block


def inflate(payload: bytes, raw_bytes: int) -> bytes:
    """The original of a deflated block: never more than `raw_bytes`."""
    try:
        return zlib.decompressobj().decompress(payload, raw_bytes)
    except zlib.error as error:
        raise CodecError(f"a block cannot be inflated ({error})") from None
