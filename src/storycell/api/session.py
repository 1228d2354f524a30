"""One stretch of training into a run folder: save, evaluate, sample and log while the trainer trains.

In: a run folder, its settings and text, a model. Out: a `Run`; on the way, a callback sees every report. Ctrl-C or
SIGTERM stops after the step at hand, with everything saved. Of several processes this is what the first one does.

The surprising decision: evaluations and log lines come at fixed shares of the budget, and the part of the validation
text they use is fixed by the budget too, so a run that was cut anywhere and resumed writes the same numbers.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from storycell import cells, evaluator, loss, plots
from storycell.api.interruption import Interruption, name_of
from storycell.api.model import Model
from storycell.api.pace import SaveTimer, taken_up, trainer_of
from storycell.api.run import Run
from storycell.checkpoint import RunConfig, RunFolder
from storycell.model import CharLM
from storycell.processes import Processes
from storycell.tokens import Prepared
from storycell.trainer import Report

Callback = Callable[[Report], None]

LOGS_PER_EVALUATION = 10
EVALUATION_SHARE = 1 / 20  # of the budget, for all evaluations on the way together
SAMPLE_CHARS = 300
RISES_TOLD = (3, 6, 12, 24)  # evaluations in a row at which a rising validation loss is pointed out


class Session:
    """One stretch of training into a run folder, until the budget is spent or a signal ends it."""

    folder: RunFolder

    def __init__(
        self,
        run_config: RunConfig,
        prepared: Prepared,
        lm: CharLM,
        processes: Processes,
        callback: Callback | None = None,
    ) -> None:
        self.config, self.prepared, self.settings = run_config, prepared, run_config.settings.training
        self.trainer = trainer_of(self.settings, prepared, lm, processes)
        self.lm, self.processes = self.trainer.model, processes
        self.save_timer = SaveTimer(self.settings.save_every)
        self.callback = callback or (lambda report: None)
        self.best_nats = math.inf
        self.part_chars: int | None = None
        self.sum_nats, self.counted = 0.0, 0
        self.spent_before = self.elapsed_s = 0.0
        self.final: dict[str, Any] = {}
        self.note = ""  # for the user, said with the next report
        self.unknown_chars: int | None = None  # in the part of the validation text that was scored last

    def start(self, path: Path) -> Run:
        """Make the run folder, which can be resumed from the moment it exists, and train into it."""
        self.folder = RunFolder.create(path, self.config, self.prepared.vocab, self.lm, *self._everything())
        self.note = self.prepared.held_out
        with self.folder.locked():
            return self._drive()

    def go_on(self, folder: RunFolder) -> Run:
        """Train on from the last save of a run."""
        self.folder = folder
        with folder.locked():
            self._take_up()
            return self._drive()

    def _drive(self) -> Run:
        """Train, save, evaluate, sample and log until the end; then measure the best weights on the whole text."""
        with Interruption(launched=self.processes.count > 1) as interruption, self.prepared.ids_blamed():
            for report in self.trainer.reports(lambda: interruption.number):
                self._after(report)
            self._save()
            self.elapsed_s = self.trainer.elapsed_s
            if not (self.trainer.stopped_by or interruption.number):
                self._measure()
        return Run(self.folder.path, self._summary(), name_of(self.trainer.stopped_by or interruption.number))

    def _take_up(self) -> None:
        saved = taken_up(self.folder, self.trainer)
        self.folder.cut_logs(saved.log_bytes)
        self.best_nats = math.inf if saved.best_nats is None else saved.best_nats
        self.part_chars, self.sum_nats, self.counted = saved.part_chars, saved.sum_nats, saved.counted
        self.save_timer.begin(self.trainer.elapsed_s)
        self.spent_before = self.trainer.spent
        self.folder.write_config(self.config)

    def _everything(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
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
        evaluates = _passed(before, report.spent, evaluations)
        if evaluates:
            report = self._evaluated(report)
        if evaluates or _passed(before, report.spent, evaluations * LOGS_PER_EVALUATION):
            self._log(report)
        if evaluates:
            self._draw()
        if self.save_timer.due(report.elapsed_s):
            self._save()
        if self.note:
            report = dataclasses.replace(report, notice="; ".join(filter(None, (self.note, report.notice))))
            self.note = ""
        self.callback(report)

    def _evaluated(self, report: Report) -> Report:
        """The report with its validation loss and a sample; the weights are kept if they are the best so far."""
        with self.trainer.averaged():
            nats = self._valid_nats(report)
            if nats is None or nats < self.best_nats:
                self.best_nats = self.best_nats if nats is None else nats
                self.folder.save_weights(self.lm, {"step": report.step, "valid_nats": nats})
            model = Model(self.lm, self.prepared.vocab, self.config, self.folder.path)
            sample = model.generate(chars=SAMPLE_CHARS, seed=self.settings.seed)
        said = f"step {report.step:,}" + (f", validation {nats:.4f} nats per character" if nats is not None else "")
        self.folder.add_sample(said, sample)
        advice = "" if nats is None else overfitting(self.folder.metrics(), nats, self.lm.dropout)
        notice = "; ".join(filter(None, (report.notice, advice)))
        return dataclasses.replace(report, valid_nats=nats, sample=sample, notice=notice)

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
        result = evaluator.evaluate(self.lm, part, self.prepared.vocab)
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
            entry |= self._watched()
        self.folder.log(entry)
        self.sum_nats, self.counted = 0.0, 0

    def _watched(self) -> dict[str, float]:
        """What the cell has worth following, of every layer."""
        watch = cells.get(self.lm.cell).watch
        layers = enumerate(self.lm.recurrent.layers())
        return {f"{name}_l{k}": value for k, weights in layers for name, value in watch(weights).items()}

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
            "processes": self.processes.count,
            "skipped": self.trainer.skipped,
            "unknown_chars": self.prepared.valid.unknown_chars if self.prepared.valid else 0,
        }
        return summary | {key: self.final[key] for key in ("stderr_nats", "floor_nats") if key in self.final}


def overfitting(metrics: list[dict[str, Any]], nats: float, dropout: float) -> str:
    """What to say, if anything, when an evaluation gave `nats` after those in `metrics`.

    A text learnt by heart shows as a validation loss that rises from evaluation to evaluation (all on the same part of
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


def _passed(before: float, now: float, marks: int) -> bool:
    """Whether the share of the budget went past one of `marks` equally spaced marks."""
    return math.floor(now * marks + 1e-9) > math.floor(before * marks + 1e-9)
