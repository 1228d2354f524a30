"""Muon: momentum whose update is made orthogonal, for the weight matrices of the recurrent layers.

    m ← β m + (1 - β) grad            momentum
    u = (1 - β) grad + β m            Nesterov's look ahead
    u = U Vᵀ, where u = U S Vᵀ        every direction moves equally far, nearly (`orthogonalised`)
    w ← w - rate (decay w + 0.2 √max(rows, columns) u)

Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the factor 0.2 √max gives u the size of an update of AdamW, so
that both go with one learning rate (Liu et al. 2025, arXiv:2502.16982). In: matrices with gradients. State, of each:
`momentum_buffer`.

The surprising decision: this is torch.optim.Muon's formula, but products are bf16 only where the hardware multiplies it
(torch's are always, which takes a hundred times as long on an older processor), and fewer iterations do.
"""

import torch

MOMENTUM = 0.9  # a small model in a short run; 0.95 is usual for large ones (LOG.md)
ITERATIONS = 4  # of Newton and Schulz; more make u rounder and training no better (LOG.md)
_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic that lifts small singular values fastest, to within 0.7 and 1.2
_TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Moves matrices `[rows columns]`; `bf16` rounds what goes into its products."""

    def __init__(self, params: list[torch.nn.Parameter], lr: float, weight_decay: float, bf16: bool) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.bf16 = bf16

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
        momentum = state["momentum_buffer"].lerp_(grad, 1 - MOMENTUM)
        update = orthogonalised(grad.lerp(momentum, MOMENTUM), bf16=self.bf16)
        weight.mul_(1 - rate * decay).add_(update, alpha=-rate * 0.2 * max(weight.shape) ** 0.5)


def orthogonalised(matrix: torch.Tensor, iterations: int = ITERATIONS, *, bf16: bool = False) -> torch.Tensor:
    """The nearest matrix whose singular values are all equal to one, roughly: `[rows columns]` -> the same shape.

    Each iteration takes every singular value s to a s + b s³ + c s⁵, on the shorter side of the matrix.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.t() if tall else matrix
    x = (x / (x.norm() + _TINY)).to(torch.bfloat16 if bf16 else matrix.dtype)
    for _ in range(iterations):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    x = x.to(matrix.dtype)
    return x.t() if tall else x
