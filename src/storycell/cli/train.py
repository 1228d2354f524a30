"""`storycell train [TEXT…]` and `storycell train --resume RUN`."""

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from storycell import api, config, loss, threads
from storycell.api import Run
from storycell.cli.flags import (
    NAME,
    Verb,
    asked_vocab,
    given_settings,
    items_options,
    print_json,
    reading_options,
    settings_options,
    valid_option,
    vocab_option,
)
from storycell.errors import CorpusError, SettingsError
from storycell.training.display import TrainingDisplay, preparing, say

FINAL_SAMPLE_TEMPERATURE = (
    0.5  # temperature of the story at the end: a young model is at its best a little below the usual 0.8
)
_SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


@click.command("train", cls=Verb)
@click.argument("text", nargs=-1, type=NAME, help="files, folders, globs, - or a named corpus (default: stories)")
@click.option("--out", type=NAME, metavar="RUN", help="the run folder to make (default: a new name in runs/)")
@click.option(
    "--recipe",
    help=f"settings to start from: {', '.join(config.recipes())} (default quick; items for "
    "--lines, pieces for --vocab pieces)",
)
@valid_option
@vocab_option
@reading_options
@items_options
@click.option("--init", type=NAME, metavar="RUN", help="start from the weights of another run, or of demo")
@click.option("--resume", type=NAME, metavar="RUN", help="go on with a run from its last save")
@settings_options
@click.pass_context
def command(
    context: click.Context,
    /,
    text: tuple[str, ...],
    out: str | None,
    recipe: str | None,
    valid_words: tuple[str, ...],
    vocab: str | None,
    pieces: int | None,
    encoding: str,
    column: str | None,
    lines: bool,
    labels: tuple[str, ...],
    anonymise: bool,
    init: str | None,
    resume: str | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Train or resume; show it live; print a story and what to type next, or the summary as JSON."""
    given = given_settings(settings)
    _refuse_runs_as_text(text)
    display = TrainingDisplay()
    with preparing() as progress, display:
        if resume is not None:
            _refuse(
                context,
                ("out", "recipe", "vocab", "pieces", "encoding", "column", "lines", "labels", "anonymise", "init"),
            )
            run = api.resume(
                resume,
                text=list(text) or None,
                valid=list(valid_words) or None,
                callback=display.show,
                progress=progress,
                **given,
            )
        else:
            run = api.train(
                list(text) or None,
                valid=list(valid_words) or None,
                out=out,
                recipe=recipe,
                init=init,
                vocab=asked_vocab(vocab, pieces, recipe),
                encoding=encoding,
                column=column,
                lines=lines,
                labels=labels,
                anonymise=anonymise,
                callback=display.show,
                progress=progress,
                **given,
            )
    if run.summary:  # of several processes only the first one has something to say
        asked = settings["threads"]
        with threads.computing_on(asked, asked) if asked else nullcontext():
            _report(run, as_json=as_json)
    return _SIGNALS.get(run.interrupted, 0)


def _refuse(context: click.Context, names: tuple[str, ...]) -> None:
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "label" if name == "labels" else name
            raise SettingsError(f"--{flag} does not go with --resume: a resumed run keeps what it has")


def _refuse_runs_as_text(words: tuple[str, ...]) -> None:
    for word in words:
        if Path(word, "config.json").is_file() and Path(word, "vocab.json").is_file():
            raise CorpusError(
                f"{word} is a run, not a text; go on with it by `storycell train --resume {shlex.quote(word)}`, "
                f"or start from its weights with --init {shlex.quote(word)}"
            )


def _report(run: Run, as_json: bool) -> None:
    path = shlex.quote(str(run.path))
    summary = run.summary
    if run.interrupted:
        say(f"stopped by {run.interrupted} at step {summary['step']:,}, everything saved")
        say(f"next: storycell train --resume {path}")
    else:
        say(_result(summary))
    if as_json:
        print_json(summary)
    elif not run.interrupted:
        print(f"\n{run.model.generate(chars=1000, temperature=FINAL_SAMPLE_TEMPERATURE, seed=1)}\n", flush=True)
        say(f"next: storycell sample {path}            more of its stories")
        say(f"      storycell eval {path}              its loss, in full")
        say(f"      storycell train --resume {path} --minutes {_more(run):g}   go on training")
    sys.stdout.flush()


def _more(run: Run) -> float:
    unit, amount = run.settings.training.budget
    return 2 * amount if unit == "minutes" else max(1.0, round(2 * run.summary["elapsed_s"] / 60, 1))


def _result(summary: dict[str, object]) -> str:
    said = f"{summary['run']}: {summary['params']:,} parameters, {summary['step']:,} steps in {summary['elapsed_s']} s"
    if summary["valid_nats"] is None:
        return f"{said}; no validation text"
    said += (
        f"; on the held-out text {summary['valid_nats']:.4f} nats per character "
        f"({summary['bits_per_char']:.3f} bits, perplexity {summary['perplexity']:.3f})"
    )
    said += f", floor {summary['floor_nats']:.4f}" if summary.get("floor_nats") is not None else ""
    if unknown := summary["unknown_chars"]:
        said += f"; {unknown:,} of its characters are unknown to the model and count {loss.ESCAPE_BITS:g} bits each"
    return said
