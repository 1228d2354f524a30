"""`POST /v1/completions`: the answer as one JSON object, or as server-sent events while the text comes.

The way of a request: prompts to ids, places in the batch, prompts read by chores, one stream for each choice, slices
from the outbox through transcripts. Both kinds of answer are made from the same `Said`s.
"""

import json
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from storycell.sampler import Draw, Sampling
from storycell.server.chores import going_on, reading, scoring
from storycell.server.engine import Slice, Writing
from storycell.server.errors import ApiError
from storycell.server.holding import held_advance
from storycell.server.logprobs import CharLogprobs
from storycell.server.outbox import Outbox
from storycell.server.schemas import CompletionRequest
from storycell.server.service import Prompt, Service
from storycell.server.transcript import Said, Transcript, arranged

MAX_TOKENS = 500  # characters, where a request does not say; OpenAI's 16 would be three words
_SEEDS = 2**64


class Answer:
    """One completion request on its way; `says` may be iterated once, within the places that were admitted for it."""

    def __init__(self, service: Service, asked: CompletionRequest, prompts: list[Prompt]) -> None:
        self._service, self.asked, self._prompts = service, asked, prompts
        self.sampling = _sampling(asked)
        self.n = asked.n or 1
        self.limit = MAX_TOKENS if asked.max_tokens is None else asked.max_tokens
        held = {(hold.name, hold.layer, hold.unit): hold.value for hold in asked.hold}
        self._advance = held_advance(service.model.lm, held) if held else None
        self._stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        self._seed = secrets.randbits(32) if asked.seed is None else asked.seed
        self._began_at = time.monotonic()
        self._first = True
        self._transcripts: dict[int, Transcript] = {}
        self.states: dict[int, str] = {}  # names of saved states, by choice
        self.id = "cmpl-" + secrets.token_hex(12)
        self.created = int(time.time())

    @property
    def streams(self) -> int:
        """How many places in the batch the request takes."""
        return len(self._prompts) * self.n

    @property
    def held(self) -> bool:
        """Whether units are held."""
        return self._advance is not None

    def usage(self) -> dict[str, int]:
        """Characters read and written so far."""
        read = sum(len(prompt.ids) for prompt in self._prompts)
        written = sum(transcript.chars for transcript in self._transcripts.values())
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    async def says(self) -> AsyncGenerator[Said]:
        """The parts of all choices as they come; when the caller goes away, so do the streams."""
        outbox = self._service.engine.outbox(self.streams)
        try:
            for number, prompt in enumerate(self._prompts):
                async for echo in self._begin(number, prompt, outbox):
                    yield echo
            unfinished = sum(not transcript.done for transcript in self._transcripts.values())
            while unfinished:
                piece = await outbox.take()
                if (said := self._transcripts[piece.index].take(piece)) is None:
                    continue
                if said.finish:
                    unfinished -= 1
                    if self.asked.save_state:
                        await self._save(said.index)
                self._count_first()
                yield said
        finally:
            self._service.engine.leave(transcript.writing for transcript in self._transcripts.values())

    async def _begin(self, number: int, prompt: Prompt, outbox: Outbox[Slice]) -> AsyncGenerator[Said]:
        """Read one prompt and let its choices join the batch; yields their echoes."""
        asked, service = self.asked, self._service
        stream, self._behind = service.start(asked.state, self.sampling)
        scored: list[CharLogprobs] = []
        if asked.echo and asked.logprobs is not None:
            stream, scored = await service.engine.run(scoring(service.model.lm, stream, prompt.ids, asked.logprobs))
        else:
            await service.engine.run(reading(service.model.lm, stream, prompt.ids))
        service.metrics.read.inc(len(prompt.ids))
        for k in range(self.n):
            index = number * self.n + k
            forked = stream.copy()
            forked.draw = Draw((self._seed + k) % _SEEDS)
            writing = Writing(
                index,
                forked,
                self.limit,
                outbox,
                asked.logprobs,
                self._advance,
                deque() if asked.save_state else None,
            )
            transcript = Transcript(service.model.vocab, writing, self._stops, len(prompt.text) if asked.echo else 0)
            self._transcripts[index] = transcript
            if asked.echo:
                logprobs = None if asked.logprobs is None else arranged(service.model.vocab, scored, 0)
                yield Said(index, prompt.text, logprobs, None)
            if self.limit:
                service.engine.write(writing)
            else:
                outbox.put(Slice(index, [], None if asked.logprobs is None else [], True), 0)

    async def _save(self, index: int) -> None:
        """Save the state after the text of a choice, as it is shown."""
        transcript, slots = self._transcripts[index], self._service.slots
        writing, stream = transcript.writing, transcript.writing.stream
        if transcript.stopped and writing.marks:
            written, stream = writing.marks[0]
            lm = self._service.model.lm
            await self._service.engine.run(going_on(lm, stream, transcript.chars - written))
        prompt = self._prompts[index // self.n]
        self.states[index] = slots.save(stream, self._behind + len(prompt.ids) + transcript.chars).name

    def _count_first(self) -> None:
        if self._first:
            self._first = False
            self._service.metrics.first_char_s.observe(time.monotonic() - self._began_at)

    # ---- the two shapes of an answer

    def head(self) -> dict[str, Any]:
        """What every object of the answer has."""
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self._service.model_id,
        }

    async def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        choices: list[dict[str, Any]] = [
            {"index": index, "text": "", "finish_reason": None, "logprobs": None} for index in range(self.streams)
        ]
        texts: list[list[str]] = [[] for _ in choices]
        async for said in self.says():
            choice = choices[said.index]
            texts[said.index].append(said.text)
            choice["finish_reason"] = said.finish
            choice["logprobs"] = _joined(choice["logprobs"], said.logprobs)
        for index, choice in enumerate(choices):
            choice["text"] = "".join(texts[index])
            choice |= {"state": self.states[index]} if index in self.states else {}
        return self.head() | {"choices": choices, "usage": self.usage()}

    async def events(self) -> AsyncGenerator[bytes]:
        """The answer as server-sent events, `[DONE]` at the end."""
        wants_usage = self.asked.stream_options is not None and self.asked.stream_options.include_usage
        head = json.dumps(self.head(), separators=(",", ":"))[:-1].encode()
        tail = b',"usage":null}\n\n' if wants_usage else b"}\n\n"
        async for said in self.says():
            choice: dict[str, Any] = {
                "index": said.index,
                "text": said.text,
                "finish_reason": said.finish,
                "logprobs": said.logprobs,
            }
            if said.finish and said.index in self.states:
                choice["state"] = self.states[said.index]
            yield b'data: %b,"choices":[%b]%b' % (head, json.dumps(choice, separators=(",", ":")).encode(), tail)
        if wants_usage:
            usage = json.dumps(self.usage(), separators=(",", ":")).encode()
            yield b'data: %b,"choices":[],"usage":%b}\n\n' % (head, usage)
        yield b"data: [DONE]\n\n"


async def answer(service: Service, asked: CompletionRequest) -> Answer:
    """Check a request against this model and these limits; nothing is computed yet."""
    service.require_model(asked.model)
    settings = service.settings
    if asked.max_tokens is not None and asked.max_tokens > settings.max_tokens:
        raise ApiError(400, f"max_tokens = {asked.max_tokens}: at most {settings.max_tokens:,}", param="max_tokens")
    if asked.best_of not in (None, asked.n or 1):
        raise ApiError(400, "best_of is not supported; leave it out, or ask for n texts and choose", param="best_of")
    if asked.stream_options is not None and not asked.stream:
        raise ApiError(400, 'stream_options goes with "stream": true', param="stream_options")
    if asked.save_state and asked.hold:
        raise ApiError(400, "a text with held units cannot save its state; ask for the one or the other", param="hold")
    texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    if not texts:
        raise ApiError(400, "prompt is an empty list; give at least one text", param="prompt")
    if (count := len(texts) * (asked.n or 1)) > settings.max_streams:
        most = f"{settings.max_streams:,}"
        raise ApiError(400, f"the request asks for {count:,} texts; this server writes {most} at once", param="prompt")
    total = sum(map(len, texts))
    if total > settings.max_prompt:
        raise ApiError(
            413, f"the prompts have {total:,} characters; at most {settings.max_prompt:,} are read", param="prompt"
        )
    prompts = [await service.prompt(text, asked.unknown, settings.max_prompt) for text in texts]
    if asked.state is not None:
        service.slots.find(asked.state)
    made = Answer(service, asked, prompts)
    if asked.save_state:
        service.slots.require_room(made.streams)
    return made


def _sampling(asked: CompletionRequest) -> Sampling:
    usual = Sampling()
    temperature = usual.temperature if asked.temperature is None else asked.temperature
    return Sampling(temperature, asked.top_k, asked.top_p, asked.min_p)


def _joined(before: dict[str, Any] | None, more: dict[str, Any] | None) -> dict[str, Any] | None:
    if before is None or more is None:
        return more if before is None else before
    return {name: before[name] + more[name] for name in before}
