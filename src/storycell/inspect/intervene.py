"""Step through a model, exposing every gate and state of every layer and optionally holding units at a value.

`Walker` takes ids `[B]`, one character a stream, and states, and gives what each layer's `step` returned. It is slow
where one stream is long, and exact everywhere: these are the cells' own lines (`storycell.nn.cells`).
"""

import inspect
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F

from storycell.errors import SettingsError
from storycell.generation.sampler import Draw, Sampling
from storycell.nn.cells import registry
from storycell.nn.cells.cell import Hold, Values, unheld
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY

Held = Mapping[tuple[str, int, int], float]  # (name of the value, layer, unit), both from 0 -> what it is kept at


class Walker:
    """A model to be walked through, with the values in `held` kept where they are told to be."""

    def __init__(self, lm: CharLM, held: Held | None = None) -> None:
        self.lm, self.cell = lm, registry.get_cell(lm.cell)
        self.weights = lm.recurrent.layers()
        self.names = self._value_names()
        self._holds = [self._hold_of(k, held or {}) for k in range(lm.num_layers)]
        self._check(held or {})

    @property
    def can_hold(self) -> bool:
        """Whether the cell's step lets values be held."""
        return "hold" in inspect.signature(self.cell.step).parameters

    def inputs(self, ids: torch.Tensor) -> torch.Tensor:
        """ids `[...]` -> what the first layer hears, `[... D]`."""
        if self.lm.embedding is not None:
            x: torch.Tensor = self.lm.embedding(ids)
            return x
        return F.one_hot(ids, self.lm.vocab_size).to(self.lm.output.weight.dtype)

    def zero_state(self, B: int) -> list[Values]:
        """The state before a text begins, for each layer: zeros `[B H]`."""
        weight = self.lm.output.weight
        zeros = weight.new_zeros((B, self.lm.hidden_size))
        return [dict.fromkeys(self.cell.state_names, zeros) for _ in self.weights]

    def step(self, ids: torch.Tensor, state: list[Values]) -> list[Values]:
        """One character of each stream, ids `[B]`: every value of every layer, `[B H]`, the new states among them."""
        x = self.inputs(ids)
        values: list[Values] = []
        for k in range(len(self.weights)):
            values.append(self.layer_step(k, x, state[k]))
            x = self.output_of(values[-1])
        return values

    def layer_step(self, k: int, x: torch.Tensor, state: Values) -> Values:
        """The step of one layer on its inputs `[B D]` and state `[B H]`."""
        hold = self._holds[k]
        w = self.weights[k]
        return self.cell.step(x, state, w) if hold is unheld else self.cell.step(x, state, w, hold)

    def output_of(self, values: Values) -> torch.Tensor:
        """What a layer shows to the one above, `[B H]`."""
        return values[self.cell.state_names[0]]

    def logits(self, values: list[Values]) -> torch.Tensor:
        """Logits of the next character, `[B V]`."""
        logits: torch.Tensor = self.lm.output(self.output_of(values[-1]))
        return logits

    @torch.no_grad()
    def _value_names(self) -> tuple[str, ...]:
        ids = torch.zeros(1, dtype=torch.long, device=self.lm.output.weight.device)
        return tuple(self.cell.step(self.inputs(ids), self.zero_state(1)[0], self.weights[0]))

    def _hold_of(self, layer: int, held: Held) -> Hold:
        columns: dict[str, dict[int, float]] = {}
        for (name, k, unit), kept in held.items():
            if k == layer:
                columns.setdefault(name, {})[unit] = float(kept)
        if not columns:
            return unheld

        def hold(name: str, value: torch.Tensor) -> torch.Tensor:
            if name not in columns:
                return value
            value = value.clone()
            value[:, list(columns[name])] = value.new_tensor(list(columns[name].values()))
            return value

        return hold

    def _check(self, held: Held) -> None:
        for name, layer, unit in held:
            if name not in self.names:
                raise SettingsError(f"hold {name!r}: the values of a {self.cell.name} are {', '.join(self.names)}")
            if not 0 <= layer < self.lm.num_layers or not 0 <= unit < self.lm.hidden_size:
                raise SettingsError(
                    f"hold {name!r} of layer {layer}, unit {unit}: layers count from 0 to {self.lm.num_layers - 1}, "
                    f"units from 0 to {self.lm.hidden_size - 1}"
                )
        if held and not self.can_hold:
            raise SettingsError(
                f"the cell {self.cell.name!r} lets nothing be held: give its `step` a fourth argument `hold` "
                "and pass each value through it, as in storycell/cells/lstm.py"
            )


def held_streams(
    lm: CharLM, prompt: list[int], sampling: Sampling, seeds: list[int], limit: int, held: Held
) -> Iterator[list[int | None]]:
    """As `storycell.generation.sampler.streams`, with values held from the first character of the prompt on."""
    walker = Walker(lm, held)
    draws = [Draw(seed) for seed in seeds]
    ended = [False] * len(seeds)
    state = walker.zero_state(len(seeds))
    device = lm.output.weight.device
    with torch.no_grad():
        for k in [BOUNDARY, *prompt]:
            state = walker.step(torch.full((len(seeds),), k, dtype=torch.int64, device=device), state)
    for _ in range(limit):
        with torch.no_grad():
            last = walker.logits(state).float().cpu().numpy()
        chosen = [BOUNDARY if e else sampling.choose(row, d) for e, row, d in zip(ended, last, draws, strict=True)]
        ended = [e or k == BOUNDARY for e, k in zip(ended, chosen, strict=True)]
        yield [None if e else k for e, k in zip(ended, chosen, strict=True)]
        if all(ended):
            return
        with torch.no_grad():
            state = walker.step(torch.tensor(chosen, dtype=torch.int64, device=device), state)
