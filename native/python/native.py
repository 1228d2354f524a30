"""The native backend: recurrent language models through the compiled kernels.

Parameters keep torch's names and layouts; tensors are batch-first (ids [B, T] int64, outputs
[B, T, H], states [L, B, H]). Arguments called `parameters` are mappings with embedding.weight
[V, D], weight_ih_l0 [G*H, D], weight_hh_l0, bias_ih_l0, bias_hh_l0, and so on for each layer,
output.weight [V, H] and output.bias [V].
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from . import native_library as lib
from .native_generator import Generator
from .native_model import States, by_layer, fold, initial, pad_last, rounded, unpadded, weight_names
from .native_stack import Stack

__all__ = [
    "Generator",
    "States",
    "hidden_sequence",
    "isa",
    "one_torch_thread",
    "sequence_loss",
    "use_isa",
]

isa, use_isa = lib.isa, lib.use_isa


@contextlib.contextmanager
def one_torch_thread():
    """Runs small torch operations (clipping, the optimizer's step) on the calling thread.

    After every parallel operation torch's OpenMP threads spin for milliseconds, on the very cores
    the next forward pass needs; for a model of a few million parameters that costs more than
    their help saves.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _whole(grad: torch.Tensor | None) -> torch.Tensor | None:
    return None if grad is None else grad.contiguous()


def _flat_grads(stack: Stack, grads: list) -> list:
    return [grads[i][name] for i in range(stack.layers) for name in weight_names(stack.cell, i)]


class _Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cell, precision, layers, ids, table, hidden, cell_state, *flat):
        save = any(ctx.needs_input_grad)
        weights = by_layer(cell, layers, flat)
        stack = Stack(cell, precision, ids, table, hidden, cell_state, weights, save)
        outputs = lib.widen(precision, stack.hidden[-1][1:])
        final_cell = stack.final_cell if cell == "lstm" else torch.zeros(0)
        if save:
            ctx.save_for_backward(*flat)  # autograd then refuses weights changed meanwhile
            ctx.stack = stack
            ctx.set_materialize_grads(False)
        else:
            stack.release()
        return outputs, stack.final_hidden, final_cell

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_hidden, grad_cell):
        ctx.saved_tensors  # noqa: B018  (the version check happens on access)
        stack = ctx.stack
        if stack.cell != "lstm":
            grad_cell = None
        table, hidden, cell_state, grads = stack.backward(
            _whole(grad_outputs), _whole(grad_hidden), _whole(grad_cell)
        )
        return None, None, None, None, table, hidden, cell_state, *_flat_grads(stack, grads)


class _Loss(torch.autograd.Function):
    """The gradient of the loss with respect to the top layer is taken in the forward pass, while
    the logits are in cache; the backward pass scales it if the loss was scaled."""

    @staticmethod
    def forward(
        ctx, cell, precision, layers, ids, targets, table, hidden, cell_state, w_out, b_out, *flat
    ):
        save = any(ctx.needs_input_grad)
        weights = by_layer(cell, layers, flat)
        stack = Stack(cell, precision, ids, table, hidden, cell_state, weights, save)
        T, B, H, V = stack.steps, stack.streams, stack.units, w_out.shape[0]
        wide = rounded(V)
        bias = functional.pad(b_out, (0, wide - V)).contiguous()
        losses = torch.empty(T * B)
        forward_packed = lib.pack(precision, w_out.t(), H, wide)
        a = lib.OutputLoss()
        a.precision, a.steps, a.streams = lib.PRECISIONS[precision], T, B
        a.units, a.characters, a.scale = H, V, 1.0 / (T * B)
        a.hidden = stack.hidden[-1][1:].data_ptr()
        a.packed_forward, a.bias = forward_packed.data_ptr(), bias.data_ptr()
        a.targets = lib.address(targets, "targets", torch.int64, (B, T), contiguous=False)
        a.targets_stream_stride, a.targets_step_stride = targets.stride()
        a.losses = losses.data_ptr()
        if save:
            backward_packed = lib.pack(precision, w_out, wide, H)
            ctx.logit_grads = stack._take(T * B, wide, dtype=lib.ELEMENT[precision])
            ctx.grad_top = stack._take(T, B, H)
            a.packed_backward = backward_packed.data_ptr()
            a.logit_grads, a.grad_hidden = ctx.logit_grads.data_ptr(), ctx.grad_top.data_ptr()
        lib.call("storycell_output_loss", a)
        loss = losses.sum(dtype=torch.float64).div(T * B).float()
        final_cell = stack.final_cell if cell == "lstm" else torch.zeros(0)
        if save:
            ctx.save_for_backward(w_out, *flat)
            ctx.stack, ctx.characters = stack, V
            ctx.set_materialize_grads(False)
        else:
            stack.release()
        return loss, stack.final_hidden, final_cell

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss, grad_hidden, grad_cell):
        ctx.saved_tensors  # noqa: B018  (the version check happens on access)
        stack = ctx.stack
        if stack._spent:
            stack.backward(None, None, None)  # raises
        V = ctx.characters
        if stack.cell != "lstm":
            grad_cell = None
        grad_top = w_out = b_out = None
        if grad_loss is not None:
            factor = float(grad_loss)
            grad_top = ctx.grad_top
            sums = torch.empty(ctx.logit_grads.shape[-1])
            w_out = stack.transposed(
                ctx.logit_grads, ctx.logit_grads.shape[1], stack._rows(stack.hidden[-1], 1), sums
            )[:V]
            b_out = sums[:V]
            if factor != 1.0:
                grad_top.mul_(factor)
                w_out.mul_(factor)
                b_out.mul_(factor)
        table, hidden, cell_state, grads = stack.backward(
            grad_top, _whole(grad_hidden), _whole(grad_cell)
        )
        rest = _flat_grads(stack, grads)
        return None, None, None, None, None, table, hidden, cell_state, w_out, b_out, *rest


def hidden_sequence(
    cell: str,
    parameters: Mapping[str, torch.Tensor],
    ids: torch.Tensor,
    states: States | None = None,
    precision: str = "float32",
) -> tuple[torch.Tensor, States]:
    """Top-layer outputs [B, T, H] and final states, differentiable."""
    _check(ids, precision)
    model = fold(cell, parameters)
    hidden, cell_state = initial(model, states, ids.shape[0])
    outputs, hidden, cell_state = _Hidden.apply(
        cell, precision, model.layers, ids, model.table, hidden, cell_state, *model.flat
    )
    return outputs[..., : model.units].transpose(0, 1), unpadded(model, hidden, cell_state)


def sequence_loss(
    cell: str,
    parameters: Mapping[str, torch.Tensor],
    ids: torch.Tensor,
    targets: torch.Tensor,
    states: States | None = None,
    precision: str = "float32",
) -> tuple[torch.Tensor, States]:
    """Mean cross-entropy over all characters and the final states, differentiable."""
    _check(ids, precision)
    model = fold(cell, parameters)
    w_out, b_out = parameters["output.weight"], parameters["output.bias"]
    if w_out.dim() != 2 or w_out.shape[1] != model.units or b_out.shape != w_out.shape[:1]:
        raise ValueError(f"output.weight must be [V, {model.units}] and output.bias [V]")
    hidden, cell_state = initial(model, states, ids.shape[0])
    loss, hidden, cell_state = _Loss.apply(
        cell, precision, model.layers, ids, targets, model.table, hidden, cell_state,
        pad_last(w_out, model.units).contiguous(), b_out, *model.flat,
    )  # fmt: skip
    return loss, unpadded(model, hidden, cell_state)


def _check(ids: torch.Tensor, precision: str) -> None:
    if precision not in lib.PRECISIONS:
        raise ValueError(f"precision must be one of {sorted(lib.PRECISIONS)}, not {precision!r}")
    if not isinstance(ids, torch.Tensor) or ids.dtype != torch.int64:
        raise TypeError("ids must be an int64 tensor")
    if ids.dim() != 2 or 0 in ids.shape:
        raise ValueError(f"ids must be [B, T] and not empty, not {tuple(ids.shape)}")
