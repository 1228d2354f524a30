"""The compiled kernels: loading, argument structs, and checks of every tensor that crosses over.

Nothing below trusts its caller: a tensor reaches the library only through `address`, which
checks device, dtype, shape and contiguity, and every status the library returns becomes an
exception. ctypes releases the interpreter lock during each call.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

ABI = 2
CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
SAVED = {"lstm": 4, "gru": 4, "rnn": 1}
PRECISIONS = {"float32": 0, "bfloat16": 1}
ELEMENT = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_ERRORS = {
    1: (ValueError, "a size is out of range for the native kernels"),
    2: (IndexError, "a character id is outside the vocabulary"),
    3: (ValueError, "a required array is missing"),
    4: (FloatingPointError, "logits are not finite: nothing can be drawn from them"),
    5: (RuntimeError, "STORYCELL_ISA names kernels that are unknown or cannot run here"),
    6: (MemoryError, "no memory or no thread for the native kernels"),
}

_i64, _f32, _f64, _ptr = ctypes.c_int64, ctypes.c_float, ctypes.c_double, ctypes.c_void_p


def _struct(name: str, fields: str, kind) -> type:
    """A ctypes struct from a string of names; `kind` maps a name to its C type."""
    return type(name, (ctypes.Structure,), {"_fields_": [(f, kind(f)) for f in fields.split()]})


_SIZES = frozenset(
    "cell precision steps streams units characters rows inner columns left_stride m n right_stride"
    " ids_stream_stride ids_step_stride targets_stream_stride targets_step_stride layers length"
    " top_k greedy unknown".split()
)


def _kind(field: str):
    if field in _SIZES:
        return _i64
    if field == "scale":
        return _f32
    if field in ("temperature", "top_p", "min_p"):
        return _f64
    return _ptr


Recurrence = _struct(
    "Recurrence",
    "cell precision steps streams units characters packed ids ids_stream_stride ids_step_stride"
    " table projected reset_bias hidden cell_state saved carry grad_output grad_hidden grad_carry"
    " grad_initial",
    _kind,
)
Product = _struct("Product", "precision rows inner columns left left_stride packed bias out", _kind)
TransposedProduct = _struct(
    "TransposedProduct",
    "precision rows m n left left_stride right right_stride out column_sums table_grad ids"
    " ids_stream_stride ids_step_stride streams characters",
    _kind,
)
TableGradient = _struct(
    "TableGradient",
    "precision cell steps streams units characters ids ids_stream_stride ids_step_stride"
    " gate_grads grad",
    _kind,
)
OutputLoss = _struct(
    "OutputLoss",
    "precision steps streams units characters hidden packed_forward packed_backward bias targets"
    " targets_stream_stride targets_step_stride scale losses logit_grads grad_hidden",
    _kind,
)
GenerationLayer = _struct(
    "GenerationLayer",
    "packed_recurrent packed_input table input_bias reset_bias hidden carry projected",
    _kind,
)
Generation = _struct(
    "Generation",
    "cell precision layers streams units characters length layer packed_output output_bias logits"
    " current random out temperature top_p min_p top_k greedy unknown",
    _kind,
)


def _load() -> ctypes.CDLL:
    here = Path(__file__).resolve().parent
    places = [os.environ.get("STORYCELL_KERNEL", ""), here, here.parent / "build"]
    for place in filter(None, places):
        place = Path(place)
        for found in [place] if place.is_file() else sorted(place.glob("*storycell_kernel.*")):
            if found.suffix in (".so", ".dylib", ".dll"):
                library = ctypes.CDLL(str(found))
                library.storycell_isa.restype = ctypes.c_char_p
                library.storycell_use_isa.argtypes = [ctypes.c_char_p]
                library.storycell_pack.argtypes = (
                    [_i64] * 4 + [_ptr] + [_i64] * 4 + [_ptr, ctypes.c_int]
                )
                for name in ("convert", "widen"):
                    getattr(library, "storycell_" + name).argtypes = [
                        _i64, _ptr, _ptr, _i64, ctypes.c_int,
                    ]  # fmt: skip
                if library.storycell_abi() != ABI:
                    raise ImportError(f"{found} was built for another version of this module")
                return library
    raise ImportError("the native kernels are not built")


library = _load()


def isa() -> str:
    """The instruction set in use: avx512bf16, avx512, avx2 or portable."""
    name = library.storycell_isa().decode()
    if not name:
        raise _ERRORS[5][0](_ERRORS[5][1])
    return name


def use_isa(name: str = "") -> None:
    """Forces an instruction set (empty: the best). Packed weights of another become invalid."""
    check(library.storycell_use_isa(name.encode()))


def check(status: int) -> None:
    if status:
        error, message = _ERRORS.get(status, (RuntimeError, f"native kernel status {status}"))
        raise error(message)


def address(
    tensor: torch.Tensor, name: str, dtype: torch.dtype, shape: tuple, contiguous: bool = True
) -> int:
    """The tensor's memory, after checking that it is what the kernel will take it for."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(tensor).__name__}")
    if tensor.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, not {tensor.device}")
    if tensor.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, not {tensor.dtype}")
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, not {tuple(tensor.shape)}")
    if contiguous and not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous")
    return tensor.data_ptr()


def threads() -> int:
    return torch.get_num_threads()


def call(function: str, arguments: ctypes.Structure) -> None:
    check(getattr(library, function)(ctypes.byref(arguments), threads()))


def pack(
    precision: str, matrix: torch.Tensor, inner: int, columns: int, gates: int = 0
) -> torch.Tensor:
    """Packs `matrix` [valid inner, valid columns] (any strides) padded to [inner, gates*columns].

    gates > 1 interleaves that many blocks of `columns` columns, so that one tile of the product
    holds all gates of its units.
    """
    if matrix.dtype != torch.float32 or matrix.dim() != 2 or matrix.device.type != "cpu":
        raise TypeError("weights must be float32 matrices on the CPU")
    wide = columns * max(gates, 1)
    if matrix.shape[0] > inner or matrix.shape[1] > wide:
        raise ValueError(f"a weight of shape {tuple(matrix.shape)} does not fit {inner} x {wide}")
    packed = torch.empty(inner * wide, dtype=ELEMENT[precision])
    check(
        library.storycell_pack(
            PRECISIONS[precision], inner, columns, gates, matrix.data_ptr(), matrix.stride(0),
            matrix.stride(1), matrix.shape[0], matrix.shape[1], packed.data_ptr(), threads(),
        )
    )  # fmt: skip
    return packed


def convert(precision: str, source: torch.Tensor, target: torch.Tensor) -> None:
    """float32 to elements, same shape, size a multiple of 16."""
    check(
        library.storycell_convert(
            PRECISIONS[precision],
            address(source, "source", torch.float32, source.shape),
            address(target, "target", ELEMENT[precision], source.shape),
            source.numel(),
            threads(),
        )
    )


def widen(precision: str, source: torch.Tensor) -> torch.Tensor:
    """Elements to a fresh float32 tensor."""
    target = torch.empty(source.shape, dtype=torch.float32)
    check(
        library.storycell_widen(
            PRECISIONS[precision],
            address(source, "source", ELEMENT[precision], source.shape),
            target.data_ptr(),
            source.numel(),
            threads(),
        )
    )
    return target
