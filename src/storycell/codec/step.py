"""One character step of a model for several lanes: the last ids in, the logits of the next ones out.

In: ids `[B]` and the state before them. Out: logits `[B V]` and the state after them. With the native kernel this is
the step that writes text, whose results for a lane do not depend on the lanes beside it; what it draws is ignored.
"""

from collections.abc import Callable

import torch

from storycell.backends import NativeBackend
from storycell.backends.native import Generator
from storycell.backends.native.library import Choice
from storycell.errors import NotFiniteError
from storycell.model import CharLM
from storycell.shapes import State
from storycell.vocab import UNKNOWN

Step = Callable[[torch.Tensor, State], tuple[torch.Tensor, State]]

_GREEDY = Choice(1.0, 1.0, 0.0, 0, 1)


def step_of(lm: CharLM) -> Step:
    """The step of a model as it is now; it has to be taken within `lm.reading()`."""
    if isinstance(lm.backend, NativeBackend):
        return _native(Generator(lm.network(), UNKNOWN))

    def step(ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        logits, state = lm(ids[:, None].to(lm.output.weight.device), state)
        return logits[:, 0], state

    return step


def _native(generator: Generator) -> Step:
    def step(ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        draws = torch.ones(len(ids), 4, dtype=torch.int64, device="cpu")
        try:
            written = generator.write(ids, state, draws, [_GREEDY] * len(ids), 1, keeps_logits=True)
        except FloatingPointError:
            raise NotFiniteError("the model computes numbers that are not finite; its weights are damaged") from None
        assert written.logits is not None
        return written.logits[:, 0], written.state

    return step
