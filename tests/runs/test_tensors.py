"""Files of arrays, byte for byte what torch wrote before, and what is in them whatever wrote them."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from support import torch_tensors

from storycell.errors import RunFolderError
from storycell.runs import tensors

ABOUT = {"step": 3, "vocab": "ab", "position": {"chars": 5}, "nats": 0.1}
TENSORS = {
    "model.b": torch.linspace(-1, 1, 12).view(3, 4).t(),  # not contiguous
    "model.a": torch.tensor(2.5),
    "optimizer.step": torch.tensor(7, dtype=torch.int64),
    "words": torch.arange(5, dtype=torch.uint8),
    "flags": torch.tensor([True, False]),
    "double": torch.tensor([1 / 3], dtype=torch.float64),
    "half": torch.tensor([0.1, -2.0], dtype=torch.float16),
    "empty": torch.zeros(0, 3),
}


def parts(data: bytes) -> tuple[object, bytes]:
    """The header, whose two metadata come in either order, and the numbers."""
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def test_files_are_byte_for_byte_what_torch_writes() -> None:
    ours = {tensors.pack_tensors({k: t.numpy() for k, t in TENSORS.items()}, ABOUT) for _ in range(40)}
    theirs = {torch_tensors.pack(TENSORS, ABOUT) for _ in range(40)}
    assert ours == theirs  # two each: safetensors orders the metadata by chance
    [one, *_], [other, *_] = ours, theirs
    assert parts(one) == parts(other)


def test_what_torch_wrote_is_read_type_for_type(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(torch_tensors.pack(TENSORS, ABOUT))
    found, about = tensors.read_tensors(path)
    assert about == ABOUT
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (found[name].dtype, found[name].shape) == (tensor.numpy().dtype, tuple(tensor.shape))
        assert np.array_equal(found[name], tensor.numpy())
        assert found[name].flags.owndata or found[name].base.flags.owndata  # not the file's pages
        assert tensors.pack_tensors(found, about) in {torch_tensors.pack(TENSORS, ABOUT) for _ in range(40)}


def test_bfloat16_is_read_as_float32_and_checked(tmp_path: Path) -> None:
    path, numbers = tmp_path / "x.safetensors", torch.tensor([[0.1, -1e30], [float("nan"), float("-inf")]])
    data = torch_tensors.pack({"w": numbers.bfloat16(), "s": torch.tensor(1.5).bfloat16()}, ABOUT)
    path.write_bytes(data)
    found, _ = tensors.read_tensors(path)
    assert found["w"].dtype == np.float32
    assert np.array_equal(found["w"], numbers.bfloat16().float().numpy(), equal_nan=True)
    assert found["s"].shape == ()
    assert found["s"] == 1.5
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(RunFolderError, match="its content is not what storycell wrote"):
        tensors.read_tensors(path)


def test_a_type_that_numpy_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(torch_tensors.pack({"w": torch.zeros(3, dtype=torch.float8_e5m2)}, ABOUT))
    with pytest.raises(RunFolderError, match=r"x.safetensors is truncated or damaged \(w is of the type F8_E5M2"):
        tensors.read_tensors(path)
