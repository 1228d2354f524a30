"""The linear recurrence h_t = a_t h_(t-1) + b_t over a whole chunk, with its gradient.

Factors `a` in [0, 1] and terms `b` are `[B T H]`, the start `h` is `[B H]`, and every `h_t` comes back as `[B T H]`. It
is what is left of a cell whose gates do not look at the hidden state (Martin & Cundy 2018, arXiv:1709.04057; Feng et
al. 2024, arXiv:2410.01201).

There are no logarithms. The published code scans sums of log a, which needs positive terms and loses small ones; pairs
(a, b) combine to (a a', a' b + b'), where every factor stays in [0, 1] and nothing can overflow. On a CPU the fastest
way is a loop over time, one fused operation a step; elsewhere it is a scan in log2(T) rounds.
"""

from typing import Any

import torch


def recur(a: torch.Tensor, b: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """`a b [B T H]`, `h [B H]` -> `[B T H]`; differentiable once in all three."""
    y: torch.Tensor = _Recurrence.apply(a, b, h)  # type: ignore[no-untyped-call]
    return y


class _Recurrence(torch.autograd.Function):
    """Backwards it is the same recurrence, run from the end: e_t = grad_t + a_(t+1) e_(t+1)."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        y = _solve(a, b, h)
        ctx.save_for_backward(a, y, h)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        a, y, h = ctx.saved_tensors
        later = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
        e = _solve(later.flip(1), grad.flip(1), torch.zeros_like(h)).flip(1)
        before = torch.cat([h.unsqueeze(1), y[:, :-1]], dim=1)
        return e * before, e, e[:, 0] * a[:, 0]


def _solve(a: torch.Tensor, b: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return in_turn(a, b, h) if a.device.type == "cpu" else doubling(a, b, h)


def in_turn(a: torch.Tensor, b: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """One time step after the other."""
    y = torch.empty_like(b)
    for a_t, b_t, y_t in zip(a.unbind(1), b.unbind(1), y.unbind(1), strict=True):
        h = torch.addcmul(b_t, a_t, h, out=y_t)
    return y


def doubling(a: torch.Tensor, b: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """All time steps at once: after round k each holds the sum of the last 2^k terms (https://doi.org/10.1145/7902.7903)."""
    b = torch.cat([b[:, :1] + a[:, :1] * h.unsqueeze(1), b[:, 1:]], dim=1)
    reach = 1
    while reach < b.shape[1]:
        b = torch.cat([b[:, :reach], b[:, reach:] + a[:, reach:] * b[:, :-reach]], dim=1)
        a = torch.cat([a[:, :reach], a[:, reach:] * a[:, :-reach]], dim=1)
        reach *= 2
    return b
