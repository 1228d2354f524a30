"""`storycell export [RUN] FILE`: a model as a page, a C program or an ONNX graph, checked by reading it back.

With `--trainer` the page is one that learns, from nothing or from the model. `storycell export [RUN] --npm DIR` writes
a package for JavaScript.
"""

import dataclasses
import shlex
from typing import TYPE_CHECKING

import click

from storycell import api
from storycell.cli.flags import NAME, Verb, backend_option, print_json
from storycell.errors import SettingsError
from storycell.training.display import say

if TYPE_CHECKING:
    from storycell.export.export import Export

_NEXT = {
    "html": "open it in a browser; it needs nothing else",
    "onnx": "ids [B] and states [L B H] in, logits [B V] and the next states out; the metadata hold the vocabulary",
    "h": '#include "{file}" in one source file; its first lines show how it is called',
    "npm": "npm install {file}; its README.md shows how it is called",
    "c": "cc -O2 {file} -lm -o story && ./story",
}


@click.command("export", cls=Verb)
@click.argument("run", required=False, type=NAME, help="a run folder, or demo (the default)")
@click.argument("file", required=False, type=NAME, help="what to write: story.html, story.onnx, story.c or story.h")
@click.option(
    "--weights",
    type=click.Choice(("fp32", "fp16", "int8")),
    help="how to store weights (default fp32; fp16 in .html and --npm, int8 in .h)",
)
@click.option(
    "--steer", type=NAME, metavar="FILE", help="give the page a slider for a direction that `Direction.save` wrote"
)
@click.option("--trainer", is_flag=True, help="a page that learns in the browser, and can start from RUN")
@click.option("--npm", type=NAME, metavar="DIR", help="write an ES module with types into this new folder")
@backend_option
def command(
    run: str | None,
    file: str | None,
    weights: str | None,
    steer: str | None,
    trainer: bool,
    npm: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Write the file; print what was made and how exact it is."""
    if npm is not None:
        if file is not None or trainer:
            other = "--trainer" if trainer else file
            raise SettingsError(f"--npm {npm} writes a folder, so {other} does not go with it; call export twice")
        if steer is not None:
            raise SettingsError("--steer does not go with --npm: only a page has a slider for it")
        _say(api.load(run or "demo", backend=backend).export_npm(npm, weights), _NEXT["npm"], as_json=as_json)
        return
    name, file = ("demo", run) if file is None else (run or "", file)
    if file is None:
        raise SettingsError("name the file to write, such as story.html, story.onnx, story.c or story.h")
    if trainer and steer is not None:
        raise SettingsError("--steer does not go with --trainer: the page that learns has no slider for it")
    if trainer:
        _write_trainer(name, file, weights, backend, as_json=as_json)
        return
    done = api.load(name, backend=backend).export(file, weights, steer=steer)
    _say(done, _NEXT[done.file.rpartition(".")[2]], as_json=as_json)


def _say(done: "Export", then: str, *, as_json: bool) -> None:
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
    say(f"next: {then.format(file=shlex.quote(done.file))}")


def _write_trainer(name: str, file: str, weights: str | None, backend: str, *, as_json: bool) -> None:
    if weights is not None:
        raise SettingsError("--weights does not go with --trainer: the page stores the model to start from in fp16")
    made = api.load(name, backend=backend).export_trainer(file)
    if as_json:
        print_json(dataclasses.asdict(made))
        return
    print(f"{made.file}  {made.bytes / 1e6:.2f} MB: the engine, stories, and {name} to start from")
    say("next: open it in a browser; it needs nothing else")
