"""Data-parallel training in several processes, as `torchrun` starts them, and the plain case of one.

`ProcessGroup` tells a process which of the streams are its own, gathers numbers from all, adds up their gradients and
spreads the first one's weights. In one process, the plain
case, every method is trivial, and torch is not needed; `distributed` has the other case.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from storycell import threads
from storycell.errors import SettingsError
from storycell.language_model import Floats

Result = TypeVar("Result")


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

    def device(self, chosen: str) -> str:
        """The device of this process: with several GPUs, one each."""
        return chosen

    def exchange(self, *numbers: float) -> list[list[float]]:
        """What every process gave, in the order of their ranks; all have come this far when it returns."""
        return [list(numbers)]

    def add_up(self, values: Floats) -> None:
        """Put the sum of what all processes have in the place of `values`, of any shape; each gets the same bits."""

    def add_up_rows(self, rows: npt.NDArray[np.int64], values: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
        """The sum of everybody's `values [n D]` of `rows [n]`, rising: the rows that anybody has, and their sums."""
        return rows, values

    def take_from_first(self, values: Floats) -> None:
        """Put what the first process has in the place of `values`, of any shape."""

    def gather_states(self, mine: Floats, B: int) -> Floats:
        """Of a state `[L rows H]`, that of all streams `[L B H]` in the first process; in the others their own."""
        return mine

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Do some work that leaves files behind: one process of every machine first, then its others."""
        return work()

    def require_same(self, what: str, value: str) -> None:
        """Raise `ProcessError` unless all processes have the same value."""


def is_launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ
