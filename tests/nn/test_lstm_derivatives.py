"""Derivatives of storycell.LSTM: with a graph of their own, twice, under hooks and checkpoints, and forward-mode."""

import gc
from collections.abc import Callable

import pytest
import torch
from support.instruction_sets import needs_kernel
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import storycell
from storycell.nn.backends.native import stack
from storycell.nn.backends.native.buffers import Buffers

pytestmark = needs_kernel

TOLERANCE = 1e-5  # difference over norm: sums of some hundred float32 products
Case = Callable[[torch.nn.LSTM], tuple[torch.Tensor, list[torch.Tensor]]]


@pytest.fixture(autouse=True)
def small_sizes_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storycell.nn.lstm._FEW", 0)


def pair(D: int, H: int, L: int = 1, **keywords: float) -> tuple[storycell.LSTM, torch.nn.LSTM]:
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(D, H, L, **keywords)  # type: ignore[arg-type]
    ours = storycell.LSTM(D, H, L, **keywords)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.detach() - b.detach()).norm() / b.detach().norm())


def inputs(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 2, 7, generator=torch.Generator().manual_seed(seed))


def state_carried_over_calls(layer: torch.nn.LSTM) -> tuple[torch.Tensor, list[torch.Tensor]]:
    state, total = None, torch.zeros(())
    for chunk in inputs(1):
        y, state = layer(chunk, state)
        total = total + y.square().sum()
    return total, list(layer.parameters())


def its_own_output(layer: torch.nn.LSTM) -> tuple[torch.Tensor, list[torch.Tensor]]:
    x = inputs(2)[0].requires_grad_()
    return layer(layer(x)[0])[0].square().sum(), [x, *layer.parameters()]


def one_tensor_as_both_states(layer: torch.nn.LSTM) -> tuple[torch.Tensor, list[torch.Tensor]]:
    start = torch.full((layer.num_layers, 2, 7), 0.1, requires_grad=True)
    return layer(inputs(3)[0], (start, start))[0].square().sum(), [start, *layer.parameters()]


def state_made_of_the_weights(layer: torch.nn.LSTM) -> tuple[torch.Tensor, list[torch.Tensor]]:
    weight = layer.weight_hh_l0
    start = weight[:2].expand(layer.num_layers, 2, 7)
    return layer(inputs(4)[0], (start, start.tanh()))[1][1].square().sum(), list(layer.parameters())


def one_input_for_all(layer: torch.nn.LSTM) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Input and states are made of one tensor, and outputs and both final states are used."""
    start = torch.full((layer.num_layers, 2, 7), 0.2, requires_grad=True)
    y, (h, c) = layer(start[:1].expand(4, 2, 7), (start, start * 2))
    return y.square().sum() + (h * c).sum(), [start, *layer.parameters()]


CASES: list[Case] = [
    state_carried_over_calls,
    its_own_output,
    one_tensor_as_both_states,
    state_made_of_the_weights,
    one_input_for_all,
]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_first_and_second_derivatives_are_torchs_with_a_graph_and_without(case: Case, layers: int) -> None:
    results = []
    for layer in pair(7, 7, layers):
        loss, wanted = case(layer)
        plain = torch.autograd.grad(loss, wanted, retain_graph=True)
        graph = torch.autograd.grad(loss, wanted, create_graph=True)
        slope = sum((g.square().sum() for g in graph), start=torch.zeros(()))
        twice = torch.autograd.grad(slope, wanted)
        results.append((plain, [g.detach() for g in graph], twice))
    for mine, other in zip(*results, strict=True):
        for a, b in zip(mine, other, strict=True):
            assert distance(a, b) < TOLERANCE


def test_derivatives_through_dropout_are_those_of_the_masks_that_were_drawn() -> None:
    layer = storycell.LSTM(5, 7, 3, dropout=0.5)
    x = torch.randn(6, 3, 5, requires_grad=True)
    loss = layer(x)[0].square().sum()
    plain = torch.autograd.grad(loss, [x, *layer.parameters()], retain_graph=True)
    graph = torch.autograd.grad(loss, [x, *layer.parameters()], create_graph=True)
    for a, b in zip(graph, plain, strict=True):
        assert distance(a, b) < TOLERANCE
    (twice,) = torch.autograd.grad(graph[0].square().sum(), x)
    assert twice.norm() > 0


def lent(pool: Buffers) -> int:
    gc.collect()
    pool.take((1 << 20,), torch.uint8)  # a request takes back what nobody refers to
    return pool.lent_bytes - (1 << 20)


def test_what_backward_needs_goes_through_autograds_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """While hooks hold copies elsewhere, the pool has lent nothing; the gradients are those without hooks."""
    pool = Buffers()
    monkeypatch.setattr(stack, "buffers", pool)
    layer = storycell.LSTM(64, 64, 2, dropout=0.5)
    x = torch.randn(32, 16, 64, requires_grad=True)
    store: list[torch.Tensor] = []

    def put(tensor: torch.Tensor) -> int:
        store.append(tensor.detach().clone())
        return len(store) - 1

    results, held = [], []
    for hooked in (False, True):
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(put, store.__getitem__) if hooked else torch.enable_grad():
            loss = layer(x)[0].square().sum()
        held.append(lent(pool))
        results.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
        assert lent(pool) == 0
    assert held[0] > 4 * x.nbytes
    assert held[1] == 0
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_hold_nothing_of_the_kernels_and_change_no_gradient(
    reentrant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Buffers()
    monkeypatch.setattr(stack, "buffers", pool)
    torch.manual_seed(0)
    layers = torch.nn.ModuleList(storycell.LSTM(64, 64) for _ in range(3))
    found = []
    for saving in (False, True):
        x = torch.ones(32, 16, 64, requires_grad=True)
        y = x
        for layer in layers:
            y = checkpoint(lambda t, f=layer: f(t)[0], y, use_reentrant=reentrant) if saving else layer(y)[0]
        assert (lent(pool) == 0) == saving
        found.append(torch.autograd.grad(y.square().sum(), [x]) if not reentrant else backward(y, x))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def backward(y: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
    y.square().sum().backward()
    assert x.grad is not None
    return [x.grad]


def test_a_pass_keeps_no_more_than_torchs_own_and_a_quarter() -> None:
    kept = []
    for layer in pair(64, 256):
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            outputs = layer(torch.randn(64, 32, 64))
        kept.append(sum(sizes.values()) + sum(t.nbytes for t in (outputs[0], *outputs[1])))
    assert kept[0] < 1.25 * kept[1]


def test_of_many_lengths_no_more_is_held_than_the_longest_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = storycell.LSTM(32, 64)

    def most_held(lengths: range) -> int:
        pool = Buffers()
        monkeypatch.setattr(stack, "buffers", pool)
        most = 0
        for T in lengths:
            layer(torch.randn(T, 16, 32))[0].sum().backward()
            most = max(most, pool.lent_bytes + pool.idle_bytes)
        return most

    assert most_held(range(64, 104)) <= 1.25 * most_held(range(103, 104))
    assert most_held(range(103, 63, -1)) <= 1.25 * most_held(range(103, 104))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of torch's own forward_ad
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("dual", [0, 1, 2], ids=["input", "h", "c"])
def test_forward_mode_raises_what_torch_raises(dual: int, grad: bool) -> None:
    raised = []
    for layer in pair(5, 16):
        given = [torch.randn(8, 3, 5), torch.zeros(1, 3, 16), torch.zeros(1, 3, 16)]
        with torch.set_grad_enabled(grad), forward_ad.dual_level():
            given[dual] = forward_ad.make_dual(given[dual], torch.ones_like(given[dual]))
            with pytest.raises(NotImplementedError) as error:
                layer(given[0], (given[1], given[2]))
        raised.append(str(error.value))
    assert raised[0] == raised[1]
