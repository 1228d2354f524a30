"""The kernels behind torch.lstm's signature, under autograd: what `storycell.LSTM` runs.

Inputs are `[T B D]`, outputs `[T B H]`; states and weights are as torch has them. Everything that the backward pass
needs is kept by autograd, so its hooks (checkpointing, offloading) see it, and weights that were changed before the
backward pass are refused.

The kernel's backward pass overwrites what its forward pass left. A second one runs the forward pass again; gradients
that are to be differentiated themselves are those of torch's own layer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from storycell.nn.backends.backend import Weights
from storycell.nn.backends.native import library as lib
from storycell.nn.backends.native.stack import Masks, Stack
from storycell.nn.backends.native.tensors import Folded, fold, initial, pad_last, unpad, without_padding

Tensors = tuple[torch.Tensor, ...]


class Pass(NamedTuple):
    """What a call is, apart from its tensors.

    Those are x `[T B D]`, h and c `[L B H]` and the weights, layer by layer.
    """

    layers: int
    precision: str
    masks: Masks

    def run(self, tensors: Sequence[torch.Tensor]) -> Tensors:
        """Outputs `[T B H]`, final h and c; differentiable if gradients are enabled."""
        if not torch.is_grad_enabled():
            return self.results(*self.forward(tensors, save=False))
        outputs: Tensors = Recurrence.apply(self, *tensors)  # type: ignore[no-untyped-call]
        return outputs

    def weights(self, flat: Sequence[torch.Tensor]) -> list[Weights]:
        """The weights of every layer, by name."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: len(flat) // self.layers]
        rest = iter(flat)
        return [{name: next(rest) for name in names} for _ in range(self.layers)]

    def fold_weights(self, tensors: Sequence[torch.Tensor]) -> tuple[Folded, list[torch.Tensor]]:
        """The weights as the kernel takes them; x, h, c and all weights, padded."""
        x, h, c, *flat = tensors
        folded = fold("lstm", self.weights(flat), None, characters=False)
        return folded, [pad_last(x).contiguous(), *initial(folded, {"h": h, "c": c}), *folded.flat]

    def stack(self, folded: Folded, source: torch.Tensor, save: bool) -> Stack:
        """The kernel's pass, not yet run."""
        return Stack("lstm", self.precision, folded.by_layer, None, source, self.masks, save)

    def forward(self, tensors: Sequence[torch.Tensor], save: bool) -> tuple[Folded, Stack]:
        """Run the kernel's pass."""
        with torch.no_grad():
            folded, (source, h, c, *_) = self.fold_weights(tensors)
            return folded, self.stack(folded, source, save).forward(h, c)

    def results(self, folded: Folded, stack: Stack) -> Tensors:
        """Outputs and final states of the real units."""
        state = unpad(folded, *stack.finals())
        return without_padding(stack.outputs(), folded.units), state["h"], state["c"]

    def in_torch(self, tensors: Sequence[torch.Tensor]) -> Tensors:
        """As `run`, by torch's own layers in float32 with the same masks: differentiable any number of times."""
        x, h, c, *flat = tensors
        finals = []
        with torch.autocast("cpu", enabled=False):
            for k, weights in enumerate(self.weights(flat)):
                if k > 0 and self.masks.keep < 1:
                    x = x * self._mask(k - 1, x)
                state = [h[k : k + 1], c[k : k + 1]]
                x, *final = torch.lstm(x, state, list(weights.values()), len(weights) == 4, 1, 0.0, False, False, False)
                finals.append(final)
        return x, torch.cat([h for h, _ in finals]), torch.cat([c for _, c in finals])

    def _mask(self, layer: int, outputs: torch.Tensor) -> torch.Tensor:
        """What the kernel multiplies a layer's outputs `[T B H]` by."""
        T, B, H = outputs.shape
        ones = outputs.new_ones(T, B, lib.pad_width(H))
        return self.masks.apply("fp32", layer, ones)[..., :H]


class Recurrence(torch.autograd.Function):
    """`Pass.run` for autograd."""

    @staticmethod
    def forward(ctx: Any, how: Pass, *tensors: torch.Tensor) -> Tensors:
        """Outputs `[T B H]`, final h and c."""
        save = any(ctx.needs_input_grad)
        folded, stack = how.forward(tensors, save)
        if save:
            ctx.how = how
            ctx.save_for_backward(*tensors, *stack.tensors_to_save())
            ctx.set_materialize_grads(False)
        return how.results(folded, stack)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Gradients of everything that `forward` took."""
        n, needs = len(ctx.needs_input_grad) - 1, ctx.needs_input_grad[1:]
        kept = ctx.saved_tensors  # once: a hook may compute them anew each time
        tensors, saved = kept[:n], kept[n:]
        gradients = _differentiable if torch.is_grad_enabled() else _by_kernel
        return None, *gradients(ctx.how, tensors, needs, saved, grads)


def _differentiable(
    how: Pass, tensors: Tensors, needs: Sequence[bool], _: Tensors, grads: Sequence[torch.Tensor | None]
) -> list[torch.Tensor | None]:
    # A name of its own for each input: one may depend on another, and only what passes through this call counts here.
    inputs = [tensor.view_as(tensor) for tensor in tensors]
    return _pull_gradients(how.in_torch(inputs), inputs, needs, grads, create_graph=True)


def _by_kernel(
    how: Pass, tensors: Tensors, needs: Sequence[bool], saved: Tensors, grads: Sequence[torch.Tensor | None]
) -> list[torch.Tensor | None]:
    leaves = [tensor.detach().requires_grad_(bool(need)) for tensor, need in zip(tensors, needs, strict=True)]
    with torch.enable_grad():
        folded, padded = how.fold_weights(leaves)
    stack = how.stack(folded, padded[0], save=True)
    with torch.no_grad():
        stack.restore(saved)
        if stack.is_spent:
            _, stack = how.forward(tensors, save=True)
        found = stack.backward(*(None if grad is None else pad_last(grad.float()).contiguous() for grad in grads))
    flat = [found.weights[k][name] for k, layer in enumerate(folded.names) for name in layer]
    return _pull_gradients(padded, leaves, needs, [found.source, found.hidden, found.cells, *flat], create_graph=False)


def _pull_gradients(
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    needs: Sequence[bool],
    grads: Sequence[torch.Tensor | None],
    create_graph: bool,
) -> list[torch.Tensor | None]:
    """The gradients of those inputs that need one, from those of the outputs."""
    pairs = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if grad is not None and y.requires_grad]
    wanted = [tensor for tensor, need in zip(inputs, needs, strict=True) if need]
    found = iter(
        torch.autograd.grad(
            [y for y, _ in pairs],
            wanted,
            [grad for _, grad in pairs],
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return [next(found) if need else None for need in needs]
