"""The command line: one module a verb, imported when that verb is called, so that `--help` answers at once.

Each verb's module has a Click command named `command`. Text goes to standard output, notes and progress to standard
error. Errors that a user can make end in one or two sentences and exit code 1, wrong flags and values in 2.
"""

import contextlib
import difflib
import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

import storycell
from storycell.errors import StorycellError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VERBS = {
    "prepare": "turn text of any size into token files",
    "train": "train a model on a text, or go on with a run",
    "eval": "measure a model's loss on a text",
    "sample": "generate text, character by character",
    "export": "put a model into one file that plays elsewhere: a page, a C program, an ONNX graph",
    "push": "put a model on the Hugging Face hub",
    "inspect": "show what a model's gates, cells and gradients do",
    "compress": "compress any file with a model, without loss",
    "decompress": "get back a file that compress made smaller",
    "novelty": "measure how much of what a model generates is copied",
    "compare": "put runs and baselines beside each other on one text",
    "reproduce": "train the models of the article on equal terms and tabulate them",
    "info": "show a run, the machine, and what computes",
    "serve": "a page to generate with, and an API",
    "bench": "measure speed, beside torch's own layers where torch is there",
}

_EXAMPLES = """\
\b
Examples:
  storycell sample                                  a story from the model in the package
  storycell train                                   a minute on the embedded stories
  storycell train book.txt --recipe small           three minutes on a text of your own
  storycell train book.txt --init demo              the same, from the model in the package
  storycell eval runs/book-small-1                  its loss on the text that was held out
  storycell sample runs/book-small-1 "Chapter 1"    what it generates after these words
"""

_COMPLETE = "_STORYCELL_COMPLETE"  # Click's protocol: the shell's completion sets this variable
_BROKEN_PIPE = (errno.EPIPE, errno.EINVAL) if os.name == "nt" else (errno.EPIPE,)  # Windows has another word for it
_HOW_TO_GO_ON = {
    "train": "; a run that had begun goes on from its last save with `storycell train --resume RUN`",
    "prepare": "; the same command goes on from where it was",
}


class Verbs(click.Group):
    """The verbs by name; a verb's module is imported when it is called, not to list or complete names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in pipeline order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb's command, from its module; None where there is no such verb."""
        if cmd_name not in VERBS:
            return None
        command = cast(click.Command, importlib.import_module(f"storycell.cli.{cmd_name}").command)
        command.help = f"{VERBS[cmd_name].capitalize()}."
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(VERBS.items())

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """Complete a verb without importing any, or a flag of the program itself."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(name, help=about) for name, about in VERBS.items() if name.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the program's own flags; Click would take a verb after `--`, where only texts are expected."""
        if args[:1] == ["--"]:
            ctx.fail("The verb comes first")
        return super().parse_args(ctx, args)


_PROGRAM = click.version_option(storycell.__version__, message="storycell %(version)s")(
    Verbs(
        "storycell",
        help=(storycell.__doc__ or "").split("\n")[0],
        epilog=_EXAMPLES,
        no_args_is_help=False,
        subcommand_metavar="VERB ...",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Without `arguments` it is the program itself, which ends afterwards."""
    if arguments is None:
        sys.unraisablehook = _heed_lost_interrupt
    try:
        return _run_command(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        if arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own end would answer Ctrl-C with tracebacks


def _heed_lost_interrupt(lost: "sys.UnraisableHookArgs") -> None:
    """A Ctrl-C that strikes in a finaliser, where Python would print a traceback and go on, ends the program too."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        os._exit(128 + signal.SIGINT)
    sys.__unraisablehook__(lost)


def _run_command(given: list[str]) -> int:
    """Run one command, and say what went wrong; returns the exit code."""
    _ready_streams()
    logging.getLogger("storycell").addHandler(_NOTES)
    try:
        try:
            return _run(given)
        finally:
            sys.stdout.flush()  # here, where an error of it can still be answered
    except BrokenPipeError:  # whoever was reading has seen enough
        _drop_output()
        return 0
    except KeyboardInterrupt:
        with contextlib.suppress(ValueError):  # one more Ctrl-C ends at once, without a traceback
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        print(f"storycell: interrupted{_HOW_TO_GO_ON.get(given[0], '') if given else ''}", file=sys.stderr)
        return 128 + signal.SIGINT
    except click.UsageError as error:
        verb = f" {given[0]}" if given and given[0] in VERBS else ""
        print(f"storycell: {_sentence(error)}; see `storycell{verb} --help`", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if "--debug" in given:
            raise
        if isinstance(error, OSError) and not error.filename:  # standard output itself
            _drop_output()
            if error.errno in _BROKEN_PIPE:
                return 0
        message, code = _explain(error)
        print(f"storycell: {' '.join(message.splitlines())}", file=sys.stderr)
        return code


def _run(given: list[str]) -> int:
    """Run one command through Click; returns the exit code.

    Not by Click's own `main`, which ends at a broken pipe with 1 and hides Ctrl-C.
    """
    if instruction := os.environ.get(_COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(_PROGRAM, {}, "storycell", _COMPLETE, instruction)
    try:
        with _PROGRAM.make_context("storycell", given.copy()) as context:
            return int(_PROGRAM.invoke(context) or 0)
    except click.exceptions.Exit as end:  # after --help and --version
        return end.exit_code


class _Notes(logging.Handler):
    """What readers of texts have to say; a bar that is there moves on by a line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a note."""
        print(record.getMessage(), file=sys.stderr, flush=True)


_NOTES = _Notes()


def _sentence(error: click.UsageError) -> str:
    """What is wrong with a verb, a flag or a value, as a part of one sentence."""
    if isinstance(error, click.exceptions.NoSuchCommand):
        closest = difflib.get_close_matches(error.command_name, VERBS)
        known = f"the closest: {', '.join(closest)}" if closest else f"the verbs are {', '.join(VERBS)}"
        return f"there is no verb {error.command_name!r}; {known}"
    if isinstance(error, click.NoSuchOption):
        more = "" if isinstance(error.cmd, click.Group) else "; a text that begins with a hyphen comes after --"
        more = f"; the closest: {', '.join(error.possibilities)}" if error.possibilities else more
        return f"there is no flag {error.option_name}{more}"
    said = " ".join(error.format_message().split()).removesuffix(".")
    return said[:1].lower() + said[1:]


def _explain(error: Exception) -> tuple[str, int]:
    """What to say about an error, and the exit code."""
    if isinstance(error, StorycellError):
        return str(error), error.exit_code
    is_torch = isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
    if isinstance(error, MemoryError) or is_torch:
        return "out of memory; try a smaller --hidden, --layers, --streams or --chunk", 1
    if isinstance(error, OSError):
        return f"{error.filename or 'standard output'}: {error.strerror or error}", 1
    return f"unexpected {type(error).__name__}: {error}; this is a bug, --debug shows where", 1


def _ready_streams() -> None:
    """Both streams UTF-8 whatever the locale, and there even if they were closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _drop_output() -> None:
    """Send what is still to be written nowhere, so that Python's last flush does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
