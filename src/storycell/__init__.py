"""LSTM language models that train in minutes on a laptop CPU, and that you can look inside.

    import storycell

    run = storycell.train("stories.txt", recipe="small", minutes=3)
    print(run.model.generate("Once upon a", seed=1))

Every public name is loaded when it is first used, so `import storycell` is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storycell.api import Model, Run, load, resume, train
    from storycell.cells import Cell
    from storycell.cells import register as register_cell
    from storycell.errors import StorycellError
    from storycell.evaluator import Evaluation
    from storycell.layer import LSTM
    from storycell.model import CharLM
    from storycell.sampler import Sampling
    from storycell.trainer import Report

__version__ = "0.1.0"

_PLACES = {
    "Cell": ("storycell.cells", "Cell"),
    "CharLM": ("storycell.model", "CharLM"),
    "Evaluation": ("storycell.evaluator", "Evaluation"),
    "LSTM": ("storycell.layer", "LSTM"),
    "Model": ("storycell.api", "Model"),
    "Report": ("storycell.trainer", "Report"),
    "Run": ("storycell.api", "Run"),
    "Sampling": ("storycell.sampler", "Sampling"),
    "StorycellError": ("storycell.errors", "StorycellError"),
    "load": ("storycell.api", "load"),
    "register_cell": ("storycell.cells", "register"),
    "resume": ("storycell.api", "resume"),
    "train": ("storycell.api", "train"),
}

__all__ = [
    "LSTM",
    "Cell",
    "CharLM",
    "Evaluation",
    "Model",
    "Report",
    "Run",
    "Sampling",
    "StorycellError",
    "load",
    "register_cell",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'storycell' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return __all__
