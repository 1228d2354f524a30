"""Generation with units held (`storycell.inspect.intervene`), in the shape of the batched sampler.

It steps one character and one stream at a time through the cell's own lines, a few thousand characters a second, so the
engine calls it for short slices, and few such streams are admitted.
"""

from collections.abc import Callable

import numpy as np
import torch

from storycell.generation.sampler import Stream, Written
from storycell.inspect.intervene import Held, Walker
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY


def held_advance(lm: CharLM, held: Held) -> Callable[[CharLM, list[Stream], int], list[Written]]:
    """The function; `SettingsError` where the model has no such value, layer or unit, or its cell lets none be held."""
    walker = Walker(lm, held)

    def write(_: CharLM, streams: list[Stream], chars: int) -> list[Written]:
        return [_write(walker, stream, chars) for stream in streams]

    return write


@torch.inference_mode()
def _write(walker: Walker, stream: Stream, chars: int) -> Written:
    lm, names = walker.lm, walker.cell.state_names
    layers = walker.zero_state(1)
    if stream.state is not None:
        layers = [{name: stream.state[name][k : k + 1] for name in names} for k in range(lm.num_layers)]
    ids, rows = [], []
    for _ in range(chars):
        layers = walker.step(torch.tensor([stream.next_id], dtype=torch.int64, device=lm.output.weight.device), layers)
        logits = walker.logits(layers)[0].float().cpu().numpy()
        stream.next_id = stream.sampling.choose(logits, stream.draw)
        if stream.next_id == BOUNDARY:
            stream.ended = True
            break
        ids.append(stream.next_id)
        rows.append(logits)
    stream.state = {name: torch.stack([layer[name][0] for layer in layers]) for name in names}
    return Written(ids, np.array(rows, dtype=np.float32).reshape(len(ids), lm.vocab_size))
