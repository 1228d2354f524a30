"""From the engine's thread to one coroutine: what has been written for a request and not yet been taken.

In: items with the number of characters they stand for, put by the event loop on the engine's behalf. Out: an
asynchronous iterator. The box is bounded from the other side: the engine looks at `waiting`, which it may read from
its own thread, and leaves a stream alone while its reader is behind; so nothing here ever blocks or drops.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
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
