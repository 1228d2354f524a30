"""`EngineModel`: a character model of native/engine/model.h; weights, gradients and moments as numpy arrays.

The library is found by `engine.library`. Calls on one model must not overlap.
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storycell.engine.library import library

CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
KINDS = {"weight": 0, "gradient": 1, "exp_avg": 2, "exp_avg_sq": 3, "step": 4}
ADAMW_BETAS = (0.9, 0.99)
_ERRORS: dict[int, type[Exception]] = {
    1: ValueError,
    2: IndexError,
    3: ValueError,
    4: FloatingPointError,
    6: MemoryError,
}

Floats = NDArray[np.float32]


class _Config(ctypes.Structure):
    _fields_ = [
        *[
            (name, ctypes.c_int64)
            for name in ("cell", "layers", "units", "characters", "embedding", "gate_bias", "precision", "threads")
        ],
        *[(name, ctypes.c_double) for name in ("dropout", "weight_dropout", "embedding_dropout")],
    ]


class _Chunk(ctypes.Structure):
    _fields_ = [
        ("streams", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("ids", ctypes.c_void_p),
        ("targets", ctypes.c_void_p),
        ("resets", ctypes.c_void_p),
        ("carries", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("nats", ctypes.c_double),
        ("norm", ctypes.c_double),
    ]


class _Update(ctypes.Structure):
    _fields_ = [
        ("method", ctypes.c_int64),
        *[(name, ctypes.c_double) for name in ("rate", "clip", "decay", "beta1", "beta2")],
    ]


class EngineModel:
    """Starts with all weights zero: `write` them. `embedding_size` 0 feeds one-hot characters."""

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
    ) -> None:
        self._library = library()
        self._state_shape = layers, hidden_size
        self._state_names = ("h", "c") if cell == "lstm" else ("h",)
        config = _Config(
            CELLS[cell], layers, hidden_size, vocab_size, embedding_size, gate_bias, precision == "bf16", threads,
            0.0, 0.0, 0.0,
        )  # fmt: skip
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

    def read(self, kind: str = "weight") -> dict[str, Floats]:
        """Copies of all tensors of a kind (`weight`, `gradient`, `exp_avg`, `exp_avg_sq`, `step`), by torch's names."""
        out = {}
        for name, i in self._index.items():
            array = np.zeros(() if kind == "step" else self.shapes[name], np.float32)
            if not self._library.storycell_model_has(self._model, KINDS[kind], i):
                continue
            self._check(self._library.storycell_model_read(self._model, KINDS[kind], i, array.ctypes.data))
            out[name] = array
        return out

    def write(self, tensors: dict[str, Any], kind: str = "weight") -> None:
        """Set tensors of a kind; `ValueError` for a name or shape that is not this model's."""
        for name, value in tensors.items():
            array = np.ascontiguousarray(value, np.float32)
            shape = () if kind == "step" else self.shapes.get(name)
            if name not in self._index or array.size != np.prod(shape or (1,)):
                raise ValueError(f"{name} of shape {array.shape}: this model has {self.shapes.get(name, 'none')}")
            self._check(
                self._library.storycell_model_write(self._model, KINDS[kind], self._index[name], array.ctypes.data)
            )

    def state(self) -> dict[str, Floats]:
        """What the chunk applied last left to be carried on, `[L B H]` by name; empty where there is none."""
        B = self._library.storycell_model_streams(self._model)
        L, H = self._state_shape
        state = {name: np.empty((L, B, H), np.float32) for name in self._state_names if B}
        if B:
            places = [state[name].ctypes.data for name in self._state_names]
            self._check(self._library.storycell_model_read_state(self._model, *[*places, None][:2]))
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Carry on from this state `[L B H]`; an empty one is the zero state."""
        arrays = [np.ascontiguousarray(state[name], np.float32) for name in self._state_names if state]
        L, H = self._state_shape
        B = arrays[0].shape[1] if arrays else 0
        if any(a.shape != (L, B, H) for a in arrays):
            raise ValueError(f"a state of shapes {[a.shape for a in arrays]}: this model's are {(L, B, H)}")
        places = [a.ctypes.data for a in arrays]
        self._check(self._library.storycell_model_write_state(self._model, B, *[*places, None, None][:2]))

    def gradient(self, ids: Any, targets: Any, *, carries: bool = False) -> tuple[float, float]:
        """Mean loss in nats of ids and targets `[B T]`, and the norm of the gradient; weights are left alone.

        With `carries` streams go on from the state after the chunk applied last. `IndexError` for an id outside [0, V).
        """
        ids, targets = np.ascontiguousarray(ids, np.int64), np.ascontiguousarray(targets, np.int64)
        if ids.ndim != 2 or ids.shape != targets.shape:
            raise ValueError(f"ids {ids.shape} and targets {targets.shape} must both be [B T]")
        chunk = _Chunk(*ids.shape, ids.ctypes.data, targets.ctypes.data, None, carries, 0, 0.0, 0.0)
        self._check(self._library.storycell_model_gradient(self._model, ctypes.byref(chunk)))
        return chunk.nats, chunk.norm

    def apply(
        self, rate: float, *, clip: float = 0.0, decay: float = 0.0, betas: tuple[float, float] = ADAMW_BETAS
    ) -> None:
        """A step of AdamW with the last gradient, once; `FloatingPointError` where it was not finite."""
        update = _Update(0, rate, clip, decay, *betas)
        self._check(self._library.storycell_model_apply(self._model, ctypes.byref(update)))

    def _check(self, status: int) -> None:
        if status:
            raise _ERRORS.get(status, RuntimeError)(self._library.storycell_explain(status).decode())
