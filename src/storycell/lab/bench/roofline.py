"""The roofline: what the machine could do at best, by a large matrix product and by reading an array in a near cache.

Both are contestants like the others, timed in the same rounds; the median is the ceiling, as medians are compared
throughout: a busy machine slows all of them alike.

The matrix product is the better of torch's and the kernel's own, since on some processors torch's float32 product
reaches half of what the hardware can, and what our own code exceeds is no ceiling. The array is small for the same
reason: weights that are used again for every character may stay in a near cache, as far as they fit.
"""

import torch

from storycell.engine.cells import CELLS
from storycell.lab.bench.timing import Spread, Work
from storycell.nn.backends.native import library
from storycell.nn.backends.native.backend import NativeBackend
from storycell.nn.backends.native.ops import product as native_product

PRODUCT = 1024  # rows, columns and depth; larger matrix products are hardly faster
NEAR_BYTES, _READ_TIMES = 1 << 18, 64  # fits the second-level cache of any processor; longer than a call costs
READING, TORCHS, OURS = "reading", "a product of torch's", "a product of the kernel's"


def products(precision: str, size: int = PRODUCT) -> dict[str, Work]:
    """Products of two large square matrices, torch's and the kernel's where it was built; they count operations."""
    drawn = (torch.randn(size, size, dtype=torch.float32, device="cpu") for _ in range(2))
    left, right = (matrix.to(library.ELEMENT[precision]) for matrix in drawn)
    out = torch.empty_like(left)

    def torchs() -> int:
        torch.mm(left, right, out=out)
        return 2 * size**3

    if NativeBackend().obstacle("lstm") is not None:
        return {TORCHS: torchs}
    packed, wide = library.pack(precision, right.float(), size, size), library.empty(size, size)

    def ours() -> int:
        native_product(precision, left, packed, size, out=wide)
        return 2 * size**3

    return {TORCHS: torchs, OURS: ours}


def best_product(rates: dict[str, Spread]) -> tuple[float, str]:
    """Takes the matrix products out of the rates: operations per second of the better one, and its name."""
    measured = {name: rates.pop(name).median for name in (TORCHS, OURS) if name in rates}
    best = max(measured, key=measured.__getitem__)
    return measured[best], f"{best}, {measured[best] / 1e9:,.0f} GFLOP/s"


def reading() -> Work:
    """torch's sum over a float32 array of `NEAR_BYTES`, many times in one call; counts bytes."""
    array = torch.randn(NEAR_BYTES // 4, dtype=torch.float32, device="cpu").expand(_READ_TIMES, -1)

    def work() -> int:
        array.sum()
        return _READ_TIMES * NEAR_BYTES

    return work


def weights_read(cell: str, layers: int, H: int, V: int) -> int:
    """Weights that meet a state for each character: recurrent, between layers, output. The first layer's input is a row
    looked up in a table."""
    return CELLS[cell].gates * H * H * (2 * layers - 1) + H * V


def training_flop(cell: str, layers: int, H: int, V: int) -> int:
    """Floating-point operations of a training step's matrix products for one character: forward, backward to the state,
    and backward to the weights, a multiplication and an addition each."""
    return 6 * weights_read(cell, layers, H, V)
