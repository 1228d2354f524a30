"""`storycell bench train|sample|prepare`: speed, in one run beside torch's own layers where torch is there."""

from typing import Any, get_args

import click

from storycell.cli.flags import F, Verb, print_json
from storycell.config import validate
from storycell.lab.bench import results
from storycell.lab.bench.prepare import prepare
from storycell.lab.bench.workload import Workload

_TASKS = ("train", "sample", "prepare")


def _measure(task: str, workload: Workload) -> dict[str, Any]:
    if task == "prepare":
        return prepare(workload)
    from storycell.lab.bench import sample, train

    return train.train(workload) if task == "train" else sample.sample(workload)


def _workload_options(function: F) -> F:
    """A flag for every field of `Workload`; None if it is not given."""
    for name, field in reversed(Workload.model_fields.items()):
        default = "" if field.default is None else f" (default {field.default})"
        keywords: dict[str, Any] = {"default": None, "help": f"{field.description}{default}"}
        declared = f"--{name}"
        if field.annotation is bool:
            declared += f"/--no-{name}"
        else:
            choices = name in ("cell", "precision", "backend")
            keywords["type"] = click.Choice(get_args(field.annotation)) if choices else click.INT
        function = click.option(declared, name, **keywords)(function)
    return function


@click.command("bench", cls=Verb)
@click.argument(
    "task",
    type=click.Choice(_TASKS),
    metavar="TASK",
    help="train: whole training steps; sample: generation; prepare: text into token files",
)
@_workload_options
def command(task: str, as_json: bool, **given: Any) -> None:
    """Measure, and print what came out."""
    workload = validate(Workload, {name: value for name, value in given.items() if value is not None})
    measured = _measure(task, workload)
    if as_json:
        print_json(measured)
        return
    for line in results.lines(measured):
        print(line)
