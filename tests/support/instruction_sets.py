"""What the tests of the native kernel share: whether it must be there, and its paths that run on this processor."""

import os

import pytest

from storycell.nn.backends.native.backend import NativeBackend
from storycell.nn.backends.native.library import use_isa

needs_kernel = pytest.mark.skipif(
    NativeBackend().obstacle("lstm") is not None and "STORYCELL_REQUIRE_KERNEL" not in os.environ,
    reason="the native kernel was not built",
)


def _runs(isa: str) -> bool:
    try:
        use_isa(isa)
    except (RuntimeError, ImportError):
        return False
    use_isa("")
    return True


KNOWN = (
    "portable", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx", "neon", "neondot", "neonbf16", "bfmmla"
)  # fmt: skip
ISAS = [isa for isa in KNOWN if _runs(isa)] or ["portable"]
