"""Arrays, and a JSON object about them, in one safetensors file that detects damage.

The file holds a digest of its names, shapes, numbers and metadata, which reading checks; so a flipped bit is an error
instead of a model that generates nonsense. Nothing is ever unpickled. The digest names types as torch does.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from storycell.errors import RunFolderError
from storycell.runs import files

Array = npt.NDArray[Any]

_LARGEST_HEADER = 1 << 20  # storycell writes a few thousand bytes; a header of 100 MB would take gigabytes to parse
_ADVICE = "restore it from a copy, or train again"


class _Stored(NamedTuple):
    """A tensor as it lies in a file."""

    name: str
    kind: str  # its type, by numpy's and torch's name
    numbers: Array  # of that type; the bits of bfloat16, which numpy does not have, as uint16


def pack_tensors(tensors: Mapping[str, Any], about: dict[str, Any]) -> bytes:
    """The bytes of the file."""
    plain = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    digest = _digest([_Stored(name, array.dtype.name, array) for name, array in plain.items()], about)
    metadata = {"format": "pt", "about": json.dumps({**about, "digest": digest})}
    return safetensors.numpy.save(plain, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a file and what is said about them, bfloat16 widened to float32.

    `RunFolderError` if it is not what was written.
    """
    files.refuse_undecodable(path)
    try:
        _check_header(path)
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            stored = [_read(file, name, path) for name in file.keys()]  # noqa: SIM118
        about = json.loads(metadata.get("about", "null"))
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent} has no {path.name}; copy the whole folder, or train again") from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {files.reason(error)}; {_ADVICE}") from None
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is truncated or damaged ({error}); {_ADVICE}") from None
    digest = about.pop("digest", None) if isinstance(about, dict) else None
    if digest is None or digest != _digest(stored, about):
        raise RunFolderError(f"{path} is damaged: its content is not what storycell wrote; {_ADVICE}")
    return {one.name: _widen(one.numbers) if one.kind == "bfloat16" else one.numbers for one in stored}, about


def _read(file: Any, name: str, path: Path) -> _Stored:
    """One tensor of an open file: a copy, for it would go on being the file, and Windows replaces none in use."""
    kind = file.get_slice(name).get_dtype()
    if kind == "BF16":
        every = dict(safetensors.deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
        raw = every[name]["data"]
        return _Stored(name, "bfloat16", np.frombuffer(raw, "<u2").reshape(file.get_slice(name).get_shape()))
    try:
        array = np.array(file.get_tensor(name), order="C")
    except (TypeError, AttributeError):  # of the many types that the format has, numpy does not know all
        raise ValueError(f"{name} is of the type {kind}, which storycell does not write") from None
    return _Stored(name, array.dtype.name, array)


def _widen(bits: Array) -> Array:
    """bfloat16, as uint16, in float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _check_header(path: Path) -> None:
    """`ValueError` where the header says that it is larger than any storycell writes."""
    files.refuse_odd(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _LARGEST_HEADER:
        raise ValueError(f"its header claims {size:,} bytes")


def _digest(stored: Iterable[_Stored], about: dict[str, Any]) -> str:
    content = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name, kind, numbers in sorted(stored, key=lambda one: one.name):
        content.update(f"{name}{tuple(numbers.shape)}torch.{kind}".encode())
        content.update(numbers.reshape(-1).view(np.uint8).data)
    return content.hexdigest()
