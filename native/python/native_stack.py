"""One pass of a stack of recurrent layers through the native kernels, forward then backward.

Everything inside is time-major, [T, B, H] with H a multiple of 16, so that a step's rows lie
together and the products over all characters need no copies.
"""

from __future__ import annotations

import threading
from collections import defaultdict

import torch

from . import native_library as lib


class Buffers:
    """Large arrays kept between steps: fresh ones would be paid for page by page every step."""

    def __init__(self) -> None:
        self._free: dict = defaultdict(list)
        self._lock = threading.Lock()

    def take(self, shape: tuple, dtype: torch.dtype) -> torch.Tensor:
        with self._lock:
            free = self._free[(shape, dtype)]
            if free:
                return free.pop()
        return torch.empty(shape, dtype=dtype)

    def give(self, tensors: list) -> None:
        with self._lock:
            if len(self._free) > 64:  # many different sizes came by: start over
                self._free.clear()
            for tensor in tensors:
                free = self._free[(tuple(tensor.shape), tensor.dtype)]
                if len(free) < 8:
                    free.append(tensor)


buffers = Buffers()


def product(precision, left, packed, columns: int, bias=None, out=None) -> torch.Tensor:
    """left [rows, inner] times a packed right-hand side [inner, columns], plus bias."""
    rows, inner = left.shape
    if packed.numel() != inner * columns:
        raise ValueError(f"{packed.numel()} packed elements are not {inner} x {columns}")
    if out is None:
        out = torch.empty(rows, columns)
    p = lib.Product()
    p.precision = lib.PRECISIONS[precision]
    p.rows, p.inner, p.columns, p.left_stride = rows, inner, columns, inner
    p.left = lib.address(left, "left", lib.ELEMENT[precision], (rows, inner))
    p.packed = packed.data_ptr()
    p.out = lib.address(out, "out", torch.float32, (rows, columns))
    if bias is not None:
        p.bias = lib.address(bias, "bias", torch.float32, (columns,))
    lib.call("storycell_product", p)
    return out


def transposed(
    precision, left, m, right, column_sums=None, offset=0, table_grad=None, ids=None
) -> torch.Tensor:
    """Sum over the rows of `right` of left[row, offset:offset+m] times right[row, :].

    table_grad [V, m] also receives, per character of ids [B, T], the sum of its rows of left.

    Both are contiguous matrices; left may have more rows or columns than are used.
    """
    rows, n = right.shape
    if left.shape[0] < rows or offset + m > left.shape[1]:
        raise ValueError(f"{tuple(left.shape)} has no {rows} rows of columns {offset}+{m}")
    out = torch.empty(m, n)
    element = lib.ELEMENT[precision]
    a = lib.TransposedProduct()
    a.precision, a.rows, a.m, a.n = lib.PRECISIONS[precision], rows, m, n
    a.left = lib.address(left, "left", element, left.shape) + offset * left.element_size()
    a.right = lib.address(right, "right", element, (rows, n))
    a.left_stride, a.right_stride, a.out = left.shape[1], n, out.data_ptr()
    if column_sums is not None:
        a.column_sums = lib.address(column_sums, "column_sums", torch.float32, (m,))
    if table_grad is not None:
        a.streams, a.characters = ids.shape[0], table_grad.shape[0]
        a.ids = lib.address(ids, "ids", torch.int64, (a.streams, rows // a.streams), False)
        a.ids_stream_stride, a.ids_step_stride = ids.stride()
        a.table_grad = lib.address(table_grad, "table_grad", torch.float32, (a.characters, m))
    lib.call("storycell_transposed", a)
    return out


class Linear(torch.autograd.Function):
    """left . weight^T + bias in float32 without torch's threads, which would go on spinning on
    the cores the recurrence is about to use. Inner size and columns are multiples of 16."""

    @staticmethod
    def forward(ctx, left, weight, bias):
        ctx.save_for_backward(left, weight)
        packed = lib.pack("float32", weight.t(), left.shape[1], weight.shape[0])
        return product("float32", left, packed, weight.shape[0], bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        left, weight = ctx.saved_tensors
        grad = grad.contiguous()
        packed = lib.pack("float32", weight, *weight.shape)
        to_left = product("float32", grad, packed, weight.shape[1])
        sums = torch.empty(weight.shape[0])
        return to_left, transposed("float32", grad, weight.shape[0], left, sums), sums


class Stack:
    """Holds what the forward pass saved until the backward pass has used it, once.

    weights: per layer a dict with `recurrent` [G*H, H], for gru `reset_bias` [H], and above the
    first layer `input` [G*H, H] and `bias` [G*H]; all float32, contiguous.
    """

    def __init__(self, cell: str, precision: str, ids, table, hidden, cell_state, weights, save):
        self.cell, self.precision, self.weights = cell, precision, weights
        self.gates, self.saved = lib.GATES[cell], lib.SAVED[cell]
        self.layers = len(weights)
        if ids.dim() != 2 or 0 in ids.shape:
            raise ValueError(f"ids must be [B, T] and not empty, not {tuple(ids.shape)}")
        self.ids = ids
        self.streams, self.steps = ids.shape
        self.characters, wide = table.shape
        self.units = wide // self.gates
        self.element = lib.ELEMENT[precision]
        self._taken: list = []
        self._keep = save
        self._spent = False
        self._forward(table, hidden, cell_state)

    def __del__(self) -> None:
        self.release()

    def _take(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        tensor = buffers.take(shape, dtype)
        self._taken.append(tensor)
        return tensor

    def release(self) -> None:
        taken, self._taken = getattr(self, "_taken", []), []
        if taken:
            buffers.give(taken)

    def _arguments(self) -> lib.Recurrence:
        a = lib.Recurrence()
        a.cell, a.precision = lib.CELLS[self.cell], lib.PRECISIONS[self.precision]
        a.steps, a.streams, a.units = self.steps, self.streams, self.units
        a.characters = self.characters
        return a

    def _set_ids(self, a) -> None:
        a.ids = lib.address(self.ids, "ids", torch.int64, (self.streams, self.steps), False)
        a.ids_stream_stride, a.ids_step_stride = self.ids.stride()

    def _forward(self, table, hidden, cell_state) -> None:
        T, B, H, G, L = self.steps, self.streams, self.units, self.gates, self.layers
        lstm, f32 = self.cell == "lstm", torch.float32
        lib.address(hidden, "hidden", f32, (L, B, H))
        if lstm:
            lib.address(cell_state, "cell_state", f32, (L, B, H))
        self.hidden, self.cell_states, self.gate_values = [], [], []
        carries, finals = [], []
        for index, weight in enumerate(self.weights):
            packed = lib.pack(self.precision, weight["recurrent"].t(), H, H, G if G > 1 else 0)
            a = self._arguments()
            a.packed = packed.data_ptr()
            lib.address(weight["recurrent"], "weight_hh", f32, (G * H, H))
            if index == 0:
                a.table = lib.address(table, "table", f32, (self.characters, G * H))
                self._set_ids(a)
            else:
                projected = buffers.take((T * B, G * H), f32)
                self._project(self.hidden[-1], weight, projected)
                a.projected = projected.data_ptr()
            states = self._take(T + 1, B, H, dtype=self.element)
            lib.convert(self.precision, hidden[index], states[0])
            a.hidden = states.data_ptr()
            if self.cell == "gru":
                a.reset_bias = lib.address(weight["reset_bias"], "bias_hh", f32, (H,))
            if lstm and self._keep:
                cells = self._take(T + 1, B, H)
                cells[0].copy_(cell_state[index])
                a.cell_state = cells.data_ptr()
                self.cell_states.append(cells)
            elif self.cell != "rnn":
                carry = (cell_state if lstm else hidden)[index].clone()
                a.carry = carry.data_ptr()
                carries.append(carry)
            if self._keep:
                gates = self._take(T * B, self.saved * H, dtype=self.element)
                a.saved = gates.data_ptr()
                self.gate_values.append(gates)
            lib.call("storycell_forward", a)
            if index:
                buffers.give([projected])
            self.hidden.append(states)
            if self.cell == "gru":
                finals.append(carries[-1])
            else:
                finals.append(lib.widen(self.precision, states[T]))
        self.final_hidden = torch.stack(finals)
        self.final_cell = None
        if lstm:
            last = [c[T] for c in self.cell_states] if self._keep else carries
            self.final_cell = torch.stack(last)

    def _project(self, states, weight, out) -> None:
        H, G = self.units, self.gates
        lib.address(weight["input"], "weight_ih", torch.float32, (G * H, H))
        packed = lib.pack(self.precision, weight["input"].t(), H, G * H)
        product(self.precision, self._rows(states, 1), packed, G * H, weight["bias"], out)

    def _rows(self, states, first: int) -> torch.Tensor:
        """Hidden states before (0) or after (1) every step, one row per character."""
        return states[first : first + self.steps].view(-1, self.units)

    def transposed(self, left, m, right, *more) -> torch.Tensor:
        return transposed(self.precision, left, m, right, *more)

    def backward(self, grad_top, grad_hidden, grad_cell):
        """Gradients to (table, hidden, cell_state, per layer a dict as `weights`).

        grad_top [T, B, H], grad_hidden and grad_cell [L, B, H]: float32, contiguous, or None.
        """
        if self._spent or not self._keep:
            raise RuntimeError(
                "the native backward pass overwrites what the forward pass saved: "
                "it can run once (retain_graph and double backward are not supported)"
            )
        self._spent = True
        T, B, H, G, L = self.steps, self.streams, self.units, self.gates, self.layers
        f32, lstm, gru = torch.float32, self.cell == "lstm", self.cell == "gru"
        to_hidden = torch.empty(L, B, H)
        if grad_cell is not None:
            lib.address(grad_cell, "grad_cell", f32, (L, B, H))
            to_cell = grad_cell.clone()
        else:
            to_cell = torch.zeros(L, B, H)
        grads: list = [{} for _ in range(L)]
        to_table, grad_out = None, grad_top
        for index in reversed(range(L)):
            weight, states, gates = self.weights[index], self.hidden[index], self.gate_values[index]
            packed = lib.pack(self.precision, weight["recurrent"], G * H, H)
            a = self._arguments()
            a.packed, a.hidden, a.saved = packed.data_ptr(), states.data_ptr(), gates.data_ptr()
            if grad_out is not None:
                a.grad_output = lib.address(grad_out, "grad_output", f32, (T, B, H))
            if grad_hidden is not None:
                lib.address(grad_hidden, "grad_hidden", f32, (L, B, H))
                a.grad_hidden = grad_hidden[index].data_ptr()
            a.grad_initial = to_hidden[index].data_ptr()
            if lstm:
                a.cell_state = self.cell_states[index].data_ptr()
                a.grad_carry = to_cell[index].data_ptr()
            if gru:
                carry = torch.zeros(B, H)
                a.carry = carry.data_ptr()
            lib.call("storycell_backward", a)
            grad = grads[index]
            sums = torch.empty(G * H) if index or gru else None
            fused = index == 0 and not gru  # gru's table meets other columns than its W_hh
            if fused:
                to_table = torch.empty(self.characters, G * H)
            grad["recurrent"] = self.transposed(
                gates, G * H, self._rows(states, 0), sums, 0, to_table if fused else None, self.ids
            )
            if gru:
                grad["reset_bias"] = sums[2 * H :]
            if index:
                grad_out = self._input_gradient(index, gates, sums, grad)
            elif not fused:
                to_table = self._table_gradient(gates)
        self.release()
        return to_table, to_hidden, to_cell if lstm else None, grads

    def _input_gradient(self, index, gates, sums, grad) -> torch.Tensor:
        T, B, H, G = self.steps, self.streams, self.units, self.gates
        below, weight = self._rows(self.hidden[index - 1], 1), self.weights[index]["input"]
        if self.cell == "gru":  # saved as r, z, h_n, x_n; the input meets r, z, x_n
            last = torch.empty(H)
            grad["input"] = torch.cat(
                (
                    self.transposed(gates, 2 * H, below),
                    self.transposed(gates, H, below, last, 3 * H),
                )
            )
            grad["bias"] = torch.cat((sums[: 2 * H], last))
            weight = torch.cat((weight[: 2 * H], torch.zeros(H, H), weight[2 * H :]))
        else:
            grad["input"] = self.transposed(gates, G * H, below)
            grad["bias"] = sums
        packed = lib.pack(self.precision, weight, gates.shape[1], H)
        out = self._take(T, B, H)
        product(self.precision, gates, packed, H, out=out.view(T * B, H))
        return out

    def _table_gradient(self, gates) -> torch.Tensor:
        grad = torch.empty(self.characters, self.gates * self.units)
        a = lib.TableGradient()
        a.precision, a.cell = lib.PRECISIONS[self.precision], lib.CELLS[self.cell]
        a.steps, a.streams, a.units = self.steps, self.streams, self.units
        a.characters = self.characters
        self._set_ids(a)
        a.gate_grads, a.grad = gates.data_ptr(), grad.data_ptr()
        lib.call("storycell_table_gradient", a)
        return grad
