"""`/v1/states`: save what the model remembers after a text, look at it, fork it, delete it."""

from typing import Any

from storycell.generation.sampler import Sampling
from storycell.server.jobs import reading
from storycell.server.schemas import StateRequest
from storycell.server.service import Service, Slot


async def save(service: Service, asked: StateRequest) -> dict[str, Any]:
    """Read a prompt, from the start or on from a saved state, and keep the state after it."""
    service.slots.require_room(1)
    prompt = await service.prompt(asked.prompt, asked.unknown, service.settings.max_prompt)
    stream, behind, before = service.start(asked.state, Sampling())
    ids, unsettled = await service.settle(prompt, before)
    await service.engine.run(reading(service.model.network, stream, ids))
    chars = service.model.vocab.count_chars(prompt.ids)
    service.metrics.read.inc(chars)
    return describe(service.slots.save(stream, behind + chars, unsettled.text if unsettled else ""))


def fork(service: Service, name: str) -> dict[str, Any]:
    """The same state under a second name, which expires and is deleted by itself."""
    slot = service.slots.find(name)
    return describe(service.slots.save(slot.stream, slot.chars, slot.rest))


def describe(slot: Slot) -> dict[str, Any]:
    """A slot as clients see it."""
    return {
        "id": slot.name,
        "object": "state",
        "chars": slot.chars,
        "created": int(slot.created_at),
        "expires_at": int(slot.expires_at),
    }
