"""`POST /v1/completions`: the answer as one JSON object, or as server-sent events while the text comes.

A request's prompts become ids and places in the batch; jobs read the prompts; there is one stream for each choice,
whose slices go from the engine through a `Transcript`. That cuts at stop texts, names the finish, and keeps what is
told of each character in step with the text that is shown, held-back characters included.

Both kinds of answer are made from the same `Said`s. A whole answer's JSON grows in place (`GrowingChoice`): nothing
that is there is copied or dumped again, so a text of n characters takes n steps, and the event loop is never blocked
for long.
"""

import asyncio
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from storycell.data.vocab import Vocabulary
from storycell.generation.constraints import Constraint
from storycell.generation.sampler import Beginnings, Draw, Sampling, Stream, held_step, plain_step
from storycell.generation.text_stream import Pieces, Shown
from storycell.language_model import LanguageModel
from storycell.server.engine import Generation, Slice, StreamQueue
from storycell.server.errors import ApiError, as_api_error, error_body
from storycell.server.jobs import (
    SLICE,
    CharLogprobs,
    Surprises,
    Wanted,
    beginning,
    describe,
    going_on,
    hidden_part,
    reading,
    scoring,
    token_text,
)
from storycell.server.schemas import CompletionRequest
from storycell.server.service import Prompt, Service
from storycell.types import BOUNDARY

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Said:
    """A part of a text; the last part has a `finish`. `logprobs` and `nats` are None where they were not wanted."""

    index: int
    text: str
    logprobs: dict[str, list[Any]] | None
    nats: list[float] | None
    finish: Finish | None


def describe_part(
    vocab: Vocabulary,
    index: int,
    shown: Shown,
    known: list[CharLogprobs],
    wanted: Wanted,
    offset: int,
    finish: Finish | None,
    surprises: Surprises,
) -> Said:
    """A part of a text, with what is known of the ids it covers; `offset` is where the stream begins in the text."""
    logprobs: dict[str, list[Any]] | None = None
    if wanted.likeliest is not None:
        told = known[0].told if known else False
        new, offsets = known[told:], shown.offsets[told:]
        logprobs = {
            "tokens": [token_text(vocab, one.k) for one in new],
            "token_logprobs": [one.logprob for one in new],
            "top_logprobs": [{token_text(vocab, k): p for k, p in one.top} for one in new],
            "text_offset": [offset + at for at in offsets],
        }
    nats = None
    if wanted.nats:
        nats = surprises.take(known, [at - shown.start for at in shown.offsets], len(shown.text))
    return Said(index, shown.text, logprobs, nats, finish)


class Transcript:
    """`chars` counts the ids of the text so far, the prompt not included.

    Where a prompt ended within a piece, so many characters of it are `skipped`, and what follows has `surprises` of
    them. `drawn` are all ids, from where nothing was settled yet, if they are kept; `shown` counts characters.
    """

    def __init__(
        self,
        vocab: Vocabulary,
        generation: Generation,
        stops: list[str],
        offset: int,
        skipped: int = 0,
        surprises: Surprises | None = None,
        drawn: list[int] | None = None,
    ) -> None:
        self._vocab, self._offset = vocab, offset  # where the first character stands in the whole text
        self.generation = generation
        self._pieces = Pieces(vocab, stops, skipped)
        self._waiting: deque[CharLogprobs] = deque()  # of ids whose text is not shown yet
        self._surprises = surprises or Surprises()
        self.drawn, self.shown = drawn, 0
        self.done = False

    @property
    def chars(self) -> int:
        """How many ids the text covers so far."""
        return self._pieces.covered

    @property
    def stopped(self) -> bool:
        """Whether it was a stop text that ended it, so that the stream has generated more than is shown."""
        return self._pieces.stopped

    def take(self, piece: Slice) -> Said | None:
        """What can be said after another slice; None if it is nothing, or all has been said."""
        if self.done:
            return None
        shown = self._pieces.take(piece.ids)
        if piece.done:
            rest = self._pieces.rest()
            shown = Shown(shown.text + rest.text, shown.start, shown.offsets + rest.offsets)
        self.done = piece.done or self._pieces.stopped
        if self._pieces.stopped:
            self.generation.cancelled = True
        if self.drawn is not None:
            self.drawn += piece.ids
            self.shown += len(shown.text)
        self._forget_marks()
        self._waiting.extend(piece.known or ())
        known = [self._waiting.popleft() for _ in shown.offsets] if self._waiting else []
        if not (shown.text or self.done):
            return None
        finish = self._finish() if self.done else None
        wanted, offset = self.generation.wanted, self._offset
        return describe_part(self._vocab, piece.index, shown, known, wanted, offset, finish, self._surprises)

    def settle(self, before: str) -> tuple[list[int], str]:
        """The ids of the text that stay whatever follows, and the rest of it; it began with `before`, unsettled too."""
        assert self.drawn is not None
        if self.generation.stream.ended and not self.stopped:
            return [*self.drawn, BOUNDARY], ""
        text = (self._vocab.decode(self.drawn) or before)[: len(before) + self.shown]
        ids = self.drawn[: hidden_part(self._vocab, self.drawn, len(text) - len(self._vocab.settled(text)[1]))[0]]
        return ids, text[self._vocab.count_chars(ids) :]

    def _finish(self) -> Finish:
        return "stop" if self._pieces.stopped or self.generation.stream.ended else "length"

    def _forget_marks(self) -> None:
        """Keep the last copy of the stream that lies before everything which may still be cut off."""
        marks = self.generation.marks
        while marks is not None and len(marks) > 1 and marks[1][0] <= self._pieces.covered:
            marks.popleft()


def to_json(value: Any, *, ascii_only: bool = False) -> bytes:
    """The JSON of a value, in UTF-8 and without blanks; `ValueError` for what JSON has no number for."""
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"), allow_nan=False).encode()


class GrowingChoice:
    """`add` takes in what is said; `parts` gives the object."""

    def __init__(self) -> None:
        self.text = bytearray()  # without the quotation marks
        self._logprobs: dict[str, bytearray] | None = None  # lists without their brackets
        self._nats: bytearray | None = None
        self.finish: Finish | None = None

    def add(self, part: Said) -> None:
        """Take in another part of the text."""
        self.text += to_json(part.text)[1:-1]
        self.finish = part.finish
        if part.logprobs is not None:
            self._logprobs = self._logprobs or {name: bytearray() for name in part.logprobs}
            for name, grown in self._logprobs.items():
                _extend(grown, part.logprobs[name])
        if part.nats is not None:
            self._nats = bytearray() if self._nats is None else self._nats
            _extend(self._nats, part.nats)

    def parts(self, index: int, state: str | None) -> list[bytes | bytearray]:
        """The parts of the JSON object; `state` is the name of the state that was saved after the text."""
        found: list[bytes | bytearray] = [b'{"index":%d,"text":"' % index, self.text]
        found += [b'","finish_reason":', to_json(self.finish), b',"logprobs":']
        if self._logprobs is None:
            found.append(b"null")
        else:
            for number, (name, grown) in enumerate(self._logprobs.items()):
                found += [b'%b"%b":[' % (b"," if number else b"{", name.encode()), grown, b"]"]
            found.append(b"}")
        if self._nats is not None:
            found += [b',"nats":[', self._nats, b"]"]
        if state is not None:
            found += [b',"state":', to_json(state)]
        return [*found, b"}"]


def _extend(grown: bytearray, values: Sequence[Any]) -> None:
    if values:
        grown += b"," if grown else b""
        grown += to_json(values)[1:-1]


MAX_TOKENS = 500  # characters, where a request does not say; OpenAI's 16 would be three words
_SEEDS = 2**64
_LOG = logging.getLogger("storycell.server")
# Bytes of JSON that a character (an id) can take: of text, of its log-probability, of each likeliest, of its surprise
_TEXT_BYTES, _LOGPROB_BYTES, _LIKELIEST_BYTES, _NATS_BYTES = 6, 100, 42, 12


@dataclass(frozen=True)
class _Settled:
    """A stream that has read of a prompt what stays whatever follows, the rest, and how many characters there are."""

    stream: Stream
    rest: str
    chars: int


@dataclass
class _Begun:
    """How the end of a prompt goes on in one choice: the piece that reaches beyond it, if one does, and what is known.

    Of its characters so many are `skipped`, which are the prompt's; the ids before it lie `within` that.
    """

    ids: list[int] = field(default_factory=list)
    known: list[CharLogprobs] = field(default_factory=list)
    skipped: int = 0
    within: list[int] = field(default_factory=list)
    surprises: Surprises = field(default_factory=Surprises)
    echo: Said | None = None


def _without_first(part: Said) -> Said:
    """What is said of the first token of all, as OpenAI has it: nothing."""
    if part.logprobs is not None:
        for name in ("token_logprobs", "top_logprobs"):
            part.logprobs[name][:1] = [None]
    return part


class Answer:
    """One completion request on its way; `says` may be iterated once, within the places that were admitted for it.

    A kind of answer with another shape has its own names and choices.
    """

    ids, whole_name, part_name = "cmpl-", "text_completion", "text_completion"

    def __init__(
        self,
        service: Service,
        asked: CompletionRequest,
        prompts: list[Prompt],
        constraint: Constraint | None,
        network: LanguageModel,
    ) -> None:
        self._network = network  # the model, steered if that is asked for
        self._service, self.asked, self._prompts, self._constraint = service, asked, prompts, constraint
        self.sampling = _sampling(asked)
        vocab = service.model.vocab
        self.wanted = Wanted(asked.logprobs, asked.score, vocab if vocab.kind == "pieces" else None)
        self.n = asked.n or 1
        self.limit = MAX_TOKENS if asked.max_tokens is None else asked.max_tokens
        held = {(hold.name, hold.layer, hold.unit): hold.value for hold in asked.hold}
        is_steered = network is not service.model.network
        self._step = held_step(network, held) if held else plain_step(network) if is_steered else None
        self.stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        self._seed = secrets.randbits(32) if asked.seed is None else asked.seed
        self._began_at = time.monotonic()
        self._first = True
        self._transcripts: dict[int, Transcript] = {}
        self._settled: dict[int, _Settled] = {}  # by prompt
        self.states: dict[int, str] = {}  # names of saved states, by choice
        self.id = self.ids + secrets.token_hex(12)
        self.created = int(time.time())

    @property
    def streams(self) -> int:
        """How many places in the batch the request takes."""
        return len(self._prompts) * self.n

    @property
    def is_alone(self) -> bool:
        """Whether units are held, or the model is steered: then each text is computed by itself."""
        return self._step is not None

    @property
    def kept_bytes(self) -> int:
        """The most that may have to be kept until the answer is complete; a streamed one goes out as it comes."""
        if self.asked.stream:
            return 0
        vocab, echoed = self._service.model.vocab, self._prompts if self.asked.echo else []
        longest = int(vocab.lengths.max()) if self.wanted.pieces else 1
        written = len(self._prompts) * self.limit
        chars = sum(vocab.count_chars(prompt.ids) for prompt in echoed) + written * longest
        kept = (_TEXT_BYTES + _NATS_BYTES * self.wanted.nats) * chars
        if self.wanted.likeliest is not None:
            more = _TEXT_BYTES * (longest - 1)
            each = _LOGPROB_BYTES + more + (_LIKELIEST_BYTES + more) * self.wanted.likeliest
            kept += each * (sum(len(prompt.ids) for prompt in echoed) + written)
        return kept * self.n

    def usage(self) -> dict[str, int]:
        """Tokens read and generated so far: characters, bytes or pieces."""
        read = sum(len(prompt.ids) for prompt in self._prompts)
        written = sum(transcript.chars for transcript in self._transcripts.values())
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    async def says(self) -> AsyncGenerator[Said]:
        """The parts of all choices as they come; when the caller goes away, so do the streams."""
        outbox = self._service.engine.outbox(self.streams, self.wanted)
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
            self._service.engine.leave(transcript.generation for transcript in self._transcripts.values())

    async def _begin(self, number: int, prompt: Prompt, outbox: StreamQueue[Slice]) -> AsyncGenerator[Said]:
        """Read one prompt and let its choices join the batch; yields their echoes."""
        asked, service, vocab, run = self.asked, self._service, self._service.model.vocab, self._service.engine.run
        stream, behind, before = service.start(asked.state, self.sampling, asked.labels)
        ids, unsettled = await service.settle(prompt, before)
        rest = unsettled.text if unsettled else ""
        is_first = asked.state is None
        indices = range(number * self.n, (number + 1) * self.n)
        if asked.echo:
            async for echo in self._echo(ids, stream, indices, -len(before), is_first):
                yield echo
        else:
            await run(reading(self._network, stream, ids))
        self._settled[number] = _Settled(stream.copy(), rest, behind + vocab.count_chars(prompt.ids))
        is_first, start, beginnings = is_first and not ids, len(prompt.text) - len(rest), None
        if unsettled is not None and self.limit:
            beginnings = await run(beginning(self._network, stream, unsettled, self._step))
        elif unsettled is not None and asked.echo:
            async for echo in self._echo(unsettled.ids, stream, indices, start, is_first):
                yield echo
        service.metrics.read.inc(vocab.count_chars(prompt.ids))
        keeps_ids = asked.save_state and vocab.kind == "pieces"
        for k, index in enumerate(indices):
            forked = stream.copy()
            forked.draw = Draw((self._seed + k) % _SEEDS)
            if self._constraint is not None:
                forked.constraint, forked.constrained = self._constraint, self._constraint.start()
            marks: deque[tuple[int, Stream]] | None = deque() if asked.save_state and not keeps_ids else None
            generation = Generation(index, forked, self.limit, outbox, self.wanted, self._step, marks)
            begun = _Begun()
            if beginnings is not None:
                begun = self._heal(generation, beginnings, rest, start)
                if begun.echo is not None:
                    yield _without_first(begun.echo) if is_first else begun.echo
            self._transcripts[index] = Transcript(
                vocab,
                generation,
                self.stops,
                len(prompt.text) if asked.echo else 0,
                begun.skipped,
                begun.surprises,
                begun.within if keeps_ids else None,
            )
            if begun.ids or not self.limit:
                outbox.put(Slice(index, begun.ids, begun.known, generation.left <= 0), 0)
            if generation.left > 0:
                service.engine.join(generation)

    async def _echo(
        self, ids: list[int], stream: Stream, indices: range, start: int, is_first: bool
    ) -> AsyncGenerator[Said]:
        """Read a part of a prompt, moving `stream` along, and say it; a slice at a time, as a text that is generated.

        It begins at character `start` of the prompt; if that is less than 0, what is before the prompt is not said.
        """
        lm, vocab, run = self._network, self._service.model.vocab, self._service.engine.run
        unseen, cut = hidden_part(vocab, ids, -start) if start < 0 else (0, 0)
        pieces, surprises, waiting = Pieces(vocab, (), cut), Surprises(), list[CharLogprobs]()
        for at in range(0, len(ids), SLICE):
            read = ids[at : at + SLICE]
            skip = max(0, unseen - at)
            if self.wanted.anything:
                _, scored = await run(scoring(lm, stream, read, self.wanted))
                waiting += [one.cut(cut) if at + k == unseen else one for k, one in enumerate(scored)][skip:]
            else:
                await run(reading(lm, stream, read))
            shown = pieces.take(read[skip:])
            known, waiting = waiting[: len(shown.offsets)], waiting[len(shown.offsets) :]
            part = describe_part(vocab, 0, shown, known, self.wanted, max(0, start), None, surprises)
            if is_first and at == 0:
                part = _without_first(part)
            for index in indices:
                yield replace(part, index=index)

    def _heal(self, generation: Generation, beginnings: Beginnings, rest: str, start: int) -> "_Begun":
        """Draw how the `rest` of a prompt goes on, the pieces of which are not settled; it begins at `start` of it."""
        vocab, hidden = self._service.model.vocab, max(0, -start)  # characters of before the prompt
        beginnings.draw(generation.stream)
        ids = generation.stream.healed
        within, skipped = hidden_part(vocab, ids, len(rest))
        known = describe(beginnings.logits[: len(ids)], ids, self.wanted, None) if self.wanted.anything else []
        begun = _Begun(ids[within:], [one.cut(skipped) for one in known[within:]], skipped, ids[:within])
        generation.left -= len(begun.ids)
        if self.asked.echo and hidden < len(rest):
            unseen, cut = hidden_part(vocab, ids, hidden)
            told = [one if k else one.cut(cut) for k, one in enumerate(known[unseen:])]
            shown = Pieces(vocab, (), cut, len(rest) - hidden).take(ids[unseen:])
            begun.echo = describe_part(
                vocab, generation.index, shown, told, self.wanted, max(0, start), None, begun.surprises
            )
            begun.known = [replace(one, spelt=(), told=True) for one in begun.known]
        return begun

    async def _save(self, index: int) -> None:
        """Save the state after the text of a choice, as it is shown."""
        transcript, service, settled = self._transcripts[index], self._service, self._settled[index // self.n]
        generation, stream, rest, chars = transcript.generation, transcript.generation.stream, "", transcript.chars
        if transcript.drawn is not None:
            ids, rest = await asyncio.to_thread(transcript.settle, settled.rest)
            stream, chars = settled.stream.copy(), transcript.shown
            await service.engine.run(reading(self._network, stream, ids))
        elif transcript.stopped and generation.marks:
            written, stream = generation.marks[0]
            await service.engine.run(going_on(self._network, stream, transcript.chars - written))
        self.states[index] = service.slots.save(stream, settled.chars + chars, rest).name

    def _count_first(self) -> None:
        if self._first:
            self._first = False
            self._service.metrics.first_char_s.observe(time.monotonic() - self._began_at)

    # ---- the two shapes of an answer

    def head(self, name: str) -> dict[str, Any]:
        """What every object of the answer has."""
        return {
            "id": self.id,
            "object": name,
            "created": self.created,
            "model": self._service.model_id,
        }

    def choice_parts(self, index: int, choice: GrowingChoice) -> list[bytes | bytearray]:
        """The parts of a choice's JSON in a whole answer."""
        return choice.parts(index, self.states.get(index))

    def choices_of(self, part: Said) -> Iterator[dict[str, Any]]:
        """The choices that say a part in a streamed answer, each in an event of its own."""
        choice: dict[str, Any] = {"index": part.index, "text": part.text, "finish_reason": part.finish}
        choice["logprobs"] = part.logprobs
        if part.nats is not None:
            choice["nats"] = part.nats
        if part.finish and part.index in self.states:
            choice["state"] = self.states[part.index]
        yield choice

    async def whole(self) -> list[bytes | bytearray]:
        """The answer as one object: the parts of its JSON."""
        choices = [GrowingChoice() for _ in range(self.streams)]
        async for part in self.says():
            choices[part.index].add(part)
        parts: list[bytes | bytearray] = [to_json(self.head(self.whole_name))[:-1], b',"choices":[']
        for index, choice in enumerate(choices):
            parts += [b"," if index else b"", *self.choice_parts(index, choice)]
        return [*parts, b'],"usage":', to_json(self.usage()), b"}"]

    async def events(self) -> AsyncGenerator[bytes]:
        """The answer as server-sent events, `[DONE]` at the end; an error in between is an event, and the last.

        They are ASCII: some clients cut them at any of Unicode's line ends.
        """
        wants_usage = self.asked.stream_options is not None and self.asked.stream_options.include_usage
        head, begun = to_json(self.head(self.part_name), ascii_only=True)[:-1], False
        tail = b',"usage":null}\n\n' if wants_usage else b"}\n\n"
        try:
            async for part in self.says():
                for choice in self.choices_of(part):
                    yield b'data: %b,"choices":[%b]%b' % (head, to_json(choice, ascii_only=True), tail)
                begun = True
        except Exception as error:
            if not begun:  # it can still have its status
                raise
            _LOG.error("a streamed answer was broken off", exc_info=error)
            stated = as_api_error(error)
            yield b"data: %b\n\n" % to_json(
                error_body(stated.status, stated.message, stated.param, stated.code), ascii_only=True
            )
            return
        if wants_usage:
            yield b'data: %b,"choices":[],"usage":%b}\n\n' % (head, to_json(self.usage()))
        yield b"data: [DONE]\n\n"


async def answer(service: Service, asked: CompletionRequest, kind: type[Answer] = Answer) -> Answer:
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
    if asked.save_state and asked.steer is not None:
        raise ApiError(400, "a steered text cannot save its state; ask for the one or the other", param="steer")
    texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    if not texts:
        raise ApiError(400, "prompt is an empty list; give at least one text", param="prompt")
    if (count := len(texts) * (asked.n or 1)) > settings.max_streams:
        most = f"{settings.max_streams:,}"
        raise ApiError(
            400, f"the request asks for {count:,} texts; this server generates {most} at once", param="prompt"
        )
    total = sum(map(len, texts))
    if total > settings.max_prompt:
        raise ApiError(
            413, f"the prompts have {total:,} characters; at most {settings.max_prompt:,} are read", param="prompt"
        )
    prompts = [await service.prompt(text, asked.unknown, settings.max_prompt) for text in texts]
    if asked.state is not None:
        service.slots.find(asked.state)
    service.header(asked.labels)
    limit = MAX_TOKENS if asked.max_tokens is None else asked.max_tokens
    made = kind(service, asked, prompts, await service.constraint(asked, limit), await service.network(asked.steer))
    if asked.save_state:
        service.slots.require_room(made.streams)
    if made.kept_bytes > settings.max_answer_bytes:
        raise ApiError(
            400,
            f"the answer can become {made.kept_bytes:,} bytes long; at most {settings.max_answer_bytes:,} are put "
            'together before they are sent: ask with "stream": true, or for less of max_tokens, n and logprobs',
            param="max_tokens",
        )
    return made


def _sampling(asked: CompletionRequest) -> Sampling:
    """The request's parameters that `Sampling` has too, where they are given."""
    given = {field.name: getattr(asked, field.name, None) for field in fields(Sampling)}
    return Sampling(**{name: value for name, value in given.items() if value is not None})
