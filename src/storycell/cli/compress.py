"""`storycell compress RUN FILE --out FILE`: a model's predictions as a lossless compressor."""

import argparse
import shlex
import time
from pathlib import Path
from typing import IO

from storycell import api, loss
from storycell.cli.display import preparing, say
from storycell.cli.flags import add_backend, print_json
from storycell.errors import CodecError
from storycell.lab.compress import archive
from storycell.runs.files import replacing, writing

ENDING = ".scz"
ADVICE = "free space, or name another --out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `compress`."""
    parser.add_argument("run", metavar="RUN", help="a run folder, or demo; decompressing takes the same one")
    parser.add_argument("file", metavar="FILE", help="any file")
    parser.add_argument("--out", metavar="FILE", help=f"the compressed file (default: FILE{ENDING}, if there is none)")
    add_backend(parser)


def run(arguments: argparse.Namespace) -> None:
    """Compress, and say how far the file went."""
    path = Path(arguments.file)
    out = place(path, arguments.out, path.with_name(path.name + ENDING))
    model = api.load(arguments.run, backend=arguments.backend)
    began = time.monotonic()
    with opened(path) as source, writing(out, ADVICE), replacing(out) as sink, preparing("") as progress:
        total = path.stat().st_size
        sizes = archive.compress(
            model.network, model.vocab, source, sink, lambda done: progress("compressing", done, max(total, done))
        )
    bits_per_byte = 8 * sizes.bytes_out / max(1, sizes.bytes_in)
    if arguments.json:
        summary = {"bytes_in": sizes.bytes_in, "bytes_out": sizes.bytes_out, "bits_per_byte": bits_per_byte}
        summary |= {"unknown_chars": sizes.unknown_chars, "deflated_bytes": sizes.deflated_bytes}
        print_json(summary | {"out": str(out), "elapsed_s": round(time.monotonic() - began, 3)})
        return
    print(f"{sizes.bytes_in:,} bytes -> {sizes.bytes_out:,} bytes, {bits_per_byte:.4f} bits per byte")
    if sizes.unknown_chars:
        say(f"{sizes.unknown_chars:,} characters are unknown to the model; each cost {loss.ESCAPE_BITS:g} bits")
    if sizes.deflated_bytes:
        say(f"{sizes.deflated_bytes:,} bytes are no text the model can read; they were deflated, as gzip does")
    say(f"next: {shlex.join(['storycell', 'decompress', arguments.run, str(out)])}")


def opened(path: Path) -> IO[bytes]:
    """A file to read."""
    try:
        if path.is_file():
            return path.open("rb")
    except OSError as error:
        raise CodecError(f"{path} cannot be read: {error.strerror or error}") from None
    raise CodecError(f"{path} is {'a folder, not a file' if path.is_dir() else 'not there'}; name a file")


def place(path: Path, given: str | None, default: Path) -> Path:
    """Where the result goes: never onto what it is made from, and onto another file only if that was named."""
    out = default if given is None else Path(given)
    if out.exists() and (out.is_dir() or (path.exists() and out.samefile(path))):
        raise CodecError(f"{out} is {'a folder' if out.is_dir() else 'the file itself'}; name another --out")
    if given is None and out.exists():
        raise CodecError(f"{out} is there already; name it with --out to replace it")
    return out
