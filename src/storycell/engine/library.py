"""Finding and loading the engine's library, which is that of the kernels, without torch."""

import ctypes
import os
from functools import cache
from pathlib import Path

_i64, _f64, _ptr = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


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
