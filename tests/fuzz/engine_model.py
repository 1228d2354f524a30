"""The engine's learning through its binding: a program of calls read from bytes; each is done, or refused as promised.

Sizes come first, then one call after another: gradients of any ids and soft targets, steps of every optimiser at any
rate, states and snapshots, weights of any numbers, gradients and rows of the context as other processes give them.
What must hold: no error but those that are promised; what is refused changes nothing; a snapshot that is restored is
the same to the bit; a finite gradient is applied.
"""

import struct

import numpy as np

from storycell.context import PAST
from storycell.engine import EngineModel
from storycell.engine.library import CELLS
from storycell.engine.model import OPTIMIZERS

LONGEST = 300
SEEDS = [
    bytes([0, 6, 4, 8, 1, 1, 0, 0, 0, 0, 0]) + bytes([0, 3, 5, 1, 1, 0, 0, 0, 2, 3, 4, 5, 4, 5] * 3),
    bytes([1, 30, 0, 17, 2, 0, 7, 1, 0, 0, 0]) + bytes([0, 1, 1, 2, 1, 3, 7, 2, 4, 3, 0, 0, 5, 1, 6]),
    bytes([2, 1, 9, 33, 0, 1, 2, 2, 0, 0, 0]) + bytes([3, 0, 16, 9, 1, 200, 2, 0, 3, 4, 0, 9, 9, 9]),
    bytes([1, 9, 5, 250, 1, 1, 0, 2, 5, 30, 0])
    + bytes([0, 1, 0, 4, 3, 3, 3, 3, 0, 1, 1, 9, 1, 2, 3, 0, 0, 6, 2, 1, 7] * 3),
    bytes([0, 12, 7, 16, 2, 1, 4, 3, 4, 200, 16])
    + bytes([0, 2, 3, 1, 5, 5, 1, 0, 0, 1, 0, 3, 4, 5, 6, 7, 1, 1, 3, 2, 0, 6, 9] * 3),
    bytes([0, 6, 7, 16, 1, 1, 4, 2, 0, 0, 13])
    + bytes([0, 2, 8, 2, 3, 2, 3, 2, 1, 0, 0, 1, 0, 3, 4, 5, 6, 7, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6] * 2),
    bytes([0, 12, 0, 16, 1, 1, 4, 1, 0, 0, 0])
    + bytes([5, 0, 0, 192, 127, 0, 2, 2, 0, 1, 1, 0])
    + struct.pack("<2f", 1e30, -0.0),
]
UNSURE = "a gradient that may be gone: another call was refused, or changed what it was of"
_RATES = (0.0, 1e-3, 0.1, -1.0, float("nan"), float("inf"), 1e30, 1e-40)
_SHARES = (0.0, 0.3, 0.9, 1.0, -0.1, float("nan"))


class _Bytes:
    """Takes an input apart."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def numbers(self, count: int) -> np.ndarray:
        """So many float32 of every kind, from a few."""
        few = np.frombuffer(bytes(self.byte() for _ in range(8)), "<f4")
        return np.resize(few, count)


def one_input(data: bytes) -> None:
    """One model and what is done with it."""
    given = _Bytes(data)
    cell, V, D, H, L = (
        [*CELLS][given.byte() % 3],
        given.byte() % 40,
        given.byte() % 20,
        given.byte() % 40,
        given.byte() % 4,
    )
    H = 144 if H == 10 else H  # wide enough for threads to share its units
    bias, how, threads = given.byte() % 2 == 1, given.byte(), given.byte() % 4
    ngrams, ngram_rows, matches = max(0, given.byte() % 20 - 1), given.byte(), max(0, given.byte() % 80 - 10)
    share = _SHARES[how // 2 % len(_SHARES)]
    drops = {
        name: share for k, name in enumerate(("dropout", "weight_dropout", "embedding_dropout")) if how >> k + 4 & 1
    }
    try:
        model = EngineModel(
            V,
            H,
            L,
            cell,
            embedding_size=D,
            gate_bias=bias,
            precision=("fp32", "bf16")[how & 1],
            threads=threads,
            ngrams=ngrams,
            ngram_rows=ngram_rows,
            matches=matches,
            **drops,
        )
    except ValueError:
        fits = not ngrams or (2 <= ngrams <= 16 and ngram_rows)
        fits = fits and (not matches or 2 <= matches <= 64) and (D or not (ngrams or matches))
        good = min(V, H, L, threads) >= 1 and all(0 <= s < 1 for s in drops.values())
        assert not (fits and good), "good sizes are refused"
        return
    model.initialise(how)
    gradient = None
    for _ in range(12):
        if not given:
            break
        gradient = _call(model, given, gradient)


def _call(
    model: EngineModel, given: _Bytes, gradient: "tuple[float, float] | str | None"
) -> "tuple[float, float] | str | None":
    """One call; the gradient that can be applied after it."""
    kind = given.byte() % 7
    before = model.snapshot()
    if kind == 0:
        B, T = 1 + given.byte() % 17, 1 + given.byte() % 9
        ids = np.resize([given.byte() for _ in range(5)], (B, T))
        ids = ids - 3 if given.byte() % 8 == 7 else ids % model.vocab_size
        resets = None if given.byte() % 2 else np.arange(B) % 2 == 0
        carries, learns_soft = given.byte() % 2 == 1, given.byte() % 4 == 3
        soft = given.numbers(B * T * model.vocab_size).reshape(B, T, -1) if learns_soft else None
        try:
            gradient = model.gradient(
                ids, np.roll(ids, 1), carries=carries, resets=resets, seed=T, soft=soft, share=0.5 * learns_soft
            )
        except IndexError:
            assert ((ids < 0) | (ids >= model.vocab_size)).any(), "a known id is refused"
            gradient = UNSURE
        except ValueError:  # another number of streams than is carried
            gradient = UNSURE
        _assert_same(model.snapshot(), before)
    elif kind == 1:
        rate, optimizer = _RATES[given.byte() % 8], [*OPTIMIZERS][given.byte() % 4]
        clip, decay = (None, 1.0, 1e-3)[given.byte() % 3], (0.0, 0.1)[given.byte() % 2]
        finite = isinstance(gradient, tuple) and bool(np.isfinite(gradient).all())
        try:
            model.apply(rate, optimizer=optimizer, clip=clip, decay=decay)
            assert gradient is not None, "a step without a gradient"
            assert finite or gradient is UNSURE, "a gradient that is not finite was applied"
            return None
        except (ValueError, FloatingPointError):
            assert not finite or not np.isfinite(rate) or rate < 0, "a good step is refused"
            _assert_same(model.snapshot(), before)
    elif kind == 2:
        model.average(0.5)
        with model.averaged():
            model.read()
        _assert_same({k: v for k, v in model.snapshot().items() if k[:7] != "average"},
                     {k: v for k, v in before.items() if k[:7] != "average"})  # fmt: skip
    elif kind == 3:
        B = given.byte() % 18
        shape = (model.num_layers, B, model.hidden_size)
        state = {name: given.numbers(int(np.prod(shape))).reshape(shape) for name in model.state_names} if B else {}
        past = np.resize([given.byte() % 40 for _ in range(5)], (1, B, model.context.memory))
        if B and model.context:
            state[PAST] = past
        try:
            model.set_state(state)
        except ValueError:
            assert past.max(initial=0) >= model.vocab_size, "a good state is refused"
            _assert_same(model.snapshot(), before)
        return gradient and UNSURE
    elif kind == 4:
        model.restore(before)
        _assert_same(model.snapshot(), before)
        return gradient and UNSURE
    elif kind == 6:
        model.gradients[:: 16 * (1 + given.byte())] = given.numbers(1)[0]
        rows, values = model.row_gradients()
        rows = np.concatenate([rows, [given.byte() for _ in range(given.byte() % 4)]]).astype(np.int64)
        values = np.resize(given.numbers(8), (len(rows), model.embedding_size))
        try:
            model.set_row_gradients(rows, values)
        except ValueError:
            had = model.context.rows
            assert (np.diff(rows) < 1).any() or rows.max(initial=-1) >= had, "good rows are refused"
        try:
            norm = model.measure()
            return (gradient[0], norm) if isinstance(gradient, tuple) else gradient
        except ValueError:
            assert not isinstance(gradient, tuple), "a gradient that is there is not measured"
            return gradient
        finally:
            _assert_same(model.snapshot(), before)
    else:
        name = [*model.shapes][given.byte() % len(model.shapes)]
        model.write({name: given.numbers(int(np.prod(model.shapes[name]))).reshape(model.shapes[name])}, "weight")
        return gradient and UNSURE
    return gradient


def _assert_same(now: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> None:
    assert now.keys() == before.keys(), "tensors came or went"
    for name, value in before.items():
        assert np.array_equal(now[name], value, equal_nan=True), f"{name} changed"
