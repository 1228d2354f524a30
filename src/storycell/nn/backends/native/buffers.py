"""A pool of buffers: memory lent to passes, and back as soon as no tensor refers to it.

Fresh pages would have to be mapped at every step. A lent tensor is an ordinary one: autograd may save it, hooks may
drop it, and nobody has to give anything back. Idle and lent memory together never exceed what was lent at once, and
buffers that are no longer asked for are freed.
"""

import math
import threading
import weakref
from collections import deque

import torch

_SMALLEST = 1 << 16  # bytes; the allocator is quick with what is smaller
_SLACK = 1.25  # a request takes an idle block that is at most so many times as large
_WINDOW = 1024  # requests after which the peak is counted anew, and idle blocks that none of them took are let go


class Buffers:
    """A pool of blocks of memory on the CPU; safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: deque[tuple[int, torch.Tensor]] = (
            deque()
        )  # number of the request it last served, block; oldest first
        self._returned: deque[torch.Tensor] = deque()  # not yet in `_idle`: finalizers run at any time, in any thread
        self._lent = self._peak = self._recent_peak = self._requests = 0
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of that shape, holding whatever it held."""
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALLEST or not self._lock.acquire(blocking=False):  # never wait: a fork may have copied the lock
            return torch.empty(shape, dtype=dtype, device="cpu")
        try:
            block = self._block(size)
        finally:
            self._lock.release()
        memory = block.numpy()[:size]
        weakref.finalize(memory, self._returned.append, block).atexit = False
        return torch.from_numpy(memory).view(dtype).view(shape)

    @property
    def lent_bytes(self) -> int:
        """What tensors refer to, as of the last request."""
        return self._lent

    @property
    def idle_bytes(self) -> int:
        """What is held and lent to nobody."""
        return sum(len(block) for _, block in self._idle) + sum(len(block) for block in self._returned)

    def _block(self, size: int) -> torch.Tensor:
        """An idle block of at least that size, or a fresh one."""
        while self._returned:
            block = self._returned.popleft()
            self._lent -= len(block)
            self._idle.append((self._requests, block))
        self._requests += 1
        if self._requests % _WINDOW == 0:
            self._peak, self._recent_peak = self._recent_peak, self._lent
        fitting = [entry for entry in self._idle if size <= len(entry[1]) <= size * _SLACK]
        chosen = min(fitting, key=lambda entry: len(entry[1]), default=None)
        found = None if chosen is None else chosen[1]
        self._idle = deque(entry for entry in self._idle if entry is not chosen)
        self._lent += size if found is None else len(found)
        self._recent_peak = max(self._recent_peak, self._lent)
        self._peak = max(self._peak, self._recent_peak)
        idle = sum(len(other) for _, other in self._idle)
        while self._idle and (self._lent + idle > self._peak or self._idle[0][0] < self._requests - _WINDOW):
            idle -= len(self._idle.popleft()[1])
        return torch.empty(size, dtype=torch.uint8, device="cpu") if found is None else found


buffers = Buffers()
