"""The engine's optimisers against nn/optim.py's on the reference model; the running mean; names of what they keep."""

from typing import Any

import numpy as np
import pytest
import torch
from support.engine_pairs import V, chunk, distance, pair, tensor
from support.instruction_sets import needs_kernel

from storycell.config import TrainSettings
from storycell.engine import EngineModel
from storycell.engine.library import MULTIPLY_BF16, isa
from storycell.nn.model import CharLM
from storycell.nn.optim import build_optimizer, orthogonalise
from storycell.training.torch_learner import TorchLearner

pytestmark = needs_kernel

OPTIMIZERS = ["adamw", "adam", "sgd", "muon", "normuon"]
STATE = ("exp_avg", "exp_avg_sq", "step", "momentum_buffer", "second_momentum_buffer")
FP32 = 1e-5  # difference over norm
ROUNDED = 3e-4  # Muon's error in float32 where most directions are nearly lost to rounding: they are squared
BF16 = 0.07  # Muon's error in bf16 beyond that of nn/optim.py's


def settings(optimizer: str, **more: Any) -> TrainSettings:
    return TrainSettings.model_validate({"optimizer": optimizer, "lr": 0.01, "weight_decay": 0.1} | more)


def give_gradient(model: CharLM, engine: EngineModel, step: int) -> None:
    """The engine's own, to both: so only optimisers are compared."""
    engine.gradient(*chunk(5, 9, step))
    for name, gradient in engine.read("gradient").items():
        model.get_parameter(name).grad = torch.from_numpy(gradient)


@pytest.mark.parametrize("clip", [None, 0.05, 1e9])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_and_their_state_are_those_of_training(optimizer: str, clip: float | None) -> None:
    model, engine = pair("lstm", 2, 24, 9)
    torchs = build_optimizer(model, settings(optimizer))
    for step in range(4):
        give_gradient(model, engine, step)
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip or float("inf"))
        before = engine.read()
        torchs.step()
        engine.apply(0.01, optimizer=optimizer, clip=clip, decay=0.1)
        kept = {key: engine.read(key) for key in STATE}
        for name, weight in engine.read().items():
            parameter = model.get_parameter(name)
            moved = np.linalg.norm(weight - before[name])
            assert moved > 0
            assert np.linalg.norm(weight - parameter.detach().numpy()) <= 20 * FP32 * moved, name  # what is added to
            theirs = torchs.state.get(parameter, {})
            assert {key for key in STATE if name in kept[key]} == {
                key for key, value in theirs.items() if value is not None
            }
            for key, value in theirs.items():
                assert distance(kept[key][name], value.numpy()) <= FP32, (name, key)
        engine.write({name: p.detach().numpy() for name, p in model.named_parameters()})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_training_is_the_reference_s(cell: str, optimizer: str) -> None:
    model, engine = pair(cell, 2, 17, 9)
    model.double()
    torchs = build_optimizer(model, settings(optimizer))
    state = None
    for step in range(4):
        ids, targets = chunk(5, 9, step)
        torchs.zero_grad()
        loss, state = model(tensor(ids), state, targets=tensor(targets))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item()
        torchs.step()
        nats, ours = engine.gradient(ids, targets, carries=True)
        assert (nats, ours) == pytest.approx((loss.item(), norm), rel=1e-4)
        engine.apply(0.01, optimizer=optimizer, clip=0.5, decay=0.1)
    for name, weight in engine.read().items():
        assert distance(weight, model.get_parameter(name).detach().numpy()) < 1e-3, name  # divisions by small moments


def update_of(engine: EngineModel, gradients: dict[str, np.ndarray], optimizer: str = "muon") -> dict[str, np.ndarray]:
    """What Muon makes of a first gradient, without its size; the engine's weights are lost."""
    engine.gradient(*chunk(2, 2))
    for kind in ("weight", "momentum_buffer"):
        engine.write({name: np.zeros(shape) for name, shape in engine.shapes.items()}, kind)
    engine.write(gradients, "gradient")
    engine.apply(1.0, optimizer=optimizer)
    return {name: -w / (0.2 * max(w.shape) ** 0.5) for name, w in engine.read().items() if name in gradients}


def matrices(engine: EngineModel, rank: int) -> dict[str, np.ndarray]:
    """Random ones for Muon, mostly of this rank: what a gradient looks like."""
    rng = np.random.default_rng(rank)
    shapes = {name: shape for name, shape in engine.shapes.items() if "weight_" in name}
    return {
        name: (
            rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns)) + 0.01 * rng.normal(size=(rows, columns))
        )
        for name, (rows, columns) in shapes.items()
    }


# Tall, square and wide matrices, and sides that are no whole lanes.
MODELS = [("lstm", 24, 9), ("gru", 40, 0), ("rnn", 17, 9), ("rnn", 16, 50), ("lstm", 96, 100), ("rnn", 70, 300)]


@pytest.mark.parametrize("rank", [1, 5, 1000])
@pytest.mark.parametrize(("cell", "H", "embedding"), MODELS)
def test_muon_makes_matrices_orthogonal_as_the_definition_does(cell: str, H: int, embedding: int, rank: int) -> None:
    engine = EngineModel(V, H, 2, cell, embedding_size=embedding)
    gradients = matrices(engine, rank)
    updates = update_of(engine, gradients)
    for name, gradient in gradients.items():
        rounded = torch.from_numpy(gradient.astype(np.float32))
        exact = orthogonalise(rounded.double())
        assert distance(updates[name], exact) <= (FP32 if rank == 1000 else ROUNDED), name


@pytest.mark.skipif(isa() not in MULTIPLY_BF16, reason="this processor does not multiply bf16")
@pytest.mark.parametrize("rank", [1, 5, 1000])
@pytest.mark.parametrize(("cell", "H", "embedding"), MODELS)
def test_muon_in_bf16_is_nearly_as_near_as_plain_iterations(cell: str, H: int, embedding: int, rank: int) -> None:
    engine = EngineModel(V, H, 2, cell, embedding_size=embedding, precision="bf16")
    gradients = matrices(engine, rank)
    updates = update_of(engine, gradients)
    for name, gradient in gradients.items():
        exact = orthogonalise(torch.from_numpy(gradient))
        theirs = orthogonalise(torch.from_numpy(gradient).float(), bf16=True)
        assert 0 < distance(updates[name], exact) <= BF16 + distance(theirs, exact), name


@pytest.mark.parametrize("optimizer", ["muon", "normuon"])
def test_muon_moves_nothing_for_a_gradient_of_zero(optimizer: str) -> None:
    engine = EngineModel(V, 16, 1)
    zeros = {name: np.zeros(shape) for name, shape in engine.shapes.items() if "weight_" in name}
    assert all((update == 0).all() for update in update_of(engine, zeros, optimizer).values())


@pytest.mark.parametrize(("cell", "H", "embedding"), MODELS)
def test_normuons_rows_are_equally_long_at_first_and_its_update_as_long_as_muons(
    cell: str, H: int, embedding: int
) -> None:
    engine = EngineModel(V, H, 2, cell, embedding_size=embedding)
    gradients = matrices(engine, 1000)
    plain = update_of(engine, gradients)
    for name, update in update_of(engine, gradients, "normuon").items():
        rows, before = np.linalg.norm(update, axis=1), np.linalg.norm(plain[name], axis=1)
        assert rows == pytest.approx(np.full(len(rows), np.linalg.norm(plain[name]) / len(rows) ** 0.5), rel=1e-4)
        np.testing.assert_allclose(update / rows[:, None], plain[name] / before[:, None], atol=1e-4)
        kept = engine.read("second_momentum_buffer")[name]
        np.testing.assert_allclose(kept, 0.05 * np.square(plain[name]).mean(1), rtol=1e-3)


def test_normuon_in_a_row_without_a_gradient_moves_nothing_there() -> None:
    engine = EngineModel(V, 24, 1, embedding_size=9)
    gradients = matrices(engine, 1000)
    for gradient in gradients.values():
        gradient[[3, 50]] = 0
    for update in update_of(engine, gradients, "normuon").values():
        assert (update[[3, 50]] == 0).all()
        assert np.isfinite(update).all()
        assert (np.linalg.norm(update, axis=1) > 0).sum() == len(update) - 2


def test_the_running_mean_is_the_torch_learner_s() -> None:
    model, engine = pair("lstm", 1, 16, 9)
    theirs = TorchLearner(model, settings("adamw"))
    with engine.averaged():  # none is kept: the weights
        assert (engine.read()["output.bias"] == model.output.bias.detach().numpy()).all()
    for step in range(6):
        engine.gradient(*chunk(3, 4, step))
        engine.apply(0.1)
        present = engine.read()
        for name, weight in present.items():
            model.get_parameter(name).data = torch.from_numpy(weight.copy())
        decay = min(0.8, (1 + step) / (10 + step))
        theirs.take_into_average(decay)
        engine.average(decay)
        for name, mean in engine.read("average").items():
            np.testing.assert_allclose(mean, theirs._average[name].numpy(), rtol=1e-5, atol=1e-7)
        with engine.averaged():
            inside = engine.read()
        assert all((inside[name] == mean).all() for name, mean in engine.read("average").items())
        assert all((present[name] == weight).all() for name, weight in engine.read().items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_snapshot_has_the_torch_learner_s_names_and_shapes(optimizer: str) -> None:
    model, engine = pair("lstm", 1, 16, 9)
    theirs = TorchLearner(model, settings(optimizer))
    theirs.gradient(*chunk(5, 9, 0), step=0, kept=None)
    theirs.apply(0.01)
    theirs.take_into_average(0.9)
    held = theirs.snapshot()
    engine.gradient(*chunk(5, 9, 0))
    engine.apply(0.01, optimizer=optimizer)
    engine.average(0.9)
    ours = engine.snapshot()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in held.items()}
    assert all(value.dtype == np.float32 for value in ours.values())
    engine.restore(held)  # and a run that torch began goes on
    assert all((engine.snapshot()[name] == value).all() for name, value in held.items())
