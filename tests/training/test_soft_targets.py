"""Soft targets in training: both learners alike, a share that falls to zero, resumed to the bit, and better losses."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.instruction_sets import needs_kernel

import storycell
from storycell.config import ModelSettings, Settings, TrainSettings, recipes, resolve
from storycell.data import batches
from storycell.data.stories.corpus import generate
from storycell.engine.teacher import Teacher
from storycell.errors import SettingsError
from storycell.nn.model import CharLM
from storycell.training import start
from storycell.training.engine_learner import EngineLearner
from storycell.training.learner import Learner, Soft
from storycell.training.schedule import soft_share
from storycell.training.torch_learner import TorchLearner
from storycell.training.trainer import Trainer

pytestmark = needs_kernel

V = 12
IDS = np.random.default_rng(1).integers(2, V, 2000).astype(np.uint8)
IDS[::50] = 0


def settings(**changes: Any) -> TrainSettings:
    usual = {"streams": 4, "chunk": 10, "steps": 6, "lr": 1e-2, "precision": "fp32", "soft_targets": 0.8, "reset": 0.1}
    return TrainSettings.model_validate(usual | changes)


def learner(kind: str, chosen: TrainSettings) -> Learner:
    """Both kinds begin with the same weights."""
    model = ModelSettings(hidden=12, embedding=4)
    if kind == "engine":
        return EngineLearner(Settings(model=model, training=chosen), V)
    lm = CharLM.from_settings(V, model, seed=chosen.seed)
    lm.use("native" if kind == "native" else "reference", "fp32")
    return TorchLearner(lm, chosen)


def trained(kind: str, **changes: Any) -> Trainer:
    chosen = settings(**changes)
    made = batches.make(IDS, chosen)
    return Trainer(learner(kind, chosen), made, chosen, count_teacher=lambda: Teacher(IDS, V))


def test_the_share_falls_to_zero_along_the_budget_or_sooner() -> None:
    chosen = settings(soft_chars=1000)
    assert soft_share(chosen, 0, 0) == 0.8
    assert soft_share(chosen, 0.25, 10) == pytest.approx(0.6)
    assert soft_share(chosen, 0.01, 500) == pytest.approx(0.4)
    assert soft_share(chosen, 0.01, 1500) == soft_share(chosen, 1, 10) == 0
    assert soft_share(settings(soft_targets=0.0), 0, 0) == 0


def test_no_step_asks_the_teacher_once_it_has_no_share() -> None:
    taught = trained("engine", steps=6, soft_chars=100)  # 40 a step
    seen: list[bool] = []
    gradient = taught.learner.gradient

    def watched(ids: Any, targets: Any, step: int, kept: Any, soft: Soft | None = None) -> tuple[float, float]:
        seen.append(soft is not None)
        return gradient(ids, targets, step, kept, soft)

    taught.learner.gradient = watched  # type: ignore[method-assign]
    list(taught.reports())
    assert seen == [True, True, True, False, False, False]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "normuon"])
@pytest.mark.parametrize("kind", ["native", "reference"])
def test_both_learners_learn_alike_from_soft_targets(kind: str, optimizer: str) -> None:
    one, other = trained("engine", optimizer=optimizer), trained(kind, optimizer=optimizer)
    for a, b in zip(one.reports(), other.reports(), strict=True):
        assert a.train_nats == pytest.approx(b.train_nats, rel=2e-4)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=2e-3)
    plain = trained("engine", optimizer=optimizer, soft_targets=0.0)
    assert [r.grad_norm for r in plain.reports()] != [
        r.grad_norm for r in trained("engine", optimizer=optimizer).reports()
    ]


def test_the_trainer_hands_over_what_the_teacher_says_of_each_chunk() -> None:
    taught = trained("engine", steps=3)
    seen: list[Soft | None] = []
    gradient = taught.learner.gradient

    def watched(ids: Any, targets: Any, step: int, kept: Any, soft: Soft | None = None) -> tuple[float, float]:
        seen.append(soft)
        return gradient(ids, targets, step, kept, soft)

    taught.learner.gradient = watched  # type: ignore[method-assign]
    list(taught.reports())
    teacher = Teacher(IDS, V)
    for step, soft in enumerate(seen):
        assert soft is not None
        assert soft.share == pytest.approx(0.8 * (1 - step / 3))
        before = taught.batches.before(step, teacher.order)
        assert np.array_equal(soft.probabilities, teacher.teach(before, *taught.batches.at(step)))


def test_the_loss_that_is_reported_is_without_soft_targets() -> None:
    first = next(trained("engine").reports())
    plain = next(trained("engine", soft_targets=0.0).reports())
    assert first.train_nats == plain.train_nats
    assert first.grad_norm != plain.grad_norm


def test_a_run_with_soft_targets_goes_on_to_the_bit(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log. " * 200, encoding="utf-8")
    usual: dict[str, Any] = {"hidden": 16, "streams": 4, "chunk": 16, "soft_targets": 0.9, "threads": 1}

    def stop(report: Any) -> None:
        if report.step == 5:
            raise InterruptedError

    whole = storycell.train(text, out=tmp_path / "whole", steps=10, **usual)
    with pytest.raises(InterruptedError):
        storycell.train(text, out=tmp_path / "parts", steps=10, save_every=1e-6, callback=stop, **usual)
    parts = storycell.resume(tmp_path / "parts")
    for name in ("model.safetensors", "last.safetensors"):
        ended, went_on = (load_file(Path(result.path) / name) for result in (whole, parts))
        assert ended.keys() == went_on.keys()
        assert all(np.array_equal(ended[key], went_on[key]) for key in ended)


@pytest.mark.parametrize("name", recipes())
def test_no_recipe_has_them_for_they_gain_nothing_in_its_budget(name: str) -> None:
    assert resolve(name).training.soft_targets == 0


def test_without_the_engine_they_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time. " * 60, encoding="utf-8")

    def absent() -> None:
        raise ImportError("it was not built")

    monkeypatch.setattr(start.library, "library", absent)
    settings: dict[str, Any] = {"hidden": 8, "streams": 2, "chunk": 8, "steps": 2, "backend": "reference"}
    with pytest.raises(SettingsError, match=r"soft_targets = 0\.9: the engine counts their n-grams; it was not built"):
        storycell.train(text, out=tmp_path / "run", soft_targets=0.9, **settings)
    assert not (tmp_path / "run").exists()
    storycell.train(text, out=tmp_path / "run", **settings)


def test_of_a_large_vocabulary_they_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(0x4E00 + k % 1500) for k in range(4000)), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"soft_targets = 0.9: the text has 1,502 .* at most 1,024; leave"):
        storycell.train(text, out=tmp_path / "run", soft_targets=0.9, hidden=16, streams=2, chunk=8, steps=2)
    assert not (tmp_path / "run").exists()


def test_the_counts_are_let_go_and_not_made_again_once_they_have_no_share() -> None:
    taught = trained("engine", steps=6, soft_chars=100)
    made: list[int] = []
    count = taught._count_teacher
    assert count is not None
    taught._count_teacher = lambda: (made.append(taught.step), count())[1]
    reports = taught.reports()
    next(reports)
    assert taught._teacher is not None
    for _ in range(3):
        next(reports)
    assert taught._teacher is None
    list(taught.reports())
    assert made == [0]


def test_the_same_characters_teach_more(tmp_path: Path) -> None:
    """A few hundred steps on the embedded stories, from the same weights: held-out stories are predicted better."""
    text = tmp_path / "stories.txt"
    text.write_text("\n<|endoftext|>\n".join(islice(generate(3), 500)), encoding="utf-8")
    settings: dict[str, Any] = {
        "hidden": 64,
        "streams": 16,
        "chunk": 32,
        "steps": 300,
        "threads": 1,
        "precision": "fp32",
    }
    losses = []
    for n in (0.0, 0.9):
        run = storycell.train(text, out=tmp_path / str(n), soft_targets=n, **settings)
        losses.append(run.summary["valid_nats"])
    assert losses[1] < losses[0] - 0.02
