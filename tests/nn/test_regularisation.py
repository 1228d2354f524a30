"""Dropout of weights and of characters, resets, averaged weights, and over-fitting said in words."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import storycell
from storycell import Report
from storycell.config import TrainSettings
from storycell.data import batches
from storycell.errors import BackendError
from storycell.nn.backends import choice
from storycell.nn.model import CharLM
from storycell.training.loop import describe_overfitting
from storycell.training.torch_learner import TorchLearner
from storycell.training.trainer import Trainer

IDS = np.array([0, *([2, 3, 4, 5, 3, 2] * 300)], dtype=np.uint8)
SHARE = 0.25
SPREAD = 0.05  # of a share counted over a thousand draws, four standard deviations
CLOSE = 1e-4  # float32 on two backends


def trainer(lm: CharLM, **changes: object) -> Trainer:
    usual = {"streams": 8, "chunk": 10, "steps": 40, "lr": 1e-2, "precision": "fp32", "warmup": 0.0}
    chosen = TrainSettings.model_validate(usual | changes)
    return Trainer(TorchLearner(lm, chosen), batches.make(IDS, chosen), chosen)


def test_hidden_weights_are_dropped_for_a_chunk_and_only_while_training() -> None:
    lm = CharLM(6, 32, layers=2, embedding_size=4, weight_dropout=SHARE)
    torch.manual_seed(1)
    for kept, whole in zip(lm.train().network().layers, lm.recurrent.layers(), strict=True):
        dropped = kept["weight_hh"] == 0
        assert dropped.float().mean().item() == pytest.approx(SHARE, abs=SPREAD)
        assert torch.allclose(kept["weight_hh"][~dropped], whole["weight_hh"][~dropped] / (1 - SHARE))
        assert kept["weight_ih"] is whole["weight_ih"]
    for kept, whole in zip(lm.eval().network().layers, lm.recurrent.layers(), strict=True):
        assert kept["weight_hh"] is whole["weight_hh"]


def test_what_is_dropped_gets_no_gradient_and_the_rest_does() -> None:
    lm = CharLM(6, 16, embedding_size=4, weight_dropout=SHARE, embedding_dropout=SHARE, backend="reference")
    ids = torch.randint(2, 6, (3, 8), generator=torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    dropped = lm.train().network().layers[0]["weight_hh"] == 0
    torch.manual_seed(3)
    lm(ids, targets=ids)[0].backward()
    gradient = lm.recurrent.get_parameter("weight_hh_l0").grad
    assert gradient is not None
    assert torch.equal(gradient == 0, dropped)


def test_whole_characters_are_dropped() -> None:
    lm = CharLM(1000, 8, embedding_size=4, embedding_dropout=SHARE)
    torch.manual_seed(1)
    embedding = lm.train().network().embedding
    assert embedding is not None
    assert lm.embedding is not None
    gone = (embedding == 0).all(dim=1)
    assert gone.float().mean().item() == pytest.approx(SHARE, abs=SPREAD)
    kept = lm.embedding.weight[~gone]
    assert torch.allclose(embedding[~gone], kept / (1 - SHARE))
    assert lm.eval().network().embedding is lm.embedding.weight


@pytest.mark.parametrize("name", ["torch", "native"])
def test_every_backend_drops_the_same(name: str) -> None:
    try:
        choice.choose_backend(name, "lstm", torch.zeros(1))
    except BackendError as error:
        pytest.skip(str(error))
    results = []
    for backend in ("reference", name):
        lm = CharLM(
            6, 16, layers=2, embedding_size=4, weight_dropout=SHARE, embedding_dropout=SHARE, backend=backend, seed=4
        )
        lm.precision = "fp32"
        torch.manual_seed(5)
        ids = torch.from_numpy(IDS[:40].astype(np.int64)).view(4, 10)
        loss, _ = lm.train()(ids, targets=ids)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in lm.parameters())])
    for a, b in zip(*results, strict=True):
        assert float((a - b).norm() / a.norm().clamp_min(1e-12)) < CLOSE


def test_a_share_of_the_streams_starts_from_the_zero_state_and_which_depends_on_the_step_only() -> None:
    lm = CharLM(6, 12, embedding_size=4)
    some = trainer(lm, reset=SHARE, streams=64)
    for _ in zip(range(3), some.reports(), strict=False):
        pass
    learner = some.learner
    assert isinstance(learner, TorchLearner)
    assert learner._state is not None
    shares, rows = [], []
    for step in range(100):
        some.step = step
        kept = some._kept_streams()
        carried = learner._carry(kept)
        assert kept is not None
        assert carried is not None
        zero = (carried["h"][0] == 0).all(dim=1)
        assert np.array_equal(zero.numpy(), ~kept)
        torch_draws = torch.rand(64, generator=torch.Generator().manual_seed(some.settings.seed * 1_000_003 + step))
        assert np.array_equal(kept, torch_draws.numpy() >= SHARE), "runs of earlier versions resume to the bit"
        assert ((carried["c"][0] == 0).all(dim=1) == zero).all()
        assert torch.equal(carried["h"][0][~zero], learner._state["h"][0][~zero])
        shares.append(zero.float().mean().item())
        rows.append(zero)
    assert np.mean(shares) == pytest.approx(SHARE, abs=SPREAD)
    assert not torch.equal(rows[0], rows[1])
    some.step = 0
    again = learner._carry(some._kept_streams())
    assert again is not None
    assert torch.equal((again["h"][0] == 0).all(dim=1), rows[0])
    some.settings = some.settings.model_copy(update={"reset": 0.0})
    assert learner._carry(some._kept_streams()) is learner._state


def test_the_average_is_a_running_mean_and_is_given_back() -> None:
    lm = CharLM(6, 12, embedding_size=4)
    made = trainer(lm, average=0.9, steps=30)
    mean: torch.Tensor | None = None
    for k, _ in enumerate(made.reports()):
        now = lm.output.weight.detach().clone()
        decay = min(0.9, (1 + k) / (10 + k))
        mean = now if mean is None else decay * mean + (1 - decay) * now
    assert mean is not None
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    with made.learner.averaged():
        assert torch.allclose(lm.output.weight, mean, atol=1e-6)
        assert not torch.equal(lm.output.weight, before["output.weight"])
    assert all(torch.equal(value, before[name]) for name, value in lm.state_dict().items())
    plain = trainer(CharLM(6, 12, embedding_size=4), steps=2)
    list(plain.reports())
    assert not [name for name in plain.snapshot()[0] if name.startswith("average.")]


def test_with_all_of_it_a_run_keeps_the_mean_and_resumes_to_the_bit(story_file: Path, tmp_path: Path) -> None:
    class CutShort(Exception):  # noqa: N818 - it is no error
        pass

    def cut(report: Report) -> None:
        if report.step == 7:
            raise CutShort

    chosen = {"hidden": 12, "embedding": 5, "layers": 2, "streams": 4, "chunk": 16, "evaluations": 2, "threads": 1}
    chosen |= {"steps": 12, "save_every": 1e-3, "average": 0.8, "reset": 0.3, "weight_dropout": 0.2}
    chosen |= {"embedding_dropout": 0.1, "dropout": 0.1}
    storycell.train(story_file, out=tmp_path / "whole", **chosen)
    with pytest.raises(CutShort):
        storycell.train(story_file, out=tmp_path / "cut", callback=cut, **chosen)
    storycell.resume(tmp_path / "cut")
    for name in ("model", "last"):
        whole, again = (safetensors.torch.load_file(tmp_path / run / f"{name}.safetensors") for run in ("whole", "cut"))
        assert whole.keys() == again.keys()
        assert all(torch.equal(whole[key], again[key]) for key in whole)
    best = safetensors.torch.load_file(tmp_path / "whole" / "model.safetensors")
    last = safetensors.torch.load_file(tmp_path / "whole" / "last.safetensors")
    assert torch.equal(best["output.weight"], last["average.output.weight"])
    assert not torch.equal(best["output.weight"], last["model.output.weight"])


def curve(*pairs: tuple[float, float]) -> list[dict[str, object]]:
    """Lines of a log from (training, validation) losses, with one in between that has no validation loss."""
    lines: list[dict[str, object]] = []
    for k, (train, valid) in enumerate(pairs):
        lines += [{"step": 10 * k + 5, "train_nats": train + 0.1, "valid_nats": None}]
        lines += [{"step": 10 * k + 10, "train_nats": train, "valid_nats": valid}]
    return lines


def test_three_rises_while_training_falls_are_pointed_out() -> None:
    falling = curve((2.0, 2.1), (1.5, 1.8), (1.2, 1.85), (1.0, 1.9))
    said = describe_overfitting([*falling, {"step": 45, "train_nats": 0.9, "valid_nats": None}], 2.0, 0.1)
    assert said.startswith("validation loss has risen for 3 evaluations, from 1.8000 to 2.0000")
    assert "--dropout (now 0.1)" in said
    assert "step 20" in said
    assert describe_overfitting(falling[:-2], 1.9, 0.1) == ""  # twice only
    assert describe_overfitting(falling, 1.7, 0.1) == ""  # it falls again
    unsteady = curve((1.0, 1.8), (1.1, 1.85), (1.2, 1.9))
    assert (
        describe_overfitting(unsteady, 2.0, 0.1) == ""
    )  # the training loss rises too: the learning rate, not the text
    assert describe_overfitting([], 2.0, 0.1) == ""


def test_a_text_too_small_for_the_network_is_noticed_in_a_real_run(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    words = ["".join(draw.choice(list("abcdefgh"), 4)) for _ in range(200)]
    (tmp_path / "small.txt").write_text(" ".join(words), encoding="utf-8")
    notices: list[str] = []
    storycell.train(
        tmp_path / "small.txt",
        out=tmp_path / "run",
        hidden=64,
        streams=4,
        chunk=32,
        steps=400,
        lr=1e-2,
        schedule="constant",
        evaluations=8,
        threads=1,
        callback=lambda report: notices.append(report.notice) if report.notice else None,
    )
    assert any("learns its text by heart; try a larger --dropout" in notice for notice in notices)
