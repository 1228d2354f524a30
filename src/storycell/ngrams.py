"""Which rows of its n-gram table a model adds to the embedding of a character.

A model with `ngrams` N has a table of R rows, and every character meets one row of it for each n-gram of 2 to N
characters that ends with it (Svenstrup et al. 2017, arXiv:1709.03933, hash whole words so; Joulin et al. 2016,
arXiv:1607.01759, n-grams):

    h = 0;  of the character and those before it, the latest first:  h = (h * FACTOR + id + 1) mod PRIME

and after n characters h mod R is the row of the n-gram; n-grams that share a row share what is learnt. An n-gram sees
nothing beyond a boundary: that and everything before it are characters 0, as is what lies before a text. Products stay
below 2^53, so that C, JavaScript and ONNX compute the same rows.

A stream remembers its N - 1 latest characters, the latest first, as `past` in its state `[1 B N-1]`; zeros are the
state before a text begins, as of all states. A run's `model.safetensors` stores the table in bytes (`in_bytes`): rows
are added up, so that rounding them is not seen in a loss (LOG.md). native/engine/ngrams.h has the same in C++.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

LONGEST = 16  # the engine's limit
PRIME, FACTOR = 2**31 - 1, 1_999_993
PAST = "past"  # its name in a state
TABLE = "ngram_table.weight"  # the name of the table [R D]; it starts at zero

_SCALE = "ngram_table.scale"  # [R] float32, beside a table that is stored in bytes

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


def rows_of(ids: Any, past: Any, count: int) -> tuple[Integers, Integers]:
    """ids `[B T]` after `past [B N-1]` -> their rows of a table of `count`, `[B T N-1]`, and the past after them."""
    ids, past = np.asarray(ids, np.int64), np.asarray(past).astype(np.int64)
    T, N = ids.shape[1], past.shape[1] + 1
    line = np.concatenate([past[:, ::-1], ids], axis=1)
    seen = np.ones(ids.shape, bool)  # whether no boundary lies between
    h, rows, after = np.zeros_like(ids), [], []
    for n in range(N):
        character = np.where(seen, line[:, N - 1 - n : N - 1 - n + T], 0)
        h = (h * FACTOR + character + 1) % PRIME
        seen &= character != 0
        rows.append(h % count)
        after.append(character[:, -1])
    return np.stack(rows[1:], axis=2), np.stack(after[:-1], axis=1)


def pasts_of(ids: Any, past: Any) -> Integers:
    """ids `[B T]` after `past [B N-1]` -> the past after each of them, `[B T N-1]`."""
    ids, past = np.asarray(ids, np.int64), np.asarray(past).astype(np.int64)
    after = np.empty((*ids.shape, past.shape[1]), np.int64)
    for t in range(ids.shape[1]):
        id = ids[:, t : t + 1]
        past = np.concatenate([id, np.where(id == 0, 0, past[:, :-1])], axis=1)
        after[:, t] = past
    return after


def in_bytes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights as `model.safetensors` stores them: the table, if there is one, as int8 with a scale for each row."""
    if TABLE not in weights:
        return dict(weights)
    table = np.asarray(weights[TABLE], np.float32)
    scale = np.abs(table).max(1) / np.float32(127)
    steps = np.rint(table / np.where(scale > 0, scale, 1)[:, None])
    return {**weights, TABLE: steps.astype(np.int8), _SCALE: scale}


def from_bytes(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The weights that `in_bytes` stored, the table in float32 again; what is anything else is left as it is."""
    weights = dict(stored)
    table, scale = weights.get(TABLE), weights.get(_SCALE)
    if table is not None and scale is not None and table.ndim == 2 and scale.shape == table.shape[:1]:
        weights[TABLE] = table.astype(np.float32) * weights.pop(_SCALE).astype(np.float32)[:, None]
    return weights
