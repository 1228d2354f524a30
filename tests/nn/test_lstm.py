"""storycell.LSTM against torch.nn.LSTM: the same module, whatever computes it."""

import copy
from typing import Any

import pytest
import torch
from support.instruction_sets import needs_kernel
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import storycell
from storycell.nn.backends.native.backend import NativeBackend

pytestmark = needs_kernel


@pytest.fixture(autouse=True)
def small_sizes_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are small, and what is very small is otherwise left to torch."""
    monkeypatch.setattr("storycell.nn.lstm._FEW", 0)


FP32 = 1e-5  # difference over norm: sums of some hundred float32 products
BF16 = 3e-2  # the same where products take 8 bits of mantissa
MORE_ERROR = 1.5  # the share that is allowed; it was 0.3 to 0.95 in each of some thirty tensors
SIZES = [  # D, H, L, B, T: single ones, odd ones, whole lanes
    (1, 1, 1, 1, 1),
    (5, 7, 2, 3, 4),
    (33, 40, 3, 5, 9),
    (16, 64, 2, 4, 12),
]

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def pair(*args: Any, precision: str = "fp32", **kwargs: Any) -> tuple[storycell.LSTM, torch.nn.LSTM]:
    """The two modules with the same weights, copied as a state_dict."""
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(*args, **kwargs)
    ours = storycell.LSTM(*args, precision=precision, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def distance(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    """|a - b| / |b|, or 0 where both are zero."""
    assert a is not None
    assert b is not None
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm()) if not torch.equal(a, b) else 0.0


def is_native(layer: storycell.LSTM) -> bool:
    return layer.backend_reason.startswith("the native kernel")


def gradients(layer: torch.nn.LSTM, x: torch.Tensor, state: Any, pulls: Outputs) -> tuple[Outputs, list[torch.Tensor]]:
    """Outputs, and the gradients of input, state and weights for fixed gradients of the outputs."""
    leaves = [t.clone().requires_grad_() for t in (x, *(state or ()))]
    y, (h, c) = layer(leaves[0], (leaves[1], leaves[2]) if state else None)
    outputs = (y, h, c)
    pulled = sum((out.float() * pull).sum() for out, pull in zip(outputs, pulls, strict=True))
    assert isinstance(pulled, torch.Tensor)
    return outputs, list(torch.autograd.grad(pulled, [*leaves, *layer.parameters()]))


def assert_equal(ours: storycell.LSTM, theirs: torch.nn.LSTM, x: torch.Tensor, state: Any, tolerance: float) -> None:
    with torch.no_grad():
        y, (h, c) = theirs(x, state)
    pulls = (torch.randn_like(y).float(), torch.randn_like(h).float(), torch.randn_like(c).float())
    outputs, grads = gradients(ours, x, state, pulls)
    assert is_native(ours)
    expected, expected_grads = gradients(theirs, x, state, pulls)
    for mine, other in zip([*outputs, *grads], [*expected, *expected_grads], strict=True):
        assert distance(mine, other) < tolerance


@pytest.mark.parametrize("given", [False, True], ids=["zero state", "state given"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("layout", ["time first", "batch first", "unbatched", "unbatched, batch first"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_outputs_states_and_all_gradients_are_torchs(
    size: tuple[int, ...], layout: str, bias: bool, given: bool
) -> None:
    D, H, L, B, T = size
    ours, theirs = pair(D, H, L, bias=bias, batch_first="batch first" in layout)
    batch = [] if "unbatched" in layout else [B]
    x = torch.randn(T, D) if not batch else torch.randn(B, T, D) if ours.batch_first else torch.randn(T, B, D)
    state = tuple(torch.randn(L, *batch, H) for _ in "hc") if given else None
    assert_equal(ours, theirs, x, state, FP32)


def test_bf16_by_keyword_keeps_float32_outside() -> None:
    ours, theirs = pair(24, 32, 2, batch_first=True, precision="bf16")
    assert_equal(ours, theirs, torch.randn(6, 10, 24), None, BF16)
    assert "bf16" in ours.backend_reason
    assert "bf16" in repr(ours)
    with pytest.raises(storycell.StorycellError, match="precision"):
        storycell.LSTM(3, 4, precision="fp16")


@pytest.mark.parametrize("size", [(24, 32, 2, 6, 10), (64, 128, 1, 8, 32)], ids=str)
@pytest.mark.parametrize("by_autocast", [False, True], ids=["keyword", "autocast"])
def test_bf16_errs_no_more_than_torchs_autocast(size: tuple[int, ...], by_autocast: bool) -> None:
    D, H, L, B, T = size
    ours, theirs = pair(D, H, L, batch_first=True, precision="fp32" if by_autocast else "bf16")
    x, pulls = torch.randn(B, T, D), (torch.randn(B, T, H), torch.randn(L, B, H), torch.randn(L, B, H))
    exact, exact_grads = gradients(copy.deepcopy(theirs).double(), x.double(), None, pulls)
    with torch.autocast("cpu", torch.bfloat16, enabled=by_autocast):
        mine, mine_grads = gradients(ours, x, None, pulls)
        assert is_native(ours)
    with torch.autocast("cpu", torch.bfloat16):
        other, other_grads = gradients(theirs, x, None, pulls)
    for a, b, truth in zip([*mine, *mine_grads], [*other, *other_grads], [*exact, *exact_grads], strict=True):
        ours_errs, theirs_errs = distance(a.double(), truth.double()), distance(b.double(), truth.double())
        assert ours_errs < MORE_ERROR * theirs_errs


def test_under_autocast_types_are_torchs_and_values_near_float32() -> None:
    ours, theirs = pair(24, 32, 2, batch_first=True)
    x = torch.randn(6, 10, 24)
    exact, _ = theirs(x)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (x, x.bfloat16()):
            y, (h, c) = ours(given, (torch.zeros(2, 6, 32), torch.zeros(2, 6, 32)))
            assert is_native(ours)
            assert {t.dtype for t in (y, h, c)} == {torch.bfloat16}
            assert distance(y.float(), exact) < BF16
        with torch.no_grad():
            assert distance(ours(x)[0], y) < BF16
    y.float().sum().backward()
    assert ours.weight_hh_l1.grad is not None
    assert ours.weight_hh_l1.grad.dtype == torch.float32


def test_parameters_names_and_repr_are_torchs_and_load_both_ways() -> None:
    ours, theirs = pair(5, 6, 2, dropout=0.25)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    theirs.load_state_dict(ours.state_dict())
    again = copy.deepcopy(ours)
    x = torch.randn(3, 2, 5)
    assert torch.equal(again.eval()(x)[0], ours.eval()(x)[0])


def test_inputs_of_any_strides_and_without_gradients() -> None:
    ours, theirs = pair(8, 16, batch_first=True)
    for x in (
        torch.randn(8, 5, 3).permute(2, 1, 0),
        torch.randn(1, 5, 8).expand(3, 5, 8),
        torch.randn(3, 10, 8)[:, ::2],
    ):
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                assert distance(ours(x)[0], theirs(x)[0]) < FP32
        assert is_native(ours)
        assert_equal(ours, theirs, x, None, FP32)


def test_outputs_may_be_changed_in_place() -> None:
    ours, theirs = pair(8, 16)
    x = torch.randn(4, 3, 8)
    for layer in (ours, theirs):
        y, (h, c) = layer(x)
        if layer is theirs:  # which autograd lets nobody change in place
            y, h = y.clone(), h.clone()
        torch.nn.functional.relu_(y)
        (y.sum() + h.add_(1).square().sum() + c.sum()).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert distance(mine.grad, other.grad) < FP32


def test_a_graph_that_is_kept_can_run_backward_again() -> None:
    ours, _ = pair(8, 16, 2, dropout=0.5)
    x = torch.randn(4, 3, 8, requires_grad=True)
    total = ours(x)[0].square().sum()
    before = torch.get_rng_state()
    first = torch.autograd.grad(total, [x, *ours.parameters()], retain_graph=True)
    second = torch.autograd.grad(total, [x, *ours.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(total, x)


def test_two_forwards_then_two_backwards() -> None:
    ours, theirs = pair(8, 16)
    chunks = torch.randn(2, 4, 3, 8)
    for layer in (ours, theirs):
        first, state = layer(chunks[0])
        second, _ = layer(chunks[1], state)
        (second.sum() * first.square().sum()).backward()
    assert distance(ours.weight_hh_l0.grad, theirs.weight_hh_l0.grad) < FP32


def test_gradients_of_gradients_are_torchs() -> None:
    ours, theirs = pair(5, 7, 2)
    results = []
    for layer in (ours, theirs):
        x = torch.ones(4, 3, 5, requires_grad=True)
        (slope,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        slope.square().sum().backward()
        results.append([slope.detach(), x.grad, *(p.grad for p in layer.parameters())])
    for mine, other in zip(*results, strict=True):
        assert distance(mine, other) < 10 * FP32  # a second derivative adds up two rounded passes


def test_weights_changed_before_backward_are_refused() -> None:
    ours, _ = pair(5, 7)
    total = ours(torch.randn(4, 3, 5))[0].sum()
    with torch.no_grad():
        ours.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_dropout_drops_the_right_share_between_layers_only() -> None:
    """With a second layer whose gates read one unit each, a dropped unit shows as the output of a zero input."""
    p, H = 0.3, 64
    layer = storycell.LSTM(H, H, 2, dropout=p)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0.fill_(3.0)
        layer.weight_ih_l1[2 * H : 3 * H] = torch.eye(H)
    y, _ = layer(torch.zeros(1, 400, H))
    assert is_native(layer)
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / y.numel()) ** 0.5)
    torch.manual_seed(5)
    first, _ = layer(torch.zeros(1, 400, H))
    torch.manual_seed(5)
    assert torch.equal(layer(torch.zeros(1, 400, H))[0], first)
    assert (layer.eval()(torch.zeros(1, 400, H))[0] != 0).all()
    alone = storycell.LSTM(H, H, 1).train()
    assert torch.equal(alone(torch.ones(2, 3, H))[0], alone.eval()(torch.ones(2, 3, H))[0])


@pytest.mark.parametrize("H", [7, 16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["input", "h", "c", "weight_ih_l0", "weight_hh_l1", "bias_hh_l0"])
def test_what_is_not_finite_spreads_as_in_torch(place: str, value: float, H: int) -> None:
    ours, theirs = pair(5, H, 2, batch_first=True)
    x, h, c = torch.randn(3, 4, 5), torch.randn(2, 3, H), torch.randn(2, 3, H)
    with torch.no_grad():
        for layer in (ours, theirs):
            if "_l" in place:
                layer.get_parameter(place).view(-1)[3] = value
        if "_l" not in place:
            {"input": x, "h": h, "c": c}[place].view(-1)[1] = value
        results = [layer(x, (h, c)) for layer in (ours, theirs)]
    for mine, other in zip(*[(y, *state) for y, state in results], strict=True):
        assert torch.equal(mine.isnan(), other.isnan())
        assert torch.equal(mine.isinf(), other.isinf())
        assert torch.allclose(mine, other, atol=FP32, equal_nan=True)


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch's own, about its own
def test_what_the_kernel_does_not_cover_is_torchs_and_said() -> None:
    x = torch.randn(4, 3, 5)
    for keywords, word in (({"bidirectional": True}, "bidirectional"), ({"proj_size": 3}, "proj_size")):
        ours, theirs = pair(5, 7, 2, **keywords)
        assert word in ours.backend_reason
        assert torch.equal(ours(x)[0], theirs(x)[0])
    ours, theirs = pair(5, 7, 2)
    assert is_native(ours)
    packed = pack_padded_sequence(x, [4, 2, 1])
    mine, other = (pad_packed_sequence(layer(packed)[0])[0] for layer in (ours, theirs))
    assert torch.equal(mine, other)
    assert "packed" in ours.backend_reason
    assert distance(ours(x)[0], theirs(x)[0]) < FP32
    assert is_native(ours)
    assert torch.equal(ours.double()(x.double())[0], theirs.double()(x.double())[0])
    assert "float64" in ours.backend_reason
    assert ours.to("meta")(x.double().to("meta"))[0].shape == (4, 3, 7)
    assert "meta" in ours.backend_reason or "plain" in ours.backend_reason


def test_functional_calls_and_transforms_give_torchs_results() -> None:
    ours, theirs = pair(5, 16)
    x = torch.randn(4, 3, 5)
    other = {name: torch.randn_like(value) for name, value in ours.state_dict().items()}
    call = torch.func.functional_call
    assert distance(call(ours, other, (x,))[0], call(theirs, other, (x,))[0]) < FP32

    def total(weights: dict[str, torch.Tensor], layer: torch.nn.LSTM) -> torch.Tensor:
        y: torch.Tensor = call(layer, weights, (x,))[0]
        return y.square().sum()

    mine, expected = (torch.func.grad(total)(other, layer) for layer in (ours, theirs))
    assert all(distance(mine[name], expected[name]) < FP32 for name in mine)


WRONG: list[tuple[str, Any, Any]] = [
    ("four axes", torch.zeros(1, 2, 3, 5), None),
    ("one axis", torch.zeros(5), None),
    ("another width", torch.zeros(2, 3, 6), None),
    ("no steps", torch.zeros(0, 3, 5), None),
    ("float64", torch.zeros(2, 3, 5, dtype=torch.float64), None),
    ("float16", torch.zeros(2, 3, 5, dtype=torch.float16), None),
    ("whole numbers", torch.zeros(2, 3, 5, dtype=torch.int64), None),
    ("a list", [[0.0] * 5], None),
    ("sparse", torch.zeros(2, 3, 5).to_sparse(), None),
    ("state of another batch", torch.zeros(2, 3, 5), (torch.zeros(1, 4, 7), torch.zeros(1, 4, 7))),
    ("state of another width", torch.zeros(2, 3, 5), (torch.zeros(1, 3, 8), torch.zeros(1, 3, 8))),
    ("state of another depth", torch.zeros(2, 3, 5), (torch.zeros(2, 3, 7), torch.zeros(1, 3, 7))),
    ("state without batch", torch.zeros(2, 3, 5), (torch.zeros(1, 7), torch.zeros(1, 7))),
    ("state with batch for an input without", torch.zeros(2, 5), (torch.zeros(1, 1, 7), torch.zeros(1, 1, 7))),
    ("float64 state", torch.zeros(2, 3, 5), (torch.zeros(1, 3, 7).double(), torch.zeros(1, 3, 7).double())),
    ("one state", torch.zeros(2, 3, 5), (torch.zeros(1, 3, 7),)),
]


@pytest.mark.parametrize(("x", "state"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_arguments_raise_what_torch_raises(x: Any, state: Any) -> None:
    ours, theirs = pair(5, 7)
    with pytest.raises(Exception) as expected:  # whatever that is
        theirs(x, state)
    with pytest.raises(type(expected.value)) as raised:
        ours(x, state)
    assert str(raised.value) == str(expected.value)


def test_a_weight_of_a_wrong_shape_is_refused() -> None:
    ours, _ = pair(5, 7)
    ours.weight_hh_l0 = torch.nn.Parameter(torch.zeros(28, 6))
    with pytest.raises(RuntimeError, match="weight_hh_l0"):
        ours(torch.zeros(2, 3, 5))


def test_training_follows_torch() -> None:
    ours, theirs = pair(6, 20, 2, batch_first=True)
    x, goal = torch.randn(8, 12, 6), torch.randn(8, 12, 20).tanh()
    losses = []
    for layer in (ours, theirs):
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            loss = (layer(x)[0] - goal).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_without_a_kernel_it_is_torchs_layer_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NativeBackend, "obstacle", lambda *_: "the native kernel was not built")
    ours, theirs = pair(5, 7, precision="bf16")
    x = torch.randn(4, 3, 5)
    assert torch.equal(ours(x)[0], theirs(x)[0])
    assert ours.backend_reason == (
        "torch's own LSTM, because the native kernel was not built; precision='bf16' is the kernel's alone"
    )
