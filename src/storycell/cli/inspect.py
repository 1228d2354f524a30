"""`storycell inspect [RUN] [TEXT…]`: what gates, cells and gradients do, as one offline page or as numbers."""

import json
import time
from pathlib import Path

import click
import numpy as np

from storycell import api, extras
from storycell.cli.flags import NAME, Verb, backend_option, print_json, reading_options, run_argument
from storycell.data.corpus import open_corpus
from storycell.data.tokens import Prepared
from storycell.errors import CorpusError, SettingsError
from storycell.inspect import inspection
from storycell.inspect.film import reel_of
from storycell.inspect.grammar import grammar_features
from storycell.inspect.inspection import Subject
from storycell.report.inspection import InspectionReport
from storycell.report.page import Figure
from storycell.runs.files import plain
from storycell.runs.folder import RunFolder
from storycell.runs.network import run_name
from storycell.runs.text import Scored, first_chars, is_embedded, open_held_out, open_words
from storycell.training.display import preparing, say
from storycell.types import BOUNDARY

CHARS = 100_000


@click.command("inspect", cls=Verb)
@run_argument
@click.argument("text", nargs=-1, type=NAME, help="text to read (default: what the run held out)")
@click.option("--out", type=NAME, metavar="FILE.html", help="write the report here (default inspect-RUN.html)")
@click.option("--against", type=NAME, metavar="RUN", help="a second run, to compare mistakes and gradients with")
@click.option("--film", "filmed", is_flag=True, help="what was learnt when, from a run of `train --checkpoints log`")
@click.option(
    "--figures", "figures_folder", type=NAME, metavar="DIR", help="write each figure as SVG and its numbers as JSON too"
)
@click.option("--chars", type=int, default=CHARS, metavar="N", help=f"read the first N characters (default {CHARS:,})")
@reading_options
@backend_option
def command(
    run: str,
    text: tuple[str, ...],
    out: str | None,
    against: str | None,
    filmed: bool,
    figures_folder: str | None,
    chars: int,
    encoding: str,
    column: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Look inside, and write the page; with --json the numbers, and the page only if it was asked for."""
    began = time.monotonic()
    if chars < 1:
        raise SettingsError(f"chars = {chars}: it must be at least 1")
    page = Path(out) if out else None if as_json else Path(f"inspect-{run_name(run)}.html")
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"{page}: the report is a web page; give a name that ends in .html")
    if page is not None and not page.parent.is_dir():
        raise SettingsError(f"{page}: there is no folder {page.parent}")
    extras.require("matplotlib", "`storycell inspect`, which draws figures,")
    model = api.load(run, backend=backend)
    reel = reel_of(RunFolder(model.path), model.network) if filmed else None
    read, text_name = _text(run, model, list(text), encoding, column)
    block = first_chars(read, chars)
    subject = _subject(model, block)
    second = _subject(api.load(against, backend=backend), block) if against else None
    found = inspection.inspect(subject, second, grammar_features(block) if is_embedded(read) else None, reel)
    report = InspectionReport(found)
    if page is not None:
        page.write_text(report.html(text_name), encoding="utf-8")
    if figures_folder:
        _write_figures(Path(figures_folder), report.figures)
    elapsed_s = time.monotonic() - began
    if as_json:
        numbers = {name: plain(drawn.numbers) for name, drawn in report.figures.items()}
        print_json({
            "figures": numbers, "elapsed_s": round(elapsed_s, 3), "run": str(model.path), "text": text_name,
            "chars": len(found.trace), "out": str(page) if page else None,
        })  # fmt: skip
    elif page is not None:
        say(f"read {len(found.trace):,} characters of {text_name} in {elapsed_s:.1f} s")
        print(page)


def _subject(model: api.Model, block: bytes) -> Subject:
    ids = np.concatenate([[BOUNDARY], model.vocab.encode_block(block)]).astype(model.vocab.dtype)
    return Subject(model.name, model.network, model.vocab, ids, model.config.settings.training.seed)


def _text(run: str, model: api.Model, words: list[str], encoding: str, column: str | None) -> tuple[Scored, str]:
    """The text to read, and what to call it."""
    with preparing() as progress:
        if words:
            text = open_words(
                words, model.vocab, encoding=encoding, column=column, record=model.config.text, progress=progress
            )
            return text, text.name
        try:
            text = open_held_out(model.config, model.vocab, say, progress)
        except CorpusError as error:
            if run != "demo":
                raise CorpusError(
                    f"the text of {model.path}: {error}; name a text, as in `storycell inspect {model.path} TEXT`"
                ) from None
            say("demo reads the embedded stories; name a text to see it read that")
            return open_corpus(["stories"], recorded=True), "the embedded stories"
    return text, f"{text.name} (held out)" if isinstance(text, Prepared) else text.name


def _write_figures(folder: Path, figures: dict[str, Figure]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in figures.items():
        (folder / f"{name}.svg").write_text(drawn.svg, encoding="utf-8")
        (folder / f"{name}.json").write_text(json.dumps(plain(drawn.numbers)) + "\n", encoding="utf-8")
