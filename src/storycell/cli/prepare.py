"""`storycell prepare TEXT… --out DIR`: text -> token files."""

import argparse
import time
from pathlib import Path

from storycell.cli.display import preparing, say
from storycell.cli.flags import add_reading, print_json
from storycell.data import corpus, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `prepare`."""
    parser.add_argument("text", nargs="+", metavar="TEXT", help="files, folders, globs, - or a named corpus")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--valid", action="append", metavar="FILE", help="text to hold out, not a part of TEXT; may be repeated"
    )
    parser.add_argument("--vocab", choices=("characters", "bytes"), default="characters", help="what an id stands for")
    add_reading(parser)


def run(arguments: argparse.Namespace) -> None:
    """Prepare, and say what came out."""
    encoding, column = arguments.encoding or "utf-8", arguments.column
    text = corpus.open_corpus(arguments.text, encoding, column=column)
    held_out = corpus.held_out_words(arguments.text, arguments.valid)
    valid = corpus.open_corpus(held_out, encoding, "valid", column) if held_out else None
    began = time.monotonic()
    with preparing() as progress:
        prepared = prepare.prepare(text, Path(arguments.out), valid=valid, vocab=arguments.vocab, progress=progress)
    elapsed_s = time.monotonic() - began
    halves = [half for half in (prepared.train, prepared.valid) if half]
    summary = {
        "out": str(prepared.folder),
        "chars": sum(half.chars for half in halves),
        "stories": prepared.stories,
        "valid_chars": prepared.valid.chars if prepared.valid else 0,
        "valid_stories": prepared.valid.stories if prepared.valid else 0,
        "vocab_size": len(prepared.vocab),
        "bytes": sum(half.utf8_bytes for half in halves),
        "elapsed_s": round(elapsed_s, 3),
        "bytes_per_s": round(sum(half.utf8_bytes for half in halves) / max(elapsed_s, 1e-9)),
    }
    if arguments.json:
        print_json(summary)
        return
    stories = "1 story" if prepared.stories == 1 else f"{prepared.stories:,} stories"
    print(f"{summary['chars']:,} characters in {stories}, {summary['vocab_size']} ids; {elapsed_s:.1f} s")
    say(prepared.held_out)
    say(f"next: storycell train {prepared.folder}")
