"""`storycell compare RUN… [--text FILE]`: runs and baselines beside each other on one text."""

from pathlib import Path

import click

from storycell import extras
from storycell.cli.flags import NAME, Verb, backend_option, print_json, reading_options
from storycell.lab import compare_page
from storycell.lab.compare import compare
from storycell.report.page import write_page
from storycell.training.display import say


@click.command("compare", cls=Verb)
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=NAME,
    metavar="RUN...",
    help="run folders, or demo; the first is what others are held to",
)
@click.option(
    "--text",
    multiple=True,
    type=NAME,
    metavar="FILE",
    help="text to score (default: what the first run held out); repeatable",
)
@click.option(
    "--windows", type=int, metavar="T", help="length of the zero-state windows (default: the runs' longest chunk)"
)
@click.option("--no-baselines", is_flag=True, help="without n-grams and compressors")
@click.option("--out", type=NAME, metavar="FILE.html", help="write the page with curves and differences here")
@reading_options
@backend_option
def command(
    runs: tuple[str, ...],
    text: tuple[str, ...],
    windows: int | None,
    no_baselines: bool,
    out: str | None,
    encoding: str,
    column: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Compare; print the table or JSON; write the page."""
    if out:
        extras.require("matplotlib", "a page with figures")
    found = compare(
        list(runs),
        list(text) or None,
        encoding=encoding,
        column=column,
        windows=windows,
        baselines=not no_baselines,
        backend=backend,
        say=say,
    )
    if out:
        write_page(Path(out), compare_page.html(found))
        say(f"next: open {out}")
    if as_json:
        print_json(found.summary() | ({"page": out} if out else {}))
    else:
        for note in found.notes:
            say(note)
        print(compare_page.plain(found))
