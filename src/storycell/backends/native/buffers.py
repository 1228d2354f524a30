"""Large arrays kept between training steps: fresh ones would be paid for page by page, every step.

A pass takes what it needs and gives it back when its backward pass has used it, so two forward passes before two
backward passes simply hold two sets.
"""

import threading
from collections import defaultdict

import torch

_MOST_KINDS = 64  # of size and type; more have come by than any one training needs, so all are dropped
_MOST_OF_A_KIND = 8

_Key = tuple[tuple[int, ...], torch.dtype]


class Buffers:
    """A pool of tensors by shape and type; safe to use from several threads."""

    def __init__(self) -> None:
        self._free: dict[_Key, list[torch.Tensor]] = defaultdict(list)
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of that shape, holding whatever it held."""
        with self._lock:
            free = self._free[(shape, dtype)]
            if free:
                return free.pop()
        with torch.inference_mode(False):  # training may take next what an evaluation takes first
            return torch.empty(shape, dtype=dtype)

    def give(self, tensors: list[torch.Tensor]) -> None:
        """Take tensors back; nobody may use them after that."""
        with self._lock:
            if len(self._free) > _MOST_KINDS:
                self._free.clear()
            for tensor in tensors:
                free = self._free[(tuple(tensor.shape), tensor.dtype)]
                if len(free) < _MOST_OF_A_KIND:
                    free.append(tensor)


buffers = Buffers()
