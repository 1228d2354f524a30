"""`storycell inspect [RUN] [TEXT…]`: what gates, cells and gradients do, as one offline page or as numbers."""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from storycell import api
from storycell.cli.display import preparing, say
from storycell.cli.flags import add_backend, add_reading, print_json
from storycell.data.corpus import open_corpus
from storycell.data.tokens import Prepared
from storycell.errors import CorpusError, SettingsError
from storycell.inspect import inspection
from storycell.inspect.grammar import grammar_features
from storycell.inspect.inspection import Subject
from storycell.nn.adapter import TorchModel
from storycell.report.inspection import figures_of, inspection_page
from storycell.report.page import Figure, plain
from storycell.runs.network import run_name
from storycell.runs.text import Scored, first_chars, is_embedded, open_held_out, open_words
from storycell.types import BOUNDARY

CHARS = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `inspect`."""
    parser.add_argument("run", nargs="?", default="demo", metavar="RUN", help="a run folder, or demo (the default)")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="text to read (default: what the run held out)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.html", help="write the report here (default inspect-RUN.html)"
    )
    parser.add_argument("--against", metavar="RUN", help="a second run, to compare mistakes and gradients with")
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="write each figure as SVG and its numbers as JSON too"
    )
    parser.add_argument(
        "--chars", type=int, default=CHARS, metavar="N", help=f"read the first N characters (default {CHARS:,})"
    )
    add_reading(parser)
    add_backend(parser)


def run(arguments: argparse.Namespace) -> None:
    """Look inside, and write the page; with --json the numbers, and the page only if it was asked for."""
    began = time.monotonic()
    if arguments.chars < 1:
        raise SettingsError(f"chars = {arguments.chars}: it must be at least 1")
    out = arguments.out or (None if arguments.json else Path(f"inspect-{run_name(arguments.run)}.html"))
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"{out}: the report is a web page; give a name that ends in .html")
    if out is not None and not out.parent.is_dir():
        raise SettingsError(f"{out}: there is no folder {out.parent}")
    model = api.load(arguments.run, backend=arguments.backend)
    text, text_name = _text(model, arguments)
    block = first_chars(text, arguments.chars)
    subject = _subject(model, block)
    against = arguments.against and _subject(api.load(arguments.against, backend=arguments.backend), block)
    found = inspection.inspect(subject, against or None, grammar_features(block) if is_embedded(text) else None)
    figures = figures_of(found)
    if out is not None:
        out.write_text(inspection_page(found, text_name), encoding="utf-8")
    if arguments.figures:
        _write_figures(arguments.figures, figures)
    elapsed_s = time.monotonic() - began
    if arguments.json:
        numbers = {name: plain(drawn.numbers) for name, drawn in figures.items()}
        print_json({
            "figures": numbers, "elapsed_s": round(elapsed_s, 3), "run": str(model.path), "text": text_name,
            "chars": len(found.trace), "out": str(out) if out else None,
        })  # fmt: skip
    elif out is not None:
        say(f"read {len(found.trace):,} characters of {text_name} in {elapsed_s:.1f} s")
        print(out)


def _subject(model: api.Model, block: bytes) -> Subject:
    ids = np.concatenate([[BOUNDARY], model.vocab.encode_block(block)]).astype(model.vocab.dtype)
    return Subject(model.name, TorchModel(model.lm), model.vocab, ids, model.config.settings.training.seed)


def _text(model: api.Model, arguments: argparse.Namespace) -> tuple[Scored, str]:
    """The text to read, and what to call it."""
    with preparing() as progress:
        if arguments.text:
            encoding, column = arguments.encoding or "utf-8", arguments.column
            text = open_words(arguments.text, model.vocab, encoding=encoding, column=column, progress=progress)
            return text, text.name
        try:
            text = open_held_out(model.config, model.vocab, say, progress)
        except CorpusError as error:
            if arguments.run != "demo":
                raise CorpusError(
                    f"the text of {model.path}: {error}; name a text, as in `storycell inspect {model.path} TEXT`"
                ) from None
            say("demo reads the embedded stories; name a text to see it read that")
            return open_corpus(["stories"], recorded=True), "the embedded stories"
    return text, f"{text.name} (held out)" if isinstance(text, Prepared) else text.name


def _write_figures(folder: Path, figures: dict[str, Figure]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in figures.items():
        (folder / f"{name}.svg").write_text(str(drawn.svg), encoding="utf-8")
        (folder / f"{name}.json").write_text(json.dumps(plain(drawn.numbers)) + "\n", encoding="utf-8")
