"""`storycell decompress RUN FILE --out FILE`: the original of a compressed file, or a stated refusal."""

import time
from pathlib import Path

import click

from storycell import api
from storycell.atomic import replacing
from storycell.cli.compress import ADVICE, ENDING, open_file, place
from storycell.cli.flags import NAME, Verb, backend_option, print_json
from storycell.errors import CodecError
from storycell.evaluation.ngram import NGram
from storycell.lab.compress import archive
from storycell.lab.mixed import count_whole_training_text
from storycell.runs.files import writing
from storycell.training.display import preparing, say


@click.command("decompress", cls=Verb)
@click.argument("run", type=NAME, help="the run folder it was compressed with, or demo")
@click.argument("file", type=NAME, help="a file that compress wrote")
@click.option(
    "--out", type=NAME, metavar="FILE", help=f"the original (default: FILE without {ENDING}, if there is none)"
)
@backend_option
def command(run: str, file: str, out: str | None, backend: str, as_json: bool) -> None:
    """Decompress; the output appears when its checksum has been found right."""
    path = Path(file)
    if out is None and path.suffix != ENDING:
        raise CodecError(f"{path} does not end in {ENDING}, so its original has no name; give --out FILE")
    target = place(path, out, path.with_suffix(""))
    began = time.monotonic()
    with open_file(path) as source:
        model = api.load(run, backend=backend)
        with writing(target, ADVICE), replacing(target) as sink, preparing("") as progress:
            sizes = archive.decompress(
                model.network,
                model.vocab,
                source,
                sink,
                str(path),
                lambda done: progress("decompressing", done, 0),
                count=lambda: _count(model),
            )
    bits_per_byte = 8 * sizes.bytes_in / max(1, sizes.bytes_out)
    if as_json:
        summary = {"bytes_in": sizes.bytes_in, "bytes_out": sizes.bytes_out, "bits_per_byte": bits_per_byte}
        print_json(summary | {"out": str(target), "elapsed_s": round(time.monotonic() - began, 3)})
    else:
        print(f"{sizes.bytes_in:,} bytes -> {sizes.bytes_out:,} bytes, the checksum is right")


def _count(model: api.Model) -> NGram:
    say("counting the training text")
    return count_whole_training_text(model, say)
