"""`train` and `resume`: drive the trainer, and do what it leaves to its caller: save, evaluate, sample, log.

In: a text and settings, or a run folder. Out: a `Run`; on the way, a callback sees every report. Ctrl-C or SIGTERM
stops after the step at hand, with everything saved.

The surprising decision: evaluations and log lines come at fixed shares of the budget, and the part of the validation
text they use is fixed by the budget too, so a run that was cut anywhere and resumed writes the same numbers.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from storycell import batches, checkpoint, config, corpus, evaluator, loss, plots, tokens
from storycell.api.interruption import Interruption
from storycell.api.machine import best_device, cores, machine, versions
from storycell.api.model import PROMPT, Model, load
from storycell.api.run import Run
from storycell.api.transfer import adopt
from storycell.checkpoint import RunConfig, RunFolder, TextRecord
from storycell.config import BUDGETS, Settings
from storycell.errors import ResumeError, SettingsError
from storycell.model import CharLM, multiplies_bf16
from storycell.tokens import Prepared, Progress
from storycell.trainer import Report, Trainer
from storycell.vocab import Vocabulary

Callback = Callable[[Report], None]
Texts = str | Path | Sequence[str | Path]

LOGS_PER_EVALUATION = 10
EVALUATION_SHARE = 1 / 20  # of the budget, for all evaluations on the way together
SAMPLE_CHARS = 300
CHANGEABLE = {*BUDGETS, "evaluations", "save_every", "lr", "schedule", "final_lr", "warmup", "clip", "weight_decay"}
CHANGEABLE |= {"dropout", "backend", "precision", "threads", "device"}


def train(
    text: Texts = "stories",
    *,
    valid: Texts | None = None,
    out: str | Path | None = None,
    recipe: str = "quick",
    init: str | Path | None = None,
    vocab: str = "characters",
    encoding: str = "utf-8",
    callback: Callback | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Train a model on a text and give its run.

    `text` and `valid` are what the command line takes: files, folders, globs, names of corpora. `out` is the run folder
    to make (a name is made in `runs/` without it). `init` is a run whose weights to start from; characters that are new
    are added to its vocabulary. `settings` are those of `storycell.config`, by name, on top of the recipe.
    Raises `StorycellError`s: each says what is wrong, where, and what to do.
    """
    chosen = _chosen(recipe, init, settings)
    words, valid_words = _words(text), None if valid is None else _words(valid)
    out = Path(out) if out is not None else _free_name(words, recipe)
    checkpoint.refuse_occupied(out)
    donor = None if init is None else load(init)
    record = TextRecord(
        words=words, valid_words=valid_words, encoding=encoding, vocab=vocab, digest="", train_chars=0, valid_chars=0
    )
    prepared = _prepared(record, donor.vocab if donor else None, progress)
    chosen = _resolved(chosen)
    batches.make(prepared.train_ids, chosen.training)
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
    folder = RunFolder.create(out, run_config, prepared.vocab, lm)
    return _Session(folder, run_config, prepared, lm, callback).drive(resumed=False)


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
    folder = RunFolder(run)
    run_config = folder.config()
    chosen = _resolved(_changed(run_config.settings, settings))
    record = run_config.text.model_copy(
        update={
            **({"words": _words(text)} if text is not None else {}),
            **({"valid_words": _words(valid)} if valid is not None else {}),
        }
    )
    vocab = folder.vocab()
    prepared = _prepared(record, vocab if run_config.init else None, progress, may_merge=False)
    if prepared.digest != run_config.text.digest or prepared.vocab != vocab:
        raise ResumeError(
            f"{' '.join(record.words)} is not the text that {folder.path} was trained on ({prepared.train.chars:,} "
            f"characters to train on now, {run_config.text.train_chars:,} then, or other ones); "
            f"give the same text, or start a new run from these weights with --init {folder.path}"
        )
    run_config = run_config.model_copy(update={"settings": chosen})
    lm = CharLM.from_settings(len(vocab), chosen.model, seed=chosen.training.seed)
    return _Session(folder, run_config, prepared, lm, callback).drive(resumed=True)


class _Session:
    """One stretch of training into a run folder, until the budget is spent or a signal ends it."""

    def __init__(
        self, folder: RunFolder, run_config: RunConfig, prepared: Prepared, lm: CharLM, callback: Callback | None
    ) -> None:
        settings = run_config.settings.training
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.folder, self.config, self.prepared, self.settings = folder, run_config, prepared, settings
        lm.use(settings.backend, settings.precision)
        self.lm = lm.to(best_device(settings.device))
        self.trainer = Trainer(self.lm, batches.make(prepared.train_ids, settings), settings)
        self.callback = callback or (lambda report: None)
        self.best_nats = math.inf
        self.part_chars: int | None = None
        self.sum_nats, self.counted = 0.0, 0
        self.saved_at_s = self.spent_before = self.elapsed_s = 0.0
        self.final: dict[str, Any] = {}

    def drive(self, resumed: bool) -> Run:
        """Train, save, evaluate, sample and log until the end; then measure the best weights on the whole text."""
        with self.folder.locked(), Interruption() as interruption:
            if resumed:
                self._take_up()
            else:
                self._save()
            for report in self.trainer.reports():
                self._after(report)
                if interruption.requested:
                    break
            self._save()
            self.elapsed_s = self.trainer.elapsed_s
            if not interruption.requested:
                self._measure()
        return Run(self.folder.path, self._summary(), interruption.requested)

    def _take_up(self) -> None:
        tensors, about = self.folder.load_last(self.lm)
        self.folder.cut_logs(about)
        try:
            self.trainer.restore(tensors, about["position"])
            self.best_nats, self.part_chars = about["best_nats"] or math.inf, about["part_chars"]
            self.sum_nats, self.counted = about["sum_nats"], about["counted"]
        except (KeyError, TypeError, RuntimeError) as error:
            raise ResumeError(
                f"{self.folder.path}/last.safetensors does not hold what resuming needs ({error}); train again"
            ) from None
        self.saved_at_s, self.spent_before = self.trainer.elapsed_s, self.trainer.spent
        self.folder.write_config(self.config)

    def _save(self) -> None:
        tensors, position = self.trainer.snapshot()
        about = {
            "position": position,
            "best_nats": self.best_nats if math.isfinite(self.best_nats) else None,
            "part_chars": self.part_chars,
            "sum_nats": self.sum_nats,
            "counted": self.counted,
        }
        self.folder.save_last(tensors, about)
        self.saved_at_s = self.trainer.elapsed_s

    def _after(self, report: Report) -> None:
        """What is due after a step: a log line, an evaluation with a sample, a save; then the callback."""
        if not math.isnan(report.train_nats):
            self.sum_nats += report.train_nats
            self.counted += 1
        before, self.spent_before = self.spent_before, report.spent
        evaluations = self.settings.evaluations
        evaluates = _passed(before, report.spent, evaluations)
        if evaluates:
            report = self._evaluated(report)
        if evaluates or _passed(before, report.spent, evaluations * LOGS_PER_EVALUATION):
            self._log(report)
        if evaluates:
            self._draw()
        if self.trainer.elapsed_s - self.saved_at_s >= self.settings.save_every:
            self._save()
        self.callback(report)

    def _evaluated(self, report: Report) -> Report:
        """The report with its validation loss and a sample; the weights are kept if they are the best so far."""
        nats = self._valid_nats(report)
        if nats is None or nats < self.best_nats:
            self.best_nats = self.best_nats if nats is None else nats
            self.folder.save_weights(self.lm, {"step": report.step, "valid_nats": nats})
        model = Model(self.lm, self.prepared.vocab, self.config, self.folder.path)
        sample = sample_of(model, SAMPLE_CHARS, self.settings.seed)
        said = f"step {report.step:,}" + (f", validation {nats:.4f} nats per character" if nats is not None else "")
        self.folder.add_sample(said, sample)
        return dataclasses.replace(report, valid_nats=nats, sample=sample)

    def _valid_nats(self, report: Report) -> float | None:
        ids = self.prepared.valid_ids
        if ids is None:
            return None
        if self.part_chars is None:
            unit, amount = self.settings.budget
            per_step = self.trainer.batches.B * self.trainer.batches.T
            chars = {"steps": amount * per_step, "chars": amount, "minutes": amount * 60 * report.chars_per_s}[unit]
            self.part_chars = int(chars * EVALUATION_SHARE / self.settings.evaluations)
        part = evaluator.part_of(ids, max(1, self.part_chars))
        return evaluator.evaluate(self.lm, part, self.prepared.vocab).loss_nats

    def _log(self, report: Report) -> None:
        entry: dict[str, Any] = {
            "step": report.step,
            "elapsed_s": round(report.elapsed_s, 3),
            "chars": report.chars,
            "train_nats": self.sum_nats / self.counted if self.counted else None,
            "valid_nats": report.valid_nats,
            "learning_rate": report.learning_rate,
            "grad_norm": report.grad_norm if math.isfinite(report.grad_norm) else None,
            "chars_per_s": round(report.chars_per_s, 1),
            "skipped": report.skipped,
        }
        self.folder.log(entry)
        self.sum_nats, self.counted = 0.0, 0

    def _draw(self) -> None:
        self.folder.write("loss.png", plots.loss_curve(self.folder.metrics(), str(self.folder.path)))

    def _measure(self) -> None:
        """The best weights on the whole validation text: the number that the run stands for."""
        self.folder.load_weights(self.lm)
        ids = self.prepared.valid_ids
        if ids is not None:
            model = Model(self.lm, self.prepared.vocab, self.config, self.folder.path)
            self.final = asdict(model.evaluate_prepared(self.prepared))

    def _summary(self) -> dict[str, Any]:
        metrics = self.folder.metrics()
        nats = self.final.get("loss_nats")
        if nats is None and math.isfinite(self.best_nats):
            nats = self.best_nats
        summary = {
            "run": str(self.folder.path),
            "params": sum(p.numel() for p in self.lm.parameters()),
            "step": self.trainer.step,
            "chars": self.trainer.chars,
            "train_nats": metrics[-1]["train_nats"] if metrics else None,
            "valid_nats": nats,
            "bits_per_char": None if nats is None else loss.bits_per_char(nats),
            "perplexity": None if nats is None else loss.perplexity(nats),
            "chars_per_s": metrics[-1]["chars_per_s"] if metrics else None,
            "elapsed_s": round(self.elapsed_s, 2),
            "backend": self.lm.backend.name,
            "precision": self.settings.precision,
            "skipped": self.trainer.skipped,
        }
        return summary | {key: self.final[key] for key in ("stderr_nats", "floor_nats") if key in self.final}


def sample_of(model: Model, chars: int, seed: int) -> str:
    """A sample from "Once upon a", or from the very beginning where the model does not know these letters."""
    prompt = PROMPT if model.vocab.kind == "bytes" or set(PROMPT) <= set(model.vocab.characters) else ""
    return model.generate(prompt, chars, seed=seed)


def _passed(before: float, now: float, marks: int) -> bool:
    """Whether the share of the budget went past one of `marks` equally spaced marks."""
    return math.floor(now * marks + 1e-9) > math.floor(before * marks + 1e-9)


def _chosen(recipe: str, init: str | Path | None, settings: dict[str, Any]) -> Settings:
    """Defaults < recipe < settings; with `init` the network is the donor's and the learning rate a quarter."""
    if init is None:
        return config.resolve(recipe, **settings)
    network = load(init).config.settings.model
    given = {name: settings[name] for name in config.ModelSettings.model_fields if name in settings}
    for name, value in given.items():
        if name != "dropout" and value != getattr(network, name):
            raise SettingsError(
                f"{name} = {value!r}: --init {init} brings its own network, with {name} = {getattr(network, name)!r}; "
                f"leave --{name} out"
            )
    chosen = config.resolve(recipe, **{**network.model_dump(), **settings})
    return chosen if "lr" in settings else chosen.changed(lr=chosen.training.lr / 4)


def _resolved(settings: Settings) -> Settings:
    """`auto` and unset values as what they come to on this machine."""
    training = settings.training
    device = best_device(training.device)
    lm = CharLM(2, 1, cell=settings.model.cell, backend=training.backend)
    precision = training.precision
    if precision == "auto":
        precision = "bf16" if multiplies_bf16(device) else "fp32"
    unit, amount = training.budget
    return settings.changed(
        device=str(device),
        backend=lm.backend.name,
        precision=precision,
        threads=training.threads or cores(),
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


def _prepared(
    record: TextRecord, vocab: Vocabulary | None, progress: Progress | None, may_merge: bool = True
) -> Prepared:
    """The token files of a text: those it already is, or from the cache."""
    shown = progress or (lambda what, done, total: None)
    if len(record.words) == 1 and tokens.is_prepared(record.words[0]):
        prepared = tokens.open_prepared(record.words[0])
        if vocab is not None and prepared.vocab != vocab:
            raise SettingsError(
                f"{record.words[0]} was prepared with another vocabulary than the model's; give the text itself"
            )
        return prepared
    text = corpus.open_corpus(record.words, record.encoding)
    held_out = record.valid_words or (["tinystories"] if record.words == ["tinystories"] else None)
    valid = held_out and corpus.open_corpus(held_out, record.encoding, split="valid")
    wanted: str | Vocabulary = record.vocab if vocab is None else vocab
    if vocab is not None and may_merge and vocab.kind == "characters":
        wanted = vocab.merged(tokens.vocabulary_of(text))
    return tokens.cached(text, valid=valid or None, vocab=wanted, progress=shown)


def _recorded(record: TextRecord, prepared: Prepared) -> TextRecord:
    valid_chars = prepared.valid.chars if prepared.valid else 0
    update = {"digest": prepared.digest, "train_chars": prepared.train.chars, "valid_chars": valid_chars}
    return record.model_copy(update=update)


def _words(texts: Texts) -> list[str]:
    return [str(texts)] if isinstance(texts, str | Path) else [str(text) for text in texts]


def _free_name(words: list[str], recipe: str) -> Path:
    stem = Path(words[0]).name.split(".")[0] or "text"
    stem = "stdin" if stem == "-" else "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)
    number = 1
    while (path := Path("runs") / f"{stem}-{recipe}-{number}").exists():
        number += 1
    return path
