"""What gates, cells and gradients do: arrays and numbers about a trained model, no pictures.

In: a `CharLM` and ids. Out: `Trace` (every value along a text), `Finding`s (units with a meaning), `GradientFlow`,
held generation, and `inspect`, which gathers what a report shows.
"""

from storycell.inspector.trace import Trace, trace
from storycell.inspector.walk import Held, Walker, held_streams

__all__ = ["Held", "Trace", "Walker", "held_streams", "trace"]
