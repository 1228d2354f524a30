"""Every gate and state of every layer along a text.

The ids `[N]` are laid out as in a token file (`0 s1 … sn 0 s1 … sm`). The rows of a `Trace` are the characters after
the first boundary: row t holds the values once character t was read. Every story starts from a zero state.

Only states are kept. A step is pure, so once the state before every character is known, all characters together are
one batch, and any gate is one large matrix product away.

`nearest` finds similar moments, the places of a text at which the network is in nearly the same state (the idea of
LSTMVis, Strobelt et al. 2016, arXiv:1606.07461): the nearest other rows by the cosine between hidden states of the last
layer, none within `_APART` characters of the row or of each other.
"""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
_SHOWN = 600  # characters of a coloured text
_ORANGE, _BLUE = "213,94,0", "0,114,178"  # the theme's
_STORIES = 64  # read side by side
_READ = 1 << 14  # characters read in one call, whose states are held twice for a moment
_WIDTH = 256  # of a row, at least, where one story is read on after others have ended
_BULK = 2048  # characters of one large matrix product: what it gives stays in a cache


class Trace:
    """Gates and states along a text of T characters: `trace["i", 0]` is the input gate of layer 0, `[T H]`.

    `ids [T]`, `text` (T characters, a boundary between stories as NUL), `nats [T]` (the loss of each character, given
    those before it), `names` (of the values: i f g o c h for an LSTM). Layers and units count from 0.
    """

    axes = ("T", "H")

    def __init__(self, model: LanguageModel, ids: Ids, vocab: Vocabulary, states: list[dict[str, Array]]) -> None:
        self.model, self.vocab = model, vocab
        self.all_ids, self.states = ids.astype(np.int64), states  # with the row of the first boundary
        self.ids = self.all_ids[1:]
        self.names, self.layers, self.hidden = model.value_names, model.num_layers, model.hidden_size
        texts = ["\0" if k == BOUNDARY else vocab.text_of(k) for k in range(len(vocab))]
        self.text = "".join([texts[k] for k in self.ids.tolist()])
        self.starts = evaluator.story_starts(ids)  # rows, in `states`, that read a boundary
        self.nats = self._nats()

    def __len__(self) -> int:
        """T, the number of characters."""
        return len(self.ids)

    def __getitem__(self, key: tuple[str, int]) -> Array:
        """One value of one layer at every character, `[T H]`."""
        return self.values(key[1], names=(key[0],))[key[0]]

    def values(self, layer: int, rows: slice = slice(None), names: Sequence[str] = ()) -> dict[str, Array]:
        """Several values (all by default) of a layer at some characters, `[rows H]` by name."""
        names = [self._check(name, layer)[0] for name in names or self.names]
        found = {name: self.states[layer][name][1:][rows] for name in names if name in self.states[layer]}
        computed = [name for name in names if name not in found]
        if computed:
            parts = list(self.parts(layer, rows))
            found |= {name: np.concatenate([part[name] for part in parts]) for name in computed}
        return {name: found[name] for name in names}

    def parts(self, layer: int, rows: slice = slice(None)) -> Iterator[dict[str, Array]]:
        """All values of a layer, `[n H]` by name, for some thousand characters after the other: little memory."""
        wanted = range(1, len(self) + 1)[rows]
        for a in range(0, len(wanted), _BULK):
            yield self._step(layer, wanted[a : a + _BULK])

    def steps(self, layer: int, rows: range) -> dict[str, Array]:
        """All values of a layer, `[rows H]` by name, where row 0 is the first boundary and row t + 1 character t."""
        return self._step(layer, rows)

    def unit(self, layer: int, unit: int) -> dict[str, Array]:
        """All values of one unit at every character, `[T]` by name."""
        parts = [{name: part[name][:, unit].copy() for name in self.names} for part in self.parts(layer)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.names}

    def column(self, name: str, layer: int, unit: int) -> Array:
        """One value of one unit at every character, `[T]`."""
        name, layer = self._check(name, layer)
        if name in self.states[layer]:
            return self.states[layer][name][1:, unit]
        return np.concatenate([part[name][:, unit] for part in self.parts(layer)])

    def logits(self, rows: slice = slice(None)) -> Array:
        """What the model expects after each character, `[rows V]`."""
        return self.model.output(self.states[-1][self.output][1:][rows])

    def probabilities(self, rows: slice = slice(None)) -> Array:
        """Probability of every next character after each character, `[rows V]`."""
        return probabilities(self.logits(rows))

    def state_at(self, rows: npt.NDArray[np.int64]) -> State:
        """The state of the model after the characters in these rows of `states`, as `LanguageModel` takes it."""
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
        """The loss `[T]` of each character, had the one before it been read as a row of `inputs [T+1 D]`.

        The states before that one are as they were: all characters are changed at once, and none feels another's.
        """
        nats = np.empty(len(self))
        for a in range(0, len(self), _BULK):
            rows = range(a, min(a + _BULK, len(self)))
            x = inputs[a : rows.stop]
            for layer in range(self.layers):
                x = self._step(layer, rows, x)[self.output]
            nats[a : rows.stop] = self._nats_after(x, a)
        return nats

    def _nats(self) -> npt.NDArray[np.float64]:
        """The loss of each character: from the row before it, the first boundary's included."""
        h = self.states[-1][self.output]
        parts = [self._nats_after(h[a : min(a + _BULK, len(self))], a) for a in range(0, len(self), _BULK)]
        return np.concatenate(parts)

    def _nats_after(self, h: Array, first: int) -> npt.NDArray[np.float64]:
        """The loss of each character from `first` on, from what the last layer showed before it, `[n H]`."""
        targets = self.ids[first : first + len(h)]
        logits = self.model.output(h)
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
    """Read a text `[N]`, which starts with a boundary, and keep every state; `SettingsError` for pieces."""
    vocab.refuse_pieces("looking inside a model")
    if len(ids) < 2 or ids[0] != BOUNDARY:
        raise CorpusError("the text holds no characters to look at")
    return Trace(model, ids, vocab, _states(model, ids))


def _states(model: LanguageModel, ids: Ids) -> list[dict[str, Array]]:
    """The state after every character: `[N H]` by name, for each layer. Stories of like length are read together."""
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


def _slice(rows: range, by: int = 0) -> slice | npt.NDArray[np.int64]:
    """An index of some rows, shifted; a slice where it can be one, which copies nothing."""
    plain = rows.step > 0 and rows.start + by >= 0  # the row before the first stands for none: a story begins there
    return slice(rows.start + by, rows.stop + by, rows.step) if plain else np.array(rows, np.int64) + by


_APART = 100
_BATCH = 256


def nearest(
    trace: Trace, rows: npt.NDArray[np.int64], count: int = 3
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """`[rows count]`: the nearest rows (-1 where there are no more) and their cosines, best first."""
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
