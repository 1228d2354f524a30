"""`storycell export [RUN] FILE`: a model as a page, a C program or an ONNX graph, checked by reading it back."""

import dataclasses
import shlex

import click

from storycell import api
from storycell.cli.flags import NAME, Verb, backend_option, print_json
from storycell.errors import SettingsError
from storycell.training.display import say

_NEXT = {
    "html": "open it in a browser; it needs nothing else",
    "onnx": "ids [B] and states [L B H] in, logits [B V] and the next states out; the metadata hold the vocabulary",
    "h": '#include "{file}" in one source file; its first lines show how it is called',
    "c": "cc -O2 {file} -lm -o story && ./story",
}


@click.command("export", cls=Verb)
@click.argument("run", required=False, type=NAME, help="a run folder, or demo (the default)")
@click.argument("file", required=False, type=NAME, help="what to write: story.html, story.onnx, story.c or story.h")
@click.option(
    "--weights",
    type=click.Choice(("fp32", "fp16", "int8")),
    help="how to store weights (default fp32; fp16 in .html, int8 in .h)",
)
@backend_option
def command(run: str | None, file: str | None, weights: str | None, backend: str, as_json: bool) -> None:
    """Write the file; print what was made and how exact it is."""
    name, file = ("demo", run) if file is None else (run or "", file)
    if file is None:
        raise SettingsError("name the file to write, such as story.html, story.onnx, story.c or story.h")
    done = api.load(name, backend=backend).export(file, weights)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    print(f"{done.file}  {done.bytes / 1e6:.2f} MB, {done.weights} weights")
    changed = (
        ""
        if done.weights == "fp32"
        else f"; rounding the weights moves a logit by at most {done.max_abs_logit_change:.2g}"
    )
    print(f"read back, its logits are the run's to {done.max_abs_logit_error:.1e}{changed}")
    say(f"next: {_NEXT[done.file.rpartition('.')[2]].format(file=shlex.quote(done.file))}")
