"""The Python surface: `train` and `resume` give a `Run`, `load` gives a `Model`.

`training` drives the trainer (saves, evaluates, samples, logs; a callback sees each report), `model` is what everything
after training starts from.
"""

from storycell.api.model import Model, load, run_name
from storycell.api.run import Run
from storycell.api.training import resume, train

__all__ = ["Model", "Run", "load", "resume", "run_name", "train"]
