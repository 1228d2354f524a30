"""One training step after another: batches and a model in, one report a step out.

The trainer does not print, plot, sample, evaluate or save: its caller does, between two reports (and the clock of a
budget in minutes runs on meanwhile). `snapshot` and `restore` hold everything that the next step depends on.

A loss or gradient that is not finite never reaches the weights. Dropout draws from a generator seeded by the number of
the step, so no generator's state has to survive a crash. Of several processes each computes its own streams, but every
decision is taken from numbers that all of them share.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from storycell.config import TrainSettings
from storycell.data.batches import Batches
from storycell.errors import TrainingError
from storycell.nn.cells.cell import State
from storycell.nn.model import CharLM
from storycell.nn.optim import build_optimizer, clip
from storycell.training import schedule
from storycell.training.distributed import ProcessGroup

SKIPS_IN_A_ROW = 5  # so many steps without a finite gradient, and training goes back to the last good state
GOES_BACK = 4  # so many times, each with half the learning rate, before it gives up
KEEP_EVERY = 100  # steps between two good states that are kept
GOOD = "good."  # what the tensors of the last good state are called in a snapshot, before their own names


@dataclass(frozen=True)
class Report:
    """What one step did. `valid_nats` and `sample` are filled in by whoever evaluates and samples."""

    step: int  # steps done, this one included
    chars: int  # characters learnt from
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
    """Trains `model` on `batches` until the budget in `settings` is spent."""

    def __init__(
        self,
        model: CharLM,
        batches: Batches,
        settings: TrainSettings,
        clock: Callable[[], float] = time.monotonic,
        processes: ProcessGroup | None = None,
    ) -> None:
        self.model, self.batches, self.settings, self._clock = model, batches, settings, clock
        self.processes = processes or ProcessGroup()
        self._rows = self.processes.rows(batches.B)
        self._share = len(range(batches.B)[self._rows]) / batches.B
        self._parallel = self.processes.parallel(model)
        self.optimizer = build_optimizer(model, settings)
        self.stopped_by = 0
        self.step = self.chars = self.skipped = 0
        self.lr_scale = 1.0
        self._state: State | None = None
        self._average: dict[str, torch.Tensor] = {}  # the running mean of the weights, by name
        self._elapsed_before_s, self._began_at = 0.0, math.nan
        self._clocked_s = 0.0  # `elapsed_s` as the first process read it at the last step: what a budget goes by
        self._busy_s, self._chars_here = 0.0, 0
        self._skips_in_a_row = self._went_back = 0
        self._good: tuple[int, dict[str, torch.Tensor]] | None = None  # the last good state, and its step

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
        self._began_at = self._clock()
        self.stopped_by = 0
        while self.spent < 1.0 and not self.stopped_by:
            if self._good is None or self._is_kept:
                self._good = self.step, self._held()
            yield self._step(stop)

    @property
    def _is_kept(self) -> bool:
        """Whether the present state is one that training may go back to later on."""
        return self.step % KEEP_EVERY == 0 and self._skips_in_a_row == 0

    def _step(self, stop: Callable[[], int]) -> Report:
        began = self._clock()
        rate = schedule.learning_rate(self.settings, self.spent) * self.lr_scale
        notice = ""
        with self.model.backend.exclusive():
            nats, norm, state = self._gradient()
            nats = self._agreed(nats, stop())
        if math.isfinite(nats) and math.isfinite(norm):
            self._apply(rate)
            self._state, self._skips_in_a_row = state, 0
        else:
            notice = self._skip()
        self.optimizer.zero_grad()
        self.step += 1
        self.chars += self.batches.B * self.batches.T
        self._chars_here += self.batches.B * self.batches.T
        self._busy_s += self._clock() - began
        speed = self._chars_here / max(self._busy_s, 1e-9)
        nats = nats if math.isfinite(nats) else math.nan
        return Report(self.step, self.chars, nats, rate, norm, self.skipped, self._clocked_s, speed, self.spent, notice)

    def _gradient(self) -> tuple[float, float, State]:
        """Loss of this process's streams, norm of everybody's gradient before clipping, state after the chunk."""
        device = self.model.output.weight.device
        ids, targets = (part.to(device) for part in self.batches.at(self.step, self._rows))
        state = self._carried()
        self.model.train()
        with torch.random.fork_rng(enabled=self.model.draws):
            if self.model.draws:
                torch.manual_seed((self.processes.rank << 53) + self.settings.seed * 1_000_003 + self.step)
            loss, state = self._parallel(ids, state, targets=targets)
            (loss * (self._share * self.processes.count)).backward()  # 1, or more for a process with more streams
        limit = math.inf if self.settings.clip is None else self.settings.clip
        norm = clip(self.model, limit)
        return loss.item(), norm, state

    def _agreed(self, nats: float, stop: int) -> float:
        """The mean loss over all processes, once all have done this step; also sets what they go by from here on."""
        every = self.processes.exchange(nats * self._share, self.elapsed_s, float(stop))
        self._clocked_s = every[0][1]
        self.stopped_by = int(max(wish for _, _, wish in every))
        return sum(part for part, _, _ in every)

    def _carried(self) -> State | None:
        """The state that this step starts from; `reset` of the streams, drawn anew, start from the zero state.

        Without that a model that reads one long stream never sees a beginning again, and may forget how to begin.
        """
        if self._state is None or not self.batches.carries_state:
            return None
        if not self.settings.reset:
            return self._state
        draws = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        drawn = torch.rand(self.batches.B, generator=draws, dtype=torch.float32, device="cpu")
        kept = (drawn >= self.settings.reset)[self._rows]
        return {name: value * kept.to(value).view(1, -1, 1) for name, value in self._state.items()}

    def _apply(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with nullcontext() if self.optimizer.multiplies else self.model.backend.exclusive():
            self.optimizer.step()
        if self.settings.average:
            self._take_into_average()

    @torch.no_grad()
    def _take_into_average(self) -> None:
        """Move the running mean towards the weights; at first faster, so that the start is soon forgotten."""
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        for name, parameter in self.model.named_parameters():
            if name in self._average:
                self._average[name].lerp_(parameter, 1 - decay)
            else:
                self._average[name] = parameter.detach().clone()

    @contextmanager
    @torch.no_grad()
    def averaged(self) -> Iterator[None]:
        """Within, the model has the running mean of its weights, where one is kept."""
        present = {name: p.detach().clone() for name, p in self.model.named_parameters() if name in self._average}
        try:
            self._give(self._average)
            yield
        finally:
            self._give(present)

    @torch.no_grad()
    def _give(self, weights: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])

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

    def snapshot(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Copies of all tensors, and the position: together they determine every step to come.

        The last good state is among them, unless the next step begins with another one or the budget is spent. All
        processes have to call it; the first one gets the carried state of all streams.
        """
        tensors, position = self._held(), self._position()
        if self._good is not None and not self._is_kept and self.spent < 1.0:
            position["good_step"], good = self._good
            tensors |= {GOOD + name: value for name, value in good.items()}
        for name in tensors:
            if _is_carried(name):
                tensors[name] = self.processes.gathered(tensors[name], self.batches.B)
        return tensors, position

    def _held(self) -> dict[str, torch.Tensor]:
        """Copies of all tensors, with the carried state of this process's streams only."""
        tensors = {f"model.{name}": value.detach().clone() for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{name}.{key}"] = value.detach().clone()
        for name, value in (self._state or {}).items():
            tensors[f"state.{name}"] = value.clone()
        for name, value in self._average.items():
            tensors[f"average.{name}"] = value.clone()
        return tensors

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

    def restore(self, tensors: dict[str, torch.Tensor], position: dict[str, Any]) -> None:
        """Go on from a snapshot; `KeyError` or `RuntimeError` if it does not fit this model and optimiser."""
        own = {name: t[:, self._rows] if _is_carried(name) else t for name, t in tensors.items()}
        self._take(own, position)
        good = {name.removeprefix(GOOD): t for name, t in own.items() if name.startswith(GOOD)}
        self._good = (position["good_step"], good) if good else None
        self._clocked_s = self._elapsed_before_s

    def _take(self, tensors: dict[str, torch.Tensor], position: dict[str, Any]) -> None:
        """Go on from what `_held` gave."""
        device = self.model.output.weight.device
        weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self.model.load_state_dict(weights)
        for name, parameter in self.model.named_parameters():
            start = f"optimizer.{name}."
            found = {key.removeprefix(start): t.clone() for key, t in tensors.items() if key.startswith(start)}
            if found:
                self.optimizer.state[parameter] = {k: t.to(device) for k, t in found.items()}
            else:
                self.optimizer.state.pop(parameter, None)
        carried = {
            name.removeprefix("state."): t.clone().to(device)
            for name, t in tensors.items()
            if name.startswith("state.")
        }
        self._state = carried or None
        means = {name.removeprefix("average."): t for name, t in tensors.items() if name.startswith("average.")}
        self._average = {name: t.clone().to(device) for name, t in means.items()}
        self.step, self.chars = position["step"], position["chars"]
        self.skipped, self.lr_scale = position["skipped"], position["lr_scale"]
        self._skips_in_a_row, self._went_back = position["skips_in_a_row"], position["went_back"]
        self._elapsed_before_s = position["elapsed_s"]


def _is_carried(name: str) -> bool:
    """Whether a tensor of a snapshot is a state that streams carry, `[L B H]`."""
    return name.removeprefix(GOOD).startswith("state.")
