"""The kernels under autograd: a stack's outputs, or straight to the mean loss.

In and out: tensors of torch, batch first. `Call` carries everything that is not a tensor to be differentiated.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from storycell.backends.native import library as lib
from storycell.backends.native.products import transposed
from storycell.backends.native.stack import Gradients, Masks, Stack
from storycell.backends.native.tensors import by_layer

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Call:
    """What a pass is, apart from its tensors."""

    cell: str
    precision: str
    names: list[list[str]]  # of every layer's folded weights
    masks: Masks
    ids: torch.Tensor | None  # [B T], or None where the source is vectors

    def forward(self, ctx: Any, source: torch.Tensor, h: torch.Tensor, c: torch.Tensor, flat: Tensors) -> Stack:
        """Run the stack; what backward needs is kept if anything needs a gradient."""
        saves = any(ctx.needs_input_grad)
        weights = by_layer(self.names, flat)
        return Stack(self.cell, self.precision, weights, self.ids, source, h, c, self.masks, saves)


def _keep(ctx: Any, stack: Stack, *tensors: torch.Tensor) -> None:
    """Hand the stack on to backward; autograd then refuses weights that were changed in between."""
    if not stack.saves:
        stack.release()
        return
    ctx.save_for_backward(*tensors)
    ctx.stack = stack
    ctx.set_materialize_grads(False)


def _kept(ctx: Any) -> Stack:
    _ = ctx.saved_tensors  # the check of versions happens on access
    stack: Stack = ctx.stack
    return stack


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
        outputs, finals = stack.outputs(), stack.finals()
        _keep(ctx, stack, source, *flat)
        return outputs, *finals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, top: Any, h: Any, c: Any) -> tuple[Any, ...]:
        """Gradients of everything that `forward` took."""
        grads, flat = _backward(_kept(ctx), _whole(top), h, c)
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
        head = Head(stack, w_out, b_out)
        losses = head.losses(targets, with_gradient=stack.saves)
        if stack.saves:
            ctx.head = head
        nats, finals = losses.sum(dtype=torch.float64).div(losses.numel()).float(), stack.finals()
        _keep(ctx, stack, source, w_out, *flat)
        return nats, *finals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, nats: Any, h: Any, c: Any) -> tuple[Any, ...]:
        """Gradients of everything that `forward` took."""
        stack, head = _kept(ctx), ctx.head
        top = w_out = b_out = None
        if nats is not None and not stack.is_spent:
            top, w_out, b_out = head.gradients(float(nats))
        grads, flat = _backward(stack, top, h, c)
        return None, None, grads.source, grads.hidden, grads.cells, w_out, b_out, *flat


class Head:
    """The output layer and the loss on top of a stack."""

    def __init__(self, stack: Stack, w_out: torch.Tensor, b_out: torch.Tensor) -> None:
        self.stack, self.w_out = stack, w_out
        self.V, self.wide = w_out.shape[0], lib.padded(w_out.shape[0])
        self.bias = F.pad(b_out, (0, self.wide - self.V)).contiguous()
        self.below = stack.rows(len(stack.weights) - 1, 1)
        if stack.masks.keep < 1:
            out = stack.take(*self.below.shape, dtype=stack.element)
            self.below = stack.masks.apply(stack.precision, -1, self.below, out)

    def losses(self, targets: torch.Tensor, with_gradient: bool) -> torch.Tensor:
        """Nats of every target, time first: targets `[B T]` -> `[T*B]`."""
        stack, precision = self.stack, self.stack.precision
        T, B, H = stack.steps, stack.streams, stack.units
        losses = torch.empty(T * B)
        packed = lib.pack(precision, self.w_out.t(), H, self.wide)
        a = lib.OutputLoss()
        a.precision, a.steps, a.streams = lib.PRECISIONS[precision], T, B
        a.units, a.characters, a.scale = H, self.V, 1.0 / (T * B)
        a.hidden = self.below.data_ptr()
        a.packed_forward, a.bias, a.losses = packed.data_ptr(), self.bias.data_ptr(), losses.data_ptr()
        a.targets = lib.address(targets, "targets", torch.int64, (B, T), contiguous=False)
        a.targets_stream_stride, a.targets_step_stride = targets.stride()
        if with_gradient:
            packed_back = lib.pack(precision, self.w_out, self.wide, H)
            self.logit_grads = stack.take(T * B, self.wide, dtype=stack.element)
            self.grad_below = stack.take(T, B, H)
            a.packed_backward = packed_back.data_ptr()
            a.logit_grads, a.grad_hidden = self.logit_grads.data_ptr(), self.grad_below.data_ptr()
        lib.call("output_loss", a)
        return losses

    def gradients(self, factor: float) -> Tensors:
        """Gradients of the last layer's outputs `[T B H]`, of w_out and of b_out, for the mean times `factor`."""
        sums = torch.empty(self.wide)
        w_out = transposed(self.stack.precision, self.logit_grads, self.wide, self.below, column_sums=sums)[: self.V]
        b_out = sums[: self.V]
        top = self.grad_below
        if self.stack.masks.keep < 1:
            self.stack.masks.apply("fp32", -1, top, top)
        if factor != 1.0:
            for grad in (top, w_out, b_out):
                grad.mul_(factor)
        return top, w_out, b_out
