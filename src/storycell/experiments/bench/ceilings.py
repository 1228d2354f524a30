"""What the machine could do at best: the rate of a large matrix product, and of reading an array.

Both are contestants like the others, timed in the same rounds; the median is the ceiling, as medians are compared
throughout: on a busy machine everybody is slowed down alike.
"""

import torch

from storycell.experiments.bench.rounds import Work

PRODUCT = 2048  # rows, columns and depth; larger products are no faster
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def product(precision: str, size: int = PRODUCT) -> Work:
    """torch's product of two large square matrices; counts floating-point operations."""
    left, right = (torch.randn(size, size).to(_DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(left)

    def work() -> int:
        torch.mm(left, right, out=out)
        return 2 * size**3

    return work


def reading(weight_bytes: int, columns: int) -> Work:
    """torch's product of a float32 matrix of `weight_bytes` and a vector, reading each number once; counts bytes."""
    matrix, vector = torch.randn(max(weight_bytes // 4 // columns, 1), columns), torch.randn(columns)
    out = torch.empty(matrix.shape[0])

    def work() -> int:
        torch.mv(matrix, vector, out=out)
        return matrix.numel() * 4

    return work


def weights_read(cell: str, layers: int, H: int, V: int) -> int:
    """Weights that meet a state for each character: recurrent, between layers, output. The first layer's input is a row
    looked up in a table."""
    return _GATES[cell] * H * H * (2 * layers - 1) + H * V


def training_flop(cell: str, layers: int, H: int, V: int) -> int:
    """Floating-point operations of the products that a training step needs for one character: forward, backward to the
    state, and backward to the weights, a multiplication and an addition each."""
    return 6 * weights_read(cell, layers, H, V)
