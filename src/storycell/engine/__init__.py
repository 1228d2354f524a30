"""The engine from Python: a model that learns by itself, numpy in and out, no torch."""

from storycell.engine.inference import EngineNetwork
from storycell.engine.model import EngineModel

__all__ = ["EngineModel", "EngineNetwork"]
