"""mingru, minlstm and mlstm: parallel equals stepwise, chunks carry their state, formulas by hand, gradients exact."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from storycell.nn.backends import choice
from storycell.nn.backends.reference import run_stepwise
from storycell.nn.cells import registry
from storycell.nn.cells.cell import Weights
from storycell.nn.cells.recurrence import doubling, in_turn, recur
from storycell.nn.model import CharLM

TOLERANCE = 1e-9  # difference over norm, float64: rounding only
ROUNDING_32 = 1e-5  # the same in float32
NEW = ("mingru", "minlstm", "mlstm")
PARALLEL = ("mingru", "minlstm")


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm().clamp_min(1e-300))


def layer(cell: str, D: int, H: int, bias: bool = True, spread: float = 1.0) -> Weights:
    generator = torch.Generator().manual_seed(3)
    shapes = registry.get_cell(cell).shapes(D, H, bias)
    return {
        name: (spread * torch.randn(shape, dtype=torch.float64, generator=generator)).requires_grad_()
        for name, shape in shapes.items()
    }


def inputs(cell: str, B: int, T: int, D: int, H: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(B, T, D, dtype=torch.float64, generator=generator, requires_grad=True)
    names = registry.get_cell(cell).state_names
    return x, {n: torch.randn(B, H, dtype=torch.float64, generator=generator, requires_grad=True) for n in names}


@pytest.mark.parametrize("cell", PARALLEL)
@pytest.mark.parametrize(("B", "T", "D", "H"), [(3, 13, 5, 7), (1, 1, 1, 1), (2, 64, 3, 33)])
@pytest.mark.parametrize("bias", [True, False])
def test_parallel_equals_stepwise_with_every_gradient(cell: str, B: int, T: int, D: int, H: int, bias: bool) -> None:
    w = layer(cell, D, H, bias)
    x, state = inputs(cell, B, T, D, H)
    kind = registry.get_cell(cell)
    results = []
    for y, last in (kind.run(x, state, w), run_stepwise(kind, x, state, w)):
        total = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum() + last["h"].square().sum()
        results.append([y, last["h"], *torch.autograd.grad(total, [x, *state.values(), *w.values()])])
    for a, b in zip(*results, strict=True):
        assert difference(a, b) < TOLERANCE


@settings(deadline=None)  # the machine may be busy
@given(T=st.integers(1, 40), cut=st.integers(1, 39), seed=st.integers(0, 1000))
def test_both_ways_through_the_recurrence_agree_and_carry_their_state(T: int, cut: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(2, T, 3, dtype=torch.float64, generator=generator)
    b, h = (torch.randn(*s, dtype=torch.float64, generator=generator) for s in ((2, T, 3), (2, 3)))
    whole = in_turn(a, b, h)
    assert difference(doubling(a, b, h), whole) < TOLERANCE
    if cut < T:
        first = doubling(a[:, :cut], b[:, :cut], h)
        rest = doubling(a[:, cut:], b[:, cut:], first[:, -1])
        assert difference(torch.cat([first, rest], dim=1), whole) < TOLERANCE


def test_the_recurrences_gradient_is_that_of_finite_differences() -> None:
    a = torch.rand(2, 5, 3, dtype=torch.float64, requires_grad=True)
    b, h = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((2, 5, 3), (2, 3)))
    assert torch.autograd.gradcheck(recur, (a, b, h))


@pytest.mark.parametrize("cell", NEW)
@pytest.mark.parametrize("cut", [1, 5, 10])
def test_chunked_and_stepwise_equal_whole_through_layers(cell: str, cut: int) -> None:
    lm = CharLM(9, 12, layers=2, cell=cell, embedding_size=4, backend="reference", seed=5).double().eval()
    ids = torch.randint(0, 9, (3, 11), generator=torch.Generator().manual_seed(6))
    whole, final = lm(ids)
    for pieces in (ids.split([cut, 11 - cut], dim=1), ids.split(1, dim=1)):
        now, outs = None, []
        for piece in pieces:
            y, now = lm(piece, now)
            outs.append(y)
        assert difference(torch.cat(outs, dim=1), whole) < TOLERANCE
        assert all(difference(now[n], final[n]) < TOLERANCE for n in final)
    alone, _ = lm(ids[1:2])
    assert difference(alone, whole[1:2]) < TOLERANCE


def test_saturated_gates_neither_overflow_nor_vanish_to_nan() -> None:
    for cell in PARALLEL:
        w = {name: weight.detach().float() for name, weight in layer(cell, 4, 6, spread=1e4).items()}
        x, state = (torch.randn(2, 50, 4), {"h": torch.randn(2, 6)})
        y, _ = registry.get_cell(cell).run(x, state, w)
        slow, _ = run_stepwise(registry.get_cell(cell), x, state, w)
        assert torch.isfinite(y).all()
        assert difference(y, slow) < ROUNDING_32


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def one_unit(cell: str, state: dict[str, float], **weights: list[float]) -> dict[str, float]:
    """The values of a step of one unit with input 2, from weights given as columns."""
    w = {name: torch.tensor(column, dtype=torch.float64).unsqueeze(1) for name, column in weights.items()}
    start = {name: torch.tensor([[value]], dtype=torch.float64) for name, value in state.items()}
    values = registry.get_cell(cell).step(torch.tensor([[2.0]], dtype=torch.float64), start, w)
    return {name: value.item() for name, value in values.items()}


def test_a_step_of_mingru_and_minlstm_is_the_papers_formula() -> None:
    values = one_unit("mingru", {"h": -1.0}, weight_ih=[0.3, 0.7])
    z, g = sigmoid(0.6), 1.4
    assert values == pytest.approx({"z": z, "g": g, "h": (1 - z) * -1.0 + z * g})
    values = one_unit("minlstm", {"h": -1.0}, weight_ih=[0.3, -0.2, 0.7])
    i, f, g = sigmoid(0.6), sigmoid(-0.4), 1.4
    assert values == pytest.approx({"i": i / (f + i), "f": f / (f + i), "g": g, "h": (f * -1.0 + i * g) / (f + i)})


def test_a_step_of_mlstm_is_the_papers_formula() -> None:
    weights = {"weight_ih": [0.1, 0.2, 0.3, 0.4], "weight_hh": [0.5, 0.6, 0.7, 0.8]}
    values = one_unit("mlstm", {"h": 0.5, "c": -1.0}, **weights, weight_mx=[0.9], weight_mh=[-1.1])
    m = (0.9 * 2) * (-1.1 * 0.5)
    i, f, g, o = sigmoid(0.2 + 0.5 * m), sigmoid(0.4 + 0.6 * m), math.tanh(0.6 + 0.7 * m), sigmoid(0.8 + 0.8 * m)
    c = f * -1.0 + i * g
    assert values == pytest.approx({"m": m, "i": i, "f": f, "g": g, "o": o, "c": c, "h": o * math.tanh(c)})


@pytest.mark.parametrize("cell", NEW)
def test_it_learns_in_a_few_steps(cell: str) -> None:
    lm = CharLM(7, 24, layers=2, cell=cell, embedding_size=6, seed=1)
    assert lm.backend.name == "reference"
    ids = torch.tensor([[0, *([2, 3, 4, 2, 5, 6] * 6)]]).repeat(4, 1)
    adam = torch.optim.Adam(lm.parameters(), lr=0.02)
    nats = []
    for _ in range(60):
        loss, _ = lm(ids[:, :-1], targets=ids[:, 1:])
        adam.zero_grad()
        loss.backward()
        adam.step()
        nats.append(loss.item())
    assert nats[0] > 1.5
    assert (
        nats[-1] < 0.35
    )  # what follows a 2 hangs on what came before it: half a bit a word for a blind guess, and less


def test_a_forget_bias_keeps_more_in_all_of_them() -> None:
    for cell in NEW:
        kept = []
        for bias in (-3.0, 3.0):
            w = {n: torch.zeros(s) for n, s in registry.get_cell(cell).shapes(4, 8, True).items()}
            registry.get_cell(cell).initialise(w, torch.Generator().manual_seed(1), bias)
            state = {n: torch.ones(1, 8) for n in registry.get_cell(cell).state_names}
            values = registry.get_cell(cell).step(torch.zeros(1, 4), state, w)
            kept.append(float(values.get("c", values["h"]).mean()))
        assert kept[0] < 0.5 < kept[1]


def test_what_is_worth_watching_is_the_vanilla_networks_spectral_radius() -> None:
    w = {n: torch.zeros(s) for n, s in registry.get_cell("rnn").shapes(4, 16, False).items()}
    registry.get_cell("rnn").initialise(w, torch.Generator().manual_seed(1), 0.0)
    assert registry.get_cell("rnn").watch(w)["spectral_radius"] == pytest.approx(1.0, abs=1e-4)
    w["weight_hh"] *= 1.5
    assert registry.get_cell("rnn").watch(w)["spectral_radius"] == pytest.approx(1.5, abs=1e-4)
    assert registry.get_cell("lstm").watch({}) == {}


def test_the_page_on_cells_runs_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cells.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("She sells sea shells by the sea shore. " * 60, encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(programs) == 1
    names = {}
    exec(compile(programs[0], "docs/cells.md", "exec"), names)
    assert choice.choose_backend("auto", "leaky-gate")[0].name == "reference"
    assert names["run"].summary["valid_nats"] < 3.2
    assert names["run"].model.generate("She", chars=20, seed=1).startswith("She")
    assert names["difference"] < ROUNDING_32


def test_what_is_held_in_a_step_changes_what_follows_from_it() -> None:
    for cell in NEW:
        w = layer(cell, 3, 4)
        x, state = inputs(cell, 2, 1, 3, 4)
        plain = registry.get_cell(cell).step(x[:, 0], state, w)
        seen = []

        def hold(name: str, value: torch.Tensor, seen: list[str] = seen) -> torch.Tensor:
            seen.append(name)
            return torch.zeros_like(value) if name == "g" else value

        held = registry.get_cell(cell).step(x[:, 0], state, w, hold)
        assert set(seen) == set(plain) == set(held)
        assert (held["g"] == 0).all()
        keeps, kept = (1 - plain["z"] if cell == "mingru" else plain["f"]), ("c" if cell == "mlstm" else "h")
        assert torch.equal(held[kept], keeps * state[kept])
