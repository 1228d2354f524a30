"""`storycell eval [RUN] [TEXT…]`: the loss of a model on a text."""

import dataclasses
import math

import click

from storycell import api, loss
from storycell.cli.flags import (
    NAME,
    Verb,
    backend_option,
    print_json,
    reading_options,
    run_argument,
    with_ngram_option,
)
from storycell.data.corpus import Corpus
from storycell.data.resumable import Progress
from storycell.data.tokens import Prepared
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation.evaluator import Evaluation
from storycell.evaluation.mixing import MixedModel
from storycell.evaluation.texts import encode_text
from storycell.lab.adapted import evaluate_adapted
from storycell.lab.mixed import mix_with_ngram
from storycell.runs.text import Scored, open_held_out, open_words
from storycell.training.display import preparing, say


@click.command("eval", cls=Verb)
@run_argument
@click.argument("text", nargs=-1, type=NAME, help="text to score (default: what the run held out)")
@click.option("--windows", type=int, metavar="T", help="score zero-state windows of T characters instead of stories")
@with_ngram_option
@click.option("--adapt", is_flag=True, help="also the loss of a model that adapts to the text while it reads")
@reading_options
@backend_option
def command(
    run: str,
    text: tuple[str, ...],
    windows: int | None,
    with_ngram: bool,
    adapt: bool,
    encoding: str,
    column: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Score the text and print the result."""
    if windows is not None and windows < 1:
        raise SettingsError(f"windows = {windows}: it must be at least 1")
    if adapt and windows is not None:
        raise SettingsError("--adapt reads stories, so it does not go with --windows; leave one of the two out")
    model = api.load(run, backend=backend)
    words = list(text) or model.config.text.valid_words or model.config.text.words
    with preparing() as progress:
        if text:
            scored = open_words(
                words, model.vocab, encoding=encoding, column=column, record=model.config.text, progress=progress
            )
        else:
            scored = _held_out(model, progress)
    result = _evaluate(model, scored, windows)
    mixture = _count(model) if with_ngram else None
    mixed = None if mixture is None else _evaluate(mixture, scored, windows)
    adapted = _evaluate_adapted(model, mixture, scored) if adapt else None
    if as_json:
        summary = dataclasses.asdict(result) | {"run": str(model.path), "text": " ".join(words)}
        summary |= {f"mixed_{name}": getattr(mixed, name) for name in _MIXED if mixed}
        print_json(summary | {f"adapted_{name}": value for name, value in (adapted or {}).items()})
        return
    _show(result, " ".join(words))
    if mixed:
        print(f"with ngram  {_loss(mixed.loss_nats, mixed.stderr_nats)}, not the model's own loss")
    if adapted:
        print(f"adapting    {_loss(adapted['loss_nats'], adapted['stderr_nats'])}, not the model's own loss")


_MIXED = ("loss_nats", "stderr_nats", "bits_per_char", "bits_per_byte", "perplexity")


def _count(model: api.Model) -> api.Model:
    say("counting the training text")
    return mix_with_ngram(model, say)


def _evaluate(model: api.Model, scored: Scored, windows: int | None) -> Evaluation:
    if isinstance(scored, Prepared):
        return model.evaluate_prepared(scored, windows=windows)
    return model.evaluate(scored, windows=windows)


def _evaluate_adapted(model: api.Model, mixture: api.Model | None, scored: Scored) -> dict[str, float]:
    """The loss of the model that adapts, with the n-gram too where that was counted."""
    ids = encode_text(scored, model.vocab) if isinstance(scored, Corpus) else scored.valid_ids
    assert ids is not None  # or the plain loss would have been refused
    ngram = mixture.network.ngram if mixture and isinstance(mixture.network, MixedModel) else None
    return dataclasses.asdict(evaluate_adapted(model.network, model.vocab, ids, ngram))


def _held_out(model: api.Model, progress: Progress) -> Scored:
    """The text that the run held out, read again from where it was."""
    again = f"name a text to score, as in `storycell eval {model.path} TEXT`"
    try:
        return open_held_out(model.config, model.vocab, say, progress)
    except CorpusError as error:
        raise CorpusError(f"the text of {model.path}: {error}; or {again}") from None


def _loss(nats: float, stderr: float) -> str:
    """A loss with its standard error, which of one story there is none."""
    return f"{nats:.4f}{f' ± {stderr:.4f}' if math.isfinite(stderr) else ''} nats per character"


def _show(result: Evaluation, name: str) -> None:
    unit = f"zero-state windows of {result.windows}" if result.windows else "each story from a zero state"
    print(f"loss        {_loss(result.loss_nats, result.stderr_nats)}")
    if result.floor_nats is not None:
        print(f"floor       {result.floor_nats:.4f} nats per character: the text's own entropy, which no model beats")
    print(f"bits        {result.bits_per_char:.4f} per character, {result.bits_per_byte:.4f} per byte")
    print(f"perplexity  {result.perplexity:.4f}")
    stories = "one story" if result.stories == 1 else f"{result.stories:,} stories"
    print(f"text        {name}: {result.chars:,} targets in {stories}, {unit}")
    if result.unknown_chars:
        say(f"{result.unknown_chars:,} characters are unknown to the model; each counts {loss.ESCAPE_BITS:g} bits")
