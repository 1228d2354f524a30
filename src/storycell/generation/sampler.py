"""Sampling from a model, character by character.

A `Stream` is one text in the making: `read` feeds it a prompt, `advance` generates on any number of streams side by
side, choosing as each one's `Sampling` says. Every stream has a generator and a state of its own, so its text depends
on no other. A model that generates by itself is asked to (`LanguageModel.generate`); any other, and one with values
held, is stepped here, in `_generate_stepwise`. A stream may have a `Constraint`: what it refuses is drawn again, which
`_generate_constrained` finds out slice by slice, so that a constraint that seldom refuses costs little.

The random generator is xoshiro128++ (Blackman & Vigna, https://prng.di.unimi.it), twenty lines that are the same in
Python, C, C++ and JavaScript, so that one seed gives one story wherever the model runs.

Where ids are pieces of words, a prompt may end within one: "Once upon a ti". As the model never saw the pieces " ti",
"me" side by side, they would mislead it. So only the settled beginning of a prompt is read, and the first pieces are
drawn among all that begin with the rest, or go on behind its usual pieces: see `Unsettled`.
"""

import copy
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.context import PAST
from storycell.errors import NotFiniteError, SettingsError
from storycell.generation.constraints import Constraint, begin
from storycell.generation.slicing import Pace
from storycell.language_model import Choice, Floats, Held, Hold, Integers, LanguageModel, State, unheld
from storycell.language_model import Generated as Rows
from storycell.types import BOUNDARY, UNKNOWN

PROMPT_PIECE = 4096  # characters of a prompt that are read in one pass
SLICE_S = 0.01  # of generating, between two looks at a signal; each slice costs a quarter of a millisecond on top
LONGEST_SLICE = 4096  # characters

_DAMAGED = "the model's logits are not finite, so nothing can be drawn; its weights are damaged"
_MASK_32, _MASK_64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class Sampling:
    """How the next character is chosen from the model's probabilities; filters apply in the order of the fields.

    top_k is from Fan et al. 2018 (arXiv:1805.04833), top_p from Holtzman et al. 2019 (arXiv:1904.09751), min_p from
    Nguyen et al. 2024 (arXiv:2407.01082).
    """

    temperature: float = 0.8  # above 1 bolder, below 1 safer; 0 is greedy
    top_k: int | None = None  # only the k likeliest
    top_p: float | None = None  # only the likeliest that together have probability p
    min_p: float | None = None  # only those at least this share as likely as the likeliest
    greedy: bool = False  # always the likeliest

    def __post_init__(self) -> None:
        wrong = None
        if not 0 <= self.temperature < 1e6:
            wrong = f"temperature = {self.temperature}: it must be a number of at least 0"
        elif self.top_k is not None and self.top_k < 1:
            wrong = f"top_k = {self.top_k}: it must be at least 1"
        elif self.top_p is not None and not 0 < self.top_p <= 1:
            wrong = f"top_p = {self.top_p}: it must be above 0 and at most 1"
        elif self.min_p is not None and not 0 <= self.min_p <= 1:
            wrong = f"min_p = {self.min_p}: it must be from 0 to 1"
        if wrong:
            raise SettingsError(wrong)

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.greedy or self.temperature == 0

    def choose(self, logits: npt.NDArray[np.float32], draw: "Draw") -> int:
        """One id from logits `[V]`: never the unknown character; the lowest id where two are equally likely."""
        weights = self._weights(logits)
        if self.is_greedy:
            return int(weights.argmax())
        cumulative = np.cumsum(weights)
        return int(np.searchsorted(cumulative, draw.next() * cumulative[-1], side="right"))

    def choose_among(self, logits: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_], draw: "Draw") -> int | None:
        """As `choose`, among the ids that are `allowed [V]`; None where there are none.

        The filters come first; where they leave nothing that is allowed, they are applied to what is.
        """
        if not allowed.any():
            return None
        weights = np.where(allowed, self._weights(logits), 0.0)
        if not weights.any():
            weights = np.where(allowed, self._weights(np.where(allowed, logits, -np.inf)), 0.0)
        if self.is_greedy:
            return int(weights.argmax())
        cumulative = np.cumsum(weights)
        return int(np.searchsorted(cumulative, draw.next() * cumulative[-1], side="right"))

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """How likely `choose` is to choose each id, 0 for what is filtered: logits `[... V]` -> `[... V]`.

        Raises `NotFiniteError` where the logits are not finite.
        """
        weights = self._weights(logits)
        weights /= weights.sum(axis=-1, keepdims=True)
        return weights

    def _weights(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """What the probabilities are proportional to, `[... V]`; the likeliest has 1."""
        scores = logits.astype(np.float64)
        scores[..., UNKNOWN] = -np.inf
        best = scores.max(axis=-1, keepdims=True)
        if not np.isfinite(best).all():
            raise NotFiniteError(_DAMAGED)
        if self.is_greedy:
            weights = np.zeros_like(scores)
            np.put_along_axis(weights, scores.argmax(axis=-1, keepdims=True), 1.0, axis=-1)
            return weights
        with np.errstate(over="ignore"):  # a tiny temperature: minus infinity, and so a weight of 0, is right
            weights = np.exp((scores - best) / self.temperature)
        return self._filter(weights)

    def _filter(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.top_k is None and self.top_p is None and self.min_p is None:
            return weights
        order = np.argsort(-weights, axis=-1, kind="stable")
        ranked = np.take_along_axis(weights, order, axis=-1)
        if self.top_k is not None:
            ranked[..., self.top_k :] = 0.0
        if self.top_p is not None and self.top_p < 1:  # the fewest that reach the mass, at least one
            mass = np.cumsum(ranked, axis=-1)
            ranked[..., 1:][mass[..., :-1] >= self.top_p * mass[..., -1:]] = 0.0
        if self.min_p is not None:
            ranked[ranked < self.min_p * ranked[..., :1]] = 0.0
        np.put_along_axis(weights, order, ranked, axis=-1)
        return weights


class Draw:
    """xoshiro128++ 1.0 (Blackman & Vigna 2019), its 128 bits of state filled from the seed by splitmix64."""

    def __init__(self, seed: int) -> None:
        x = seed & _MASK_64
        words: list[int] = []
        for _ in range(2):
            x = (x + 0x9E3779B97F4A7C15) & _MASK_64
            z = x
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK_64
            z ^= z >> 31
            words += [z & _MASK_32, z >> 32]
        self.words = words  # 4 of 32 bits

    @classmethod
    def of(cls, words: list[int]) -> "Draw":
        """One that goes on from four words."""
        draw = cls.__new__(cls)
        draw.words = words
        return draw

    def next(self) -> float:
        """A number from 0 (included) to 1 (excluded), a multiple of 2^-32."""
        a, b, c, d = self.words
        out = (_rotate((a + d) & _MASK_32, 7) + a) & _MASK_32
        t = (b << 9) & _MASK_32
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        self.words = [a, b, c ^ t, _rotate(d, 11)]
        return out / 2**32


def _rotate(x: int, k: int) -> int:
    return ((x << k) | (x >> (32 - k))) & _MASK_32


class Stream:
    """One text in the making: its state, the id fed next, its draws and how it chooses. A few kilobytes."""

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.sampling, self.draw = sampling, Draw(seed)
        self.state: State | None = None  # name -> [L H] after everything before `next_id`; None is the zero state
        self.next_id = BOUNDARY
        self.ended = False  # whether the model drew the end of the story
        self.constraint: Constraint | None = None
        self.constrained: Any = None  # the constraint's state
        self.header: list[int] = []  # the labels that it began with
        self.ahead = 1  # characters to generate before the constraint looks at them
        self.is_stuck = False  # whether it ended because nothing at all was allowed
        self.healed: list[int] = []  # ids that were drawn to begin with the unsettled end of the prompt

    def copy(self) -> "Stream":
        """A stream that goes on from here by itself; another `sampling` or `draw` makes it generate something else."""
        other = copy.copy(self)
        other.draw = copy.deepcopy(self.draw)
        return other


@dataclass(frozen=True)
class Sampled:
    """What one stream wrote."""

    ids: list[int]  # without the boundary that ends a story
    logits: npt.NDArray[np.float32] | None  # [n V], what each id was drawn from, where that was asked for


# ids fed [B] and the state before them [L B H] -> logits [B V] and the state after them
Step = Callable[[Integers, State], tuple[Floats, State]]


def plain_step(lm: LanguageModel) -> Step:
    """One character of every stream, as the model computes it."""

    def step(fed: Integers, state: State) -> tuple[Floats, State]:
        logits, state = lm.logits(fed[:, None], state)
        return logits[:, 0], state

    return step


def held_step(lm: LanguageModel, held: Held) -> Step:
    """The same by the cells' own lines, with values held, which takes a few times as long.

    `SettingsError` where the model has no such value, layer or unit, or its cell lets none be held.
    """
    _check_held(lm, held)
    holds = [hold_of(layer, held) for layer in range(lm.num_layers)]

    def step(fed: Integers, state: State) -> tuple[Floats, State]:
        past = state[PAST][0] if lm.context else None
        x, layers = lm.inputs(fed[:, None], past)[:, 0], []
        for k, hold in enumerate(holds):
            layers.append(lm.layer_step(k, x, {name: state[name][k] for name in lm.state_names}, hold))
            x = layers[-1][lm.state_names[0]]
        after = {name: np.stack([values[name] for values in layers]) for name in lm.state_names}
        if past is not None:
            after[PAST] = lm.context.past_after(fed[:, None], past).astype(past.dtype)[None]
        return lm.output(x), after

    return step


def hold_of(layer: int, held: Held) -> Hold:
    """What holds the values of one layer's step."""
    columns: dict[str, dict[int, float]] = {}
    for (name, k, unit), kept in held.items():
        if k == layer:
            columns.setdefault(name, {})[unit] = float(kept)
    if not columns:
        return unheld

    def hold(name: str, value: Floats) -> Floats:
        if name in columns:
            value = value.copy()
            value[:, list(columns[name])] = list(columns[name].values())
        return value

    return hold


def _check_held(lm: LanguageModel, held: Held) -> None:
    names = lm.value_names
    for name, layer, unit in held:
        if name not in names:
            raise SettingsError(f"hold {name!r}: the values of a {lm.cell} are {', '.join(names)}")
        if not 0 <= layer < lm.num_layers or not 0 <= unit < lm.hidden_size:
            raise SettingsError(
                f"hold {name!r} of layer {layer}, unit {unit}: layers count from 0 to {lm.num_layers - 1}, units from "
                f"0 to {lm.hidden_size - 1}"
            )
    if held and not lm.can_hold:
        raise SettingsError(
            f"the cell {lm.cell!r} lets nothing be held: give its `step` a fourth argument `hold` and pass each value "
            "through it, as in storycell/nn/cells/lstm.py"
        )


def read(lm: LanguageModel, stream: Stream, ids: list[int], step: Step | None = None) -> None:
    """Feed a prompt, or a piece of one: afterwards `next_id` is its last id and everything before is in `state`."""
    if not ids:
        return
    fed = np.array([[stream.next_id, *ids[:-1]]])
    state = None if stream.state is None else {name: value[:, None] for name, value in stream.state.items()}
    if step is None:
        for at in range(0, len(ids), PROMPT_PIECE):
            state = lm.state_after(fed[:, at : at + PROMPT_PIECE], state)
    else:
        state = state or lm.zero_state(1)
        for at in range(len(ids)):
            _, state = step(fed[:, at], state)
    assert state is not None
    stream.state = {name: value[:, 0] for name, value in state.items()}
    stream.next_id = ids[-1]


def advance(
    lm: LanguageModel, streams: list[Stream], chars: int, *, logits: bool = False, step: Step | None = None
) -> list[Sampled]:
    """Generate up to `chars` characters more of every stream, by its own sampling and draws; `step` if it is given.

    A stream whose story ends gets less and is `ended`. One that has ended must not be given again.
    Raises `NotFiniteError` where the model's logits are not finite; the streams are then as they were.
    """
    zero = {name: value[:, 0] for name, value in lm.zero_state(1).items()}
    states = [stream.state or zero for stream in streams]
    state = {name: np.stack([s[name] for s in states], axis=1) for name in zero}
    fed = [stream.next_id for stream in streams]
    if any(stream.constraint for stream in streams):
        return _generate_constrained(lm, streams, fed, state, chars, logits, step)
    rows = _generate(lm, streams, fed, [s.draw.words for s in streams], state, chars, logits, step)
    written = []
    for k, (stream, row) in enumerate(zip(streams, rows.ids.tolist(), strict=True)):
        n = row.index(BOUNDARY) if BOUNDARY in row else len(row)
        stream.ended = n < len(row)
        stream.next_id = row[min(n, len(row) - 1)]
        stream.state = {name: value[:, k] for name, value in rows.state.items()}
        stream.draw.words = rows.random[k].tolist()
        written.append(Sampled(row[:n], None if rows.logits is None else rows.logits[k, :n]))
    return written


def new_pace() -> Pace:
    """The lengths of slices where nobody else waits for the processor."""
    return Pace(SLICE_S, 1, LONGEST_SLICE)


def advance_slice(
    lm: LanguageModel, streams: list[Stream], limit: int, pace: Pace, step: Step | None = None
) -> list[Sampled]:
    """As `advance`, by as many characters as make a slice, `limit` at most."""
    chars, began = min(pace.chars(len(streams)), limit), time.perf_counter()
    written = advance(lm, streams, chars, step=step)
    pace.learn(len(streams), chars, time.perf_counter() - began)
    return written


def _generate(
    lm: LanguageModel,
    streams: list[Stream],
    fed: list[int],
    words: list[list[int]],
    state: State,
    chars: int,
    logits: bool,
    step: Step | None,
) -> Rows:
    """All characters of all streams, in one call of the model where it has one; the streams stay as they are."""
    choices = [
        Choice(
            s.sampling.temperature or 1.0,
            1.0 if s.sampling.top_p is None else s.sampling.top_p,
            s.sampling.min_p or 0.0,
            min(s.sampling.top_k or 0, lm.vocab_size),  # which kernels take as an int64
            s.sampling.is_greedy,
        )
        for s in streams
    ]
    generated = None
    if step is None:
        try:
            generated = lm.generate(np.array(fed), state, np.array(words), choices, chars, logits=logits)
        except FloatingPointError:
            raise NotFiniteError(_DAMAGED) from None
    return generated or _generate_stepwise(step or plain_step(lm), streams, fed, words, state, chars, logits)


def _generate_stepwise(
    step: Step, streams: list[Stream], fed: list[int], words: list[list[int]], state: State, chars: int, logits: bool
) -> Rows:
    """The same, a character at a time; it ends when all stories have."""
    ids: list[list[int]] = [[] for _ in streams]
    kept: list[Floats] = []
    ended = [False] * len(streams)
    draws = [Draw.of(row) for row in words]
    for _ in range(chars):
        last, state = step(np.array(fed), state)
        fed = [
            BOUNDARY if end else s.sampling.choose(row, draw)
            for end, s, row, draw in zip(ended, streams, last, draws, strict=True)
        ]
        ended = [end or k == BOUNDARY for end, k in zip(ended, fed, strict=True)]
        for row, k in zip(ids, fed, strict=True):
            row.append(k)
        if logits:
            kept.append(last)
        if all(ended):
            break
    random = np.array([draw.words for draw in draws])
    return Rows(np.array(ids), np.stack(kept, axis=1) if kept else None, state, random)


MOST_AHEAD = 128  # characters that are generated before a constraint looks at them, while it refuses none


def _generate_constrained(
    lm: LanguageModel,
    streams: list[Stream],
    fed: list[int],
    state: State,
    chars: int,
    logits: bool,
    step: Step | None,
) -> list[Sampled]:
    """As `advance`, where streams have constraints.

    A slice is generated as if there were none. A stream that refuses an id of it is taken back to there and draws
    again; the slices are short where that happens, and longer while it does not. The text is the same either way.
    """
    words = [stream.draw.words for stream in streams]
    constrained = [stream.constrained for stream in streams]
    ids: list[list[int]] = [[] for _ in streams]
    kept: list[list[Floats]] = [[] for _ in streams]
    stuck = [False] * len(streams)
    state = {name: value.copy() for name, value in state.items()}
    going = list(range(len(streams)))
    while going:
        n = min(*(streams[k].ahead for k in going), chars - max(len(ids[k]) for k in going))
        here = {name: value[:, going] for name, value in state.items()}
        rows = _generate(
            lm, [streams[k] for k in going], [fed[k] for k in going], [words[k] for k in going], here, n,
            logits or n == 1, step,
        )  # fmt: skip
        for at, (k, row) in enumerate(zip(going, rows.ids.tolist(), strict=True)):
            stream, constraint = streams[k], streams[k].constraint
            drawn = row[: row.index(BOUNDARY) + 1] if BOUNDARY in row else row
            good = len(drawn)
            if constraint is not None:
                good, constrained[k] = constraint.follow(constrained[k], drawn)
            one, place = rows, at
            if good < len(drawn) and constraint is not None:
                stream.ahead = max(1, n // 4)
                if n > 1:  # again, up to there alone: it comes out the same
                    mine = {name: value[:, [k]] for name, value in state.items()}
                    one, place = _generate(lm, [stream], [fed[k]], [words[k]], mine, good + 1, True, step), 0
                assert one.logits is not None
                draw = Draw.of(one.random[place].tolist())
                chosen = stream.sampling.choose_among(one.logits[place, good], constraint.allowed(constrained[k]), draw)
                stuck[k] = chosen is None
                drawn = [*drawn[:good], BOUNDARY if chosen is None else chosen]
                words[k] = draw.words
                if chosen is not None:
                    constrained[k] = constraint.advance(constrained[k], chosen)
            else:
                words[k] = rows.random[at].tolist()
                stream.ahead = min(max(stream.ahead, 2 * n), MOST_AHEAD)
            ids[k] += drawn
            fed[k] = drawn[-1]
            if logits and one.logits is not None:
                kept[k] += list(one.logits[place, : len(drawn)])
            for name, value in state.items():
                value[:, k] = one.state[name][:, place]
        going = [k for k in going if len(ids[k]) < chars and BOUNDARY not in ids[k][-1:]]
    written = []
    for k, stream in enumerate(streams):
        stream.draw.words, stream.constrained, stream.is_stuck = words[k], constrained[k], stuck[k]
        stream.ended, stream.next_id = ids[k][-1] == BOUNDARY, fed[k]
        stream.state = {name: value[:, k] for name, value in state.items()}
        n = len(ids[k]) - stream.ended
        written.append(Sampled(ids[k][:n], np.stack(kept[k])[:n] if logits else None))
    return written


@dataclass(frozen=True)
class Unsettled:
    """The end of a prompt that more text may change the pieces of.

    A text that begins with it has one of these beginnings: its usual pieces, or some of them and then one that reaches
    beyond its end. Their probabilities under the model are known from one pass over the usual pieces, so one of them is
    drawn as `Sampling` draws a character: what is drawn at temperature 1 has exactly the model's distribution, given
    that one of these is how the text goes on.
    """

    ids: list[int]  # the usual pieces
    beyond: list[npt.NDArray[np.intp]]  # at the place of each of them, the ids that reach beyond the end from there
    text: str


class Beginnings:
    """What the unsettled end of a prompt may begin with, of streams that are as `stream` is, which read all before it.

    `paths` are how many of the usual pieces and then which id, `scores` the logarithms of their probabilities;
    `logits [n V]` are those at the places of the usual pieces.
    """

    def __init__(self, lm: LanguageModel, stream: Stream, unsettled: Unsettled, step: Step | None = None) -> None:
        step = step or plain_step(lm)
        state = {name: value[:, None] for name, value in (stream.state or _zero(lm)).items()}
        self._usual, self._states = unsettled.ids, list[State]()
        self.paths: list[tuple[int, int]] = []
        scores: list[npt.NDArray[np.float64]] = []
        every: list[Floats] = []
        behind, fed = 0.0, stream.next_id
        for at, (k, beyond) in enumerate(zip(unsettled.ids, unsettled.beyond, strict=True)):
            logits, state = step(np.array([fed]), state)
            self._states.append(state)
            every.append(logits[0])
            row = logits[0].astype(np.float64)
            row[UNKNOWN] = -np.inf
            row -= row.max()
            row -= np.log(np.exp(row).sum())
            row[UNKNOWN] = 0.0  # where a prompt holds one all the same, every way on has it behind it
            found = np.append(beyond, k) if at + 1 == len(unsettled.ids) else beyond
            self.paths += [(at, int(one)) for one in found]
            scores.append(behind + row[found])
            behind, fed = behind + float(row[k]), k
        self.scores, self.logits = np.concatenate(scores), np.stack(every)

    def probabilities(self, sampling: Sampling) -> npt.NDArray[np.float64]:
        """How likely `draw` is to choose each of the paths."""
        return sampling.probabilities(self._as_logits())[UNKNOWN + 1 :]

    def draw(self, stream: Stream) -> None:
        """Let a stream have one of them behind it."""
        count, k = self.paths[stream.sampling.choose(self._as_logits(), stream.draw) - UNKNOWN - 1]
        stream.healed = [*self._usual[:count], k]
        stream.state, stream.next_id = {name: value[:, 0] for name, value in self._states[count].items()}, k

    def _as_logits(self) -> npt.NDArray[np.float32]:
        """The scores behind those of reserved ids, as `Sampling` leaves one of those out."""
        return np.array([*[-np.inf] * (UNKNOWN + 1), *self.scores], np.float32)


def _zero(lm: LanguageModel) -> State:
    return {name: value[:, 0] for name, value in lm.zero_state(1).items()}


LONGEST_DRAWN_HEADER = 1000  # characters of labels that a model draws itself
Header = list[int] | Constraint  # ids, or what the model's own choice of them must be like


def start_streams(
    lm: LanguageModel,
    prompt: list[int],
    sampling: Sampling,
    seeds: list[int],
    step: Step | None = None,
    constraint: Constraint | None = None,
    header: Header | None = None,
    unsettled: Unsettled | None = None,
) -> list[Stream]:
    """Streams that have read a header and a prompt, one a seed. A header that is a constraint, each draws for itself.

    The `constraint` is on the prompt and what follows it. What is `unsettled` comes behind the prompt.
    """
    draws, headers = [Draw(seed) for seed in seeds], [header if isinstance(header, list) else [] for _ in seeds]
    if header is not None and not isinstance(header, list):
        drawing = start_streams(lm, [], sampling, seeds, step, header)
        while left := [stream for stream in drawing if not stream.ended and len(stream.header) < LONGEST_DRAWN_HEADER]:
            for stream, written in zip(left, advance(lm, left, 1, step=step), strict=True):
                stream.header += written.ids
        draws, headers = [stream.draw for stream in drawing], [stream.header for stream in drawing]
    begun: dict[tuple[int, ...], Stream] = {}
    beginnings: dict[tuple[int, ...], Beginnings] = {}
    made: list[Stream] = []
    for ids, draw in zip(headers, draws, strict=True):
        if tuple(ids) not in begun:
            first = begun[tuple(ids)] = Stream(sampling, 0)
            if constraint is not None:
                first.constraint, first.constrained = constraint, begin(constraint, prompt)
            read(lm, first, [*ids, *prompt], step)
            if unsettled is not None:
                beginnings[tuple(ids)] = Beginnings(lm, first, unsettled, step)
        stream = begun[tuple(ids)].copy()
        stream.draw, stream.header = draw, list(ids)
        if unsettled is not None:
            beginnings[tuple(ids)].draw(stream)
        made.append(stream)
    return made


def streams(
    lm: LanguageModel,
    prompt: list[int],
    sampling: Sampling,
    seeds: list[int],
    limit: int,
    held: Held | None = None,
    constraint: Constraint | None = None,
    header: Header | None = None,
    unsettled: Unsettled | None = None,
) -> Iterator[list[int | None]]:
    """Continue one prompt in several streams at once, `limit` ids at most, besides those of what is `unsettled`.

    Yields, for every id, one of each stream; None for a stream whose story has ended. The values in `held` are
    kept where they are told to be from the first character of the prompt on; see `held_step`. A `constraint` is on the
    whole text, the prompt included; `SettingsError` where it allows no prompt like that, or leaves a text without any
    way on. The `header` comes before the prompt (`start_streams`).
    """
    step, pace = held_step(lm, held) if held else None, new_pace()
    all_streams = start_streams(lm, prompt, sampling, seeds, step, constraint, header, unsettled)
    drawn = {stream: deque(stream.healed) for stream in all_streams}
    while limit > 0 and (writing := [stream for stream in all_streams if not stream.ended]):
        most = 0
        for stream, written in zip(writing, advance_slice(lm, writing, limit, pace, step), strict=True):
            if stream.is_stuck:
                raise SettingsError(
                    "a text came to where each constraint refuses what the others allow; ask for less, or try "
                    "another --seed"
                )
            drawn[stream].extend(written.ids)
            most = max(most, len(written.ids) + stream.ended)
        limit -= most
        for _ in range(min((len(drawn[stream]) for stream in all_streams if not stream.ended), default=0)):
            yield [ids.popleft() if ids else None for ids in drawn.values()]
    while any(drawn.values()):
        yield [ids.popleft() if ids else None for ids in drawn.values()]
    if all(stream.ended for stream in all_streams):
        yield [None] * len(all_streams)
