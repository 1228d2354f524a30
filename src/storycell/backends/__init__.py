"""What computes the cells over whole chunks, and the one function that chooses.

A backend takes inputs `[B T D]`, a state and the weights of every layer, and gives the outputs of the last layer
`[B T H]` and the final state. All compute the same; `reference` is the oracle. An explicit backend that cannot serve
raises `BackendError` and says why; only `auto` chooses, and its reason is kept to be shown.
"""

from storycell.backends.backend import Backend
from storycell.backends.reference import ReferenceBackend
from storycell.backends.torch import TorchBackend
from storycell.errors import BackendError

__all__ = ["Backend", "ReferenceBackend", "TorchBackend", "choose", "names"]

_BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (TorchBackend(), ReferenceBackend())}


def names() -> list[str]:
    """The names that can be asked for, `auto` first."""
    return ["auto", *_BACKENDS]


def choose(name: str, cell: str) -> tuple[Backend, str]:
    """The backend to run `cell` with, and the reason in a few words. `name` is `auto` or a backend's name."""
    if name == "auto":
        for backend in _BACKENDS.values():
            if (obstacle := backend.obstacle(cell)) is None:
                return backend, backend.merit
        raise BackendError(f"no backend can compute the cell {cell!r}: {obstacle}")
    if name not in _BACKENDS:
        raise BackendError(f"there is no backend {name!r}; the backends are {', '.join(names())}")
    if (obstacle := _BACKENDS[name].obstacle(cell)) is not None:
        raise BackendError(f"the backend {name} cannot compute this: {obstacle}; use --backend auto")
    return _BACKENDS[name], "asked for"
