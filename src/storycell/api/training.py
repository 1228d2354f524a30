"""`train` and `resume`: from a text and settings, or a run folder, to a session of training.

In: what the command line takes. Out: a `Run`. Everything that can be wrong is found out here, before a folder is made
or a step is computed.

The surprising decision: settings are resolved before they are stored (threads, device, backend, precision), so a run
folder says what was computed, and resuming elsewhere does not quietly compute something else.

Under `torchrun` every process comes this way; the first one becomes a `Session`, the others follow it.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from storycell import backends, batches, checkpoint, config, corpus, processes, threads, tokens
from storycell.api import beginning, best
from storycell.api.follower import Follower
from storycell.api.machine import best_device, machine, versions
from storycell.api.model import Model, load
from storycell.api.run import Run
from storycell.api.session import Callback, Session
from storycell.api.transfer import adopt
from storycell.checkpoint import RunConfig, RunFolder, TextRecord
from storycell.config import BUDGETS, Settings
from storycell.errors import ResumeError, SettingsError
from storycell.model import CharLM
from storycell.processes import Processes
from storycell.tokens import Prepared, Progress
from storycell.vocab import Vocabulary

Texts = str | Path | Sequence[str | Path]

DROPOUTS = ("dropout", "weight_dropout", "embedding_dropout")
CHANGEABLE = {*BUDGETS, "evaluations", "save_every", "lr", "schedule", "final_lr", "warmup", "clip", "weight_decay"}
CHANGEABLE |= {*DROPOUTS, "reset", "average", "backend", "precision", "threads", "device"}


def train(
    text: Texts | None = None,
    *,
    valid: Texts | None = None,
    out: str | Path | None = None,
    recipe: str = "quick",
    init: str | Path | None = None,
    vocab: str = "characters",
    encoding: str = "utf-8",
    column: str | None = None,
    callback: Callback | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Train a model on a text and give its run.

    `text` and `valid` are what the command line takes: files, folders, globs, names of corpora; without `text` it is
    the embedded `stories`, whatever lies in the working directory. `column` is the column of tables, or field of JSON
    objects, with the text, where that is not clear. `out` is the run folder to make (a name is made in `runs/` without
    it). `init` is a run whose weights to start from; characters that are new are added to its
    vocabulary. `settings` are those of `storycell.config`, by name, on top of the recipe.
    Raises `StorycellError`s: each says what is wrong, where, and what to do.
    The number of threads is the caller's again at the end; by default it is torch's own, within a container's quota.
    In several processes, as `torchrun` starts them, all but the first call no callback and get a run without a summary.
    """
    with processes.joined() as group:
        donor = None if init is None else _donor(init, vocab)
        chosen = _resolved(group, _chosen(recipe, donor, settings))
        words = words_of(corpus.Named("stories") if text is None else text)
        out = Path(out) if out is not None else _free_name(words, recipe)
        checkpoint.refuse_occupied(out)
        record = TextRecord(
            words=words,
            valid_words=corpus.held_out_words(words, None if valid is None else words_of(valid)),
            encoding=encoding,
            column=column,
            vocab=donor.vocab.kind if donor else vocab,
            digest="",
            train_chars=0,
            valid_chars=0,
        )
        prepared = _read(group, record, donor.vocab if donor else None, progress)
        if recipe == "best":
            fitted = best.fitted(chosen, prepared.train.chars, keeps_network=donor is not None)
            chosen = _resolved(group, _chosen(recipe, donor, {**fitted, **settings}))
        group.rows(batches.make(prepared.train_ids, chosen.training).B)
        lm = CharLM.from_settings(len(prepared.vocab), chosen.model, seed=chosen.training.seed)
        if donor:
            adopt(lm, prepared.vocab, donor)
        run_config = RunConfig(
            made_at=checkpoint.now(),
            settings=chosen,
            text=_recorded(record, prepared),
            init=None if init is None else str(init),
            versions=versions(),
            machine=machine(),
        )
        with _threads(group, chosen):
            return _member(group, run_config, prepared, lm, callback).start(out)


def resume(
    run: str | Path,
    *,
    text: Texts | None = None,
    valid: Texts | None = None,
    callback: Callback | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Go on with a run from its last save, to the bit. `settings` may change the budget and how it is spent.

    Raises `ResumeError` where the text is another one, or a setting is changed that cannot be honoured.
    """
    with processes.joined() as group:
        folder = RunFolder(run)
        run_config = folder.config()
        chosen = _resolved(group, _changed(run_config.settings, settings))
        record = run_config.text.model_copy(
            update={
                **({"words": words_of(text)} if text is not None else {}),
                **({"valid_words": words_of(valid)} if valid is not None else {}),
            }
        )
        vocab = folder.vocab()
        # On meta nothing is allocated before the weights are known to fit.
        folder.load_last(CharLM.from_settings(len(vocab), chosen.model, device="meta"))
        prepared = _read(group, record, vocab if run_config.init else None, progress, may_merge=False)
        if checkpoint.has_changed(prepared, run_config.text) or prepared.vocab != vocab:
            raise ResumeError(
                f"{' '.join(record.words)} is not the text that {folder.path} was trained on ({prepared.train.chars:,} "
                f"characters to train on now, {run_config.text.train_chars:,} then, or other ones); "
                f"give the same text, or start a new run from these weights with --init {folder.path}"
            )
        run_config = run_config.model_copy(update={"settings": chosen})
        lm = CharLM.from_settings(len(vocab), chosen.model, seed=chosen.training.seed)
        with _threads(group, chosen):
            return _member(group, run_config, prepared, lm, callback).go_on(folder)


def _donor(init: str | Path, vocab: str) -> Model:
    """The run whose weights to start from, whose vocabulary comes with them."""
    donor = load(init)
    if vocab not in ("characters", donor.vocab.kind):
        raise SettingsError(
            f"--vocab {vocab}: --init {init} brings its own vocabulary of {donor.vocab.kind}; leave it out"
        )
    return donor


def _chosen(recipe: str, donor: Model | None, settings: dict[str, Any]) -> Settings:
    """Defaults < recipe < settings; with a donor the network is the donor's and the learning rate a quarter."""
    if donor is None:
        return config.resolve(recipe, **settings)
    network = donor.config.settings.model
    given = {name: settings[name] for name in config.ModelSettings.model_fields if name in settings}
    for name, value in given.items():
        if name not in DROPOUTS and value != getattr(network, name):
            raise SettingsError(
                f"{name} = {value!r}: --init brings its own network, with {name} = {getattr(network, name)!r}; "
                f"leave --{name} out"
            )
    chosen = config.resolve(recipe, **{**network.model_dump(), **settings})
    return chosen if "lr" in settings else chosen.changed(lr=chosen.training.lr / 4)


def _resolved(group: Processes, settings: Settings) -> Settings:
    """`auto` and unset values as what they come to on this machine."""
    training = settings.training
    device = best_device(training.device)
    weight = torch.empty(0, dtype=torch.float32, device=device)
    backend, _ = backends.choose(training.backend, settings.model.cell, weight)
    precision = training.precision
    if precision == "auto":
        precision = "bf16" if backend.multiplies_bf16(device) else "fp32"
    unit, amount = training.budget
    return settings.changed(
        device=str(device),
        backend=backend.name,
        precision=precision,
        threads=training.threads or group.default_threads(),
        **{unit: amount},
    )


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    now = {**settings.model.model_dump(), **settings.training.model_dump()}
    for name, value in changes.items():
        if name in now and name not in CHANGEABLE and value != now[name]:
            raise ResumeError(
                f"{name} cannot change from {now[name]!r} to {value!r} when a run is resumed; leave it out, or start a "
                "new run from these weights with --init"
            )
    return settings.changed(**changes)


def _threads(group: Processes, settings: Settings) -> AbstractContextManager[None]:
    """Within, this process computes on its share of the threads of the machine; the caller's count comes back."""
    share = group.threads(settings.training.threads or group.default_threads())
    return threads.computing_on(share, share)


def _member(
    group: Processes, run_config: RunConfig, prepared: Prepared, lm: CharLM, callback: Callback | None
) -> Session | Follower:
    """What this process does in the training, once it is sure that the others do the same."""
    settings = run_config.settings.changed(threads=None)  # a machine may have more cores than another
    group.require_same("settings or a text", settings.model_dump_json() + prepared.digest)
    if group.leads:
        return Session(run_config, prepared, lm, group, callback)
    return Follower(run_config, prepared, lm, group)


def _read(
    group: Processes, record: TextRecord, vocab: Vocabulary | None, progress: Progress | None, may_merge: bool = True
) -> Prepared:
    """The token files of a text, made by one process of each machine."""
    if group.count > 1 and "-" in [*record.words, *(record.valid_words or ())]:
        raise SettingsError(
            "standard input cannot be read by several processes; `storycell prepare - --out DIR` makes token files of "
            "it, and DIR can be"
        )
    return group.in_turn(lambda: _prepared(record, vocab, progress if group.leads else None, may_merge))


def _prepared(
    record: TextRecord, vocab: Vocabulary | None, progress: Progress | None, may_merge: bool = True
) -> Prepared:
    """The token files of a text: those it already is, or from the cache."""
    if checkpoint.prepared_folder(record.words) and record.column is not None:
        raise SettingsError(
            f"{record.words[0]} has been prepared already; --column is for the text that it was made of"
        )
    if vocab is not None and may_merge and vocab.kind == "characters" and not checkpoint.prepared_folder(record.words):
        vocab = vocab.merged(tokens.vocabulary_of(checkpoint.open_text(record)[0]))
    return checkpoint.read_text(record, vocab, progress or tokens.silent)


def _recorded(record: TextRecord, prepared: Prepared) -> TextRecord:
    valid_chars = prepared.valid.chars if prepared.valid else 0
    update = {
        "digest": prepared.digest,
        "train_chars": prepared.train.chars,
        "valid_chars": valid_chars,
        "tells_stories": beginning.tells_stories(prepared.train_ids, prepared.vocab),
    }
    return record.model_copy(update=update)


def words_of(texts: Texts) -> list[str]:
    """What names the texts; a file or folder by its absolute path, so that a run can be resumed from anywhere."""
    words = [texts] if isinstance(texts, str | Path) else texts
    return [
        str(word) if isinstance(word, corpus.Named) or not os.path.exists(word) else os.path.abspath(word)  # noqa: PTH100, PTH110
        for word in words
    ]


def _free_name(words: list[str], recipe: str) -> Path:
    stem = Path(words[0]).name.split(".")[0] or "text"
    stem = "stdin" if stem == "-" else "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)
    number = 1
    while (path := Path("runs") / f"{stem}-{recipe}-{number}").exists():
        number += 1
    return path
