"""The model, run over many segments side by side, one symbol each at a time: the step that both directions share.

In: a `CharLM`, how many segments there are, and what codes a row of symbols. Out: nothing; the coder has seen every
symbol in its turn. A lane reads one segment from a zero state; when that ends it begins the next one, and when there
is none left the batch shrinks.

The surprising decision: compressing and decompressing are this one loop with another coder. Which lanes there are, in
which batch, depends only on symbols that both sides know by then, so each number that the model computes for the one
is computed for the other by the same instructions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from storycell import loss, threads
from storycell.codec.framing import CODE_BITS
from storycell.codec.step import step_of
from storycell.errors import NotFiniteError
from storycell.model import CharLM
from storycell.vocab import BOUNDARY, UNKNOWN

LANES = 64
# Kept for characters the model does not know: 2^-20, less the 2^-24 that the coder adds to every probability.
_ESCAPE = 2.0 ** (CODE_BITS - loss.ESCAPE_BITS) - 2.0**-24

Numbers = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.int32]
Probabilities = npt.NDArray[np.float64]


class Coder(Protocol):
    """What is done with the probabilities of the next symbols."""

    def code(self, segments: Numbers, probabilities: Probabilities) -> Symbols:
        """Write or read the next symbol of each of `segments [B]`, given `probabilities [B V]`; returns them `[B]`."""


def run(lm: CharLM, lengths: Numbers | None, segments: int, coder: Coder) -> None:
    """Code `segments` segments. `lengths [segments]` says where each ends; without, each ends with a boundary."""
    begun = min(LANES, segments)
    lanes = np.arange(begun)  # the segment of each lane
    left = None if lengths is None else lengths[:begun].copy()
    fed = np.zeros(begun, dtype=np.int64)
    state = lm.zero_state(begun)
    with lm.reading():
        step = step_of(lm)
        while len(lanes):
            logits, state = step(torch.from_numpy(fed), state)
            symbols = coder.code(lanes, probabilities(logits))
            if left is None:
                ended = symbols == BOUNDARY
            else:
                left -= 1
                ended = left == 0
            fed = symbols.astype(np.int64)
            if not ended.any():
                continue
            fresh = np.flatnonzero(ended)[: segments - begun]
            lanes[fresh] = np.arange(begun, begun + len(fresh))
            if left is not None and lengths is not None:
                left[fresh] = lengths[lanes[fresh]]
            begun += len(fresh)
            fed[fresh], ended[fresh] = BOUNDARY, False
            lanes, fed, left = lanes[~ended], fed[~ended], None if left is None else left[~ended]
            state = {name: _moved_on(value, fresh, ended) for name, value in state.items()}


def _moved_on(value: torch.Tensor, fresh: Numbers, ended: npt.NDArray[np.bool_]) -> torch.Tensor:
    """The state `[L B H]` with zeros where a segment begins, without the lanes that have ended."""
    value = value.clone()
    value[:, torch.from_numpy(fresh)] = 0.0
    return value[:, torch.from_numpy(~ended)].contiguous() if ended.any() else value


def probabilities(logits: torch.Tensor) -> Probabilities:
    """Logits `[B V]` -> probabilities `[B V]` in float64: the softmax over what the model knows, and the escape."""
    x = logits.cpu().double().numpy()
    if not np.isfinite(x).all():
        raise NotFiniteError(
            "the model computes numbers that are not finite, so nothing can be coded; its weights are damaged"
        )
    p: Probabilities = np.exp(x - x.max(axis=1, keepdims=True))
    p[:, UNKNOWN] = 0.0
    p *= (1 - _ESCAPE) / p.sum(axis=1, keepdims=True)
    p[:, UNKNOWN] = _ESCAPE
    return p


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch computes on one thread, so that what comes out does not depend on how many there are."""
    with threads.computing_on(1, 1):
        yield
