"""The native backend: the kernels behind the signature of all backends."""

from contextlib import AbstractContextManager

import torch

from storycell.engine.library import MULTIPLY_BF16
from storycell.nn.backends.backend import Backend, Network, Scorer, Weights
from storycell.nn.backends.native import library as lib
from storycell.nn.backends.native.autograd import Call, Head, Hidden, MeanNats
from storycell.nn.backends.native.stack import new_masks
from storycell.nn.backends.native.tensors import Folded, fold, initial, pad_last, unpad, without_padding
from storycell.nn.cells.cell import State


class NativeBackend(Backend):
    """lstm, gru and rnn in float32 on a CPU, with products in float32 or bf16."""

    name = "native"
    merit = "our own kernel, the fastest on a CPU"

    def obstacle(self, cell: str, weight: torch.Tensor | None = None) -> str | None:
        """None for the three cells with float32 weights on a CPU, where the kernel was built."""
        if cell not in lib.CELLS:
            return f"the kernel has no code for the cell {cell!r}"
        try:
            lib.library()
            lib.isa()
        except (ImportError, RuntimeError) as error:
            return str(error)
        if weight is None or weight.is_meta:
            return None
        if weight.device.type != "cpu":
            return f"the kernel runs on the CPU, not on {weight.device}"
        return None if weight.dtype == torch.float32 else f"the kernel computes float32, not {weight.dtype}"

    def multiplies_bf16(self, device: torch.device) -> bool:
        """Whether the instruction set in use has bf16 products."""
        return lib.isa() in MULTIPLY_BF16

    def exclusive(self) -> AbstractContextManager[None]:
        """torch on one thread: its others would go on spinning where the kernels compute next."""
        return lib.one_torch_thread()

    def run(
        self,
        cell: str,
        x: torch.Tensor,
        state: State,
        layers: list[Weights],
        dropout: float = 0.0,
        bf16: bool | None = None,
    ) -> tuple[torch.Tensor, State]:
        """As `Backend.run`; bf16 products under torch's autocast to bf16, or as `bf16` says."""
        if bf16 is None:
            bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        folded = fold(cell, layers, None, characters=False)
        source = pad_last(x.float().transpose(0, 1)).contiguous()
        return _hidden(_call(folded, None, dropout, bf16, len(layers)), folded, source, state)

    def hidden(self, network: Network, ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """As `Backend.hidden`, the first layer by table. Vectors where rows of a context are added."""
        if network.context is not None:
            return super().hidden(network, ids, state)
        folded = fold(network.cell, network.layers, network.embedding, characters=True)
        assert folded.table is not None
        call = _call(folded, ids, network.dropout, network.bf16, len(network.layers))
        return _hidden(call, folded, folded.table, state)

    def mean_nats(
        self, network: Network, ids: torch.Tensor, targets: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """As `Backend.mean_nats`, fused. Vectors where rows of a context are added."""
        if network.context is not None:
            return super().mean_nats(network, ids, targets, state)
        folded = fold(network.cell, network.layers, network.embedding, characters=True)
        call = _call(folded, ids, network.dropout, network.bf16, len(network.layers))
        w_out = pad_last(network.output_weight).contiguous()
        nats, h, c = MeanNats.apply(  # type: ignore[no-untyped-call]
            call, targets, folded.table, *initial(folded, state), w_out, network.output_bias, *folded.flat
        )
        return nats, unpad(folded, h, c)

    @torch.no_grad()
    def nats(
        self, network: Network, ids: torch.Tensor, targets: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """As `Backend.nats`, fused."""
        if network.context is not None:
            return super().nats(network, ids, targets, state)
        return self.scorer(network)(ids, targets, state)

    @torch.no_grad()
    def scorer(self, network: Network) -> Scorer:
        """As `Backend.scorer`: the table of all characters is computed once."""
        folded = fold(network.cell, network.layers, network.embedding, characters=True)
        w_out = pad_last(network.output_weight).contiguous()

        @torch.no_grad()
        def nats(ids: torch.Tensor, targets: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            assert folded.table is not None
            call = _call(folded, ids, network.dropout, network.bf16, len(network.layers))
            h, c = initial(folded, state)
            stack = call.stack(folded.table, folded.flat, save=False).forward(h, c)
            losses = Head.reading(stack, len(w_out)).losses(w_out, network.output_bias, targets, with_gradient=False)
            T, B = ids.shape[1], ids.shape[0]
            return losses.view(T, B).t(), unpad(folded, *stack.finals())

        return nats


def _call(folded: Folded, ids: torch.Tensor | None, dropout: float, bf16: bool, L: int) -> Call:
    return Call(folded.cell, "bf16" if bf16 else "fp32", folded.names, new_masks(dropout, L), ids)


def _hidden(call: Call, folded: Folded, source: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    outputs, h, c = Hidden.apply(  # type: ignore[no-untyped-call]
        call, source, *initial(folded, state), *folded.flat
    )
    return without_padding(outputs, folded.units).transpose(0, 1), unpad(folded, h, c)
