"""`storycell compress RUN FILE --out FILE`: a model's predictions as a lossless compressor."""

import shlex
import time
from pathlib import Path
from typing import IO

import click

from storycell import api, loss
from storycell.atomic import replacing
from storycell.cli.flags import NAME, Verb, backend_option, print_json, with_ngram_option
from storycell.errors import CodecError
from storycell.lab.compress import archive
from storycell.lab.compress.coder import Adaptation
from storycell.lab.mixed import count_whole_training_text
from storycell.runs.files import writing
from storycell.training.display import preparing, say

ENDING = ".scz"
ADVICE = "free space, or name another --out"


@click.command("compress", cls=Verb)
@click.argument("run", type=NAME, help="a run folder, or demo; decompressing takes the same one")
@click.argument("file", type=NAME, help="any file")
@click.option("--out", type=NAME, metavar="FILE", help=f"the compressed file (default: FILE{ENDING}, if there is none)")
@click.option("--adapt", is_flag=True, help="adapt to the file while reading: smaller, and twice as slow or more")
@with_ngram_option
@backend_option
def command(run: str, file: str, out: str | None, adapt: bool, with_ngram: bool, backend: str, as_json: bool) -> None:
    """Compress, and say how far the file went."""
    path = Path(file)
    target = place(path, out, path.with_name(path.name + ENDING))
    model = api.load(run, backend=backend)
    adaptation = None
    if with_ngram:
        say("counting the training text")
    if adapt or with_ngram:  # how much the n-gram weighs is learnt by adapting
        adaptation = Adaptation(model.vocab, count_whole_training_text(model, say) if with_ngram else None)
    began = time.monotonic()
    with open_file(path) as source, writing(target, ADVICE), replacing(target) as sink, preparing("") as progress:
        total = path.stat().st_size
        sizes = archive.compress(
            model.network,
            model.vocab,
            source,
            sink,
            lambda done: progress("compressing", done, max(total, done)),
            adaptation=adaptation,
        )
    bits_per_byte = 8 * sizes.bytes_out / max(1, sizes.bytes_in)
    if as_json:
        summary = {"bytes_in": sizes.bytes_in, "bytes_out": sizes.bytes_out, "bits_per_byte": bits_per_byte}
        summary |= {"unknown_chars": sizes.unknown_chars, "deflated_bytes": sizes.deflated_bytes}
        print_json(summary | {"out": str(target), "elapsed_s": round(time.monotonic() - began, 3)})
        return
    print(f"{sizes.bytes_in:,} bytes -> {sizes.bytes_out:,} bytes, {bits_per_byte:.4f} bits per byte")
    if sizes.unknown_chars:
        say(f"{sizes.unknown_chars:,} characters are unknown to the model; each counts {loss.ESCAPE_BITS:g} bits")
    if sizes.deflated_bytes:
        say(f"{sizes.deflated_bytes:,} bytes are no text the model can read; they were deflated, as gzip does")
    if with_ngram:
        say("to decompress it the training text must be there, unchanged, as well as the run")
    say(f"next: {shlex.join(['storycell', 'decompress', run, str(target)])}")


def open_file(path: Path) -> IO[bytes]:
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
