"""`EngineModel`: a character model of native/engine/model.h that learns; numpy in and out.

    nats, norm = model.gradient(ids, targets, carries=True)
    model.apply(rate, clip=1.0)

Tensors have the names, shapes and order of gates that torch gives them. Calls on one model must not overlap.
"""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storycell.context import PAST, Context
from storycell.engine import random
from storycell.engine.inference import EngineNetwork
from storycell.engine.library import CELLS, PRECISIONS, Chunk, ModelConfig, Update, check, library

# What the library keeps of each tensor, by number. Of rows: `sum [R]` of the context's table alone, and
# `second_momentum_buffer [R]` of NorMuon's matrices alone.
KINDS = {
    "weight": 0,
    "gradient": 1,
    "exp_avg": 2,
    "exp_avg_sq": 3,
    "step": 4,
    "momentum_buffer": 5,
    "average": 6,
    "sum": 7,
    "second_momentum_buffer": 8,
}
OF_ROWS = ("sum", "second_momentum_buffer")
OPTIMIZER_STATE = ("exp_avg", "exp_avg_sq", "step", "momentum_buffer", *OF_ROWS)
# How each optimiser is done: its number, AdamW's betas, and whether it knows weight decay.
OPTIMIZERS = {
    "adamw": (0, (0.9, 0.99), True),
    "adam": (0, (0.9, 0.999), False),
    "sgd": (1, (0.0, 0.0), False),
    "muon": (2, (0.9, 0.99), True),
    "normuon": (3, (0.9, 0.99), True),
}

Floats = NDArray[np.float32]


class EngineModel:
    """A character-level recurrent language model whose weights are the engine's.

    Weights start at zero: `initialise` or `write` them. `embedding_size` 0 feeds one-hot characters. `precision` is
    `fp32` or `bf16`, which rounds what goes into the products of `gradient`. The dropouts hold in `gradient` alone.
    `ngrams`, `ngram_rows` and `matches` are those of its `storycell.context.Context`. With `gate_norm` its gates are
    normalised (`engine.cells.NormalisedLSTM`).
    `ValueError` for a size out of range, and for `gate_norm` of another cell than lstm or without gate biases.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        layers: int = 1,
        cell: str = "lstm",
        *,
        embedding_size: int = 64,
        gate_bias: bool = True,
        precision: str = "fp32",
        threads: int = 1,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        ngrams: int = 0,
        ngram_rows: int = 0,
        matches: int = 0,
        gate_norm: bool = False,
    ) -> None:
        if cell not in CELLS:
            raise ValueError(f"the engine has no cell {cell!r}; it has {', '.join(CELLS)}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision = {precision!r}: it is fp32 or bf16")
        if gate_norm and (cell != "lstm" or not gate_bias):
            raise ValueError(f"gate_norm needs the cell lstm and gate biases; this is {cell}, gate_bias = {gate_bias}")
        self._library = library()
        self.vocab_size, self.hidden_size, self.num_layers, self.cell = vocab_size, hidden_size, layers, cell
        self.embedding_size, self.gate_bias, self.gate_norm = embedding_size, gate_bias, gate_norm
        self.precision, self.threads = precision, threads
        self.dropout, self.weight_dropout, self.embedding_dropout = dropout, weight_dropout, embedding_dropout
        self.state_names = ("h", "c") if cell == "lstm" else ("h",)
        config = ModelConfig(CELLS[cell], layers, hidden_size, vocab_size, embedding_size, gate_bias)
        config.precision, config.threads = PRECISIONS[precision], threads
        config.dropout, config.weight_dropout, config.embedding_dropout = dropout, weight_dropout, embedding_dropout
        self.context = Context(ngrams, ngram_rows, matches, vocab_size)
        config.ngrams, config.ngram_rows, config.matches = ngrams, self.context.ngram_rows, matches
        config.gate_norm = gate_norm
        self._model: int | None = self._library.storycell_model_create(ctypes.byref(config))
        if not self._model:
            raise ValueError("a size of the model is out of range, or there is not enough memory for it")
        self._index: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for i in range(self._library.storycell_model_tensors(self._model)):
            name = self._library.storycell_model_name(self._model, i).decode()
            rows = self._library.storycell_model_rows(self._model, i)
            columns = self._library.storycell_model_columns(self._model, i)
            self._index[name], self.shapes[name] = i, (rows, columns) if columns else (rows,)

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.storycell_model_free(self._model)
            self._model = None

    def initialise(self, seed: int, forget_bias: float = -1.0) -> None:
        """Draw all weights anew: those that `CharLM.initialise` draws from this seed, to rounding."""
        self.write(random.draw_weights(self.shapes, self.cell, self.hidden_size, seed, forget_bias))

    def read(self, kind: str = "weight") -> dict[str, Floats]:
        """Copies of the tensors of a kind (`KINDS`), by name: those that are there."""
        out = {}
        for name, i in self._index.items():
            if self._library.storycell_model_has(self._model, KINDS[kind], i):
                array = np.empty(self._shape_of(name, kind), np.float32)
                check(self._library.storycell_model_read(self._model, KINDS[kind], i, array.ctypes.data))
                out[name] = array
        return out

    def network(self, **keywords: Any) -> EngineNetwork:
        """The weights of now, to evaluate and generate with; learning goes on and leaves it. `keywords` are its own."""
        own = {"ngrams": self.context.ngrams, "matches": self.context.matches, "gate_norm": self.gate_norm}
        return EngineNetwork(self.read(), self.cell, **{**own, "threads": self.threads, **keywords})

    def write(self, tensors: Mapping[str, Any], kind: str = "weight") -> None:
        """Set tensors of a kind; `ValueError`, and nothing set, for a name or shape that is not this model's."""
        arrays = {name: self._check_tensor(name, value, kind) for name, value in tensors.items()}
        for name, array in arrays.items():
            check(self._library.storycell_model_write(self._model, KINDS[kind], self._index[name], array.ctypes.data))

    def _check_tensor(self, name: str, value: Any, kind: str) -> Floats:
        array = np.ascontiguousarray(value, np.float32)
        if name not in self._index or array.size != np.prod(self._shape_of(name, kind)):
            raise ValueError(f"{name} of shape {array.shape}: this model has {self.shapes.get(name, 'none')}")
        return array

    def _shape_of(self, name: str, kind: str) -> tuple[int, ...]:
        return () if kind == "step" else self.shapes[name][: 1 if kind in OF_ROWS else None]

    def state(self) -> dict[str, Floats]:
        """What the chunk applied last left to be carried on, `[L B H]` by name; empty where there is none.

        With a context also the latest characters, `past [1 B P]`.
        """
        B = self._library.storycell_model_streams(self._model)
        state = {name: np.empty(self._state_shape(B), np.float32) for name in self.state_names if B}
        if B:
            places = [array.ctypes.data for array in state.values()]
            check(self._library.storycell_model_read_state(self._model, *[*places, None][:2]))
        if B and self.context:
            past = np.empty((1, B, self.context.memory), np.int64)
            check(self._library.storycell_model_read_past(self._model, past.ctypes.data))
            state[PAST] = past.astype(np.float32)
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from this state `[L B H]` by name; an empty one is the zero state of any number of streams."""
        arrays = self._check_state(state)
        B = arrays[0].shape[1] if arrays else 0
        places = [a.ctypes.data for a in arrays[: len(self.state_names)]]
        check(self._library.storycell_model_write_state(self._model, B, *[*places, None, None][:2]))
        if B and self.context:
            past = np.ascontiguousarray(arrays[-1], np.int64)
            check(self._library.storycell_model_write_past(self._model, past.ctypes.data))

    def _check_state(self, state: Mapping[str, Any]) -> list[Floats]:
        arrays = [np.ascontiguousarray(state[name], np.float32) for name in self.state_names if state]
        B = arrays[0].shape[1] if arrays and arrays[0].ndim == 3 else 0
        if any(a.shape != self._state_shape(B) for a in arrays):
            raise ValueError(f"a state of shapes {[a.shape for a in arrays]}: this model's are {self._state_shape(B)}")
        if B and self.context:
            past, shape = np.asarray(state[PAST]), (1, B, self.context.memory)
            if past.shape != shape or not np.isin(past, range(self.vocab_size)).all():
                raise ValueError(f"a past of shape {past.shape}: this model's is {shape}, of its characters")
            arrays.append(past)
        return arrays

    def _state_shape(self, B: int) -> tuple[int, int, int]:
        return self.num_layers, B, self.hidden_size

    def gradient(
        self,
        ids: Any,
        targets: Any,
        *,
        carries: bool = False,
        resets: Any = None,
        seed: int = 0,
        soft: Any = None,
        share: float = 0.0,
    ) -> tuple[float, float]:
        """Mean loss in nats of ids and targets `[B T]`, and the norm of the gradient; weights are left alone.

        With `carries` streams go on from the state after the chunk applied last, but for those whose `resets [B]` is
        true, which start from the zero state; `ValueError` if there were another number of streams. What dropout drops
        is decided by `seed` (its low 64 bits). With `soft [B T V]`, probabilities, the gradient is that of 1 - `share`
        of this loss and of `share` of the cross-entropy with them. `IndexError` for an id outside [0, V).
        """
        ids, targets = np.ascontiguousarray(ids, np.int64), np.ascontiguousarray(targets, np.int64)
        if ids.ndim != 2 or ids.shape != targets.shape:
            raise ValueError(f"ids {ids.shape} and targets {targets.shape} must both be [B T]")
        chunk = Chunk(*ids.shape, ids.ctypes.data, targets.ctypes.data)
        if resets is not None:
            resets = np.ascontiguousarray(resets, np.bool_)
            if resets.shape != ids.shape[:1]:
                raise ValueError(f"resets {resets.shape} must have one entry for each of the {len(ids)} streams")
            chunk.resets = resets.ctypes.data
        if soft is not None:
            soft = np.ascontiguousarray(soft, np.float32)
            if soft.shape != (*ids.shape, self.vocab_size):
                raise ValueError(f"soft targets {soft.shape} must be {(*ids.shape, self.vocab_size)}")
            chunk.soft, chunk.share = soft.ctypes.data, share
        chunk.carries, chunk.seed = carries, seed % (1 << 64)
        check(self._library.storycell_model_gradient(self._model, ctypes.byref(chunk)))
        return chunk.nats, chunk.norm

    @property
    def gradients(self) -> Floats:
        """The gradient `[count]` of all but the context's table, one after the other, to read and to change in place.

        It is the engine's own memory, the same as long as the model lives; of use between `gradient` and `apply`, for
        adding up those of several processes. `measure` has to follow a change. Between rows are zeros, which must stay.
        """
        count = ctypes.c_int64()
        place = self._library.storycell_model_gradients(self._model, ctypes.byref(count))
        return np.ctypeslib.as_array((ctypes.c_float * count.value).from_address(place))

    def row_gradients(self) -> tuple[NDArray[np.int64], Floats]:
        """The rows of the context's table that have a gradient, rising, and copies of their gradients `[rows D]`."""
        rows = np.empty(self._library.storycell_model_met(self._model), np.int64)
        gradients = np.empty((len(rows), self.embedding_size), np.float32)
        check(self._library.storycell_model_read_met(self._model, rows.ctypes.data, gradients.ctypes.data))
        return rows, gradients

    def set_row_gradients(self, rows: NDArray[np.int64], gradients: Floats) -> None:
        """Give these rows of the context's table, rising, a gradient `[rows D]`, and no others."""
        rows, gradients = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(gradients, np.float32)
        if gradients.shape != (len(rows), self.embedding_size):
            raise ValueError(f"gradients {gradients.shape} of {len(rows)} rows of {self.embedding_size}")
        check(self._library.storycell_model_write_met(self._model, len(rows), rows.ctypes.data, gradients.ctypes.data))

    def measure(self) -> float:
        """The norm of the gradient as it is now, which `apply` clips by; `ValueError` without a gradient."""
        norm = ctypes.c_double()
        status = self._library.storycell_model_measure(self._model, ctypes.byref(norm))
        if status == 3:
            raise ValueError("there is no gradient to measure: call `gradient` first")
        check(status)
        return norm.value

    def apply(self, rate: float, *, optimizer: str = "adamw", clip: float | None = None, decay: float = 0.0) -> None:
        """A step of an optimiser with the last gradient, once; the chunk's last state is carried on from here.

        `optimizer` is `adamw`, `adam` or `sgd` (which know no decay), or `muon` or `normuon`: that for the recurrent
        layers' matrices, AdamW for all else. A gradient with a norm above `clip` is scaled down to it. Matrices but the
        embedding decay. `FloatingPointError`, and nothing changed, where loss or gradient was not finite; `ValueError`
        without a gradient.
        """
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer = {optimizer!r}: it is {', '.join(OPTIMIZERS)}")
        method, betas, decays = OPTIMIZERS[optimizer]
        update = Update(method, rate, clip or 0.0, decay if decays else 0.0, *betas)
        status = self._library.storycell_model_apply(self._model, ctypes.byref(update))
        if status == 3:
            raise ValueError("there is no gradient to apply: call `gradient` first")
        if status == 4:
            raise FloatingPointError("the loss or its gradient is not finite: the weights were left alone")
        check(status)

    def average(self, decay: float) -> None:
        """Move the running mean of the weights to decay * mean + (1 - decay) * weights; at first it is the weights."""
        check(self._library.storycell_model_average(self._model, decay))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model has the running mean of its weights, where one is kept; do not learn within."""
        check(self._library.storycell_model_swap_average(self._model))
        try:
            yield
        finally:
            check(self._library.storycell_model_swap_average(self._model))

    def snapshot(self) -> dict[str, Floats]:
        """Copies of all that the next step depends on, by the names of a run's last.safetensors.

        `model.NAME`, `optimizer.NAME.exp_avg` and what else the optimiser keeps, `state.h`, `average.NAME`.
        """
        out = {f"model.{name}": value for name, value in self.read().items()}
        kept = {key: self.read(key) for key in OPTIMIZER_STATE}
        for name in self._index:
            out |= {f"optimizer.{name}.{key}": kept[key][name] for key in OPTIMIZER_STATE if name in kept[key]}
        out |= {f"state.{name}": value for name, value in self.state().items()}
        return out | {f"average.{name}": value for name, value in self.read("average").items()}

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Go on from a snapshot, to the bit; names that are no part of one are ignored.

        `ValueError`, and nothing changed, if it does not fit this model: a weight is missing, or a shape is another.
        """
        found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        state = {}
        for full, value in tensors.items():
            start, _, name = full.partition(".")
            if start == "model":
                found["weight"][name] = value
            elif start == "optimizer":
                name, _, key = name.rpartition(".")
                if key in OPTIMIZER_STATE:  # SGD with momentum keeps what nothing here reads
                    found[key][name] = value
            elif start == "average":
                found["average"][name] = value
            elif start == "state":
                state[name] = value
        if lacking := [name for name in self._index if name not in found["weight"]]:
            raise ValueError(f"the snapshot has no model.{lacking[0]}")
        self._check_state(state)
        for kind, values in found.items():
            found[kind] = {name: self._check_tensor(name, value, kind) for name, value in values.items()}
        for kind in (*OPTIMIZER_STATE, "average"):
            check(self._library.storycell_model_forget(self._model, KINDS[kind]))
        for kind, values in found.items():
            self.write(values, kind)
        self.set_state(state)
