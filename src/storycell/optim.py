"""The optimiser, and the learning rate as a pure function of how far the budget is spent.

In: a model and `TrainSettings`. Out: one of torch's optimisers (fused where torch has it), `clip`, and `learning_rate`.
The surprising decision: beside the native backend Adam and clipping are the kernel's own, to rounding torch's.
"""

import math
from typing import Any

import torch

from storycell.backends import native
from storycell.config import TrainSettings
from storycell.model import CharLM


def build(model: CharLM, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser of the settings. Only matrices decay: biases and the character embedding do not."""
    decayed = [p for n, p in model.named_parameters() if p.dim() > 1 and not n.startswith("embedding")]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or n.startswith("embedding")]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        return torch.optim.SGD([{**group, "weight_decay": 0.0} for group in groups], lr=settings.lr)
    if settings.optimizer == "adam":  # AdamW that does not decay
        return adamw(model, [{**group, "weight_decay": 0.0} for group in groups], settings.lr, (0.9, 0.999))
    return adamw(model, groups, settings.lr, (0.9, 0.99))


def adamw(model: CharLM, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW over groups of the model's parameters, by whatever is fastest where they are."""
    if model.backend.name == "native":
        return native.AdamW(groups, lr, betas)
    fused = model.output.weight.device.type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(groups, lr, betas, fused=fused)


def clip(model: CharLM, limit: float) -> float:
    """Scale the model's gradient down where its norm is above `limit`; returns the norm before that."""
    if model.backend.name == "native":
        return native.clip(model.parameters(), limit)
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item()


def learning_rate(settings: TrainSettings, spent: float) -> float:
    """The learning rate when the share `spent` of the budget is used up (0 at the start, 1 at the end).

    It rises linearly over `warmup`, then stays (`constant`) or falls along half a cosine to `final_lr` of its height.
    """
    if spent < settings.warmup:
        return settings.lr * max(spent, 1e-3 * settings.warmup) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    along = min(1.0, (spent - settings.warmup) / (1 - settings.warmup))
    height = 0.5 * (1 + math.cos(math.pi * along))
    return settings.lr * (settings.final_lr + (1 - settings.final_lr) * height)
