"""What carries a fact: part of the state of one text put into another, and what the model then expects.

Two texts are read to a character; part of the second's state (`Part`: layers, c or h, units, a direction) takes the
place of the first's, and the model reads or generates on (activation patching: Vig et al. 2020, arXiv:2004.12265; Meng
et al. 2022, arXiv:2202.05262). `carriers` does it for pairs of prompts that differ in one fact (`inspect.pairs`) and
says how much of the difference each part restores: 0 as without it, 1 as if the whole state had been exchanged. The
units that restore most are chosen on some pairs and judged on others, beside random units.

A model of pieces reads on in whole pieces after an exchange, and an answer is what the text goes on with, in whatever
pieces (`inspect.chances`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from storycell.context import PAST
from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.generation.sampler import Sampling, Stream, advance
from storycell.inspect.chances import Ending, Endings, cut
from storycell.inspect.pairs import FACTS, Pair, pairs
from storycell.inspect.trace import probabilities
from storycell.language_model import LanguageModel, State
from storycell.types import BOUNDARY, RESERVED

Floats = npt.NDArray[np.float64]
Unit = tuple[int, int]  # layer, unit

PAIRS = 64
_CHOOSING = 16  # of them, which choose units; the others judge
_BEST = (1, 5, 10, 20)  # units exchanged together
_DRAWS = 8  # of as many random units, of those that are not among the best
_RESAMPLES = 1000
_FELT = 0.1  # nats between the logits: less, and the odds of the answers hardly differ
_STREAMS = 4096  # read side by side
_STREAMS_OF_PIECES = 512


@dataclass(frozen=True)
class Part:
    """Part of a state; what is None is not restricted: `Part()` is all of it.

    `units` are (layer, unit), with all their states unless `names` says which. Of a `direction` `[H]` in one layer
    (`layers` has one, `names` too) only the component along it is exchanged.
    """

    layers: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    units: tuple[Unit, ...] | None = None
    direction: npt.NDArray[np.floating] | None = field(default=None, compare=False)


WHOLE = Part()


def exchange(model: LanguageModel, base: State, source: State, part: Part) -> State:
    """The state `base` with a part of `source`, both by name, `[L B H]`. `SettingsError` for no such part."""
    _check(model, part)
    out = {}
    for name in model.state_names:
        value = base[name].copy()
        if part.names is None or name in part.names:
            for layer in range(model.num_layers) if part.layers is None else part.layers:
                if part.direction is not None:
                    along = np.asarray(part.direction, np.float64) / np.linalg.norm(part.direction)
                    moved = (source[name][layer] - value[layer]) @ along
                    value[layer] += (moved[:, None] * along).astype(value.dtype)
                elif part.units is None:
                    value[layer] = source[name][layer]
                else:
                    columns = [unit for k, unit in part.units if k == layer]
                    value[layer][:, columns] = source[name][layer][:, columns]
        out[name] = value
    if PAST in base:  # the latest characters belong to no unit: they come with the whole state alone
        whole = part.names is None and part.layers is None and part.units is None and part.direction is None
        out[PAST] = (source if whole else base)[PAST].copy()
    return out


def _check(model: LanguageModel, part: Part) -> None:
    wrong_name = next((name for name in part.names or () if name not in model.state_names), None)
    layers = [*(part.layers or ()), *(layer for layer, _ in part.units or ())]
    if wrong_name is not None:
        raise SettingsError(f"exchange {wrong_name!r}: the states of a {model.cell} are {', '.join(model.state_names)}")
    if any(not 0 <= layer < model.num_layers for layer in layers) or any(
        not 0 <= unit < model.hidden_size for _, unit in part.units or ()
    ):
        raise SettingsError(
            f"exchange layers {layers}, units {[*(part.units or ())]}: layers count from 0 to {model.num_layers - 1}, "
            f"units from 0 to {model.hidden_size - 1}"
        )
    if part.direction is not None and (
        np.shape(part.direction) != (model.hidden_size,)
        or len(part.layers or ()) != 1
        or len(part.names or ()) != 1
        or part.units is not None
        or not np.any(part.direction)
    ):
        raise SettingsError(
            f"a direction is {model.hidden_size} numbers, not all 0, in one layer's c or h: give `layers=(k,)` and "
            '`names=("c",)`, and no units'
        )


@dataclass(frozen=True)
class Patched:
    """What a model expects, and generates, after part of its state was exchanged; probabilities are `[V]`."""

    before: npt.NDArray[np.float32]  # as it was
    after: npt.NDArray[np.float32]  # with the part exchanged
    source: npt.NDArray[np.float32]  # of the text that the part is from, with the same characters read after
    text: str  # what is generated with the part exchanged


def patch(
    model: LanguageModel,
    vocab: Vocabulary,
    base: str,
    source: str,
    part: Part = WHOLE,
    *,
    then: str = "",
    chars: int = 0,
    sampling: Sampling | None = None,
    seed: int = 1,
) -> Patched:
    """Read `base` with a part of its state from `source`, then `then`; generate `chars` characters.

    The exchange takes place after all of both texts was read. An h that is exchanged in the last layer is seen at once,
    everything else from the next character on, so without `then` a cell state changes the generated text alone.
    Of a model of pieces it takes place before the piece that `then` begins in, and [V] are pieces.
    """
    sampling, ending = sampling or Sampling(), Ending([], [], [])
    if then and vocab.kind == "pieces":
        (read_base, read_source), ending = cut(vocab, (base + then, source + then), len(then))
        read_on = ending.then
    else:
        read_base, read_source, read_on = (vocab.prompt_ids(text)[0] for text in (base, source, then))
    states = [model.state_after(np.array([[BOUNDARY, *ids]])) for ids in (read_base, read_source)]
    patched = exchange(model, states[0], states[1], part)
    found, ends = [], []
    for state in (states[0], patched, states[1]):
        logits, end = _read_on(model, read_on, state)
        found.append(probabilities(logits)[0])
        ends.append(end)
    text = ""
    if chars and ending.then:
        text = _generated_on(model, vocab, patched, ending, chars, sampling, seed)
    elif chars:
        text = _generated(model, vocab, ends[1], found[1], chars, sampling, seed)
    return Patched(found[0], found[1], found[2], text)


@dataclass(frozen=True)
class Transplant:
    """What a model generates after the base of a pair, greedily, with nothing, some and all of the source's state."""

    pair: Pair
    units: tuple[Unit, ...]
    base: str
    patched: str
    whole: str


def transplant(model: LanguageModel, vocab: Vocabulary, pair: Pair, units: Sequence[Unit], chars: int) -> Transplant:
    """Go on from the base of a pair three times."""
    texts = [
        patch(
            model, vocab, pair.base, pair.source, part, then=pair.then, chars=chars, sampling=Sampling(greedy=True)
        ).text
        for part in (Part(units=()), Part(units=tuple(units)), WHOLE)
    ]
    return Transplant(pair, tuple(units), *texts)


def _read_on(model: LanguageModel, then: list[int], state: State) -> tuple[npt.NDArray[np.float32], State]:
    """Logits `[B V]` after the same characters in every stream."""
    B = state[model.state_names[0]].shape[1]
    if not then:
        return model.output(state[model.state_names[0]][-1]), state
    logits, state = model.logits(np.tile(np.array(then), (B, 1)), state)
    return logits[:, -1], state


def _generated(
    model: LanguageModel,
    vocab: Vocabulary,
    state: State,
    expected: npt.NDArray[np.float32],
    chars: int,
    sampling: Sampling,
    seed: int,
) -> str:
    stream = Stream(sampling, seed)
    stream.state = {name: value[:, 0] for name, value in state.items()}
    with np.errstate(divide="ignore"):
        first = sampling.choose(np.log(expected), stream.draw)
    if first == BOUNDARY:
        return ""
    stream.next_id = first
    rest = advance(model, [stream], chars - 1)[0].ids if chars > 1 else []
    return vocab.decode([first, *rest])[: chars if vocab.kind == "pieces" else None]


def _generated_on(
    model: LanguageModel, vocab: Vocabulary, state: State, ending: Ending, chars: int, sampling: Sampling, seed: int
) -> str:
    """What follows an ending, of which more text may change the pieces: see `sampler.Unsettled`."""
    at_once = model.output(state[model.state_names[0]][-1])
    every, _ = model.logits(np.array([ending.then]), {n: np.ascontiguousarray(v) for n, v in state.items()})
    with np.errstate(divide="ignore"):
        log_p = np.log(probabilities(np.concatenate([at_once, every[0]]).astype(np.float64)))
    behind = np.cumsum([0.0, *(float(log_p[at, k]) for at, k in enumerate(ending.then))])
    ways = [(at, int(k)) for at, ids in enumerate(ending.beyond) for k in ids]
    scores = [behind[at] + log_p[at, k] for at, k in ways] + [behind[-1]]  # the last: all as it is usually
    stream = Stream(sampling, seed)
    reserved = [-np.inf] * RESERVED  # `Sampling` takes the scores for logits, of which it leaves one out
    way = sampling.choose(np.array([*reserved, *scores], np.float32), stream.draw) - RESERVED
    if way == len(ways):
        at, first = len(ending.then), sampling.choose(log_p[-1].astype(np.float32), stream.draw)
        if first == BOUNDARY:
            return ""
    else:
        at, first = ways[way]
    after = model.state_after(np.array([ending.then[:at]]), state) if at else state
    stream.state, stream.next_id = {name: value[:, 0] for name, value in after.items()}, first
    written = vocab.decode([*ending.then[:at], first, *advance(model, [stream], chars)[0].ids])
    return written[len(vocab.decode(ending.then)) :][:chars]


@dataclass(frozen=True)
class Restored:
    """What exchanging one part does, over pairs that had no say in choosing it."""

    label: str
    units: tuple[Unit, ...]  # empty: layers and states, as the label says
    share: float  # of the difference in logits (yes minus no) that is restored
    low: float  # 95 % interval, from a bootstrap over pairs
    high: float
    probability: float  # of the source's answer, with the part exchanged
    moved: float  # share of the way from the base's probability of it to the source's
    moved_low: float
    moved_high: float


@dataclass(frozen=True)
class Carriers:
    """What carries one fact. `difference` is that of the logits between source and base, which 1 stands for."""

    fact: str
    pairs: int  # that judge
    difference: float
    difference_low: float
    difference_high: float
    source_probability: float
    base_probability: float
    rows: list[Restored]
    example: Pair
    ranking: list[tuple[Unit, float]]  # units by the share that each restores alone, on the pairs that choose

    @property
    def is_carried(self) -> bool:
        """Whether the model knows the fact at all; where it does not, nothing was exchanged and there are no rows."""
        return self.difference_low > _FELT


def carriers(
    model: LanguageModel,
    vocab: Vocabulary,
    fact: str,
    *,
    named: Mapping[str, Sequence[Unit]] | None = None,
    count: int = PAIRS,
    seed: int = 1,
) -> Carriers:
    """What carries a fact (one of `inspect.pairs.FACTS`), from `count` pairs; `named` are more units, by label.

    `SettingsError` for an unknown fact, or where the model does not know the characters of the stories.
    """
    if fact not in FACTS:
        raise SettingsError(f"there is no fact {fact!r}; there are {', '.join(FACTS)}")
    return carriers_of(model, vocab, fact, pairs(fact, count), named=named, seed=seed)


def carriers_of(
    model: LanguageModel,
    vocab: Vocabulary,
    fact: str,
    given: Sequence[Pair],
    *,
    named: Mapping[str, Sequence[Unit]] | None = None,
    seed: int = 1,
) -> Carriers:
    """The same of pairs of your own, at least 12: a third choose units, the others judge."""
    if len(given) < 12:
        raise SettingsError(f"{len(given)} pairs are too few to choose units and judge them; give at least 12")
    model = model.frozen()
    choosing = min(_CHOOSING, len(given) // 3)
    chosen, judged = _Pairs(model, vocab, given[:choosing]), _Pairs(model, vocab, given[choosing:])
    if not (nothing := judged.result(fact, [], [], seed)).is_carried:
        return nothing
    every = [(layer, unit) for layer in range(model.num_layers) for unit in range(model.hidden_size)]
    gained = chosen.differences([Part(units=(unit,)) for unit in every]).mean(1) - chosen.base.mean()
    spread = float(chosen.source.mean() - chosen.base.mean()) or 1.0
    order = np.argsort(-gained / spread, kind="stable")
    ranking = [(every[k], float(gained[k] / spread)) for k in order]
    chance = np.random.default_rng(seed)
    parts: list[tuple[str, list[Part]]] = [("the whole state", [WHOLE])]
    parts += [(f"layer {k}", [Part(layers=(k,))]) for k in range(model.num_layers) if model.num_layers > 1]
    if len(model.state_names) > 1:
        parts += [
            (f"{name} of layer {k}", [Part(layers=(k,), names=(name,))])
            for k in range(model.num_layers)
            for name in reversed(model.state_names)
        ]
    for n in sorted({min(n, len(every)) for n in _BEST}):
        best = tuple(unit for unit, _ in ranking[:n])
        parts += [("the best unit" if n == 1 else f"the {n} best units", [Part(units=best)])]
    parts += [(label, [Part(units=tuple(units))]) for label, units in (named or {}).items() if units]
    tried = {*order[: max(_BEST)].tolist()} | {every.index(unit) for units in (named or {}).values() for unit in units}
    others = np.array([k for k in range(len(every)) if k not in tried])
    for n in sorted({min(n, len(others)) for n in _BEST} - {0}):
        drawn = [tuple(every[k] for k in chance.choice(others, n, replace=False)) for _ in range(_DRAWS)]
        parts += [("a random unit" if n == 1 else f"{n} random units", [Part(units=units) for units in drawn])]
    return judged.result(fact, parts, ranking, seed)


def raised(model: LanguageModel, vocab: Vocabulary, given: Sequence[Pair], parts: Sequence[Part]) -> Floats:
    """By how much each part, exchanged, raises the probability of the source's answer, `[parts pairs]`."""
    asked = _Pairs(model.frozen(), vocab, given)
    gained: Floats = asked.asked(parts)[1] - asked.base_p
    return gained


class _Pairs:
    """Pairs of prompts as states, what is read after an exchange, and the answers that say which fact is believed."""

    def __init__(self, model: LanguageModel, vocab: Vocabulary, given: Sequence[Pair]) -> None:
        self.model, self.given = model, given
        self.endings: Endings | None = None
        if vocab.kind == "pieces":
            self._read_pieces(vocab)
        else:
            self._read_characters(vocab)
        (self.source, self.base), (self.source_p, self.base_p) = (
            np.stack(columns) for columns in zip(self._ask(self.sources), self._ask(self.bases), strict=True)
        )

    def _read_pieces(self, vocab: Vocabulary) -> None:
        found = [cut(vocab, (pair.source + pair.then, pair.base + pair.then)) for pair in self.given]
        states = states_after(self.model, [ids for both, _ in found for ids in both])
        self.sources = {name: value[:, 0::2] for name, value in states.items()}
        self.bases = {name: value[:, 1::2] for name, value in states.items()}
        yes, no = [pair.yes for pair in self.given], [pair.no for pair in self.given]
        self.endings = Endings(vocab, [ending for _, ending in found], yes, no)

    def _read_characters(self, vocab: Vocabulary) -> None:
        model, given = self.model, self.given
        prompts = [vocab.prompt_ids(text)[0] for pair in given for text in (pair.source, pair.base)]
        states = states_after(model, prompts)
        self.sources = {name: value[:, 0::2] for name, value in states.items()}
        self.bases = {name: value[:, 1::2] for name, value in states.items()}
        then = [vocab.prompt_ids(pair.then)[0] for pair in given]
        if len({len(ids) for ids in then}) != 1 or not then[0]:
            raise SettingsError("every pair must read the same number of characters after the exchange, at least one")
        self.then = np.array(then)
        answers = [(vocab.prompt_ids(pair.yes)[0], vocab.prompt_ids(pair.no)[0]) for pair in given]
        if any(len(yes) != 1 or len(no) != 1 for yes, no in answers):
            raise SettingsError("the answers of a pair, `yes` and `no`, are one character each")
        self.yes, self.no = (np.array([answer[k][0] for answer in answers]) for k in range(2))

    def differences(self, parts: Sequence[Part]) -> Floats:
        """Logit of yes minus logit of no with each part exchanged, `[parts pairs]`."""
        return self.asked(parts)[0]

    def asked(self, parts: Sequence[Part]) -> tuple[Floats, Floats]:
        """The same, and the probability of yes."""
        logits, chances = [], []
        n = len(self.given)
        step = max(1, (_STREAMS_OF_PIECES if self.endings else _STREAMS) // n)
        for a in range(0, len(parts), step):
            group = parts[a : a + step]
            states = [exchange(self.model, self.bases, self.sources, part) for part in group]
            together = {name: np.concatenate([s[name] for s in states], axis=1) for name in states[0]}
            differences, probability = self._ask(together)
            logits.append(differences.reshape(len(group), n))
            chances.append(probability.reshape(len(group), n))
        return np.concatenate(logits), np.concatenate(chances)

    def _ask(self, state: State) -> tuple[Floats, Floats]:
        """Difference of logits and probability of yes after `then`, for states of any number of rounds of all pairs."""
        if self.endings:
            yes, no = self.endings.ask(self.model, state)
            return np.log(yes) - np.log(no), yes
        streams = state[self.model.state_names[0]].shape[1]
        rounds = streams // len(self.given)
        before = np.tile(self.then, (rounds, 1))
        every, _ = self.model.logits(before, {name: np.ascontiguousarray(value) for name, value in state.items()})
        logits = every[:, -1].astype(np.float64)
        rows, yes, no = np.arange(streams), np.tile(self.yes, rounds), np.tile(self.no, rounds)
        return logits[rows, yes] - logits[rows, no], probabilities(logits)[rows, yes].astype(np.float64)

    def result(
        self, fact: str, parts: list[tuple[str, list[Part]]], ranking: list[tuple[Unit, float]], seed: int
    ) -> Carriers:
        """Every part's share restored: the ratio of mean differences, its interval from pairs drawn anew."""
        n = len(self.given)
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), _RESAMPLES) / n
        spread, spread_p = self.source - self.base, self.source_p - self.base_p
        logits, chances = self.asked([part for _, several in parts for part in several]) if parts else (spread, spread)
        rows, k = [], 0
        for label, several in parts:
            mine = slice(k, k + len(several))
            k += len(several)
            gained, gained_p = logits[mine].mean(0) - self.base, chances[mine].mean(0) - self.base_p
            share, low, high = _ratio(gained, spread, weights)
            moved, moved_low, moved_high = _ratio(gained_p, spread_p, weights)
            units = several[0].units or () if len(several) == 1 else ()
            chance = float(chances[mine].mean())
            rows.append(Restored(label, units, share, low, high, chance, moved, moved_low, moved_high))
        low, high = np.quantile(weights @ spread, [0.025, 0.975])
        return Carriers(
            fact, n, float(spread.mean()), float(low), float(high), float(self.source_p.mean()),
            float(self.base_p.mean()), rows, self.given[0], ranking,
        )  # fmt: skip


def _ratio(gained: Floats, spread: Floats, weights: Floats) -> tuple[float, float, float]:
    """Mean gained by mean spread, and its 95 % interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.nan_to_num((weights @ gained) / (weights @ spread))
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(np.nan_to_num(gained.mean() / spread.mean())), float(low), float(high)


def states_after(model: LanguageModel, prompts: Iterable[list[int]]) -> State:
    """The state after each of several prompts, `[L B H]` by name, read side by side."""
    rows = [[BOUNDARY, *ids] for ids in prompts]
    out = model.zero_state(len(rows))
    order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
    state, read = model.zero_state(len(rows)), 0
    for a, k in enumerate(order):  # the shortest first: all that are left are read up to its end
        length = len(rows[k])
        if length > read:
            left = np.array([rows[j][read:length] for j in order[a:]])
            state = model.state_after(left, {n: np.ascontiguousarray(v) for n, v in state.items()})
            read = length
        for name in out:
            out[name][:, k] = state[name][:, 0]
        state = {name: value[:, 1:] for name, value in state.items()}
    return out
