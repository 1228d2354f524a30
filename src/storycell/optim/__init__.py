"""The optimiser: what moves the weights once their gradients are known.

In: a model and `TrainSettings`. Out: `Together`, which holds SGD, Adam or AdamW, or Muon for the matrices of the
recurrent layers and AdamW for everything else; `clip`; and `learning_rate`, a pure function.
"""

from typing import Any

import torch

from storycell.config import TrainSettings
from storycell.model import CharLM
from storycell.optim.adam import adamw, clip
from storycell.optim.muon import Muon
from storycell.optim.schedule import learning_rate

__all__ = ["Muon", "Together", "adamw", "build", "clip", "learning_rate"]

BETAS = (0.9, 0.99)
ADAM_BETAS = (0.9, 0.999)  # torch's
_MOMENTS: dict[type[torch.optim.Optimizer], frozenset[str]] = {
    torch.optim.SGD: frozenset(),
    torch.optim.AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    Muon: frozenset({"momentum_buffer"}),
}


class Together:
    """Several optimisers, each with parameters of its own, as if they were one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        self.param_groups: list[dict[str, Any]] = [group for part in parts for group in part.param_groups]
        self.state = parts[0].state
        for part in parts[1:]:
            part.state = self.state  # by parameter, so they never meet

    @property
    def multiplies(self) -> bool:
        """Whether a step is matrix products, worth all of torch's threads, and not just a walk over the weights."""
        return any(isinstance(part, Muon) for part in self.parts)

    @property
    def moments(self) -> dict[torch.Tensor, frozenset[str]]:
        """The names of the tensors that are kept of each parameter once it has been moved: all of them, or none yet."""
        names = {part: next(_MOMENTS[kind] for kind in _MOMENTS if isinstance(part, kind)) for part in self.parts}
        return {p: names[part] for part in self.parts for group in part.param_groups for p in group["params"]}

    def step(self) -> None:
        """Move all parameters."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()


def build(model: CharLM, settings: TrainSettings) -> Together:
    """The optimiser of the settings. Only matrices decay: biases and the character embedding do not."""
    named = dict(model.named_parameters())
    others = [name for name, p in named.items() if p.dim() == 1 or name.startswith("embedding")]
    matrices = [name for name in named if name not in others]
    rounds = [name for name in matrices if settings.optimizer == "muon" and name.startswith("recurrent")]

    def group(names: list[str], decay: float) -> dict[str, Any]:
        return {"params": [named[name] for name in names], "weight_decay": decay}

    lr = settings.lr
    if settings.optimizer == "sgd":
        return Together(torch.optim.SGD(named.values(), lr=lr))
    if settings.optimizer == "adam":
        return Together(adamw(model, [group(list(named), 0.0)], lr, ADAM_BETAS))  # without decay it is Adam
    decayed = group([name for name in matrices if name not in rounds], settings.weight_decay)
    parts: list[torch.optim.Optimizer] = [adamw(model, [decayed, group(others, 0.0)], lr, BETAS)]
    if rounds:
        bf16 = model.rounds_to_bf16
        parts.append(Muon([named[name] for name in rounds], lr, settings.weight_decay, bf16))
    return Together(*parts)
