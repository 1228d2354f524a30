"""`TorchLearner`: a `CharLM` in training, on any backend and device, alone or as one of several processes.

Beside `distributed` the one module of training that imports torch; both are imported late. Dropout draws from a
generator seeded by the number of the step, so no generator's state has to survive a crash.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from storycell.config import ModelSettings, Settings, TrainSettings
from storycell.language_model import Floats
from storycell.nn.adapter import TorchModel
from storycell.nn.backends import choice
from storycell.nn.cells import registry
from storycell.nn.loss import mean_nats
from storycell.nn.model import CharLM
from storycell.nn.optim import build_optimizer, clip
from storycell.runs.machine import best_device
from storycell.training.learner import Kept, Layout, Soft, draws_seed
from storycell.training.processes import ProcessGroup

_State = dict[str, torch.Tensor]  # [L B H] by name


class TorchLearner:
    """Trains `lm` as `settings` say; `share` is the part of all streams that are this process's."""

    def __init__(
        self, lm: CharLM, settings: TrainSettings, processes: ProcessGroup | None = None, share: float = 1.0
    ) -> None:
        processes = processes or ProcessGroup()
        self.lm, self.settings = lm, settings
        self.model = TorchModel(lm)
        self.device = str(lm.output.weight.device)
        self.optimizer = build_optimizer(lm, settings)
        self._rank, self._weight = processes.rank, share * processes.count  # 1, or more for one with more streams
        self._parallel = _parallel(lm, processes)
        self._state: _State | None = None
        self._next: _State | None = None  # after the last gradient
        self._average: dict[str, torch.Tensor] = {}  # the running mean of the weights, by name

    @classmethod
    def from_settings(
        cls, settings: Settings, vocab_size: int, processes: ProcessGroup | None = None, share: float = 1.0
    ) -> "TorchLearner":
        """With the weights that the seed draws, on the device and backend of the settings."""
        training = settings.training
        lm = CharLM.from_settings(vocab_size, settings.model, seed=training.seed)
        lm.use(training.backend, training.precision)
        device = (processes or ProcessGroup()).device(str(best_device(training.device)))
        return cls(lm.to(device), training, processes, share)

    @property
    def layout(self) -> Layout:
        """As `Learner.layout`."""
        lm = self.lm
        return Layout(
            {name: tuple(p.shape) for name, p in lm.named_parameters()},
            {name: self.optimizer.moments[p] for name, p in lm.named_parameters()},
            registry.get_cell(lm.form).state_names,
            lm.num_layers,
            lm.hidden_size,
            lm.context.memory,
        )

    def gradient(
        self,
        ids: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
        step: int,
        kept: Kept | None,
        soft: Soft | None = None,
    ) -> tuple[float, float]:
        """As `Learner.gradient`."""
        lm, seed = self.lm, draws_seed(self.settings, step, self._rank)
        self.optimizer.zero_grad()
        lm.train()
        with lm.backend.exclusive():
            with torch.random.fork_rng(enabled=lm.draws):
                if lm.draws:
                    torch.manual_seed(seed)
                if soft is None:
                    nats, self._next = self._parallel(self._there(ids), self._carry(kept), targets=self._there(targets))
                    loss = nats
                else:
                    logits, self._next = self._parallel(self._there(ids), self._carry(kept))
                    nats = mean_nats(logits, self._there(targets))
                    taught = mean_nats(logits, self._there(soft.probabilities))
                    loss = (1 - soft.share) * nats + soft.share * taught
                (loss * self._weight).backward()
            norm = clip(lm, math.inf if self.settings.clip is None else self.settings.clip)
            return nats.item(), norm

    def _there(self, array: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.lm.output.weight.device)

    def _carry(self, kept: Kept | None) -> _State | None:
        if self._state is None or kept is None:
            return None
        if kept.all():
            return self._state
        mask = torch.from_numpy(kept)
        return {name: value * mask.to(value).view(1, -1, 1) for name, value in self._state.items()}

    def apply(self, rate: float) -> None:
        """As `Learner.apply`."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with nullcontext() if self.optimizer.multiplies else self.lm.backend.exclusive():
            self.optimizer.step()
        self.optimizer.zero_grad()
        self._state = self._next

    @torch.no_grad()
    def take_into_average(self, decay: float) -> None:
        """As `Learner.take_into_average`."""
        for name, parameter in self.lm.named_parameters():
            if name in self._average:
                self._average[name].lerp_(parameter, 1 - decay)
            else:
                self._average[name] = parameter.detach().clone()

    @contextmanager
    @torch.no_grad()
    def averaged(self) -> Iterator[None]:
        """As `Learner.averaged`."""
        present = {name: p.detach().clone() for name, p in self.lm.named_parameters() if name in self._average}
        try:
            self._give(self._average)
            yield
        finally:
            self._give(present)

    @torch.no_grad()
    def _give(self, weights: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.lm.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])

    def snapshot(self) -> dict[str, Floats]:
        """As `Learner.snapshot`."""
        tensors = {f"model.{name}": value for name, value in self.lm.state_dict().items()}
        for name, parameter in self.lm.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{name}.{key}"] = value
        tensors |= {f"state.{name}": value for name, value in (self._state or {}).items()}
        tensors |= {f"average.{name}": value for name, value in self._average.items()}
        return {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}

    def restore(self, tensors: Mapping[str, Floats]) -> None:
        """As `Learner.restore`."""
        device = self.lm.output.weight.device

        def tensors_of(start: str) -> dict[str, torch.Tensor]:
            found = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
            return {name: torch.from_numpy(np.array(t)).to(device) for name, t in found.items()}

        try:
            self.lm.load_state_dict(tensors_of("model."))
        except RuntimeError as error:
            raise ValueError(str(error)) from None
        for name, parameter in self.lm.named_parameters():
            if moments := tensors_of(f"optimizer.{name}."):
                self.optimizer.state[parameter] = moments
            else:
                self.optimizer.state.pop(parameter, None)
        self._state = tensors_of("state.") or None
        self._average = tensors_of("average.")

    def watch(self) -> dict[str, float]:
        """As `Learner.watch`."""
        watch = registry.get_cell(self.lm.form).watch
        layers = enumerate(self.lm.recurrent.layers())
        return {f"{name}_l{k}": value for k, weights in layers for name, value in watch(weights).items()}


def _parallel(lm: CharLM, processes: ProcessGroup) -> nn.Module:
    if processes.count == 1:
        return lm
    from storycell.training.distributed import parallel

    return parallel(lm)


def choose_backend(asked: str, model: ModelSettings, device: str) -> tuple[str, bool]:
    """The name of the backend that computes such a network's cell there, and whether it multiplies bf16."""
    weight = torch.empty(0, dtype=torch.float32, device=device)
    backend, _ = choice.choose_backend(asked, registry.name_form(model.cell, model.gate_norm), weight)
    return backend.name, backend.multiplies_bf16(weight.device)


def torch_shapes(model: ModelSettings, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights of such a network, of which nothing is allocated."""
    return CharLM.from_settings(vocab_size, model, device="meta").shapes()
