"""`Service`: what all routes share (the model, the engine, saved states, limits, metrics), and what they do with a
prompt.

Prompts become ids, streams to go on from, and places in the batch; what a client asks for too much of is refused here.

`Slots` keep the state of a model after a text under a name that cannot be guessed. A recurrent model's whole memory of
a text is a few kilobytes, however long the text: so a client can read a long prompt once and go on from it many times.
A slot never changes; going on from one leaves it as it is, so a fork is a second name. There is no list of slots:
whoever knows a name may use it, as with a link, so names must not leak to clients that did not make them.

`Metrics` is the text of `/metrics`, for Prometheus. Paths are counted by route and not as they were sent, so a client
cannot make up new series. Each server has a registry of its own.
"""

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from storycell.api import Model
from storycell.engine.cells import CELLS
from storycell.errors import StorycellError, UnknownCharacterError
from storycell.generation import gbnf
from storycell.generation.constraints import Constraint, Rules, header_of
from storycell.generation.generate import find_unsettled
from storycell.generation.sampler import Sampling, Stream, Unsettled, read
from storycell.inspect.steering import Direction, steer
from storycell.language_model import LanguageModel
from storycell.naming import show_name
from storycell.server.engine import Engine, Measure
from storycell.server.errors import ApiError
from storycell.server.schemas import CompletionRequest, DrawnRequest, Steer, StructuredOutputs, Unknown
from storycell.server.security import ServerSettings

_KEPT_DOSES = 4  # steered models, each of the model's own size
_NAME_BYTES = 18  # 144 random bits


@dataclass(frozen=True)
class Slot:
    """A stream as it stood, how many characters it had read and generated, and when it goes (Unix seconds).

    `rest` is the end of that text, which the stream has not read, where more text may change the pieces of it.
    """

    name: str
    stream: Stream
    chars: int
    created_at: float
    expires_at: float
    rest: str = ""


class Slots:
    """At most `capacity` slots, each for `expiry_s` seconds after it was last used."""

    def __init__(self, capacity: int, expiry_s: float, clock: Callable[[], float] = time.time) -> None:
        self._capacity, self._expiry_s, self._clock = capacity, expiry_s, clock
        self._slots: dict[str, Slot] = {}  # the one that expires first comes first

    def __len__(self) -> int:
        self._expire()
        return len(self._slots)

    def require_room(self, count: int) -> None:
        """Raise unless `count` more slots can be kept."""
        if len(self) + count > self._capacity:
            raise ApiError(
                429,
                f"{self._capacity:,} states are kept already; delete one, or wait until one expires",
                code="too_many_states",
                headers={"Retry-After": "60"},
            )

    def save(self, stream: Stream, chars: int, rest: str = "") -> Slot:
        """Keep a copy of a stream under a new name."""
        self.require_room(1)
        now, kept = self._clock(), stream.copy()
        if kept.state is not None:  # what the batch gives are views: one would keep the states of all streams alive
            kept.state = {name: value.copy() for name, value in kept.state.items()}
        kept.constraint = kept.constrained = None  # of the text that was asked for, not of what follows
        slot = Slot("state-" + secrets.token_urlsafe(_NAME_BYTES), kept, chars, now, now + self._expiry_s, rest)
        self._slots[slot.name] = slot
        return slot

    def find(self, name: str) -> Slot:
        """The slot of that name, which now lives for another `expiry_s`."""
        self._expire()
        slot = self._slots.pop(name, None)
        if slot is None:
            raise ApiError(
                404, "there is no such state; it was deleted, has expired, or never was", code="no_such_state"
            )
        slot = replace(slot, expires_at=self._clock() + self._expiry_s)
        self._slots[name] = slot
        return slot

    def delete(self, name: str) -> None:
        """Forget a slot."""
        self.find(name)
        del self._slots[name]

    def _expire(self) -> None:
        now = self._clock()
        while self._slots and (first := next(iter(self._slots.values()))).expires_at <= now:
            del self._slots[first.name]


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SLICE_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Metrics:
    """Counters of one server."""

    def __init__(self, measure: Measure, slots: Slots) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "storycell_requests", "Requests answered, by route and status", ["route", "status"], registry=self._registry
        )
        self.read = Counter("storycell_chars_read", "Characters of prompts read", registry=self._registry)
        self.first_char_s = Histogram(
            "storycell_first_char_seconds",
            "From a request to its first character",
            buckets=_FIRST_S,
            registry=self._registry,
        )
        slices = Histogram(
            "storycell_slice_seconds", "Computing one slice of the batch", buckets=_SLICE_S, registry=self._registry
        )
        measure.observe_slice_s = slices.observe
        streams = Gauge("storycell_streams", "Texts being generated", registry=self._registry)
        streams.set_function(lambda: measure.streams)
        states = Gauge("storycell_states", "States that are kept", registry=self._registry)
        states.set_function(lambda: len(slots))
        self._registry.register(_Written(measure))

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Written(Collector):
    """The engine's own counts; it has no time to lock a counter for each slice."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def collect(self) -> list[Metric]:
        return [
            CounterMetricFamily("storycell_chars_written", "Characters generated", self._measure.chars_written),
            CounterMetricFamily("storycell_busy_seconds", "Time spent computing the batch", self._measure.busy_s),
        ]


_SAID = 600  # characters of an error that may repeat what was sent
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
        of_pieces = model.vocab.kind == "pieces"
        self.engine = Engine(model.network, model.vocab.count_chars) if of_pieces else Engine(model.network)
        self.slots = Slots(settings.max_slots, settings.slot_expiry_s)
        self.metrics = Metrics(self.engine.measure, self.slots)
        self.model_id = model.name
        self.value_names, self.holds = list(model.network.value_names), model.network.can_hold
        self._direction = None if settings.steer is None else Direction.load(settings.steer)
        self._steered: OrderedDict[tuple[float, bool], LanguageModel] = OrderedDict()
        self._steering = asyncio.Lock()  # one is steered at a time: each is a whole model
        if self._direction is not None:
            steer(model.network, self._direction, 1.0)  # which refuses what does not fit
        self._streams = self._held = self._kept_bytes = 0

    def card(self) -> dict[str, Any]:
        """What `/v1/models` says of the model."""
        lm, config = self.model.network, self.model.config
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
            "labels": self.model.labels,
            "has_tunes": config.text.has_tunes,
            "vocabulary": self.model.vocab.kind,
            "max_prompt": self.settings.max_prompt,
            "max_traced": self.settings.max_traced,
            "steers": None if self._direction is None else show_name(self._direction.about),
            "steps": lm.cell in CELLS,
        }

    async def network(self, asked: Steer | None) -> LanguageModel:
        """The model, steered if that is asked for; the latest few doses are kept. `ApiError` without a direction."""
        if asked is None or not asked.dose:
            return self.model.network
        direction, key = self._direction, (asked.dose, asked.random)
        if direction is None:
            raise ApiError(400, "steer: this server was started without a direction", param="steer")
        async with self._steering:
            if key not in self._steered:
                along = direction.random(0) if asked.random else direction
                self._steered[key] = await asyncio.to_thread(steer, self.model.network, along, asked.dose)
                while len(self._steered) > _KEPT_DOSES:
                    self._steered.popitem(last=False)
            self._steered.move_to_end(key)
            return self._steered[key]

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

    async def settle(self, prompt: Prompt, before: str) -> tuple[list[int], Unsettled | None]:
        """The ids of a prompt that stay whatever follows, and the rest; `before` is that of what was read before it."""
        vocab = self.model.vocab
        if vocab.kind == "pieces" and len(prompt.text) > _LONG:
            return await asyncio.to_thread(find_unsettled, vocab, prompt.ids, prompt.text, before)
        return find_unsettled(vocab, prompt.ids, prompt.text, before)

    def header(self, labels: Mapping[str, str]) -> list[int]:
        """The ids of the labels that a text begins with; `ApiError` where the model does not know them."""
        known = self.model.labels
        usual = {name: values[0] if values else "" for name, values in known.items()}
        try:
            found = header_of(self.model.vocab, known, {**usual, **labels})
        except StorycellError as error:
            raise ApiError(400, str(error), param="labels") from None
        return found if isinstance(found, list) else []

    async def constraint(self, asked: CompletionRequest, most: int) -> Constraint | None:
        """What the texts of a request must be like, of at most `most` characters; `ApiError` where none can be."""
        found = _patterns(asked)
        if len(found) > 1:
            names = " and ".join(name for name, _ in found)
            raise ApiError(400, f"{names} both say what a text must be like; give one of them", param=found[1][0])
        if not found or not most:
            return None
        [(name, pattern)] = found
        if asked.logprobs is not None:
            raise ApiError(400, f"logprobs are those of a text without a {name}; leave one of the two out", param=name)
        try:
            return await asyncio.to_thread(self._constraint, pattern, most)
        except StorycellError as error:
            said = str(error)
            raise ApiError(400, said if len(said) <= _SAID else f"{said[:_SAID]} …", param=name) from None

    def _constraint(self, pattern: Callable[[], str], most: int) -> Constraint | None:
        return Rules(match=pattern()).constraint(self.model.vocab, most, self.model.training_ids)

    def start(
        self, state: str | None, sampling: Sampling, labels: Mapping[str, str] | None = None
    ) -> tuple[Stream, int, str]:
        """A stream to read a prompt into, and how many characters it has behind it: a new one, or a saved state's.

        A new one has read its labels, which do not count. Last what of those characters is still to be read.
        """
        if state is None:
            stream = Stream(sampling, 0)
            read(self.model.network, stream, self.header(labels or {}))
            return stream, 0, ""
        slot = self.slots.find(state)
        stream = slot.stream.copy()
        stream.sampling, stream.ended = sampling, False
        return stream, slot.chars, slot.rest

    @contextmanager
    def admitted(self, streams: int, is_alone: bool) -> Iterator[None]:
        """Within: that many places in the batch are taken; `ApiError` 429 where there are not enough."""
        settings = self.settings
        if streams > settings.max_streams or (is_alone and streams > settings.max_held_streams):
            most = settings.max_held_streams if is_alone else settings.max_streams
            raise ApiError(
                400, f"the request asks for {streams:,} texts; this server generates {most:,} at once", param="n"
            )
        if self._streams + streams > settings.max_streams or (
            is_alone and self._held + streams > settings.max_held_streams
        ):
            raise _busy("the server is generating as many texts as it can")
        self._streams += streams
        self._held += streams * is_alone
        try:
            yield
        finally:
            self._streams -= streams
            self._held -= streams * is_alone

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


def _patterns(asked: DrawnRequest) -> list[tuple[str, Callable[[], str]]]:
    """What a request says that its texts must be like: each parameter's name, and what gives its regular expression."""
    outputs = asked.structured_outputs or StructuredOutputs()
    regexes = {
        "regex": asked.regex,
        "guided_regex": asked.guided_regex,
        "structured_outputs.regex": outputs.regex,
    }
    choices = {"guided_choice": asked.guided_choice, "structured_outputs.choice": outputs.choice}
    grammars = {
        "grammar": asked.grammar,
        "guided_grammar": asked.guided_grammar,
        "structured_outputs.grammar": outputs.grammar,
    }
    found: list[tuple[str, Callable[[], str]]] = []
    found += [(name, partial(str, text)) for name, text in regexes.items() if text is not None]
    found += [(name, partial(_one_of, texts)) for name, texts in choices.items() if texts is not None]
    found += [(name, partial(gbnf.pattern_of, text)) for name, text in grammars.items() if text is not None]
    return found


def _one_of(texts: list[str]) -> str:
    return "|".join(map(re.escape, texts))


def _busy(reason: str) -> ApiError:
    return ApiError(429, f"{reason}; try again in a moment", code="rate_limit_exceeded", headers={"Retry-After": "1"})
