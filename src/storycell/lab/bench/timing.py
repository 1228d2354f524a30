"""Fair timing of contestants: in turns within one run, after a warm-up, with median and spread (`Spread`).

Between two contestants there is a pause, because the threads of the one that ran last go on spinning for a while on the
cores that the next one needs; and every timing of a quick contestant follows an untimed run, so that the caches hold
its own data.
"""

import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from storycell import extras, threads

PAUSE_S = 0.02  # OpenMP's threads spin for some milliseconds
LEAST_S = 0.05  # a timing repeats its work until it lasts this long
SLOW_S = 0.5  # work that lasts longer evicts everything from the caches itself

Work = Callable[[], int]


@dataclass(frozen=True)
class Spread:
    """What was measured in several rounds: the median, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """The spread of some values, one at least."""
        return cls(statistics.median(values), min(values), max(values))


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Within, every contestant computes on so many threads when the calling thread runs it, torch's included.

    torch is imported first, where it is installed: one that is imported within would take every core.
    """
    if extras.is_installed("torch"):
        importlib.import_module("torch")
    with threads.computing_on(count, count):
        yield


def time_interleaved(contestants: Mapping[str, Work], rounds: int) -> dict[str, Spread]:
    """What each contestant does in a second, from `rounds` rounds in which each is timed once."""
    slow = {name: seconds(work) > SLOW_S for name, work in contestants.items()}

    def timing(name: str, work: Work) -> Callable[[], float]:
        def timed() -> float:
            if not slow[name]:
                work()
            return _rate(work)

        return timed

    timings = {name: timing(name, work) for name, work in contestants.items()}
    return in_turns(timings, rounds, lambda: time.sleep(PAUSE_S))


def in_turns(
    timings: Mapping[str, Callable[[], float]], rounds: int, between: Callable[[], object]
) -> dict[str, Spread]:
    """The values that each timing gives in `rounds` rounds; `between` is called before each."""
    values: dict[str, list[float]] = {name: [] for name in timings}
    names = list(timings)
    for _ in range(rounds):
        for name in names:
            between()
            values[name].append(timings[name]())
        names.reverse()  # so that nobody always follows the same neighbour
    return {name: Spread.of(found) for name, found in values.items()}


def seconds(task: Callable[[], object], times: int = 1) -> float:
    """Seconds a call, the mean of so many."""
    began = time.perf_counter()
    for _ in range(times):
        task()
    return (time.perf_counter() - began) / times


def _rate(work: Work) -> float:
    done, began = 0, time.perf_counter()
    while True:
        done += work()
        elapsed_s = time.perf_counter() - began
        if elapsed_s >= LEAST_S:
            return done / elapsed_s
