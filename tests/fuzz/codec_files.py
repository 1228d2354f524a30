"""Files to decompress that `compress` may not have written, and any bytes there and back.

An input is what to do and the bytes: decompress them as they are, decompress them as the blocks of a file whose head
and CRC are right, or compress them with a vocabulary of characters or of bytes and get them back.
"""

import io
import struct
import zlib

from support.tiny_runs import TEXT

from fuzz import refusing
from storycell.data.vocab import BYTES, Vocabulary
from storycell.lab.compress import archive, container
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM

CHARACTERS = Vocabulary("".join(sorted(set(TEXT))))
MODELS = {
    vocab: TorchModel(CharLM(len(vocab), 8, 1, embedding_size=4, backend="torch", seed=1))
    for vocab in (CHARACTERS, BYTES)
}


def _packed(data: bytes, vocab: Vocabulary = CHARACTERS) -> bytes:
    sink = io.BytesIO()
    archive.compress(MODELS[vocab], vocab, io.BytesIO(data), sink)
    return sink.getvalue()


def _original(packed: bytes, vocab: Vocabulary = CHARACTERS) -> bytes:
    sink = io.BytesIO()
    archive.decompress(MODELS[vocab], vocab, io.BytesIO(packed), sink, "the file")
    return sink.getvalue()


SAMPLE = "Once upon a time Ann had 4 “red” balls.\r\n<|endoftext|>\r\n\ufeffé\0".encode()
LONGEST = 256  # bytes of an input: every character is a step of the model, there and back
HEAD = _packed(b"")[: len(container.PLAIN) + 16]
SEEDS = [
    b"\0" + _packed(SAMPLE),
    b"\1" + _packed(SAMPLE)[len(HEAD) : -4],
    b"\1" + _packed(bytes(range(256)))[len(HEAD) : -4],
    b"\2" + SAMPLE,
    b"\3" + SAMPLE + b"\xff\xed\xa0\x80",
]


def one_input(data: bytes) -> None:
    """There and back, or back alone."""
    what, data = data[:1], data[1:]
    if what in (b"\2", b"\3"):
        vocab = CHARACTERS if what == b"\2" else BYTES
        assert _original(_packed(data, vocab), vocab) == data
        return
    if what == b"\1":
        data = HEAD + data
        data += struct.pack("<I", zlib.crc32(data))
    with refusing("the file"):
        _original(data)
