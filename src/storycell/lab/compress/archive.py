"""Compression of a file with a model, and decompression: block by block, in constant memory.

The caller puts the result in place only when the function has returned: `decompress` raises `CodecError` rather than
return with a wrong byte written, and `compress` decodes every block again before it writes it.
"""

import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from storycell import loss
from storycell.data.vocab import SEPARATOR, Vocabulary
from storycell.errors import CodecError
from storycell.evaluation.ngram import NGram
from storycell.lab.compress import coder, container
from storycell.lab.compress.coder import Adaptation, Decoder, Encoder
from storycell.lab.compress.container import BLOCK_BYTES, CODED, END, BlockHead
from storycell.lab.compress.framing import STORIES, Frame, even_lengths, frame, unframe
from storycell.language_model import LanguageModel

_SEPARATOR_LINE = f"\n{SEPARATOR}\n".encode()

Progress = Callable[[int], None]  # bytes of the original that are done


def _silent(done: int) -> None:
    """The progress display of a caller that wants none."""


@dataclass(frozen=True)
class Sizes:
    """What came of it."""

    bytes_in: int
    bytes_out: int
    unknown_chars: int = 0  # characters the model does not know; each counts loss.ESCAPE_BITS
    deflated_bytes: int = 0  # of the original, in blocks that the model would not have made smaller


def compress(
    lm: LanguageModel,
    vocab: Vocabulary,
    source: IO[bytes],
    sink: IO[bytes],
    progress: Progress = _silent,
    *,
    adaptation: Adaptation | None = None,
) -> Sizes:
    """Write `source` to `sink`, compressed. Any bytes will do. `CodecError` if a block does not come back as it was.

    With an `adaptation` the model adapts to the text while it reads, in every block anew.
    """
    check = hashlib.blake2b(digest_size=container.CHECK_BYTES)
    done = unknown_chars = deflated_bytes = 0
    out = _Counted(sink)
    with coder.one_thread():
        out.write(bytes(container.head(lm, vocab, adaptation)))
        for raw in _blocks(source):
            check.update(raw)
            framed, payload = _encode_block(lm, vocab, raw, adaptation, _shift_progress(progress, done, 0.5))
            block = io.BytesIO()
            if payload is None:
                container.write_deflated(raw, block)
                deflated_bytes += len(raw)
            else:
                container.write_coded(len(raw), framed, payload, block)
                unknown_chars += len(framed.escaped)
            shown = _shift_progress(progress, done + len(raw) // 2, 0.5)
            _read_back(lm, vocab, block.getvalue(), raw, adaptation, shown)
            out.write(block.getvalue())
            done += len(raw)
            progress(done)
    out.write(bytes([END]) + check.digest())
    out.write(out.crc.to_bytes(4, "little"))
    return Sizes(done, out.written, unknown_chars, deflated_bytes)


def decompress(
    lm: LanguageModel,
    vocab: Vocabulary,
    source: IO[bytes],
    sink: IO[bytes],
    name: str,
    progress: Progress = _silent,
    *,
    count: Callable[[], NGram] | None = None,
) -> Sizes:
    """Write what `source` was made from to `sink`. `CodecError`, with the `name` of the file, if that cannot be.

    `count` is asked for the n-gram of the training text, if the file needs one.
    """
    head = container.read_head(source, name)
    check = hashlib.blake2b(digest_size=container.CHECK_BYTES)
    done = 0
    if head.needs_ngram and count is None:
        raise CodecError(f"{name} was compressed with the n-gram of the run's training text, which is needed here")
    adaptation = Adaptation(vocab, count() if head.needs_ngram and count else None) if head.is_adapted else None
    with coder.one_thread():
        container.check_head(head, name, lm, vocab, adaptation)
        try:
            while (block := container.read_block_head(source))[0] != END:
                raw = _decode_block(
                    lm, vocab, *block, source.read(block[1].payload_bytes), adaptation, _shift_progress(progress, done)
                )
                check.update(raw)
                sink.write(raw)
                done += len(raw)
                progress(done)
        except CodecError as error:
            raise CodecError(f"{name} cannot be decompressed here: {error}; nothing was written") from None
    if source.read(container.CHECK_BYTES) != check.digest():
        raise CodecError(
            f"{name} was decompressed to something else than it was made from, so the model's arithmetic differs here; "
            "nothing was written; decompress it on the machine it was made on"
        )
    return Sizes(source.seek(0, 2), done)


def _encode_block(
    lm: LanguageModel, vocab: Vocabulary, raw: bytes, adaptation: Adaptation | None, progress: Progress
) -> tuple[Frame, bytes | None]:
    """A block as the model reads it and codes it; no payload where that would be larger than the block."""
    framed = frame(raw, vocab)
    if len(framed.escaped) * loss.ESCAPE_BITS >= 8 * len(raw) or not len(framed.symbols):
        return framed, None
    share = len(raw) / len(framed.symbols)
    encoder = Encoder(framed, lambda symbols: progress(int(symbols * share)))
    coder.run(lm, None if framed.flags & STORIES else framed.lengths, framed.segments, encoder, adaptation)
    payload = encoder.words().astype("<u4").tobytes()
    return framed, payload if len(payload) < len(raw) else None


def _read_back(
    lm: LanguageModel,
    vocab: Vocabulary,
    block: bytes,
    raw: bytes,
    adaptation: Adaptation | None,
    progress: Progress,
) -> None:
    """Decode a block as `decompress` will; `CodecError` unless that gives what it was made from."""
    file = io.BytesIO(block)
    try:
        kind, head = container.read_block_head(file)
        back = _decode_block(lm, vocab, kind, head, file.read(), adaptation, progress)
        trouble = "other bytes came back"
    except CodecError as error:
        back, trouble = None, str(error)
    if back != raw:
        raise CodecError(
            f"what was compressed cannot be decompressed ({trouble}), so it was not written: the model's arithmetic "
            "changes from one time to the next here, or this is a bug; try --backend torch, and please report it"
        )


def _decode_block(
    lm: LanguageModel,
    vocab: Vocabulary,
    kind: int,
    block: BlockHead,
    payload: bytes,
    adaptation: Adaptation | None,
    progress: Progress,
) -> bytes:
    if kind == CODED:
        words = np.frombuffer(payload[: len(payload) // 4 * 4], dtype="<u4").astype(np.uint32)
        share = block.raw_bytes / block.symbols
        decoder = Decoder(words, block.symbols, lambda symbols: progress(int(symbols * share)))
        lengths = None if block.flags & STORIES else even_lengths(block.symbols, block.segments)
        coder.run(lm, lengths, block.segments, decoder, adaptation)
        try:
            raw = unframe(Frame(block.flags, decoder.symbols(), decoder.read_escapes(), block.segments), vocab)
        except (ValueError, OverflowError) as error:
            raise CodecError(f"what was decoded is no text ({error})") from None
    else:
        raw = container.inflate(payload, block.raw_bytes)
    if len(raw) != block.raw_bytes:
        raise CodecError(f"a block of {block.raw_bytes:,} bytes became {len(raw):,}")
    return raw


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    """A file in blocks that end at a separator line, else at a line end, else at a character, where they can."""
    block = b""
    while chunk := source.read(BLOCK_BYTES - len(block)):
        block += chunk
        if len(block) == BLOCK_BYTES:
            cut = _find_cut(block)
            yield block[:cut]
            block = block[cut:]
    if block:
        yield block


def _find_cut(block: bytes) -> int:
    """Where to end a full block: in its second half."""
    for end in (_SEPARATOR_LINE, b"\n"):
        if (at := block.rfind(end, len(block) // 2)) >= 0:
            return at + len(end)
    firsts = (at for at in range(len(block) - 1, len(block) - 5, -1) if block[at] & 0xC0 != 0x80)
    return next(firsts, len(block))


def _shift_progress(progress: Progress, start: int, share: float = 1.0) -> Progress:
    return lambda done: progress(start + int(done * share))


class _Counted:
    """A file to write to that knows how much was written, and its CRC."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self.written = self.crc = 0

    def write(self, data: bytes) -> None:
        self._sink.write(data)
        self.written += len(data)
        self.crc = zlib.crc32(data, self.crc)
