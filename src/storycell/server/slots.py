"""State slots: what the model remembers after a text, kept under a name that cannot be guessed.

A recurrent model's whole memory of a text is a few kilobytes, however long the text: so a client can read a long
prompt once and go on from it many times. A slot never changes. Going on from one leaves it as it is, so a fork is a
second name.

There is no list of slots. Whoever knows a name may use it, as with a link, so names must not
leak to clients that did not make them.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from storycell.sampler import Stream
from storycell.server.errors import ApiError

_NAME_BYTES = 18  # 144 random bits


@dataclass(frozen=True)
class Slot:
    """A stream as it stood, how many characters it had read and written, and when it goes (Unix seconds)."""

    name: str
    stream: Stream
    chars: int
    created_at: float
    expires_at: float


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

    def save(self, stream: Stream, chars: int) -> Slot:
        """Keep a copy of a stream under a new name."""
        self.require_room(1)
        now, kept = self._clock(), stream.copy()
        if kept.state is not None:  # what the batch gives are views: one would keep the states of all streams alive
            kept.state = {name: value.clone() for name, value in kept.state.items()}
        slot = Slot("state-" + secrets.token_urlsafe(_NAME_BYTES), kept, chars, now, now + self._expiry_s)
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
        slot = Slot(slot.name, slot.stream, slot.chars, slot.created_at, self._clock() + self._expiry_s)
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
