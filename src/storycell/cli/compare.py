"""`storycell compare RUN… [--text FILE]`: runs and baselines beside each other on one text."""

import argparse
from pathlib import Path

from storycell.cli.display import say
from storycell.cli.flags import add_backend, add_reading, print_json
from storycell.lab import compare_page
from storycell.lab.compare import compare
from storycell.report.page import write_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `compare`."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, or demo; the first is what others are held to"
    )
    parser.add_argument(
        "--text",
        action="append",
        metavar="FILE",
        help="text to score (default: what the first run held out); repeatable",
    )
    parser.add_argument(
        "--windows", type=int, metavar="T", help="length of the zero-state windows (default: the runs' longest chunk)"
    )
    parser.add_argument("--no-baselines", action="store_true", help="without n-grams and compressors")
    parser.add_argument("--out", metavar="FILE.html", help="write the page with curves and differences here")
    add_reading(parser)
    add_backend(parser)


def run(arguments: argparse.Namespace) -> None:
    """Compare; print the table or JSON; write the page."""
    found = compare(
        arguments.runs,
        arguments.text,
        encoding=arguments.encoding or "utf-8",
        column=arguments.column,
        windows=arguments.windows,
        baselines=not arguments.no_baselines,
        backend=arguments.backend,
        say=say,
    )
    if arguments.out:
        write_page(Path(arguments.out), compare_page.html(found))
        say(f"next: open {arguments.out}")
    if arguments.json:
        print_json(found.summary() | ({"page": arguments.out} if arguments.out else {}))
    else:
        for note in found.notes:
            say(note)
        print(compare_page.plain(found))
