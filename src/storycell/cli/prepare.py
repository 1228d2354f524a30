"""`storycell prepare TEXT… --out DIR`: text -> token files."""

import time
from pathlib import Path

import click

from storycell.cli.flags import (
    NAME,
    Verb,
    asked_vocab,
    items_options,
    print_json,
    reading_options,
    valid_option,
    vocab_option,
)
from storycell.data import corpus, prepare
from storycell.training.display import preparing, say


@click.command("prepare", cls=Verb)
@click.argument("text", nargs=-1, required=True, type=NAME, help="files, folders, globs, - or a named corpus")
@click.option("--out", required=True, type=NAME, metavar="DIR", help="the folder to make")
@valid_option
@vocab_option
@reading_options
@items_options
def command(
    text: tuple[str, ...],
    out: str,
    valid_words: tuple[str, ...],
    vocab: str | None,
    pieces: int | None,
    encoding: str,
    column: str | None,
    lines: bool,
    labels: tuple[str, ...],
    anonymise: bool,
    as_json: bool,
) -> None:
    """Prepare, and say what came out."""
    words = list(text)
    training = corpus.open_corpus(words, encoding, column=column, lines=lines, labels=labels, anonymise=anonymise)
    held_out = corpus.held_out_words(words, list(valid_words) or None)
    valid = None
    if held_out:
        known = training.anonymiser or anonymise
        valid = corpus.open_corpus(held_out, encoding, "valid", column, lines, labels, anonymise=known)
    asked = asked_vocab(vocab, pieces) or "characters"
    began = time.monotonic()
    with preparing() as progress:
        prepared = prepare.prepare(training, Path(out), valid=valid, vocab=asked, progress=progress)
    elapsed_s = time.monotonic() - began
    splits = [split for split in (prepared.train, prepared.valid) if split]
    summary = {
        "out": str(prepared.folder),
        "chars": sum(split.chars for split in splits),
        "stories": prepared.stories,
        "valid_chars": prepared.valid.chars if prepared.valid else 0,
        "valid_stories": prepared.valid.stories if prepared.valid else 0,
        "vocab_size": len(prepared.vocab),
        "bytes": sum(split.utf8_bytes for split in splits),
        "elapsed_s": round(elapsed_s, 3),
        "bytes_per_s": round(sum(split.utf8_bytes for split in splits) / max(elapsed_s, 1e-9)),
    }
    if as_json:
        print_json(summary)
        return
    stories = "1 story" if prepared.stories == 1 else f"{prepared.stories:,} stories"
    print(f"{summary['chars']:,} characters in {stories}, {summary['vocab_size']} ids; {elapsed_s:.1f} s")
    say(prepared.held_out)
    say(f"next: storycell train {prepared.folder}")
