"""Units with a meaning, found by search and tested against chance and against an untrained network.

The first half of the text chooses, by a rank statistic, the units that tell most about a feature; the second half says
how well they do (`Finding`): for a feature of yes and no the AUC (the probability that the unit ranks a random yes
above a random no), for a count Spearman's rank correlation.

* Null: the same statistic, of the whole text, beside what it is with the text shifted against the units, its largest
  value over all units and features each time; so the p-value is corrected for everything that was tried (Westfall &
  Young 1993).
* Untrained network (`LanguageModel.copy_untrained`): a random recurrence remembers recent input too; only what exceeds
  its best unit counts.
* Interval: 95 %, from a bootstrap over stories (blocks of 1,000 characters in a text of few stories).

A step of the network is one place: of a model of pieces each piece, with what its last character makes of a feature.
All characters of a piece have the same state, so that they would count as several places and are one; and the state
knows the whole piece, so that it would tell of its first characters what comes after them.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from storycell.errors import SettingsError
from storycell.inspect.features import Feature
from storycell.inspect.trace import Trace

SHIFTS = 99  # so the smallest p-value is 0.01
SIGNIFICANT = 0.05
_FEWEST_CHARS = 4000  # of text; below that what changes slowly has too few values for the null to be right
_RESAMPLES = 400
_BLOCK = 1000  # characters, where there are few stories
_STRIDE = 2  # every second character of the first half is enough to choose units, every fourth of all for the null
_BINS = 1000  # of ranks, in the bootstrap of an AUC
_FEWEST = 30  # characters of either kind in either half

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """What one unit tells about one feature, measured on the half of the text that did not choose the unit."""

    feature: str
    measure: str  # "AUC", chance 0.5; or "rho", Spearman's, chance 0
    name: str  # of the value: c, or h where there is no c
    layer: int
    unit: int
    sign: int  # +1: high where the feature is; -1: low there
    score: float  # AUC or rho, turned so that the first half's is positive
    low: float  # 95 % interval of score
    high: float
    found_score: float  # the same statistic in the first half, which chose the unit
    p_value: float  # corrected for all units and features tried
    untrained_score: float  # of the best unit of the untrained network, chosen and scored the same way
    excess: float  # score - untrained_score
    excess_low: float
    excess_high: float
    chars: int  # places scored: characters, or pieces
    yes: int  # of them with the feature (a count: those above 0)
    units_tried: int

    @property
    def is_finding(self) -> bool:
        """Whether the null does not show it, the second half confirms it, and the untrained network lacks it."""
        chance = 0.5 if self.measure == "AUC" else 0.0
        return self.p_value < SIGNIFICANT and self.low > chance and self.excess_low > 0

    def _repr_html_(self) -> str:
        """For a notebook: the finding in a line."""
        return (
            f"<p>{html.escape(self.feature)}: <b>{self.name} of layer {self.layer}, unit {self.unit}</b> "
            f"{self.measure} {self.score:.3f} ({self.low:.3f} to {self.high:.3f}), "
            f"untrained {self.untrained_score:.3f}, corrected p {self.p_value:.2f}</p>"
        )


def find_units(
    trace: Trace, untrained: Trace, features: Mapping[str, Feature], *, name: str = "", top: int = 3, seed: int = 0
) -> dict[str, list[Finding]]:
    """The `top` units of every feature, best first. `name` is the value to look at, the cell state where there is one.

    Features that occur too seldom in either half are left out.
    """
    if len(trace) < _FEWEST_CHARS:
        raise SettingsError(
            f"finding units takes a text of at least {_FEWEST_CHARS:,} characters; this one has {len(trace):,}"
        )
    name = name or trace.memory
    features = at_steps(trace, features)
    rows = len(trace.ids)
    half = rows // 2
    first, second = slice(0, half, _STRIDE), slice(half, rows)
    chosen = {key: feature for key, feature in features.items() if _tellable(feature, half)}
    if not chosen:
        return {}
    y = np.stack([_standard(_rank(f, first)) for f in chosen.values()], axis=1)
    ours, theirs = _unit_ranks(trace, name, first), _unit_ranks(untrained, name, first)
    r, r_untrained = ours @ y / len(y), theirs @ y / len(y)
    whole = slice(0, rows, 2 * _STRIDE)
    p_values = _p_values(
        _unit_ranks(trace, name, whole), np.stack([_standard(_rank(f, whole)) for f in chosen.values()], axis=1)
    )
    judge = _Judge(trace, untrained, name, second, seed)
    found: dict[str, list[Finding]] = {}
    for k, (key, feature) in enumerate(chosen.items()):
        best = [int(u) for u in np.argsort(-np.abs(r[:, k]), kind="stable")[:top]]
        baseline = int(np.argmax(np.abs(r_untrained[:, k])))
        baselines = (baseline, int(np.sign(r_untrained[baseline, k])))
        found[key] = [
            judge.finding(feature, u, float(r[u, k]), float(p_values[u, k]), baselines, _rank(feature, first))
            for u in best
        ]
    return found


def best_scores(trace: Trace, features: Mapping[str, Feature], *, name: str = "") -> dict[str, float]:
    """The AUC of the best unit for each feature of yes and no, chosen on the first half, scored on the second.

    It is what `find_units` says of its first unit, with neither interval nor null.
    """
    name = name or trace.memory
    features = at_steps(trace, features)
    first = slice(0, len(trace.ids) // 2, _STRIDE)
    ours, scores = _unit_ranks(trace, name, first), {}
    for key, feature in features.items():
        r = ours @ _standard(_rank(feature, first)) / len(feature.values[first])
        best = int(np.argmax(np.abs(r)))
        layer, unit = divmod(best, trace.hidden)
        scores[key] = _unit_score(trace, feature, layer, unit, -1 if r[best] < 0 else 1, name)
    return scores


def unit_score(trace: Trace, feature: Feature, layer: int, unit: int, sign: int, name: str = "") -> float:
    """The AUC of a unit for a feature of yes and no on the second half of the text; with `sign` -1 of its opposite."""
    return _unit_score(trace, at_steps(trace, {"": feature})[""], layer, unit, sign, name)


def _unit_score(trace: Trace, feature: Feature, layer: int, unit: int, sign: int, name: str) -> float:
    second = slice(len(trace.ids) // 2, len(trace.ids))
    z = ranks(sign * trace.step_column(name or trace.memory, layer, unit)[second])
    return auc(z, _rank(feature, second))


def at_steps(trace: Trace, features: Mapping[str, Feature]) -> Mapping[str, Feature]:
    """Features of characters as what they are once each step was taken, `[N]`: at the last character that it reads."""
    if not trace.of_pieces:
        return features
    return {key: replace(feature, values=feature.values[trace.ends]) for key, feature in features.items()}


def _tellable(feature: Feature, half: int) -> bool:
    counts = [int((part > 0).sum()) for part in (feature.values[:half], feature.values[half:])]
    sizes = (half, len(feature.values) - half)
    enough = all(n >= _FEWEST for n in counts)
    return enough and (not feature.is_binary or all(n <= size - _FEWEST for n, size in zip(counts, sizes, strict=True)))


def ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Ranks along the last axis, 1 the lowest, equal values their mean rank."""
    rows = np.atleast_2d(values)
    order = rows.argsort(axis=-1)
    ordered = np.take_along_axis(rows, order, axis=-1)
    changes = ordered[:, 1:] != ordered[:, :-1]  # between neighbours that are not equal
    place = np.broadcast_to(np.arange(1, rows.shape[-1] + 1, dtype=np.float32), rows.shape)
    if not changes.all():
        edge = np.ones((len(rows), 1), dtype=np.bool_)
        firsts = np.maximum.accumulate(np.where(np.hstack([edge, changes]), place, 0), axis=-1)
        lasts = np.where(np.hstack([changes, edge]), place, np.float32(rows.shape[-1]))
        place = (firsts + np.minimum.accumulate(lasts[:, ::-1], axis=-1)[:, ::-1]) / 2
    ranked = np.empty(rows.shape, dtype=np.float32)
    np.put_along_axis(ranked, order, place, axis=-1)
    return ranked.reshape(values.shape)


def _rank(feature: Feature, part: slice) -> npt.NDArray[np.float32]:
    values = feature.values[part]
    return values if feature.is_binary else ranks(values)


def _standard(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    centred = values - values.mean(-1, keepdims=True, dtype=np.float64)
    spread = np.sqrt(np.square(centred).mean(-1, keepdims=True))
    return np.asarray(centred / np.where(spread > 0, spread, 1.0), dtype=np.float32)


def _unit_ranks(trace: Trace, name: str, part: slice) -> npt.NDArray[np.float32]:
    """Standardised ranks of every unit of every layer, `[L*H rows]`."""
    layers = [_standard(ranks(trace.step_values(k, part, (name,))[name].T)) for k in range(trace.layers)]
    return np.concatenate(layers)


def _p_values(units: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> Floats:
    """For every unit and feature: how often the largest of all units and features is as large, the text shifted.

    In: standardised ranks `[units rows]` and `[rows features]` of the whole text. The shifts, equally spaced, go all
    the way round: with the text as it stands they are a group, so in a text that is alike all along each of the 100 is
    as likely to have the largest value, however slowly units and features change (Lehmann & Romano 2005, ch. 15.2).
    Near shifts are among them: without those that resemble the text as it stands, it would stand out by itself.
    """
    rows = len(y)
    shifts = np.arange(1 + SHIFTS) * rows // (1 + SHIFTS)  # the first is none
    found = np.stack([np.abs(units @ np.roll(y, int(shift), axis=0)) / rows for shift in shifts])
    found /= np.sqrt(np.square(found).mean(axis=(0, 1)))  # by what is usual for each feature; [shifts units features]
    largest = np.sort(found.max(axis=(1, 2)))
    below = np.searchsorted(largest, found[0], side="left")
    return np.asarray(np.maximum(1 + SHIFTS - below, 1) / (1 + SHIFTS), dtype=np.float64)


class _Judge:
    """Scores chosen units on the half of the text that did not choose them."""

    def __init__(self, trace: Trace, untrained: Trace, name: str, part: slice, seed: int) -> None:
        self.trace, self.untrained, self.name, self.part = trace, untrained, name, part
        self._kept: dict[tuple[bool, int], npt.NDArray[np.float32]] = {}
        self._edges = _block_edges(trace, part)
        blocks = len(self._edges) - 1
        generator = np.random.default_rng(seed)
        self._counts = generator.multinomial(blocks, np.full(blocks, 1 / blocks), _RESAMPLES).astype(np.float64)

    def finding(
        self,
        feature: Feature,
        unit: int,
        r: float,
        p_value: float,
        baseline: tuple[int, int],
        first_half: npt.NDArray[np.float32],
    ) -> Finding:
        y = _rank(feature, self.part).astype(np.float64)
        sign = 1 if r >= 0 else -1
        score, resampled = self._scores(self._ranks(False, unit), y, sign, feature.is_binary)
        untrained_score, untrained_resampled = self._scores(
            self._ranks(True, baseline[0]), y, baseline[1] or 1, feature.is_binary
        )
        low, high = np.quantile(resampled, [0.025, 0.975])
        excess_low, excess_high = np.quantile(resampled - untrained_resampled, [0.025, 0.975])
        return Finding(
            feature=feature.name,
            measure="AUC" if feature.is_binary else "rho",
            name=self.name,
            layer=unit // self.trace.hidden,
            unit=unit % self.trace.hidden,
            sign=sign,
            score=score,
            low=float(low),
            high=float(high),
            found_score=_auc_of(abs(r), first_half) if feature.is_binary else abs(r),
            p_value=p_value,
            untrained_score=untrained_score,
            excess=score - untrained_score,
            excess_low=float(excess_low),
            excess_high=float(excess_high),
            chars=len(y),
            yes=int((feature.values[self.part] > 0).sum()),
            units_tried=self.trace.layers * self.trace.hidden,
        )

    def _ranks(self, of_untrained: bool, unit: int) -> npt.NDArray[np.float32]:
        key = (of_untrained, unit)
        if key not in self._kept:
            trace = self.untrained if of_untrained else self.trace
            layer, column = divmod(unit, trace.hidden)
            self._kept[key] = ranks(trace.step_column(self.name, layer, column)[self.part])
        return self._kept[key]

    def _scores(self, z: npt.NDArray[np.float32], y: Floats, sign: int, is_binary: bool) -> tuple[float, Floats]:
        """The score of ranks `z`, and the same of resampled blocks."""
        z = z if sign > 0 else len(z) + 1 - z
        if is_binary:
            return auc(z, y), self._resampled_auc(z, y)
        z = z.astype(np.float64)
        columns = np.stack([np.ones_like(y), y, y * y, z, z * z, z * y], axis=1)
        sums = np.add.reduceat(columns, self._edges[:-1], axis=0)
        return float(_correlation(sums.sum(0, keepdims=True))[0]), _correlation(self._counts @ sums)

    def _resampled_auc(self, z: npt.NDArray[np.float32], y: Floats) -> Floats:
        """From a histogram of ranks for each block, of yes and of no."""
        bins = np.minimum((z - 0.5) * (_BINS / len(z)), _BINS - 1).astype(np.int64)
        blocks = np.repeat(np.arange(len(self._edges) - 1), np.diff(self._edges))
        cells = (blocks * 2 + (y > 0)) * _BINS + bins
        histogram = np.bincount(cells, minlength=(len(self._edges) - 1) * 2 * _BINS)
        drawn = (self._counts @ histogram.reshape(len(self._edges) - 1, -1)).reshape(-1, 2, _BINS)
        no, yes = drawn[:, 0], drawn[:, 1]
        below = np.cumsum(no, axis=1) - no / 2
        with np.errstate(invalid="ignore"):
            share = (yes * below).sum(1) / (yes.sum(1) * no.sum(1))
        return np.asarray(np.nan_to_num(share, nan=0.5))


def auc(z: npt.NDArray[np.float32], y: npt.NDArray[np.floating]) -> float:
    """The chance that a random yes has a higher rank than a random no, ties a half: Mann & Whitney's, from ranks."""
    yes = y > 0
    n_yes, n_no = int(yes.sum()), int((~yes).sum())
    return (float(z[yes].sum(dtype=np.float64)) - n_yes * (n_yes + 1) / 2) / (n_yes * n_no)


def _block_edges(trace: Trace, part: slice) -> npt.NDArray[np.int64]:
    """Where the blocks of the bootstrap begin, and the end: stories, or blocks where there are few."""
    rows = part.stop - part.start
    stories = trace.starts - 1 - part.start  # a boundary is the first row of its story
    inner = stories[(stories > 0) & (stories < rows)]
    if len(inner) < 10:
        inner = np.arange(_BLOCK, rows - _BLOCK // 2, _BLOCK)
    return np.concatenate([[0], inner, [rows]]).astype(np.int64)


def _correlation(sums: Floats) -> Floats:
    """Pearson's, of ranks, from sums of (1, y, y², z, z², zy)."""
    n, y, yy, z, zz, zy = sums.T
    spread = np.sqrt(np.maximum((n * yy - y * y) * (n * zz - z * z), 1e-300))
    return np.asarray((n * zy - y * z) / spread)


def _auc_of(r: float, y: npt.NDArray[np.float32]) -> float:
    """The AUC whose rank correlation with a feature of yes and no is `r` (ranks without ties)."""
    n, share = len(y), float(y.mean(dtype=np.float64))
    spread = np.sqrt((n * n - 1) / 12)
    return float(0.5 + r * spread / (n * np.sqrt(share * (1 - share))))
