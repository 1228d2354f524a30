"""`LSTM`, a torch.nn.LSTM with the native kernel inside.

In and out as torch.nn.LSTM: the same arguments, parameters, state_dict, results and gradients (dropout draws other
masks from the same generator). What the kernel does not cover is computed by torch's own forward, and
`backend_reason` says so.

The surprising decision: whatever is unusual about a call, a wrong shape included, is an obstacle to the kernel, so it
is torch that computes it or raises its own error; nothing is checked twice and nothing is worded differently.
"""

from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence

from storycell import cells
from storycell.backends import NativeBackend, TorchBackend
from storycell.backends.native import isa
from storycell.errors import SettingsError

_KERNEL = NativeBackend()
_LANES = 16  # the kernel pads H to a multiple; a padded unit must never see an infinite number

Tensors = tuple[torch.Tensor, ...]
HiddenAndCell = tuple[torch.Tensor, torch.Tensor]


class LSTM(torch.nn.LSTM):
    """A multi-layer long short-term memory (Hochreiter & Schmidhuber 1997): drop it in for torch.nn.LSTM.

    Arguments are torch.nn.LSTM's, and one more: `precision`, `fp32` (default) or `bf16`, which rounds what goes into
    the kernel's matrix products and keeps sums, cell state, inputs and outputs in float32. Under torch's autocast to
    bf16 products are bf16 and results have that type, as torch's have.

    The kernel computes what is float32 on a CPU and runs forwards in time. Bidirectional layers, projections, packed
    sequences, other devices and types, and gradients of gradients are torch's own implementation.
    """

    def __init__(self, *args: Any, precision: str = "fp32", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if precision not in ("fp32", "bf16"):
            raise SettingsError(f"precision = {precision!r}: it is fp32 or bf16")
        self.precision = precision
        self._call_obstacle: str | None = None

    @property
    def backend_reason(self) -> str:
        """What computed the last call, or would compute a plain first one, and why."""
        if obstacle := self._obstacle() or self._call_obstacle:
            rounding = "; precision='bf16' is the kernel's alone" if self.precision == "bf16" else ""
            return f"torch's own LSTM, because {obstacle}{rounding}"
        return f"the native kernel ({isa()}): float32 on a CPU, {self.precision} products"

    def extra_repr(self) -> str:
        """As torch's, with the precision where it is not the default."""
        return super().extra_repr() + ("" if self.precision == "fp32" else f", precision={self.precision!r}")

    def forward(  # type: ignore[override]
        self, input: torch.Tensor | PackedSequence, hx: HiddenAndCell | None = None
    ) -> tuple[torch.Tensor | PackedSequence, HiddenAndCell]:
        """input `[T B D]`, `[B T D]` with batch_first, or `[T D]`; hx `(h, c)` `[L B H]` or `[L H]`, zeros if None.

        Gives outputs of the last layer, as the input with H for D, and the final `(h, c)`. Errors are torch's.
        """
        self._call_obstacle = self._obstacle() or self._obstacle_of_call(input, hx)
        if self._call_obstacle is not None:
            result: tuple[torch.Tensor | PackedSequence, HiddenAndCell] = super().forward(input, hx)
            return result
        self._check_weights()
        assert isinstance(input, torch.Tensor)
        batched, turned = input.dim() == 3, not self.batch_first
        x = input if batched else input.unsqueeze(0)
        x = x.transpose(0, 1) if batched and turned else x
        h, c = self._initial(x, hx) if batched or hx is None else (part.unsqueeze(1) for part in hx)
        y, h, c = self._run(x, h, c)
        if not batched:
            return y.squeeze(0), (h.squeeze(1), c.squeeze(1))
        return y.transpose(0, 1) if turned else y, (h, c)

    def _initial(self, x: torch.Tensor, hx: HiddenAndCell | None) -> HiddenAndCell:
        if hx is not None:
            return hx[0], hx[1]
        zeros = torch.zeros(self.num_layers, x.shape[0], self.hidden_size)
        return zeros, zeros

    def _run(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Tensors:
        """x `[B T D]`, h and c `[L B H]` -> outputs `[B T H]`, final h and c."""
        autocast = _autocast_to_bf16()
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        how = How(self.num_layers, dropout, autocast or self.precision == "bf16", autocast)
        flat = [weight for layer in self._layers() for weight in layer.values()]
        if not torch.is_grad_enabled():  # keep nothing for a backward pass that cannot come
            return how.run([t.detach() for t in (x, h, c, *flat)])
        outputs: Tensors = Recurrence.apply(how, x, h, c, *flat)  # type: ignore[no-untyped-call]
        return outputs

    def _check_weights(self) -> None:
        """Refuse weights that were replaced by others of another shape, which torch would read as they come."""
        for k, layer in enumerate(self._layers()):
            D = self.input_size if k == 0 else self.hidden_size
            shapes = cells.get("lstm").shapes(D, self.hidden_size, bool(self.bias))
            for name, weight in layer.items():
                if tuple(weight.shape) != shapes[name]:
                    raise RuntimeError(f"Expected {name}_l{k} size {shapes[name]}, got {tuple(weight.shape)}")

    def _layers(self) -> list[dict[str, torch.Tensor]]:
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        return [{name: getattr(self, f"{name}_l{k}") for name in names} for k in range(self.num_layers)]

    def _obstacle(self) -> str | None:
        """Why the kernel cannot compute this layer, whatever it is given."""
        if self.bidirectional:
            return "the kernel only runs forwards in time and this layer is bidirectional"
        if self.proj_size:
            return "the kernel has no projections (proj_size)"
        if self.training and self.dropout == 1:
            return "a dropout of 1 leaves nothing to compute"
        if torch.compiler.is_compiling():
            return "torch.compile cannot look into the kernel"
        for k, layer in enumerate(self._layers()):
            for name, weight in layer.items():
                if (obstacle := _KERNEL.obstacle("lstm", weight)) is not None:
                    return obstacle
                if weight.is_meta or type(weight) not in (torch.Tensor, torch.nn.Parameter):
                    return f"{name}_l{k} is not a plain tensor on the CPU"
        return None

    def _obstacle_of_call(self, x: Any, hx: Any) -> str | None:
        """Why the kernel cannot compute this call, or None; torch computes it then, or raises."""
        if isinstance(x, PackedSequence):
            return "the kernel reads no packed sequences"
        if torch._C._are_functorch_transforms_active():
            return "the kernel does not take part in torch.func's transforms"
        if torch.is_autocast_enabled("cpu") and not _autocast_to_bf16():
            return f"the kernel does not multiply {torch.get_autocast_dtype('cpu')}"
        if (obstacle := _unusual("the input", x)) is not None:
            return obstacle
        if x.dim() not in (2, 3) or not x.numel() or x.shape[-1] != self.input_size:
            return f"an input of shape {tuple(x.shape)} is not for this layer"
        batch = [x.shape[0 if self.batch_first else 1]] if x.dim() == 3 else []
        shape = (self.num_layers, *batch, self.hidden_size)
        if hx is not None:
            if not isinstance(hx, tuple | list) or len(hx) != 2:
                return "the initial state is not a pair of tensors"
            for part in hx:
                if (obstacle := _unusual("the initial state", part)) is not None:
                    return obstacle
                if tuple(part.shape) != shape:
                    return f"an initial state of shape {tuple(part.shape)} is not the expected {shape}"
        if self.hidden_size % _LANES and not all(part.isfinite().all() for part in (x, *(hx or ()))):
            return "the input is not finite, and the kernel's padded units would spread that"
        return None


def _unusual(name: str, tensor: Any) -> str | None:
    """Why the kernel does not take a tensor, or None."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
        return f"{name} is not a plain tensor"
    if tensor.device.type != "cpu":
        return f"{name} is on {tensor.device}"
    if tensor.dtype != torch.float32 and not (tensor.dtype == torch.bfloat16 and _autocast_to_bf16()):
        return f"{name} is {tensor.dtype}, and the kernel computes float32"
    return None


def _autocast_to_bf16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


class How(NamedTuple):
    """What a call is, apart from its tensors."""

    layers: int
    dropout: float
    bf16: bool
    gives_bf16: bool  # whether results have that type, as under autocast

    def run(self, tensors: list[torch.Tensor], backend: NativeBackend | TorchBackend = _KERNEL) -> Tensors:
        """x `[B T D]`, h and c `[L B H]` and all weights -> outputs `[B T H]`, final h and c."""
        x, h, c, *flat = tensors
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: len(flat) // self.layers]
        weights = iter(flat)
        layers = [{name: next(weights) for name in names} for _ in range(self.layers)]
        start = {"h": h.float(), "c": c.float()}
        keywords = {"bf16": self.bf16} if isinstance(backend, NativeBackend) else {}
        y, state = backend.run("lstm", x.float(), start, layers, self.dropout, **keywords)
        outputs = (y, state["h"], state["c"])
        return tuple(t.bfloat16() for t in outputs) if self.gives_bf16 else outputs


class Recurrence(torch.autograd.Function):
    """The kernel for autograd, with what its own graph lacks: a second backward pass, and gradients of gradients.

    The kernel's backward pass overwrites what its forward pass saved. So the pass is kept here as a graph of its own;
    when it is asked for gradients again it is run again, and gradients that are to be differentiated are torch's.
    """

    @staticmethod
    def forward(ctx: Any, how: How, *tensors: torch.Tensor) -> Tensors:
        """As `How.run`."""
        ctx.how, ctx.random = how, torch.get_rng_state() if how.dropout else None
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        needs = ctx.needs_input_grad[1:]
        ctx.graph = _graph(how, tensors, needs)
        return tuple(output.detach() for output in ctx.graph[1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[Any, ...]:
        """Gradients of everything that `forward` took."""
        tensors, needs = ctx.saved_tensors, ctx.needs_input_grad[1:]
        differentiable = torch.is_grad_enabled()
        graph, ctx.graph = ctx.graph, None
        if differentiable:
            if ctx.how.dropout:
                raise RuntimeError(
                    "gradients of gradients through dropout: storycell.LSTM cannot repeat its masks in torch; "
                    "use torch.nn.LSTM, or dropout=0"
                )
            graph = (list(tensors), ctx.how.run(list(tensors), TorchBackend()))
        elif graph is None:
            with torch.random.fork_rng(devices=[], enabled=ctx.random is not None):
                if ctx.random is not None:
                    torch.set_rng_state(ctx.random)
                graph = _graph(ctx.how, tensors, needs)
        inputs, outputs = graph
        pulled = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if grad is not None]
        wanted = [t for t, need in zip(inputs, needs, strict=True) if need]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in pulled],
                wanted,
                [grad for _, grad in pulled],
                create_graph=differentiable,
                allow_unused=True,
            )
        )
        return None, *(next(found) if need else None for need in needs)


def _graph(how: How, tensors: Tensors, needs: Tensors) -> tuple[list[torch.Tensor], Tensors]:
    """A pass of the kernel from leaves of its own: the leaves, and the outputs."""
    leaves = [t.detach().requires_grad_(bool(need)) for t, need in zip(tensors, needs, strict=True)]
    with torch.enable_grad():
        return leaves, how.run(leaves)
