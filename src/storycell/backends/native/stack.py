"""One pass of a stack of recurrent layers through the kernels: forward, and once, backward.

In: the folded weights, initial states, and what the first layer reads: characters and the table to look them up in, or
vectors. Out: the hidden states of every layer, final states; backward, all gradients.

Everything inside is time-major, `[T, B, H]` with H in whole lanes, so that a step's rows lie together and the products
over all characters need no copies. The surprising decision: the gradients of the gates overwrite the saved gates, which
halves the memory and makes a second backward pass impossible; it raises.
"""

from dataclasses import dataclass, field

import torch

from storycell.backends.backend import Weights
from storycell.backends.native import library as lib
from storycell.backends.native.buffers import Buffers, buffers
from storycell.backends.native.products import dropped, product, transposed


@dataclass(frozen=True)
class Masks:
    """Dropout of a pass: a seed for the output of each layer (the last one's is used by whoever reads it)."""

    keep: float = 1.0
    seeds: tuple[int, ...] = ()

    def apply(self, precision: str, layer: int, source: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Elements or gradients `[T, B, H]` (or as rows) of a layer's output, with the layer's mask applied."""
        return dropped(precision, source, self.seeds[layer], self.keep, source.numel(), out)


@dataclass
class Layer:
    """What one layer's forward pass leaves for the backward pass."""

    hidden: torch.Tensor  # [T+1, B, H] elements; 0 is the initial state
    below: torch.Tensor | None = None  # [T*B, D] elements: what it read, where that was vectors
    cells: torch.Tensor | None = None  # lstm: [T+1, B, H]
    gates: torch.Tensor | None = None  # [T*B, S*H] elements, later their gradients
    carry: torch.Tensor | None = None  # [B, H] float32: gru's hidden state, or lstm's cell state where `cells` is None


@dataclass
class Gradients:
    """What a backward pass gives."""

    source: torch.Tensor  # of the table [V, G*H], or of the vectors [T, B, D]
    hidden: torch.Tensor  # of the initial hidden states [L, B, H]
    cells: torch.Tensor | None
    weights: list[Weights] = field(default_factory=list)


class Stack:
    """Holds what the forward pass saved until the backward pass has used it."""

    def __init__(
        self,
        cell: str,
        precision: str,
        weights: list[Weights],
        ids: torch.Tensor | None,
        source: torch.Tensor,
        hidden: torch.Tensor,
        cells: torch.Tensor,
        masks: Masks,
        save: bool,
    ) -> None:
        """`ids [B T]` and `source`, the table `[V G*H]`; or None and vectors `[T B D]`. States `[L B H]`, padded."""
        self._taken: list[torch.Tensor] = []
        self._buffers = buffers if save else Buffers()  # reading comes in many sizes, of which none is kept
        self.cell, self.precision, self.weights, self.masks = cell, precision, weights, masks
        self.gates, self.element = lib.GATES[cell], lib.ELEMENT[precision]
        self.ids, self.source = ids, source
        if ids is None:
            self.steps, self.streams, _ = source.shape
        else:
            self.streams, self.steps = ids.shape
        self.units = hidden.shape[-1]
        self.saves, self.is_spent = save, False
        shape = (len(weights), self.streams, lib.padded(self.units))
        lib.address(hidden, "hidden state", torch.float32, shape)
        if cell == "lstm":
            lib.address(cells, "cell state", torch.float32, shape)
        self.layers: list[Layer] = []
        self._forward(hidden, cells)

    def __del__(self) -> None:
        self.release()

    def take(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A buffer that lives until `release`."""
        tensor = self._buffers.take(shape, dtype)
        self._taken.append(tensor)
        return tensor

    def release(self) -> None:
        """Give all buffers back."""
        taken, self._taken = self._taken, []
        self._buffers.give(taken)

    def rows(self, layer: int, first: int) -> torch.Tensor:
        """Hidden states before (0) or after (1) every step, one row a character: `[T*B, H]` elements."""
        return self.layers[layer].hidden[first : first + self.steps].view(-1, self.units)

    def outputs(self) -> torch.Tensor:
        """What the last layer gives, float32 `[T B H]`, a copy."""
        return lib.widen(self.precision, self.layers[-1].hidden[1:])

    def finals(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden and cell state after the last step, `[L B H]`, fresh tensors; no cell state is an empty tensor.

        They are not kept: autograd's context holds this stack, and a result in it would hold the context for ever.
        """
        gru = self.cell == "gru"
        h = [layer.carry if gru else lib.widen(self.precision, layer.hidden[self.steps]) for layer in self.layers]
        hidden = torch.stack([state for state in h if state is not None])
        if self.cell != "lstm":
            return hidden, torch.zeros(0)
        c = [layer.carry if layer.cells is None else layer.cells[self.steps] for layer in self.layers]
        return hidden, torch.stack([state for state in c if state is not None])

    def _arguments(self) -> lib.Recurrence:
        a = lib.Recurrence()
        a.cell, a.precision = lib.CELLS[self.cell], lib.PRECISIONS[self.precision]
        a.steps, a.streams, a.units = self.steps, self.streams, self.units
        return a

    def _forward(self, hidden: torch.Tensor, cells: torch.Tensor) -> None:
        for k, weight in enumerate(self.weights):
            layer, projected = self._layer(k, weight, hidden, cells)
            self.layers.append(layer)
            if projected is not None:
                self._buffers.give([projected])

    def _layer(
        self, k: int, weight: Weights, hidden: torch.Tensor, cells: torch.Tensor
    ) -> tuple[Layer, torch.Tensor | None]:
        T, B, H, G = self.steps, self.streams, self.units, self.gates
        a = self._arguments()
        packed = lib.pack(self.precision, weight["recurrent"].t(), H, H, G if G > 1 else 0)
        a.packed = packed.data_ptr()
        layer = Layer(self.take(T + 1, B, H, dtype=self.element))
        projected = self._input(a, k, weight, layer)
        lib.convert(self.precision, hidden[k], layer.hidden[0])
        a.hidden = layer.hidden.data_ptr()
        if self.cell == "lstm" and self.saves:
            layer.cells = self.take(T + 1, B, H)
            layer.cells[0].copy_(cells[k])
            a.cell_state = layer.cells.data_ptr()
        elif self.cell != "rnn":
            layer.carry = (cells if self.cell == "lstm" else hidden)[k].clone()
            a.carry = layer.carry.data_ptr()
        if self.cell == "gru":
            a.reset_bias = lib.address(weight["reset_bias"], "bias_hh", torch.float32, (H,))
        if self.saves:
            layer.gates = self.take(T * B, lib.SAVED[self.cell] * H, dtype=self.element)
            a.saved = layer.gates.data_ptr()
        lib.call("forward", a)
        return layer, projected

    def _input(self, a: lib.Recurrence, k: int, weight: Weights, layer: Layer) -> torch.Tensor | None:
        """Set what the layer reads: a table and ids, or a projection, which is returned to be kept alive."""
        T, B, H, G = self.steps, self.streams, self.units, self.gates
        if k == 0 and self.ids is not None:
            V = a.characters = self.source.shape[0]
            a.table = lib.address(self.source, "table", torch.float32, (V, G * H))
            self._set_ids(a)
            return None
        layer.below = self._below(k)
        D = layer.below.shape[1]
        lib.address(weight["input"], "weight_ih", torch.float32, (G * H, D))
        projected = self._buffers.take((T * B, G * H), torch.float32)
        packed = lib.pack(self.precision, weight["input"].t(), D, G * H)
        product(self.precision, layer.below, packed, G * H, weight["bias"], projected)
        a.projected = projected.data_ptr()
        return projected

    def _set_ids(self, a: lib.Recurrence | lib.TableGradient) -> None:
        assert self.ids is not None
        a.ids = lib.address(self.ids, "ids", torch.int64, (self.streams, self.steps), contiguous=False)
        a.ids_stream_stride, a.ids_step_stride = self.ids.stride()

    def _below(self, k: int) -> torch.Tensor:
        """What layer k reads, as rows of elements: the vectors, or the masked outputs of the layer below."""
        if k > 0:
            rows = self.rows(k - 1, 1)
            if self.masks.keep == 1:
                return rows
            return self.masks.apply(self.precision, k - 1, rows, self.take(*rows.shape, dtype=self.element))
        x = self.source.view(-1, self.source.shape[-1])
        if self.precision == "fp32":
            return x
        elements = self.take(*x.shape, dtype=self.element)
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
        self.is_spent = True
        L, B, H = len(self.weights), self.streams, self.units
        grads = Gradients(
            torch.empty(0),
            torch.empty(L, B, H),
            None if self.cell != "lstm" else torch.zeros(L, B, H) if grad_cells is None else grad_cells.clone(),
            [{} for _ in range(L)],
        )
        for k in reversed(range(L)):
            self._through_time(k, grad_top, grad_hidden, grads)
            grad_top = self._weight_gradients(k, grads)
        if grad_top is not None:  # of the vectors, in a buffer that is about to be given back
            grads.source = grad_top.clone()
        self.release()
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
        carry = torch.zeros(B, H) if self.cell == "gru" else None
        if carry is not None:
            a.carry = carry.data_ptr()
        lib.call("backward", a)

    def _weight_gradients(self, k: int, grads: Gradients) -> torch.Tensor | None:
        """The gradients of a layer's weights, from those of its gates; returns that of what it read, if vectors."""
        T, B, H, G = self.steps, self.streams, self.units, self.gates
        layer, grad = self.layers[k], grads.weights[k]
        gates, gru = layer.gates, self.cell == "gru"
        assert gates is not None
        sums = None if layer.below is None and not gru else torch.empty(G * H)  # a table's rows hold the bias already
        table = None
        if layer.below is None:
            assert self.ids is not None
            grads.source = torch.empty(self.source.shape[0], G * H)
            table = None if gru else (self.ids, grads.source)  # gru's table meets other columns than its W_hh
        grad["recurrent"] = transposed(self.precision, gates, G * H, self.rows(k, 0), column_sums=sums, table=table)
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
            last = torch.empty(H)
            upper = transposed(self.precision, gates, 2 * H, below)
            lower = transposed(self.precision, gates, H, below, offset=3 * H, column_sums=last)
            grad["input"], grad["bias"] = torch.cat((upper, lower)), torch.cat((sums[: 2 * H], last))
            weight = torch.cat((weight[: 2 * H], torch.zeros(H, D), weight[2 * H :]))
        else:
            grad["input"] = transposed(self.precision, gates, G * H, below)
            grad["bias"] = sums
        packed = lib.pack(self.precision, weight, gates.shape[1], D)
        out = self.take(gates.shape[0], D)
        return product(self.precision, gates, packed, D, out=out)

    def _table_gradient(self, gates: torch.Tensor, grad: torch.Tensor) -> None:
        a = lib.TableGradient()
        a.precision, a.cell = lib.PRECISIONS[self.precision], lib.CELLS[self.cell]
        a.steps, a.streams, a.units, a.characters = self.steps, self.streams, self.units, grad.shape[0]
        self._set_ids(a)
        a.gate_grads, a.grad = gates.data_ptr(), grad.data_ptr()
        lib.call("table_gradient", a)
