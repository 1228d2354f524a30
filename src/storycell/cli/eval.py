"""`storycell eval [RUN] [TEXT…]`: the loss of a model on a text."""

import argparse
import dataclasses
import math

from storycell import api, loss
from storycell.cli.display import preparing, say
from storycell.cli.flags import add_backend, add_reading, print_json
from storycell.data.resumable import Progress
from storycell.data.tokens import Prepared
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation.evaluator import Evaluation
from storycell.runs.text import Scored, open_held_out, open_words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `eval`."""
    parser.add_argument("run", nargs="?", default="demo", metavar="RUN", help="a run folder, or demo (the default)")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="text to score (default: what the run held out)")
    parser.add_argument(
        "--windows", type=int, metavar="T", help="score zero-state windows of T characters instead of stories"
    )
    add_reading(parser)
    add_backend(parser)


def run(arguments: argparse.Namespace) -> None:
    """Score the text and print the result."""
    if arguments.windows is not None and arguments.windows < 1:
        raise SettingsError(f"windows = {arguments.windows}: it must be at least 1")
    model = api.load(arguments.run, backend=arguments.backend)
    words = arguments.text or model.config.text.valid_words or model.config.text.words
    encoding, column = arguments.encoding or "utf-8", arguments.column
    with preparing() as progress:
        if arguments.text:
            text = open_words(words, model.vocab, encoding=encoding, column=column, progress=progress)
        else:
            text = _held_out(model, progress)
    if isinstance(text, Prepared):
        result = model.evaluate_prepared(text, windows=arguments.windows)
    else:
        result = model.evaluate(text, windows=arguments.windows)
    if arguments.json:
        print_json(dataclasses.asdict(result) | {"run": str(model.path), "text": " ".join(words)})
    else:
        _show(result, " ".join(words))


def _held_out(model: api.Model, progress: Progress) -> Scored:
    """The text that the run held out, read again from where it was."""
    again = f"name a text to score, as in `storycell eval {model.path} TEXT`"
    try:
        return open_held_out(model.config, model.vocab, say, progress)
    except CorpusError as error:
        raise CorpusError(f"the text of {model.path}: {error}; or {again}") from None


def _show(result: Evaluation, name: str) -> None:
    unit = f"zero-state windows of {result.windows}" if result.windows else "each story from a zero state"
    error = f" ± {result.stderr_nats:.4f}" if math.isfinite(result.stderr_nats) else ""  # of one story there is none
    print(f"loss        {result.loss_nats:.4f}{error} nats per character")
    if result.floor_nats is not None:
        print(f"floor       {result.floor_nats:.4f} nats per character: the text's own entropy, which no model beats")
    print(f"bits        {result.bits_per_char:.4f} per character, {result.bits_per_byte:.4f} per byte")
    print(f"perplexity  {result.perplexity:.4f}")
    stories = "one story" if result.stories == 1 else f"{result.stories:,} stories"
    print(f"text        {name}: {result.chars:,} targets in {stories}, {unit}")
    if result.unknown_chars:
        say(f"{result.unknown_chars:,} characters are unknown to the model; each cost {loss.ESCAPE_BITS:g} bits")
