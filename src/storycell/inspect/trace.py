"""Every gate and state of every layer along a text.

The ids `[N]` are laid out as in a token file (`0 s1 … sn 0 s1 … sm`). The rows of a `Trace` are the characters after
the first boundary: row t holds the values once character t was read. Every story starts from a zero state.

Only states are computed step by step and kept. A step is pure, so once the state before every character is known, all
characters together are one batch, and any gate is one large matrix product away. The stepping is short as well: a
backend finds the states at the start of every piece of `_PIECE` characters, and then all pieces go side by side.

`nearest` finds similar moments, the places of a text at which the network is in nearly the same state (the idea of
LSTMVis, Strobelt et al. 2016, arXiv:1606.07461): the nearest other rows by the cosine between hidden states of the last
layer, none within `_APART` characters of the row or of each other.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from storycell.data.vocab import Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation import evaluator
from storycell.inspect.intervene import Walker
from storycell.nn.cells.cell import State, Values
from storycell.nn.loss import nats_each
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, Ids

Array = npt.NDArray[np.floating[Any]]
_PIECE = 256  # characters walked one after the other
_ROWS = 512  # pieces walked side by side
_STORIES = 64  # stories that a backend reads side by side
_BULK = 8192  # characters of one large matrix product


class Trace:
    """Gates and states along a text of T characters: `trace["i", 0]` is the input gate of layer 0, `[T H]`.

    `ids [T]`, `text` (T characters, a boundary between stories as NUL), `nats [T]` (what each character cost, given
    those before it), `names` (of the values: i f g o c h for an LSTM). Layers and units count from 0.
    """

    axes = ("T", "H")

    def __init__(self, walker: Walker, ids: Ids, vocab: Vocabulary, states: list[dict[str, torch.Tensor]]) -> None:
        self._walker, self.all_ids, self.states = (
            walker,
            ids.astype(np.int64),
            states,
        )  # with the row of the first boundary
        self.vocab, self.lm = vocab, walker.lm
        self.ids = self.all_ids[1:]
        self.names, self.layers, self.hidden = walker.names, walker.lm.num_layers, walker.lm.hidden_size
        self.text = "".join("\0" if k == BOUNDARY else vocab.text_of(int(k)) for k in self.ids)
        self.starts = evaluator.story_starts(ids)  # rows, in `states`, that read a boundary
        self.nats = self._nats()

    def __len__(self) -> int:
        """T, the number of characters."""
        return len(self.ids)

    def __getitem__(self, key: tuple[str, int]) -> Array:
        """One value of one layer at every character, `[T H]`."""
        name, layer = self._checked(*key)
        if name in self.states[layer]:
            return self.states[layer][name][1:].numpy()
        return self.values(layer, names=(name,))[name]

    def values(self, layer: int, rows: slice = slice(None), names: Sequence[str] = ()) -> dict[str, Array]:
        """Several values (all by default) of a layer at some characters, `[rows H]` by name."""
        names = [self._checked(name, layer)[0] for name in names or self.names]
        wanted = range(1, len(self) + 1)[rows]
        parts = [self._bulk(layer, wanted[a : a + _BULK], names) for a in range(0, len(wanted), _BULK)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def column(self, name: str, layer: int, unit: int) -> Array:
        """One value of one unit at every character, `[T]`."""
        name, layer = self._checked(name, layer)
        if name in self.states[layer]:
            return self.states[layer][name][1:, unit].numpy()
        return self.values(layer, names=(name,))[name][:, unit]

    def logits(self, rows: slice = slice(None)) -> Array:
        """What the model expects after each character, `[rows V]`."""
        h = self.states[-1][self.output][1:][rows]
        with torch.no_grad():
            weight = self.lm.output.weight
            return np.asarray(self.lm.output(h.to(weight)).cpu().numpy())

    def probabilities(self, rows: slice = slice(None)) -> Array:
        """Probability of every next character after each character, `[rows V]`."""
        return torch.from_numpy(self.logits(rows)).softmax(-1).numpy()

    @property
    def output(self) -> str:
        """The name of what a layer shows to the one above."""
        return self._walker.cell.state_names[0]

    @property
    def memory(self) -> str:
        """The name of the state that keeps: the cell state where there is one, otherwise the output."""
        return "c" if "c" in self._walker.cell.state_names else self.output

    def _nats(self) -> npt.NDArray[np.float64]:
        """The cost of each character: from the row before it, the first boundary's included."""
        h, targets = self.states[-1][self.output], torch.from_numpy(self.ids)
        weight = self.lm.output.weight
        parts = []
        with torch.no_grad():
            for a in range(0, len(self), _BULK):
                logits = self.lm.output(h[a : min(a + _BULK, len(self))].to(weight))
                parts.append(nats_each(logits.cpu(), targets[a : a + _BULK]).double().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def _bulk(self, layer: int, rows: range, names: Sequence[str]) -> dict[str, Array]:
        """All values at some rows (those of `states`, evenly spaced) at once, from the states before them."""
        device = self.lm.output.weight.device
        now = torch.tensor(list(rows), dtype=torch.int64, device="cpu")
        if layer == 0:
            x = self._walker.inputs(torch.from_numpy(self.all_ids[rows]).to(device))
        else:
            x = self.states[layer - 1][self.output][now].to(device)
        before = {name: value[now - 1].to(device) for name, value in self.states[layer].items()}
        fresh = torch.from_numpy(self.all_ids[rows] == BOUNDARY).to(device).unsqueeze(1)
        before = {name: value.masked_fill(fresh, 0.0) for name, value in before.items()}
        values = self._walker.layer_step(layer, x, before)
        return {name: values[name].cpu().numpy() for name in names}

    def _checked(self, name: str, layer: int) -> tuple[str, int]:
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

    def _repr_html_(self) -> str:
        """For a notebook: the first characters, redder means higher loss."""
        spans = (
            f'<span style="background:rgba(213,94,0,{min(1.0, nats / 6):.2f})" title="{nats / np.log(2):.2f} bits">'
            f"{html.escape('⏎' if c == chr(0) else c)}</span>"
            for c, nats in zip(self.text[:600], self.nats, strict=False)
        )
        return f"<p>{html.escape(repr(self))}</p><pre style='white-space:pre-wrap'>{''.join(spans)}</pre>"


def trace(lm: CharLM, ids: Ids, vocab: Vocabulary) -> Trace:
    """Walk through a text `[N]`, which starts with a boundary, and keep every state."""
    if len(ids) < 2 or ids[0] != BOUNDARY:
        raise CorpusError("the text holds no characters to look at")
    walker = Walker(lm)
    starts = evaluator.story_starts(ids)
    ends = np.append(starts[1:], len(ids))
    with lm.reading():
        pieces = _pieces(lm, ids, starts, ends)
        states = _walked(walker, ids, pieces)
    return Trace(walker, ids, vocab, states)


Piece = tuple[int, int, list[Values]]  # first row, end row, the state before it ([H] by name, for each layer)


def _pieces(lm: CharLM, ids: Ids, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> list[Piece]:
    """The text in pieces of at most `_PIECE` characters, each with the state before it."""
    zero = lm.zero_state(1)
    order = np.argsort(starts - ends, kind="stable")  # longest first
    found: list[Piece] = []
    for a in range(0, len(order), _STORIES):
        rows = [(int(starts[k]), int(ends[k])) for k in order[a : a + _STORIES]]
        state: State = {name: value.expand(-1, len(rows), -1).contiguous() for name, value in zero.items()}
        for t in range(0, rows[0][1] - rows[0][0], _PIECE):
            rows = [(first, end) for first, end in rows if end - first > t]
            state = {name: value[:, : len(rows)].contiguous() for name, value in state.items()}
            for b, (first, end) in enumerate(rows):
                layers = [{name: value[k, b] for name, value in state.items()} for k in range(lm.num_layers)]
                found.append((first + t, min(first + t + _PIECE, end), layers))
            going_on = [ids[first + t : first + t + _PIECE] for first, end in rows if end - first > t + _PIECE]
            if not going_on:
                break
            state = {name: value[:, : len(going_on)].contiguous() for name, value in state.items()}
            chunk = torch.from_numpy(np.stack(going_on).astype(np.int64)).to(lm.output.weight.device)
            _, state = lm(chunk, state)
    return found


def _walked(walker: Walker, ids: Ids, pieces: list[Piece]) -> list[dict[str, torch.Tensor]]:
    """The state after every character: `[N H]` by name, for each layer."""
    weight, names = walker.lm.output.weight, walker.cell.state_names
    H = walker.lm.hidden_size
    kept = [{n: torch.empty((len(ids), H), dtype=weight.dtype, device="cpu") for n in names} for _ in walker.weights]
    pieces = sorted(pieces, key=lambda piece: piece[0] - piece[1])
    for a in range(0, len(pieces), _ROWS):
        group = pieces[a : a + _ROWS]
        firsts = np.array([first for first, _, _ in group])
        lengths = np.array([end - first for first, end, _ in group])
        state = [
            {n: torch.stack([layers[k][n] for _, _, layers in group]) for n in names}
            for k in range(len(walker.weights))
        ]
        for t in range(lengths[0]):
            alive = int((lengths > t).sum())
            rows = firsts[:alive] + t
            state = [{n: value[n][:alive] for n in names} for value in state]
            state = walker.step(torch.from_numpy(ids[rows].astype(np.int64)).to(weight.device), state)
            index = torch.from_numpy(rows)
            for k, values in enumerate(state):
                for n in names:
                    kept[k][n][index] = values[n].cpu()
    return kept


_APART = 100
_BATCH = 256


def nearest(
    trace: Trace, rows: npt.NDArray[np.int64], count: int = 3
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """`[rows count]`: the nearest rows (-1 where there are no more) and their cosines, best first."""
    h = trace.states[-1][trace.output][1:].float()
    h = h / h.norm(dim=1, keepdim=True).clamp_min(1e-12)
    places = np.full((len(rows), count), -1, dtype=np.int64)
    cosines = np.zeros((len(rows), count), dtype=np.float32)
    for a in range(0, len(rows), _BATCH):
        batch = torch.from_numpy(rows[a : a + _BATCH])
        likeness = h[batch] @ h.T
        number = torch.arange(len(batch), dtype=torch.int64, device="cpu")[:, None]
        taken = batch[:, None]
        for j in range(count):
            around = (taken + torch.arange(-_APART, _APART + 1, dtype=torch.int64, device="cpu")).clamp(0, len(h) - 1)
            likeness[number, around] = -torch.inf
            best, place = likeness.max(dim=1)
            good = torch.isfinite(best).numpy()
            places[a : a + _BATCH, j][good] = place.numpy()[good]
            cosines[a : a + _BATCH, j][good] = best.numpy()[good]
            taken = place[:, None]
    return places, cosines
