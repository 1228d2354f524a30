"""What this machine is and has: recorded in every run, printed by `storycell info`."""

import platform
from importlib import metadata

import torch

import storycell
from storycell.errors import BackendError
from storycell.threads import cores

PACKAGES = ("torch", "numpy", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python and of what computes."""
    ours = {"python": platform.python_version(), "storycell": storycell.__version__}
    return ours | {name: metadata.version(name) for name in PACKAGES}


def machine() -> dict[str, str | int]:
    """Processor, instruction set, cores, system."""
    return {
        "processor": _processor(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def best_device(asked: str) -> torch.device:
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


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
