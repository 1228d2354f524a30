"""Cross-entropy of logits, in nats."""

import torch
import torch.nn.functional as F


def nats_each(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every character, in float32 at least: logits `[... V]`, targets `[...]` -> nats `[...]`."""
    wide = logits.reshape(-1, logits.shape[-1])
    wide = wide if wide.dtype == torch.float64 else wide.float()
    return F.cross_entropy(wide, targets.reshape(-1), reduction="none").view(targets.shape)


def mean_nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, a scalar in nats per character: logits `[B T V]`, targets `[B T]` or, soft, `[B T V]`."""
    wide = logits.reshape(-1, logits.shape[-1])
    wide = wide if wide.dtype == torch.float64 else wide.float()
    if targets.is_floating_point():
        return F.cross_entropy(wide, targets.reshape(wide.shape).to(wide))
    return F.cross_entropy(wide, targets.reshape(-1))
