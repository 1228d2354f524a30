"""Every gate and state of every layer along a text.

The ids `[N]` are laid out as in a token file (`0 s1 … sn 0 s1 … sm`). The rows of a `Trace` are the characters after
the first boundary: row t holds the values once character t was read. Every story starts from a zero state.

Only states are kept. A step is pure, so once the state before every character is known, all characters together are
one batch, and any gate is one large matrix product away.

A model of pieces of words takes a step for each piece. What is kept and computed is by step; what a trace shows is by
character all the same: every character of a piece has the values once its piece was read, and its own part of the
piece's loss (`Vocabulary.spell_nats`). `places`, `ends` and `firsts` lead from one to the other.

`nearest` finds similar moments, the places of a text at which the network is in nearly the same state (the idea of
LSTMVis, Strobelt et al. 2016, arXiv:1606.07461): the nearest other rows by the cosine between hidden states of the last
layer, none within `_APART` steps of the row or of each other.
"""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.context import PAST
from storycell.data.vocab import Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation import evaluator
from storycell.language_model import LanguageModel, State
from storycell.types import BOUNDARY, Ids

Array = npt.NDArray[np.floating[Any]]
Places = npt.NDArray[np.int64]
_SHOWN = 600  # characters of a coloured text
_ORANGE, _BLUE = "213,94,0", "0,114,178"  # the theme's
_STORIES = 64  # read side by side
_READ = 1 << 14  # characters read in one call, whose states are held twice for a moment
_WIDTH = 256  # of a row, at least, where one story is read on after others have ended
_BULK = 2048  # characters of one large matrix product: what it gives stays in a cache


class Trace:
    """Gates and states along a text of T characters: `trace["i", 0]` is the input gate of layer 0, `[T H]`.

    `text` (T characters, a boundary between stories as NUL), `nats [T]` (the loss of each character, given those before
    it), `names` (of the values: i f g o c h for an LSTM). Layers and units count from 0. By step, which is a character
    but of a model of pieces: `ids [N]`, `states` and what says so.
    """

    axes = ("T", "H")

    def __init__(self, model: LanguageModel, ids: Ids, vocab: Vocabulary, states: list[dict[str, Array]]) -> None:
        self.model, self.vocab = model, vocab
        self.all_ids, self.states = ids.astype(np.int64), states  # with the row of the first boundary
        self.ids = self.all_ids[1:]
        self.names, self.layers, self.hidden = model.value_names, model.num_layers, model.hidden_size
        self.of_pieces = vocab.kind == "pieces"
        texts = ["\0" if k == BOUNDARY else vocab.text_of(k) for k in range(len(vocab))]
        self.text = "".join([texts[k] for k in self.ids.tolist()])
        self.starts = evaluator.story_starts(ids)  # rows, in `states`, that read a boundary
        self.nats = self._nats()

    def __len__(self) -> int:
        """T, the number of characters."""
        return len(self.text)

    @cached_property
    def firsts(self) -> Places:
        """The first character that each step reads, and T behind them all: `[N+1]`."""
        lengths = self.vocab.lengths[self.ids] if self.of_pieces else np.ones_like(self.ids)
        return np.concatenate([[0], np.cumsum(lengths)])

    @cached_property
    def ends(self) -> Places:
        """The last character that each step reads, `[N]`: what is true of it is true once the step is taken."""
        return self.firsts[1:] - 1

    @cached_property
    def places(self) -> Places:
        """The step that reads each character, `[T]`."""
        return np.repeat(np.arange(len(self.ids)), np.diff(self.firsts))

    @property
    def step_name(self) -> str:
        """What a step reads, in words: a character or a piece."""
        return "piece" if self.of_pieces else "character"

    def texts(self, steps: range) -> list[str]:
        """What some steps on end read, each a character or a piece."""
        firsts = self.firsts[steps.start : steps.stop + 1].tolist()
        return [self.text[a:b] for a, b in pairwise(firsts)]

    def span(self, character: int) -> range:
        """The characters that are read together with one: it alone, or its piece."""
        step = self.places[character]
        return range(int(self.firsts[step]), int(self.firsts[step + 1]))

    def once_read(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Of a value for each character `[T]`, what it is once the step is taken that reads the character, `[T]`."""
        return values[self.ends][self.places] if self.of_pieces else values

    def by_step(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sums of values of characters `[T]` over those that each step reads, `[N]`."""
        return np.asarray(np.add.reduceat(values, self.firsts[:-1])) if self.of_pieces else values

    def __getitem__(self, key: tuple[str, int]) -> Array:
        """One value of one layer at every character, `[T H]`."""
        return self.values(key[1], names=(key[0],))[key[0]]

    def values(self, layer: int, rows: slice = slice(None), names: Sequence[str] = ()) -> dict[str, Array]:
        """Several values (all by default) of a layer at some characters, `[rows H]` by name."""
        steps, at = self._steps_of(rows)
        found = self.step_values(layer, steps, names)
        return found if at is None else {name: value[at] for name, value in found.items()}

    def step_values(self, layer: int, steps: slice = slice(None), names: Sequence[str] = ()) -> dict[str, Array]:
        """Several values (all by default) of a layer at some steps, `[steps H]` by name."""
        names = [self._check(name, layer)[0] for name in names or self.names]
        found = {name: self.states[layer][name][1:][steps] for name in names if name in self.states[layer]}
        computed = [name for name in names if name not in found]
        if computed:
            parts = list(self.parts(layer, steps))
            found |= {name: np.concatenate([part[name] for part in parts]) for name in computed}
        return {name: found[name] for name in names}

    def parts(self, layer: int, steps: slice = slice(None)) -> Iterator[dict[str, Array]]:
        """All values of a layer, `[n H]` by name, for some thousand steps after the other: little memory."""
        wanted = range(1, len(self.ids) + 1)[steps]
        for a in range(0, len(wanted), _BULK):
            yield self._step(layer, wanted[a : a + _BULK])

    def steps(self, layer: int, rows: range) -> dict[str, Array]:
        """All values of a layer, `[rows H]` by name, where row 0 is the first boundary and row t + 1 step t."""
        return self._step(layer, rows)

    def unit(self, layer: int, unit: int) -> dict[str, Array]:
        """All values of one unit at every character, `[T]` by name."""
        parts = [{name: part[name][:, unit].copy() for name in self.names} for part in self.parts(layer)]
        return {name: self._spread(np.concatenate([part[name] for part in parts])) for name in self.names}

    def column(self, name: str, layer: int, unit: int) -> Array:
        """One value of one unit at every character, `[T]`."""
        return self._spread(self.step_column(name, layer, unit))

    def step_column(self, name: str, layer: int, unit: int) -> Array:
        """One value of one unit at every step, `[N]`."""
        name, layer = self._check(name, layer)
        if name in self.states[layer]:
            return self.states[layer][name][1:, unit]
        return np.concatenate([part[name][:, unit] for part in self.parts(layer)])

    def logits(self, rows: slice = slice(None)) -> Array:
        """What the model expects next once each character (its piece) was read, `[rows V]`."""
        steps, at = self._steps_of(rows)
        logits = self.model.output(self.states[-1][self.output][1:][steps])
        return logits if at is None else logits[at]

    def probabilities(self, rows: slice = slice(None)) -> Array:
        """Probability of every next id, a character or a piece, once each character was read, `[rows V]`."""
        return probabilities(self.logits(rows))

    def _steps_of(self, rows: slice) -> tuple[slice, Places | None]:
        """The steps that read some characters, and where among them that of each is; None: it is as they lie."""
        if not self.of_pieces:
            return rows, None
        steps = self.places[rows]
        if not len(steps):
            return slice(0, 0), steps
        first = int(steps.min())
        return slice(first, int(steps.max()) + 1), steps - first

    def _spread(self, values: Array) -> Array:
        """A value for each step `[N]`, for each character that it reads `[T]`."""
        return values[self.places] if self.of_pieces else values

    def state_at(self, rows: npt.NDArray[np.int64]) -> State:
        """The state of the model after what these rows of `states` read, as `LanguageModel` takes it."""
        found = {
            name: np.stack([layer[name][rows] for layer in self.states]).astype(np.float32) for name in self.states[0]
        }
        if self.model.context:
            found[PAST] = self.model.context.past_before(self.all_ids, rows + 1)[None].astype(np.float32)
        return found

    @cached_property
    def inputs(self) -> Array:
        """What the first layer reads at each row of `states`, `[rows D]`."""
        inputs: Array = self.model.inputs(self.all_ids[np.newaxis])[0]
        return inputs

    @property
    def output(self) -> str:
        """The name of what a layer shows to the one above."""
        return self.model.state_names[0]

    @property
    def memory(self) -> str:
        """The name of the state that keeps: the cell state where there is one, otherwise the output."""
        return "c" if "c" in self.model.state_names else self.output

    def nats_reading(self, inputs: Array) -> npt.NDArray[np.float64]:
        """The loss `[T]` of each character, had what came before its step been read as a row of `inputs [N+1 D]`.

        The states before that are as they were: all steps are changed at once, and none feels another's.
        """
        parts, N = [], len(self.ids)
        for a in range(0, N, _BULK):
            rows = range(a, min(a + _BULK, N))
            x = inputs[a : rows.stop]
            for layer in range(self.layers):
                x = self._step(layer, rows, x)[self.output]
            parts.append(self._nats_after(x, a))
        return np.concatenate(parts)

    def _nats(self) -> npt.NDArray[np.float64]:
        """The loss of each character: from the row before its step, the first boundary's included."""
        h, N = self.states[-1][self.output], len(self.ids)
        parts = [self._nats_after(h[a : min(a + _BULK, N)], a) for a in range(0, N, _BULK)]
        return np.concatenate(parts)

    def _nats_after(self, h: Array, first: int) -> npt.NDArray[np.float64]:
        """The loss of all that is read from step `first` on, from what the last layer showed before each, `[n H]`."""
        targets = self.ids[first : first + len(h)]
        logits = self.model.output(h)
        if self.of_pieces:
            return self.vocab.spell_nats(log_probabilities(logits), targets)
        best = logits.max(-1, keepdims=True)
        total = np.exp(logits - best).sum(-1, dtype=np.float64)
        nats: npt.NDArray[np.float64] = np.log(total) + best[:, 0] - logits[np.arange(len(targets)), targets]
        return nats

    def _step(self, layer: int, rows: range, x: Array | None = None) -> dict[str, Array]:
        """All values at some rows (those of `states`, evenly spaced) at once, from the states before them.

        `x` is what the layer reads there, by default what it did read.
        """
        ids = self.all_ids[_slice(rows)]
        before = {name: value[_slice(rows, -1)] for name, value in self.states[layer].items()}
        begins = ids == BOUNDARY
        if begins.any():
            before = {name: np.where(begins[:, None], 0, value) for name, value in before.items()}
        if x is None:
            x = (self.states[layer - 1][self.output] if layer else self.inputs)[_slice(rows)]
        return self.model.layer_step(layer, x, before)

    def _check(self, name: str, layer: int) -> tuple[str, int]:
        if name not in self.names or not 0 <= layer < self.layers:
            raise SettingsError(
                f"the trace holds no {name!r} of layer {layer}: it has {', '.join(self.names)} of the layers "
                f"0 to {self.layers - 1}"
            )
        return name, layer

    def __repr__(self) -> str:
        return (
            f"Trace: T = {len(self):,} characters, {self.layers} layers of H = {self.hidden}, "
            f"values {' '.join(self.names)}; trace[{self.names[0]!r}, 0] is [T H]"
        )

    def colour(self, layer: int, unit: int, name: str = "") -> "Coloured":
        """The text coloured by one value of a unit (by default what it remembers), for a notebook to show."""
        name, layer = self._check(name or self.memory, layer)
        if not 0 <= unit < self.hidden:
            raise SettingsError(f"there is no unit {unit}: a layer has the units 0 to {self.hidden - 1}")
        return Coloured(f"{name} of layer {layer}, unit {unit}", self.text, self.column(name, layer, unit))

    def _repr_html_(self) -> str:
        """For a notebook: the first characters, redder means higher loss."""
        bits = self.nats / np.log(2)
        return Coloured(f"{self!r}: bits of each character", self.text, bits, 6 / np.log(2), costs=True)._repr_html_()


@dataclass(frozen=True, repr=False)
class Coloured:
    """A text of T characters with a number for each, `[T]`: blue is high, orange low (or a loss)."""

    title: str
    text: str
    values: Array
    full: float = 0.0  # what has the full colour; 0: the size that 98 of 100 values stay within
    costs: bool = False  # the numbers are losses

    def __repr__(self) -> str:
        low, high = (float(edge(self.values, initial=0.0)) for edge in (np.min, np.max))
        return f"Coloured({self.title}: {len(self.text):,} characters, from {low:.2f} to {high:.2f})"

    def _repr_html_(self) -> str:
        """For a notebook: the first characters; each tells its number."""
        full = self.full or max(0.1, float(np.quantile(np.abs(self.values), 0.98)))
        spans = (
            f'<span style="background:rgba({_ORANGE if self.costs or value < 0 else _BLUE},'
            f'{min(1.0, abs(value) / full):.2f})" '
            f'title="{value:.2f}">{html.escape("⏎" if c == chr(0) else c)}</span>'
            for c, value in zip(self.text[:_SHOWN], self.values, strict=False)
        )
        return f"<p>{html.escape(self.title)}</p><pre style='white-space:pre-wrap'>{''.join(spans)}</pre>"


def trace(model: LanguageModel, ids: Ids, vocab: Vocabulary) -> Trace:
    """Read a text `[N+1]`, which starts with a boundary, and keep every state."""
    if len(ids) < 2 or ids[0] != BOUNDARY:
        raise CorpusError("the text holds no characters to look at")
    return Trace(model, ids, vocab, _states(model, ids))


def _states(model: LanguageModel, ids: Ids) -> list[dict[str, Array]]:
    """The state after every step: `[N H]` by name, for each layer. Stories of like length are read together."""
    starts = evaluator.story_starts(ids)
    ends = np.append(starts[1:], len(ids))
    order = np.argsort(starts - ends, kind="stable")  # longest first
    kept: list[dict[str, Array]] = []
    for a in range(0, len(order), _STORIES):
        rows = [(int(starts[k]), int(ends[k])) for k in order[a : a + _STORIES]]
        state = model.zero_state(len(rows))
        while rows:
            lengths = [end - first for first, end in rows]
            width = min(max(lengths[-1], _WIDTH), max(_READ // len(rows), _WIDTH), lengths[0])
            chunk = np.full((len(rows), width), BOUNDARY, dtype=np.int64)
            for line, (first, end) in zip(chunk, rows, strict=True):
                line[: end - first] = ids[first : min(end, first + width)]
            every = model.states(chunk, state)
            kept = kept or [
                {name: np.empty((len(ids), value.shape[-1]), value.dtype) for name, value in every.items()}
                for k in range(model.num_layers)
            ]
            for name, value in every.items():
                for k in range(len(value)):
                    for b, (first, end) in enumerate(rows):
                        n = min(width, end - first)
                        kept[k][name][first : first + n] = value[k, b, :n]
            going_on = sum(length > width for length in lengths)
            after = {name: np.ascontiguousarray(value[:, :going_on, -1]) for name, value in every.items()}
            if model.context:
                after[PAST] = model.context.past_after(chunk, state[PAST][0])[np.newaxis, :going_on].astype(np.float32)
            state = after
            rows = [(first + width, end) for first, end in rows[:going_on]]
    return kept


def probabilities(logits: Array) -> Array:
    """Of logits `[... V]`."""
    weights: Array = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights


def log_probabilities(logits: Array) -> npt.NDArray[np.float64]:
    """Of logits `[... V]`."""
    shifted: npt.NDArray[np.float64] = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted


def _slice(rows: range, by: int = 0) -> slice | npt.NDArray[np.int64]:
    """An index of some rows, shifted; a slice where it can be one, which copies nothing."""
    plain = rows.step > 0 and rows.start + by >= 0  # the row before the first stands for none: a story begins there
    return slice(rows.start + by, rows.stop + by, rows.step) if plain else np.array(rows, np.int64) + by


_APART = 100
_BATCH = 256


def nearest(
    trace: Trace, rows: npt.NDArray[np.int64], count: int = 3
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """`[rows count]`: the nearest characters (-1 where there are no more) and their cosines, best first.

    Of a model of pieces those are the last ones of their pieces.
    """
    if trace.of_pieces:
        steps, back = np.unique(trace.places[rows], return_inverse=True)
        near, cosines = _nearest_steps(trace, steps, count)
        return np.where(near < 0, near, trace.ends[near])[back], cosines[back]
    return _nearest_steps(trace, rows, count)


def _nearest_steps(
    trace: Trace, rows: npt.NDArray[np.int64], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    h = trace.states[-1][trace.output][1:].astype(np.float32)
    h /= np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)
    places = np.full((len(rows), count), -1, dtype=np.int64)
    cosines = np.zeros((len(rows), count), dtype=np.float32)
    for a in range(0, len(rows), _BATCH):
        batch = rows[a : a + _BATCH]
        likeness = h[batch] @ h.T
        number = np.arange(len(batch))
        taken = batch
        for j in range(count):
            around = (taken[:, None] + np.arange(-_APART, _APART + 1)).clip(0, len(h) - 1)
            likeness[number[:, None], around] = -np.inf
            taken = likeness.argmax(axis=1)
            best = likeness[number, taken]
            good = np.isfinite(best)
            places[a : a + _BATCH, j][good] = taken[good]
            cosines[a : a + _BATCH, j][good] = best[good]
    return places, cosines
