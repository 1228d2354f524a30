"""One pass of a stack of recurrent layers through the kernels: forward, and once, backward.

The first layer reads characters, by the table to look them up in, or vectors. Everything inside is time-major, `[T, B,
H]` with H in whole lanes, so that a step's rows lie together and the matrix products over all characters need no
copies. The gradients of the gates overwrite the saved gates, which halves the memory; a second backward pass needs a
second forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from storycell.nn.backends.backend import Weights
from storycell.nn.backends.native import library as lib
from storycell.nn.backends.native.buffers import buffers
from storycell.nn.backends.native.ops import drop, multiply_transposed, product


@dataclass(frozen=True)
class Masks:
    """Dropout of a pass: a seed for the output of each layer (the last one's is used by whoever reads it)."""

    keep: float = 1.0
    seeds: tuple[int, ...] = ()

    def apply(self, precision: str, layer: int, source: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Elements or gradients `[T, B, H]` (or as rows) of a layer's output, with the layer's mask applied."""
        return drop(precision, source, self.seeds[layer], self.keep, source.numel(), out)


def new_masks(dropout: float, layers: int) -> Masks:
    """Masks of a pass, from torch's own generator, so that seeding it makes them, as everywhere in torch."""
    if not dropout:
        return Masks()
    seeds = torch.randint(0, 2**63 - 1, (layers,), dtype=torch.int64, device="cpu")
    return Masks(1.0 - dropout, tuple(seeds.tolist()))


@dataclass
class Layer:
    """What one layer's forward pass leaves for the backward pass."""

    hidden: torch.Tensor  # [T+1, B, H] elements; 0 is the initial state
    below: torch.Tensor | None = None  # [T*B, D] elements: what it read, where that was vectors
    cells: torch.Tensor | None = None  # lstm: [T+1, B, H]
    gates: torch.Tensor | None = None  # [T*B, S*H] elements, later their gradients
    carry: torch.Tensor | None = None  # [B, H] float32: gru's hidden state, or lstm's cell state where `cells` is None
    owns_below: bool = False  # whether `below` is memory of its own, not a view of the source or of the layer below


@dataclass
class Gradients:
    """What a backward pass gives."""

    source: torch.Tensor  # of the table [V, G*H], or of the vectors [T, B, D]
    hidden: torch.Tensor  # of the initial hidden states [L, B, H]
    cells: torch.Tensor | None
    weights: list[Weights] = field(default_factory=list)


class Stack:
    """One pass; its backward pass needs `tensors_to_save`, which autograd keeps and `restore` takes back."""

    def __init__(
        self,
        cell: str,
        precision: str,
        weights: list[Weights],
        ids: torch.Tensor | None,
        source: torch.Tensor,
        masks: Masks,
        save: bool,
    ) -> None:
        """`ids [B T]` and `source`, the table `[V G*H]`; or None and vectors `[T B D]`. `save`: for a backward pass."""
        self.cell, self.precision, self.weights, self.masks = cell, precision, weights, masks
        self.gates, self.element = lib.GATES[cell], lib.ELEMENT[precision]
        self.ids, self.source = ids, source
        if ids is None:
            self.steps, self.streams, _ = source.shape
        else:
            self.streams, self.steps = ids.shape
        self.units = weights[0]["recurrent"].shape[1]
        self.saves = save
        self._spent = torch.zeros(1, dtype=torch.bool, device="cpu")  # saved with what it tells of
        self.layers: list[Layer] = []

    @property
    def is_spent(self) -> bool:
        """Whether a backward pass has overwritten what the forward pass saved."""
        return bool(self._spent)

    def tensors_to_save(self) -> list[torch.Tensor]:
        """What a backward pass needs beside source and weights."""
        kept = [self._spent]
        for layer in self.layers:
            below = layer.below if layer.owns_below else None
            kept += [tensor for tensor in (layer.hidden, layer.cells, layer.gates, below) if tensor is not None]
        return kept

    def restore(self, saved: Sequence[torch.Tensor]) -> "Stack":
        """A stack that has not run, made one that has: `saved` comes from one with the same arguments."""
        tensors, (T, B, H), f32 = iter(saved), (self.steps, self.streams, self.units), torch.float32
        self._spent = next(tensors)
        for k in range(len(self.weights)):
            layer = Layer(next(tensors), cells=next(tensors) if self.cell == "lstm" else None, gates=next(tensors))
            layer.owns_below = self._makes_below(k)
            layer.below = next(tensors) if layer.owns_below else self._below(k) if self._reads_vectors(k) else None
            lib.address(layer.hidden, "saved hidden states", self.element, (T + 1, B, H))
            if layer.cells is not None:
                lib.address(layer.cells, "saved cell states", f32, (T + 1, B, H))
            assert layer.gates is not None
            lib.address(layer.gates, "saved gates", self.element, (T * B, lib.SAVED[self.cell] * H))
            self.layers.append(layer)
        return self

    def rows(self, layer: int, first: int) -> torch.Tensor:
        """Hidden states before (0) or after (1) every step, one row a character: `[T*B, H]` elements."""
        return self.layers[layer].hidden[first : first + self.steps].view(-1, self.units)

    def outputs(self) -> torch.Tensor:
        """What the last layer gives, float32 `[T B H]`, a copy."""
        return lib.widen(self.precision, self.layers[-1].hidden[1:])

    def finals(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden and cell state after the last step, `[L B H]`, fresh tensors; no cell state is an empty tensor."""
        gru = self.cell == "gru"
        h = [layer.carry if gru else lib.widen(self.precision, layer.hidden[self.steps]) for layer in self.layers]
        hidden = torch.stack([state for state in h if state is not None])
        if self.cell != "lstm":
            return hidden, lib.empty(0)
        c = [layer.carry if layer.cells is None else layer.cells[self.steps] for layer in self.layers]
        return hidden, torch.stack([state for state in c if state is not None])

    def _arguments(self) -> lib.Recurrence:
        a = lib.Recurrence()
        a.cell, a.precision = lib.CELLS[self.cell], lib.PRECISIONS[self.precision]
        a.steps, a.streams, a.units = self.steps, self.streams, self.units
        return a

    def forward(self, hidden: torch.Tensor, cells: torch.Tensor) -> "Stack":
        """Run, from initial states `[L B H]`, padded; a cell without a cell state ignores `cells`."""
        shape = (len(self.weights), self.streams, self.units)
        lib.address(hidden, "hidden state", torch.float32, shape)
        if self.cell == "lstm":
            lib.address(cells, "cell state", torch.float32, shape)
        for k, weight in enumerate(self.weights):
            self.layers.append(self._layer(k, weight, hidden, cells))
        return self

    def _layer(self, k: int, weight: Weights, hidden: torch.Tensor, cells: torch.Tensor) -> Layer:
        T, B, H, G = self.steps, self.streams, self.units, self.gates
        a = self._arguments()
        packed = lib.pack(self.precision, weight["recurrent"].t(), H, H, G if G > 1 else 0)
        a.packed = packed.data_ptr()
        layer = Layer(buffers.take((T + 1, B, H), self.element))
        projected = self._input(a, k, weight, layer)  # alive until the call has read it
        lib.convert(self.precision, hidden[k], layer.hidden[0])
        a.hidden = layer.hidden.data_ptr()
        if self.cell == "lstm" and self.saves:
            layer.cells = buffers.take((T + 1, B, H), torch.float32)
            layer.cells[0].copy_(cells[k])
            a.cell_state = layer.cells.data_ptr()
        elif self.cell != "rnn":
            layer.carry = (cells if self.cell == "lstm" else hidden)[k].clone()
            a.carry = layer.carry.data_ptr()
        if self.cell == "gru":
            a.reset_bias = lib.address(weight["reset_bias"], "bias_hh", torch.float32, (H,))
        if self.saves:
            layer.gates = buffers.take((T * B, lib.SAVED[self.cell] * H), self.element)
            a.saved = layer.gates.data_ptr()
        lib.call("forward", a)
        del projected
        return layer

    def _input(self, a: lib.Recurrence, k: int, weight: Weights, layer: Layer) -> torch.Tensor | None:
        """Set what the layer reads: a table and ids, or a projection, which is returned to be kept alive."""
        T, B, H, G = self.steps, self.streams, self.units, self.gates
        if not self._reads_vectors(k):
            V = a.characters = self.source.shape[0]
            a.table = lib.address(self.source, "table", torch.float32, (V, G * H))
            self._set_ids(a)
            return None
        layer.below, layer.owns_below = self._below(k), self._makes_below(k)
        D = layer.below.shape[1]
        lib.address(weight["input"], "weight_ih", torch.float32, (G * H, D))
        projected = buffers.take((T * B, G * H), torch.float32)
        packed = lib.pack(self.precision, weight["input"].t(), D, G * H)
        product(self.precision, layer.below, packed, G * H, weight["bias"], projected)
        a.projected = projected.data_ptr()
        return projected

    def _set_ids(self, a: lib.Recurrence | lib.TableGradient) -> None:
        assert self.ids is not None
        a.ids = lib.address(self.ids, "ids", torch.int64, (self.streams, self.steps), contiguous=False)
        a.ids_stream_stride, a.ids_step_stride = self.ids.stride()

    def _reads_vectors(self, k: int) -> bool:
        return k > 0 or self.ids is None

    def _makes_below(self, k: int) -> bool:
        """Whether what layer k reads is neither the source nor the hidden states below, but made from them."""
        return self._reads_vectors(k) and (self.masks.keep < 1 if k > 0 else self.precision != "fp32")

    def _below(self, k: int) -> torch.Tensor:
        """What layer k reads, as rows of elements: the vectors, or the masked outputs of the layer below."""
        if k > 0:
            rows = self.rows(k - 1, 1)
            if self.masks.keep == 1:
                return rows
            return self.masks.apply(self.precision, k - 1, rows, buffers.take(tuple(rows.shape), self.element))
        x = self.source.view(-1, self.source.shape[-1])
        if self.precision == "fp32":
            return x
        elements = buffers.take(tuple(x.shape), self.element)
        lib.convert(self.precision, x, elements)
        return elements

    def backward(
        self, grad_top: torch.Tensor | None, grad_hidden: torch.Tensor | None, grad_cells: torch.Tensor | None
    ) -> Gradients:
        """All gradients, from those of the outputs `[T B H]` and final states `[L B H]` (float32, contiguous, or None).

        Raises `RuntimeError` when called a second time.
        """
        if self.is_spent or not self.saves:
            raise RuntimeError(
                "the native backward pass overwrites what the forward pass saved: "
                "it can run once (retain_graph and double backward are not supported)"
            )
        self._spent.numpy()[0] = True  # unseen by autograd, which would refuse to hand out what was changed
        L, B, H = len(self.weights), self.streams, self.units
        grads = Gradients(
            lib.empty(0),
            lib.empty(L, B, H),
            None if self.cell != "lstm" else lib.zeros(L, B, H) if grad_cells is None else grad_cells.clone(),
            [{} for _ in range(L)],
        )
        for k in reversed(range(L)):
            self._through_time(k, grad_top, grad_hidden, grads)
            grad_top = self._weight_gradients(k, grads)
        if grad_top is not None:
            grads.source = grad_top
        return grads

    def _through_time(
        self, k: int, grad_top: torch.Tensor | None, grad_hidden: torch.Tensor | None, grads: Gradients
    ) -> None:
        """Turn the saved gates of a layer into their gradients."""
        T, B, H, L = self.steps, self.streams, self.units, len(self.weights)
        layer, f32 = self.layers[k], torch.float32
        assert layer.gates is not None
        packed = lib.pack(self.precision, self.weights[k]["recurrent"], self.gates * H, H)
        a = self._arguments()
        a.packed, a.hidden, a.saved = packed.data_ptr(), layer.hidden.data_ptr(), layer.gates.data_ptr()
        if grad_top is not None:
            a.grad_output = lib.address(grad_top, "gradient of the outputs", f32, (T, B, H))
        if grad_hidden is not None:
            lib.address(grad_hidden, "gradient of the hidden state", f32, (L, B, H))
            a.grad_hidden = grad_hidden[k].data_ptr()
        a.grad_initial = grads.hidden[k].data_ptr()
        if grads.cells is not None and layer.cells is not None:
            lib.address(grads.cells, "gradient of the cell state", f32, (L, B, H))
            a.cell_state, a.grad_carry = layer.cells.data_ptr(), grads.cells[k].data_ptr()
        carry = lib.zeros(B, H) if self.cell == "gru" else None
        if carry is not None:
            a.carry = carry.data_ptr()
        lib.call("backward", a)

    def _weight_gradients(self, k: int, grads: Gradients) -> torch.Tensor | None:
        """The gradients of a layer's weights, from those of its gates; returns that of what it read, if vectors."""
        T, B, H, G = self.steps, self.streams, self.units, self.gates
        layer, grad = self.layers[k], grads.weights[k]
        gates, gru = layer.gates, self.cell == "gru"
        assert gates is not None
        sums = None if layer.below is None and not gru else lib.empty(G * H)  # a table's rows hold the bias already
        table = None
        if layer.below is None:
            assert self.ids is not None
            grads.source = lib.empty(self.source.shape[0], G * H)
            table = None if gru else (self.ids, grads.source)  # gru's table meets other columns than its W_hh
        grad["recurrent"] = multiply_transposed(
            self.precision, gates, G * H, self.rows(k, 0), column_sums=sums, table=table
        )
        if gru and sums is not None:
            grad["reset_bias"] = sums[2 * H :]
        if layer.below is not None and sums is not None:
            to_below = self._input_gradients(k, gates, layer.below, sums, grad)
            if k > 0 and self.masks.keep < 1:
                self.masks.apply("fp32", k - 1, to_below, to_below)
            return to_below.view(T, B, -1)
        if gru:
            self._table_gradient(gates, grads.source)
        return None

    def _input_gradients(
        self, k: int, gates: torch.Tensor, below: torch.Tensor, sums: torch.Tensor, grad: Weights
    ) -> torch.Tensor:
        """Fill in the gradients of `input` and `bias`; returns that of the rows below, `[T*B, D]`."""
        H, G, D = self.units, self.gates, below.shape[1]
        weight = self.weights[k]["input"]
        if self.cell == "gru":  # its gates are saved as r, z, h_n, x_n; the input meets r, z, x_n
            last = lib.empty(H)
            upper = multiply_transposed(self.precision, gates, 2 * H, below)
            lower = multiply_transposed(self.precision, gates, H, below, offset=3 * H, column_sums=last)
            grad["input"], grad["bias"] = torch.cat((upper, lower)), torch.cat((sums[: 2 * H], last))
            weight = torch.cat((weight[: 2 * H], lib.zeros(H, D), weight[2 * H :]))
        else:
            grad["input"] = multiply_transposed(self.precision, gates, G * H, below)
            grad["bias"] = sums
        packed = lib.pack(self.precision, weight, gates.shape[1], D)
        shape = (gates.shape[0], D)
        out = buffers.take(shape, torch.float32) if k > 0 else lib.empty(*shape)  # the last one leaves the pass
        return product(self.precision, gates, packed, D, out=out)

    def _table_gradient(self, gates: torch.Tensor, grad: torch.Tensor) -> None:
        a = lib.TableGradient()
        a.precision, a.cell = lib.PRECISIONS[self.precision], lib.CELLS[self.cell]
        a.steps, a.streams, a.units, a.characters = self.steps, self.streams, self.units, grad.shape[0]
        self._set_ids(a)
        a.gate_grads, a.grad = gates.data_ptr(), grad.data_ptr()
        lib.call("table_gradient", a)
