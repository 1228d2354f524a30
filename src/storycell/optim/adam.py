"""AdamW and clipping, by whatever is fastest where the weights are.

In: a model whose gradients are known, groups of its parameters. Out: an optimiser; the gradient's norm.

The surprising decision: beside the native backend both are the kernel's own, two passes over all weights at once, and
torch's to rounding, under the same names of the state.
"""

from typing import Any

import torch

from storycell.backends import native
from storycell.model import CharLM


def adamw(model: CharLM, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW over groups of the model's parameters, with the `weight_decay` of each group."""
    if model.backend.name == "native":
        return native.AdamW(groups, lr, betas)
    fused = model.output.weight.device.type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(groups, lr, betas, fused=fused)


def clip(model: CharLM, limit: float) -> float:
    """Scale the model's gradient down where its norm is above `limit`; returns the norm before that."""
    if model.backend.name == "native":
        return native.clip(model.parameters(), limit)
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item()
