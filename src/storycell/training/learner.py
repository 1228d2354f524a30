"""`Learner`: what the trainer drives, one step at a time: a model with its gradient, optimiser and carried state.

There are two. `EngineLearner` calls the engine, numpy in and out. `TorchLearner`, imported late, runs a torch module,
for GPUs and cells that the engine does not have. Both name what they hold alike, so that a training
that one began can go on with the other; what dropout draws is not the same then, nor are the last bits.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from storycell.config import TrainSettings
from storycell.language_model import Floats, LanguageModel

Kept = npt.NDArray[np.bool_]


class Soft(NamedTuple):
    """Targets to learn from beside the characters that follow."""

    probabilities: Floats  # [B T V]
    share: float  # of the loss that is theirs, 0 to 1


@dataclass(frozen=True)
class Layout:
    """What a learner's snapshot holds, by names and shapes."""

    parameters: Mapping[str, tuple[int, ...]]  # shapes by torch's names
    moments: Mapping[str, frozenset[str]]  # of each parameter that has moved: `step` is a number, others have its shape
    state_names: tuple[str, ...]
    layers: int
    hidden: int
    past: int = 0  # characters that each stream remembers, as the state `past [1 B past]`


def draws_seed(settings: TrainSettings, step: int, rank: int = 0) -> int:
    """The seed of what is drawn in a step: by all processes alike, or (dropout) by each of them for itself."""
    return (rank << 53) + settings.seed * 1_000_003 + step


class Learner(Protocol):
    """A model in training."""

    device: str

    @property
    def model(self) -> LanguageModel:
        """The model with the weights of now, without dropout, in float32."""

    @property
    def layout(self) -> Layout:
        """What `snapshot` may hold."""

    def gradient(
        self,
        ids: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
        step: int,
        kept: Kept | None,
        soft: Soft | None = None,
    ) -> tuple[float, float]:
        """The mean loss in nats of ids and targets `[B T]`, and the norm of everybody's gradient before clipping.

        Nothing is changed by it. `kept [B]` are the streams that go on from the state after the chunk applied last;
        the others, or all where it is None, start from the zero state. `step` and the seed say what dropout draws. Of
        the loss whose gradient it is, `soft` has its share; the loss that is returned is without it.
        """

    def apply(self, rate: float) -> None:
        """Move the weights along the last gradient, clipped, and take its state to be carried on; once a gradient."""

    def take_into_average(self, decay: float) -> None:
        """Move the running mean of the weights towards them, from `decay` of it; it begins as the weights."""

    def averaged(self) -> AbstractContextManager[None]:
        """Within, the model has the running mean of its weights, where one is kept."""

    def snapshot(self) -> dict[str, Floats]:
        """Copies of everything that the next step depends on, with the carried state of this process's streams.

        `model.NAME`, `optimizer.NAME.MOMENT`, `average.NAME`, `state.NAME` `[L B H]`.
        """

    def restore(self, tensors: Mapping[str, Floats]) -> None:
        """Go on from what `snapshot` gave, by any learner; `KeyError` or `ValueError` if it does not fit."""

    def watch(self) -> dict[str, float]:
        """What is worth following through a training, by name, of every layer."""
