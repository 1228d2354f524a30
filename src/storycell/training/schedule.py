"""The learning rate, and the share of soft targets, as pure functions of how far the budget is spent.

The cosine is that of Loshchilov & Hutter 2016 (arXiv:1608.03983), without restarts.
"""

import math

from storycell.config import TrainSettings


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


def soft_share(settings: TrainSettings, spent: float, chars: int) -> float:
    """The share of the loss that soft targets have after so many characters and the share `spent` of the budget.

    It falls linearly, to 0 at the end of the budget or after `soft_chars`, whichever comes first.
    """
    return settings.soft_targets * max(0.0, 1 - max(spent, chars / settings.soft_chars))
