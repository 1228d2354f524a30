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
    from storycell.errors import StorycellError
    from storycell.evaluation.evaluator import Evaluation
    from storycell.generation.sampler import Sampling
    from storycell.nn.cells.cell import Cell
    from storycell.nn.cells.registry import register_cell
    from storycell.nn.lstm import LSTM
    from storycell.nn.model import CharLM
    from storycell.training.trainer import Report

__version__ = "0.1.0"

_PLACES = {
    "Cell": "storycell.nn.cells.cell",
    "CharLM": "storycell.nn.model",
    "Evaluation": "storycell.evaluation.evaluator",
    "LSTM": "storycell.nn.lstm",
    "Model": "storycell.api",
    "Report": "storycell.training.trainer",
    "Run": "storycell.api",
    "Sampling": "storycell.generation.sampler",
    "StorycellError": "storycell.errors",
    "load": "storycell.api",
    "register_cell": "storycell.nn.cells.registry",
    "resume": "storycell.api",
    "train": "storycell.api",
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
    if _PLACES[name].startswith("storycell.nn."):
        import_module("storycell.extras").require("torch", f"storycell.{name}")
    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
