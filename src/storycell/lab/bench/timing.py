"""Fair timing of contestants: in turns within one run, after a warm-up, with median and spread (`Rate`).

Between two contestants there is a pause, because the threads of the one that ran last go on spinning for a while on the
cores that the next one needs; and every timing of a quick contestant follows an untimed run, so that the caches hold
its own data.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

PAUSE_S = 0.02  # OpenMP's threads spin for some milliseconds
LEAST_S = 0.05  # a timing repeats its work until it lasts this long
SLOW_S = 0.5  # work that lasts longer evicts everything from the caches itself

Work = Callable[[], int]


@dataclass(frozen=True)
class Rate:
    """What a contestant does in a second: median, slowest and fastest round."""

    median: float
    slowest: float
    fastest: float


def interleaved(contestants: dict[str, Work], rounds: int) -> dict[str, Rate]:
    """The rate of each contestant, from `rounds` rounds in which each is timed once."""
    slow = {name: _seconds(work) > SLOW_S for name, work in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for _ in range(rounds):
        for name in names:
            time.sleep(PAUSE_S)
            if not slow[name]:
                contestants[name]()
            rates[name].append(_rate(contestants[name]))
        names.reverse()  # so that nobody always follows the same neighbour
    return {name: Rate(statistics.median(r), min(r), max(r)) for name, r in rates.items()}


def _seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _rate(work: Work) -> float:
    done, began = 0, time.perf_counter()
    while True:
        done += work()
        elapsed_s = time.perf_counter() - began
        if elapsed_s >= LEAST_S:
            return done / elapsed_s
