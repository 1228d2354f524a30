"""Generation with units held (`storycell.inspect.intervene`), in the shape of the batched sampler.

It steps one character and one stream at a time through the cell's own lines, a few thousand characters a second, so the
engine calls it for short slices, and few such streams are admitted.
"""

from collections.abc import Callable

import numpy as np
import torch

from storycell.generation.sampler import Stream, Written
from storycell.inspect.intervene import Walker
from storycell.language_model import Held
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY


def held_advance(lm: CharLM, held: Held) -> Callable[[CharLM, list[Stream], int], list[Written]]:
    """The function; `SettingsError` where the model has no such value, layer or unit, or its cell lets none be held."""
    walker = Walker(TorchModel(lm), held)

    def write(_: CharLM, streams: list[Stream], chars: int) -> list[Written]:
        return [_write(walker, stream, chars) for stream in streams]

    return write


def _write(walker: Walker, stream: Stream, chars: int) -> Written:
    model = walker.model
    layers = walker.zero_state(1)
    if stream.state is not None:
        state = {name: value.cpu().numpy() for name, value in stream.state.items()}
        layers = [{name: value[k : k + 1] for name, value in state.items()} for k in range(model.num_layers)]
    ids, rows = [], []
    for _ in range(chars):
        layers = walker.step(np.array([stream.next_id]), layers)
        logits = walker.logits(layers)[0]
        stream.next_id = stream.sampling.choose(logits, stream.draw)
        if stream.next_id == BOUNDARY:
            stream.ended = True
            break
        ids.append(stream.next_id)
        rows.append(logits)
    after = {name: np.stack([layer[name][0] for layer in layers]) for name in model.state_names}
    stream.state = {name: torch.from_numpy(value) for name, value in after.items()}
    return Written(ids, np.array(rows, dtype=np.float32).reshape(len(ids), model.vocab_size))
