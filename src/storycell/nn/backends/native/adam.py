"""The optimiser's step by the kernels: the gradient's norm, its clipping, and AdamW, each over all tensors at once.

Parameters are float32 on the CPU; the moments are torch's (`exp_avg`, `exp_avg_sq`, `step`), so either optimiser goes
on from the other's state. torch's own optimiser takes a fifth of a step of short chunks, most of it between its
operations.
"""

import ctypes
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd.graph import increment_version

from storycell.nn.backends.native import library as lib

_TINY = 1e-6  # added to the norm, as torch does, so that a gradient of zero is not divided by


def clip(parameters: Iterable[torch.Tensor], limit: float) -> float:
    """The norm of all gradients together; they are scaled down in place where it is above `limit` (and finite)."""
    grads = [p.grad for p in parameters if p.grad is not None]
    tensors = (lib.Tensor * len(grads))()
    blocks = 0
    for entry, grad in zip(tensors, grads, strict=True):
        entry.grad, entry.count = _address(grad, "gradient", grad), grad.numel()
        blocks += lib.library().storycell_blocks(entry.count)
    sums = lib.empty(blocks)
    a = lib.Tensors(len(grads), ctypes.addressof(tensors), 1.0, sums.data_ptr())
    lib.call("gradient_squares", a)
    norm = math.sqrt(sums.sum(dtype=torch.float64))
    if limit < norm < math.inf:
        a.factor = limit / (norm + _TINY)
        lib.call("scale_gradients", a)
    return norm


class AdamW(torch.optim.AdamW):
    """As torch's, for float32 parameters on the CPU; differs from it by rounding."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), **keywords: Any
    ) -> None:
        super().__init__(params, lr, betas, foreach=False, **keywords)
        self._described: dict[torch.Tensor, tuple[list[torch.Tensor], list[int], lib.Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; what `closure`, if any, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        changed = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        tensors = (lib.Tensor * len(changed))(*(self._describe_now(p, group) for p, group in changed))
        lib.call("adam_step", lib.Tensors(len(changed), ctypes.addressof(tensors), 1.0, None))
        increment_version([p for p, _ in changed])
        return loss

    def _describe_now(self, p: torch.Tensor, group: dict[str, Any]) -> lib.Tensor:
        """The struct of a parameter; its tensors are checked again only when they are others than at the last step."""
        state = self.state[p]
        if not state:
            state["step"] = lib.zeros()
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        elif state["step"].dtype != torch.float32:  # torch's is float64 where that is its default type
            state["step"] = state["step"].float()
        own = [state["exp_avg"], state["exp_avg_sq"], state["step"]]
        kept, places = self._described.get(p), [tensor.data_ptr() for tensor in own]
        if kept is None or places != kept[1] or any(a is not b for a, b in zip(kept[0], own, strict=True)):
            entry = lib.Tensor(_address(p, "parameter", p))
            entry.mean, entry.square = _address(own[0], "exp_avg", p), _address(own[1], "exp_avg_sq", p)
            entry.step, entry.count = lib.address(own[2], "step", torch.float32, ()), p.numel()
            kept = self._described[p] = (own, places, entry)
        entry = kept[2]
        entry.value = p.data_ptr()
        entry.grad = _address(p.grad, "gradient", p)
        entry.rate, entry.decay, entry.epsilon = group["lr"], group["weight_decay"], group["eps"]
        entry.beta1, entry.beta2 = group["betas"]
        return entry


def _address(tensor: Any, name: str, like: torch.Tensor) -> int:
    return lib.address(tensor, name, torch.float32, tuple(like.shape))
