"""The training loop: it learns, keeps its budget, and lets nothing that is not finite reach the weights."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from storycell.config import ModelSettings, Settings, TrainSettings
from storycell.data import batches
from storycell.errors import TrainingError
from storycell.language_model import Floats
from storycell.nn.model import CharLM
from storycell.nn.optim import build_optimizer
from storycell.training import trainer as trainer_module
from storycell.training.engine_learner import EngineLearner
from storycell.training.learner import Learner
from storycell.training.processes import ProcessGroup
from storycell.training.schedule import learning_rate
from storycell.training.torch_learner import TorchLearner
from storycell.training.trainer import GOES_BACK, SKIPS_IN_A_ROW, Report, Trainer

IDS = np.array([0, *([2, 3, 4, 5, 3, 2] * 300)], dtype=np.uint8)


def settings(**changes: object) -> TrainSettings:
    usual = {"streams": 4, "chunk": 10, "steps": 12, "lr": 1e-2, "precision": "fp32"}
    return TrainSettings.model_validate(usual | changes)


def trainer(kind: str, bad: Iterable[int] = (), network: dict[str, object] | None = None, **changes: object) -> Trainer:
    """A training by the learner of that kind, in which the loss of the calls in `bad` is not a number."""
    chosen = settings(**changes)
    return Trainer(learner(kind, chosen, bad, network or {}), batches.make(IDS, chosen), chosen)


def learner(kind: str, chosen: TrainSettings, bad: Iterable[int], network: dict[str, object]) -> Learner:
    """Both kinds begin with the same weights."""
    model = ModelSettings.model_validate({"hidden": 12, "embedding": 4} | network)
    if kind == "torch":
        return TorchLearner(Poisoned(set(bad), model), chosen)
    made, calls = EngineLearner(Settings(model=model, training=chosen), 6), itertools.count()
    gradient = made.gradient

    def poisoned(*arguments: Any) -> tuple[float, float]:
        nats, norm = gradient(*arguments)
        return (math.nan if next(calls) in set(bad) else nats), norm

    made.gradient = poisoned  # type: ignore[method-assign]
    return made


def in_double(network: dict[str, object], **changes: object) -> Trainer:
    """A training by torch in float64: in float32 its rounding alone moves the losses of an rnn with Muon by 0.03."""
    chosen, model = settings(**changes), ModelSettings.model_validate({"hidden": 12, "embedding": 4} | network)
    lm = Poisoned(set(), model).use("torch", "fp32").double()
    return Trainer(TorchLearner(lm, chosen), batches.make(IDS, chosen), chosen)


class Poisoned(CharLM):
    """A model whose loss is not a number at chosen steps."""

    def __init__(self, bad: set[int], model: ModelSettings) -> None:
        sizes = model.hidden, model.layers, model.cell
        more = {"embedding_size": model.embedding, "dropout": model.dropout, "gate_norm": model.gate_norm}
        super().__init__(6, *sizes, **more)
        self.bad, self.calls = bad, itertools.count()

    def forward(self, ids, state=None, targets=None):  # type: ignore[no-untyped-def]
        value, state = super().forward(ids, state, targets)
        return (value * math.nan if next(self.calls) in self.bad else value), state


def part(made: Trainer, start: str) -> dict[str, Floats]:
    """What the snapshot holds under names that begin so."""
    return {name: value for name, value in made.learner.snapshot().items() if name.startswith(start)}


def same(ours: dict[str, Floats], theirs: dict[str, Floats]) -> bool:
    """To the bit."""
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(params=["engine", "torch"])
def kind(request: pytest.FixtureRequest) -> str:
    """Who learns."""
    return str(request.param)


def test_it_learns_a_text_that_can_be_known(kind: str) -> None:
    reports = list(trainer(kind, steps=400, lr=2e-2).reports())
    assert reports[0].train_nats == pytest.approx(math.log(6), abs=0.3)
    assert reports[-1].train_nats < 0.05


def test_a_report_says_what_the_step_did(kind: str) -> None:
    made = trainer(kind)
    reports = list(made.reports())
    assert [r.step for r in reports] == list(range(1, 13))
    assert [r.chars for r in reports] == [40 * k for k in range(1, 13)]
    assert [r.spent for r in reports] == pytest.approx([k / 12 for k in range(1, 13)])
    assert all(r.grad_norm > 0 and r.learning_rate > 0 and r.chars_per_s > 0 and r.skipped == 0 for r in reports)
    assert all(a.elapsed_s <= b.elapsed_s for a, b in itertools.pairwise(reports))


def test_budgets_in_characters_and_minutes_end_training(kind: str) -> None:
    assert len(list(trainer(kind, steps=None, chars=200).reports())) == 5
    ticks = itertools.count(step=1.0)
    chosen = settings(steps=None, minutes=1.0)
    clocked = Trainer(
        learner(kind, chosen, (), {}), batches.make(IDS, chosen), chosen, clock=lambda: float(next(ticks))
    )
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


@pytest.mark.parametrize("optimizer", ["normuon", "muon", "adamw", "adam", "sgd"])
def test_every_optimiser_learns(optimizer: str, kind: str) -> None:
    reports = list(trainer(kind, optimizer=optimizer, steps=60, lr=0.5 if optimizer == "sgd" else 1e-2).reports())
    assert reports[-1].train_nats < reports[0].train_nats - 0.3


def test_only_matrices_decay() -> None:
    lm = CharLM(6, 12, embedding_size=4)
    groups = build_optimizer(lm, settings(weight_decay=0.5)).param_groups
    decayed = {id(p) for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    names = {n for n, p in lm.named_parameters() if id(p) in decayed}
    assert names == {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "output.weight"}
    assert sum(len(g["params"]) for g in groups) == len(list(lm.parameters()))


def test_the_gradient_is_clipped_by_its_global_norm(kind: str) -> None:
    free, tied = (
        trainer(kind, optimizer="sgd", lr=1.0, clip=None, steps=1),
        trainer(kind, optimizer="sgd", lr=1.0, clip=1e-2, steps=1),
    )
    moved = []
    for made in (free, tied):
        before = part(made, "model.")
        report: Report = next(made.reports())
        after = part(made, "model.")
        moved.append(math.sqrt(sum(float(((after[name] - before[name]) ** 2).sum()) for name in before)))
        rate = report.learning_rate
        assert moved[-1] == pytest.approx(rate * min(report.grad_norm, 1e-2 if made is tied else math.inf), rel=1e-3)


def test_a_step_that_is_not_finite_is_skipped_counted_and_reported(kind: str) -> None:
    made = trainer(kind, {3})
    reports = made.reports()
    for _ in range(3):
        next(reports)
    held = made.learner.snapshot()
    assert {name.partition(".")[0] for name in held} == {"model", "optimizer", "state"}
    skipped = next(reports)
    assert skipped.skipped == 1
    assert math.isnan(skipped.train_nats)
    assert "step 4 skipped" in skipped.notice
    assert same(made.learner.snapshot(), held)
    rest = list(reports)
    assert rest[-1].step == 12
    assert math.isfinite(rest[-1].train_nats)


def test_after_several_in_a_row_it_goes_back_with_half_the_learning_rate(kind: str) -> None:
    bad = set(range(4, 4 + SKIPS_IN_A_ROW))
    made = trainer(kind, bad, steps=30, schedule="constant", warmup=0.0)
    reports = list(made.reports())
    assert "back to the weights of step 0" in reports[3 + SKIPS_IN_A_ROW].notice
    assert reports[-1].learning_rate == pytest.approx(made.settings.lr / 2)
    assert [r.step for r in reports] == list(range(1, 31))
    assert all(np.isfinite(value).all() for value in made.learner.snapshot().values())


def test_it_gives_up_with_a_clear_error_when_nothing_helps(kind: str) -> None:
    made = trainer(kind, range(5, 10**4), steps=10**4)
    with pytest.raises(TrainingError, match=r"lower --lr than 0.01"):
        list(made.reports())
    assert made.skipped == SKIPS_IN_A_ROW * (GOES_BACK + 1)
    assert all(np.isfinite(value).all() for value in made.learner.snapshot().values())


@pytest.mark.parametrize("batching", ["streams", "windows"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("cut", [1, 7])
def test_a_snapshot_holds_everything_the_next_step_depends_on(batching: str, cell: str, cut: int, kind: str) -> None:
    def fresh() -> Trainer:
        return trainer(kind, network={"layers": 2, "cell": cell, "dropout": 0.2}, batching=batching)

    whole = fresh()
    expected = [r.train_nats for r in whole.reports()]
    first = fresh()
    got = [r.train_nats for r in itertools.islice(first.reports(), cut)]
    second = fresh()
    second.restore(*first.snapshot())
    got += [r.train_nats for r in second.reports()]
    assert got == expected
    assert same(whole.learner.snapshot(), second.learner.snapshot())


@pytest.mark.parametrize("cut", [4, 10, 13, 16, 17, 18, 22])
def test_a_snapshot_holds_the_state_that_training_goes_back_to(
    cut: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut before the good state, at it, after it, among the steps that are skipped, and after the return."""
    monkeypatch.setattr(trainer_module, "KEEP_EVERY", 10)
    bad = set(range(13, 13 + SKIPS_IN_A_ROW))
    changes = {"steps": 30, "schedule": "constant", "average": 0.9, "reset": 0.2}

    def told(reports: Iterable[Report]) -> list[tuple[str, float, str]]:
        return [(r.train_nats.hex(), r.learning_rate, r.notice) for r in reports]

    whole = trainer(kind, bad, **changes)
    expected = told(whole.reports())
    assert "back to the weights of step 10" in expected[17][2]
    first = trainer(kind, bad, **changes)
    got = told(itertools.islice(first.reports(), cut))
    second = trainer(kind, {step - cut for step in bad}, **changes)
    second.restore(*first.snapshot())
    assert got + told(second.reports()) == expected
    assert same(whole.snapshot()[0], second.snapshot()[0])


def test_the_good_state_is_kept_only_where_it_differs_from_what_the_next_step_begins_with(kind: str) -> None:
    made = trainer(kind, steps=3)
    snapshots = [made.snapshot()[0], *(made.snapshot()[0] for _ in made.reports())]
    kept = [any(name.startswith(trainer_module.GOOD) for name in tensors) for tensors in snapshots]
    assert kept == [False, True, True, False]  # at step 0 it is the same; at the end nothing can go back any more


class Second(ProcessGroup):
    """The second of two processes; what it gathers is as if the first had the same."""

    rank, count = 1, 2

    def exchange(self, *numbers: float) -> list[list[float]]:
        return [list(numbers)] * 2

    def gather_states(self, mine: Floats, B: int) -> Floats:
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
    made = trainer("torch", network={"dropout": 0.3})
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(made.reports())
    assert torch.equal(torch.rand(3), expected)


# One learner beside the other

SAME = 1e-5  # nats, of float32 beside float64 after so many steps
SAME_IN_FLOAT32 = 3e-3  # of both: Muon makes directions that hold nothing but rounding as long as the others
NETWORKS = [{"cell": "lstm", "layers": 2}, {"cell": "gru"}, {"cell": "rnn"}, {"cell": "lstm", "embedding": 0}]
NETWORKS += [{"layers": 2, "gate_norm": True}]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimizer", ["normuon", "muon", "adamw", "sgd"])
def test_both_learners_have_the_same_losses_from_the_same_seed(network: dict[str, object], optimizer: str) -> None:
    changes = {"optimizer": optimizer, "steps": 50, "reset": 0.2, "average": 0.9, "weight_decay": 0.1}
    ours, theirs = trainer("engine", network=network, **changes), in_double(network, **changes)
    nats = [[report.train_nats for report in made.reports()] for made in (ours, theirs)]
    assert nats[0] == pytest.approx(nats[1], abs=SAME)
    assert nats[0][-1] < nats[0][0] - 0.03
    one, other = ours.learner.snapshot(), theirs.learner.snapshot()
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in other.items()}


@pytest.mark.parametrize("begun", ["engine", "torch"])
@pytest.mark.parametrize("optimizer", ["normuon", "muon", "adamw", "sgd"])
def test_what_one_learner_began_the_other_goes_on_with(begun: str, optimizer: str) -> None:
    changes = {"optimizer": optimizer, "steps": 30, "reset": 0.2, "average": 0.9}
    whole = [report.train_nats for report in trainer(begun, **changes).reports()]
    first, second = trainer(begun, **changes), trainer("torch" if begun == "engine" else "engine", **changes)
    nats = [report.train_nats for report in itertools.islice(first.reports(), 13)]
    second.restore(*first.snapshot())
    assert same(second.learner.snapshot(), first.learner.snapshot())
    assert [*nats, *(report.train_nats for report in second.reports())] == pytest.approx(whole, abs=SAME_IN_FLOAT32)


def test_the_layout_of_a_learner_says_what_its_snapshot_holds(kind: str) -> None:
    for optimizer in ("normuon", "muon", "adamw", "adam", "sgd"):
        made = trainer(kind, optimizer=optimizer, average=0.9, steps=2, network={"layers": 2})
        list(made.reports())
        layout, held = made.learner.layout, made.learner.snapshot()
        moments = {f"optimizer.{name}.{key}" for name, keys in layout.moments.items() for key in keys}
        assert {name for name in held if name.startswith("optimizer.")} == moments
        for start in ("model.", "average."):
            found = {name.removeprefix(start): value.shape for name, value in part(made, start).items()}
            assert found == layout.parameters
        states = {f"state.{name}": (layout.layers, 4, layout.hidden) for name in layout.state_names}
        assert {name: value.shape for name, value in part(made, "state.").items()} == states


def test_within_the_average_the_model_has_it_and_then_its_own_weights_again(kind: str) -> None:
    made = trainer(kind, average=0.9, steps=9)
    list(made.reports())
    before, mean = made.learner.model.weights(), part(made, "average.")
    with made.learner.averaged():
        assert same({f"average.{name}": value for name, value in made.learner.model.weights().items()}, mean)
    assert same(made.learner.model.weights(), before)
    assert not same({f"average.{name}": value for name, value in before.items()}, mean)


def test_a_snapshot_that_does_not_fit_is_refused(kind: str) -> None:
    made = trainer(kind, steps=3)
    list(made.reports())
    with pytest.raises(ValueError, match=r"output\.bias"):
        made.learner.restore({**made.learner.snapshot(), "model.output.bias": np.zeros(7, np.float32)})
