"""`Teacher`: what an n-gram of the training text expects, as soft targets (native/engine/teacher.h has the formula)."""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.engine.library import check, library

ORDER = 8  # characters of the longest context
MOST_CHARACTERS = 1024  # of a vocabulary: with more the targets of a chunk are larger than its network
MOST_IDS = 1 << 25  # that are counted, the first of a text: some hundred bytes of memory for each ten

Floats = npt.NDArray[np.float32]


class Teacher:
    """Counts a text of ids below `vocab_size`; it is never changed, so any number of threads may ask it.

    `ValueError` for ids or sizes that are out of range; `ImportError` where the engine was not built.
    """

    def __init__(self, ids: Any, vocab_size: int, order: int = ORDER) -> None:
        self._library, self._teacher = library(), None
        self.vocab_size, self.order = vocab_size, order
        counted = np.asarray(ids[:MOST_IDS])
        if not len(counted) or vocab_size > 1 << 16 or counted.min() < 0 or counted.max() >= vocab_size:
            raise ValueError(f"{len(counted)} ids are no text of {vocab_size} characters that can be counted")
        counted = np.ascontiguousarray(counted, np.uint16)
        self._teacher = self._library.storycell_teacher_create(counted.ctypes.data, len(counted), vocab_size, order)
        if not self._teacher:
            raise ValueError(f"order {order} is out of range, or there is not enough memory for the n-grams")

    def __del__(self) -> None:
        if getattr(self, "_teacher", None):
            self._library.storycell_teacher_free(self._teacher)
            self._teacher = None

    def teach(self, past: Any, ids: Any, targets: Any, threads: int = 1) -> Floats:
        """Probabilities `[B T V]` of what follows each of ids `[B T]`, which have stood after `past [B P]`.

        The place in the text that `targets [B T]` come from is left out of the counts: what only that place says is
        not told. `IndexError` for an id outside [0, V).
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
