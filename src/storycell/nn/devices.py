"""Which devices torch finds on this machine."""

import torch

from storycell.errors import BackendError


def find_device(asked: str) -> torch.device:
    """`auto` takes an NVIDIA GPU where there is one; `BackendError` if the device that is asked for is not there.

    Apple's is taken only by its name: its recurrent layers are slower than the CPU, and dropout between them has given
    wrong gradients.
    """
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = asked.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind not in there or (number and not number.isdecimal()):
        raise BackendError(f"there is no device {asked!r}; the devices are auto, cpu, cuda, cuda:1 and mps")
    if int(number or 0) >= there[kind]:
        raise BackendError(
            f"torch {torch.__version__} finds no device {asked} on this machine; leave --device out to take the best "
            "there is, or install the torch that is built for your GPU (https://pytorch.org/get-started)"
        )
    return torch.device(asked)
