"""`storycell eval [RUN] [TEXT…]`: the loss of a model on a text."""

import dataclasses
import math

import click

from storycell import api, loss
from storycell.cli.flags import NAME, Verb, backend_option, print_json, reading_options, run_argument
from storycell.data.resumable import Progress
from storycell.data.tokens import Prepared
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation.evaluator import Evaluation
from storycell.runs.text import Scored, open_held_out, open_words
from storycell.training.display import preparing, say


@click.command("eval", cls=Verb)
@run_argument
@click.argument("text", nargs=-1, type=NAME, help="text to score (default: what the run held out)")
@click.option("--windows", type=int, metavar="T", help="score zero-state windows of T characters instead of stories")
@reading_options
@backend_option
def command(
    run: str,
    text: tuple[str, ...],
    windows: int | None,
    encoding: str,
    column: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Score the text and print the result."""
    if windows is not None and windows < 1:
        raise SettingsError(f"windows = {windows}: it must be at least 1")
    model = api.load(run, backend=backend)
    words = list(text) or model.config.text.valid_words or model.config.text.words
    with preparing() as progress:
        if text:
            scored = open_words(
                words, model.vocab, encoding=encoding, column=column, record=model.config.text, progress=progress
            )
        else:
            scored = _held_out(model, progress)
    if isinstance(scored, Prepared):
        result = model.evaluate_prepared(scored, windows=windows)
    else:
        result = model.evaluate(scored, windows=windows)
    if as_json:
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
        say(f"{result.unknown_chars:,} characters are unknown to the model; each counts {loss.ESCAPE_BITS:g} bits")
