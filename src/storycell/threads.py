"""How many threads compute: what this process may use, and what the kernels and torch use for one Python thread.

torch is asked and set only where it has been imported already; nothing here imports it. `torch.set_num_threads` is a
setting of the whole process: threads that start later begin with it, so a count that one thread sets for a while may
stay with another for ever. `computing_on` changes the count of the calling thread alone, in the libraries under torch.
"""

import ctypes
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_HOSTS = ("libtorch_cpu.so", "libtorch_cpu.dylib", "libiomp5md.dll")  # what OpenMP's functions are found through


class _Here(threading.local):
    """What was asked for in the calling thread."""

    kernels: int | None = None


_here = _Here()


def cores(root: Path = Path("/")) -> int:
    """How many cores this process may keep busy: its affinity, at most a container's quota, rounded up."""
    share = quota(root)
    return _affinity() if share is None else max(1, min(_affinity(), math.ceil(share)))


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(root: Path = Path("/")) -> float | None:
    """How many cores' worth of time the process's cgroups allow it, as `docker --cpus` sets it; None: no limit.

    Affinity does not show it: more threads than that are all stopped for a part of every tenth of a second.
    """
    shares = [_share(folder) for folder in _cgroups(root)]
    return min((share for share in shares if share is not None), default=None)


def _cgroups(root: Path) -> Iterator[Path]:
    """The folders of the cgroups of versions 1 and 2 that this process is in, from within outwards.

    In a container they may be mounted without the path that the system outside gives them.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (mounts / controllers, mounts / "cpu") if controllers else (mounts,):
            inner = mount / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount))


def _share(cgroup: Path) -> float | None:
    try:
        if (both := cgroup / "cpu.max").exists():
            limit, period = both.read_text(encoding="ascii").split()
        else:
            limit, period = (
                (cgroup / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        return None if limit == "max" or int(limit) <= 0 else int(limit) / int(period)
    except (OSError, ValueError):
        return None


def default() -> int:
    """How many threads a computation takes that was not told: what was asked for, at most what `cores` allows.

    `OMP_NUM_THREADS` asks for it, and, where torch has been imported, what a program gave to `torch.set_num_threads`.
    """
    return min(_asked_count(), cores())


def use(count: int) -> None:
    """From now on the whole process computes on so many threads, a torch that is imported later too."""
    if (torch := _torch()) is None:
        os.environ["OMP_NUM_THREADS"] = str(count)
    else:
        torch.set_num_threads(count)


def for_kernels() -> int:
    """How many threads the kernels use: as `computing_on` says, otherwise what was asked for, within the quota."""
    return _here.kernels or min(_asked_count(), _quota_cores())


def _asked_count() -> int:
    """torch's count where it has been imported, otherwise what `OMP_NUM_THREADS` says, otherwise every core."""
    if (torch := _torch()) is not None:
        return int(torch.get_num_threads())
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else _affinity()  # the quota, in files, is read by callers


def _torch() -> Any:
    """torch, where it has been imported, and to the end."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_num_threads") else None


@cache
def _quota_cores() -> int:
    share = quota()
    return 1 << 20 if share is None else max(1, math.ceil(share))


class _Blas:
    """The OpenBLAS of numpy's wheels, which has one count of threads for the whole process."""

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, 0
        self.get, self.set = self._functions()

    @staticmethod
    def _functions() -> tuple[Callable[[], int], Callable[[int], object]]:
        for path in (Path(np.__file__).parent.parent / "numpy.libs").glob("*openblas*"):
            library = ctypes.CDLL(str(path))
            for begin, end in (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", "")):
                names = [f"{begin}openblas_{verb}_num_threads{end}" for verb in ("get", "set")]
                if all(hasattr(library, name) for name in names):
                    return getattr(library, names[0]), getattr(library, names[1])
        return lambda: 1, lambda count: None  # another library: macOS's Accelerate, a system's own

    def enter(self) -> None:
        with self._lock:
            if not self._users:
                self._before = self.get()
                self.set(1)
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self.set(self._before)


@cache
def _blas() -> _Blas:
    return _Blas()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, numpy's matrix products compute on the thread that calls them, whichever thread of the process that is.

    Products as small as a step's take many times as long on several threads where something else uses the cores, for
    the threads wait for each other without a pause. The last to leave puts the count back.
    """
    blas = _blas()
    blas.enter()
    try:
        yield
    finally:
        blas.leave()


@contextmanager
def computing_on(of_torch: int, of_kernels: int) -> Iterator[None]:
    """Within: torch computes on so many threads, and the kernels on so many, when this thread of Python calls them.

    Other threads see nothing of it, nor do those that start meanwhile. A torch whose OpenMP is out of reach keeps its
    count: one that is set for the whole process could not be put back while other threads do the same. So does a torch
    that is first imported within.
    """
    torch, kernels = _torch(), _here.kernels
    before = 0 if torch is None else torch.get_num_threads()
    _here.kernels = of_kernels
    of_mkl = _set(of_torch, of_torch) if before else 0
    try:
        yield
    finally:
        if before:
            _set(before, of_mkl)
        _here.kernels = kernels


def keep_to(count: int) -> None:
    """From now on torch and the kernels compute on so many threads when this thread of Python calls them."""
    _here.kernels = count
    if (torch := _torch()) is not None:
        torch.get_num_threads()  # now, for torch sets a new thread's count when it is first asked
        _set(count, count)


def _set(count: int, of_mkl: int) -> int:
    """Set OpenMP's count in this thread, and MKL's, where 0 is as many as OpenMP; returns what MKL had."""
    openmp = _openmp()
    if openmp is None:
        return 0
    openmp.omp_set_num_threads(count)
    set_mkl = getattr(openmp, "MKL_Set_Num_Threads_Local", None)
    return int(set_mkl(of_mkl)) if set_mkl else 0


@cache
def _openmp() -> ctypes.CDLL | None:
    """The library through which the calling thread's own count is set; None where torch does not go by it."""
    torch = _torch()
    before = torch.get_num_threads()
    for name in _HOSTS:
        try:
            openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name))
            openmp.omp_set_num_threads(before + 1)
        except (OSError, AttributeError):
            continue
        goes_by_it = torch.get_num_threads() == before + 1
        openmp.omp_set_num_threads(before)
        if goes_by_it:
            return openmp
    return None
