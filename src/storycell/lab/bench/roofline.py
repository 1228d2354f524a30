"""The roofline: what the machine could do at best, by a large matrix product and by reading an array in a near cache.

Both are contestants like the others, timed in the same rounds; the median is the ceiling, as medians are compared
throughout: a busy machine slows all of them alike.

The matrix product is the better of the engine's own and, where torch is installed, torch's, since on some processors
torch's float32 product reaches half of what the hardware can, and what our own code exceeds is no ceiling. The array is
small for the same reason: weights that are used again for every character may stay in a near cache, as far as they fit.
"""

import ctypes

import numpy as np

from storycell import extras, threads
from storycell.engine import library
from storycell.engine.cells import CELLS
from storycell.lab.bench.timing import Spread, Work
from storycell.language_model import Floats

PRODUCT = 1024  # rows, columns and depth; larger matrix products are hardly faster
NEAR_BYTES, READ_TIMES = 1 << 18, 64  # fits the second-level cache of any processor; longer than a call costs
OURS, TORCHS = "a product of the engine's", "a product of torch's"
NUMPYS_READING, TORCHS_READING = "numpy's dot product of a near array", "torch's sum of a near array"
_ELEMENT = {"fp32": np.float32, "bf16": np.uint16, "int8": np.int8}
_COLUMN_BYTES = {"int8": 8}  # of a packed column beside its weights: its scale and where its sum begins


def products(precision: str, size: int = PRODUCT) -> dict[str, Work]:
    """Products of two large square matrices, each by whoever is installed (int8: the engine); they count operations."""
    found: dict[str, Work] = {}
    draws = np.random.default_rng(1)
    left, right = (draws.standard_normal((size, size), np.float32) for _ in range(2))
    try:
        found[OURS] = own_product(precision, left, right, np.empty_like(left))
    except (ImportError, RuntimeError):  # the engine was not built, or the processor has none of its instructions
        extras.require("torch", "measuring on a machine without the engine")
    if precision != "int8" and extras.is_installed("torch"):
        from storycell.lab.bench import baselines

        found[TORCHS] = baselines.product(precision, left, right)
    return found


def own_product(precision: str, plain: Floats, right: Floats, out: Floats) -> Work:
    """The engine's product of two square float32 matrices, rounded to `precision`, into `out`."""
    engine, element, number = library.library(), _ELEMENT[precision], library.GENERATES_IN[precision]
    library.isa()
    size, count = len(plain), threads.for_kernels()
    left = np.empty((size, size), element)
    packed = np.empty(size * (size * left.itemsize + _COLUMN_BYTES.get(precision, 0)), np.uint8)
    library.check(engine.storycell_convert(number, plain.ctypes.data, left.ctypes.data, size * size, count))
    sizes, strides = (number, size, size, 0), (size, 1, size, size)
    library.check(engine.storycell_pack(*sizes, right.ctypes.data, *strides, packed.ctypes.data, count))
    a = library.Product(precision=number, rows=size, inner=size, columns=size, left_stride=size)
    a.left, a.packed, a.out = left.ctypes.data, packed.ctypes.data, out.ctypes.data

    def work() -> int:
        # The struct has addresses only: this keeps the arrays alive.
        assert packed.size >= left.nbytes
        assert left.size == out.size
        library.check(engine.storycell_product(ctypes.byref(a), threads.for_kernels()))
        return 2 * size**3

    return work


def readings() -> dict[str, Work]:
    """Reading a float32 array of `NEAR_BYTES` again and again, by whoever is installed; they count bytes."""
    array = np.random.default_rng(1).standard_normal(NEAR_BYTES // 4, np.float32)

    def numpys() -> int:
        with threads.one_blas_thread():
            for _ in range(READ_TIMES):
                array.dot(array)
        return READ_TIMES * NEAR_BYTES

    found: dict[str, Work] = {NUMPYS_READING: numpys}
    if extras.is_installed("torch"):
        from storycell.lab.bench import baselines

        found[TORCHS_READING] = baselines.reading(array, READ_TIMES)
    return found


def take_best(rates: dict[str, Spread]) -> tuple[float, str]:
    """Takes what the machine can do out of the rates: operations, or bytes, a second of the best, and its name."""
    names = (OURS, TORCHS, NUMPYS_READING, TORCHS_READING)
    measured = {name: rates.pop(name).median for name in names if name in rates}
    best = max(measured, key=measured.__getitem__)
    unit = "GFLOP/s" if best in (OURS, TORCHS) else "GB/s"
    return measured[best], f"{best}, {measured[best] / 1e9:,.0f} {unit}"


def weights_read(cell: str, layers: int, H: int, V: int) -> int:
    """Weights that meet a state for each character: recurrent, between layers, output. The first layer's input is a row
    looked up in a table."""
    return CELLS[cell].gates * H * H * (2 * layers - 1) + H * V


def training_flop(cell: str, layers: int, H: int, V: int) -> int:
    """Floating-point operations of a training step's matrix products for one character: forward, backward to the state,
    and backward to the weights, a multiplication and an addition each."""
    return 6 * weights_read(cell, layers, H, V)
