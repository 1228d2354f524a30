"""`/v1/next`, `/v1/trace`, `/v1/step`: what may follow a text; what gates and cells do while the model reads it.

The page draws with these. The values of the last text, by layer and name, are kept for a moment, because a reader goes
from unit to unit.
"""

from collections import OrderedDict
from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.engine.cells import CELLS
from storycell.generation.generate import spell_unsettled, ways_on
from storycell.generation.sampler import Sampling
from storycell.generation.text_stream import Pieces
from storycell.inspect.step import UnitStep, unit_step
from storycell.inspect.trace import trace
from storycell.server.errors import ApiError
from storycell.server.jobs import (
    DIGITS,
    Surprises,
    Wanted,
    beginning,
    foreseeing,
    likeliest,
    log_softmax,
    reading,
    scoring,
)
from storycell.server.schemas import NextRequest, StepRequest, TraceRequest
from storycell.server.service import Service
from storycell.types import BOUNDARY

_LIVELY = 12  # units that are pointed out
_DIGITS = 4
_STEP_DIGITS = 6
_KEPT = 4  # traces, of 4 MB at most each


async def following(service: Service, asked: NextRequest) -> dict[str, Any]:
    """The likeliest next characters or pieces, and how surprising each character of the prompt was."""
    prompt = await service.prompt(asked.prompt, asked.unknown, service.settings.max_prompt)
    lm, vocab, run, nats = await service.network(asked.steer), service.model.vocab, service.engine.run, None
    stream, _, before = service.start(asked.state, Sampling(), asked.labels)
    ids, unsettled = await service.settle(prompt, before)
    if asked.score:
        wanted = Wanted(nats=True, pieces=vocab if vocab.kind == "pieces" else None)
        stream, scored = await run(scoring(lm, stream, ids, wanted))
        pieces, settled = Pieces(vocab), len(before + prompt.text) - (len(unsettled.text) if unsettled else 0)
        nats = Surprises().take(scored, [*pieces.take(ids).offsets, *pieces.rest().offsets], settled)
    else:
        await run(reading(lm, stream, ids))
    beginnings = None
    if unsettled is not None:
        beginnings = await run(beginning(lm, stream, unsettled, None))
        if nats is not None:
            nats += spell_unsettled(vocab, unsettled, log_softmax(beginnings.logits)).round(DIGITS).tolist()
        await run(reading(lm, stream, unsettled.ids))
    logits = await run(foreseeing(lm, stream))
    service.metrics.read.inc(vocab.count_chars(prompt.ids))
    sampling = Sampling(asked.temperature)
    if beginnings is None or unsettled is None:
        [ranked] = likeliest(sampling.probabilities(logits)[np.newaxis], asked.top)
        chances = [(None if k == BOUNDARY else vocab.text_of(k), p) for k, p in ranked]
    else:
        chances = ways_on(vocab, unsettled, beginnings, logits, sampling)[: asked.top]
    likely = [{"text": text, "probability": p} for text, p in chances]
    return {
        "object": "next",
        "prompt": prompt.text,
        "next": likely,
        "nats": None if nats is None else nats[len(before) :],
    }


async def step(service: Service, asked: StepRequest) -> dict[str, Any]:
    """One step of one unit, in which the last character of a text is read."""
    lm = service.model.network
    if lm.cell not in CELLS:
        raise ApiError(400, f"prompt: steps are shown of {', '.join(CELLS)}, and this model is a {lm.cell}")
    _check(service, asked.layer, asked.name, asked.unit, "unit")
    prompt = await service.prompt(asked.prompt, asked.unknown, service.settings.max_traced)

    def stepping() -> Generator[None, None, UnitStep]:
        yield
        return unit_step(lm, np.array([BOUNDARY, *prompt.ids]), asked.layer, asked.unit)

    found = await service.engine.run(stepping())
    service.metrics.read.inc(len(prompt.ids))
    is_row = asked.layer == 0 and not lm.embedding_size
    return {
        "object": "step",
        "prompt": prompt.text,
        "read": service.model.vocab.text_of(prompt.ids[-1]) if prompt.ids and prompt.ids[-1] != BOUNDARY else None,
        "x": None if is_row else _rounded(found.x),
        "h": _rounded(found.h),
        "sums": [vars(one) for one in found.sums],
        "before": dict(found.before),
        "after": dict(found.after),
        "row": _rounded(found.layer[asked.name]),
    }


def _rounded(numbers: npt.NDArray[np.floating[Any]]) -> list[float]:
    rounded: list[float] = np.round(numbers, _STEP_DIGITS).tolist()
    return rounded


def _check(service: Service, layer: int, name: str, unit: int, field: str = "units") -> None:
    """`ApiError` where the model has no such layer, value or unit."""
    lm, names = service.model.network, service.value_names
    if layer >= lm.num_layers:
        raise ApiError(400, f"layer: the model has {lm.num_layers} layers, counted from 0", param="layer")
    if name not in names:
        raise ApiError(400, f"name: the values of this model are {' '.join(names)}", param="name")
    if unit >= lm.hidden_size:
        raise ApiError(400, f"{field}: a layer has {lm.hidden_size} units, counted from 0", param=field)


class Traces:
    """Makes and remembers traces."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept: OrderedDict[tuple[tuple[int, ...], int, str], npt.NDArray[np.floating[Any]]] = OrderedDict()

    async def values(self, asked: TraceRequest) -> dict[str, Any]:
        """The values of some units as the model reads a text from a zero state."""
        _check(self._service, asked.layer, asked.name, max(asked.units))
        prompt = await self._service.prompt(asked.prompt, asked.unknown, self._service.settings.max_traced)
        found = await self._trace(prompt.ids, asked.layer, asked.name)
        spread = found.std(axis=0) if len(found) else np.zeros(found.shape[1])
        return {
            "object": "trace",
            "prompt": prompt.text,
            "values": [np.round(found[:, unit].astype(float), _DIGITS).tolist() for unit in asked.units],
            "lively": np.argsort(-spread, kind="stable")[:_LIVELY].tolist(),
        }

    async def _trace(self, ids: list[int], layer: int, name: str) -> npt.NDArray[np.floating[Any]]:
        key = (tuple(ids), layer, name)
        if key not in self._kept:
            self._kept[key] = await self._service.engine.run(self._tracing(ids, layer, name))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def _tracing(self, ids: list[int], layer: int, name: str) -> Generator[None, None, npt.NDArray[np.floating[Any]]]:
        """One value of one layer, `[T H]`, a row for each id; a tenth of a second for the longest text."""
        model = self._service.model
        yield
        if not ids:
            return np.zeros((0, model.network.hidden_size))
        return trace(model.network, np.array([BOUNDARY, *ids], dtype=model.vocab.dtype), model.vocab)[name, layer]
