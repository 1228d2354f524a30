"""What the verbs share: the command that all of them are, their common flags, and JSON.

Settings are flags, one for each field of `ModelSettings` and `TrainSettings`, so the two cannot drift apart.
"""

import importlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
from click.core import ParameterSource

from storycell.config import ModelSettings, TrainSettings, names
from storycell.data.pieces import PIECES
from storycell.data.vocab import Kind
from storycell.errors import SettingsError
from storycell.runs.files import plain

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


class Verb(click.Command):
    """A verb: with `--json` (the argument `as_json`) and `--debug`, and its settings in sections of their own."""

    allow_extra_args = True  # so that `parse_args` words the refusal

    def __init__(self, name: str | None, **keywords: Any) -> None:
        super().__init__(name, context_settings={"help_option_names": ["-h", "--help"]}, **keywords)
        as_json = click.Option(["--json", "as_json"], is_flag=True, help="print one JSON object on standard output")
        debug = click.Option(["--debug"], is_flag=True, expose_value=False, help="show the traceback of an error")
        self.params += [as_json, debug]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse flags and texts in any order.

        Click gets the flags first, because it would take `--json` as the value in `--out --json`, and a text such as
        `- Hello` as a flag.
        """
        if self.name != "train" and os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ:
            raise SettingsError(f"storycell {self.name} runs in one process; only train can be started by torchrun")
        options = {
            flag: option
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
            for flag in (*option.opts, *option.secondary_opts)
        }
        flags, texts = list[str](), list[str]()
        words: Iterator[str] = iter(args)
        while (word := next(words, None)) is not None:
            name, equals, _ = word.partition("=")
            if word == "--":
                texts += words
            elif name in options and not equals and not options[name].is_flag:
                value = next(words, None)
                usual = options[name].flag_value
                if isinstance(usual, float) and not re.fullmatch(r"[\d.]+", value or ""):
                    flags.append(f"{word}={usual}")  # its value may be left out
                    words = words if value is None else chain([value], words)
                elif value is not None and value.partition("=")[0] not in options:
                    flags += [word, value]
                elif not ctx.resilient_parsing:
                    found = "" if value is None else f", not the flag {value} (a text is given by {word}=TEXT)"
                    ctx.fail(f"option {word!r} requires an argument{found}")
            else:
                (texts if name not in options and _is_text(word) else flags).append(word)
        rest = super().parse_args(ctx, [*flags, "--", *texts])
        if rest and not ctx.resilient_parsing:
            ctx.fail(f"too many arguments: {' '.join(rest)}")
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each setting under its section's title."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and not isinstance(param, click.Argument):
                title = param.section if isinstance(param, _Setting) else "Options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb, on as many threads as this process may use."""
        if "RANK" not in os.environ:  # what torchrun tells its processes is left alone
            threads = importlib.import_module("storycell.threads")
            threads.use(threads.default())  # in a container that may be fewer than the machine has cores
        return super().invoke(ctx)


def _is_text(word: str) -> bool:
    """Whether a word is no flag: it begins without a hyphen, or is `-` alone, a number, or a text with blanks."""
    return not word.startswith("-") or word == "-" or bool(re.fullmatch(r"-(.*\s.*|\d*\.?\d+)", word, re.DOTALL))


class _Name(click.ParamType[str]):
    """The name of a file or folder: any text, which the shell completes as such a name."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself; what is not there is told by who opens it."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list["CompletionItem"]:
        """Leave it to the shell, which knows its files."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


NAME = _Name()


class _OrNone(click.ParamType[Any]):
    """A number, or `none` where a setting can be switched off."""

    def __init__(self, base: click.ParamType[Any]) -> None:
        self._base = base
        self.name = base.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A number; None for `none`."""
        return None if value == "none" else self._base.convert(value, param, ctx)


class _Setting(click.Option):
    """A flag for a setting, in a section of the help."""

    def __init__(self, declarations: list[str], section: str, **keywords: Any) -> None:
        super().__init__(declarations, **keywords)
        self.section = section


def settings_options(function: F) -> F:
    """A flag for every setting; `given_settings` sorts out which were given."""
    for kind, section in ((TrainSettings, "The training"), (ModelSettings, "The network")):
        for name, field in reversed(kind.model_fields.items()):  # decorators apply from the last to the first
            flag = f"--{name.replace('_', '-')}"
            about = f"{field.description} (default {_show_default(field.default)}, unless the recipe says otherwise)"
            declared, keywords = flag, dict[str, Any]()
            if field.annotation is bool:
                declared, keywords["default"] = f"{flag}/--no-{flag[2:]}", None
            elif get_origin(field.annotation) is Literal:
                keywords["type"] = click.Choice(get_args(field.annotation))
            else:
                keywords["type"] = _type_of(field.annotation)
            function = click.option(declared, name, cls=_Setting, section=section, help=about, **keywords)(function)
    return function


def given_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values of all settings those that were given as flags: None is one that was given as `none`."""
    source = click.get_current_context().get_parameter_source
    return {name: values[name] for name in names() if source(name) is ParameterSource.COMMANDLINE}


def run_argument(function: F) -> F:
    """The argument RUN, `demo` where it is left out."""
    return click.argument("run", default="demo", type=NAME, help="a run folder, or demo (the default)")(function)


def with_ngram_option(function: F) -> F:
    """The flag `--with-ngram` of the verbs that predict."""
    text = "mix the model with the n-gram of its training text, which must still be there"
    return click.option("--with-ngram", is_flag=True, help=text)(function)


def valid_option(function: F) -> F:
    """The flag `--valid` of the verbs that hold out text, as `valid_words`."""
    about = "text to hold out and validate on, not a part of TEXT; may be repeated"
    return click.option("--valid", "valid_words", multiple=True, type=NAME, metavar="FILE", help=about)(function)


def vocab_option(function: F) -> F:
    """The flags `--vocab` and `--pieces` of the verbs that make a vocabulary; `asked_vocab` puts them together."""
    about = "what an id stands for: a character, a byte of UTF-8, or a piece of a word (default characters)"
    how_many = f"ids of --vocab pieces, the characters among them (default {PIECES:,})"
    kind = click.option("--vocab", type=click.Choice(get_args(Kind)), help=about)
    return kind(click.option("--pieces", type=int, metavar="N", help=how_many)(function))


def asked_vocab(vocab: str | None, pieces: int | None, recipe: str | None = None) -> str | None:
    """The vocabulary that the flags ask for; None where they are left out."""
    if pieces is None:
        return vocab
    if (vocab or ("pieces" if recipe == "pieces" else None)) != "pieces":
        raise SettingsError("--pieces is how many there are of --vocab pieces; give that too, or leave it out")
    return f"pieces:{pieces}"


def reading_options(function: F) -> F:
    """The flags that say how texts are read: `encoding`, and `column`, None if it is not given."""
    encoding = click.option("--encoding", default="utf-8", help="encoding of the files (default utf-8)")
    column = click.option(
        "--column",
        "--field",
        "column",
        metavar="NAME",
        help="the column of a table (CSV, TSV), or field of JSON objects, with the text (default: the one that is "
        "clear, such as text); '' reads every file as it lies",
    )
    return encoding(column(function))


def items_options(function: F) -> F:
    """The flags that make stories of lines, conditions of columns, and other names: `lines`, `labels`, `anonymise`."""
    lines = click.option("--lines", is_flag=True, help="each line of the files is a story, as in a list of names")
    label = click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="NAME",
        help="a column of the table, or field of the JSON objects, by which texts can be asked for; may be repeated",
    )
    anonymise = click.option(
        "--anonymise",
        is_flag=True,
        help="chats and mail: replace the names of people by made-up ones, and mask telephone numbers and addresses",
    )
    return lines(label(anonymise(function)))


def backend_option(function: F) -> F:
    """The flag `--backend` of the verbs that use a model which is there already."""
    choices = click.Choice(get_args(TrainSettings.model_fields["backend"].annotation))
    about = "backend for the recurrent layers (default auto)"
    return click.option("--backend", type=choices, default="auto", help=about)(function)


def precision_option(function: F) -> F:
    """The flag `--precision` of the verbs that generate."""
    about = "precision of matmul inputs in generation: bf16 and int8 are faster, and another text (default fp32)"
    choices = click.Choice(("fp32", "bf16", "int8"))
    return click.option("--precision", type=choices, default="fp32", help=about)(function)


def _show_default(default: Any) -> str:
    return "none" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def _type_of(annotation: Any) -> click.ParamType[Any]:
    """int, float or str, as the field's type says; `none` stands for no value where that is allowed."""
    kinds = _kinds(annotation)
    base = click.INT if int in kinds else click.FLOAT if float in kinds else click.STRING
    return _OrNone(base) if type(None) in kinds else base


def _kinds(annotation: Any) -> set[type]:
    """The types in an annotation: int and NoneType in `PositiveInt | None`."""
    if isinstance(annotation, type):
        return {annotation}
    inner = get_args(annotation)
    return set().union(*map(_kinds, inner[:1] if get_origin(annotation) is Annotated else inner))


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON object on a line of standard output; numbers that are not finite become null."""
    print(json.dumps(plain(data)), flush=True)
