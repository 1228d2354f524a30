"""One training step after another: batches and a learner in, one report a step out.

The trainer does not print, plot, sample, evaluate or save: its caller does, between two reports (and the clock of a
budget in minutes runs on meanwhile). `snapshot` and `restore` hold everything that the next step depends on.

A loss or gradient that is not finite never reaches the weights. Of several processes each computes its own streams, but
every decision is taken from numbers that all of them share.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell import threads
from storycell.config import TrainSettings
from storycell.data.batches import Batches
from storycell.engine.random import TorchGenerator
from storycell.engine.teacher import Teacher
from storycell.errors import TrainingError
from storycell.language_model import Floats
from storycell.training import schedule
from storycell.training.learner import Kept, Learner, Soft, draws_seed
from storycell.training.processes import ProcessGroup

SKIPS_IN_A_ROW = 5  # so many steps without a finite gradient, and training goes back to the last good state
GOES_BACK = 4  # so many times, each with half the learning rate, before it gives up
KEEP_EVERY = 100  # steps between two good states that are kept
GOOD = "good."  # what the tensors of the last good state are called in a snapshot, before their own names


@dataclass(frozen=True)
class Report:
    """What one step did. `valid_nats` and `sample` are filled in by whoever evaluates and samples."""

    step: int  # steps done, this one included
    chars: int  # characters trained on
    train_nats: float  # mean loss of this step's chunk; nan where the step was skipped
    learning_rate: float
    grad_norm: float  # before clipping
    skipped: int  # steps skipped so far because a loss or gradient was not finite
    elapsed_s: float  # since the first step, evaluations included, pauses between two sessions not; all processes agree
    chars_per_s: float  # of training itself, in this session
    spent: float  # share of the budget
    notice: str = ""
    valid_nats: float | None = None
    sample: str | None = None


class Trainer:
    """Has `learner` learn from `batches` until the budget in `settings` is spent."""

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        settings: TrainSettings,
        clock: Callable[[], float] = time.monotonic,
        processes: ProcessGroup | None = None,
        count_teacher: Callable[[], Teacher] | None = None,
        lengths: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """`lengths [V]` are how many characters each id stands for, where that is not always one."""
        self.learner, self.batches, self.settings, self._clock = learner, batches, settings, clock
        self.processes = processes or ProcessGroup()
        self._lengths = lengths
        self._count_teacher = count_teacher  # of soft targets, where the settings have any
        self._teacher: Teacher | None = None  # only while its share lasts: its counts take much memory
        self._rows = self.processes.rows(batches.B)
        self._share = len(range(batches.B)[self._rows]) / batches.B
        self.stopped_by = 0
        self.step = self.chars = self.skipped = 0
        self.lr_scale = 1.0
        self._elapsed_before_s, self._began_at = 0.0, math.nan
        self._clocked_s = 0.0  # `elapsed_s` as the first process read it at the last step: what a budget goes by
        self._busy_s, self._chars_here = 0.0, 0
        self._skips_in_a_row = self._went_back = 0
        self._good: tuple[int, dict[str, Floats]] | None = None  # the last good state, and its step

    @property
    def elapsed_s(self) -> float:
        """Seconds from the first step until now, without the pauses between sessions."""
        here = 0.0 if math.isnan(self._began_at) else self._clock() - self._began_at
        return self._elapsed_before_s + here

    @property
    def spent(self) -> float:
        """The share of the budget that is used up, 0 to 1."""
        unit, amount = self.settings.budget
        used = {"steps": self.step, "chars": self.chars, "minutes": self._clocked_s / 60}[unit]
        return min(1.0, used / amount)

    def reports(self, stop: Callable[[], int] = lambda: 0) -> Iterator[Report]:
        """Train step by step until the budget is spent; `TrainingError` if the loss stays non-finite.

        `stop` is asked in every step. When it gives a number, as of a signal, in any process, that step is the last one
        in all of them, and `stopped_by` is the number.
        """
        if self._count_teacher and self._soft_share:
            self._teacher = self._teacher or self._count_teacher()
        self._began_at = self._clock()
        self.stopped_by = 0
        while self.spent < 1.0 and not self.stopped_by:
            if self._good is None or self._is_kept:
                self._good = self.step, self.learner.snapshot()
            yield self._step(stop)

    @property
    def _is_kept(self) -> bool:
        """Whether the present state is one that training may go back to later on."""
        return self.step % KEEP_EVERY == 0 and self._skips_in_a_row == 0

    def _step(self, stop: Callable[[], int]) -> Report:
        began = self._clock()
        rate = schedule.learning_rate(self.settings, self.spent) * self.lr_scale
        notice = ""
        ids, targets = self.batches.at(self.step, self._rows)
        soft = self._soft_targets(ids, targets)
        nats, norm = self.learner.gradient(ids, targets, self.step, self._kept_streams(), soft)
        nats, chars = self._agree(nats, targets, stop())
        if math.isfinite(nats) and math.isfinite(norm):
            self.learner.apply(rate)
            if self.settings.average:  # faster at first, so that the start is soon forgotten
                self.learner.take_into_average(min(self.settings.average, (1 + self.step) / (10 + self.step)))
            self._skips_in_a_row = 0
        else:
            notice = self._skip()
        self.step += 1
        self.chars += chars
        self._chars_here += chars
        self._busy_s += self._clock() - began
        speed = self._chars_here / max(self._busy_s, 1e-9)
        nats = nats if math.isfinite(nats) else math.nan
        return Report(self.step, self.chars, nats, rate, norm, self.skipped, self._clocked_s, speed, self.spent, notice)

    def _soft_targets(self, ids: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> Soft | None:
        share = self._soft_share
        if not share:
            self._teacher = None  # the share only falls
        if self._teacher is None:
            return None
        before = self.batches.before(self.step, self._teacher.order, self._rows)
        return Soft(self._teacher.teach(before, ids, targets, threads.for_kernels()), share)

    @property
    def _soft_share(self) -> float:
        return schedule.soft_share(self.settings, self.spent, self.chars)

    def _kept_streams(self) -> Kept | None:
        """Which streams go on from the state they carry; `reset` of them, drawn anew, start from the zero state.

        Without that a model that reads one long stream never sees a beginning again, and may forget how to begin.
        """
        if not self.batches.carries_state:
            return None
        B = self.batches.B
        if not self.settings.reset:
            return np.ones(B, bool)[self._rows]
        drawn = TorchGenerator(draws_seed(self.settings, self.step)).uniform((B,))
        return (drawn >= self.settings.reset)[self._rows]

    def _agree(self, nats: float, targets: npt.NDArray[np.int64], stop: int) -> tuple[float, int]:
        """Nats per character over all processes, and their characters; also sets what they go by from here on."""
        mine = targets.size if self._lengths is None else int(self._lengths[targets].sum())
        every = self.processes.exchange(nats * self._share, self.elapsed_s, float(stop), float(mine))
        self._clocked_s = every[0][1]
        self.stopped_by = int(max(one[2] for one in every))
        chars = int(sum(one[3] for one in every))
        return sum(one[0] for one in every) * (self.batches.B * self.batches.T / chars), chars

    def _skip(self) -> str:
        """Leave the weights alone; after several times in a row, go back to the last good state."""
        self.skipped += 1
        self._skips_in_a_row += 1
        if self._skips_in_a_row < SKIPS_IN_A_ROW:
            return f"step {self.step + 1} skipped: its loss or gradient is not finite"
        if self._went_back == GOES_BACK or self._good is None:
            raise TrainingError(
                f"the loss is not finite for {SKIPS_IN_A_ROW} steps in a row, after {self._went_back} returns to an "
                f"earlier state; train again with a lower --lr than {self.settings.lr:g}, or a smaller --clip"
            )
        good_step, tensors = self._good
        now = self._position()
        kept = {key: now[key] for key in ("step", "chars", "skipped")}  # the text goes on, only the weights go back
        lower = {"lr_scale": self.lr_scale / 2, "went_back": self._went_back + 1, "skips_in_a_row": 0}
        self._take(tensors, {**kept, **lower, "elapsed_s": self._elapsed_before_s})
        return (
            f"step {self.step + 1}: {SKIPS_IN_A_ROW} steps without a finite gradient; "
            f"back to the weights of step {good_step}, at {self.lr_scale:g} of the learning rate"
        )

    def snapshot(self) -> tuple[dict[str, Floats], dict[str, Any]]:
        """Copies of all tensors, and the position: together they determine every step to come.

        The last good state is among them, unless the next step begins with another one or the budget is spent. All
        processes have to call it; the first one gets the carried state of all streams.
        """
        tensors, position = self.learner.snapshot(), self._position()
        if self._good is not None and not self._is_kept and self.spent < 1.0:
            position["good_step"], good = self._good
            tensors |= {GOOD + name: value for name, value in good.items()}
        for name in tensors:
            if _is_carried(name):
                tensors[name] = self.processes.gather_states(tensors[name], self.batches.B)
        return tensors, position

    def _position(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "chars": self.chars,
            "elapsed_s": self.elapsed_s,
            "skipped": self.skipped,
            "lr_scale": self.lr_scale,
            "skips_in_a_row": self._skips_in_a_row,
            "went_back": self._went_back,
            "good_step": None,
        }

    def restore(self, tensors: dict[str, Floats], position: dict[str, Any]) -> None:
        """Go on from a snapshot; `KeyError` or `ValueError` if it does not fit this learner."""
        own = {name: t[:, self._rows] if _is_carried(name) else t for name, t in tensors.items()}
        self._take(own, position)
        good = {name.removeprefix(GOOD): t for name, t in own.items() if name.startswith(GOOD)}
        self._good = (position["good_step"], good) if good else None
        self._clocked_s = self._elapsed_before_s

    def _take(self, tensors: dict[str, Floats], position: dict[str, Any]) -> None:
        """Go on from what the learner's `snapshot` gave."""
        self.learner.restore({name: t for name, t in tensors.items() if not name.startswith(GOOD)})
        self.step, self.chars = position["step"], position["chars"]
        self.skipped, self.lr_scale = position["skipped"], position["lr_scale"]
        self._skips_in_a_row, self._went_back = position["skips_in_a_row"], position["went_back"]
        self._elapsed_before_s = position["elapsed_s"]


def _is_carried(name: str) -> bool:
    """Whether a tensor of a snapshot is a state that streams carry, `[L B H]`."""
    return name.removeprefix(GOOD).startswith("state.")
