"""How small does a text become: storycell beside gzip, bz2, xz, zstd and ppmd?

    python benchmarks/compression.py RUN TEXT --known TEXT       (pip install '.[bench]' for ppmd)

In: a run folder (or demo), a text that it was not trained on, and the text that it was. The others get that too, in a
column of its own: how much larger `known + text` becomes than `known` alone. Out: a table in Markdown on standard
output, and one JSON line with everything, which `benchmarks/results/compression.json` keeps. Every compressor
decompresses its own output, and the bytes are compared. The model's own size is stated beside the table.
"""

import argparse
import bz2
import gzip
import io
import lzma
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyppmd
import zstandard

import storycell
from storycell.lab.bench.results import keep
from storycell.lab.compress import archive

PPMD_ORDER, PPMD_BYTES = 16, 1 << 30  # the best order from 4 to 16 on these texts
ZSTD_ULTRA = 22
Both = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def others() -> dict[str, Both]:
    """What to compare with, each at its strongest setting."""
    xz = lzma.PRESET_EXTREME | 9

    def from_ppmd(packed: bytes) -> bytes:
        decoder, out = pyppmd.Ppmd8Decoder(PPMD_ORDER, PPMD_BYTES), b""
        out = decoder.decode(packed, -1)
        while not decoder.eof:
            out += decoder.decode(b"\0" if decoder.needs_input else b"", -1)
        return out

    def to_ppmd(data: bytes) -> bytes:
        encoder = pyppmd.Ppmd8Encoder(PPMD_ORDER, PPMD_BYTES)
        return encoder.encode(data) + encoder.flush(endmark=True)

    return {
        "gzip -9": (lambda data: gzip.compress(data, 9), gzip.decompress),
        "bz2 -9": (lambda data: bz2.compress(data, 9), bz2.decompress),
        "xz -9e": (lambda data: lzma.compress(data, preset=xz), lzma.decompress),
        f"zstd --ultra -{ZSTD_ULTRA}": (
            zstandard.ZstdCompressor(level=ZSTD_ULTRA).compress,
            zstandard.ZstdDecompressor().decompress,
        ),
        f"ppmd (order {PPMD_ORDER})": (to_ppmd, from_ppmd),
    }


def ours(model: storycell.Model) -> Both:
    """The model as a compressor."""

    def to_model(data: bytes) -> bytes:
        sink = io.BytesIO()
        archive.compress(model.network, model.vocab, io.BytesIO(data), sink)
        return sink.getvalue()

    def from_model(packed: bytes) -> bytes:
        sink = io.BytesIO()
        archive.decompress(model.network, model.vocab, io.BytesIO(packed), sink, "the file")
        return sink.getvalue()

    return to_model, from_model


def measured(name: str, both: Both, data: bytes, known: bytes) -> dict[str, Any]:
    """One row: the size, the time there and back, and the size for one who has read `known` before."""
    began = time.monotonic()
    packed = both[0](data)
    between = time.monotonic()
    if both[1](packed) != data:
        raise SystemExit(f"{name} did not give the text back")
    row = {
        "name": name,
        "bytes": len(packed),
        "bits_per_byte": 8 * len(packed) / len(data),
        "compress_s": round(between - began, 2),
        "decompress_s": round(time.monotonic() - between, 2),
    }
    return row | ({"bytes_knowing": len(both[0](known + data)) - len(both[0](known))} if known else {})


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| | bytes | bits per byte | after reading what the model read | there, s | back, s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        knowing = f"{row['bytes_knowing']:,}" if "bytes_knowing" in row else ""
        figures = (
            f"{row['bytes']:,} | {row['bits_per_byte']:.3f} | {knowing} | {row['compress_s']} | {row['decompress_s']}"
        )
        lines.append(f"| {row['name']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("text", type=Path)
    parser.add_argument("--known", type=Path, help="the text that the model was trained on")
    arguments = parser.parse_args()
    data, model = arguments.text.read_bytes(), storycell.load(arguments.run)
    known = arguments.known.read_bytes() if arguments.known else b""
    rows = [measured(name, both, data, known) for name, both in others().items()]
    rows.append(measured("storycell", ours(model), data, b""))
    print(table(rows))
    evaluation = model.evaluate(data.decode())
    facts = {
        "text": arguments.text.name,
        "bytes_in": len(data),
        "predicted_bytes": evaluation.bits_per_char * evaluation.chars / 8,
        "model_bytes": sum((model.path / name).stat().st_size for name in ("model.safetensors", "vocab.json")),
        "backend": model.network.backend,
        "threads": 1,
    }
    keep({**facts, "rows": rows})


if __name__ == "__main__":
    main()
