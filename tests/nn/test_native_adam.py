"""The kernel's clipping and AdamW against torch's own, on every instruction set of this machine."""

import math
from collections.abc import Iterator

import pytest
import torch
from support.instruction_sets import ISAS, needs_kernel

from storycell.config import TrainSettings
from storycell.nn import optim
from storycell.nn.backends.native.adam import AdamW, clip
from storycell.nn.backends.native.library import use_isa
from storycell.nn.model import CharLM

pytestmark = needs_kernel

ROUNDING = 1e-6  # of the largest weight: some tens of float32 operations in another order
SHAPES = [(), (1,), (7,), (96, 64), (33, 129), (4096,), (4097, 3)]  # a scalar, odd ends, several blocks
GROUPS = ({"weight_decay": 0.1}, {"weight_decay": 0.0, "betas": (0.8, 0.95), "lr": 3e-3})


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    use_isa(request.param)
    yield request.param
    use_isa("")


def parameters() -> list[torch.nn.Parameter]:
    g = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=g)) for shape in SHAPES]


def groups(given: list[torch.nn.Parameter]) -> list[dict[str, object]]:
    return [{"params": given[k::2], **GROUPS[k]} for k in range(2)]


def give_gradients(given: list[torch.nn.Parameter], step: int) -> None:
    g = torch.Generator().manual_seed(100 + step)
    for k, p in enumerate(given):
        p.grad = None if step == 2 and k == 3 else torch.randn(p.shape, generator=g) * 10.0 ** (k - 3)


def trained(kind: type[torch.optim.Optimizer], steps: range, given: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    optimizer = kind(groups(given), lr=1e-2)  # type: ignore[call-arg]
    for step in steps:
        give_gradients(given, step)
        optimizer.step()
    return optimizer


def assert_close(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= ROUNDING * b.abs().max()


def test_weights_and_moments_are_torchs(isa: str) -> None:
    ours, theirs = parameters(), parameters()
    mine, reference = trained(AdamW, range(6), ours), trained(torch.optim.AdamW, range(6), theirs)
    assert_close([p.detach() for p in ours], [p.detach() for p in theirs])
    for p, q in zip(ours, theirs, strict=True):
        assert mine.state[p].keys() == reference.state[q].keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in reference.state[q].items():
            assert_close([mine.state[p][name]], [value])


@pytest.mark.parametrize(("first", "second"), [(AdamW, torch.optim.AdamW), (torch.optim.AdamW, AdamW)])
def test_either_optimiser_goes_on_from_the_others_state(first: type, second: type) -> None:
    whole, cut = parameters(), parameters()
    trained(torch.optim.AdamW, range(6), whole)
    state = trained(first, range(3), cut).state_dict()
    optimizer = second(groups(cut), lr=1e-2)
    optimizer.load_state_dict(state)
    for step in range(3, 6):
        give_gradients(cut, step)
        optimizer.step()
    assert_close([p.detach() for p in cut], [p.detach() for p in whole])


@pytest.mark.parametrize("limit", [1.0, 1e9, math.inf])
def test_the_norm_and_what_clipping_leaves_are_torchs(isa: str, limit: float) -> None:
    ours, theirs = parameters(), parameters()
    give_gradients(ours, 2)
    give_gradients(theirs, 2)
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit).item()
    assert clip(ours, limit) == pytest.approx(expected, rel=ROUNDING)
    assert ours[3].grad is None
    assert_close([p.grad for p in ours if p.grad is not None], [p.grad for p in theirs if p.grad is not None])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_has_no_finite_norm(isa: str, value: float) -> None:
    given = parameters()
    give_gradients(given, 0)
    before = given[0].grad.clone()  # type: ignore[union-attr]
    with torch.no_grad():
        given[-1].grad[-1, -1] = value  # type: ignore[index]
    assert not math.isfinite(clip(given, 1.0))
    assert torch.equal(given[0].grad, before)  # type: ignore[arg-type]


def test_bits_do_not_depend_on_threads() -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            given = parameters()
            give_gradients(given, 0)
            norm = clip(given, 1.0)
            optimizer = AdamW(given, lr=1e-2)
            optimizer.step()
            results.append([torch.tensor(norm), *(p.detach() for p in given)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_autograd_notices_that_weights_have_changed() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    kept = (weight * weight).sum()
    weight.grad = torch.ones(3)
    AdamW([weight]).step()
    with pytest.raises(RuntimeError, match="modified"):
        kept.backward()


def test_only_float32_is_taken() -> None:
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    weight.grad = torch.ones(3, dtype=torch.float64)
    with pytest.raises(TypeError, match="float32"):
        AdamW([weight]).step()
    with pytest.raises(TypeError, match="float32"):
        clip([weight], 1.0)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_native_backend_brings_its_optimiser_and_torchs_keeps_torchs(name: str) -> None:
    settings = TrainSettings.model_validate({"optimizer": name, "steps": 1})
    assert [type(p) for p in optim.build_optimizer(CharLM(6, 8, backend="native"), settings).parts] == [AdamW]
    assert [type(p) for p in optim.build_optimizer(CharLM(6, 8, backend="torch"), settings).parts] == [
        torch.optim.AdamW
    ]
