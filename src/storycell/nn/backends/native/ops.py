"""The matrix products outside the recurrence, on the kernels' own threads.

Left-hand sides are `[rows, inner]` in the precision's elements, right-hand sides packed by `library.pack`; results are
float32.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from storycell.nn.backends.native import library as lib


def product(
    precision: str,
    left: torch.Tensor,
    packed: torch.Tensor,
    columns: int,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """left `[rows, inner]` times a packed right-hand side `[inner, columns]`, plus bias."""
    rows, inner = left.shape
    if packed.numel() != inner * columns:
        raise ValueError(f"{packed.numel()} packed elements are not {inner} x {columns}")
    out = lib.empty(rows, columns) if out is None else out
    a = lib.Product()
    a.precision, a.rows, a.inner = lib.PRECISIONS[precision], rows, inner
    a.columns, a.left_stride = columns, inner
    a.left = lib.address(left, "left", lib.ELEMENT[precision], (rows, inner))
    a.packed = packed.data_ptr()
    a.out = lib.address(out, "out", torch.float32, (rows, columns))
    if bias is not None:
        a.bias = lib.address(bias, "bias", torch.float32, (columns,))
    lib.call("product", a)
    return out


def multiply_transposed(
    precision: str,
    left: torch.Tensor,
    m: int,
    right: torch.Tensor,
    *,
    offset: int = 0,
    column_sums: torch.Tensor | None = None,
    table: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """The sum over the rows of `right` of left[row, offset:offset+m] times right[row, :], `[m, n]`.

    `left` may have more rows or columns than are used. `column_sums [m]` receives left's sums; `table`, a pair of ids
    `[B T]` and a tensor `[V m]`, receives for every character the sum of its rows of left.
    """
    rows, n = right.shape
    if left.shape[0] < rows or offset + m > left.shape[1]:
        raise ValueError(f"{tuple(left.shape)} has no {rows} rows of columns {offset}+{m}")
    out = lib.empty(m, n)
    element = lib.ELEMENT[precision]
    a = lib.TransposedProduct()
    a.precision, a.rows, a.m, a.n = lib.PRECISIONS[precision], rows, m, n
    a.left = lib.address(left, "left", element, tuple(left.shape)) + offset * left.element_size()
    a.right = lib.address(right, "right", element, (rows, n))
    a.left_stride, a.right_stride, a.out = left.shape[1], n, out.data_ptr()
    if column_sums is not None:
        a.column_sums = lib.address(column_sums, "column_sums", torch.float32, (m,))
    if table is not None:
        ids, grad = table
        a.streams, a.characters = ids.shape[0], grad.shape[0]
        a.ids = lib.address(ids, "ids", torch.int64, (ids.shape[0], rows // ids.shape[0]), contiguous=False)
        a.ids_stream_stride, a.ids_step_stride = ids.stride()
        a.table_grad = lib.address(grad, "table gradient", torch.float32, (grad.shape[0], m))
    lib.call("transposed", a)
    return out


def drop(
    precision: str, source: torch.Tensor, seed: int, keep: float, period: int, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Dropout: elements divided by `keep` where a hash of (seed, place % period) keeps them, 0 elsewhere."""
    out = torch.empty_like(source) if out is None else out
    element = lib.ELEMENT[precision]
    a = lib.Dropout()
    a.precision, a.count, a.period = lib.PRECISIONS[precision], source.numel(), period
    a.seed, a.keep = seed, keep
    a.from_ = lib.address(source, "source", element, tuple(source.shape))
    a.to = lib.address(out, "out", element, tuple(source.shape))
    lib.call("dropout", a)
    return out


class Linear(torch.autograd.Function):
    """left . weight^T + bias in float32 on the kernels' threads; inner size and columns are whole lanes."""

    @staticmethod
    def forward(ctx: Any, left: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """left `[rows, D]`, weight `[columns, D]`, bias `[columns]` -> `[rows, columns]`."""
        ctx.save_for_backward(left, weight)
        packed = lib.pack("fp32", weight.t(), left.shape[1], weight.shape[0])
        return product("fp32", left, packed, weight.shape[0], bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The gradients of left, weight and bias."""
        left, weight = ctx.saved_tensors
        grad = grad.contiguous()
        packed = lib.pack("fp32", weight, weight.shape[0], weight.shape[1])
        to_left = product("fp32", grad, packed, weight.shape[1])
        sums = lib.empty(weight.shape[0])
        return to_left, multiply_transposed("fp32", grad, weight.shape[0], left, column_sums=sums), sums
