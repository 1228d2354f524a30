"""Finding and loading the engine's library, which is that of the kernels, without torch."""

import ctypes
import os
from functools import cache
from pathlib import Path

_i64, _f64, _ptr = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
_KINDS: dict[type, str] = {_i64: "int64", ctypes.c_uint64: "uint64", _f64: "double", _ptr: "pointer"}

# By the library's status; the sentence is the library's own (`storycell_explain`).
_ERRORS: dict[int, type[Exception]] = {
    1: ValueError,
    2: IndexError,
    3: ValueError,
    4: FloatingPointError,
    6: MemoryError,
}


def check(status: int) -> None:
    """Raise the exception that a status stands for."""
    if status:
        raise _ERRORS.get(status, RuntimeError)(library().storycell_explain(status).decode())


def check_layout(*structs: type[ctypes.Structure]) -> None:
    """`ImportError` unless the library has these structs (named as there, or with `_` before it), field by field."""
    lines = library().storycell_layout().decode().splitlines()
    for struct in structs:
        ours = [f"struct {struct.__name__.lstrip('_')} {ctypes.sizeof(struct)}"]
        for name, kind, *_ in struct._fields_:
            ours.append(f"field {name.rstrip('_')} {_KINDS[kind]} {getattr(struct, name).offset}")
        at = lines.index(ours[0]) if ours[0] in lines else len(lines)
        if lines[at : at + len(ours)] != ours:
            raise ImportError(
                f"the native kernel was built from other sources than this storycell ({ours[0]}); "
                "rebuild it, by installing storycell again"
            )


@cache
def library() -> ctypes.CDLL:
    """The loaded library; `ImportError` says why there is none."""
    path = _found()
    if path is None:
        raise ImportError("the native kernel was not built when storycell was installed (no C++ compiler)")
    try:
        loaded = ctypes.CDLL(str(path))
        create = loaded.storycell_model_create
    except (OSError, AttributeError) as error:
        raise ImportError(f"the native kernel {path} cannot be loaded: {error}") from None
    create.argtypes, create.restype = [_ptr], _ptr
    loaded.storycell_explain.restype = ctypes.c_char_p
    loaded.storycell_isa.restype = ctypes.c_char_p
    loaded.storycell_layout.restype = ctypes.c_char_p
    loaded.storycell_model_free.argtypes, loaded.storycell_model_free.restype = [_ptr], None
    loaded.storycell_model_tensors.argtypes, loaded.storycell_model_tensors.restype = [_ptr], _i64
    loaded.storycell_model_name.argtypes, loaded.storycell_model_name.restype = [_ptr, _i64], ctypes.c_char_p
    for name in ("rows", "columns"):
        function = getattr(loaded, f"storycell_model_{name}")
        function.argtypes, function.restype = [_ptr, _i64], _i64
    for name in ("read", "write"):
        getattr(loaded, f"storycell_model_{name}").argtypes = [_ptr, ctypes.c_int, _i64, _ptr]
    loaded.storycell_model_streams.argtypes, loaded.storycell_model_streams.restype = [_ptr], _i64
    loaded.storycell_model_read_state.argtypes = [_ptr, _ptr, _ptr]
    loaded.storycell_model_write_state.argtypes = [_ptr, _i64, _ptr, _ptr]
    loaded.storycell_model_gradient.argtypes = [_ptr, _ptr]
    loaded.storycell_model_apply.argtypes = [_ptr, _ptr]
    loaded.storycell_model_has.argtypes, loaded.storycell_model_has.restype = [_ptr, ctypes.c_int, _i64], _i64
    return loaded


def _found() -> Path | None:
    """As STORYCELL_KERNEL says, or in one of the package's folders (an editable install has two)."""
    if place := os.environ.get("STORYCELL_KERNEL"):
        return Path(place)
    import storycell

    places = [Path(folder) / "nn" / "backends" / "native" for folder in storycell.__path__]
    found = [p for place in places for p in place.glob("*storycell_kernel.*")]
    return next((p for p in found if p.suffix in (".so", ".dylib", ".dll")), None)
