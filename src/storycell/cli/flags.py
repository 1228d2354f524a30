"""Settings as flags: one for each field of `ModelSettings` and `TrainSettings`, so the two cannot drift apart."""

import argparse
import json
import math
from collections.abc import Mapping
from typing import Any

from storycell.config import ModelSettings, TrainSettings, names


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting; one that is not given is None."""
    for kind, title in ((ModelSettings, "the network"), (TrainSettings, "the training")):
        group = parser.add_argument_group(title)
        for name, field in kind.model_fields.items():
            flag = f"--{name.replace('_', '-')}"
            about = f"{field.description} (default {_shown(field.default)}, unless the recipe says otherwise)"
            if field.annotation is bool:
                group.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=None, help=about)
            else:
                group.add_argument(flag, dest=name, type=_parser_of(str(field.annotation)), metavar="X", help=about)


def _shown(default: Any) -> str:
    return "none" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as flags, by name."""
    values = {name: getattr(arguments, name) for name in names() if getattr(arguments, name) is not None}
    return {name: None if value == "none" else value for name, value in values.items()}


def _parser_of(annotation: str) -> Any:
    """int, float or str, as the field's type says; `none` stands for no value where that is allowed."""
    base: Any = int if "int" in annotation else float if "float" in annotation else str
    if "None" not in annotation:
        return base

    def optional(text: str) -> Any:
        return text if text == "none" else base(text)

    optional.__name__ = base.__name__
    return optional


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON object on a line of standard output; numbers that are not finite become null."""
    print(json.dumps({key: _finite(value) for key, value in data.items()}), flush=True)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
