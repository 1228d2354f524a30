"""The engine: the one thread that computes. It generates for all streams in one batch, slice by slice, with jobs in
between.

A stream joins and leaves the batch between two slices. What it generates depends on its own state and seed alone, so
nobody can tell from a text who else was served. Anything else that takes time with the model (reading a prompt,
scoring, tracing) is a job: a generator that yields after each slice of work. The thread takes turns between the batch
and the jobs, so a prompt of 100,000 characters delays the others by one slice at a time, and no lock around the model
is needed.

Slices reach their request's coroutine through a `StreamQueue`. It is bounded from the other side: the engine looks at
`waiting`, which it may read from its own thread, and leaves a stream alone while its reader is behind; so nothing here
ever blocks or drops.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from storycell.generation.sampler import Step, Stream, advance
from storycell.generation.slicing import Pace
from storycell.language_model import LanguageModel
from storycell.server.jobs import CharLogprobs, Wanted, describe

T = TypeVar("T")


class StreamQueue(Generic[T]):
    """`put` and `fail` are called on the event loop; `on_room` is told when a full box has been emptied."""

    def __init__(self, capacity: int, on_room: Callable[[], None]) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self._filled = asyncio.Event()
        self._error: Exception | None = None
        self._on_room = on_room
        self.capacity = capacity
        self.put_in = self.taken_out = 0  # characters; the first is the engine's to count, before the item arrives here

    @property
    def waiting(self) -> int:
        """How many characters have been generated and not been taken."""
        return self.put_in - self.taken_out

    @property
    def full(self) -> bool:
        """Whether the reader is too far behind to generate more."""
        return self.waiting >= self.capacity

    def put(self, item: T, chars: int) -> None:
        """Add an item that stands for `chars` characters."""
        self._items.append((item, chars))
        self._filled.set()

    def fail(self, error: Exception) -> None:
        """Let the reader meet `error` after what is in the box."""
        self._error = error
        self._filled.set()

    async def take(self) -> T:
        """The next item, once it is there."""
        while not self._items:
            if self._error is not None:
                raise self._error
            self._filled.clear()
            await self._filled.wait()
        item, chars = self._items.popleft()
        was_full = self.full
        self.taken_out += chars
        if was_full and not self.full:
            self._on_room()
        return item


R = TypeVar("R")
Job = Generator[None, None, R]  # yields between slices of work, returns its result

_CAPACITY = 1_024  # characters that a stream may be ahead of its reader; so much fewer as more is told of each
SLICE_S = 0.06  # seconds of computing that a slice aims at
LEAST, MOST = 8, 32  # characters of one stream in one slice; each slice is an event for each stream
FIRST = 4  # of a stream that has generated nothing yet, so that its reader sees something soon


@dataclass(frozen=True)
class Slice:
    """What one stream generated in one slice: ids, what is known of each if asked for, and whether it is its last."""

    index: int
    ids: list[int]
    known: list[CharLogprobs] | None
    done: bool


@dataclass(eq=False)
class Generation:
    """One stream of one request, while it is being generated."""

    index: int
    stream: Stream
    left: int
    outbox: StreamQueue[Slice]
    wanted: Wanted  # what to report of each character
    step: Step | None = None  # advances this stream by itself instead of in the batch
    marks: deque[tuple[int, Stream]] | None = (
        None  # copies of the stream by characters generated, where they are wanted
    )
    chars: int = 0
    cancelled: bool = False


@dataclass(eq=False)
class _RunningJob:
    steps: Job[Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    cancelled: bool = False


@dataclass
class Measure:
    """What the engine counts; read by the metrics."""

    streams: int = 0
    chars_written: int = 0
    busy_s: float = 0.0
    observe_slice_s: Callable[[float], None] = field(default=lambda elapsed_s: None)


class Engine:
    """Owns the model from `start` to `stop`; the other methods are called on the event loop."""

    def __init__(self, lm: LanguageModel, count_chars: Callable[[list[int]], int] = len) -> None:
        self._lm, self._pace, self._count_chars = lm, Pace(SLICE_S, LEAST, MOST), count_chars
        self._arrivals: deque[Generation | _RunningJob] = deque()
        self._generations: list[Generation] = []
        self._jobs: deque[_RunningJob] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="storycell-engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.measure = Measure()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to work for the coroutines of `loop`."""
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """End after the slice at hand."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def outbox(self, streams: int, wanted: Wanted) -> StreamQueue[Slice]:
        """A box for the slices of a request with that many streams; what it holds is bounded in bytes too."""
        ahead = max(MOST, _CAPACITY // (1 + (wanted.likeliest or 0)))
        return StreamQueue(ahead * streams, self._wake.set)

    def join(self, generation: Generation) -> None:
        """Let a stream join the batch; it leaves by itself, or by `leave`."""
        self._arrivals.append(generation)
        self._wake.set()

    def leave(self, generations: Iterable[Generation]) -> None:
        """Take streams out of the batch; no more of them is generated after the slice at hand."""
        for generation in generations:
            generation.cancelled = True
        self._wake.set()

    async def run(self, steps: Job[R]) -> R:
        """Do a job; when the caller is cancelled, so is the job."""
        loop = asyncio.get_running_loop()
        job = _RunningJob(steps, loop, loop.create_future())
        self._arrivals.append(job)
        self._wake.set()
        try:
            result: R = await job.future
            return result
        finally:
            job.cancelled = True

    # ---- below: in the engine's own thread

    def _work(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except (
                Exception
            ) as error:  # a bug of the engine itself: nobody may wait for ever, nor the next be turned away
                self._fail(self._generations, error)
                for job in self._jobs:
                    self._tell(job.loop, _reject, job.future, error)
                self._jobs.clear()

    def _turn(self) -> None:
        self._wake.clear()  # before looking, so that what comes while we look is not slept over
        self._admit()
        worked = self._run_jobs()
        if not (self._generate_slice() or worked):
            self._wake.wait()

    def _admit(self) -> None:
        while self._arrivals:
            arrival = self._arrivals.popleft()
            if isinstance(arrival, Generation):
                self._generations.append(arrival)
            else:
                self._jobs.append(arrival)

    def _run_jobs(self) -> bool:
        """One slice of each job in turn, for as long as a slice of the batch takes."""
        worked, end = False, time.monotonic() + SLICE_S
        while self._jobs and (not worked or time.monotonic() < end):
            worked = True
            job = self._jobs.popleft()
            try:
                if job.cancelled:
                    job.steps.close()
                    continue
                next(job.steps)
            except StopIteration as finished:
                self._tell(job.loop, _resolve, job.future, finished.value)
            except Exception as error:
                self._tell(job.loop, _reject, job.future, error)
            else:
                self._jobs.append(job)
        return worked

    def _generate_slice(self) -> bool:
        """Advance every stream whose reader keeps up; False if there was none."""
        self._generations = [
            generation for generation in self._generations if not (generation.cancelled or _is_finished(generation))
        ]
        self.measure.streams = len(self._generations)
        ready = [generation for generation in self._generations if not generation.outbox.full]
        if not ready:
            return False
        slice_s = 0.0
        for chars, group in _groups(ready, self._pace.chars(len(ready))):
            began = time.monotonic()
            for generation in group:
                if generation.marks is not None:
                    generation.marks.append((generation.chars, generation.stream.copy()))
            deliveries = self._advance(group, chars)
            elapsed_s = time.monotonic() - began
            slice_s += elapsed_s
            if group[0].step is None:
                self._pace.learn(len(group), chars, elapsed_s)
            if self._loop is not None:
                self._tell(self._loop, _deliver, deliveries)
        self.measure.busy_s += slice_s
        self.measure.observe_slice_s(slice_s)
        return True

    def _advance(self, group: list[Generation], chars: int) -> list[tuple[StreamQueue[Slice], Slice]]:
        """Generate `chars` characters of every stream of a group that one call can advance."""
        streams, first = [generation.stream for generation in group], group[0]
        try:
            results = advance(self._lm, streams, chars, logits=first.wanted.anything, step=first.step)
        except Exception as error:
            if len(group) > 1:  # one may be at fault; the call has left all as they were, so each is tried by itself
                return [delivery for generation in group for delivery in self._advance([generation], chars)]
            self._fail(group, error)
            return []
        deliveries = []
        for generation, result in zip(group, results, strict=True):
            try:
                deliveries.append(self._slice(generation, result))
            except Exception as error:
                self._fail([generation], error)
        return deliveries

    def _slice(self, generation: Generation, result: Any) -> tuple[StreamQueue[Slice], Slice]:
        ids, wanted = result.ids, generation.wanted
        known = describe(result.logits, ids, wanted, generation.stream.sampling) if wanted.anything else None
        generation.chars += len(ids)
        generation.left -= len(ids)
        generation.outbox.put_in += len(ids)
        self.measure.chars_written += self._count_chars(ids)
        return generation.outbox, Slice(generation.index, ids, known, _is_finished(generation))

    def _fail(self, generations: Iterable[Generation], error: Exception) -> None:
        """Let those who wait for these texts learn of an error; the texts are given up."""
        for generation in generations:
            if not generation.cancelled:
                generation.cancelled = True
                if self._loop is not None:
                    self._tell(self._loop, generation.outbox.fail, error)

    def _tell(self, loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to be told
            loop.call_soon_threadsafe(function, *arguments)


def _is_finished(generation: Generation) -> bool:
    return generation.left <= 0 or generation.stream.ended


def _groups(ready: Sequence[Generation], chars: int) -> list[tuple[int, list[Generation]]]:
    """The streams that one call can advance, with the length of their slice; those with a reader who has seen
    nothing yet come first, and are short."""
    groups: dict[Any, list[Generation]] = {}
    for generation in sorted(ready, key=lambda one: one.chars > 0):
        length = min(FIRST if generation.chars == 0 else chars, generation.left)
        alone = id(generation) if generation.step is not None else None
        groups.setdefault((length, generation.wanted.anything, alone), []).append(generation)
    return [(length, group) for (length, _, _), group in groups.items()]


def _deliver(deliveries: list[tuple[StreamQueue[Slice], Slice]]) -> None:
    for outbox, piece in deliveries:
        outbox.put(piece, len(piece.ids))


def _resolve(future: "asyncio.Future[Any]", value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _reject(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
