"""The training loop into a run folder: save, evaluate, sample and log while a `Trainer` trains.

`TrainLoop` does this for a process by itself and for the first of several; `TrainWorker` is what every other process
runs: its share of each step and of each save. Each process holds the carried state of its own streams, so a save takes
them all, at times that `SaveTimer` decides from numbers that all share.

Evaluations and log lines come at fixed shares of the budget, and the part of the validation text they use is fixed by
the budget too, so a run that was interrupted anywhere and resumed logs the same numbers. Before a run is resumed,
`check_save` compares `last.safetensors` with the settings: its checksum proves only that it is what was written, and
moments or states of a wrong shape would reach code that reads past their end.

`Interruption` turns Ctrl-C and SIGTERM into a request to stop after the current step, with everything saved; a second
one stops at once (except under a launcher, which passes on what the terminal has sent already, and kills by itself what
does not stop in time).
"""

import dataclasses
import math
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from storycell import loss
from storycell.config import StrictModel, validate
from storycell.context import PAST
from storycell.data.tokens import Prepared
from storycell.engine.model import OF_ROWS
from storycell.errors import ResumeError, SettingsError
from storycell.evaluation import evaluator
from storycell.evaluation.texts import evaluate_split
from storycell.generation.generate import generate_text
from storycell.language_model import Floats, LanguageModel
from storycell.runs.default_prompt import default_prompt
from storycell.runs.folder import LOGS, RunConfig, RunFolder, is_checkpoint, most_checkpoints
from storycell.runs.tensors import Array
from storycell.training.learner import Layout
from storycell.training.trainer import GOOD, Report, Trainer


@dataclass(frozen=True)
class TrainingResult:
    """What a training ends with. `summary` has the keys that `storycell train --json` prints."""

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    interrupted: str = ""  # the signal that stopped it, if one did


# The signals that ask a program to end; SIGBREAK is Ctrl-Break, on Windows, where nobody else sends any.
STOPPING = tuple(s for s in signal.Signals if s.name in ("SIGINT", "SIGTERM", "SIGBREAK"))


class Interruption:
    """A context within which `number` is that of the signal that came, or 0."""

    def __init__(self, launched: bool = False) -> None:
        self.number, self._launched = 0, launched
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup: it stays ignored
                    self._before[number] = signal.signal(number, self._note) or signal.SIG_DFL
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if not self._launched:
            self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not (self._launched and self.number):
            self._restore()


def signal_name(number: int) -> str:
    """The name of a signal; empty for 0."""
    return signal.Signals(number).name if number else ""


class Position(StrictModel):
    """Where the trainer was."""

    step: NonNegativeInt
    chars: NonNegativeInt
    elapsed_s: NonNegativeFloat
    skipped: NonNegativeInt
    lr_scale: float = Field(gt=0, le=1)
    skips_in_a_row: NonNegativeInt
    went_back: NonNegativeInt
    good_step: NonNegativeInt | None = None  # where the last good state is from, if it is there


class Saved(StrictModel):
    """All that is said about the tensors."""

    position: Position
    best_nats: NonNegativeFloat | None
    part_chars: NonNegativeInt | None
    sum_nats: float
    counted: NonNegativeInt
    log_bytes: dict[str, NonNegativeInt]


def check_save(name: str, tensors: dict[str, Array], about: object, layout: Layout, streams: int) -> Saved:
    """The JSON of a save, once it and the tensors are known to fit what goes on from them; `name` is the file's."""
    try:
        saved = validate(Saved, about)
    except SettingsError as error:
        raise _unfit_error(name, str(error)) from None
    if not set(saved.log_bytes) >= set(LOGS):
        raise _unfit_error(name, "the lengths of the logs are missing")
    good = {key.removeprefix(GOOD): tensor for key, tensor in tensors.items() if key.startswith(GOOD)}
    if bool(good) != (saved.position.good_step is not None):
        raise _unfit_error(name, "the last good state and its step are not both there")
    _check({key: t for key, t in tensors.items() if not key.startswith(GOOD)}, name, layout, streams)
    if good:
        _check(good, name, layout, streams)
    return saved


def _check(tensors: dict[str, Array], name: str, layout: Layout, streams: int) -> None:
    """Raise `ResumeError` unless the tensors of one state are those that training goes on from."""
    shapes = layout.parameters
    if missing := sorted({f"model.{key}" for key in shapes} - tensors.keys()):
        raise _unfit_error(name, f"{missing[0]} is missing")
    carried = {key for key in tensors if key.startswith("state.")}
    names = (*layout.state_names, *([PAST] if layout.past else []))
    if carried and carried != {f"state.{key}" for key in names}:
        raise _unfit_error(name, f"it has the states {', '.join(sorted(carried))}")
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "state":
            of_past = rest == PAST
            fits = tensor.shape == ((1, streams, layout.past) if of_past else (layout.layers, streams, layout.hidden))
        elif kind == "optimizer":
            parameter, _, moment = rest.rpartition(".")
            whole = shapes.get(parameter, ())
            shape = () if moment == "step" else whole[:1] if moment in OF_ROWS else whole
            fits = parameter in shapes and tensor.shape == shape
        else:
            fits = kind in ("model", "average") and shapes.get(rest) == tensor.shape
        if not fits or tensor.dtype.kind != "f":
            raise _unfit_error(name, f"{key} has shape {list(tensor.shape)} and type {tensor.dtype}")
    is_begun = any(name.startswith("optimizer.") for name in tensors)  # before the first step nothing is kept
    for key, moments in layout.moments.items():
        start = f"optimizer.{key}."
        found = {moment.removeprefix(start) for moment in tensors if moment.startswith(start)}
        if is_begun and found != moments:
            raise _unfit_error(name, f"of {key} the optimiser needs {', '.join(sorted(moments))}")


def _unfit_error(name: str, reason: str) -> ResumeError:
    return ResumeError(f"{name} does not hold what resuming needs ({reason}); restore it from a copy, or train again")


def restore_trainer(folder: RunFolder, trainer: Trainer) -> Saved:
    """Bring the trainer to the last save of a run; `ResumeError` if that does not fit, in any process."""
    tensors, about = folder.load_last(trainer.learner.layout.parameters)
    name = str(folder.path / "last.safetensors")
    saved = check_save(name, tensors, about, trainer.learner.layout, trainer.batches.B)
    try:
        trainer.restore(tensors, saved.position.model_dump())
    except (KeyError, TypeError, ValueError) as error:
        raise ResumeError(f"{name} does not hold what resuming needs ({error}); train again") from None
    trainer.processes.require_same("a last.safetensors", saved.position.model_dump_json())
    return saved


class SaveTimer:
    """Says when to save: `every_s` seconds after the step that followed the last save, which takes time, too."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._since_s: float | None = 0.0

    def begin(self, elapsed_s: float) -> None:
        """Count from here."""
        self._since_s = elapsed_s

    def due(self, elapsed_s: float) -> bool:
        """Whether to save after the step whose report says `elapsed_s`; asked once after every step."""
        if self._since_s is None:
            self._since_s = elapsed_s
        if elapsed_s - self._since_s < self.every_s:
            return False
        self._since_s = None
        return True


Callback = Callable[[Report], None]

LOGS_PER_EVALUATION = 10
EVALUATION_SHARE = 1 / 20  # of the budget, for all evaluations on the way together
SAMPLE_CHARS = 300
RISES_TOLD = (3, 6, 12, 24)  # evaluations in a row at which a rising validation loss is pointed out


class TrainLoop:
    """One stretch of training into a run folder, until the budget is spent or a signal ends it."""

    folder: RunFolder

    def __init__(
        self,
        run_config: RunConfig,
        prepared: Prepared,
        trainer: Trainer,
        callback: Callback | None = None,
        notice: str = "",
    ) -> None:
        self.config, self.prepared, self.settings = run_config, prepared, run_config.settings.training
        self.trainer, self.learner, self.processes = trainer, trainer.learner, trainer.processes
        self.save_timer = SaveTimer(self.settings.save_every)
        self.callback = callback or (lambda report: None)
        self.best_nats = math.inf
        self.part_chars: int | None = None
        self.sum_nats, self.counted = 0.0, 0
        self.spent_before = self.elapsed_s = 0.0
        self.final: dict[str, Any] = {}
        self.note = notice  # for the user, said with the next report
        self.unknown_chars: int | None = None  # in the part of the validation text that was scored last

    def start(self, path: Path) -> TrainingResult:
        """Make the run folder, which can be resumed from the moment it exists, and train into it."""
        weights = self.learner.model.weights()
        self.folder = RunFolder.create(path, self.config, self.prepared.vocab, weights, *self._everything())
        self.note = "; ".join(filter(None, (self.prepared.held_out, self.note, self._announce_checkpoints())))
        with self.folder.locked():
            self._keep_checkpoint()
            return self._drive()

    def go_on(self, folder: RunFolder) -> TrainingResult:
        """Train on from the last save of a run."""
        self.folder = folder
        with folder.locked():
            self._take_up()
            return self._drive()

    def _drive(self) -> TrainingResult:
        """Train, save, evaluate, sample and log until the end; then measure the best weights on the whole text."""
        with Interruption(launched=self.processes.count > 1) as interruption, self.prepared.ids_blamed():
            for report in self.trainer.reports(lambda: interruption.number):
                self._after(report)
            self._save()
            self.elapsed_s = self.trainer.elapsed_s
            if not (self.trainer.stopped_by or interruption.number):
                self._measure()
        return TrainingResult(
            self.folder.path, self._summary(), signal_name(self.trainer.stopped_by or interruption.number)
        )

    def _take_up(self) -> None:
        saved = restore_trainer(self.folder, self.trainer)
        self.folder.cut_logs(saved.log_bytes)
        self.folder.cut_checkpoints(self.trainer.step)
        if not self.trainer.step:  # killed before it could keep the beginning
            self._keep_checkpoint()
        self.best_nats = math.inf if saved.best_nats is None else saved.best_nats
        self.part_chars, self.sum_nats, self.counted = saved.part_chars, saved.sum_nats, saved.counted
        self.save_timer.begin(self.trainer.elapsed_s)
        self.spent_before = self.trainer.spent
        self.folder.write_config(self.config)

    def _everything(self) -> tuple[dict[str, Floats], dict[str, Any]]:
        """What `last.safetensors` holds: tensors, and what is said about them."""
        tensors, position = self.trainer.snapshot()
        return tensors, {
            "position": position,
            "best_nats": self.best_nats if math.isfinite(self.best_nats) else None,
            "part_chars": self.part_chars,
            "sum_nats": self.sum_nats,
            "counted": self.counted,
        }

    def _save(self) -> None:
        self.folder.save_last(*self._everything())

    def _after(self, report: Report) -> None:
        """What is due after a step: a log line, an evaluation with a sample, a save; then the callback."""
        if not math.isnan(report.train_nats):
            self.sum_nats += report.train_nats
            self.counted += 1
        before, self.spent_before = self.spent_before, report.spent
        evaluations = self.settings.evaluations
        evaluates = _passes_mark(before, report.spent, evaluations)
        if evaluates:
            report = self._evaluate(report)
        if evaluates or _passes_mark(before, report.spent, evaluations * LOGS_PER_EVALUATION):
            self._log(report)
        if evaluates:
            self._draw()
        self._keep_checkpoint()
        if self.save_timer.due(report.elapsed_s):
            self._save()
        if self.note:
            report = dataclasses.replace(report, notice="; ".join(filter(None, (self.note, report.notice))))
            self.note = ""
        self.callback(report)

    def _keep_checkpoint(self) -> None:
        """Keep a small copy of the present weights, if it is asked for and their turn."""
        if self.settings.checkpoints == "log" and is_checkpoint(self.trainer.step):
            with self.learner.averaged():
                self.folder.save_checkpoint(self.trainer.step, self.learner.model.weights())

    def _announce_checkpoints(self) -> str:
        """What the checkpoints will take of the disk, if there will be any."""
        if self.settings.checkpoints == "none":
            return ""
        size = 2 * sum(math.prod(shape) for shape in self.learner.layout.parameters.values())
        most = most_checkpoints(size)
        return f"checkpoints: at most {most}, about {most * size / 1e6:,.1f} MB together"

    def _evaluate(self, report: Report) -> Report:
        """The report with its validation loss and a sample; the weights are kept if they are the best so far."""
        with self.learner.averaged():
            model = self.learner.model
            nats = self._valid_nats(report, model)
            if nats is None or nats < self.best_nats:
                self.best_nats = self.best_nats if nats is None else nats
                self.folder.save_weights(model.weights(), {"step": report.step, "valid_nats": nats})
            vocab, seed = self.prepared.vocab, self.settings.seed
            prompt = default_prompt(vocab, self.config.text)
            sample = generate_text(model, vocab, prompt, SAMPLE_CHARS, seed=seed)
        said = f"step {report.step:,}" + (f", validation {nats:.4f} nats per character" if nats is not None else "")
        self.folder.add_sample(said, sample)
        advice = (
            ""
            if nats is None
            else describe_overfitting(self.folder.metrics(), nats, self.config.settings.model.dropout)
        )
        notice = "; ".join(filter(None, (report.notice, advice)))
        return dataclasses.replace(report, valid_nats=nats, sample=sample, notice=notice)

    def _valid_nats(self, report: Report, model: LanguageModel) -> float | None:
        ids = self.prepared.valid_ids
        if ids is None:
            return None
        if self.part_chars is None:
            unit, amount = self.settings.budget
            per_step = self.trainer.batches.B * self.trainer.batches.T
            chars_per_step = per_step * self.prepared.train.chars_per_id
            chars = {"steps": amount * chars_per_step, "chars": amount, "minutes": amount * 60 * report.chars_per_s}[
                unit
            ]
            self.part_chars = int(chars * EVALUATION_SHARE / self.settings.evaluations)
        part = evaluator.take_part(ids, max(1, int(self.part_chars / self.prepared.train.chars_per_id)))
        result = evaluator.evaluate(model, part, self.prepared.vocab)
        self.unknown_chars = result.unknown_chars
        return result.loss_nats

    def _log(self, report: Report) -> None:
        entry: dict[str, Any] = {
            "step": report.step,
            "elapsed_s": round(report.elapsed_s, 3),
            "chars": report.chars,
            "train_nats": self.sum_nats / self.counted if self.counted else None,
            "valid_nats": report.valid_nats,
            "unknown_chars": None if report.valid_nats is None else self.unknown_chars,
            "learning_rate": report.learning_rate,
            "grad_norm": report.grad_norm if math.isfinite(report.grad_norm) else None,
            "chars_per_s": round(report.chars_per_s, 1),
            "skipped": report.skipped,
        }
        if report.sample is not None:
            entry |= self.learner.watch()
        self.folder.log(entry)
        self.sum_nats, self.counted = 0.0, 0

    def _draw(self) -> None:
        from storycell.training import curve  # Pillow, which the first step need not wait for

        self.folder.write("loss.png", curve.loss_curve(self.folder.metrics(), str(self.folder.path)))

    def _measure(self) -> None:
        """The best weights on the whole validation text: the number that the run stands for."""
        best, _ = self.folder.load_weights(self.learner.layout.parameters)
        if self.prepared.valid is not None:
            model = self.learner.model.with_weights(best)
            self.final = asdict(evaluate_split(model, self.prepared.vocab, self.prepared))

    def _summary(self) -> dict[str, Any]:
        metrics = self.folder.metrics()
        nats = self.final.get("loss_nats")
        if nats is None and math.isfinite(self.best_nats):
            nats = self.best_nats
        summary = {
            "run": str(self.folder.path),
            "params": sum(math.prod(shape) for shape in self.learner.layout.parameters.values()),
            "step": self.trainer.step,
            "chars": self.trainer.chars,
            "train_nats": metrics[-1]["train_nats"] if metrics else None,
            "valid_nats": nats,
            "bits_per_char": None if nats is None else loss.bits_per_char(nats),
            "perplexity": None if nats is None else loss.perplexity(nats),
            "chars_per_s": metrics[-1]["chars_per_s"] if metrics else None,
            "elapsed_s": round(self.elapsed_s, 2),
            "backend": self.learner.model.backend,
            "precision": self.settings.precision,
            "processes": self.processes.count,
            "skipped": self.trainer.skipped,
            "unknown_chars": self.prepared.valid.unknown_chars if self.prepared.valid else 0,
        }
        return summary | {key: self.final[key] for key in ("stderr_nats", "floor_nats") if key in self.final}


def describe_overfitting(metrics: list[dict[str, Any]], nats: float, dropout: float) -> str:
    """What to say, if anything, when an evaluation gave `nats` after those in `metrics`.

    A memorised text shows as a validation loss that rises from evaluation to evaluation (all on the same part of
    the text) while the training loss goes on falling.
    """
    done = [m for m in metrics if m["valid_nats"] is not None and m["train_nats"] is not None]
    losses = [*(m["valid_nats"] for m in done), nats]
    rises = next((k for k in range(len(losses) - 1) if losses[-1 - k] <= losses[-2 - k]), len(losses) - 1)
    if rises not in RISES_TOLD or metrics[-1]["train_nats"] is None:
        return ""
    best = done[-rises]
    if metrics[-1]["train_nats"] >= best["train_nats"]:
        return ""
    return (
        f"validation loss has risen for {rises} evaluations, from {best['valid_nats']:.4f} to {nats:.4f}, while the "
        f"training loss falls: the model learns its text by heart; try a larger --dropout (now {dropout:g}), a smaller "
        f"budget or --hidden, or more text (the weights of step {best['step']:,} are kept)"
    )


def _passes_mark(before: float, now: float, marks: int) -> bool:
    """Whether the share of the budget went past one of `marks` equally spaced marks."""
    return math.floor(now * marks + 1e-9) > math.floor(before * marks + 1e-9)


class TrainWorker:
    """The other side of a `TrainLoop`: between two reports it does what all processes have to do together."""

    def __init__(self, run_config: RunConfig, prepared: Prepared, trainer: Trainer) -> None:
        self.prepared, self.trainer = prepared, trainer
        self.save_timer = SaveTimer(run_config.settings.training.save_every)

    def start(self, path: Path) -> TrainingResult:
        """Train along from step 0."""
        return self._drive(path)

    def go_on(self, folder: RunFolder) -> TrainingResult:
        """Train along from the last save of a run, which every process reads."""
        restore_trainer(folder, self.trainer)
        self.save_timer.begin(self.trainer.elapsed_s)
        return self._drive(folder.path)

    def _drive(self, path: Path) -> TrainingResult:
        with Interruption(launched=True) as interruption, self.prepared.ids_blamed():
            for report in self.trainer.reports(lambda: interruption.number):
                if self.save_timer.due(report.elapsed_s):
                    self.trainer.snapshot()
            self.trainer.snapshot()
        return TrainingResult(path, interrupted=signal_name(self.trainer.stopped_by))
