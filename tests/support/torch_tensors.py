"""Files of tensors as torch writes them: what earlier versions of storycell wrote, and the oracle of ours."""

import hashlib
import json
from typing import Any

import safetensors.torch
import torch


def pack(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> bytes:
    """The bytes of the file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": "pt", "about": json.dumps({**about, "digest": digest(plain, about)})}
    return bytes(safetensors.torch.save(plain, metadata))


def digest(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> str:
    """The checksum in the file."""
    content = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        content.update(f"{name}{tuple(tensors[name].shape)}{tensors[name].dtype}".encode())
        content.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
