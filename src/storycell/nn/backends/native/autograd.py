"""The kernels under autograd: a stack's outputs, or straight to the mean loss. Tensors are torch's, batch first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from storycell.nn.backends.native import library as lib
from storycell.nn.backends.native.buffers import buffers
from storycell.nn.backends.native.ops import multiply_transposed
from storycell.nn.backends.native.stack import Gradients, Masks, Stack
from storycell.nn.backends.native.tensors import by_layer

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Call:
    """What a pass is, apart from its tensors."""

    cell: str
    precision: str
    names: list[list[str]]  # of every layer's folded weights
    masks: Masks
    ids: torch.Tensor | None  # [B T], or None where the source is vectors
    grad: bool = field(default_factory=torch.is_grad_enabled)  # within autograd's functions it never is

    def stack(self, source: torch.Tensor, flat: Sequence[torch.Tensor], save: bool) -> Stack:
        """The pass, not yet run."""
        return Stack(self.cell, self.precision, by_layer(self.names, flat), self.ids, source, self.masks, save)

    def forward(
        self, ctx: Any, source: torch.Tensor, h: torch.Tensor, c: torch.Tensor, flat: Sequence[torch.Tensor]
    ) -> Stack:
        """Run the pass; what backward needs is kept if anything needs a gradient."""
        return self.stack(source, flat, save=self.grad and any(ctx.needs_input_grad)).forward(h, c)


def _keep(ctx: Any, call: Call, stack: Stack, source: torch.Tensor, flat: Tensors, *others: torch.Tensor) -> None:
    """Let autograd keep what backward needs: its hooks see it, and it refuses weights that were changed in between."""
    if stack.saves:
        ctx.call, ctx.weights = call, len(flat)
        ctx.save_for_backward(source, *flat, *others, *stack.tensors_to_save())
        ctx.set_materialize_grads(False)


def _restore(ctx: Any, others: int = 0) -> tuple[Stack, Tensors]:
    """The stack as it was after the forward pass, and as many other tensors as `_keep` was given."""
    source, *tensors = ctx.saved_tensors
    flat, rest = tensors[: ctx.weights], tensors[ctx.weights :]
    return ctx.call.stack(source, flat, save=True).restore(rest[others:]), tuple(rest[:others])


def _backward(
    stack: Stack, top: torch.Tensor | None, h: torch.Tensor | None, c: torch.Tensor | None
) -> tuple[Gradients, list[torch.Tensor]]:
    grads = stack.backward(top, _whole(h), _whole(c) if stack.cell == "lstm" else None)
    names = [list(weights) for weights in stack.weights]
    return grads, [grads.weights[k][name] for k, layer in enumerate(names) for name in layer]


def _whole(grad: torch.Tensor | None) -> torch.Tensor | None:
    return None if grad is None else grad.contiguous()


class Hidden(torch.autograd.Function):
    """source, initial states, weights -> outputs `[T B H]`, final states."""

    @staticmethod
    def forward(ctx: Any, call: Call, source: torch.Tensor, h: torch.Tensor, c: torch.Tensor, *flat: Any) -> Tensors:
        """Outputs `[T B H]`, final hidden and cell states `[L B H]`."""
        stack = call.forward(ctx, source, h, c, flat)
        _keep(ctx, call, stack, source, flat)
        return stack.outputs(), *stack.finals()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, top: Any, h: Any, c: Any) -> tuple[Any, ...]:
        """Gradients of everything that `forward` took."""
        stack, _ = _restore(ctx)
        grads, flat = _backward(stack, _whole(top), h, c)
        return None, grads.source, grads.hidden, grads.cells, *flat


class MeanNats(torch.autograd.Function):
    """source, initial states, output layer, weights -> mean nats of the targets, final states.

    The gradient of the loss with respect to the top layer is taken in the forward pass, while the logits are in cache;
    the backward pass scales it if the loss was scaled.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        targets: torch.Tensor,
        source: torch.Tensor,
        h: torch.Tensor,
        c: torch.Tensor,
        w_out: torch.Tensor,
        b_out: torch.Tensor,
        *flat: Any,
    ) -> Tensors:
        """The scalar loss, final hidden and cell states `[L B H]`; targets `[B T]`, w_out `[V H]`."""
        stack = call.forward(ctx, source, h, c, flat)
        head = Head.reading(stack, w_out.shape[0])
        losses = head.losses(w_out, b_out, targets, with_gradient=stack.saves)
        if stack.saves:
            _keep(ctx, call, stack, source, flat, w_out, *head.tensors_to_save())
        return losses.sum(dtype=torch.float64).div(losses.numel()).float(), *stack.finals()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, nats: Any, h: Any, c: Any) -> tuple[Any, ...]:
        """Gradients of everything that `forward` took."""
        stack, (weight, *saved) = _restore(ctx, others=4)
        top = w_out = b_out = None
        if nats is not None and not stack.is_spent:
            top, w_out, b_out = Head(stack, weight.shape[0], *saved).gradients(float(nats))
        grads, flat = _backward(stack, top, h, c)
        return None, None, grads.source, grads.hidden, grads.cells, w_out, b_out, *flat


class Head:
    """The output layer and the loss on top of a stack."""

    def __init__(
        self,
        stack: Stack,
        V: int,
        below: torch.Tensor,
        logit_grads: torch.Tensor | None = None,
        grad_below: torch.Tensor | None = None,
    ) -> None:
        """`below [T*B H]` elements is what it reads; the gradients of logits and outputs are what `losses` leaves."""
        self.stack, self.V, self.wide = stack, V, lib.pad_width(V)
        self.below, self.logit_grads, self.grad_below = below, logit_grads, grad_below

    @classmethod
    def reading(cls, stack: Stack, V: int) -> "Head":
        """On a stack that has run."""
        below = stack.rows(len(stack.weights) - 1, 1)
        if stack.masks.keep < 1:
            below = stack.masks.apply(stack.precision, -1, below, buffers.take(tuple(below.shape), stack.element))
        return cls(stack, V, below)

    def tensors_to_save(self) -> list[torch.Tensor]:
        """What `gradients` needs."""
        assert self.logit_grads is not None
        assert self.grad_below is not None
        return [self.below, self.logit_grads, self.grad_below]

    def losses(
        self, w_out: torch.Tensor, b_out: torch.Tensor, targets: torch.Tensor, with_gradient: bool
    ) -> torch.Tensor:
        """Nats of every target, time first: w_out `[V H]`, b_out `[V]`, targets `[B T]` -> `[T*B]`."""
        stack, precision = self.stack, self.stack.precision
        T, B, H = stack.steps, stack.streams, stack.units
        losses = lib.empty(T * B)
        packed = lib.pack(precision, w_out.t(), H, self.wide)
        bias = F.pad(b_out, (0, self.wide - self.V)).contiguous()
        a = lib.OutputLoss()
        a.precision, a.steps, a.streams = lib.PRECISIONS[precision], T, B
        a.units, a.characters, a.scale = H, self.V, 1.0 / (T * B)
        a.hidden = self.below.data_ptr()
        a.packed_forward, a.losses = packed.data_ptr(), losses.data_ptr()
        a.bias = lib.address(bias, "output bias", torch.float32, (self.wide,))
        a.targets = lib.address(targets, "targets", torch.int64, (B, T), contiguous=False)
        a.targets_stream_stride, a.targets_step_stride = targets.stride()
        if with_gradient:
            packed_back = lib.pack(precision, w_out, self.wide, H)
            self.logit_grads = buffers.take((T * B, self.wide), stack.element)
            self.grad_below = buffers.take((T, B, H), torch.float32)
            a.packed_backward = packed_back.data_ptr()
            a.logit_grads, a.grad_hidden = self.logit_grads.data_ptr(), self.grad_below.data_ptr()
        lib.call("output_loss", a)
        return losses

    def gradients(self, factor: float) -> Tensors:
        """Gradients of the last layer's outputs `[T B H]`, of w_out and of b_out, for the mean times `factor`."""
        _, logit_grads, top = self.tensors_to_save()
        sums = lib.empty(self.wide)
        w_out = multiply_transposed(self.stack.precision, logit_grads, self.wide, self.below, column_sums=sums)[
            : self.V
        ]
        b_out = sums[: self.V]
        if self.stack.masks.keep < 1:
            self.stack.masks.apply("fp32", -1, top, top)
        if factor != 1.0:
            for grad in (top, w_out, b_out):
                grad.mul_(factor)
        return top, w_out, b_out
