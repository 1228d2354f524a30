"""`storycell export [RUN] FILE`: a model as a page, a C program or an ONNX graph, checked by reading it back."""

import argparse
import dataclasses
import shlex

from storycell import api
from storycell.cli.display import say
from storycell.cli.flags import add_backend, print_json
from storycell.errors import SettingsError

_NEXT = {
    "html": "open it in a browser; it needs nothing else",
    "onnx": "ids [B] and states [L B H] in, logits [B V] and the next states out; the metadata hold the vocabulary",
    "c": "cc -O2 {file} -lm -o story && ./story",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `export`."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run folder, or demo (the default)")
    parser.add_argument("file", nargs="?", metavar="FILE", help="what to write: story.html, story.onnx or story.c")
    parser.add_argument(
        "--weights", choices=("fp32", "fp16", "int8"), help="how to store weights (default fp32; fp16 in .html)"
    )
    add_backend(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the file; print what was made and how exact it is."""
    name, file = ("demo", arguments.run) if arguments.file is None else (arguments.run, arguments.file)
    if file is None:
        raise SettingsError("name the file to write, such as story.html, story.onnx or story.c")
    done = api.load(name, backend=arguments.backend).export(file, arguments.weights)
    if arguments.json:
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
