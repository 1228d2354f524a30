"""Which backend computes a model: the one function that chooses.

An explicit backend that cannot serve raises `BackendError` and says why; only `auto` chooses, and its reason is kept.
"""

import torch
from torch import Tensor

from storycell.errors import BackendError
from storycell.nn.backends.backend import Backend
from storycell.nn.backends.native.backend import NativeBackend
from storycell.nn.backends.reference import ReferenceBackend
from storycell.nn.backends.torch import TorchBackend

_BACKENDS: dict[str, Backend] = {b.name: b for b in (NativeBackend(), TorchBackend(), ReferenceBackend())}


def backend_names() -> list[str]:
    """The names that can be asked for, `auto` first."""
    return ["auto", *_BACKENDS]


def describe(cell: str, device: str) -> tuple[str, bool]:
    """What `auto` takes for a cell on a device, with the reason, and whether it multiplies bf16 in hardware there."""
    weight = torch.empty(0, dtype=torch.float32, device=device)
    backend, reason = choose_backend("auto", cell, weight)
    return f"{backend.name}: {reason}", backend.multiplies_bf16(weight.device)


def choose_backend(name: str, cell: str, weight: Tensor | None = None) -> tuple[Backend, str]:
    """The backend to run `cell` with, and the reason in a few words.

    `name` is `auto` or a backend's name; `weight`, one of the model's tensors, says on which device and in which type.
    Raises `BackendError` where an explicit backend cannot serve.
    """
    if name == "auto":
        passed: list[str] = []
        for backend in _BACKENDS.values():
            if (obstacle := backend.obstacle(cell, weight)) is None:
                return backend, "; ".join([backend.merit, *passed])
            passed.append(f"not {backend.name}: {obstacle}")
        raise BackendError(f"no backend can compute the cell {cell!r}: {'; '.join(passed)}")
    if name not in _BACKENDS:
        raise BackendError(f"there is no backend {name!r}; the backends are {', '.join(backend_names())}")
    if (obstacle := _BACKENDS[name].obstacle(cell, weight)) is not None:
        raise BackendError(f"the backend {name} cannot compute this: {obstacle}; use --backend auto")
    return _BACKENDS[name], "asked for"
