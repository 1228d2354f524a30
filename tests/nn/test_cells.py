"""Cells and backends: torch's layers are the oracle of the reference, the reference that of every backend."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from storycell.errors import BackendError, SettingsError
from storycell.nn.backends.backend import Backend
from storycell.nn.backends.choice import choose_backend
from storycell.nn.backends.reference import ReferenceBackend
from storycell.nn.backends.torch import TorchBackend
from storycell.nn.cells.cell import Cell, State, Values, Weights
from storycell.nn.cells.registry import get_cell, register_cell

TOLERANCE = 1e-9  # difference over norm, float64: rounding only
LAYERS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
CELLS = sorted(LAYERS)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm().clamp_min(1e-300))


def weights(cell: str, D: int, H: int, L: int, bias: bool = True) -> list[Weights]:
    generator = torch.Generator().manual_seed(7)
    stack = []
    for k in range(L):
        shapes = get_cell(cell).shapes(D if k == 0 else H, H, bias)
        stack.append(
            {
                n: torch.randn(s, dtype=torch.float64, generator=generator).div_(H**0.5).requires_grad_()
                for n, s in shapes.items()
            }
        )
    return stack


def inputs(cell: str, B: int, T: int, D: int, H: int, L: int) -> tuple[torch.Tensor, State]:
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(B, T, D, dtype=torch.float64, generator=generator, requires_grad=True)
    names = get_cell(cell).state_names
    state = {n: torch.randn(L, B, H, dtype=torch.float64, generator=generator, requires_grad=True) for n in names}
    return x, state


def everything(run: object, x: torch.Tensor, state: State, stack: list[Weights]) -> list[torch.Tensor]:
    """Outputs, final states, and the gradients of a random function of them with respect to every input."""
    y, final = run(x, state, stack)  # type: ignore[operator]
    outs = [y, *final.values()]
    generator = torch.Generator().manual_seed(9)
    total = sum((out * torch.randn(out.shape, dtype=out.dtype, generator=generator)).sum() for out in outs)
    leaves = [x, *state.values(), *(w for layer in stack for w in layer.values())]
    return [*outs, *torch.autograd.grad(total, leaves)]


def torch_layer(cell: str, D: int, H: int, L: int, bias: bool) -> object:
    def run(x: torch.Tensor, state: State, stack: list[Weights]) -> tuple[torch.Tensor, State]:
        layer = LAYERS[cell](D, H, L, bias=bias, batch_first=True).double()
        named = {f"{n}_l{k}": w for k, layer_w in enumerate(stack) for n, w in layer_w.items()}
        start = (state["h"], state["c"]) if cell == "lstm" else state["h"]
        y, final = torch.func.functional_call(layer, named, (x, start))
        return y, {"h": final[0], "c": final[1]} if cell == "lstm" else {"h": final}

    return run


def on(backend: Backend, cell: str) -> object:
    return lambda x, state, stack: backend.run(cell, x, state, stack)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", [ReferenceBackend(), TorchBackend()], ids=lambda b: b.name)
@pytest.mark.parametrize(
    ("B", "T", "D", "H", "L"), [(3, 9, 5, 7, 1), (2, 6, 4, 8, 3), (1, 1, 1, 1, 1), (5, 1, 3, 33, 2)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_states_and_gradients_equal_torchs_layers(
    backend: Backend, cell: str, B: int, T: int, D: int, H: int, L: int, bias: bool
) -> None:
    x, state = inputs(cell, B, T, D, H, L)
    stack = weights(cell, D, H, L, bias)
    ours = everything(on(backend, cell), x, state, stack)
    theirs = everything(torch_layer(cell, D, H, L, bias), x, state, stack)
    for a, b in zip(ours, theirs, strict=True):
        assert difference(a, b) < TOLERANCE


@settings(deadline=None)  # the machine may be busy
@given(cell=st.sampled_from(CELLS), name=st.sampled_from(["reference", "torch"]), cut=st.integers(1, 10))
def test_chunked_and_stepwise_equal_whole(cell: str, name: str, cut: int) -> None:
    backend, _ = choose_backend(name, cell)
    x, state = inputs(cell, 3, 11, 4, 6, 2)
    stack = weights(cell, 4, 6, 2)
    whole, final = backend.run(cell, x, state, stack)
    for pieces in (x.split([cut, 11 - cut], dim=1), x.split(1, dim=1)):
        now, outs = state, []
        for piece in pieces:
            y, now = backend.run(cell, piece, now, stack)
            outs.append(y)
        assert difference(torch.cat(outs, dim=1), whole) < TOLERANCE
        assert all(difference(now[n], final[n]) < TOLERANCE for n in final)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["reference", "torch"])
def test_rows_do_not_touch_each_other(cell: str, name: str) -> None:
    backend, _ = choose_backend(name, cell)
    x, state = inputs(cell, 4, 5, 3, 6, 2)
    stack = weights(cell, 3, 6, 2)
    y, final = backend.run(cell, x, state, stack)
    alone, alone_final = backend.run(cell, x[2:3], {n: s[:, 2:3].contiguous() for n, s in state.items()}, stack)
    assert difference(alone, y[2:3]) < TOLERANCE
    assert all(difference(alone_final[n], final[n][:, 2:3]) < TOLERANCE for n in final)


def test_a_step_gives_the_values_of_its_formula() -> None:
    """One unit, by hand, from the article's equations."""
    w = {
        "weight_ih": torch.tensor([[0.1], [0.2], [0.3], [0.4]]),
        "weight_hh": torch.tensor([[0.5], [0.6], [0.7], [0.8]]),
    }
    values = get_cell("lstm").step(torch.tensor([[2.0]]), {"h": torch.tensor([[0.5]]), "c": torch.tensor([[-1.0]])}, w)
    i, f, g, o = (
        torch.sigmoid(torch.tensor(0.45)),
        torch.sigmoid(torch.tensor(0.7)),
        torch.tanh(torch.tensor(0.95)),
        torch.sigmoid(torch.tensor(1.2)),
    )
    c = f * -1.0 + i * g
    expected = {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * torch.tanh(c)}
    assert set(values) == set(expected)
    for name, value in expected.items():
        assert values[name].item() == pytest.approx(value.item(), rel=1e-6)


def test_the_rnn_starts_with_spectral_radius_one_and_the_lstm_with_its_forget_bias() -> None:
    generator = torch.Generator().manual_seed(1)
    rnn = {n: torch.zeros(s) for n, s in get_cell("rnn").shapes(10, 64, True).items()}
    get_cell("rnn").initialise(rnn, generator, 1.0)
    assert torch.linalg.eigvals(rnn["weight_hh"]).abs().max().item() == pytest.approx(1.0, abs=1e-4)
    lstm = {n: torch.zeros(s) for n, s in get_cell("lstm").shapes(10, 8, True).items()}
    get_cell("lstm").initialise(lstm, generator, 1.5)
    total = lstm["bias_ih"] + lstm["bias_hh"]
    assert torch.equal(total[8:16], torch.full((8,), 1.5))
    assert total[:8].abs().max() < 1.0


def test_a_cell_of_ones_own_runs_on_the_reference_and_says_why_elsewhere() -> None:
    class Leaky(Cell):
        """h = 0.5 h + tanh(W x), with the default weights."""

        name, state_names = "leaky-test", ("h",)

        def step(self, x: torch.Tensor, state: Values, w: Weights) -> Values:
            return {"h": 0.5 * state["h"] + torch.tanh(x @ w["weight_ih"].T)}

    register_cell(Leaky)
    backend, reason = choose_backend("auto", "leaky-test")
    assert backend.name == "reference"
    assert "your own" in reason
    x, state = inputs("leaky-test", 2, 3, 4, 5, 1)
    y, _ = backend.run("leaky-test", x, state, weights("leaky-test", 4, 5, 1))
    assert y.shape == (2, 3, 5)
    with pytest.raises(BackendError, match="torch has no layer"):
        choose_backend("torch", "leaky-test")


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(SettingsError, match=r"gru, .*lstm, .*rnn"):
        get_cell("transformer")
    with pytest.raises(BackendError, match="auto, native, torch, reference"):
        choose_backend("abacus", "lstm")
