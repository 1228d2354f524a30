"""Several processes, as `torchrun` starts them: all that uses torch.distributed. it is imported late.

Nothing tells the others that a process failed. It ends, its connections close, and every other one stops within the
step with a sentence of its own; that holds for errors, for `kill -9` and for a lost machine.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from storycell import threads
from storycell.errors import ProcessError, SettingsError
from storycell.language_model import Floats
from storycell.training.processes import ProcessGroup, Result

_Number = TypeVar("_Number", np.float32, np.int64)

PATIENCE = timedelta(hours=1)  # what the others wait for the first one at most, while it evaluates or reads the text

# An engine whose connections have just failed must not be freed: it would wait, holding the GIL, for a
# thread that waits for the GIL to free its last message. So the last one lives until there is another.
_last: list[nn.Module] = []
# The same goes for numpy's memory that a message was made of.
_last_shared: list[torch.Tensor] = []


def parallel(model: nn.Module) -> nn.Module:
    """The model whose gradients are the mean over all processes; every process gets the weights of the first."""
    device = next(model.parameters()).device
    devices = None if device.type == "cpu" else [device]
    _last[:] = [DistributedDataParallel(model, devices, gradient_as_bucket_view=True)]
    return _last[0]


def _shared(values: Floats) -> torch.Tensor:
    _last_shared[:] = [torch.from_numpy(values)]
    return _last_shared[0]


def _gather(mine: npt.NDArray[_Number], counts: list[int]) -> list[npt.NDArray[_Number]]:
    """What every process has, of which `counts` says how many rows that are; as many are sent by all."""
    sent = torch.zeros((max(counts), *mine.shape[1:]), dtype=torch.from_numpy(mine).dtype, device="cpu")
    sent[: len(mine)] = torch.from_numpy(mine)
    every = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(every, sent)
    return [one[:count].numpy() for one, count in zip(every, counts, strict=True)]


class DistributedGroup(ProcessGroup):
    """One of several processes, joined to the others."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_count = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def default_threads(self) -> int:
        """As many as the processes of this machine take by `threads.default`, or every core.

        One a process says nothing: torchrun sets OMP_NUM_THREADS to that wherever it was not set.
        """
        each = torch.get_num_threads()
        return threads.cores() if each == 1 else min(each * self.local_count, threads.cores())

    def device(self, chosen: str) -> str:
        """A GPU for each process of a machine; `SettingsError` where there are not enough."""
        device = torch.device(chosen)
        if device.type == "cpu":
            return chosen
        there = torch.cuda.device_count() if device.type == "cuda" else 0
        if self.local_count > there or (device.index is not None and self.local_count > 1):
            raise SettingsError(
                f"{self.local_count} processes on this machine cannot share --device {chosen}: it has {there} of that "
                "kind to train on together, and each takes one; start fewer, or give --device cpu"
            )
        return f"{device.type}:{self.local_rank}" if device.index is None else chosen

    def exchange(self, *numbers: float) -> list[list[float]]:
        """As `ProcessGroup.exchange`, float64 all the way."""
        mine = torch.tensor(numbers, dtype=torch.float64, device="cpu")
        every = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(every, mine)
        return [one.tolist() for one in every]

    def add_up(self, values: Floats) -> None:
        """As `ProcessGroup.add_up`."""
        dist.all_reduce(_shared(values))

    def add_up_rows(self, rows: npt.NDArray[np.int64], values: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
        """As `ProcessGroup.add_up_rows`: everybody gets everybody's rows, and adds them up in the order of ranks."""
        counts = [int(count) for (count,) in self.exchange(float(len(rows)))]
        every_rows, every_values = _gather(rows, counts), _gather(values, counts)
        union = np.unique(np.concatenate(every_rows))
        total = np.zeros((len(union), values.shape[1]), np.float32)
        for its_rows, its_values in zip(every_rows, every_values, strict=True):
            total[np.searchsorted(union, its_rows)] += its_values
        return union, total

    def take_from_first(self, values: Floats) -> None:
        """As `ProcessGroup.take_from_first`."""
        dist.broadcast(_shared(values), 0)

    def gather_states(self, mine: Floats, B: int) -> Floats:
        """As `ProcessGroup.gather_states`, one process after the other: shares may differ in size."""
        tensor = torch.from_numpy(np.ascontiguousarray(mine))
        if not self.leads:
            dist.send(tensor, 0)
            return mine
        parts = [tensor]
        for rank in range(1, self.count):
            streams = len(range(B)[self._rows_of(rank, B)])
            parts.append(tensor.new_empty(tensor.shape[0], streams, tensor.shape[2]))
            dist.recv(parts[-1], rank)
        return torch.cat(parts, dim=1).numpy()

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """As `ProcessGroup.in_turn`."""
        if self.local_rank == 0:
            result = work()
            self.exchange(0.0)
            return result
        self.exchange(0.0)
        return work()

    def require_same(self, what: str, value: str) -> None:
        """As `ProcessGroup.require_same`, by a hash of 48 bits."""
        mine = int.from_bytes(hashlib.blake2b(value.encode(), digest_size=6).digest(), "big")
        every = [int(number) for (number,) in self.exchange(float(mine))]
        odd = next((rank for rank, number in enumerate(every) if number != every[0]), None)
        if odd is not None:
            raise ProcessError(
                f"process {odd} has {what} other than process 0; give all processes the same command, and texts and "
                "run folders that are the same on every machine"
            )


@contextmanager
def connected() -> Iterator[DistributedGroup]:
    """Within, the processes that torchrun started are connected."""
    if not dist.is_available():
        raise ProcessError("this torch was built without torch.distributed: storycell trains in one process here")
    ours = not dist.is_initialized()  # a script that torchrun started may have joined them already
    try:
        if ours:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        group = DistributedGroup()
        group.exchange(0.0)  # who refuses at once may not be gone before the others are connected: they are to say why
        yield group
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            rank, count = os.environ["RANK"], os.environ["WORLD_SIZE"]
            raise ProcessError(
                f"process {rank} of {count} stops: the connection to another one is gone, which ended or was killed; "
                "what was saved is whole, and `storycell train --resume RUN` goes on from it"
            ) from None
        raise
    finally:
        if ours and dist.is_initialized():
            dist.destroy_process_group()
