"""Settings as flags: one for each field of `ModelSettings` and `TrainSettings`, so the two cannot drift apart."""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from storycell.config import ModelSettings, TrainSettings, names

_NONE = object()  # a flag that was given as `none`; None is one that was not given


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting; one that is not given is None."""
    for kind, title in ((ModelSettings, "the network"), (TrainSettings, "the training")):
        group = parser.add_argument_group(title)
        for name, field in kind.model_fields.items():
            flag = f"--{name.replace('_', '-')}"
            about = f"{field.description} (default {_shown(field.default)}, unless the recipe says otherwise)"
            if field.annotation is bool:
                group.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=None, help=about)
            elif get_origin(field.annotation) is Literal:
                group.add_argument(flag, dest=name, choices=get_args(field.annotation), help=about)
            else:
                group.add_argument(flag, dest=name, type=_parser_of(field.annotation), metavar="X", help=about)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The flags that say how texts are read; one that is not given is None."""
    parser.add_argument("--encoding", help="encoding of the files (default utf-8)")
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="the column of a table (CSV, TSV), or field of JSON objects, with the text (default: the one that is "
        "clear, such as text); '' reads every file as it lies",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """The flag `--backend` of the verbs that use a model which is there already."""
    choices = get_args(TrainSettings.model_fields["backend"].annotation)
    parser.add_argument(
        "--backend", choices=choices, default="auto", help="backend for the recurrent layers (default auto)"
    )


def add_writing_precision(parser: argparse.ArgumentParser) -> None:
    """The flag `--precision` of the verbs that write."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="precision of matmul inputs in generation: bf16 is faster, and another text (default fp32)",
    )


def _shown(default: Any) -> str:
    return "none" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as flags, by name."""
    values = {name: getattr(arguments, name) for name in names()}
    return {name: None if value is _NONE else value for name, value in values.items() if value is not None}


def _parser_of(annotation: Any) -> Callable[[str], Any]:
    """int, float or str, as the field's type says; `none` stands for no value where that is allowed."""
    kinds = _kinds(annotation)
    base: Callable[[str], Any] = int if int in kinds else float if float in kinds else str
    if type(None) not in kinds:
        return base

    def optional(text: str) -> Any:
        return _NONE if text == "none" else base(text)

    optional.__name__ = base.__name__  # argparse names it in errors
    return optional


def _kinds(annotation: Any) -> set[type]:
    """The types in an annotation: int and NoneType in `PositiveInt | None`."""
    if isinstance(annotation, type):
        return {annotation}
    inner = get_args(annotation)
    return set().union(*map(_kinds, inner[:1] if get_origin(annotation) is Annotated else inner))


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON object on a line of standard output; numbers that are not finite become null."""
    print(json.dumps(_finite(data)), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
