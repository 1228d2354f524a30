"""What all units together tell: linear probes with control tasks (Hewitt & Liang 2019, arXiv:1909.03368).

A feature may lie in no single unit and still be there, spread over many. A probe is a ridge regression on all states of
a layer, fitted on the first half of the text and scored on the second by its AUC. A probe with many weights can learn
by heart, so it is fitted to a control task as well: every word, as far as it has been read, gets a label by lot, yes as
often as the feature is. Only the difference, the selectivity, tells that the feature is in the states; and only what
exceeds the same of the untrained network, that training put it there.

As in `inspect.units`, a step of the network is one place, with what its last character makes of a feature. So the
labels by lot are of what a state can know: a word as far as its pieces have been read.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.inspect.features import Feature
from storycell.inspect.trace import Trace
from storycell.inspect.units import at_steps, auc, ranks

Floats = npt.NDArray[np.float64]
_ROWS = 6000  # of either half
_RIDGE = 1e-2  # of the mean variance of a unit
_FEWEST = 30  # yes and no in either half
_BLOCKS = 50  # of the bootstrap, in the half that scores
_RESAMPLES = 200
_BINS = 1000  # of ranks


@dataclass(frozen=True)
class Probe:
    """How well all units of one layer tell one feature; AUCs, chance ½."""

    feature: str
    layer: int
    score: float
    low: float  # 95 % interval, from a bootstrap over blocks of the text
    high: float
    control: float  # the same of labels by lot
    untrained: float  # of the feature, with the untrained network's states

    @property
    def selectivity(self) -> float:
        """What the states tell beyond what such a probe learns by heart."""
        return self.score - self.control


def probe(path: Trace, untrained: Trace, features: Mapping[str, Feature], seed: int = 1) -> list[Probe]:
    """Every feature of yes and no on the memory of each layer: one `Probe` for the layer that tells it best."""
    features = at_steps(path, features)
    half = len(path.ids) // 2
    stride = max(1, half // _ROWS)
    first, second = slice(0, half, stride), slice(half, None, stride)
    told = {name: f for name, f in features.items() if f.is_binary and _tellable(f, first, second)}
    if not told:
        return []
    types = _word_types(path.text)[path.ends]
    labels = {name: f.values for name, f in told.items()}
    controls = {name: _by_lot(types, float(f.values.mean()), seed, name) for name, f in told.items()}
    y = np.stack([*labels.values(), *controls.values()], axis=1).astype(np.float64)
    n = len(told)
    scores = [[_scores(one, layer, y, first, second) for one in (path, untrained)] for layer in range(path.layers)]
    edges = np.linspace(0, len(y[second]), _BLOCKS + 1).astype(int)
    found = []
    for k, name in enumerate(told):
        of_layers = [auc(ranks(scores[layer][0][:, k]), y[second][:, k]) for layer in range(path.layers)]
        layer = int(np.argmax(of_layers))
        mine, bare = scores[layer]
        low, high = _interval(mine[:, k], y[second][:, k], edges, seed)
        low, high = min(low, of_layers[layer]), max(high, of_layers[layer])  # bins make ties
        control = _auc(mine[:, n + k], y[second][:, n + k])
        found.append(Probe(name, layer, of_layers[layer], low, high, control, _auc(bare[:, k], y[second][:, k])))
    return found


def _tellable(feature: Feature, first: slice, second: slice) -> bool:
    parts = [feature.values[part] for part in (first, second)]
    return all(_FEWEST <= (part > 0).sum() <= len(part) - _FEWEST for part in parts)


def _word_types(text: str) -> npt.NDArray[np.int64]:
    """A number for every character: that of the word as far as it has been read, or of the mark itself."""
    found = np.empty(len(text), np.int64)
    start = 0
    for t, c in enumerate(text):
        if not c.isalpha():
            start = t + 1
        found[t] = zlib.crc32((text[start : t + 1] or c).lower().encode("utf-8", "replace"))
    return found


def _by_lot(types: npt.NDArray[np.int64], share: float, seed: int, name: str) -> npt.NDArray[np.float32]:
    """A label for every type, drawn once: yes with the probability `share`."""
    kinds, back = np.unique(types, return_inverse=True)
    chance = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return (chance.random(len(kinds)) < share).astype(np.float32)[back]


def _scores(path: Trace, layer: int, y: Floats, first: slice, second: slice) -> Floats:
    """What ridge regressions of all columns of y `[T features]` on a layer's memory say in the second half."""
    states = path.states[layer][path.memory][1:]
    X = states[first].astype(np.float64)
    mean, spread = X.mean(0), X.std(0)
    spread[spread == 0] = 1
    X = np.tanh((X - mean) / (2 * spread))  # a few units have far values, and would be all that counts
    centre = X.mean(0)
    X -= centre
    gram = X.T @ X / len(X)
    gram[np.diag_indices_from(gram)] += _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    weights = np.linalg.solve(gram, X.T @ (y[first] - y[first].mean(0)) / len(X))
    Z = np.tanh((states[second].astype(np.float64) - mean) / (2 * spread)) - centre
    return np.asarray(Z @ weights)


def _auc(scores: Floats, y: Floats) -> float:
    return auc(ranks(scores), y) if 0 < y.sum() < len(y) else 0.5


def _interval(scores: Floats, y: Floats, edges: npt.NDArray[np.int64], seed: int) -> tuple[float, float]:
    """95 % of the AUC, blocks of the text drawn anew; from histograms of ranks."""
    bins = ((ranks(scores) - 0.5) * (_BINS / len(scores))).astype(np.int64).clip(0, _BINS - 1)
    block = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    table = np.bincount((block * 2 + (y > 0)) * _BINS + bins, minlength=(len(edges) - 1) * 2 * _BINS)
    drawn = np.random.default_rng(seed).multinomial(
        len(edges) - 1, np.full(len(edges) - 1, 1 / (len(edges) - 1)), _RESAMPLES
    )
    no, yes = np.moveaxis((drawn @ table.reshape(len(edges) - 1, -1)).reshape(-1, 2, _BINS).astype(np.float64), 1, 0)
    with np.errstate(invalid="ignore"):
        share = (yes * (np.cumsum(no, axis=1) - no / 2)).sum(1) / (yes.sum(1) * no.sum(1))
    low, high = np.quantile(np.nan_to_num(share, nan=0.5), [0.025, 0.975])
    return float(low), float(high)
