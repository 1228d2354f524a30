"""The values of gates and states while a model reads, and writing with units held: by the readable step of the cell.

In: ids, a stream. Out: arrays `[T H]` by layer and name; characters written while some units of a state were kept at
a value. It steps one character at a time through the cell's own `step`, which returns every value by name, so any
cell will do; it is a few thousand characters a second, and is done in slices.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from storycell import cells
from storycell.model import CharLM
from storycell.sampler import Stream, Written
from storycell.vocab import BOUNDARY

Values = dict[str, torch.Tensor]
TRACE_SLICE = 32  # characters


@dataclass(frozen=True)
class HeldUnit:
    """Unit `unit` of state `name` in layer `layer`, kept at `value`."""

    name: str
    layer: int
    unit: int
    value: float


def step(lm: CharLM, k: int, state: list[Values], holds: Sequence[HeldUnit] = ()) -> list[Values]:
    """Read one id: the values of every layer by name, `[1 H]`. `state` is by layer too; both hold what is held."""
    cell, layers = cells.get(lm.cell), []
    x = _input(lm, k)
    for number, weights in enumerate(lm.recurrent.layers()):
        values = cell.step(x, state[number], weights)
        for held in holds:
            if held.layer == number:
                _hold(values, held)
        layers.append(values)
        x = values[cell.state_names[0]]
    return layers


def _hold(values: Values, held: HeldUnit) -> None:
    """Put a unit to its value; what an LSTM shows of a held cell is what its output gate lets through."""
    values[held.name][:, held.unit] = held.value
    if held.name == "c" and {"o", "h"} <= values.keys():
        values["h"][:, held.unit] = values["o"][:, held.unit] * float(np.tanh(held.value))


def _input(lm: CharLM, k: int) -> torch.Tensor:
    ids = torch.tensor([k], device=lm.output.weight.device)
    if lm.embedding is None:
        return F.one_hot(ids, lm.vocab_size).to(lm.output.weight.dtype)
    x: torch.Tensor = lm.embedding(ids)
    return x


def value_names(lm: CharLM) -> list[str]:
    """The names of what a cell computes, in its order."""
    with torch.inference_mode():
        return list(step(lm, BOUNDARY, _by_layer(lm, None))[0])


def tracing(lm: CharLM, ids: list[int], layer: int, name: str) -> Generator[None, None, npt.NDArray[np.float32]]:
    """One value of one layer as the model reads a story that begins with `ids`: `[T H]`, a row for each id."""
    state, rows = _by_layer(lm, None), []
    for start in range(-1, len(ids), TRACE_SLICE):
        with torch.inference_mode():
            for k in ([BOUNDARY, *ids])[start + 1 : start + 1 + TRACE_SLICE]:
                values = step(lm, k, state)
                state = _states(lm, values)
                rows.append(values[layer][name][0].float().cpu().numpy())
        yield
    return np.stack(rows)[1:]


def held_advance(holds: Sequence[HeldUnit]) -> Callable[[CharLM, list[Stream], int], list[Written]]:
    """A function that writes as the batched sampler does, one stream at a time, with some units held."""

    def write(lm: CharLM, streams: list[Stream], chars: int) -> list[Written]:
        return [_write(lm, stream, chars, holds) for stream in streams]

    return write


@torch.inference_mode()
def _write(lm: CharLM, stream: Stream, chars: int, holds: Sequence[HeldUnit]) -> Written:
    state, ids, rows = _by_layer(lm, stream.state), [], []
    names = cells.get(lm.cell).state_names
    for _ in range(chars):
        values = step(lm, stream.next_id, state, holds)
        state = _states(lm, values)
        logits = lm.output(values[-1][names[0]])[0].float().cpu().numpy()
        stream.next_id = stream.sampling.choose(logits, stream.draw)
        if stream.next_id == BOUNDARY:
            stream.ended = True
            break
        ids.append(stream.next_id)
        rows.append(logits)
    stream.state = {name: torch.stack([layer[name][0] for layer in state]) for name in names}
    return Written(ids, np.array(rows, dtype=np.float32).reshape(len(ids), lm.vocab_size))


def _by_layer(lm: CharLM, state: Values | None) -> list[Values]:
    """A stream's state `[L H]` -> that of each layer, `[1 H]`; None is the zero state."""
    if state is None:
        state = {name: value[:, 0] for name, value in lm.zero_state(1).items()}
    return [{name: value[k : k + 1] for name, value in state.items()} for k in range(lm.num_layers)]


def _states(lm: CharLM, layers: list[Values]) -> list[Values]:
    names = cells.get(lm.cell).state_names
    return [{name: values[name] for name in names} for values in layers]
