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
        """How many characters have been written and not been taken."""
        return self.put_in - self.taken_out

    @property
    def full(self) -> bool:
        """Whether the reader is too far behind to write more."""
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
Chore = Generator[None, None, R]  # yields between slices of work, returns its result

_CAPACITY = 1_024  # characters that a stream may be ahead of its reader; so much fewer as more is told of each
SLICE_S = 0.06  # seconds of computing that a slice aims at
LEAST, MOST = 8, 32  # characters of one stream in one slice; each slice is an event for each stream
FIRST = 4  # of a stream that has written nothing yet, so that its reader sees something soon


@dataclass(frozen=True)
class Slice:
    """What one stream wrote in one slice: ids, what is known of each if asked for, and whether it is its last."""

    index: int
    ids: list[int]
    known: list[CharLogprobs] | None
    done: bool


@dataclass(eq=False)
class Writing:
    """One stream of one request, while it is being generated."""

    index: int
    stream: Stream
    left: int
    outbox: StreamQueue[Slice]
    wanted: Wanted  # what to report of each character
    step: Step | None = None  # writes this stream by itself instead of in the batch
    marks: deque[tuple[int, Stream]] | None = None  # copies of the stream by characters written, where they are wanted
    written: int = 0
    cancelled: bool = False


@dataclass(eq=False)
class _Errand:
    chore: Chore[Any]
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

    def __init__(self, lm: LanguageModel) -> None:
        self._lm, self._pace = lm, Pace(SLICE_S, LEAST, MOST)
        self._arrivals: deque[Writing | _Errand] = deque()
        self._writings: list[Writing] = []
        self._errands: deque[_Errand] = deque()
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

    def write(self, writing: Writing) -> None:
        """Let a stream join the batch; it leaves by itself, or by `leave`."""
        self._arrivals.append(writing)
        self._wake.set()

    def leave(self, writings: Iterable[Writing]) -> None:
        """Take streams out of the batch; no more of them is written after the slice at hand."""
        for writing in writings:
            writing.cancelled = True
        self._wake.set()

    async def run(self, chore: Chore[R]) -> R:
        """Do a chore; when the caller is cancelled, so is the chore."""
        loop = asyncio.get_running_loop()
        errand = _Errand(chore, loop, loop.create_future())
        self._arrivals.append(errand)
        self._wake.set()
        try:
            result: R = await errand.future
            return result
        finally:
            errand.cancelled = True

    # ---- below: in the engine's own thread

    def _work(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except (
                Exception
            ) as error:  # a bug of the engine itself: nobody may wait for ever, nor the next be turned away
                self._fail(self._writings, error)
                for errand in self._errands:
                    self._tell(errand.loop, _reject, errand.future, error)
                self._errands.clear()

    def _turn(self) -> None:
        self._wake.clear()  # before looking, so that what comes while we look is not slept over
        self._admit()
        worked = self._run_errands()
        if not (self._write_slice() or worked):
            self._wake.wait()

    def _admit(self) -> None:
        while self._arrivals:
            arrival = self._arrivals.popleft()
            if isinstance(arrival, Writing):
                self._writings.append(arrival)
            else:
                self._errands.append(arrival)

    def _run_errands(self) -> bool:
        """One slice of each chore in turn, for as long as a slice of the batch takes."""
        worked, end = False, time.monotonic() + SLICE_S
        while self._errands and (not worked or time.monotonic() < end):
            worked = True
            errand = self._errands.popleft()
            try:
                if errand.cancelled:
                    errand.chore.close()
                    continue
                next(errand.chore)
            except StopIteration as finished:
                self._tell(errand.loop, _resolve, errand.future, finished.value)
            except Exception as error:
                self._tell(errand.loop, _reject, errand.future, error)
            else:
                self._errands.append(errand)
        return worked

    def _write_slice(self) -> bool:
        """Advance every stream whose reader keeps up; False if there was none."""
        self._writings = [writing for writing in self._writings if not (writing.cancelled or _is_finished(writing))]
        self.measure.streams = len(self._writings)
        ready = [writing for writing in self._writings if not writing.outbox.full]
        if not ready:
            return False
        slice_s = 0.0
        for chars, group in _groups(ready, self._pace.chars(len(ready))):
            began = time.monotonic()
            for writing in group:
                if writing.marks is not None:
                    writing.marks.append((writing.written, writing.stream.copy()))
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

    def _advance(self, group: list[Writing], chars: int) -> list[tuple[StreamQueue[Slice], Slice]]:
        """Write `chars` characters of every stream of a group that can be written in one call."""
        streams, first = [writing.stream for writing in group], group[0]
        try:
            results = advance(self._lm, streams, chars, logits=first.wanted.anything, step=first.step)
        except Exception as error:
            if len(group) > 1:  # one may be at fault; the call has left all as they were, so each is tried by itself
                return [delivery for writing in group for delivery in self._advance([writing], chars)]
            self._fail(group, error)
            return []
        deliveries = []
        for writing, result in zip(group, results, strict=True):
            try:
                deliveries.append(self._slice(writing, result))
            except Exception as error:
                self._fail([writing], error)
        return deliveries

    def _slice(self, writing: Writing, result: Any) -> tuple[StreamQueue[Slice], Slice]:
        ids, wanted = result.ids, writing.wanted
        known = describe(result.logits, ids, wanted, writing.stream.sampling) if wanted.anything else None
        writing.written += len(ids)
        writing.left -= len(ids)
        writing.outbox.put_in += len(ids)
        self.measure.chars_written += len(ids)
        return writing.outbox, Slice(writing.index, ids, known, _is_finished(writing))

    def _fail(self, writings: Iterable[Writing], error: Exception) -> None:
        """Let those who wait for these texts learn of an error; the texts are given up."""
        for writing in writings:
            if not writing.cancelled:
                writing.cancelled = True
                if self._loop is not None:
                    self._tell(self._loop, writing.outbox.fail, error)

    def _tell(self, loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to be told
            loop.call_soon_threadsafe(function, *arguments)


def _is_finished(writing: Writing) -> bool:
    return writing.left <= 0 or writing.stream.ended


def _groups(ready: Sequence[Writing], chars: int) -> list[tuple[int, list[Writing]]]:
    """The streams that can be written by one call, with the length of their slice; those with a reader who has seen
    nothing yet come first, and are short."""
    groups: dict[Any, list[Writing]] = {}
    for writing in sorted(ready, key=lambda one: one.written > 0):
        length = min(FIRST if writing.written == 0 else chars, writing.left)
        alone = id(writing) if writing.step is not None else None
        groups.setdefault((length, writing.wanted.anything, alone), []).append(writing)
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
