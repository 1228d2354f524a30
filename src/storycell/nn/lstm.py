"""`LSTM`, a torch.nn.LSTM with the native kernel inside.

Arguments, parameters, state_dict, results and gradients are torch's (dropout draws other masks from the same
generator). What the kernel does not cover is computed by torch's own forward, and `backend_reason` says so. Whatever is
unusual about a call, a wrong shape included, is an obstacle to the kernel, so torch computes it or raises its own
error; nothing is checked twice and no message is worded differently.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from storycell.errors import SettingsError
from storycell.nn.backends.backend import Weights
from storycell.nn.backends.native.backend import NativeBackend
from storycell.nn.backends.native.drop_in import Pass
from storycell.nn.backends.native.library import isa
from storycell.nn.backends.native.stack import new_masks

_KERNEL = NativeBackend()
_FEW = 32  # steps times streams: for no more than these, packing the weights costs more than the kernel saves
_LANES = 16  # the kernel pads H to a multiple; a padded unit must never see an infinite number

Tensors = tuple[torch.Tensor, ...]
HiddenAndCell = tuple[torch.Tensor, torch.Tensor]


class LSTM(torch.nn.LSTM):
    """A drop-in torch.nn.LSTM (Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735).

    Arguments are torch.nn.LSTM's, and one more: `precision`, `fp32` (default) or `bf16`, which rounds what goes into
    the kernel's matrix products and keeps sums, cell state, inputs and outputs in float32. Under torch's autocast to
    bf16 products are bf16 and results have that type, as torch's have.

    The kernel computes what is float32 on a CPU and runs forwards in time. Bidirectional layers, projections, packed
    sequences, other devices and types, a few steps at a time, and what torch exports or traces (`torch.export`,
    `torch.onnx`, `torch.jit`) are torch's own implementation; under `torch.compile` the layer runs as it does without.
    `torch.jit.script` takes a torch.nn.LSTM with the same parameters in its place.
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
        if obstacle := self._obstacle(self._layers()) or self._call_obstacle:
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
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return super().forward(input, hx)
        # Dynamo's tracing must not enter the kernel; disabling it takes seconds to import, so only where it is there.
        if "torch._dynamo" in sys.modules:
            return _run_eagerly()(self, input, hx)  # type: ignore[no-any-return]
        return self._eager(input, hx)

    def __prepare_scriptable__(self) -> torch.nn.LSTM:
        """What torch.jit.script compiles in the place of this layer: torch's own, with the same parameters."""
        options = (self.bias, self.batch_first, self.dropout, self.bidirectional, self.proj_size)
        plain = torch.nn.LSTM(
            self.input_size, self.hidden_size, self.num_layers, *options, device="meta", dtype=torch.float32
        )
        for name, parameter in self.named_parameters(recurse=False):
            setattr(plain, name, parameter)
        return plain.train(self.training)

    def _in_torch(
        self, input: torch.Tensor | PackedSequence, hx: HiddenAndCell | None, obstacle: str
    ) -> tuple[torch.Tensor | PackedSequence, HiddenAndCell]:
        self._call_obstacle = obstacle
        result: tuple[torch.Tensor | PackedSequence, HiddenAndCell] = super().forward(input, hx)
        return result

    def _eager(
        self, input: torch.Tensor | PackedSequence, hx: HiddenAndCell | None
    ) -> tuple[torch.Tensor | PackedSequence, HiddenAndCell]:
        layers = self._layers()
        if (obstacle := self._obstacle(layers) or self._obstacle_of_call(input, hx)) is not None:
            return self._in_torch(input, hx, obstacle)
        self._check_weights(layers)
        assert isinstance(input, torch.Tensor)
        batched, turned = input.dim() == 3, self.batch_first
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if batched and turned else x
        h, c = self._initial(x, hx) if batched or hx is None else (part.unsqueeze(1) for part in hx)
        y, h, c = self._run(x, h, c, [weight for layer in layers for weight in layer.values()])
        if not batched:
            return y.squeeze(1), (h.squeeze(1), c.squeeze(1))
        return y.transpose(0, 1) if turned else y, (h, c)

    def _initial(self, x: torch.Tensor, hx: HiddenAndCell | None) -> HiddenAndCell:
        if hx is not None:
            return hx[0], hx[1]
        zeros = torch.zeros(self.num_layers, x.shape[1], self.hidden_size, dtype=torch.float32, device="cpu")
        return zeros, zeros

    def _run(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, flat: list[torch.Tensor]) -> Tensors:
        """x `[T B D]`, h and c `[L B H]`, all weights -> outputs `[T B H]`, final h and c."""
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        if self._is_short(x):
            self._call_obstacle = "packing the weights for the kernel takes longer than so few steps"
            outputs: Tensors = torch.lstm(
                x, [h, c], flat, bool(self.bias), self.num_layers, dropout, self.training, False, False
            )
            return outputs
        self._call_obstacle = None
        autocast = _autocast_to_bf16()
        precision = "bf16" if autocast or self.precision == "bf16" else "fp32"
        how = Pass(self.num_layers, precision, new_masks(dropout, self.num_layers))
        outputs = how.run([x.float(), h.float(), c.float(), *flat])
        return tuple(t.bfloat16() for t in outputs) if autocast else outputs

    def _is_short(self, x: torch.Tensor) -> bool:
        return x.numel() <= _FEW * self.input_size

    def _check_weights(self, layers: list[Weights]) -> None:
        """Refuse weights that were replaced by others of another shape, which torch would read as they come."""
        G, H = 4 * self.hidden_size, self.hidden_size
        for k, layer in enumerate(layers):
            shapes = {"weight_ih": (G, self.input_size if k == 0 else H), "weight_hh": (G, H)}
            for name, weight in layer.items():
                if weight.shape != shapes.get(name, (G,)):
                    raise RuntimeError(f"Expected {name}_l{k} size {shapes.get(name, (G,))}, got {tuple(weight.shape)}")

    def _layers(self) -> list[Weights]:
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        return [{name: getattr(self, f"{name}_l{k}") for name in names} for k in range(self.num_layers)]

    def _obstacle(self, layers: list[Weights]) -> str | None:
        """Why the kernel cannot compute this layer, whatever it is given."""
        if self.bidirectional:
            return "the kernel only runs forwards in time and this layer is bidirectional"
        if self.proj_size:
            return "the kernel has no projections (proj_size)"
        if self.training and self.dropout == 1:
            return "a dropout of 1 leaves nothing to compute"
        if (obstacle := _KERNEL.obstacle("lstm")) is not None:
            return obstacle
        for k, layer in enumerate(layers):
            for name, weight in layer.items():
                if type(weight) not in (torch.Tensor, torch.nn.Parameter) or not weight.is_cpu:
                    return f"{name}_l{k} is not a plain tensor on the CPU"
                if weight.dtype != torch.float32:
                    return f"the kernel computes float32, not {weight.dtype}"
        return None

    def _obstacle_of_call(self, x: Any, hx: Any) -> str | None:
        """Why the kernel cannot compute this call, or None; torch computes it then, or raises."""
        if isinstance(x, PackedSequence):
            return "the kernel reads no packed sequences"
        if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
            return "the kernel does not take part in torch.func's transforms and forward-mode derivatives"
        if torch._C._len_torch_dispatch_stack():
            return "the kernel does not take part in what watches torch's operations"
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
        if (
            self.hidden_size % _LANES
            and not self._is_short(x)
            and not all(part.isfinite().all() for part in (x, *(hx or ())))
        ):
            return "the input is not finite, and the kernel's padded units would spread that"
        return None


_disabled: Callable[..., Any] | None = None


def _run_eagerly() -> Callable[..., Any]:
    """`LSTM._eager`, made such that torch.compile breaks the graph at it."""
    global _disabled
    if _disabled is None:
        _disabled = torch.compiler.disable(LSTM._eager)  # type: ignore[no-untyped-call]
    return _disabled


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
