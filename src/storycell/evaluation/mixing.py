"""A model mixed with the n-gram of its training text, at the time of prediction.

    p(w) = m p_model(w) + (1 - m) p_ngram(w)

The weight m depends on two things that are known before w is: the longest order of the n-gram that has seen the
characters before, and the entropy of the model's prediction. `fit` finds the weights by expectation maximisation
(Jelinek & Mercer 1980, "Interpolated estimation of Markov source parameters") on the last stories of the training text,
which the n-gram has not counted. The model has read them, so it is trusted somewhat more than on a text that is new.

`MixedModel` is a `LanguageModel`, so it is evaluated and sampled like any other. Its logits are the logarithms of
probabilities that sum to one over the vocabulary; the unknown character keeps m times what the model gives it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.errors import CorpusError
from storycell.evaluation.ngram import NGram
from storycell.language_model import Choice, Floats, Generated, Hold, Integers, LanguageModel, State, Values, unheld
from storycell.types import BOUNDARY, Ids

ORDER = 10  # the longest n-gram, in characters
MOST_COUNTED = (
    20_000_000  # characters of the training text that are counted, the first ones: 2 GB of memory at order 10
)
HELD_BACK = 0.02  # of the training text, not counted but used to fit the weights
MOST_HELD_BACK = 200_000  # characters
ORDER_LEVELS, ENTROPY_LEVELS = 6, 5  # what the weight depends on: 30 buckets
_ENTROPY_NATS = 0.5  # of one level
_ROUNDS = 50
_PRIOR = 4.0  # characters' worth of belief in equal weights, for buckets that hardly occur
_CONTEXTS = "ngram"  # the name of the contexts among the states

Weights = npt.NDArray[np.float64]  # m of each bucket [ORDER_LEVELS * ENTROPY_LEVELS]


class MixedModel:
    """`lm` mixed with `ngram`, whose vocabulary must be the same, by `weights` of the buckets."""

    def __init__(self, lm: LanguageModel, ngram: NGram, mix: Weights) -> None:
        if lm.vocab_size != ngram.V:
            raise ValueError(f"an n-gram of {ngram.V} ids beside a model of {lm.vocab_size}")
        self.lm, self.ngram, self.mix = lm, ngram, mix
        self.vocab_size, self.hidden_size, self.num_layers = lm.vocab_size, lm.hidden_size, lm.num_layers
        self.embedding_size, self.context = lm.embedding_size, lm.context
        self.cell, self.gate_norm, self.state_names = lm.cell, lm.gate_norm, lm.state_names
        self.can_hold = False

    @property
    def value_names(self) -> tuple[str, ...]:
        """As `LanguageModel.value_names`."""
        return self.lm.value_names

    @property
    def backend(self) -> str:
        """As `LanguageModel.backend`."""
        return self.lm.backend

    @property
    def backend_reason(self) -> str:
        """As `LanguageModel.backend_reason`."""
        return self.lm.backend_reason

    @property
    def generates_in(self) -> str:
        """As `LanguageModel.generates_in`: it is stepped from outside, in float32."""
        return "fp32"

    def weights(self) -> dict[str, Floats]:
        """As `LanguageModel.weights`: those of the network."""
        return self.lm.weights()

    def with_weights(self, weights: Mapping[str, Any]) -> "MixedModel":
        """As `LanguageModel.with_weights`."""
        return MixedModel(self.lm.with_weights(weights), self.ngram, self.mix)

    def copy_untrained(self, seed: int) -> LanguageModel:
        """As `LanguageModel.copy_untrained`: the network alone."""
        return self.lm.copy_untrained(seed)

    def frozen(self) -> "MixedModel":
        """As `LanguageModel.frozen`."""
        return MixedModel(self.lm.frozen(), self.ngram, self.mix)

    def zero_state(self, B: int) -> State:
        """As `LanguageModel.zero_state`, and the contexts of the n-gram, `[1 B orders]` in float64."""
        return {**self.lm.zero_state(B), _CONTEXTS: self.ngram.begin(B)[None].astype(np.float64)}

    def logits(self, ids: Any, state: State | None = None) -> tuple[Floats, State]:
        """As `LanguageModel.logits`: log probabilities of the mixture."""
        p, contexts, after = self._read(ids, state)
        p_ngram = self.ngram.distributions(contexts).reshape(p.shape)
        m = self.mix[bucket(self.ngram, contexts, p)].reshape(*p.shape[:2], 1)
        return np.log(m * p + (1 - m) * p_ngram).astype(np.float32), after

    def nats(self, ids: Any, targets: Any, state: State | None = None) -> tuple[Floats, State]:
        """As `LanguageModel.nats`."""
        p_model, p_ngram, buckets, after = self.parts(ids, targets, state)
        m = self.mix[buckets]
        return -np.log(m * p_model + (1 - m) * p_ngram).astype(np.float32), after

    def parts(
        self, ids: Any, targets: Any, state: State | None = None
    ) -> tuple[Weights, Weights, npt.NDArray[np.int64], State]:
        """What both think of every target, and the bucket it is in, `[B T]` each; and the state after them."""
        p, contexts, after = self._read(ids, state)
        targets = np.asarray(targets, np.int64)
        p_ngram = self.ngram.follow_up(contexts, targets.reshape(-1)).reshape(targets.shape)
        p_model = np.take_along_axis(p, targets[..., None], axis=-1)[..., 0]
        return p_model, p_ngram, bucket(self.ngram, contexts, p).reshape(targets.shape), after

    def _read(self, ids: Any, state: State | None) -> tuple[Weights, npt.NDArray[np.int64], State]:
        """The model's probabilities after each of ids `[B T]`, the contexts then `[B * T orders]`, the state after."""
        ids = np.asarray(ids, np.int64)
        state = self.zero_state(len(ids)) if state is None else state
        logits, after = self.lm.logits(ids, {name: value for name, value in state.items() if name != _CONTEXTS})
        contexts = self.ngram.contexts(ids, state[_CONTEXTS][0].astype(np.int64))
        after = {**after, _CONTEXTS: contexts[None, :, -1].astype(np.float64)}
        return softmax(logits), contexts.reshape(-1, self.ngram.order), after

    def state_after(self, ids: Any, state: State | None = None) -> State:
        """As `LanguageModel.state_after`."""
        ids = np.asarray(ids, np.int64)
        state = self.zero_state(len(ids)) if state is None else state
        after = self.lm.state_after(ids, {name: value for name, value in state.items() if name != _CONTEXTS})
        contexts = self.ngram.contexts(ids, state[_CONTEXTS][0].astype(np.int64))
        return {**after, _CONTEXTS: contexts[None, :, -1].astype(np.float64)}

    def states(self, ids: Any, state: State | None = None) -> State:
        """As `LanguageModel.states`: those of the network."""
        return self.lm.states(ids, state)

    def generate(
        self, fed: Any, state: State, random: Any, choices: list[Choice], chars: int, *, logits: bool = False
    ) -> Generated | None:
        """As `LanguageModel.generate`: it is stepped from outside."""
        return None

    def inputs(self, ids: Any, past: Any = None) -> Floats:
        """As `LanguageModel.inputs`."""
        return self.lm.inputs(ids, past)

    def layer_step(self, layer: int, x: Floats, state: Values, hold: Hold = unheld) -> Values:
        """As `LanguageModel.layer_step`."""
        return self.lm.layer_step(layer, x, state, hold)

    def output(self, h: Floats) -> Floats:
        """As `LanguageModel.output`: the network's part."""
        return self.lm.output(h)

    def state_gradients(
        self, ids: Any, targets: Any, state: list[Values], *, cuts_h: bool = False
    ) -> dict[tuple[str, int], Floats]:
        """As `LanguageModel.state_gradients`: the network's loss."""
        return self.lm.state_gradients(ids, targets, state, cuts_h=cuts_h)


@dataclass(frozen=True)
class Counted:
    """An n-gram of a training text, and the part of it that was kept back for the weights, laid out as a text."""

    ngram: NGram
    held_back: Ids


def count(train_ids: Ids, V: int, order: int = ORDER) -> Counted:
    """Count a training text `[tokens]`, all but its end."""
    ids = np.asarray(train_ids[: MOST_COUNTED + 1])
    cut = len(ids) - max(1, min(MOST_HELD_BACK, int(HELD_BACK * len(ids))))
    begins = np.flatnonzero(ids[cut:] == BOUNDARY)
    if len(begins):  # whole stories
        cut += int(begins[0])
        held_back = ids[cut:]
    else:
        held_back = np.concatenate([np.array([BOUNDARY], ids.dtype), ids[cut:]])
    if cut < 2 or len(held_back) < 2:
        raise CorpusError("the training text is too short to be counted and to keep a part of it back")
    return Counted(NGram.fit(ids[:cut], V, order), held_back)


def fit(lm: LanguageModel, counted: Counted) -> MixedModel:
    """The mixture whose weights make the part kept back most likely."""
    from storycell.evaluation import evaluator

    mixed = MixedModel(lm, counted.ngram, np.full(ORDER_LEVELS * ENTROPY_LEVELS, 0.5))
    collected = _Collector(mixed)
    evaluator.score(collected, counted.held_back)  # type: ignore[arg-type]
    p_model, p_ngram, buckets = (np.concatenate(part) for part in zip(*collected.found, strict=True))
    return MixedModel(lm, counted.ngram, fit_weights(p_model, p_ngram, buckets))


def fit_weights(p_model: Weights, p_ngram: Weights, buckets: npt.NDArray[np.int64]) -> Weights:
    """The weights of the buckets by expectation maximisation, from what both think of targets, `[N]` each."""
    count = ORDER_LEVELS * ENTROPY_LEVELS
    m = np.full(count, 0.5)
    seen = np.bincount(buckets, minlength=count)
    for _ in range(_ROUNDS):
        ours = m[buckets] * p_model
        share = ours / np.maximum(ours + (1 - m[buckets]) * p_ngram, 1e-300)
        m = (np.bincount(buckets, share, count) + _PRIOR / 2) / (seen + _PRIOR)
    return m


class _Collector:
    """A model that keeps what both parts of a mixture think of each target that is scored."""

    def __init__(self, mixed: MixedModel) -> None:
        self._mixed, self.vocab_size = mixed, mixed.vocab_size
        self.found: list[tuple[Weights, Weights, npt.NDArray[np.int64]]] = []

    def frozen(self) -> "_Collector":
        return self

    def zero_state(self, B: int) -> State:
        return self._mixed.zero_state(B)

    def nats(self, ids: Integers, targets: Integers, state: State) -> tuple[Floats, State]:
        p_model, p_ngram, buckets, after = self._mixed.parts(ids, targets, state)
        self.found.append((p_model.ravel(), p_ngram.ravel(), buckets.ravel()))
        return np.zeros(targets.shape, np.float32), after


def bucket(ngram: NGram, contexts: npt.NDArray[np.int64], p: Weights) -> npt.NDArray[np.int64]:
    """The bucket of each of contexts `[N orders]`, where the model thinks `p [... V]`."""
    p = p.reshape(len(contexts), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropies = -np.where(p > 0, p * np.log(p), 0.0).sum(axis=-1)
    longest = ngram.longest(contexts)
    orders = np.clip(longest - (ngram.order - ORDER_LEVELS + 1), 0, ORDER_LEVELS - 1)
    levels: npt.NDArray[np.int64] = np.minimum((entropies / _ENTROPY_NATS).astype(np.int64), ENTROPY_LEVELS - 1)
    return orders * ENTROPY_LEVELS + levels


def softmax(logits: Floats) -> Weights:
    """Logits `[... V]` -> probabilities in float64."""
    x = logits.astype(np.float64)
    p: Weights = np.exp(x - x.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return p
