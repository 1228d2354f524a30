"""`storycell novelty RUN TEXT…`: does a model copy the text it was trained on?"""

import time
from typing import Any

import click

from storycell import api
from storycell.cli.flags import NAME, Verb, backend_option, print_json, reading_options
from storycell.data.corpus import Corpus, held_out_words, open_corpus
from storycell.data.prepare import prepare_cached
from storycell.data.resumable import Progress
from storycell.data.tokens import Prepared, open_prepared
from storycell.errors import CorpusError
from storycell.evaluation.texts import encode_text
from storycell.lab.novelty import Copying, Novelty, novelty
from storycell.runs.text import open_valid_if_there, open_words, prepared_folder, read_training_text
from storycell.training.display import preparing, say
from storycell.types import Ids


@click.command("novelty", cls=Verb)
@click.argument("run", type=NAME, help="a run folder, or demo")
@click.argument("text", nargs=-1, type=NAME, help="its training text (default: the text of the run)")
@click.option(
    "--heldout",
    multiple=True,
    type=NAME,
    metavar="FILE",
    help="text of the same kind that it was not trained on; default: what the run held out",
)
@click.option("--count", type=int, default=100, help="how many stories to generate (default 100)")
@click.option("--chars", type=int, default=1000, help="most characters of each (default 1000)")
@click.option("--temperature", type=float, default=0.8, help="as for sample (default 0.8)")
@click.option("--seed", type=int, default=1, help="the same seed generates the same stories (default 1)")
@click.option("--show", type=int, default=5, metavar="N", help="how many copied spans to show (default 5)")
@reading_options
@backend_option
def command(
    run: str,
    text: tuple[str, ...],
    heldout: tuple[str, ...],
    count: int,
    chars: int,
    temperature: float,
    seed: int,
    show: int,
    encoding: str,
    column: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Generate, compare, and say how long the longest copied spans are."""
    model = api.load(run, backend=backend)
    began = time.monotonic()
    with preparing("") as progress:
        training, unseen = _texts(model, list(text), list(heldout) or None, encoding, column, progress)
        result = novelty(
            model,
            training,
            unseen,
            count=count,
            chars=chars,
            temperature=temperature,
            seed=seed,
            shown=show,
            progress=progress,
        )
    if as_json:
        about = {"run": str(model.path), "text": " ".join(text or model.config.text.words), "seed": seed}
        print_json(_summary(result) | about | {"elapsed_s": round(time.monotonic() - began, 3)})
    else:
        _show(result)


def _texts(
    model: api.Model,
    text: list[str],
    heldout: list[str] | None,
    encoding: str,
    column: str | None,
    progress: Progress,
) -> tuple[Ids, Ids | None]:
    """The ids of the text that was trained on and of one that was not: named, the run's, or a part of the text."""
    words, record = held_out_words(text, heldout), model.config.text
    given = words and open_words(words, model.vocab, encoding=encoding, column=column, record=record, progress=progress)
    if not text:
        prepared = read_training_text(model.config, model.vocab, say, progress, needs_valid=not given)
    elif (folder := prepared_folder(text, recorded=False)) is not None:
        prepared = open_prepared(folder)
    else:
        labels, anonymise = [*record.labels], record.anonymise
        training = open_corpus(text, encoding, column=column, lines=record.lines, labels=labels, anonymise=anonymise)
        valid = given if isinstance(given, Corpus) else None if given else open_valid_if_there(model.config.text, say)
        prepared = prepare_cached(training, valid=valid, vocab=model.vocab, progress=progress)
    for one in (prepared, given):
        if isinstance(one, Prepared) and one.vocab != model.vocab:
            raise CorpusError(
                f"{one.folder} was prepared with another vocabulary than the model's; give the text itself"
            )
    if isinstance(given, Corpus):
        return prepared.train_ids, encode_text(given, model.vocab)
    valid_ids = (given or prepared).valid_ids
    if valid_ids is None:
        say("the text is too short to hold anything out, so there is no yardstick; give --heldout FILE")
    return prepared.train_ids, valid_ids


def _summary(result: Novelty) -> dict[str, Any]:
    ours, theirs = result.samples, result.heldout
    return {
        "longest_copied": ours.longest,
        "heldout_longest_copied": theirs.longest if theirs else None,
        "median_copied": ours.median,
        "heldout_median_copied": theirs.median if theirs else None,
        "p95_copied": ours.p95,
        "heldout_p95_copied": theirs.p95 if theirs else None,
        "copied_share": ours.copied_share if theirs else None,
        "samples": ours.pieces,
        "chars": ours.chars,
        "heldout_chars": theirs.chars if theirs else None,
        "spans": [vars(span) for span in result.spans],
    }


def _show(result: Novelty) -> None:
    print("longest span of a story that stands in the training text, in characters:")
    print("                  median   95th percentile   longest   stories   characters")
    for name, copying in (("samples", result.samples), ("held-out text", result.heldout)):
        if copying:
            print(_row(name, copying))
    if result.heldout:
        share = result.samples.copied_share
        print(f"{share:.2%} of what it generated is in spans longer than any that the held-out text shares")
    for span in result.spans:
        print(f"\n{span.chars} characters, sample {span.sample}, from character {span.at}:")
        print(f"  {span.text!r}")


def _row(name: str, copying: Copying) -> str:
    figures = f"{copying.median:8.0f} {copying.p95:17.0f} {copying.longest:9,} {copying.pieces:9,} {copying.chars:12,}"
    return f"  {name:14}{figures}"
