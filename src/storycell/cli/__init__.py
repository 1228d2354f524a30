"""The command line: one module a verb, imported when that verb is called, so that `--help` answers at once.

Each verb's module has `add_arguments(parser)` and `run(arguments)`. Text goes to standard output, notes and progress to
standard error. Errors that a user can make end in one or two sentences and exit code 1, wrong values in 2.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import storycell
from storycell.errors import StorycellError

VERBS = {
    "prepare": "turn text of any size into token files",
    "train": "train a model on a text, or go on with a run",
    "eval": "measure a model's loss on a text",
    "sample": "let a model write, character by character",
    "info": "show a run, the machine, and what computes",
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


class Parser(argparse.ArgumentParser):
    """argparse with an error of one line, and the place of the help."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        self.exit(2, f"storycell: {message}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in VERBS:
        return _run_verb(given[0], given[1:])
    parser = Parser(
        prog="storycell",
        description=(storycell.__doc__ or "").split("\n")[0],
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"storycell {storycell.__version__}")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for name, about in VERBS.items():
        verbs.add_parser(name, help=about)
    parser.parse_args(given)
    return 2


def _run_verb(verb: str, given: list[str]) -> int:
    module = importlib.import_module(f"storycell.cli.{verb}")
    parser = Parser(prog=f"storycell {verb}", description=f"{VERBS[verb].capitalize()}.", allow_abbrev=False)
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsed = parser.parse_args(given)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return int(module.run(parsed) or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that Python's last flush does not complain either
        return 0
    except KeyboardInterrupt:
        print("storycell: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except StorycellError as error:
        if parsed.debug:
            raise
        print(f"storycell: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print("storycell: out of memory; try a smaller --hidden, --streams or --chunk", file=sys.stderr)
        return 1
    except Exception as error:
        if parsed.debug:
            raise
        print(
            f"storycell: unexpected {type(error).__name__}: {error}; this is a bug, --debug shows where",
            file=sys.stderr,
        )
        return 1
