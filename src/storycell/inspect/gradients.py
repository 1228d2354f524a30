"""How far back the loss of one character reaches: the norm of its gradient with respect to earlier states.

`GradientFlow` has, for sampled characters t of a `Trace`, ‖dL_t/dc_(t-k)‖ and ‖dL_t/dh_(t-k)‖ for k = 0, 1, … lags, L_t
being the loss of the character after t: backpropagation through the cells' own lines. Of a model of pieces, its steps,
all of it is by piece.

An LSTM's gradient is split into the two terms that the article describes. With h cut off from the gates of the next
character, what still arrives came through the sum c = f * c + i * g alone; the rest went through h and the gates.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from storycell.config import ModelSettings
from storycell.engine import cells
from storycell.errors import SettingsError
from storycell.inspect.trace import Trace
from storycell.language_model import LanguageModel
from storycell.runs.network import new_model
from storycell.types import BOUNDARY

LAGS = 128
SAMPLES = 64
_RESAMPLES = 400

Norms = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class GradientFlow:
    """Norms `[samples lags+1]` by (name of the state, layer); lag 0 is the state that the guess is made from."""

    norms: dict[tuple[str, int], Norms]
    through_sum: dict[tuple[str, int], Norms] = field(default_factory=dict)  # of c, where there is a c
    rest: dict[tuple[str, int], Norms] = field(default_factory=dict)  # through h and the gates
    step_name: str = "character"  # what a lag counts: a character, or a piece
    axes = ("sample", "lag")

    @property
    def samples(self) -> int:
        """How many characters were sampled."""
        return len(next(iter(self.norms.values())))

    def curve(self, name: str, layer: int) -> Norms:
        """The geometric mean over samples at every lag, `[lags+1]`, relative to lag 0."""
        return _curve(self.norms[name, layer])

    def half_life(self, name: str, layer: int) -> tuple[float, float, float]:
        """(steps until the curve has fallen to a half, 95 % interval); infinite where it does not."""
        norms = self.norms[name, layer]
        picks = np.random.default_rng(0).integers(0, len(norms), (_RESAMPLES, len(norms)))
        lives = np.array([_half_life(_curve(norms[pick])) for pick in picks])
        low, high = np.quantile(lives, [0.025, 0.975], method="nearest")
        return _half_life(_curve(norms)), float(low), float(high)

    def __repr__(self) -> str:
        lives = ", ".join(
            f"d{name} of layer {layer} {self.half_life(name, layer)[0]:.1f}" for name, layer in self.norms
        )
        return f"GradientFlow({self.samples} samples; half-lives in {self.step_name}s: {lives})"

    def _repr_html_(self) -> str:
        """For a notebook: the half-lives."""
        lines = "".join(
            "<tr><th>d{} of layer {}</th><td>{:.1f} ({:.1f} to {:.1f})</td></tr>".format(*key, *self.half_life(*key))
            for key in self.norms
        )
        return f"<table><tr><th></th><th>half-life in {self.step_name}s, 95 % interval</th></tr>{lines}</table>"


def gradient_flow(trace: Trace, lags: int = LAGS, samples: int = SAMPLES, seed: int = 0) -> GradientFlow:
    """Gradients of `samples` characters (or pieces) that have at least `lags` + 1 of their story before them."""
    if lags < 1 or samples < 1:
        raise SettingsError(f"lags = {lags}, samples = {samples}: both must be at least 1")
    last = _sample_rows(trace, lags, samples, seed)
    rows = last[:, None] - np.arange(lags, -1, -1)  # of `states`: [samples lags+1]
    ids, targets = trace.all_ids[rows], trace.all_ids[last + 1]
    start = [{n: s[rows[:, 0] - 1] for n, s in layer.items()} for layer in trace.states]
    whole = trace.model.state_gradients(ids, targets, start)
    norms = {key: _norms(grads) for key, grads in whole.items()}
    if "c" not in trace.model.state_names:
        return GradientFlow(norms, step_name=trace.step_name)
    cut = trace.model.state_gradients(ids, targets, start, cuts_h=True)
    summed = {key: grads for key, grads in cut.items() if key[0] == "c"}
    rest = {key: _norms(whole[key] - grads) for key, grads in summed.items()}
    return GradientFlow(norms, {key: _norms(grads) for key, grads in summed.items()}, rest, trace.step_name)


def spectral_radius(model: LanguageModel, layer: int = 0) -> float:
    """The largest absolute eigenvalue of an RNN's hidden weights."""
    return cells.spectral_radius(model.weights()[f"recurrent.weight_hh_l{layer}"])


def rnn_at_radius(model: LanguageModel, radius: float, seed: int = 1) -> LanguageModel:
    """An untrained RNN of the sizes of `model`, its hidden weights scaled to a spectral radius."""
    sizes = ModelSettings(hidden=model.hidden_size, layers=1, cell="rnn", embedding=model.embedding_size)
    untrained = new_model(model.vocab_size, sizes, seed=seed)
    weights = untrained.weights()
    weight = weights["recurrent.weight_hh_l0"]
    return untrained.with_weights(
        weights | {"recurrent.weight_hh_l0": weight * (radius / cells.spectral_radius(weight))}
    )


def longest(trace: Trace) -> int:
    """The most lags that some story of a text can show."""
    return max(1, int(_since_boundary(trace.all_ids)[:-1].max()) - 1)


def _since_boundary(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many characters since the story began."""
    rows = np.arange(len(ids))
    return rows - np.maximum.accumulate(np.where(ids == BOUNDARY, rows, 0))


def _sample_rows(trace: Trace, lags: int, samples: int, seed: int) -> npt.NDArray[np.int64]:
    good = np.flatnonzero(_since_boundary(trace.all_ids)[:-1] > lags)
    if not len(good):
        raise SettingsError(f"no story of the text is longer than {lags} {trace.step_name}s; ask for fewer lags")
    return np.sort(np.random.default_rng(seed).choice(good, samples, replace=len(good) < samples))


def _norms(grads: npt.NDArray[np.floating]) -> Norms:
    """Of gradients `[samples lags+1 H]`, oldest first: `[samples lags+1]`, lag 0 first."""
    return np.asarray(np.sqrt(np.square(grads.astype(np.float64)).sum(-1))[:, ::-1])


def geometric(norms: Norms) -> Norms:
    """The geometric mean over samples, `[lags+1]`; norms span many powers of ten."""
    return np.asarray(np.exp(np.log(np.maximum(norms, 1e-300)).mean(0)))


def _curve(norms: Norms) -> Norms:
    mean = geometric(norms)
    return np.asarray(mean / mean[0])


def _half_life(curve: Norms) -> float:
    below = np.flatnonzero(curve <= 0.5)
    if not len(below):
        return float("inf")
    k = int(below[0])
    a, b = np.log(curve[k - 1]), np.log(curve[k])
    return float(k - 1 + (a - np.log(0.5)) / (a - b))
