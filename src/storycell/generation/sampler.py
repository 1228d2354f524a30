"""Sampling from a model, character by character.

A `Stream` is one text in the making: `read` feeds it a prompt, `advance` generates on any number of streams side by
side, choosing as each one's `Sampling` says. Every stream has a generator and a state of its own, so its text depends
on no other.

The random generator is xoshiro128++ (Blackman & Vigna, https://prng.di.unimi.it), twenty lines that are the same in
Python, C, C++ and JavaScript, so that one seed gives one story wherever the model runs.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from storycell.errors import NotFiniteError, SettingsError
from storycell.generation.slicing import Pace
from storycell.nn.backends.native.backend import NativeBackend
from storycell.nn.backends.native.generator import Generator
from storycell.nn.backends.native.library import Choice, one_torch_thread
from storycell.nn.cells.cell import State
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, UNKNOWN

PROMPT_PIECE = 4096  # characters of a prompt that are read in one pass
SLICE_S = 0.01  # of writing, between two looks at a signal; each slice costs a quarter of a millisecond on top
LONGEST_SLICE = 4096  # characters

_MASK_32, _MASK_64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class Sampling:
    """How the next character is chosen from the model's probabilities; filters apply in the order of the fields."""

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
            raise NotFiniteError("the model's logits are not finite, so nothing can be drawn; its weights are damaged")
        if self.is_greedy:
            weights = np.zeros_like(scores)
            np.put_along_axis(weights, scores.argmax(axis=-1, keepdims=True), 1.0, axis=-1)
            return weights
        with np.errstate(over="ignore"):  # a tiny temperature: minus infinity, and so a weight of 0, is right
            weights = np.exp((scores - best) / self.temperature)
        return self._filtered(weights)

    def _filtered(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
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

    def next(self) -> float:
        """A number from 0 (included) to 1 (excluded), a multiple of 2^-32."""
        a, b, c, d = self.words
        out = (_rotated((a + d) & _MASK_32, 7) + a) & _MASK_32
        t = (b << 9) & _MASK_32
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        self.words = [a, b, c ^ t, _rotated(d, 11)]
        return out / 2**32


def _rotated(x: int, k: int) -> int:
    return ((x << k) | (x >> (32 - k))) & _MASK_32


class Stream:
    """One text in the making: its state, the id fed next, its draws and how it chooses. A few kilobytes."""

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.sampling, self.draw = sampling, Draw(seed)
        self.state: State | None = None  # name -> [L H] after everything before `next_id`; None is the zero state
        self.next_id = BOUNDARY
        self.ended = False  # whether the model drew the end of the story

    def copy(self) -> "Stream":
        """A stream that goes on from here by itself; give it another `sampling` or `draw` to write something else."""
        other = copy.copy(self)
        other.draw = copy.deepcopy(self.draw)
        return other


@dataclass(frozen=True)
class Written:
    """What one stream wrote."""

    ids: list[int]  # without the boundary that ends a story
    logits: npt.NDArray[np.float32] | None  # [n V], what each id was drawn from, where that was asked for


def read(lm: CharLM, stream: Stream, ids: list[int]) -> None:
    """Feed a prompt, or a piece of one: afterwards `next_id` is its last id and everything before is in `state`."""
    if not ids:
        return
    fed = [stream.next_id, *ids[:-1]]
    state = None if stream.state is None else {name: value.unsqueeze(1) for name, value in stream.state.items()}
    for at in range(0, len(fed), PROMPT_PIECE):
        piece = torch.tensor([fed[at : at + PROMPT_PIECE]], dtype=torch.int64, device=lm.output.weight.device)
        with lm.reading(), lm.backend.exclusive():
            state = lm.state_after(piece, state)
    assert state is not None
    stream.state = {name: value[:, 0] for name, value in state.items()}
    stream.next_id = ids[-1]


def advance(lm: CharLM, streams: list[Stream], chars: int, *, logits: bool = False) -> list[Written]:
    """Let every stream write up to `chars` characters more, each by its own sampling and draws.

    A stream whose story ends writes less and is `ended`. One that has ended must not be given again.
    Raises `NotFiniteError` where the model's logits are not finite; the streams are then as they were.
    """
    write = _write_native if isinstance(lm.backend, NativeBackend) else _write_stepwise
    zero = {name: value[:, 0] for name, value in lm.zero_state(1).items()}
    states = [stream.state or zero for stream in streams]
    with one_torch_thread():
        state = {name: torch.stack([s[name] for s in states], dim=1) for name in zero}
        ids, kept, state = write(lm, streams, state, chars, logits)
    written = []
    for k, (stream, row) in enumerate(zip(streams, ids, strict=True)):
        n = row.index(BOUNDARY) if BOUNDARY in row else len(row)
        stream.ended = n < len(row)
        stream.next_id = row[min(n, len(row) - 1)]
        stream.state = {name: value[:, k] for name, value in state.items()}
        written.append(Written(row[:n], None if kept is None else kept[k, :n]))
    return written


def new_pace() -> Pace:
    """The lengths of slices where nobody else waits for the processor."""
    return Pace(SLICE_S, 1, LONGEST_SLICE)


def paced(lm: CharLM, streams: list[Stream], limit: int, pace: Pace) -> list[Written]:
    """As `advance`, by as many characters as make a slice, `limit` at most."""
    chars, began = min(pace.chars(len(streams)), limit), time.perf_counter()
    written = advance(lm, streams, chars)
    pace.learn(len(streams), chars, time.perf_counter() - began)
    return written


@dataclass(frozen=True)
class Packed:
    """A model's weights packed for the kernel, and the weights that were packed."""

    precision: str
    weights: list[npt.NDArray[np.float32]]
    generator: Generator

    def is_of(self, precision: str, weights: list[npt.NDArray[np.float32]]) -> bool:
        """Whether these are the weights, bit for bit; that costs less than any hash of them."""
        if precision != self.precision or len(weights) != len(self.weights):
            return False
        return all(np.array_equal(_bits(a), _bits(b)) for a, b in zip(self.weights, weights, strict=True))


def _bits(array: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    return array.view(np.uint32)  # NaN is what it was, too, and -0 is not 0


_Rows = tuple[list[list[int]], npt.NDArray[np.float32] | None, State]  # ids, logits [B n V], state [L B H]
_packed: WeakKeyDictionary[CharLM, Packed] = WeakKeyDictionary()


def _write_native(lm: CharLM, streams: list[Stream], state: State, chars: int, logits: bool) -> _Rows:
    """All characters of all streams in one call of the kernel."""
    choices = [
        Choice(
            s.sampling.temperature or 1.0,
            1.0 if s.sampling.top_p is None else s.sampling.top_p,
            s.sampling.min_p or 0.0,
            min(s.sampling.top_k or 0, lm.vocab_size),  # which the kernel takes as an int64
            int(s.sampling.is_greedy),
        )
        for s in streams
    ]
    fed = torch.tensor([s.next_id for s in streams], dtype=torch.int64, device="cpu")
    random = torch.tensor([s.draw.words for s in streams], dtype=torch.int64, device="cpu")
    try:
        written = _generator(lm).write(fed, state, random, choices, chars, keeps_logits=logits)
    except FloatingPointError:
        raise NotFiniteError(
            "the model's logits are not finite, so nothing can be drawn; its weights are damaged"
        ) from None
    for stream, words in zip(streams, written.random.tolist(), strict=True):
        stream.draw.words = words
    kept = None if written.logits is None else written.logits.numpy()
    return written.ids.tolist(), kept, written.state


def _generator(lm: CharLM) -> Generator:
    """The model's weights packed for the kernel; packed anew where they are not what they were.

    Compared with a copy: a tensor's version says nothing of what torch's fused optimisers, or numpy, change in place.
    """
    weights = [p.detach().numpy() for p in lm.parameters()]
    packed = _packed.get(lm)
    if packed is None or not packed.is_of(lm.writing_precision, weights):
        copies = [array.copy() for array in weights]  # first: what another thread changes now is packed again
        with lm.reading():
            packed = Packed(lm.writing_precision, copies, Generator(lm.network(), UNKNOWN, lm.writing_precision))
        _packed[lm] = packed
    return packed.generator


def _write_stepwise(lm: CharLM, streams: list[Stream], state: State, chars: int, logits: bool) -> _Rows:
    """The same through any backend, a character at a time."""
    device = lm.output.weight.device
    ids: list[list[int]] = [[] for _ in streams]
    kept: list[npt.NDArray[np.float32]] = []
    fed = torch.tensor([[s.next_id] for s in streams], dtype=torch.int64, device=device)
    ended = [False] * len(streams)
    draws = [copy.deepcopy(s.draw) for s in streams]  # a call that fails leaves the streams as they were
    for _ in range(chars):
        with lm.reading():
            out, state = lm(fed, state)
        last = out[:, -1].float().cpu().numpy()
        chosen = [
            BOUNDARY if end else s.sampling.choose(row, draw)
            for end, s, row, draw in zip(ended, streams, last, draws, strict=True)
        ]
        ended = [end or k == BOUNDARY for end, k in zip(ended, chosen, strict=True)]
        for row, k in zip(ids, chosen, strict=True):
            row.append(k)
        if logits:
            kept.append(last)
        if all(ended):
            break
        fed = torch.tensor(chosen, dtype=torch.int64, device=device).unsqueeze(1)
    for s, draw in zip(streams, draws, strict=True):
        s.draw = draw
    return ids, np.stack(kept, axis=1) if kept else None, state


def streams(
    lm: CharLM, prompt: list[int], sampling: Sampling, seeds: list[int], limit: int
) -> Iterator[list[int | None]]:
    """Continue one prompt in several streams at once, `limit` characters at most.

    Yields, for every character, one id a stream; None for a stream whose story has ended.
    """
    first, pace = Stream(sampling, seeds[0]), new_pace()
    read(lm, first, prompt)
    all_streams = [first.copy() for _ in seeds]
    for stream, seed in zip(all_streams, seeds, strict=True):
        stream.draw = Draw(seed)
    while limit > 0 and (writing := [stream for stream in all_streams if not stream.ended]):
        pieces: dict[Stream, list[int | None]] = {}
        for stream, written in zip(writing, paced(lm, writing, limit, pace), strict=True):
            pieces[stream] = [*written.ids, None] if stream.ended else [*written.ids]
        limit -= max(len(piece) for piece in pieces.values())
        for n in range(max(map(len, pieces.values()))):
            yield [piece[n] if n < len(piece := pieces.get(stream, [])) else None for stream in all_streams]
