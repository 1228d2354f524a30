"""The command line: one module a verb, imported when that verb is called, so that `--help` answers at once.

Each verb's module has `add_arguments(parser)` and `run(arguments)`. Text goes to standard output, notes and progress to
standard error. Errors that a user can make end in one or two sentences and exit code 1, wrong values in 2.
"""

import argparse
import contextlib
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import storycell
from storycell.errors import SettingsError, StorycellError

VERBS = {
    "prepare": "turn text of any size into token files",
    "train": "train a model on a text, or go on with a run",
    "eval": "measure a model's loss on a text",
    "sample": "let a model write, character by character",
    "export": "put a model into one file that plays elsewhere: a page, a C program, an ONNX graph",
    "inspect": "show what a model's gates, cells and gradients do",
    "compress": "compress any file with a model, without loss",
    "decompress": "get back a file that compress made smaller",
    "novelty": "measure how much of what a model writes is copied",
    "compare": "put runs and baselines beside each other on one text",
    "reproduce": "train the models of the article on equal terms and tabulate them",
    "info": "show a run, the machine, and what computes",
    "serve": "a page to write with, and an API",
    "bench": "measure speed, beside torch's own layers",
}

_EXAMPLES = """\
examples:
  storycell sample                                  a story from the model in the package
  storycell train                                   a minute on the embedded stories
  storycell train book.txt --recipe small           three minutes on a text of your own
  storycell train book.txt --init demo              the same, from the model in the package
  storycell eval runs/book-small-1                  its loss on the text that was held out
  storycell sample runs/book-small-1 "Chapter 1"    what it writes after these words
"""

_PLAIN = "\0"
_HOW_TO_GO_ON = {
    "train": "; a run that had begun goes on from its last save with `storycell train --resume RUN`",
    "prepare": "; the same command goes on from where it was",
}


class Parser(argparse.ArgumentParser):
    """argparse with an error of one line, and the place of the help."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        self.exit(2, f"storycell: {message.replace(_PLAIN, '')}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Without `arguments` it is the program itself, which ends afterwards."""
    try:
        return _answered(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        if arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own end would answer Ctrl-C with tracebacks


def _answered(given: list[str]) -> int:
    """Run one command, and say what went wrong; returns the exit code."""
    _ready_streams()
    logging.getLogger("storycell").addHandler(_NOTES)
    try:
        try:
            return _run_verb(given[0], given[1:]) if given and given[0] in VERBS else _without_verb(given)
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
    except Exception as error:
        if "--debug" in given:
            raise
        if isinstance(error, OSError) and not error.filename:  # standard output itself
            _drop_output()
        message, code = _explained(error)
        print(f"storycell: {' '.join(message.splitlines())}", file=sys.stderr)
        return code


class _Notes(logging.Handler):
    """What readers of texts have to say, on a line of its own: a bar may be there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a note."""
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{clear}{record.getMessage()}", file=sys.stderr, flush=True)


_NOTES = _Notes()


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help with room for the longest verb beside its description; argparse forgets that verbs are indented twice."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = max(map(len, VERBS)) + 2 * self._indent_increment


def _without_verb(given: list[str]) -> int:
    parser = Parser(
        prog="storycell",
        description=(storycell.__doc__ or "").split("\n")[0],
        epilog=_EXAMPLES,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"storycell {storycell.__version__}")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for name, about in VERBS.items():
        verbs.add_parser(name, help=about)
    parser.parse_args(given)
    parser.error("the verb comes first")


def _run_verb(verb: str, given: list[str]) -> int:
    if verb != "train" and os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ:
        raise SettingsError(f"storycell {verb} runs in one process; only train can be started by torchrun")
    module = importlib.import_module(f"storycell.cli.{verb}")
    parser = Parser(prog=f"storycell {verb}", description=f"{VERBS[verb].capitalize()}.", allow_abbrev=False)
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = _parsed(parser, given)
    _keep_torch_to_the_quota()
    return int(module.run(arguments) or 0)


def _keep_torch_to_the_quota() -> None:
    """Torch computes on no more threads than `threads.default` says, also where it is imported later on.

    In a container that may be fewer than the machine has cores. What torchrun tells its processes is left alone.
    """
    threads = importlib.import_module("storycell.threads")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads.default())
    elif "RANK" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(threads.default())


def _parsed(parser: Parser, given: list[str]) -> argparse.Namespace:
    """The arguments; flags may stand between positionals, and after `--` nothing is a flag.

    argparse can do the one or the other, so what follows `--` goes through it with a mark that no argument can hold.
    """
    end = given.index("--") if "--" in given else len(given)
    parsed = parser.parse_intermixed_args([*given[:end], *(_PLAIN + word for word in given[end + 1 :])])
    for name, value in vars(parsed).items():
        if isinstance(value, str):
            setattr(parsed, name, value.removeprefix(_PLAIN))
        elif isinstance(value, list):
            setattr(parsed, name, [word.removeprefix(_PLAIN) for word in value])
    return parsed


def _explained(error: Exception) -> tuple[str, int]:
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
