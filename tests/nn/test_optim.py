"""The optimisers: Muon's update against its definition and torch's own, and which parameters go to whom."""

import math
from typing import Literal

import pytest
import torch

from storycell.config import TrainSettings
from storycell.nn import optim
from storycell.nn.model import CharLM
from storycell.nn.optim import MOMENTUM, SECOND_MOMENTUM, Muon, even_rows, orthogonalise

ROUGHLY_ONE = (0.5, 1.35)  # where the quintic leaves a singular value that was not tiny
BF16 = 0.03  # torch's products are bf16, ours float32: relative difference of two updates of five iterations


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(64, 64), (96, 24), (24, 96), (5, 1), (1, 1)])
@pytest.mark.parametrize("bf16", [False, True])
def test_an_orthogonalised_matrix_keeps_its_directions_and_loses_its_lengths(
    shape: tuple[int, int], bf16: bool
) -> None:
    given = matrix(*shape)
    found = orthogonalise(given, bf16=bf16)
    assert found.shape == given.shape
    assert found.dtype == given.dtype
    u, s, vt = torch.linalg.svd(given, full_matrices=False)
    turned = u.t() @ found @ vt.t()  # the same directions: diagonal
    well_above_zero = s > 0.1 * s[0]
    assert turned.diagonal()[well_above_zero].min() > ROUGHLY_ONE[0]
    assert turned.diagonal().max() < ROUGHLY_ONE[1]
    off = turned - torch.diag(turned.diagonal())
    assert off.norm() <= BF16 * math.sqrt(len(s)) * turned.norm()


@pytest.mark.parametrize("smallest", [0.01, 0.1, 1.0])
def test_singular_values_from_a_hundredth_of_the_bound_come_near_one(smallest: float) -> None:
    rows = torch.linalg.qr(matrix(40, 40))[0].double()
    lengths = torch.logspace(math.log10(smallest), 0, 40, dtype=torch.float64)
    given = 7 * rows @ torch.diag(lengths) @ torch.linalg.qr(matrix(40, 40, 1))[0].double()
    assert 7 <= optim.largest(given) <= 7 * 40**0.25 * 1.001
    scaled = lengths * 7 / optim.largest(given)
    found = torch.linalg.svdvals(orthogonalise(given))
    assert found.max() <= 1.2701
    assert found.min() >= 0.73 * min(1, scaled.min().item() / 0.01)


def test_zero_gradients_move_nothing() -> None:
    assert torch.equal(orthogonalise(torch.zeros(4, 8)), torch.zeros(4, 8))


@pytest.mark.parametrize("shape", [(96, 24), (24, 96)])
def test_muon_moves_as_torchs_own_does(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "POLYNOMIALS", [(3.4445, -4.7750, 2.0315)] * 5)
    monkeypatch.setattr(optim, "largest", torch.linalg.matrix_norm)
    ours, theirs = (torch.nn.Parameter(matrix(*shape)) for _ in range(2))
    mine = Muon([ours], lr=1e-2, weight_decay=0.1, bf16=False)
    keywords = {"lr": 1e-2, "weight_decay": 0.1, "momentum": MOMENTUM, "adjust_lr_fn": "match_rms_adamw"}
    torchs = torch.optim.Muon([theirs], **keywords)  # type: ignore[arg-type]
    for step in range(5):
        before = ours.detach().clone()
        ours.grad, theirs.grad = matrix(*shape, seed=step + 1), matrix(*shape, seed=step + 1)
        mine.step()
        torchs.step()
        assert (ours - theirs).norm() <= BF16 * (step + 1) * (ours - before).norm()


def test_normuon_divides_each_row_by_the_root_of_its_mean_square_so_far_and_keeps_the_norm() -> None:
    """Its definition, with the sum over all steps written out."""
    squares, updates = torch.zeros(6), [matrix(6, 40, seed).double() for seed in range(4)]
    squares = squares.double()
    for step, update in enumerate(updates):
        found = even_rows(update, squares)
        weights = [(1 - SECOND_MOMENTUM) * SECOND_MOMENTUM**age for age in range(step + 1)]
        sizes = sum(w * u.square().mean(1) for w, u in zip(weights, reversed(updates[: step + 1]), strict=True))
        expected = update / torch.as_tensor(sizes).sqrt()[:, None]
        torch.testing.assert_close(found, expected * update.norm() / expected.norm(), rtol=1e-8, atol=0)
        assert found.norm().item() == pytest.approx(update.norm().item())
    assert torch.equal(even_rows(torch.zeros(6, 40), torch.zeros(6)), torch.zeros(6, 40))


@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_muon_has_the_recurrent_matrices_and_adamw_the_rest(name: Literal["muon", "normuon"]) -> None:
    lm = CharLM(8, 16, 2, embedding_size=4)
    optimizer = optim.build_optimizer(lm, TrainSettings(optimizer=name, weight_decay=0.3))
    names = {id(p): name for name, p in lm.named_parameters()}
    adamw, muon = optimizer.parts
    assert isinstance(muon, Muon)
    assert muon.by_rows == (name == "normuon")
    moved = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert moved == {f"recurrent.weight_{kind}_l{k}" for kind in ("ih", "hh") for k in range(2)}
    left = {names[id(p)]: group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    assert set(left) | moved == set(names.values())
    assert {name for name, decay in left.items() if decay} == {"output.weight"}
    assert [group["weight_decay"] for group in muon.param_groups] == [0.3]


def test_several_optimisers_share_one_state() -> None:
    lm = CharLM(8, 16, embedding_size=4)
    optimizer = optim.build_optimizer(lm, TrainSettings(optimizer="muon"))
    ids = torch.randint(2, 8, (2, 9))
    lm(ids[:, :-1], targets=ids[:, 1:])[0].backward()
    optimizer.step()
    assert set(optimizer.state) == set(lm.parameters())
    assert "momentum_buffer" in optimizer.state[lm.recurrent.get_parameter("weight_hh_l0")]
    assert "exp_avg" in optimizer.state[lm.output.weight]
    optimizer.zero_grad()
    assert all(p.grad is None for p in lm.parameters())
