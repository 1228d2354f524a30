"""Tensors, and a JSON object about them, in one safetensors file that detects damage.

The file holds a digest of its names, shapes, numbers and metadata, which reading checks; so a flipped bit is an error
instead of a model that generates nonsense. Nothing is ever unpickled.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from storycell.errors import RunFolderError
from storycell.runs import files

_LARGEST_HEADER = 1 << 20  # storycell writes a few thousand bytes; a header of 100 MB would take gigabytes to parse
_ADVICE = "restore it from a copy, or train again"


def pack_tensors(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> bytes:
    """The bytes of the file."""
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    metadata = {"format": "pt", "about": json.dumps({**about, "digest": _digest(plain, about)})}
    return safetensors.torch.save(plain, metadata)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a file and what is said about them; `RunFolderError` if it is not what was written."""
    files.refuse_undecodable(path)
    try:
        _check_header(path)
        with torch.device("cpu"), safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # Copies: they would go on being the file, and Windows replaces no file that is in use.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        about = json.loads(metadata.get("about", "null"))
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent} has no {path.name}; copy the whole folder, or train again") from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {files.reason(error)}; {_ADVICE}") from None
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is truncated or damaged ({error}); {_ADVICE}") from None
    digest = about.pop("digest", None) if isinstance(about, dict) else None
    if digest is None or digest != _digest(tensors, about):
        raise RunFolderError(f"{path} is damaged: its content is not what storycell wrote; {_ADVICE}")
    return tensors, about


def _check_header(path: Path) -> None:
    """`ValueError` where the header says that it is larger than any storycell writes."""
    files.refuse_odd(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _LARGEST_HEADER:
        raise ValueError(f"its header claims {size:,} bytes")


def _digest(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> str:
    content = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        content.update(f"{name}{tuple(tensors[name].shape)}{tensors[name].dtype}".encode())
        content.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
