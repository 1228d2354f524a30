"""The training loop: it learns, keeps its budget, and lets nothing that is not finite reach the weights."""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from storycell.config import TrainSettings
from storycell.data import batches
from storycell.errors import TrainingError
from storycell.language_model import Floats
from storycell.nn.model import CharLM
from storycell.nn.optim import build_optimizer
from storycell.training import trainer as trainer_module
from storycell.training.processes import ProcessGroup
from storycell.training.schedule import learning_rate
from storycell.training.torch_learner import TorchLearner
from storycell.training.trainer import GOES_BACK, SKIPS_IN_A_ROW, Report, Trainer

IDS = np.array([0, *([2, 3, 4, 5, 3, 2] * 300)], dtype=np.uint8)


def settings(**changes: object) -> TrainSettings:
    usual = {"streams": 4, "chunk": 10, "steps": 12, "lr": 1e-2, "precision": "fp32"}
    return TrainSettings.model_validate(usual | changes)


def trainer(lm: CharLM | None = None, **changes: object) -> Trainer:
    chosen = settings(**changes)
    return Trainer(TorchLearner(lm or CharLM(6, 12, embedding_size=4), chosen), batches.make(IDS, chosen), chosen)


class Poisoned(CharLM):
    """A model whose loss is not a number at chosen steps."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__(6, 12, embedding_size=4)
        self.bad, self.calls = bad, itertools.count()

    def forward(self, ids, state=None, targets=None):  # type: ignore[no-untyped-def]
        value, state = super().forward(ids, state, targets)
        return (value * math.nan if next(self.calls) in self.bad else value), state


def test_it_learns_a_text_that_can_be_known() -> None:
    reports = list(trainer(steps=400, lr=2e-2).reports())
    assert reports[0].train_nats == pytest.approx(math.log(6), abs=0.3)
    assert reports[-1].train_nats < 0.05


def test_a_report_says_what_the_step_did() -> None:
    made = trainer()
    reports = list(made.reports())
    assert [r.step for r in reports] == list(range(1, 13))
    assert [r.chars for r in reports] == [40 * k for k in range(1, 13)]
    assert [r.spent for r in reports] == pytest.approx([k / 12 for k in range(1, 13)])
    assert all(r.grad_norm > 0 and r.learning_rate > 0 and r.chars_per_s > 0 and r.skipped == 0 for r in reports)
    assert all(a.elapsed_s <= b.elapsed_s for a, b in itertools.pairwise(reports))


def test_budgets_in_characters_and_minutes_end_training() -> None:
    assert len(list(trainer(steps=None, chars=200).reports())) == 5
    ticks = itertools.count(step=1.0)
    chosen = settings(steps=None, minutes=1.0)
    learner = TorchLearner(CharLM(6, 12), chosen)
    clocked = Trainer(learner, batches.make(IDS, chosen), chosen, clock=lambda: float(next(ticks)))
    reports = list(clocked.reports())
    assert 60 <= reports[-1].elapsed_s < 60 + 12
    assert reports[-1].spent == 1.0


def test_the_learning_rate_is_a_pure_function_of_the_spent_budget() -> None:
    chosen = settings(warmup=0.1, final_lr=0.1, lr=1.0)
    rates = [learning_rate(chosen, s) for s in (0.05, 0.1, 0.55, 1.0, 1.5)]
    assert rates == pytest.approx([0.5, 1.0, 0.55, 0.1, 0.1])
    assert learning_rate(chosen, 0.0) > 0
    constant = settings(schedule="constant", warmup=0.0, lr=0.5)
    assert {learning_rate(constant, s) for s in (0.0, 0.3, 1.0)} == {0.5}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimiser_learns(optimizer: str) -> None:
    reports = list(trainer(optimizer=optimizer, steps=60, lr=0.5 if optimizer == "sgd" else 1e-2).reports())
    assert reports[-1].train_nats < reports[0].train_nats - 0.3


def test_only_matrices_decay() -> None:
    lm = CharLM(6, 12, embedding_size=4)
    groups = build_optimizer(lm, settings(weight_decay=0.5)).param_groups
    decayed = {id(p) for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    names = {n for n, p in lm.named_parameters() if id(p) in decayed}
    assert names == {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "output.weight"}
    assert sum(len(g["params"]) for g in groups) == len(list(lm.parameters()))


def test_the_gradient_is_clipped_by_its_global_norm() -> None:
    free, tied = (
        trainer(optimizer="sgd", lr=1.0, clip=None, steps=1),
        trainer(optimizer="sgd", lr=1.0, clip=1e-2, steps=1),
    )
    moved = []
    for made in (free, tied):
        before = [p.detach().clone() for p in made.learner.lm.parameters()]
        report: Report = next(made.reports())
        after = list(made.learner.lm.parameters())
        moved.append(math.sqrt(sum((a - b).pow(2).sum().item() for a, b in zip(after, before, strict=True))))
        rate = report.learning_rate
        assert moved[-1] == pytest.approx(rate * min(report.grad_norm, 1e-2 if made is tied else math.inf), rel=1e-3)


def test_a_step_that_is_not_finite_is_skipped_counted_and_reported() -> None:
    made = trainer(Poisoned({3}))
    reports = made.reports()
    for _ in range(3):
        next(reports)
    weights = [p.detach().clone() for p in made.learner.lm.parameters()]
    moments = [s["exp_avg"].clone() for s in made.learner.optimizer.state.values()]
    skipped = next(reports)
    assert skipped.skipped == 1
    assert math.isnan(skipped.train_nats)
    assert "step 4 skipped" in skipped.notice
    assert all(torch.equal(a, b) for a, b in zip(weights, made.learner.lm.parameters(), strict=True))
    assert all(
        torch.equal(a, s["exp_avg"]) for a, s in zip(moments, made.learner.optimizer.state.values(), strict=True)
    )
    rest = list(reports)
    assert rest[-1].step == 12
    assert math.isfinite(rest[-1].train_nats)


def test_after_several_in_a_row_it_goes_back_with_half_the_learning_rate() -> None:
    bad = set(range(4, 4 + SKIPS_IN_A_ROW))
    made = trainer(Poisoned(bad), steps=30, schedule="constant", warmup=0.0)
    reports = list(made.reports())
    assert "back to the weights of step 0" in reports[3 + SKIPS_IN_A_ROW].notice
    assert reports[-1].learning_rate == pytest.approx(made.settings.lr / 2)
    assert [r.step for r in reports] == list(range(1, 31))
    assert all(torch.isfinite(p).all() for p in made.learner.lm.parameters())


def test_it_gives_up_with_a_clear_error_when_nothing_helps() -> None:
    made = trainer(Poisoned(set(range(5, 10**4))), steps=10**4)
    with pytest.raises(TrainingError, match=r"lower --lr than 0.01"):
        list(made.reports())
    assert made.skipped == SKIPS_IN_A_ROW * (GOES_BACK + 1)
    assert all(torch.isfinite(p).all() for p in made.learner.lm.parameters())


@pytest.mark.parametrize("batching", ["streams", "windows"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("cut", [1, 7])
def test_a_snapshot_holds_everything_the_next_step_depends_on(batching: str, cell: str, cut: int) -> None:
    def fresh() -> Trainer:
        return trainer(CharLM(6, 12, layers=2, cell=cell, embedding_size=4, dropout=0.2), batching=batching)

    whole = fresh()
    expected = [r.train_nats for r in whole.reports()]
    first = fresh()
    got = [r.train_nats for r in itertools.islice(first.reports(), cut)]
    second = fresh()
    second.restore(*first.snapshot())
    got += [r.train_nats for r in second.reports()]
    assert got == expected
    for (name, a), b in zip(
        whole.learner.lm.state_dict().items(), second.learner.lm.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("cut", [4, 10, 13, 16, 17, 18, 22])
def test_a_snapshot_holds_the_state_that_training_goes_back_to(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut before the good state, at it, after it, among the steps that are skipped, and after the return."""
    monkeypatch.setattr(trainer_module, "KEEP_EVERY", 10)
    bad = set(range(13, 13 + SKIPS_IN_A_ROW))
    changes = {"steps": 30, "schedule": "constant", "average": 0.9, "reset": 0.2}

    def told(reports: Iterable[Report]) -> list[tuple[str, float, str]]:
        return [(r.train_nats.hex(), r.learning_rate, r.notice) for r in reports]

    whole = trainer(Poisoned(bad), **changes)
    expected = told(whole.reports())
    assert "back to the weights of step 10" in expected[17][2]
    first = trainer(Poisoned(bad), **changes)
    got = told(itertools.islice(first.reports(), cut))
    second = trainer(Poisoned({step - cut for step in bad}), **changes)
    second.restore(*first.snapshot())
    assert got + told(second.reports()) == expected
    ours, theirs = whole.snapshot()[0], second.snapshot()[0]
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_the_good_state_is_kept_only_where_it_differs_from_what_the_next_step_begins_with() -> None:
    made = trainer(steps=3)
    snapshots = [made.snapshot()[0], *(made.snapshot()[0] for _ in made.reports())]
    kept = [any(name.startswith(trainer_module.GOOD) for name in tensors) for tensors in snapshots]
    assert kept == [False, True, True, False]  # at step 0 it is the same; at the end nothing can go back any more


class Second(ProcessGroup):
    """The second of two processes; what it gathers is as if the first had the same."""

    rank, count = 1, 2

    def exchange(self, *numbers: float) -> list[list[float]]:
        return [list(numbers)] * 2

    def gathered(self, mine: Floats, B: int) -> Floats:
        return np.concatenate([np.zeros_like(mine), mine], axis=1)


def test_every_process_goes_back_to_the_state_of_its_own_streams() -> None:
    chosen = settings(steps=9)
    first, second = (
        Trainer(
            TorchLearner(CharLM(6, 12, embedding_size=4), chosen, share=0.5),
            batches.make(IDS, chosen),
            chosen,
            processes=Second(),
        )
        for _ in "ab"
    )
    for _ in itertools.islice(first.reports(), 5):
        pass
    first._good = first.step, first.learner.snapshot()
    tensors, position = first.snapshot()
    assert {tuple(t.shape) for name, t in tensors.items() if "state." in name} == {(1, 4, 12)}
    second.restore(tensors, position)
    assert second._good is not None
    assert second._good[0] == 5
    carried = [name for name in second._good[1] if name.startswith("state.")]
    assert sorted(carried) == ["state.c", "state.h"]
    assert all(np.array_equal(second._good[1][name], first._good[1][name]) for name in carried)
    assert all(np.abs(second._good[1][name]).sum() > 0 for name in carried)


def test_the_callers_random_numbers_are_left_alone() -> None:
    made = trainer(CharLM(6, 12, dropout=0.3))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(made.reports())
    assert torch.equal(torch.rand(3), expected)
