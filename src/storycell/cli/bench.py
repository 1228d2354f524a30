"""`storycell bench train|sample|prepare`: speed, beside torch's own layers, interleaved in one run."""

import argparse
from typing import Any, get_args

from storycell.cli.flags import print_json
from storycell.config import validate
from storycell.lab.bench import results
from storycell.lab.bench.prepare import prepare
from storycell.lab.bench.sample import sample
from storycell.lab.bench.train import train
from storycell.lab.bench.workload import Workload

_TASKS = {"train": train, "sample": sample, "prepare": prepare}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for every field of `Workload`."""
    parser.add_argument("task", choices=_TASKS, help="whole training steps, generation, or text into token files")
    for name, field in Workload.model_fields.items():
        default = "" if field.default is None else f" (default {field.default})"
        keywords: dict[str, Any] = {"dest": name, "default": None, "help": f"{field.description}{default}"}
        if field.annotation is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif name in ("cell", "precision"):
            keywords["choices"] = get_args(field.annotation)
        else:
            keywords |= {"type": int, "metavar": "N"}
        parser.add_argument(f"--{name}", **keywords)


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print what came out."""
    given = {name: getattr(arguments, name) for name in Workload.model_fields}
    workload = validate(Workload, {name: value for name, value in given.items() if value is not None})
    measured = _TASKS[arguments.task](workload)
    if arguments.json:
        print_json(measured)
        return
    for line in results.lines(measured):
        print(line)
