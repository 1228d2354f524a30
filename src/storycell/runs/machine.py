"""What this machine is and has: recorded in every run, printed by `storycell info`."""

import platform
import sys
from importlib import metadata
from pathlib import Path

import storycell
from storycell import extras
from storycell.engine.library import isa
from storycell.threads import cores

PACKAGES = ("torch", "numpy", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python and of what computes, as far as it is installed."""
    ours = {"python": platform.python_version(), "storycell": storycell.__version__}
    return ours | {name: metadata.version(name) for name in PACKAGES if extras.is_installed(name)}


def machine() -> dict[str, str | int]:
    """Processor, instruction set, cores, system."""
    return {
        "processor": _processor(),
        "instruction_set": instruction_set(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def instruction_set() -> str:
    """What the engine computes with, such as avx512bf16; where it was not built, the processor's family."""
    try:
        return isa()
    except (ImportError, RuntimeError):
        return platform.machine()


def best_device(asked: str) -> str:
    """The device that `asked` means here: `cpu`, or one that torch finds, `auto` an NVIDIA GPU where there is one.

    `BackendError` if it is not there, `MissingExtraError` where only torch could compute on it.
    """
    if asked == "cpu" or (asked == "auto" and not _may_have_gpu()):
        return "cpu"
    extras.require("torch", f"the device {asked}")
    from storycell.nn.devices import find_device

    return str(find_device(asked))


def _may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether torch has to be asked for a GPU: its import takes seconds, which a machine without a driver saves."""
    if "torch" in sys.modules or not extras.is_installed("torch"):
        return extras.is_installed("torch")
    if metadata.version("torch").endswith("+cpu") or sys.platform == "darwin":
        return False
    drivers = ("nvidiactl", "kfd", "dxg")  # of NVIDIA, of AMD, and of either under Windows' Linux
    return sys.platform != "linux" or any((devices / name).exists() for name in drivers)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
