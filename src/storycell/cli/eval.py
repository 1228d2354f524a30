"""`storycell eval [RUN] [TEXT…]`: the loss of a model on a text."""

import argparse
import dataclasses
import math

from storycell import api, loss
from storycell.cli.display import preparing, say
from storycell.cli.flags import add_backend, add_reading, print_json
from storycell.data import corpus
from storycell.data.prepare import prepare_cached
from storycell.data.tokens import Prepared, is_prepared, open_prepared
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation.evaluator import Evaluation
from storycell.runs import text as checkpoint


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
    if arguments.text:
        words = arguments.text
        result = _of_words(model, words, arguments.encoding or "utf-8", arguments.column, arguments.windows)
    else:
        words = model.config.text.valid_words or model.config.text.words
        result = _of_run(model, arguments.windows)
    if arguments.json:
        print_json(dataclasses.asdict(result) | {"run": str(model.path), "text": " ".join(words)})
    else:
        _show(result, " ".join(words))


def _of_run(model: api.Model, windows: int | None) -> Evaluation:
    """The text that the run held out, read again from where it was."""
    text = model.config.text
    again = f"name a text to score, as in `storycell eval {model.path} TEXT`"
    if "-" in (text.valid_words or text.words):
        raise CorpusError(f"{model.path} was trained on standard input, which is gone; {again}")
    try:
        if (valid := checkpoint.open_valid(text)) is not None:  # the text trained on need not be there
            return model.evaluate(valid, windows=windows)
        with preparing() as progress:
            prepared = checkpoint.read_run_text(model.config, model.vocab, progress)
    except CorpusError as error:
        raise CorpusError(f"the text of {model.path}: {error}; or {again}") from None
    if checkpoint.has_changed(prepared, text):
        words = " ".join(text.words)
        say(f"{words} has changed since the training: what is scored may be text that the model was trained on")
    return _held_out(model, prepared, windows)


def _of_words(model: api.Model, words: list[str], encoding: str, column: str | None, windows: int | None) -> Evaluation:
    """The embedded corpus or a prepared folder is scored on what is held out, any other text as a whole."""
    if len(words) == 1 and is_prepared(words[0]):
        return _held_out(model, open_prepared(words[0]), windows)
    text = corpus.open_corpus(words, encoding, "valid", column)
    if not text.is_embedded:
        return model.evaluate(text, windows=windows)
    with preparing() as progress:
        return _held_out(model, prepare_cached(text, vocab=model.vocab, progress=progress), windows)


def _held_out(model: api.Model, prepared: Prepared, windows: int | None) -> Evaluation:
    if prepared.valid is None:
        raise CorpusError(f"{prepared.name} holds nothing out to score; name a text to score")
    return model.evaluate_prepared(prepared, windows=windows)


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
