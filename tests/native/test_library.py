"""The binding of the compiled kernels: what it makes of a library from other sources, and of a lack of memory."""

import ctypes
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.instruction_sets import needs_kernel

from storycell.engine import library
from storycell.engine.library import check

pytestmark = needs_kernel


def layout() -> str:
    text: str = library.library().storycell_layout().decode()
    return text


def load(monkeypatch: pytest.MonkeyPatch, loaded: object) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda path: loaded)
    library.library.__wrapped__()


def test_the_library_tells_every_struct_of_the_binding() -> None:
    told = set(re.findall(r"^struct (\w+)", layout(), re.M))
    assert (
        told
        == {struct.__name__ for struct in library.Struct.__subclasses__()}
        == {s.__name__ for s in library._STRUCTS}
    )
    assert layout().count("field") == sum(len(struct._fields_) for struct in library._STRUCTS)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "field keep double 32",
            "field keep int64 32",
            "in Dropout: field keep double 32 in the Python code, field keep",
        ),
        ("field bias pointer 56\nfield out", "field out pointer 56\nfield bias", "in Product: field bias pointer 56"),
        ("field real_units int64 200", "field real_units int64 200\nfield seed int64 208", "in Generation: nothing"),
        ("field grad_initial pointer 160\n", "", "in Recurrence: field grad_initial pointer 160"),
        ("struct Tensor 88", "struct Tensor 96", "in Tensor: struct Tensor 88"),
        ("struct Choice 40", "struct Selection 40", "in Choice: struct Choice 40 in the Python code, nothing"),
        ("cell gru 3 4 3", "cell gru 3 3 3", "cell gru 3 4 3 in the Python code, cell gru 3 3 3"),
    ],
)
def test_a_library_with_other_structs_is_not_used(
    old: str, new: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = layout()
    assert text.count(old) == 1, text

    def other() -> bytes:
        return text.replace(old, new).encode()

    with pytest.raises(ImportError, match=r"built from other sources.*rebuild it") as told:
        load(monkeypatch, SimpleNamespace(storycell_layout=other))
    assert words in str(told.value)


def test_a_library_that_tells_no_structs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImportError, match="rebuild it"):
        load(monkeypatch, SimpleNamespace(storycell_abi=lambda: 5))


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (1, ValueError, "a size is out of range"),
        (2, IndexError, "outside the vocabulary"),
        (3, ValueError, "array is missing"),
        (4, FloatingPointError, "not finite"),
        (5, RuntimeError, "STORYCELL_ISA"),
        (6, MemoryError, "not enough memory"),
        (7, RuntimeError, "failed for a reason"),
        (8, ValueError, "another number of streams"),
        (99, RuntimeError, "a status they do not know"),
    ],
)
def test_every_status_is_an_exception_with_a_sentence(status: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        check(status)


# The arrays fit, and the kernel's scratch (192 numbers a column, 3 GB) does not.
NEEDS_SCRATCH = """
import resource
import torch
from storycell.engine import library
from storycell.nn.backends.native.library import TransposedProduct, call

rows, m, n = 16, 16, 1 << 22
left, right, out = torch.empty(rows, m), torch.empty(rows, n), torch.empty(m, n)
a = TransposedProduct(precision=0, rows=rows, m=m, n=n, left_stride=m, right_stride=n)
a.left, a.right, a.out = left.data_ptr(), right.data_ptr(), out.data_ptr()
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
library.library()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), -1))
try:
    call("transposed", a)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_lack_of_memory_in_a_kernel_is_a_memory_error() -> None:
    child = subprocess.run([sys.executable, "-c", NEEDS_SCRATCH], capture_output=True, text=True, check=False)
    assert child.stdout == "there is not enough memory for the native kernels\n", child.stderr
    assert child.returncode == 0
