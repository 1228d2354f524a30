"""The optimiser: SGD, Adam or AdamW, or (Nor)Muon for the recurrent layers' matrices and AdamW for everything else.

Adam is Kingma & Ba 2014 (arXiv:1412.6980), AdamW Loshchilov & Hutter 2017 (arXiv:1711.05101), clipping by the norm
Pascanu et al. 2012 (arXiv:1211.5063). Beside the native backend AdamW and clipping are the kernel's own,
two passes over all weights at once; they agree with torch's to rounding and keep the same names in the state.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) is momentum whose update is made orthogonal:

    m ← β m + (1 - β) grad            momentum
    u = (1 - β) grad + β m            Nesterov's look ahead
    u = U Vᵀ, where u = U S Vᵀ        every direction moves equally far, nearly (`orthogonalise`)
    w ← w - rate (decay w + 0.2 √max(rows, columns) u)

The factor 0.2 √max gives u the size of an update of AdamW, so that both go with one learning rate (Liu et al. 2025,
arXiv:2502.16982). The state of each matrix is `momentum_buffer`. This is torch.optim.Muon's formula, but matrix
products are bf16 only where the hardware multiplies it (torch's are always, which takes a hundred times as long on an
older processor), and three iterations do instead of five: each has the polynomial that is best for where the singular
values are by then (Polar Express, Amsel et al. 2025, arXiv:2505.16932, for values from 0.01), and what is made
orthogonal is first scaled by a tighter bound than its norm, that of its Gram matrix.

NorMuon (Li et al. 2025, arXiv:2510.05491) evens out the rows, which are not equally long in a tall matrix, as those of
the gates are: before the weights move,

    s ← δ s + (1 - δ) mean(u²)        of each row
    u ← u / √s, and as long as it was each row by its own s; |u| is kept

It keeps s as `second_momentum_buffer`.
"""

from typing import Any

import torch

from storycell.config import TrainSettings
from storycell.context import TABLE
from storycell.nn.backends.native import adam as kernel
from storycell.nn.model import CharLM

MOMENTUM = 0.9  # a small model in a short run; 0.95 is usual for large ones (LOG.md)
SECOND_MOMENTUM = 0.95  # NorMuon's own
POLYNOMIALS = (  # a, b, c of each iteration: singular values from 0.01 to 1 come to within 0.73 and 1.27
    (8.0934, -23.6204, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)
_TINY = 1e-7
_TINIEST = 1e-10
TABLE_RATE = 50.0  # of the learning rate, for the context's table (LOG.md)
_TINY_SUM = 1e-20


class Muon(torch.optim.Optimizer):
    """Moves matrices `[rows columns]`; `bf16` rounds what goes into its products, `by_rows` makes it NorMuon."""

    def __init__(
        self, params: list[torch.nn.Parameter], lr: float, weight_decay: float, bf16: bool, by_rows: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.bf16, self.by_rows = bf16, by_rows

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group["lr"], group["weight_decay"])

    def _move(self, weight: torch.nn.Parameter, rate: float, decay: float) -> None:
        state, grad = self.state[weight], weight.grad
        assert grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
            if self.by_rows:
                state["second_momentum_buffer"] = weight.new_zeros(len(weight))
        momentum = state["momentum_buffer"].lerp_(grad, 1 - MOMENTUM)
        update = orthogonalise(grad.lerp(momentum, MOMENTUM), bf16=self.bf16)
        if self.by_rows:
            update = even_rows(update, state["second_momentum_buffer"])
        weight.mul_(1 - rate * decay).add_(update, alpha=-rate * 0.2 * max(weight.shape) ** 0.5)


def largest(matrix: torch.Tensor) -> torch.Tensor:
    """A bound of its singular values that the largest of them is near: the root of the Gram matrix's norm."""
    norm: torch.Tensor = torch.linalg.matrix_norm(matrix @ matrix.t())
    return norm.sqrt()


def orthogonalise(matrix: torch.Tensor, *, bf16: bool = False) -> torch.Tensor:
    """The nearest matrix whose singular values are all equal to one, roughly: `[rows columns]` -> the same shape.

    Each iteration takes every singular value s to a s + b s³ + c s⁵, on the shorter side of the matrix.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.t() if tall else matrix
    x = x / (largest(x) + _TINY)
    x = x.to(torch.bfloat16 if bf16 else matrix.dtype)
    for a, b, c in POLYNOMIALS:
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.to(matrix.dtype)
    return x.t() if tall else x


def even_rows(update: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """NorMuon's second half: `update [rows columns]` with each row by its size so far, as `squares [rows]` keep it."""
    squares.lerp_(update.square().mean(1), 1 - SECOND_MOMENTUM)
    even = update / (squares.sqrt() + _TINIEST)[:, None]
    even *= update.norm() / even.norm().clamp_min(_TINIEST)
    return even


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011, https://jmlr.org/papers/v12/duchi11a.html) with one sum a row.

    It moves tables `[rows columns]` of which a step meets a few rows; a row without a gradient stays as it is.

        s ← s + mean(grad²)
        row ← row - rate TABLE_RATE grad / √s
    """

    def __init__(self, params: list[torch.nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every table that has a gradient."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    state = self.state[table]
                    if "sum" not in state:
                        state["sum"] = table.new_zeros(len(table))
                    sums = state["sum"].add_(table.grad.square().mean(1))
                    by = group["lr"] * TABLE_RATE / sums.clamp_min(_TINY_SUM).sqrt()
                    table.sub_(by[:, None] * table.grad)


def adamw(model: CharLM, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW over groups of the model's parameters, with the `weight_decay` of each group."""
    if model.backend.name == "native":
        return kernel.AdamW(groups, lr, betas)
    fused = model.output.weight.device.type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(groups, lr, betas, fused=fused)


def clip(model: CharLM, limit: float) -> float:
    """Scale the model's gradient down where its norm is above `limit`; returns the norm before that."""
    if model.backend.name == "native":
        return kernel.clip(model.parameters(), limit)
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item()


BETAS = (0.9, 0.99)
ADAM_BETAS = (0.9, 0.999)  # torch's
_MOMENTS: dict[type[torch.optim.Optimizer], frozenset[str]] = {
    torch.optim.SGD: frozenset(),
    torch.optim.AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    RowAdagrad: frozenset({"sum"}),
}
_MUON = {False: frozenset({"momentum_buffer"}), True: frozenset({"momentum_buffer", "second_momentum_buffer"})}


def _moments(part: torch.optim.Optimizer) -> frozenset[str]:
    if isinstance(part, Muon):
        return _MUON[part.by_rows]
    return next(_MOMENTS[kind] for kind in _MOMENTS if isinstance(part, kind))


class OptimizerGroup:
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
        return {p: _moments(part) for part in self.parts for group in part.param_groups for p in group["params"]}

    def step(self) -> None:
        """Move all parameters."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()


def build_optimizer(model: CharLM, settings: TrainSettings) -> OptimizerGroup:
    """The optimiser of the settings. Only matrices decay: biases, embedding and context do not."""
    named = dict(model.named_parameters())
    tables = [named.pop(TABLE)] if TABLE in named and settings.optimizer != "sgd" else []
    others = [name for name, p in named.items() if p.dim() == 1 or name.startswith("embedding")]
    matrices = [name for name in named if name not in others]
    rounds = [name for name in matrices if settings.optimizer in ("muon", "normuon") and name.startswith("recurrent")]

    def group(names: list[str], decay: float) -> dict[str, Any]:
        return {"params": [named[name] for name in names], "weight_decay": decay}

    lr = settings.lr
    if settings.optimizer == "sgd":
        return OptimizerGroup(torch.optim.SGD(named.values(), lr=lr))
    if settings.optimizer == "adam":
        adam = adamw(model, [group(list(named), 0.0)], lr, ADAM_BETAS)  # without decay it is Adam
        return OptimizerGroup(adam, *([RowAdagrad(tables, lr)] if tables else []))
    decayed = group([name for name in matrices if name not in rounds], settings.weight_decay)
    parts: list[torch.optim.Optimizer] = [adamw(model, [decayed, group(others, 0.0)], lr, BETAS)]
    if rounds:
        bf16 = model.rounds_to_bf16
        by_rows = settings.optimizer == "normuon"
        parts.append(Muon([named[name] for name in rounds], lr, settings.weight_decay, bf16, by_rows))
    if tables:
        parts.append(RowAdagrad(tables, lr))
    return OptimizerGroup(*parts)
