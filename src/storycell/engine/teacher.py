"""`Teacher`: what an n-gram of the training text expects, as soft targets (native/engine/teacher.h has the formula)."""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.engine.library import check, library

ORDER = 8  # characters of the longest context
MOST_CHARACTERS = 1024  # of a vocabulary: with more the targets of a chunk are larger than its network
# So many ids are counted, the first of a text: some hundred bytes of memory for each ten. Of a place further on, which
# was not counted, one too many is left out.
MOST_IDS = 1 << 25

Floats = npt.NDArray[np.float32]


class Teacher:
    """Counts a text of ids below `vocab_size`; it is never changed, so any number of threads may ask it.

    `IndexError` for an id outside [0, V), `ValueError` for sizes that are out of range, `MemoryError`; `ImportError`
    where the engine was not built.
    """

    def __init__(self, ids: Any, vocab_size: int, order: int = ORDER) -> None:
        self._library, self._teacher = library(), None
        self.vocab_size, self.order = vocab_size, order
        counted = np.asarray(ids[:MOST_IDS])
        if not len(counted) or not 1 <= vocab_size <= 1 << 16 or not 0 <= order <= 16:
            raise ValueError(f"{len(counted)} ids of {vocab_size} characters, order {order}: out of range")
        if counted.min() < 0 or counted.max() >= vocab_size:
            raise IndexError(f"an id is outside [0, {vocab_size})")
        counted = np.ascontiguousarray(counted, np.uint16)
        self._teacher = self._library.storycell_teacher_create(counted.ctypes.data, len(counted), vocab_size, order)
        if not self._teacher:
            raise MemoryError("not enough memory for the n-grams of soft targets")

    def __del__(self) -> None:
        if getattr(self, "_teacher", None):
            self._library.storycell_teacher_free(self._teacher)
            self._teacher = None

    def teach(self, past: Any, ids: Any, targets: Any, threads: int = 1) -> Floats:
        """Probabilities `[B T V]` of what follows each of ids `[B T]`, which have stood after `past [B P]`.

        The place in the text that `targets [B T]` come from is left out of the counts: what only that place says is
        not told (of the first `MOST_IDS` of a text). `IndexError` for an id outside [0, V).
        """
        past, ids, targets = (np.asarray(x, np.int64) for x in (past, ids, targets))
        row = np.ascontiguousarray(np.concatenate([past, ids, targets[:, -1:]], axis=1))
        (B, T), P = ids.shape, past.shape[1]
        out = np.empty((B, T, self.vocab_size), np.float32)
        check(
            self._library.storycell_teacher_teach(
                self._teacher, B, T, P, row.ctypes.data, out.ctypes.data, ctypes.c_int(threads)
            )
        )
        return out
