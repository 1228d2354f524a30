"""Step through a model, exposing every gate and state of every layer and optionally holding units at a value.

`Walker` takes ids `[B]`, one character a stream, and states, and gives what each layer's step returned. It is slow, and
exact: these are the cells' own lines.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from storycell.errors import SettingsError
from storycell.generation.sampler import Draw, Sampling
from storycell.language_model import Floats, Held, Hold, LanguageModel, Values, unheld
from storycell.types import BOUNDARY


class Walker:
    """A model to be walked through, with the values in `held` kept where they are told to be."""

    def __init__(self, model: LanguageModel, held: Held | None = None) -> None:
        self.model = model
        _check(model, held or {})
        self._holds = [_hold_of(k, held or {}) for k in range(model.num_layers)]

    def zero_state(self, B: int) -> list[Values]:
        """The state before a text begins, for each layer: zeros `[B H]`."""
        zero = self.model.zero_state(B)
        return [{name: value[k] for name, value in zero.items()} for k in range(self.model.num_layers)]

    def step(self, ids: npt.NDArray[np.integer], state: list[Values]) -> list[Values]:
        """One character of each stream, ids `[B]`: every value of every layer, `[B H]`, the new states among them."""
        x = self.model.inputs(ids)
        values: list[Values] = []
        for k, hold in enumerate(self._holds):
            values.append(self.model.layer_step(k, x, {name: state[k][name] for name in self.model.state_names}, hold))
            x = values[-1][self.model.state_names[0]]
        return values

    def logits(self, values: list[Values]) -> Floats:
        """Logits of the next character, `[B V]`."""
        return self.model.output(values[-1][self.model.state_names[0]])


def _hold_of(layer: int, held: Held) -> Hold:
    columns: dict[str, dict[int, float]] = {}
    for (name, k, unit), kept in held.items():
        if k == layer:
            columns.setdefault(name, {})[unit] = float(kept)
    if not columns:
        return unheld

    def hold(name: str, value: Floats) -> Floats:
        if name not in columns:
            return value
        value = value.copy()
        value[:, list(columns[name])] = list(columns[name].values())
        return value

    return hold


def _check(model: LanguageModel, held: Held) -> None:
    for name, layer, unit in held:
        if name not in model.value_names:
            raise SettingsError(f"hold {name!r}: the values of a {model.cell} are {', '.join(model.value_names)}")
        if not 0 <= layer < model.num_layers or not 0 <= unit < model.hidden_size:
            raise SettingsError(
                f"hold {name!r} of layer {layer}, unit {unit}: layers count from 0 to {model.num_layers - 1}, "
                f"units from 0 to {model.hidden_size - 1}"
            )
    if held and not model.can_hold:
        raise SettingsError(
            f"the cell {model.cell!r} lets nothing be held: give its `step` a fourth argument `hold` "
            "and pass each value through it, as in storycell/nn/cells/lstm.py"
        )


def held_streams(
    model: LanguageModel, prompt: list[int], sampling: Sampling, seeds: list[int], limit: int, held: Held
) -> Iterator[list[int | None]]:
    """As `storycell.generation.sampler.streams`, with values held from the first character of the prompt on."""
    walker = Walker(model, held)
    draws = [Draw(seed) for seed in seeds]
    ended = [False] * len(seeds)
    state = walker.zero_state(len(seeds))
    for k in [BOUNDARY, *prompt]:
        state = walker.step(np.full(len(seeds), k), state)
    for _ in range(limit):
        last = walker.logits(state)
        chosen = [BOUNDARY if e else sampling.choose(row, d) for e, row, d in zip(ended, last, draws, strict=True)]
        ended = [e or k == BOUNDARY for e, k in zip(ended, chosen, strict=True)]
        yield [None if e else k for e, k in zip(ended, chosen, strict=True)]
        if all(ended):
            return
        state = walker.step(np.array(chosen), state)
