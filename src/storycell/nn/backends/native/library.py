"""The kernels for torch's tensors: checks of every tensor that crosses, and calls of the library (`engine.library`).

A tensor reaches `native/engine/storycell.h` only through `address`, which checks device, dtype, shape and contiguity. A
training step makes only about a dozen calls.
"""

import contextlib
import ctypes
from collections.abc import Iterator

import torch

from storycell import threads
from storycell.engine.library import (
    BACK,
    CELLS,
    GATES,
    LANES,
    PRECISIONS,
    SAVED,
    Choice,
    Dropout,
    Generation,
    GenerationLayer,
    OutputLoss,
    Product,
    Recurrence,
    TableGradient,
    Tensor,
    Tensors,
    TransposedProduct,
    check,
    isa,
    library,
    use_isa,
)

__all__ = [
    "BACK",
    "CELLS",
    "ELEMENT",
    "GATES",
    "LANES",
    "PRECISIONS",
    "SAVED",
    "Choice",
    "Dropout",
    "Generation",
    "GenerationLayer",
    "OutputLoss",
    "Product",
    "Recurrence",
    "TableGradient",
    "Tensor",
    "Tensors",
    "TransposedProduct",
    "address",
    "call",
    "check",
    "convert",
    "empty",
    "isa",
    "library",
    "one_torch_thread",
    "pack",
    "pad_width",
    "use_isa",
    "widen",
    "zeros",
]

ELEMENT = {"fp32": torch.float32, "bf16": torch.bfloat16}


def address(
    tensor: torch.Tensor, name: str, dtype: torch.dtype, shape: tuple[int, ...], contiguous: bool = True
) -> int:
    """The tensor's memory, after checking that it is what the kernel will take it for."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(tensor).__name__}")
    if not tensor.is_cpu:
        raise ValueError(f"{name} must be on the CPU, not {tensor.device}")
    if tensor.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, not {tensor.dtype}")
    if tensor.shape != shape:  # torch.Size is a tuple
        raise ValueError(f"{name} must have shape {tuple(shape)}, not {tuple(tensor.shape)}")
    if contiguous and not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous")
    return tensor.data_ptr()


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Within: torch computes on the calling thread, the kernels on as many as torch had.

    After every parallel operation torch's OpenMP threads spin for milliseconds, on the very cores that the kernels need
    next; for a model of a few million parameters that costs more than their help with clipping and Adam saves.
    """
    with threads.computing_on(1, threads.for_kernels()):
        yield


_kept_threads = None  # nobody's count is kept aside: `computing_on` changes that of one thread


def call(function: str, arguments: ctypes.Structure) -> None:
    """Call `storycell_<function>` with a struct."""
    check(getattr(library(), f"storycell_{function}")(ctypes.byref(arguments), threads.for_kernels()))


def pad_width(n: int) -> int:
    """n, rounded up to whole lanes."""
    return (n + LANES - 1) // LANES * LANES


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Memory for a kernel to write to, whatever torch's default type and device are."""
    return torch.empty(shape, dtype=dtype, device="cpu")


def zeros(*shape: int) -> torch.Tensor:
    """float32 zeros for a kernel, whatever torch's default type and device are."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def pack(precision: str, matrix: torch.Tensor, inner: int, columns: int, gates: int = 0) -> torch.Tensor:
    """Pack `matrix` [valid inner, valid columns] (any strides), padded to [inner, gates*columns], for a product.

    gates > 1 interleaves that many blocks of `columns` columns, so that one tile of the product holds all gates of its
    units.
    """
    if matrix.dtype != torch.float32 or matrix.dim() != 2 or matrix.device.type != "cpu":
        raise TypeError("weights must be float32 matrices on the CPU")
    wide = columns * max(gates, 1)
    if matrix.shape[0] > inner or matrix.shape[1] > wide:
        raise ValueError(f"a weight of shape {tuple(matrix.shape)} does not fit {inner} x {wide}")
    packed = empty(inner * wide, dtype=ELEMENT[precision])
    rows, valid = matrix.shape
    strides = matrix.stride()
    check(
        library().storycell_pack(
            PRECISIONS[precision], inner, columns, gates, matrix.data_ptr(), *strides, rows, valid,
            packed.data_ptr(), threads.for_kernels(),
        )
    )  # fmt: skip
    return packed


def convert(precision: str, source: torch.Tensor, target: torch.Tensor) -> None:
    """float32 to elements, same shape, size a multiple of 16."""
    _same_shape("convert", precision, source, torch.float32, target, ELEMENT[precision])


def widen(precision: str, source: torch.Tensor) -> torch.Tensor:
    """Elements to a fresh float32 tensor."""
    target = empty(*source.shape)
    _same_shape("widen", precision, source, ELEMENT[precision], target, torch.float32)
    return target


def _same_shape(
    function: str, precision: str, source: torch.Tensor, kind: torch.dtype, target: torch.Tensor, other: torch.dtype
) -> None:
    place = address(source, "source", kind, source.shape)
    to = address(target, "target", other, source.shape)
    check(
        getattr(library(), f"storycell_{function}")(
            PRECISIONS[precision], place, to, source.numel(), threads.for_kernels()
        )
    )
