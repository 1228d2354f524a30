"""What gates, cells and gradients do: arrays and numbers about a trained model, no pictures.

In: a `CharLM` and ids. Out: `Trace` (every value along a text), `Finding`s (units with a meaning), `GradientFlow`,
held generation, and `inspect`, which gathers what a report shows. Layers and units count from 0.
"""

from storycell.inspector.features import Feature, features
from storycell.inspector.gradients import GradientFlow, gradient_flow
from storycell.inspector.inspection import Inspection, Subject, inspect
from storycell.inspector.trace import Trace, trace
from storycell.inspector.twin import untrained
from storycell.inspector.units import Finding, find_units
from storycell.inspector.walk import Held, Walker, held_streams

__all__ = [
    "Feature",
    "Finding",
    "GradientFlow",
    "Held",
    "Inspection",
    "Subject",
    "Trace",
    "Walker",
    "features",
    "find_units",
    "gradient_flow",
    "held_streams",
    "inspect",
    "trace",
    "untrained",
]
