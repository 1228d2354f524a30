"""`EngineLearner`: the engine's own training, numpy in and out, on the processor; alone without torch.

Of several processes each computes the gradient of its own streams; they add them up, and each takes the same step.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from storycell import threads
from storycell.config import Settings
from storycell.context import TABLE
from storycell.engine import EngineModel, EngineNetwork
from storycell.engine.cells import spectral_radius
from storycell.language_model import Floats
from storycell.training.learner import Kept, Layout, Soft, draws_seed
from storycell.training.processes import ProcessGroup

# What an optimiser keeps of a parameter. Muon does so of the recurrent layers' matrices alone; but for SGD the
# context's table has its own.
MOMENTS = {
    "sgd": frozenset[str](),
    "adamw": frozenset({"step", "exp_avg", "exp_avg_sq"}),
    "muon": frozenset({"momentum_buffer"}),
    "normuon": frozenset({"momentum_buffer", "second_momentum_buffer"}),
    "table": frozenset({"sum"}),
}
ROUNDING = ("muon", "normuon")


class EngineLearner:
    """Trains a network of V characters as `settings` say, from the weights that their seed draws.

    `share` is the part of all streams that are this process's.
    """

    device = "cpu"

    def __init__(
        self, settings: Settings, vocab_size: int, processes: ProcessGroup | None = None, share: float = 1.0
    ) -> None:
        model, training = settings.model, settings.training
        self._settings, self._forget_bias = training, model.forget_bias
        self.engine = EngineModel(
            vocab_size,
            model.hidden,
            model.layers,
            model.cell,
            embedding_size=model.embedding,
            gate_bias=model.gate_bias,
            precision=training.precision,
            threads=threads.for_kernels(),
            dropout=model.dropout,
            weight_dropout=model.weight_dropout,
            embedding_dropout=model.embedding_dropout,
            ngrams=model.ngrams,
            ngram_rows=model.ngram_rows,
            matches=model.matches,
            gate_norm=model.gate_norm,
        )
        self.engine.initialise(training.seed, model.forget_bias)
        self._processes, self._share = processes or ProcessGroup(), np.float32(share)
        if self._processes.count > 1:  # another machine may draw otherwise in the last bit
            weights = self.engine.read()
            for name in weights:
                self._processes.take_from_first(weights[name])
            self.engine.write(weights)

    @property
    def model(self) -> EngineNetwork:
        """As `Learner.model`: it has copies of the weights."""
        return self.engine.network(forget_bias=self._forget_bias)

    @property
    def layout(self) -> Layout:
        """As `Learner.layout`."""
        engine, optimizer = self.engine, self._settings.optimizer
        plain = MOMENTS["sgd" if optimizer == "sgd" else "adamw"]
        moments = {
            name: MOMENTS[optimizer] if optimizer in ROUNDING and is_rounded(name, shape) else plain
            for name, shape in engine.shapes.items()
        }
        if TABLE in moments and optimizer != "sgd":
            moments[TABLE] = MOMENTS["table"]
        sizes = engine.num_layers, engine.hidden_size, engine.context.memory
        return Layout(engine.shapes, moments, engine.state_names, *sizes)

    def gradient(
        self,
        ids: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
        step: int,
        kept: Kept | None,
        soft: Soft | None = None,
    ) -> tuple[float, float]:
        """As `Learner.gradient`."""
        resets = None if kept is None or kept.all() else ~kept
        seed = draws_seed(self._settings, step, self._processes.rank)
        probabilities, share = soft or (None, 0.0)
        nats, norm = self.engine.gradient(
            ids, targets, carries=kept is not None, resets=resets, seed=seed, soft=probabilities, share=share
        )
        return nats, norm if self._processes.count == 1 else self._add_up()

    def _add_up(self) -> float:
        """Make of the gradient that of all streams; returns its norm."""
        gradients = self.engine.gradients
        gradients *= self._share
        self._processes.add_up(gradients)
        if self.engine.context:
            rows, of_rows = self.engine.row_gradients()
            self.engine.set_row_gradients(*self._processes.add_up_rows(rows, of_rows * self._share))
        return self.engine.measure()

    def apply(self, rate: float) -> None:
        """As `Learner.apply`."""
        settings = self._settings
        self.engine.apply(rate, optimizer=settings.optimizer, clip=settings.clip, decay=settings.weight_decay)

    def take_into_average(self, decay: float) -> None:
        """As `Learner.take_into_average`."""
        self.engine.average(decay)

    def averaged(self) -> AbstractContextManager[None]:
        """As `Learner.averaged`."""
        return self.engine.averaged()

    def snapshot(self) -> dict[str, Floats]:
        """As `Learner.snapshot`."""
        return self.engine.snapshot()

    def restore(self, tensors: Mapping[str, Floats]) -> None:
        """As `Learner.restore`."""
        self.engine.restore(tensors)

    def watch(self) -> dict[str, float]:
        """As `Learner.watch`: how far a vanilla network's hidden weights have drifted from spectral radius 1."""
        if self.engine.cell != "rnn":
            return {}
        weights = self.engine.read()
        layers = range(self.engine.num_layers)
        return {f"spectral_radius_l{k}": spectral_radius(weights[f"recurrent.weight_hh_l{k}"]) for k in layers}


def is_rounded(name: str, shape: tuple[int, ...]) -> bool:
    """Whether Muon moves a parameter."""
    return name.startswith("recurrent") and len(shape) == 2
