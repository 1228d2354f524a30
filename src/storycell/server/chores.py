"""Work on one stream that is done in slices between those of the batch: reading, scoring, what comes next.

Each is a generator for `Engine.run`: it yields between two slices of `SLICE` characters, so that what is short is
done at once, and returns its result. All start from a stream as it stands, and the streams they are given are moved
along.
"""

from collections.abc import Generator

import numpy as np
import numpy.typing as npt
import torch

from storycell.model import CharLM
from storycell.sampler import Stream, advance, read
from storycell.server.logprobs import CharLogprobs, Wanted, describe

SLICE = 256  # characters


def reading(lm: CharLM, stream: Stream, ids: list[int]) -> Generator[None, None, Stream]:
    """Feed a prompt to a stream; returns the stream."""
    for start in range(0, len(ids), SLICE):
        if start:
            yield
        read(lm, stream, ids[start : start + SLICE])
    return stream


def scoring(
    lm: CharLM, stream: Stream, ids: list[int], wanted: Wanted
) -> Generator[None, None, tuple[Stream, list[CharLogprobs]]]:
    """Feed a prompt and say how likely each of its characters was to the model."""
    scored: list[CharLogprobs] = []
    for start in range(0, len(ids), SLICE):
        if start:
            yield
        piece = ids[start : start + SLICE]
        scored += describe(_logits(lm, stream, [stream.next_id, *piece[:-1]]), piece, wanted, None)
        stream.next_id = piece[-1]
    return stream, scored


def foreseeing(lm: CharLM, stream: Stream) -> Generator[None, None, npt.NDArray[np.float32]]:
    """The logits `[V]` of the character that comes next."""
    ahead = stream.copy()
    yield
    logits: npt.NDArray[np.float32] = _logits(lm, ahead, [ahead.next_id])[-1]
    return logits


def going_on(lm: CharLM, stream: Stream, chars: int) -> Generator[None, None, Stream]:
    """Write `chars` characters that are known already, for the state after them; returns the stream."""
    for start in range(0, chars, SLICE):
        if start:
            yield
        advance(lm, [stream], min(SLICE, chars - start))
    return stream


def _logits(lm: CharLM, stream: Stream, ids: list[int]) -> npt.NDArray[np.float32]:
    """Feed `ids` to a stream's state; returns the logits after each, `[T V]`."""
    state = None if stream.state is None else {name: value.unsqueeze(1) for name, value in stream.state.items()}
    with lm.reading():
        logits, state = lm(torch.tensor([ids], dtype=torch.int64, device=lm.output.weight.device), state)
    stream.state = {name: value[:, 0] for name, value in state.items()}
    found: npt.NDArray[np.float32] = logits[0].float().cpu().numpy()
    return found
