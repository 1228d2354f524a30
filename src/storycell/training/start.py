"""`train` and `resume`: from a text and settings, or a run folder, to a finished training.

Everything that can be wrong is found out here, before a folder is made or a step is computed. Settings are resolved
before they are stored (threads, device, backend, precision), so a run folder says what was computed, and resuming on
another machine does not quietly compute something else. Under `torchrun` every process comes this way; the first one
runs a `TrainLoop`, the others a `TrainWorker`.

`transfer_weights` is what `--init` does. Every parameter that belongs to a character moves with it; a new character
keeps its fresh input weights and starts less likely than any of the donor's. Rows of matches, each of a length and a
character, move so too. Rows of n-grams are found by the ids of their characters: where characters are new, and ids are
others, they start again at zero.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from storycell import config, extras, threads
from storycell.config import BUDGETS, Settings, TrainSettings
from storycell.context import TABLE, of_matches
from storycell.data import batches, corpus
from storycell.data.prepare import prepare_cached
from storycell.data.resumable import Progress, no_progress
from storycell.data.survey import build_vocabulary, survey
from storycell.data.tokens import Prepared, open_prepared
from storycell.data.vocab import Vocabulary, parse_kind
from storycell.engine import library
from storycell.engine.teacher import MOST_CHARACTERS, Teacher
from storycell.errors import ResumeError, SettingsError
from storycell.language_model import Floats
from storycell.runs import default_prompt
from storycell.runs import folder as folder_module
from storycell.runs.folder import RunConfig, RunFolder, TextRecord, refuse_occupied
from storycell.runs.machine import best_device, machine, versions
from storycell.runs.network import LoadedRun, engine_obstacle, load_run, shapes_of
from storycell.runs.text import find_labels, has_changed, has_tunes, open_text, prepared_folder, read_text
from storycell.training import best
from storycell.training.best import Network
from storycell.training.engine_learner import EngineLearner
from storycell.training.learner import Learner
from storycell.training.loop import Callback, TrainingResult, TrainLoop, TrainWorker
from storycell.training.processes import ProcessGroup, is_launched
from storycell.training.trainer import Trainer
from storycell.types import RESERVED

ITEMS_WIDTHS = ((100_000, 64), (1_000_000, 128))  # up to so many characters of a list, hidden units; else 256
ITEMS_PASSES = 12  # how often a list is read
ITEMS_CHARS = (1_000_000, 10_000_000)  # the bounds of that in characters


def fit_items(train_chars: int, *, keeps_network: bool = False) -> dict[str, Any]:
    """`hidden` and `chars` of the recipe `items`, for a list of `train_chars` characters."""
    hidden = next((width for most, width in ITEMS_WIDTHS if train_chars <= most), 256)
    fit = {"chars": min(max(ITEMS_PASSES * train_chars, ITEMS_CHARS[0]), ITEMS_CHARS[1])}
    return fit if keeps_network else fit | {"hidden": hidden}


def transfer_weights(
    fresh: dict[str, Floats], vocab: Vocabulary, given: dict[str, Floats], given_vocab: Vocabulary, matches: int = 0
) -> dict[str, Floats]:
    """The `given` weights, spread out for `vocab`, which contains theirs; what is new is as in the `fresh` ones.

    `matches` is the longest match that has rows in the context's table of both, 0 where none has.
    """
    place = {text: k for k, text in enumerate(vocab.texts, RESERVED)}
    rows = [*range(RESERVED), *(place[text] for text in given_vocab.texts)]
    weights = {name: weight.copy() for name, weight in fresh.items()}
    weights["output.weight"] *= np.float32(0.1)
    weights["output.bias"][:] = given["output.bias"][RESERVED:].min() - np.float32(2.0)
    for name, weight in weights.items():
        if name in ("embedding.weight", "output.weight", "output.bias"):
            weight[rows] = given[name]
        elif name == "recurrent.weight_ih_l0" and "embedding.weight" not in weights:
            weight[:, rows] = given[name]
        elif name != TABLE or vocab.texts == given_vocab.texts:
            weight[:] = given[name]
        elif matches:
            mine, theirs = (
                of_matches(table, matches, len(v)) for table, v in ((weight, vocab), (given[name], given_vocab))
            )
            mine[:, rows] = theirs
    return weights


Texts = str | Path | Sequence[str | Path]

DROPOUTS = ("dropout", "weight_dropout", "embedding_dropout")
CHANGEABLE = {
    *BUDGETS,
    "evaluations",
    "save_every",
    "checkpoints",
    "lr",
    "schedule",
    "final_lr",
    "warmup",
    "clip",
    "weight_decay",
}
CHANGEABLE |= {*DROPOUTS, "reset", "average", "soft_targets", "soft_chars", "backend", "precision", "threads", "device"}


def train(
    text: Texts | None = None,
    *,
    valid: Texts | None = None,
    out: str | Path | None = None,
    recipe: str | None = None,
    init: str | Path | None = None,
    vocab: str | None = None,
    encoding: str = "utf-8",
    column: str | None = None,
    lines: bool = False,
    labels: Sequence[str] = (),
    anonymise: bool = False,
    callback: Callback | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a model on a text; the arguments are those of `storycell.train`."""
    words = name_texts(corpus.Named("stories") if text is None else text)
    kind = _kind_of(words, vocab)
    recipe = recipe or ("items" if lines else "pieces" if kind == "pieces" else "quick")
    if kind == "pieces" and recipe == "best":
        raise SettingsError("--vocab pieces: the recipe best plans for characters; leave one of the two out")
    with joined() as group:
        donor = None if init is None else _load_donor(init, vocab or "characters")
        vocab = vocab or kind or ("pieces" if recipe == "pieces" else "characters")
        chosen = resolve_settings(group, _choose_settings(recipe, donor, settings))
        out = Path(out) if out is not None else _free_name(words, recipe)
        refuse_occupied(out)
        record = TextRecord(
            words=words,
            valid_words=corpus.held_out_words(words, None if valid is None else name_texts(valid)),
            encoding=encoding,
            column=column,
            lines=lines,
            labels={name: [] for name in labels},
            anonymise=anonymise,
            vocab=donor.vocab.kind if donor else vocab,
            digest="",
            train_chars=0,
            valid_chars=0,
        )
        prepared = _prepare_in_turn(group, record, donor.vocab if donor else None, progress)
        reason = ""
        if recipe == "best":
            given = {} if donor is None else chosen.model.model_dump(exclude=set(DROPOUTS))
            planned = plan_best(group, chosen, {**given, **settings}, prepared)
            chosen = resolve_settings(group, _choose_settings(recipe, donor, {**planned.changes, **settings}))
            reason = planned.reason
        elif recipe == "items":
            fitted = fit_items(prepared.train.chars, keeps_network=donor is not None)
            fitted = {k: v for k, v in fitted.items() if k != "chars" or not any(settings.get(b) for b in BUDGETS)}
            chosen = resolve_settings(group, _choose_settings(recipe, donor, {**fitted, **settings}))
        group.rows(batches.make(prepared.train_ids, chosen.training, prepared.vocab.kind).B)
        run_config = RunConfig(
            made_at=folder_module.now(),
            settings=chosen,
            text=_record_text(record, prepared),
            init=None if init is None else str(init),
            versions=versions(),
            machine=machine(),
        )
        with _threads(group, chosen):
            return _join_training(group, run_config, prepared, callback, donor, reason).start(out)


def _kind_of(words: list[str], vocab: str | None) -> str | None:
    """What the ids are to stand for, as far as that is said: by the vocabulary asked for, or a prepared text."""
    asked = None if vocab is None else parse_kind(vocab)[0]
    folder = prepared_folder(words)
    if folder is None:
        return asked
    there = open_prepared(folder).vocab.kind
    if asked not in (None, there):
        raise SettingsError(f"--vocab {vocab}: {folder} has been prepared as {there} already; leave it out")
    return there


_NETWORK = {"layers", "hidden"}


def plan_best(group: ProcessGroup, settings: Settings, asked: Mapping[str, Any], prepared: Prepared) -> best.Plan:
    """What the recipe `best` makes of a text, a budget and this machine, and of the settings that are `asked`."""
    keeps_network = not _NETWORK.isdisjoint(asked)
    given = Network(settings.model.layers, settings.model.hidden)
    networks = [given] if keeps_network else list(best.CANDIDATES)
    train_chars = prepared.train.chars
    if settings.training.minutes is None:
        return best.plan(settings, train_chars, {given: 1.0} if keeps_network else best.NOMINAL, asked)
    tried = settings.with_changes(streams=best.choose_streams(settings, train_chars), soft_targets=0.0)
    with _threads(group, settings):
        speeds = best.measure(tried, networks, lambda one: build_trainer(one, prepared, group))
    return best.plan(settings, train_chars, speeds, asked)


def resume(
    run: str | Path,
    *,
    text: Texts | None = None,
    valid: Texts | None = None,
    callback: Callback | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> TrainingResult:
    """Go on with a run from its last save, to the bit. `settings` may change the budget and how it is spent.

    Raises `ResumeError` where the text is another one, or a setting is changed that cannot be honoured.
    """
    with joined() as group:
        folder = RunFolder(run)
        run_config = folder.config()
        chosen = resolve_settings(group, _change_settings(run_config.settings, settings))
        record = run_config.text.model_copy(
            update={
                **({"words": name_texts(text)} if text is not None else {}),
                **({"valid_words": name_texts(valid)} if valid is not None else {}),
            }
        )
        vocab = folder.vocab()
        folder.load_last(_weight_shapes(chosen, len(vocab)))  # before anything is allocated
        own = run_config.init is not None or vocab.kind == "pieces"
        prepared = _prepare_in_turn(group, record, vocab if own else None, progress, may_merge=False)
        if has_changed(prepared, run_config.text) or prepared.vocab != vocab:
            raise ResumeError(
                f"{' '.join(record.words)} is not the text that {folder.path} was trained on ({prepared.train.chars:,} "
                f"characters to train on now, {run_config.text.train_chars:,} then, or other ones); "
                f"give the same text, or start a new run from these weights with --init {folder.path}"
            )
        run_config = run_config.model_copy(update={"settings": chosen})
        with _threads(group, chosen):
            return _join_training(group, run_config, prepared, callback).go_on(folder)


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Within, the processes that torchrun started are connected; without torchrun there is this one."""
    if not is_launched():
        yield ProcessGroup()
        return
    extras.require("torch", "training in several processes")
    from storycell.training.distributed import connected

    with connected() as group:
        yield group


def _load_donor(init: str | Path, vocab: str) -> LoadedRun:
    """The run whose weights to start from, whose vocabulary comes with them."""
    donor = load_run(init)
    if parse_kind(vocab)[0] not in ("characters", donor.vocab.kind):
        raise SettingsError(
            f"--vocab {vocab}: --init {init} brings its own vocabulary of {donor.vocab.kind}; leave it out"
        )
    return donor


def _choose_settings(recipe: str, donor: LoadedRun | None, settings: dict[str, Any]) -> Settings:
    """Defaults < recipe < settings; with a donor the network is the donor's and the learning rate a quarter.

    A recipe's normalised gates are for the engine: torch has no layer for them, and computes them step by step.
    """
    if donor is None:
        chosen = config.resolve(recipe, **settings)
        if "gate_norm" in settings or uses_engine(chosen, best_device(chosen.training.device)):
            return chosen
        return config.resolve(recipe, **settings, gate_norm=False)
    network = donor.config.settings.model
    given = {name: settings[name] for name in config.ModelSettings.model_fields if name in settings}
    for name, value in given.items():
        if name not in DROPOUTS and value != getattr(network, name):
            raise SettingsError(
                f"{name} = {value!r}: --init brings its own network, with {name} = {getattr(network, name)!r}; "
                f"leave --{name.replace('_', '-')} out"
            )
    chosen = config.resolve(recipe, **{**network.model_dump(), **settings})
    return chosen if "lr" in settings else chosen.with_changes(lr=chosen.training.lr / 4)


def resolve_settings(group: ProcessGroup, settings: Settings) -> Settings:
    """`auto` and unset values as what they come to on this machine."""
    training = settings.training
    device = best_device(training.device)
    if uses_engine(settings, device):
        backend, multiplies_bf16 = "native", library.isa() in library.MULTIPLY_BF16
    else:
        obstacle = engine_obstacle(settings.model.cell, training.backend, device)
        extras.require("torch", f"this training ({obstacle})")
        from storycell.training.torch_learner import choose_backend

        backend, multiplies_bf16 = choose_backend(training.backend, settings.model, device)
    precision = training.precision
    if precision == "auto":
        precision = "bf16" if multiplies_bf16 else "fp32"
    unit, amount = training.budget
    return settings.with_changes(
        device=device,
        backend=backend,
        precision=precision,
        threads=training.threads or group.default_threads(),
        **{unit: amount},
    )


def uses_engine(settings: Settings, device: str) -> bool:
    """Whether the engine trains: on the processor, a network that it knows; otherwise torch does."""
    return engine_obstacle(settings.model.cell, settings.training.backend, device) is None


def _change_settings(settings: Settings, changes: dict[str, Any]) -> Settings:
    now = {**settings.model.model_dump(), **settings.training.model_dump()}
    for name, value in changes.items():
        if name in now and name not in CHANGEABLE and value != now[name]:
            raise ResumeError(
                f"{name} cannot change from {now[name]!r} to {value!r} when a run is resumed; leave it out, or start a "
                "new run from these weights with --init"
            )
    return settings.with_changes(**changes)


def _threads(group: ProcessGroup, settings: Settings) -> AbstractContextManager[None]:
    """Within, this process computes on its share of the threads of the machine; the caller's count comes back."""
    share = group.threads(settings.training.threads or group.default_threads())
    return threads.computing_on(share, share)


def build_trainer(settings: Settings, prepared: Prepared, group: ProcessGroup) -> Trainer:
    """The trainer of this process, at step 0, with its share of the streams."""
    training = settings.training
    vocab = prepared.vocab
    made = batches.make(prepared.train_ids, training, vocab.kind)
    share = len(range(made.B)[group.rows(made.B)]) / made.B
    learner = build_learner(settings, len(prepared.vocab), group, share)
    lengths = vocab.lengths if vocab.kind == "pieces" else None
    return Trainer(
        learner, made, training, processes=group, count_teacher=_teacher_of(training, prepared), lengths=lengths
    )


def _teacher_of(training: TrainSettings, prepared: Prepared) -> Callable[[], Teacher] | None:
    """What counts the n-grams of soft targets; `SettingsError` where they are asked for and cannot be had."""
    if not training.soft_targets:
        return None
    V = len(prepared.vocab)
    if prepared.vocab.kind == "pieces":
        raise SettingsError(
            f"soft_targets = {training.soft_targets:g}: their n-grams are of characters, and this vocabulary is of "
            "pieces; leave --soft-targets out"
        )
    if V > MOST_CHARACTERS:
        raise SettingsError(
            f"soft_targets = {training.soft_targets:g}: the text has {V:,} different characters, and they are for at "
            f"most {MOST_CHARACTERS:,}; leave --soft-targets out"
        )
    try:
        library.library()
    except ImportError as error:
        raise SettingsError(
            f"soft_targets = {training.soft_targets:g}: the engine counts their n-grams; {error}"
        ) from None
    return lambda: Teacher(prepared.train_ids, V)


def build_learner(
    settings: Settings, vocab_size: int, group: ProcessGroup | None = None, share: float = 1.0
) -> Learner:
    """What computes a training of these settings (`resolve_settings`), with the weights that the seed draws."""
    group = group or ProcessGroup()
    if uses_engine(settings, settings.training.device):
        return EngineLearner(settings, vocab_size, group, share)
    from storycell.training.torch_learner import TorchLearner

    return TorchLearner.from_settings(settings, vocab_size, group, share)


def _weight_shapes(settings: Settings, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """The shapes of what `build_learner` would make."""
    if uses_engine(settings, settings.training.device):
        return shapes_of(settings.model, vocab_size)
    from storycell.training.torch_learner import torch_shapes

    return torch_shapes(settings.model, vocab_size)


def _take_weights(learner: Learner, vocab: Vocabulary, donor: LoadedRun) -> None:
    fresh = learner.model.weights()
    given = donor.network.weights()
    weights = transfer_weights(fresh, vocab, given, donor.vocab, donor.network.context.matches)
    learner.restore({f"model.{name}": weight for name, weight in weights.items()})


def _join_training(
    group: ProcessGroup,
    run_config: RunConfig,
    prepared: Prepared,
    callback: Callback | None,
    donor: LoadedRun | None = None,
    notice: str = "",
) -> TrainLoop | TrainWorker:
    """What this process does in the training, once it is sure that the others do the same."""
    settings = run_config.settings.with_changes(threads=None)  # a machine may have more cores than another
    group.require_same("settings or a text", settings.model_dump_json() + prepared.digest)
    trainer = build_trainer(run_config.settings, prepared, group)
    if donor:
        _take_weights(trainer.learner, prepared.vocab, donor)
    if group.leads:
        return TrainLoop(run_config, prepared, trainer, callback, notice)
    return TrainWorker(run_config, prepared, trainer)


def _prepare_in_turn(
    group: ProcessGroup, record: TextRecord, vocab: Vocabulary | None, progress: Progress | None, may_merge: bool = True
) -> Prepared:
    """The token files of a text, made by one process of each machine."""
    if group.count > 1 and "-" in [*record.words, *(record.valid_words or ())]:
        raise SettingsError(
            "standard input cannot be read by several processes; `storycell prepare - --out DIR` makes token files of "
            "it, and DIR can be"
        )
    return group.in_turn(lambda: _prepare_text(record, vocab, progress if group.leads else None, may_merge))


def _prepare_text(
    record: TextRecord, vocab: Vocabulary | None, progress: Progress | None, may_merge: bool = True
) -> Prepared:
    """The token files of a text: those it already is, or from the cache."""
    given = {"column": record.column is not None, "lines": record.lines, "label": bool(record.labels)}
    given["anonymise"] = record.anonymise
    if prepared_folder(record.words) and any(given.values()):
        flag = next(name for name, is_given in given.items() if is_given)
        raise SettingsError(
            f"{record.words[0]} has been prepared already; --{flag} is for the text that it was made of"
        )
    progress = progress or no_progress
    if prepared_folder(record.words):
        return read_text(record, vocab, progress)
    text, valid = open_text(record)  # once: standard input is there only once
    if vocab is not None and may_merge and vocab.kind != "bytes":
        vocab = vocab.merge(build_vocabulary(text))
    elif vocab is None and parse_kind(record.vocab)[0] == "pieces":  # found once: they are part of the run
        vocab = survey(text, record.vocab, progress)[0]
    return prepare_cached(text, valid=valid, vocab=vocab or record.vocab, progress=progress)


def _record_text(record: TextRecord, prepared: Prepared) -> TextRecord:
    valid_chars = prepared.valid.chars if prepared.valid else 0
    update = {
        "digest": prepared.digest,
        "train_chars": prepared.train.chars,
        "valid_chars": valid_chars,
        "labels": find_labels(prepared.train_ids, prepared.vocab),
        "has_tunes": has_tunes(prepared.train_ids, prepared.vocab),
        "tells_stories": default_prompt.tells_stories(prepared.train_ids, prepared.vocab),
    }
    return record.model_copy(update=update)


def name_texts(texts: Texts) -> list[str]:
    """What names the texts; a file or folder by its absolute path, so that a run can be resumed from anywhere."""
    words = [texts] if isinstance(texts, str | Path) else texts
    return [
        str(word) if isinstance(word, corpus.Named) or not os.path.exists(word) else os.path.abspath(word)  # noqa: PTH100, PTH110
        for word in words
    ]


def _free_name(words: list[str], recipe: str) -> Path:
    """A folder in `runs/` that is not there yet; a recipe may be a file, and a name hold what no file system takes."""
    stem = Path(words[0]).name.split(".")[0] or "text"
    name = f"{'stdin' if stem == '-' else _name_part(stem)}-{_name_part(Path(recipe).stem)}"
    number = 1
    while (path := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return path


_LONGEST_PART = 60  # characters of a title in a run's name; file systems take 255 bytes


def _name_part(word: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in word[:_LONGEST_PART])
