"""A GPU that is none: its tensors say that they are on it, a CPU computes them, and what Apple's refuses it refuses.

Within `FakeGpu()` a tensor on it cannot become float64, cannot meet one on the CPU (numbers and indices apart) and
cannot become a numpy array. So what runs on it keeps to the order that a GPU asks for. What a real one computes it
cannot tell.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "fakegpu"
aten = torch.ops.aten


class _Module(_DummyBackendModule):
    """What torch asks a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """For autocast, which is off here."""
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend(NAME, _Module())


class OnGpu(torch.Tensor):
    """A tensor on the device; `held` is the one on the CPU with its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnGpu":
        if inner.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=torch.device(NAME, 0)
        )
        made.held = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.held})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # a class method, as torch's guide has it
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(function, args, kwargs or {})


class FakeGpu(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, `device="mps"` is this device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})


def computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, on the device or on the CPU."""
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    here = any(isinstance(tensor, OnGpu) for tensor in tensors)
    target = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    may_meet = function.overloadpacket in (aten._to_copy, aten.copy_, aten.index, aten.index_put, aten.index_put_)
    if here and not may_meet and any(not isinstance(t, OnGpu) and t.dim() > 0 for t in tensors):
        raise RuntimeError(f"Expected all tensors to be on the same device: {function}")
    plain_args, plain = tree_map_only(OnGpu, lambda t: t.held, (args, kwargs))
    plain = tree_map_only(torch.device, lambda d: torch.device("cpu") if d.type == NAME else d, plain)
    out = function(*plain_args, **plain)
    if function._schema.is_mutable:  # in place, or into `out=`: the tensors that were given are what comes back
        given = {id(t.held): t for t in tensors if isinstance(t, OnGpu)}
        return tree_map_only(torch.Tensor, lambda t: given.get(id(t), t), out)
    lands_here = target.type == NAME if target is not None else here
    return tree_map_only(torch.Tensor, OnGpu, out) if lands_here else out


# `torch.tensor(…, device=…)` goes past the mode: it makes room on the device, and copies.
_LIBRARY: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
    return OnGpu(torch.empty_strided(size, stride, dtype=dtype))


def _copy(to: OnGpu, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    to.held.copy_(source)
    return to


_LIBRARY.impl("empty_strided", _empty_strided, "PrivateUse1")
_LIBRARY.impl("copy_", _copy, "PrivateUse1")
