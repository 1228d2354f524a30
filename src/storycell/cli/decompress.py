"""`storycell decompress RUN FILE --out FILE`: the original of a compressed file, or a stated refusal."""

import argparse
import time
from pathlib import Path

from storycell import api
from storycell.cli.compress import ADVICE, ENDING, opened, place
from storycell.cli.display import preparing
from storycell.cli.flags import add_backend, print_json
from storycell.errors import CodecError
from storycell.lab.compress import archive
from storycell.runs.files import replacing, writing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `decompress`."""
    parser.add_argument("run", metavar="RUN", help="the run folder it was compressed with, or demo")
    parser.add_argument("file", metavar="FILE", help="a file that compress wrote")
    parser.add_argument(
        "--out", metavar="FILE", help=f"the original (default: FILE without {ENDING}, if there is none)"
    )
    add_backend(parser)


def run(arguments: argparse.Namespace) -> None:
    """Decompress; the output appears when its checksum has been found right."""
    path = Path(arguments.file)
    if arguments.out is None and path.suffix != ENDING:
        raise CodecError(f"{path} does not end in {ENDING}, so its original has no name; give --out FILE")
    out = place(path, arguments.out, path.with_suffix(""))
    began = time.monotonic()
    with opened(path) as source:
        model = api.load(arguments.run, backend=arguments.backend)
        with writing(out, ADVICE), replacing(out) as sink, preparing("") as progress:
            sizes = archive.decompress(
                model.network, model.vocab, source, sink, str(path), lambda done: progress("decompressing", done, 0)
            )
    bits_per_byte = 8 * sizes.bytes_in / max(1, sizes.bytes_out)
    if arguments.json:
        summary = {"bytes_in": sizes.bytes_in, "bytes_out": sizes.bytes_out, "bits_per_byte": bits_per_byte}
        print_json(summary | {"out": str(out), "elapsed_s": round(time.monotonic() - began, 3)})
    else:
        print(f"{sizes.bytes_in:,} bytes -> {sizes.bytes_out:,} bytes, the checksum is right")
