"""`storycell eval [RUN] [TEXT…]`: the loss of a model on a text."""

import dataclasses
import math

import click

from storycell import api, loss
from storycell.cli.display import preparing, say
from storycell.cli.flags import (
    NAME,
    Verb,
    backend_option,
    print_json,
    reading_options,
    run_argument,
    with_ngram_option,
)
from storycell.data.resumable import Progress
from storycell.data.tokens import Prepared
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation.evaluator import Evaluation
from storycell.lab.mixed import mix_with_ngram
from storycell.runs.text import Scored, open_held_out, open_words


@click.command("eval", cls=Verb)
@run_argument
@click.argument("text", nargs=-1, type=NAME, help="text to score (default: what the run held out)")
@click.option("--windows", type=int, metavar="T", help="score zero-state windows of T characters instead of stories")
@with_ngram_option
@reading_options
@backend_option
def command(
    run: str,
    text: tuple[str, ...],
    windows: int | None,
    with_ngram: bool,
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
            scored = open_words(words, model.vocab, encoding=encoding, column=column, progress=progress)
        else:
            scored = _held_out(model, progress)
    if isinstance(scored, Prepared):
        result = model.evaluate_prepared(scored, windows=windows)
    else:
        result = model.evaluate(scored, windows=windows)
    mixed = _evaluate_mixed(model, scored, windows) if with_ngram else None
    if as_json:
        summary = dataclasses.asdict(result) | {"run": str(model.path), "text": " ".join(words)}
        print_json(summary | (_mixed_keys(mixed) if mixed else {}))
    else:
        _show(result, " ".join(words))
        if mixed:
            print(f"with ngram  {mixed.loss_nats:.4f}{_error(mixed)} nats per character, not the model's own loss")


def _evaluate_mixed(model: api.Model, scored: Scored, windows: int | None) -> Evaluation:
    """The loss of the model mixed with the n-gram of its training text."""
    say("counting the training text")
    mixed = mix_with_ngram(model, say)
    if isinstance(scored, Prepared):
        return mixed.evaluate_prepared(scored, windows=windows)
    return mixed.evaluate(scored, windows=windows)


def _mixed_keys(mixed: Evaluation) -> dict[str, float]:
    names = ("loss_nats", "stderr_nats", "bits_per_char", "bits_per_byte", "perplexity")
    return {f"mixed_{name}": getattr(mixed, name) for name in names}


def _held_out(model: api.Model, progress: Progress) -> Scored:
    """The text that the run held out, read again from where it was."""
    again = f"name a text to score, as in `storycell eval {model.path} TEXT`"
    try:
        return open_held_out(model.config, model.vocab, say, progress)
    except CorpusError as error:
        raise CorpusError(f"the text of {model.path}: {error}; or {again}") from None


def _error(result: Evaluation) -> str:
    """The standard error, which of one story there is none."""
    return f" ± {result.stderr_nats:.4f}" if math.isfinite(result.stderr_nats) else ""


def _show(result: Evaluation, name: str) -> None:
    unit = f"zero-state windows of {result.windows}" if result.windows else "each story from a zero state"
    print(f"loss        {result.loss_nats:.4f}{_error(result)} nats per character")
    if result.floor_nats is not None:
        print(f"floor       {result.floor_nats:.4f} nats per character: the text's own entropy, which no model beats")
    print(f"bits        {result.bits_per_char:.4f} per character, {result.bits_per_byte:.4f} per byte")
    print(f"perplexity  {result.perplexity:.4f}")
    stories = "one story" if result.stories == 1 else f"{result.stories:,} stories"
    print(f"text        {name}: {result.chars:,} targets in {stories}, {unit}")
    if result.unknown_chars:
        say(f"{result.unknown_chars:,} characters are unknown to the model; each counts {loss.ESCAPE_BITS:g} bits")
