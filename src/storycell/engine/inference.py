"""`EngineNetwork`: a trained character model as the engine computes it, a `LanguageModel` of numpy arrays.

Its weights never change, so any number of threads may compute with one network at the same time. They are packed for
the kernels when that is first needed, once for each precision (`native/engine/inference.h`). Losses, logits and states
are float32 products whatever `generates_in` says; a single step of a layer, and gradients, are numpy (`engine.cells`).
"""

import ctypes
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell import threads
from storycell.context import PAST, TABLE, Context
from storycell.engine import library
from storycell.engine.cells import CELLS, NORMALISED_LSTM, layer_weights, weight_shapes
from storycell.engine.random import draw_weights
from storycell.language_model import Choice, Floats, Generated, Hold, Integers, State, Values, unheld
from storycell.types import UNKNOWN

_quietly = np.errstate(over="ignore", invalid="ignore")  # damaged weights give numbers that are not finite, no warning


class EngineNetwork:
    """A model of `weights` (by torch's names; copied) with the cell `lstm`, `gru` or `rnn`; see `LanguageModel`.

    `generates_in` is the precision of the products in `write`: `fp32`, `bf16`, or `int8`, where weights are whole
    numbers with a scale for each row, and hidden states 127ths (what the first layer reads with `ngrams` or `matches`
    is float32 in all of them; `storycell.context` says what that is). `threads` is how many a call computes on, None as
    many as `storycell.threads` says; results do not depend on it. With `gate_norm` its gates are normalised
    (`engine.cells.NormalisedLSTM`).
    `ValueError` for weights that are not such a model's, and for `gate_norm` of another cell or without biases;
    `ImportError` where the engine was not built.
    """

    can_hold = True
    backend = "native"

    def __init__(
        self,
        weights: Mapping[str, Any],
        cell: str = "lstm",
        *,
        ngrams: int = 0,
        matches: int = 0,
        generates_in: str = "fp32",
        forget_bias: float = -1.0,
        threads: int | None = None,
        gate_norm: bool = False,
    ) -> None:
        if cell not in CELLS or generates_in not in library.GENERATES_IN:
            raise ValueError(
                f"cell {cell!r}, generates_in {generates_in!r}: the engine has {[*CELLS]}, {[*library.GENERATES_IN]}"
            )
        self.cell, self.generates_in, self.forget_bias, self.threads = cell, generates_in, forget_bias, threads
        self.gate_norm = gate_norm
        self._cell = NORMALISED_LSTM if gate_norm else CELLS[cell]
        self.state_names, self.value_names = self._cell.state_names, self._cell.value_names
        self._weights = {name: np.array(weight, np.float32, order="C") for name, weight in weights.items()}
        shapes = {name: weight.shape for name, weight in self._weights.items()}
        try:
            self.vocab_size, self.hidden_size = shapes["output.weight"]
            self.embedding_size = shapes["embedding.weight"][1] if "embedding.weight" in shapes else 0
        except (KeyError, ValueError, IndexError):
            raise ValueError(f"these are not the weights of a character model: {shapes}") from None
        self.num_layers = sum("weight_hh" in name for name in shapes)
        self.context = Context.of(ngrams, matches, len(self._weights.get(TABLE, ())), self.vocab_size)
        if self.context and not self.embedding_size:
            raise ValueError("rows of a context are added to an embedding, and these weights have none")
        self.gate_bias = "recurrent.bias_ih_l0" in shapes
        if gate_norm and (cell != "lstm" or not self.gate_bias):
            raise ValueError(
                f"gate_norm needs the cell lstm and gate biases; this is {cell}, gate_bias = {self.gate_bias}"
            )
        if shapes != self._shapes():
            raise ValueError(f"these are not the weights of a character model with the cell {cell!r}: {shapes}")
        self._weights = {name: self._weights[name] for name in self._shapes()}  # in torch's order
        self._layers = [layer_weights(self._weights, k) for k in range(self.num_layers)]
        self._packed: dict[tuple[str, str], _Packed] = {}
        self._packing = threading.Lock()
        self.backend_reason = f"storycell's own engine ({library.isa()}), which needs no torch"

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return weight_shapes(
            self.vocab_size,
            self.hidden_size,
            self.num_layers,
            self.cell,
            self.embedding_size,
            self.gate_bias,
            self.context.rows,
        )

    def weights(self) -> dict[str, Floats]:
        """All parameters by torch's names: copies."""
        return {name: weight.copy() for name, weight in self._weights.items()}

    def with_weights(self, weights: Mapping[str, Any]) -> "EngineNetwork":
        """A network of the same sizes with other weights; `ValueError` where they do not fit."""
        shapes = self._shapes()
        found = {name: np.shape(weight) for name, weight in weights.items()}
        wrong = next((name for name in {**shapes, **found} if shapes.get(name) != found.get(name)), None)
        if wrong is not None:
            raise ValueError(
                f"size mismatch for {wrong}: this model has {shapes.get(wrong, 'none')}, "
                f"and what was given has {found.get(wrong, 'none')}"
            )
        return self._like({name: weights[name] for name in shapes})

    def copy_untrained(self, seed: int) -> "EngineNetwork":
        """A network of the same sizes as it would be before its training."""
        return self._like(draw_weights(self._shapes(), self.cell, self.hidden_size, seed, self.forget_bias))

    def _like(self, weights: Mapping[str, Any]) -> "EngineNetwork":
        return EngineNetwork(
            weights,
            self.cell,
            ngrams=self.context.ngrams,
            matches=self.context.matches,
            generates_in=self.generates_in,
            forget_bias=self.forget_bias,
            threads=self.threads,
            gate_norm=self.gate_norm,
        )

    def frozen(self) -> "EngineNetwork":
        """Itself: its weights never change."""
        return self

    def zero_state(self, B: int) -> State:
        """Zeros `[L B H]` by name, and with a context `past [1 B P]`."""
        return {name: np.zeros(shape, np.float32) for name, shape in self._state_shapes(B).items()}

    def _state_shapes(self, B: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(self.state_names, (self.num_layers, B, self.hidden_size))
        return shapes | ({PAST: (1, B, self.context.memory)} if self.context else {})

    def logits(self, ids: Any, state: State | None = None) -> tuple[Floats, State]:
        """ids `[B T]` -> logits `[B T V]` and the state after them."""
        ids = self._ids("ids", ids)
        logits = np.empty((*ids.shape, self.vocab_size), np.float32)
        return logits, self._read(ids, state, logits=logits)

    def nats(self, ids: Any, targets: Any, state: State | None = None) -> tuple[Floats, State]:
        """ids and targets `[B T]` -> nats `[B T]` and the state after them; logits are never written to memory."""
        ids, targets = self._ids("ids", ids), self._ids("targets", targets)
        if ids.shape != targets.shape:
            raise ValueError(f"ids {list(ids.shape)} and targets {list(targets.shape)} must have one shape, [B T]")
        nats = np.empty(ids.shape, np.float32)
        return nats, self._read(ids, state, targets=targets, losses=nats)

    def state_after(self, ids: Any, state: State | None = None) -> State:
        """The state after ids `[B T]`."""
        return self._read(self._ids("ids", ids), state)

    def states(self, ids: Any, state: State | None = None) -> State:
        """The states after each of ids `[B T]`, by name: `[L B T H]`."""
        ids = self._ids("ids", ids)
        every = {
            name: np.empty((self.num_layers, *ids.shape, self.hidden_size), np.float32) for name in self.state_names
        }
        self._read(ids, state, hiddens=every["h"], cells=every.get("c"))
        return every

    def _read(self, ids: Integers, state: State | None, **wanted: npt.NDArray[Any] | None) -> State:
        B, T = ids.shape
        before = None if state is None else self._state(state, B)
        after = {name: np.empty((self.num_layers, B, self.hidden_size), np.float32) for name in self.state_names}
        a = library.Reading(streams=B, steps=T, ids=ids.ctypes.data)
        _point(a, before, after)
        for name, array in wanted.items():
            setattr(a, name, None if array is None else array.ctypes.data)
        past = self._past(before, B)
        a.past = a.final_past = past.ctypes.data
        self._call("read", self._pack("fp32"), a)
        return self._with_past(after, past)

    def _past(self, state: State | None, B: int) -> Integers:
        """The characters that are remembered before a call, `[B P]`, which it moves on."""
        shape = B, self.context.memory
        return np.zeros(shape, np.int64) if state is None or not self.context else state[PAST][0].astype(np.int64)

    def _with_past(self, state: State, past: Integers) -> State:
        return state | {PAST: past.astype(np.float32)[None]} if self.context else state

    def generate(
        self, fed: Any, state: State, random: Any, choices: list[Choice], chars: int, *, logits: bool = False
    ) -> Generated:
        """Feed `fed [B]` and then each id drawn, `chars` times, all in one call; `FloatingPointError` as promised."""
        current = self._integers("fed", fed).copy()
        B = len(current)
        words = self._integers("random", random)
        if current.ndim != 1 or words.shape != (B, 4) or len(choices) != B or chars < 1:
            raise ValueError(
                f"fed {list(current.shape)}, random {list(words.shape)}, {len(choices)} choices, {chars} characters: "
                "they must be [B], [B 4], B and at least 1"
            )
        if ((words < 0) | (words >= 2**32)).any() or (words == 0).all(1).any():
            raise ValueError("random states must be four words below 2^32, not all zero")
        how = (library.Choice * B)(*(library.Choice(*choice) for choice in choices))
        drawn = words.astype(np.uint32)
        ids = np.empty((B, chars), np.int64)
        kept = np.empty((B, chars, self.vocab_size), np.float32) if logits else None
        before, after = self._state(state, B), self.zero_state(B)
        a = library.Writing(streams=B, length=chars, unknown=UNKNOWN)
        _point(a, before, after)
        a.current, a.random, a.out = current.ctypes.data, drawn.ctypes.data, ids.ctypes.data
        a.choice, a.logits = ctypes.addressof(how), None if kept is None else kept.ctypes.data
        past = self._past(before, B)
        a.past = past.ctypes.data
        self._call("write", self._pack(self.generates_in), a)
        return Generated(ids, kept, self._with_past(after, past), drawn.astype(np.int64))

    def inputs(self, ids: Any, past: Any = None) -> Floats:
        """ids `[B T]` -> what the first layer reads, `[B T D]`, with a context after `past [B P]`."""
        ids = self._check_known(self._ids("ids", ids))
        if self.embedding_size:
            vectors: Floats = self._weights["embedding.weight"][ids]
            if self.context:
                vectors = vectors + self._weights[TABLE][context_rows(self.context, ids, past)].sum(2)
            return vectors
        one_hot: Floats = (ids[..., None] == np.arange(self.vocab_size)).astype(np.float32)
        return one_hot

    @_quietly
    def layer_step(self, layer: int, x: Floats, state: Values, hold: Hold = unheld) -> Values:
        """The cell's lines, on inputs `[N D]` and state `[N H]`."""
        return self._cell.step(x, state, self._layers[layer], hold)

    @_quietly
    def output(self, h: Floats) -> Floats:
        """`[N H]` -> logits `[N V]`."""
        logits: Floats = h @ self._weights["output.weight"].T + self._weights["output.bias"]
        return logits

    @_quietly
    def state_gradients(
        self, ids: Any, targets: Any, state: list[Values], *, cuts_h: bool = False
    ) -> dict[tuple[str, int], Floats]:
        """By backpropagation through time: (state, layer) -> `[N K H]`."""
        ids, targets = self._ids("ids", ids), self._check_known(self._integers("targets", targets))
        vectors = self.inputs(ids, state[0].get(PAST))
        path = self._walk(vectors, state)
        (N, K), H, last = ids.shape, self.hidden_size, self.num_layers - 1
        probabilities = _softmax(self.output(path[-1][last]["h"]))
        probabilities[np.arange(N), targets] -= 1
        zeros = np.zeros((N, H), np.float32)
        found = {(name, k): np.empty((N, K, H), np.float32) for k in range(last + 1) for name in self.state_names}
        later = [
            dict.fromkeys(self.state_names, zeros) for _ in self._layers
        ]  # what comes back from the next character
        for t in range(K - 1, -1, -1):
            from_above = probabilities @ self._weights["output.weight"] if t == K - 1 else zeros
            for k in range(last, -1, -1):
                gradients = later[k] | {"h": later[k]["h"] + from_above}
                before = path[t - 1][k] if t else state[k]
                x = path[t][k - 1]["h"] if k else vectors[:, t]
                from_above, later[k], whole = self._cell.back(x, path[t][k], before, gradients, self._layers[k])
                if cuts_h:
                    later[k]["h"] = zeros
                for name in self.state_names:
                    found[name, k][:, t] = whole[name]
        return found

    def _walk(self, vectors: Floats, state: list[Values]) -> list[list[Values]]:
        """Every value of every layer after each of the vectors `[N K D]` that the first reads."""
        path: list[list[Values]] = []
        for t in range(vectors.shape[1]):
            x, before = vectors[:, t], path[-1] if path else state
            path.append([])
            for k in range(self.num_layers):
                path[-1].append(self.layer_step(k, x, before[k]))
                x = path[-1][k]["h"]
        return path

    @staticmethod
    def _integers(name: str, numbers: Any) -> Integers:
        array = np.asarray(numbers)
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name} must be whole numbers, not {array.dtype}")
        return np.ascontiguousarray(array, np.int64)

    def _ids(self, name: str, ids: Any) -> Integers:
        array = self._integers(name, ids)
        if array.ndim != 2 or not array.size:
            raise ValueError(f"{name} must be [B T], at least one character; it has shape {list(array.shape)}")
        return array

    def _check_known(self, ids: Integers) -> Integers:
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise IndexError("a character id is outside the vocabulary")
        return ids

    def _state(self, state: State, B: int) -> State:
        wanted = self._state_shapes(B)
        found = {name: np.ascontiguousarray(state[name], np.float32) for name in wanted if name in state}
        if any(name not in found or found[name].shape != shape for name, shape in wanted.items()):
            shapes = {name: list(np.shape(value)) for name, value in state.items()}
            raise ValueError(
                f"a state must have {', '.join(wanted)}, of shapes {[list(shape) for shape in wanted.values()]}; "
                f"it has {shapes}"
            )
        return found

    def _pack(self, precision: str) -> "_Packed":
        """The weights, packed for a precision and for the instruction set in use."""
        key = precision, library.isa()
        with self._packing:
            if key not in self._packed:
                self._packed[key] = _Packed(self, precision)
            return self._packed[key]

    def _call(self, function: str, packed: "_Packed", arguments: ctypes.Structure) -> None:
        call = getattr(library.library(), f"storycell_network_{function}")
        library.check(call(packed.address, ctypes.byref(arguments), self.threads_used))

    @property
    def threads_used(self) -> int:
        """On how many threads a call computes."""
        return threads.for_kernels() if self.threads is None else self.threads


class _Packed:
    """A network in the engine's memory."""

    def __init__(self, network: EngineNetwork, precision: str) -> None:
        self.address: int | None = None
        weights, layers = network._weights, (library.NetworkLayer * network.num_layers)()
        for k, layer in enumerate(layers):
            for field, name in (("input", "weight_ih"), ("recurrent", "weight_hh")):
                setattr(layer, field, network._layers[k][name].ctypes.data)
            if network.gate_bias:
                layer.input_bias = network._layers[k]["bias_ih"].ctypes.data
                layer.recurrent_bias = network._layers[k]["bias_hh"].ctypes.data
        a = library.NetworkWeights(
            cell=library.CELLS[network.cell],
            layers=network.num_layers,
            units=network.hidden_size,
            characters=network.vocab_size,
            embedding=network.embedding_size,
            layer=ctypes.addressof(layers),
            output=weights["output.weight"].ctypes.data,
            output_bias=weights["output.bias"].ctypes.data,
            gate_norm=network.gate_norm,
        )
        if network.embedding_size:
            a.embedding_weight = weights["embedding.weight"].ctypes.data
        if context := network.context:
            a.ngrams, a.ngram_rows, a.matches = context.ngrams, context.ngram_rows, context.matches
            a.context_table = weights[TABLE].ctypes.data
        made, create = ctypes.c_void_p(), library.library().storycell_network_create
        library.check(
            create(ctypes.byref(a), library.GENERATES_IN[precision], network.threads_used, ctypes.byref(made))
        )
        self.address, self._free = made.value, library.library().storycell_network_free

    def __del__(self) -> None:
        if self.address:
            self._free(self.address)


def _point(a: ctypes.Structure, before: State | None, after: State) -> None:
    """Set the fields that a reading and a writing share."""
    for field, name in (("hidden", "h"), ("cell", "c")):
        if before is not None and name in before:
            setattr(a, field, before[name].ctypes.data)
        if name in after:
            setattr(a, f"final_{field}", after[name].ctypes.data)


def _softmax(logits: Floats) -> Floats:
    probabilities: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return probabilities


def context_rows(context: Context, ids: Any, past: Any = None) -> Integers:
    """As `Context.rows_of`: ids `[B T]` after `past [B P]`, None for zeros -> `[B T K]`.

    By the engine where it was built, which finds matches 50 times as fast as numpy.
    `IndexError` for an id outside the vocabulary, `ValueError` for another shape of `past`.
    """
    ids = np.ascontiguousarray(ids, np.int64)
    B, T = ids.shape
    before = np.zeros((B, context.memory), np.int64) if past is None else np.asarray(past).astype(np.int64)
    before = np.ascontiguousarray(before)
    if before.shape != (B, context.memory):
        raise ValueError(f"a past of shape {list(before.shape)}: it must be {[B, context.memory]}")
    try:
        find_rows = library.library().storycell_context_rows
    except ImportError:
        return context.rows_of(ids, before)
    rows = np.empty((B, T, context.met), np.int64)
    sizes = context.ngrams, context.ngram_rows, context.matches, context.vocab_size, B, T
    places = (array.ctypes.data for array in (ids, before, rows))
    library.check(find_rows(*sizes, *places))
    return rows
