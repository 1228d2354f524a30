"""What all endpoints share: the model, the engine, the saved states, the limits; and what they all do with a prompt.

In: parsed requests. Out: prompts as ids, streams to go on from, places in the batch. Whatever a client asks for too
much of is refused here.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storycell.api import Model
from storycell.errors import UnknownCharacterError
from storycell.inspector import Walker
from storycell.sampler import Sampling, Stream
from storycell.server.engine import Engine
from storycell.server.errors import ApiError
from storycell.server.metrics import Metrics
from storycell.server.schemas import Unknown
from storycell.server.settings import ServerSettings
from storycell.server.slots import Slots

_LONG = 10_000  # characters whose translation to ids is worth a thread


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it."""

    text: str
    ids: list[int]


class Service:
    """One for each server."""

    def __init__(self, model: Model, settings: ServerSettings) -> None:
        self.model, self.settings = model, settings
        self.engine = Engine(model.lm)
        self.slots = Slots(settings.max_slots, settings.slot_expiry_s)
        self.metrics = Metrics(self.engine.measure, self.slots)
        self.model_id = model.name
        walker = Walker(model.lm)
        self.value_names, self.holds = list(walker.names), walker.can_hold
        self._streams = self._held = self._kept_bytes = 0

    def card(self) -> dict[str, Any]:
        """What `/v1/models` says of the model."""
        lm, config = self.model.lm, self.model.config
        return {
            "id": self.model_id,
            "object": "model",
            "created": int(datetime.fromisoformat(config.made_at).timestamp()),
            "owned_by": "storycell",
            "cell": lm.cell,
            "layers": lm.num_layers,
            "hidden": lm.hidden_size,
            "values": self.value_names,
            "holds": self.holds,
            "parameters": self.model.params,
            "prompt": self.model.default_prompt,
            "max_prompt": self.settings.max_prompt,
            "max_traced": self.settings.max_traced,
        }

    def require_model(self, name: str | None) -> None:
        """Raise unless this is the model that is served."""
        if name is not None and name != self.model_id:
            raise ApiError(
                404, f"there is no model {name[:80]!r} here; this server has {self.model_id!r}", code="model_not_found"
            )

    async def prompt(self, text: str, unknown: Unknown, most: int) -> Prompt:
        """A prompt's ids; `ApiError` where it is too long or the model does not know its characters."""
        if len(text) > most:
            raise ApiError(413, f"the prompt has {len(text):,} characters; at most {most:,} are read", param="prompt")
        try:
            if len(text) > _LONG:
                ids, read = await asyncio.to_thread(self.model.vocab.prompt_ids, text, unknown)
            else:
                ids, read = self.model.vocab.prompt_ids(text, unknown)
        except UnknownCharacterError as error:
            said = str(error).rpartition("; ")[0]  # what comes after it speaks of flags
            advice = 'leave them out, or say "unknown": "replace" or "skip"'
            raise ApiError(400, f"{said}; {advice}", param="prompt", code="unknown_character") from None
        if len(ids) > most:
            raise ApiError(413, f"the prompt has {len(ids):,} bytes; at most {most:,} are read", param="prompt")
        return Prompt(read, ids)

    def start(self, state: str | None, sampling: Sampling) -> tuple[Stream, int]:
        """A stream to read a prompt into, and how many characters it has behind it: a new one, or a saved state's."""
        if state is None:
            return Stream(sampling, 0), 0
        slot = self.slots.find(state)
        stream = slot.stream.copy()
        stream.sampling, stream.ended = sampling, False
        return stream, slot.chars

    @contextmanager
    def admitted(self, streams: int, held: bool) -> Iterator[None]:
        """Within: that many places in the batch are taken; `ApiError` 429 where there are not enough."""
        settings = self.settings
        if streams > settings.max_streams or (held and streams > settings.max_held_streams):
            most = settings.max_held_streams if held else settings.max_streams
            raise ApiError(
                400, f"the request asks for {streams:,} texts; this server writes {most:,} at once", param="n"
            )
        if self._streams + streams > settings.max_streams or (
            held and self._held + streams > settings.max_held_streams
        ):
            raise _busy("the server is writing as many texts as it can")
        self._streams += streams
        self._held += streams * held
        try:
            yield
        finally:
            self._streams -= streams
            self._held -= streams * held

    @contextmanager
    def kept(self, answer_bytes: int) -> Iterator[None]:
        """Within: an answer of up to that size may be kept until it is complete; `ApiError` 429 if too many are."""
        if self._kept_bytes + answer_bytes > self.settings.max_kept_bytes:
            raise _busy("the server keeps as many long answers as it can")
        self._kept_bytes += answer_bytes
        try:
            yield
        finally:
            self._kept_bytes -= answer_bytes


def _busy(reason: str) -> ApiError:
    return ApiError(429, f"{reason}; try again in a moment", code="rate_limit_exceeded", headers={"Retry-After": "1"})
