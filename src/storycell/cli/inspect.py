"""`storycell inspect [RUN] [TEXT…]`: what gates, cells and gradients do, as one offline page or as numbers."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storycell import api
from storycell.cli.display import preparing, say
from storycell.cli.flags import add_backend, add_reading, print_json
from storycell.data import corpus
from storycell.data.corpus import Corpus
from storycell.data.stories import corpus as stories
from storycell.data.story_pieces import pieces
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.errors import CorpusError, SettingsError
from storycell.inspect import inspection
from storycell.inspect.features import Feature
from storycell.inspect.inspection import Subject
from storycell.report.inspection import figures_of, inspection_page
from storycell.report.page import Figure, plain
from storycell.runs import text as checkpoint
from storycell.runs.network import run_name
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
    block, text_name, is_embedded = _text(model, arguments)
    subject = _subject(model, block)
    against = arguments.against and _subject(api.load(arguments.against, backend=arguments.backend), block)
    found = inspection.inspect(subject, against or None, _truth(block, subject) if is_embedded else None)
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
    return Subject(model.name, model.lm, model.vocab, ids, model.config.settings.training.seed)


def _text(model: api.Model, arguments: argparse.Namespace) -> tuple[bytes, str, bool]:
    """The text as a block (boundaries as 0xFF), what to call it, and whether it is the embedded corpus."""
    if arguments.text:
        opened = corpus.open_corpus(arguments.text, arguments.encoding or "utf-8", "valid", arguments.column)
        return _first(opened, arguments.chars), opened.name, opened.is_embedded
    try:
        return _of_run(model, arguments.chars)
    except CorpusError as error:
        if arguments.run == "demo":
            say("demo reads the embedded stories; name a text to see it read that")
            embedded = corpus.open_corpus(["stories"], recorded=True)
            return _first(embedded, arguments.chars), "the embedded stories", True
        raise CorpusError(
            f"the text of {model.path}: {error}; name a text, as in `storycell inspect {model.path} TEXT`"
        ) from None


def _of_run(model: api.Model, chars: int) -> tuple[bytes, str, bool]:
    """The same of the text of a run: what it validated on, where that is a part of its text or a text by itself."""
    record = model.config.text
    if "-" in (record.valid_words or record.words):
        raise CorpusError("it was standard input, which is gone")
    if not checkpoint.prepared_folder(record.words):
        opened = checkpoint.open_valid(record) or checkpoint.open_text(record)[0]
        if record.valid_words or opened.is_embedded:
            return _first(opened, chars), opened.name, opened.is_embedded
    with preparing() as progress:
        prepared = checkpoint.read_run_text(model.config, model.vocab, progress)
    ids = prepared.train_ids if prepared.valid_ids is None else prepared.valid_ids
    written = (BOUNDARY_BYTE if k == BOUNDARY else model.vocab.bytes_of(int(k)) for k in ids[1 : chars + 1])
    return b"".join(written), f"{' '.join(record.words)} (held out)", False


def _first(text: Corpus, chars: int) -> bytes:
    """The first `chars` characters of a corpus; whole stories, where it has several."""
    found: list[bytes] = []
    length = 0
    for begins, piece in pieces(text.blocks()):
        if begins and found:
            found.append(BOUNDARY_BYTE)
        found.append(piece)
        length += len(piece)
        if length > 4 * chars:  # bytes; a character has at most four
            break
    stories_found = b"".join(found).split(BOUNDARY_BYTE)
    kept: list[str] = []
    for story in stories_found:
        characters = story.decode("utf-8", "ignore")
        left = chars - sum(len(k) + 1 for k in kept)
        if kept and len(characters) > left:
            break
        kept.append(characters[:left])
    return BOUNDARY_BYTE.join(story.encode() for story in kept)


def _truth(block: bytes, subject: Subject) -> dict[str, Feature]:
    """What only the embedded stories' grammar knows: where quotations truly are, and who speaks."""
    inside: list[float] = []
    named: list[float] = []
    for story in map(bytes.decode, block.split(BOUNDARY_BYTE)):
        known = stories.annotate(story) if stories.parses(story) else None
        quoted = known.inside_quotes if known else np.zeros(len(story), dtype=np.bool_)
        speakers = known.speaker if known else ("",) * len(story)
        closing = np.append(quoted[:-1] & ~quoted[1:], False)  # the closing quote itself ends the quotation
        inside += [0.0, *(quoted & ~closing)]
        named += [0.0, *_last_named(speakers)]
    if len(inside) != len(subject.ids):
        return {}
    truths = {"truly inside quotes": inside, "the last speaker has a name": named}
    return {name: Feature(name, np.array(values[1:], dtype=np.float32)) for name, values in truths.items()}


def _last_named(speakers: Sequence[str]) -> list[float]:
    """1 where who spoke last, or speaks now, is called by a name; 0 before anybody has spoken."""
    now, found = 0.0, []
    for who in speakers:
        now = float(who[0].isupper()) if who else now
        found.append(now)
    return found


def _write_figures(folder: Path, figures: dict[str, Figure]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in figures.items():
        (folder / f"{name}.svg").write_text(str(drawn.svg), encoding="utf-8")
        (folder / f"{name}.json").write_text(json.dumps(plain(drawn.numbers)) + "\n", encoding="utf-8")
