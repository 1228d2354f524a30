"""What every recurrent cell has: a name, a state, the shapes of its weights, a start, and a step.

The defaults follow torch: `weight_ih [G*H D]`, `weight_hh [G*H H]` and two biases `[G*H]`, drawn from the uniform
distribution on +-1/sqrt(H), under the names that torch gives them, so that weights load both ways unchanged.
"""

from collections.abc import Callable

import torch

Weights = dict[str, torch.Tensor]
Values = dict[str, torch.Tensor]
State = dict[str, torch.Tensor]  # state name -> [L B H] (inside one layer: [B H])
Hold = Callable[[str, torch.Tensor], torch.Tensor]  # (name, value as computed) -> the value to go on with


def unheld(name: str, value: torch.Tensor) -> torch.Tensor:
    """The hold that holds nothing."""
    return value


class Cell:
    """Base of all cells. A subclass sets the class attributes and writes `step`; the rest has defaults."""

    name: str = ""
    gates: int = 1  # G, how many blocks of H rows a weight matrix stacks
    state_names: tuple[str, ...] = ("h",)  # the first is the output

    def shapes(self, D: int, H: int, bias: bool) -> dict[str, tuple[int, ...]]:
        """The shapes of one layer's weights, by name."""
        rows = self.gates * H
        weights: dict[str, tuple[int, ...]] = {"weight_ih": (rows, D), "weight_hh": (rows, H)}
        return weights | ({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {})

    def initialise(self, w: Weights, generator: torch.Generator, forget_bias: float) -> None:
        """Fill one layer's weights in place."""
        bound = w["weight_hh"].shape[1] ** -0.5
        for weight in w.values():
            weight.uniform_(-bound, bound, generator=generator)

    def step(self, x: torch.Tensor, state: Values, w: Weights, hold: Hold = unheld) -> Values:
        """One character: `x [B D]`, `state` -> every value of the step by name, `[B H]`, the new state among them.

        Every value passes through `hold` as it is computed, so that what is held in one line changes those below.
        """
        raise NotImplementedError

    def run(self, x: torch.Tensor, state: Values, w: Weights) -> tuple[torch.Tensor, Values] | None:
        """A whole chunk at once, where the formula allows it: `x [B T D]` -> outputs `[B T H]`, the state after it.

        None, the default, means that the cell has to be stepped.
        """
        return None

    def watch(self, w: Weights) -> dict[str, float]:
        """Numbers worth following through a training, by name; they are logged at every evaluation."""
        return {}


def affine(x: torch.Tensor, w: Weights, source: str) -> torch.Tensor:
    """`x` times the weights from `source` (`ih` or `hh`), plus their bias where there is one: `[B D]` -> `[B G*H]`."""
    return torch.nn.functional.linear(x, w[f"weight_{source}"], w.get(f"bias_{source}"))
