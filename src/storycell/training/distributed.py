"""Data-parallel training in several processes, as `torchrun` starts them: the one module that uses torch.distributed.

`ProcessGroup` tells a process which of the streams are its own, gathers numbers from all and averages gradients. One
process is the plain case, in which every method is trivial.

Nothing tells the others that a process failed. It ends, its connections close, and every other one stops within the
step with a sentence of its own; that holds for errors, for `kill -9` and for a lost machine.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from storycell import threads
from storycell.errors import ProcessError, SettingsError

PATIENCE = timedelta(hours=1)  # what the others wait for the first one at most, while it evaluates or reads the text

Result = TypeVar("Result")

# An engine whose connections have just failed must not be freed: it would wait, holding the GIL, for a
# thread that waits for the GIL to free its last message. So the last one lives until there is another.
_last: list[nn.Module] = []


class ProcessGroup:
    """The processes of one training, seen from one of them; here, from the only one."""

    rank, count = 0, 1  # this one's number, and how many there are on all machines
    local_rank, local_count = 0, 1  # the same on this machine

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, evaluates, samples and talks."""
        return self.rank == 0

    def rows(self, B: int) -> slice:
        """Which of B streams are this process's own; `SettingsError` if one of the processes would have none."""
        if self.count > B:
            raise SettingsError(
                f"{B} streams cannot be divided among {self.count} processes; give a larger --streams (and text long "
                "enough for it), or start fewer processes"
            )
        return self._rows_of(self.rank, B)

    def _rows_of(self, rank: int, B: int) -> slice:
        return slice(B * rank // self.count, B * (rank + 1) // self.count)

    def default_threads(self) -> int:
        """How many threads a training takes on this machine, all its processes together, if it was not told."""
        return threads.default()

    def threads(self, of_machine: int) -> int:
        """This process's share of the threads that the training takes on a machine."""
        return max(1, of_machine // self.local_count)

    def device(self, chosen: torch.device) -> torch.device:
        """The device of this process: with several GPUs, one each."""
        return chosen

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are the mean over all processes."""
        return model

    def exchange(self, *numbers: float) -> list[list[float]]:
        """What every process gave, in the order of their ranks; all have come this far when it returns."""
        return [list(numbers)]

    def gathered(self, mine: torch.Tensor, B: int) -> torch.Tensor:
        """Of a state `[L rows H]`, that of all streams `[L B H]` in the first process; in the others their own."""
        return mine

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Do some work that leaves files behind: one process of every machine first, then its others."""
        return work()

    def require_same(self, what: str, value: str) -> None:
        """Raise `ProcessError` unless all processes have the same value."""


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

    def device(self, chosen: torch.device) -> torch.device:
        """A GPU for each process of a machine; `SettingsError` where there are not enough."""
        if chosen.type == "cpu":
            return chosen
        there = torch.cuda.device_count() if chosen.type == "cuda" else 0
        if self.local_count > there or (chosen.index is not None and self.local_count > 1):
            raise SettingsError(
                f"{self.local_count} processes on this machine cannot share --device {chosen}: it has {there} of that "
                "kind to train on together, and each takes one; start fewer, or give --device cpu"
            )
        return torch.device(chosen.type, self.local_rank) if chosen.index is None else chosen

    def parallel(self, model: nn.Module) -> nn.Module:
        """Torch's own engine; it also gives every process the weights of the first."""
        device = next(model.parameters()).device
        devices = None if device.type == "cpu" else [device]
        _last[:] = [DistributedDataParallel(model, devices, gradient_as_bucket_view=True)]
        return _last[0]

    def exchange(self, *numbers: float) -> list[list[float]]:
        """As `Processes.exchange`, float64 all the way."""
        mine = torch.tensor(numbers, dtype=torch.float64, device="cpu")
        every = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(every, mine)
        return [one.tolist() for one in every]

    def gathered(self, mine: torch.Tensor, B: int) -> torch.Tensor:
        """As `Processes.gathered`, one process after the other: shares may differ in size."""
        mine = mine.cpu().contiguous()
        if not self.leads:
            dist.send(mine, 0)
            return mine
        parts = [mine]
        for rank in range(1, self.count):
            streams = len(range(B)[self._rows_of(rank, B)])
            parts.append(mine.new_empty(mine.shape[0], streams, mine.shape[2]))
            dist.recv(parts[-1], rank)
        return torch.cat(parts, dim=1)

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """As `Processes.in_turn`."""
        if self.local_rank == 0:
            result = work()
            self.exchange(0.0)
            return result
        self.exchange(0.0)
        return work()

    def require_same(self, what: str, value: str) -> None:
        """As `Processes.require_same`, by a hash of 48 bits."""
        mine = int.from_bytes(hashlib.blake2b(value.encode(), digest_size=6).digest(), "big")
        every = [int(number) for (number,) in self.exchange(float(mine))]
        odd = next((rank for rank, number in enumerate(every) if number != every[0]), None)
        if odd is not None:
            raise ProcessError(
                f"process {odd} has {what} other than process 0; give all processes the same command, and texts and "
                "run folders that are the same on every machine"
            )


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Within, the processes that torchrun started are connected; without torchrun there is this one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield ProcessGroup()
        return
    if not dist.is_available():
        raise ProcessError("this torch was built without torch.distributed: storycell trains in one process here")
    ours = not dist.is_initialized()  # a script that torchrun started may have joined them already
    try:
        if ours:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        yield DistributedGroup()
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise ProcessError(
                f"process {os.environ['RANK']} of {count} stops: the connection to another one is gone, which ended or "
                "was killed; what was saved is whole, and `storycell train --resume RUN` goes on from it"
            ) from None
        raise
    finally:
        if ours and dist.is_initialized():
            dist.destroy_process_group()
