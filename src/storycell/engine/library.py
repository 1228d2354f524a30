"""The compiled library: finding and loading it, its argument structs, its errors. No torch.

The interface is C by ctypes instead of an extension module: so one library serves every Python, and ctypes releases the
GIL during each call. The structs below repeat those of `native/engine/` (`arguments.h`, `model.h`, `inference.h`); the
library tells their layout when it is loaded, and one that differs in any field is not used. Every status that the
library returns becomes an exception with the library's own sentence.
"""

import ctypes
import os
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from storycell import language_model

CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
SAVED = {"lstm": 4, "gru": 4, "rnn": 1}  # vectors per unit and step that backward needs
BACK = {"lstm": 4, "gru": 3, "rnn": 1}  # of these, how many meet the recurrent weights on the way back
PRECISIONS = {"fp32": 0, "bf16": 1}
GENERATES_IN = PRECISIONS | {"int8": 2}
LANES = 16  # widths are padded to a multiple of this
MULTIPLY_BF16 = ("amx", "avx512bf16", "bfmmla", "neonbf16")  # instruction sets with bf16 products

# By the library's status; the sentence is the library's own (`storycell_explain`).
_ERRORS: dict[int, type[Exception]] = {
    1: ValueError,
    2: IndexError,
    3: ValueError,
    4: FloatingPointError,
    5: RuntimeError,
    6: MemoryError,
    8: ValueError,
}

_i64, _f64, _ptr = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


_KINDS: dict[type, str] = {_i64: "int64", ctypes.c_uint64: "uint64", _f64: "double", _ptr: "pointer"}


class Struct(ctypes.Structure):
    """A struct of the C interface, compared with the library's when it is loaded; every field starts as 0 or null."""


def _parse_fields(fields: str) -> list[tuple[str, type]]:
    """Fields from a text such as `"i:cell precision p:packed"`: i int64, p pointer, d double, u uint64."""
    types: dict[str, type] = {"i": _i64, "p": _ptr, "d": _f64, "u": ctypes.c_uint64}
    out: list[tuple[str, type]] = []
    kind: type = _i64
    for word in fields.split():
        if word[1:2] == ":":
            kind, word = types[word[0]], word[2:]
        out.append((word, kind))
    return out


class Recurrence(Struct):
    """Arguments of forward and backward through time."""

    _fields_ = _parse_fields(
        "i:cell precision steps streams units characters p:packed ids i:ids_stream_stride ids_step_stride"
        " p:table projected reset_bias hidden cell_state saved carry grad_output grad_hidden grad_carry grad_initial"
        " i:descending p:gate_bias i:real_units p:normalised mean_squares grad_gates"
    )


class Product(Struct):
    """Rows times a packed right-hand side."""

    _fields_ = _parse_fields("i:precision rows inner columns p:left i:left_stride p:packed bias out i:descending")


class TransposedProduct(Struct):
    """The sum over all rows that gives a weight's gradient."""

    _fields_ = _parse_fields(
        "i:precision rows m n p:left i:left_stride p:right i:right_stride p:out column_sums table_grad ids"
        " i:ids_stream_stride ids_step_stride streams characters"
    )


class TableGradient(Struct):
    """The gradient of the table that the first layer looks its input up in."""

    _fields_ = _parse_fields(
        "i:precision cell steps streams units characters p:ids i:ids_stream_stride ids_step_stride p:gate_grads grad"
    )


class OutputLoss(Struct):
    """Output layer, softmax cross-entropy and both gradients."""

    _fields_ = _parse_fields(
        "i:precision steps streams units characters p:hidden packed_forward packed_backward bias targets"
        " i:targets_stream_stride targets_step_stride d:scale p:losses logit_grads grad_hidden soft d:share"
    )


class Dropout(Struct):
    """Dropout whose mask is a hash of a seed and the place."""

    _fields_ = _parse_fields("i:precision count period u:seed d:keep p:from_ to")


class Choice(Struct):
    """How one stream chooses its next character: the fields of `storycell.language_model.Choice`."""

    _fields_ = [(name, _f64 if kind is float else _i64) for name, kind in language_model.Choice.__annotations__.items()]


class GenerationLayer(Struct):
    """One layer's weights and states for generation."""

    _fields_ = _parse_fields(
        "p:packed_recurrent packed_input table input_bias reset_bias hidden carry projected gate_bias"
    )


class Generation(Struct):
    """Arguments of whole character steps."""

    _fields_ = _parse_fields(
        "i:cell precision layers streams units characters length p:layer packed_output output_bias logits current"
        " random out kept_logits choice i:unknown ngrams ngram_rows matches embedding"
        " p:embedding_weight context_table past vectors i:real_units"
    )


class Tensor(Struct):
    """One of a model's tensors, as the optimiser sees it."""

    _fields_ = _parse_fields("p:value grad mean square step i:count d:rate decay beta1 beta2 epsilon")


class Tensors(Struct):
    """What an optimiser's kernel works on."""

    _fields_ = _parse_fields("i:tensors p:tensor d:factor p:sums")


class ModelConfig(Struct):
    """What a model is."""

    _fields_ = _parse_fields(
        "i:cell layers units characters embedding gate_bias precision threads"
        " d:dropout weight_dropout embedding_dropout i:ngrams ngram_rows matches gate_norm"
    )


class Chunk(Struct):
    """Characters to learn from."""

    _fields_ = _parse_fields("i:streams steps p:ids targets resets i:carries u:seed p:soft d:share nats norm")


class Update(Struct):
    """A step of an optimiser."""

    _fields_ = _parse_fields("i:method d:rate clip decay beta1 beta2")


class NetworkLayer(Struct):
    """One layer's weights, to be packed for reading."""

    _fields_ = _parse_fields("p:input recurrent input_bias recurrent_bias")


class NetworkWeights(Struct):
    """A network's weights, to be packed for reading."""

    _fields_ = _parse_fields(
        "i:cell layers units characters embedding p:embedding_weight layer output output_bias i:ngrams"
        " ngram_rows matches p:context_table i:gate_norm"
    )


class Reading(Struct):
    """Characters to be read, and what is wanted of that."""

    _fields_ = _parse_fields(
        "i:streams steps p:ids targets hidden cell final_hidden final_cell losses logits hiddens cells past final_past"
    )


class Writing(Struct):
    """Characters to be generated."""

    _fields_ = _parse_fields(
        "i:streams length unknown p:hidden cell final_hidden final_cell current random choice out logits past"
    )


@cache
def library() -> ctypes.CDLL:
    """The loaded library; `ImportError` says why there is none."""
    path = _find_library()
    if path is None:
        raise ImportError(
            "the native kernel was not built when storycell was installed (no C++ compiler; install it again with "
            "STORYCELL_ZIG=1 in the environment, and pip takes a compiler from PyPI)"
        )
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
    loaded.storycell_blas.restype = ctypes.c_char_p
    loaded.storycell_pack.argtypes = [*[_i64] * 4, _ptr, *[_i64] * 4, _ptr, ctypes.c_int]
    for name in ("convert", "widen"):
        getattr(loaded, f"storycell_{name}").argtypes = [_i64, _ptr, _ptr, _i64, ctypes.c_int]
    for what, functions in (
        ("model", _MODEL_FUNCTIONS),
        ("network", _NETWORK_FUNCTIONS),
        ("context", _CONTEXT_FUNCTIONS),
        ("teacher", _TEACHER_FUNCTIONS),
    ):
        for name, result, *arguments in functions:
            function = getattr(loaded, f"storycell_{what}_{name}")
            function.restype, function.argtypes = result, arguments
    return loaded


_int = ctypes.c_int
_MODEL_FUNCTIONS: tuple[tuple[Any, ...], ...] = (  # name, result, arguments
    ("create", _ptr, _ptr),
    ("free", None, _ptr),
    ("tensors", _i64, _ptr),
    ("name", ctypes.c_char_p, _ptr, _i64),
    ("rows", _i64, _ptr, _i64),
    ("columns", _i64, _ptr, _i64),
    ("has", _i64, _ptr, _int, _i64),
    ("read", _int, _ptr, _int, _i64, _ptr),
    ("write", _int, _ptr, _int, _i64, _ptr),
    ("forget", _int, _ptr, _int),
    ("gradient", _int, _ptr, _ptr),
    ("seed", ctypes.c_uint64, ctypes.c_uint64, _i64),
    ("gradients", _ptr, _ptr, _ptr),
    ("met", _i64, _ptr),
    ("read_met", _int, _ptr, _ptr, _ptr),
    ("write_met", _int, _ptr, _i64, _ptr, _ptr),
    ("measure", _int, _ptr, _ptr),
    ("apply", _int, _ptr, _ptr),
    ("average", _int, _ptr, _f64),
    ("swap_average", _int, _ptr),
    ("streams", _i64, _ptr),
    ("read_state", _int, _ptr, _ptr, _ptr),
    ("write_state", _int, _ptr, _i64, _ptr, _ptr),
    ("read_past", _int, _ptr, _ptr),
    ("write_past", _int, _ptr, _ptr),
)
_NETWORK_FUNCTIONS: tuple[tuple[Any, ...], ...] = (
    ("create", _int, _ptr, _i64, _int, _ptr),
    ("free", None, _ptr),
    ("read", _int, _ptr, _ptr, _int),
    ("write", _int, _ptr, _ptr, _int),
)
_CONTEXT_FUNCTIONS: tuple[tuple[Any, ...], ...] = (
    ("rows", _int, _i64, _i64, _i64, _i64, _i64, _i64, _ptr, _ptr, _ptr),
)
_TEACHER_FUNCTIONS: tuple[tuple[Any, ...], ...] = (
    ("create", _ptr, _ptr, _i64, _i64, _i64),
    ("free", None, _ptr),
    ("teach", _int, _ptr, _i64, _i64, _i64, _ptr, _ptr, _int),
)


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
    ModelConfig,
    Chunk,
    Update,
    NetworkLayer,
    NetworkWeights,
    Reading,
    Writing,
)


def _describe(struct: type[Struct]) -> list[str]:
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
    ours |= {struct.__name__: _describe(struct) for struct in _STRUCTS}
    for name, lines in ours.items():
        for here, there in zip_longest(lines, theirs.get(name, []), fillvalue="nothing"):
            if here != there:
                return f"{name and f'in {name}: '}{here} in the Python code, {there} in the library"
    return ""


def _find_library() -> Path | None:
    """As STORYCELL_KERNEL says, or in one of the package's folders (an editable install has two)."""
    if place := os.environ.get("STORYCELL_KERNEL"):
        return Path(place)
    import storycell

    places = [Path(folder) / "nn" / "backends" / "native" for folder in storycell.__path__]
    found = [p for place in places for p in place.glob("*storycell_kernel.*")]
    return next((p for p in found if p.suffix in (".so", ".dylib", ".dll")), None)


def isa() -> str:
    """The instruction set in use: amx, avx512bf16, avx512vnni, avx512, avxvnni, avx2; on Arm bfmmla, neonbf16, neondot,
    neon; portable on any other processor.
    """
    name: str = library().storycell_isa().decode()
    if not name:
        check(5)
    return name


def use_isa(name: str = "") -> None:
    """Force an instruction set (empty: the best). Packed weights of another become invalid."""
    check(library().storycell_use_isa(name.encode()))


def blas() -> str:
    """The BLAS that training's float32 products may go to: Accelerate, OpenBLAS (a build option), or empty for none."""
    name: str = library().storycell_blas().decode()
    return name


def check(status: int) -> None:
    """Raise the exception that a status stands for."""
    if status:
        raise _ERRORS.get(status, RuntimeError)(library().storycell_explain(status).decode())
