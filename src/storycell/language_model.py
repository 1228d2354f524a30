"""`LanguageModel`: what every trained character model computes, numpy in and out, whoever computes it.

The engine is one (`storycell.engine`), a torch module behind `storycell.nn.adapter` the other. Everything that happens
after training (sampling, evaluation, inspection, export) asks for no more than this. All numbers are float32 and there
is no dropout; calls from several threads at once do not disturb each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from storycell.context import Context

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
State = dict[str, Floats]  # name -> [L B H]: "h", and "c" of an LSTM; with a context "past" [1 B P] (storycell.context)
Values = dict[str, Floats]  # every gate and state of one layer's step, by name: [N H]
Held = Mapping[tuple[str, int, int], float]  # (name of the value, layer, unit), both from 0 -> what it is kept at
Hold = Callable[[str, Any], Any]  # (name, value as computed [N H]) -> the value to go on with


def unheld(name: str, value: Any) -> Any:
    """The hold that holds nothing."""
    return value


class Choice(NamedTuple):
    """How one stream chooses its next id; `Sampling` in numbers."""

    temperature: float  # above 0
    top_p: float  # 1: all
    min_p: float  # 0: all
    top_k: int  # 0: all
    greedy: bool


@dataclass(frozen=True)
class Generated:
    """What `generate` drew, and where it left the streams."""

    ids: Integers  # [B chars]; after a boundary, which ends a story, a row means nothing
    logits: Floats | None  # [B chars V], what each id was drawn from, where that was asked for
    state: State  # after everything but the last id was fed
    random: Integers  # [B 4]


class LanguageModel(Protocol):
    """A character model with its weights."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    embedding_size: int  # 0: one-hot characters
    context: Context  # what is added to the embedding
    cell: str
    gate_norm: bool  # whether what goes into a gate is normalised: weights alone do not tell
    state_names: tuple[str, ...]  # the first is what a layer shows to the one above
    can_hold: bool  # whether values of a step can be held

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of a step's values, in the order of computation: i f g o c h of an LSTM."""

    @property
    def backend(self) -> str:
        """What computes, by the name that can be asked for."""

    @property
    def backend_reason(self) -> str:
        """Why it is that."""

    @property
    def generates_in(self) -> str:
        """Precision of the products in `generate`: fp32, bf16 or int8."""

    def weights(self) -> dict[str, Floats]:
        """All parameters by torch's names: copies."""

    def with_weights(self, weights: Mapping[str, Any]) -> "LanguageModel":
        """A model of the same sizes, computed by the same, with other weights; `ValueError` where they do not fit."""

    def copy_untrained(self, seed: int) -> "LanguageModel":
        """A model of the same sizes as it would be before its training."""

    def frozen(self) -> "LanguageModel":
        """This model for many calls with the weights of now: what follows from them alone is computed once."""

    def zero_state(self, B: int) -> State:
        """The state before a text begins."""

    def logits(self, ids: Any, state: State | None = None) -> tuple[Floats, State]:
        """ids `[B T]` -> logits `[B T V]` and the state after them; `state=None` is the zero state."""

    def nats(self, ids: Any, targets: Any, state: State | None = None) -> tuple[Floats, State]:
        """The loss of every target: ids and targets `[B T]` -> nats `[B T]` and the state after them."""

    def state_after(self, ids: Any, state: State | None = None) -> State:
        """The state after ids `[B T]`."""

    def states(self, ids: Any, state: State | None = None) -> State:
        """The states after each of ids `[B T]`, by name: `[L B T H]`; what a context remembers is no part of them."""

    def generate(
        self, fed: Any, state: State, random: Any, choices: list[Choice], chars: int, *, logits: bool = False
    ) -> Generated | None:
        """Feed `fed [B]` and then each id drawn, `chars` times; None where this model is stepped from outside.

        `random [B 4]` holds the words of every stream's xoshiro128++. The unknown character is never drawn.
        `FloatingPointError` where the logits are not finite; nothing is changed then.
        """

    def inputs(self, ids: Any, past: Any = None) -> Floats:
        """What the first layer reads: ids `[B T]` -> `[B T D]`; with a context after `past [B P]`, None for zeros."""

    def layer_step(self, layer: int, x: Floats, state: Values, hold: Hold = unheld) -> Values:
        """One step of a layer on inputs `[N D]` and the state before, `[N H]` by name: every value of the step.

        Each value passes through `hold` as it is computed, so that what is held in one line changes those below.
        """

    def output(self, h: Floats) -> Floats:
        """Logits `[N V]` of what the last layer shows, `[N H]`."""

    def state_gradients(
        self, ids: Any, targets: Any, state: list[Values], *, cuts_h: bool = False
    ) -> dict[tuple[str, int], Floats]:
        """The loss of `targets [N]` after ids `[N K]`, by every state on the way: (state, layer) -> `[N K H]`.

        `state` is that of each layer before the first id, `[N H]` by name. With `cuts_h` no gradient passes from a
        character's gates to the h before them, so that what arrives came through the cell state's sum alone.
        """
