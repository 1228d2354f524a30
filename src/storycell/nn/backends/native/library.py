"""The compiled kernels: finding and loading the library, its argument structs, and checks of every tensor that crosses.

A tensor reaches `native/engine/storycell.h` only through `address`, which checks device, dtype, shape and contiguity,
and every status that the library returns becomes an exception with the library's own sentence. ctypes releases the GIL
during each call.

The interface is C by ctypes instead of an extension module: so one library serves every Python, and a training step
makes only about a dozen calls. The structs below repeat those of `native/engine/arguments.h`; the library tells their
layout when it is loaded, and one that differs in any field is not used.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path

import torch

from storycell import threads

CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
SAVED = {"lstm": 4, "gru": 4, "rnn": 1}  # vectors per unit and step that backward needs
BACK = {"lstm": 4, "gru": 3, "rnn": 1}  # of these, how many meet the recurrent weights on the way back
PRECISIONS = {"fp32": 0, "bf16": 1}
ELEMENT = {"fp32": torch.float32, "bf16": torch.bfloat16}
LANES = 16  # widths are padded to a multiple of this

# By the library's status; the sentence is the library's own (`storycell_explain`).
_ERRORS: dict[int, type[Exception]] = {
    1: ValueError,
    2: IndexError,
    3: ValueError,
    4: FloatingPointError,
    5: RuntimeError,
    6: MemoryError,
}

_i64, _f64, _ptr = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


_KINDS: dict[type, str] = {_i64: "int64", ctypes.c_uint64: "uint64", _f64: "double", _ptr: "pointer"}


class _Struct(ctypes.Structure):
    """A struct of native/engine/arguments.h, compared with the library's when it is loaded; every field starts as 0 or
    null."""


def _named(fields: str) -> list[tuple[str, type]]:
    """Fields from a text such as `"i:cell precision p:packed"`: i int64, p pointer, d double, u uint64."""
    types: dict[str, type] = {"i": _i64, "p": _ptr, "d": _f64, "u": ctypes.c_uint64}
    out: list[tuple[str, type]] = []
    kind: type = _i64
    for word in fields.split():
        if word[1:2] == ":":
            kind, word = types[word[0]], word[2:]
        out.append((word, kind))
    return out


class Recurrence(_Struct):
    """Arguments of forward and backward through time."""

    _fields_ = _named(
        "i:cell precision steps streams units characters p:packed ids i:ids_stream_stride ids_step_stride"
        " p:table projected reset_bias hidden cell_state saved carry grad_output grad_hidden grad_carry grad_initial"
        " i:descending"
    )


class Product(_Struct):
    """Rows times a packed right-hand side."""

    _fields_ = _named("i:precision rows inner columns p:left i:left_stride p:packed bias out i:descending")


class TransposedProduct(_Struct):
    """The sum over all rows that gives a weight's gradient."""

    _fields_ = _named(
        "i:precision rows m n p:left i:left_stride p:right i:right_stride p:out column_sums table_grad ids"
        " i:ids_stream_stride ids_step_stride streams characters"
    )


class TableGradient(_Struct):
    """The gradient of the table that the first layer looks its input up in."""

    _fields_ = _named(
        "i:precision cell steps streams units characters p:ids i:ids_stream_stride ids_step_stride p:gate_grads grad"
    )


class OutputLoss(_Struct):
    """Output layer, softmax cross-entropy and both gradients."""

    _fields_ = _named(
        "i:precision steps streams units characters p:hidden packed_forward packed_backward bias targets"
        " i:targets_stream_stride targets_step_stride d:scale p:losses logit_grads grad_hidden"
    )


class Dropout(_Struct):
    """Dropout whose mask is a hash of a seed and the place."""

    _fields_ = _named("i:precision count period u:seed d:keep p:from_ to")


class Choice(_Struct):
    """How one stream chooses its next character."""

    _fields_ = _named("d:temperature top_p min_p i:top_k greedy")


class GenerationLayer(_Struct):
    """One layer's weights and states for generation."""

    _fields_ = _named("p:packed_recurrent packed_input table input_bias reset_bias hidden carry projected")


class Generation(_Struct):
    """Arguments of whole character steps."""

    _fields_ = _named(
        "i:cell precision layers streams units characters length p:layer packed_output output_bias logits current"
        " random out kept_logits choice i:unknown"
    )


class Tensor(_Struct):
    """One of a model's tensors, as the optimiser sees it."""

    _fields_ = _named("p:value grad mean square step i:count d:rate decay beta1 beta2 epsilon")


class Tensors(_Struct):
    """What an optimiser's kernel works on."""

    _fields_ = _named("i:tensors p:tensor d:factor p:sums")


@cache
def library() -> ctypes.CDLL:
    """The loaded library; `ImportError` says why there is none."""
    path = _found()
    if path is None:
        raise ImportError("the native kernel was not built when storycell was installed (no C++ compiler)")
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(f"the native kernel {path} cannot be loaded: {error}") from None
    if not hasattr(loaded, "storycell_layout"):
        raise ImportError(f"{path} is no native kernel of this storycell; rebuild it, by installing storycell again")
    loaded.storycell_layout.restype = ctypes.c_char_p
    if difference := _difference(loaded.storycell_layout().decode()):
        raise ImportError(
            f"the native kernel {path} was built from other sources than this storycell ({difference}); "
            "rebuild it, by installing storycell again"
        )
    loaded.storycell_explain.restype = ctypes.c_char_p
    loaded.storycell_blocks.argtypes, loaded.storycell_blocks.restype = [_i64], _i64
    loaded.storycell_isa.restype = ctypes.c_char_p
    loaded.storycell_use_isa.argtypes = [ctypes.c_char_p]
    loaded.storycell_pack.argtypes = [*[_i64] * 4, _ptr, *[_i64] * 4, _ptr, ctypes.c_int]
    for name in ("convert", "widen"):
        getattr(loaded, f"storycell_{name}").argtypes = [_i64, _ptr, _ptr, _i64, ctypes.c_int]
    return loaded


_STRUCTS = (
    Recurrence,
    Product,
    TransposedProduct,
    TableGradient,
    OutputLoss,
    Dropout,
    Choice,
    GenerationLayer,
    Generation,
    Tensor,
    Tensors,
)


def _described(struct: type[_Struct]) -> list[str]:
    """A struct in the words of native/engine/layout.h."""
    fields = [
        f"field {name.rstrip('_')} {_KINDS[kind]} {getattr(struct, name).offset}"
        for name, kind in (field[:2] for field in struct._fields_)
    ]
    return [f"struct {struct.__name__} {ctypes.sizeof(struct)}", *fields]


def _difference(layout: str) -> str:
    """The first difference between the library's cells and structs and this module's; empty where there is none."""
    theirs: dict[str, list[str]] = {"": []}
    name = ""
    for line in layout.splitlines():
        if line.startswith("struct "):
            name = line.split()[1]
        theirs.setdefault(name, []).append(line)
    ours = {"": [f"cell {cell} {GATES[cell]} {SAVED[cell]} {BACK[cell]}" for cell in CELLS]}
    ours |= {struct.__name__: _described(struct) for struct in _STRUCTS}
    for name, lines in ours.items():
        for here, there in zip_longest(lines, theirs.get(name, []), fillvalue="nothing"):
            if here != there:
                return f"{name and f'in {name}: '}{here} in the Python code, {there} in the library"
    return ""


def _found() -> Path | None:
    """Where the library is: as STORYCELL_KERNEL says, or in this package (in an editable install, its other half)."""
    if place := os.environ.get("STORYCELL_KERNEL"):
        return Path(place)
    found = [p for folder in sys.modules[__package__].__path__ for p in Path(folder).glob("*storycell_kernel.*")]
    return next((p for p in found if p.suffix in (".so", ".dylib", ".dll")), None)


def isa() -> str:
    """The instruction set in use: amx, avx512bf16, avx512, avx2 or portable."""
    name: str = library().storycell_isa().decode()
    if not name:
        check(5)
    return name


def use_isa(name: str = "") -> None:
    """Force an instruction set (empty: the best). Packed weights of another become invalid."""
    check(library().storycell_use_isa(name.encode()))


def check(status: int) -> None:
    """Raise the exception that a status stands for."""
    if status:
        raise _ERRORS.get(status, RuntimeError)(library().storycell_explain(status).decode())


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


def padded(n: int) -> int:
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
