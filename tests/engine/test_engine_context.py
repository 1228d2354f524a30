"""The context's table of the engine's model: gradients and optimiser against the reference; state; resume.

Everything with n-grams alone, with matches alone and with both; which rows are met is in test_context.py.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.engine_pairs import V, chunk, distance, tensor
from support.instruction_sets import needs_kernel

from storycell import context
from storycell.config import TrainSettings
from storycell.context import Context
from storycell.engine import EngineModel
from storycell.nn.model import CharLM
from storycell.nn.optim import build_optimizer

pytestmark = needs_kernel

CONTEXTS = {  # so few rows that n-grams collide
    "n-grams": Context(4, 37, 0, V),
    "matches": Context(0, 0, 6, V),
    "both": Context(4, 37, 6, V),
}
EXACT = 1e-5  # difference over norm, against float64
BF16 = 0.03


@pytest.fixture(params=CONTEXTS)
def one(request: pytest.FixtureRequest) -> Context:
    return CONTEXTS[request.param]


def text(B: int, T: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """ids and targets of few characters, so that some match, and many boundaries, character 0."""
    ids, targets = chunk(B, T, seed)
    return np.where(ids < 4, 0, np.where(ids < 18, 4 + ids % 3, ids)), targets


def sizes(one: Context) -> dict[str, int]:
    return {"ngrams": one.ngrams, "ngram_rows": one.ngram_rows, "matches": one.matches}


def pair(
    one: Context, cell: str = "lstm", L: int = 2, H: int = 17, D: int = 9, **keywords: Any
) -> tuple[CharLM, EngineModel]:
    """A reference in float64 and an engine, whose table has been learnt."""
    model = CharLM(V, H, L, cell, embedding_size=D, backend="reference", precision="fp32", **sizes(one))
    engine = EngineModel(V, H, L, cell, embedding_size=D, **sizes(one), **keywords)
    with torch.no_grad():
        assert model.context_table is not None
        model.context_table.weight.normal_(0, 2, generator=torch.Generator().manual_seed(3))
    engine.write({name: p.detach().numpy() for name, p in model.named_parameters()})
    return model.double(), engine


def settings(optimizer: str) -> TrainSettings:
    return TrainSettings.model_validate({"optimizer": optimizer, "lr": 0.01, "weight_decay": 0.1})


def test_gradients_of_parts_of_the_streams_add_up_to_that_of_all(one: Context) -> None:
    """As several processes do it: each adds its own, weighed by its streams; all take the same step."""
    engines = [pair(one)[1] for _ in range(3)]
    whole, parts = engines[0], engines[1:]
    with pytest.raises(ValueError, match="no gradient"):
        whole.measure()
    for step in range(3):
        ids, targets = text(5, 9, step)
        nats, norm = whole.gradient(ids, targets, carries=True)
        assert whole.measure() == norm
        losses, sums, rows = [], np.zeros_like(whole.gradients), np.zeros((one.rows, 9), np.float32)
        for engine, own in zip(parts, (slice(0, 2), slice(2, 5)), strict=True):
            share = len(ids[own]) / len(ids)
            losses.append(share * engine.gradient(ids[own], targets[own], carries=True)[0])
            sums += share * engine.gradients
            met, of_rows = engine.row_gradients()
            assert np.array_equal(met, np.unique(one.rows_of(ids[own], pasts(one, engine, own))))
            assert np.array_equal(of_rows, engine.read("gradient")[context.TABLE][met])
            rows[met] += share * of_rows
        assert sum(losses) == pytest.approx(nats, abs=1e-6)
        met = np.flatnonzero(np.abs(rows).sum(axis=1))
        for engine in parts:
            engine.gradients[:] = sums
            engine.set_row_gradients(met, rows[met])
            assert engine.measure() == pytest.approx(norm, rel=1e-6)
            engine.apply(0.01, clip=norm / 2)
        whole.apply(0.01, clip=norm / 2)
    for name, value in whole.read().items():
        ours, theirs = (engine.read()[name] for engine in parts)
        assert np.array_equal(ours, theirs), name
        np.testing.assert_allclose(ours, value, atol=2e-5, err_msg=name)


def pasts(one: Context, engine: EngineModel, own: slice) -> np.ndarray:
    state = engine.state()
    return state["past"][0].astype(np.int64) if state else np.zeros((own.stop - own.start, one.memory), np.int64)


def test_rows_that_are_no_rows_or_do_not_rise_are_refused(one: Context) -> None:
    _, engine = pair(one)
    engine.gradient(*text(5, 9))
    before = engine.row_gradients()
    for bad in ([-1], [one.rows], [3, 3], [4, 3], range(one.rows + 1)):
        rows = np.array([*bad], np.int64)
        with pytest.raises(ValueError, match="size"):
            engine.set_row_gradients(rows, np.zeros((len(rows), 9), np.float32))
    with pytest.raises(ValueError, match="of 2 rows of 9"):
        engine.set_row_gradients(np.array([1, 2]), np.zeros((2, 8), np.float32))
    assert all(np.array_equal(now, then) for now, then in zip(engine.row_gradients(), before, strict=True))
    no_table = EngineModel(V, 8)
    assert len(no_table.row_gradients()[0]) == 0


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_loss_and_every_gradient_are_the_references(cell: str, one: Context) -> None:
    model, engine = pair(one, cell)
    for step, carries in enumerate((False, True, True)):
        ids, targets = text(5, 9, step)
        model.zero_grad()
        state = None if not carries else state  # noqa: F821 (of the step before)
        loss, state = model(tensor(ids), state, targets=tensor(targets))
        loss.backward()
        nats, norm = engine.gradient(ids, targets, carries=carries)
        assert nats == pytest.approx(loss.item(), rel=EXACT)
        gradients = engine.read("gradient")
        assert set(gradients) == {name for name, _ in model.named_parameters()}
        for name, gradient in gradients.items():
            assert distance(gradient, model.get_parameter(name).grad) < EXACT, name
        assert norm == pytest.approx(np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values())))
        engine.apply(0.0, optimizer="sgd")


def test_bf16_gradients_are_near_the_references(one: Context) -> None:
    model, engine = pair(one, H=32, D=16, precision="bf16")
    ids, targets = text(5, 9)
    loss, _ = model(tensor(ids), targets=tensor(targets))
    loss.backward()
    nats, _ = engine.gradient(ids, targets)
    assert nats == pytest.approx(loss.item(), rel=BF16)
    for name, gradient in engine.read("gradient").items():
        assert distance(gradient, model.get_parameter(name).grad) < BF16, name


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "muon", "normuon"])
def test_training_is_the_references(optimizer: str, one: Context) -> None:
    model, engine = pair(one)
    torchs = build_optimizer(model, settings(optimizer))
    state = None
    for step in range(4):
        ids, targets = text(5, 9, step)
        torchs.zero_grad()
        loss, state = model(tensor(ids), state, targets=tensor(targets))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        torchs.step()
        nats, _ = engine.gradient(ids, targets, carries=True)
        assert nats == pytest.approx(loss.item(), rel=1e-4)
        engine.apply(0.01, optimizer=optimizer, clip=0.5, decay=0.1)
    assert distance(engine.read()[context.TABLE], model.get_parameter(context.TABLE).detach()) < 1e-4
    sums = engine.read("sum")
    if optimizer == "sgd":
        assert not sums
    else:
        theirs = torchs.state[model.get_parameter(context.TABLE)]["sum"]
        assert set(sums) == {context.TABLE}
        assert distance(sums[context.TABLE], theirs) < 1e-4


def test_rows_that_were_not_met_stay_as_they_are_to_the_bit(one: Context) -> None:
    one = replace(one, ngram_rows=5000 if one.ngrams else 0)
    engine = EngineModel(V, 17, 1, embedding_size=9, **sizes(one))
    engine.initialise(1)
    before = np.random.default_rng(0).normal(0, 1, (one.rows, 9)).astype(np.float32)
    engine.write({context.TABLE: before})
    ids, targets = text(3, 8)
    met = np.unique(one.rows_of(ids, np.zeros((3, one.memory))))
    engine.gradient(ids, targets)
    engine.apply(0.01, optimizer="muon", decay=0.5)
    moved = np.flatnonzero((engine.read()[context.TABLE] != before).any(1))
    assert np.array_equal(moved, met)


def test_the_past_is_carried_from_chunk_to_chunk_and_forgotten_at_a_reset(one: Context) -> None:
    _, engine = pair(one)
    ids, targets = text(4, 6)
    later, later_targets = text(4, 6, 9)
    ids[:, -1] = 9
    later[:, :2] = 9  # no boundary: the past is seen, and a 9 has followed a 9 in it
    engine.gradient(ids, targets, carries=True)
    engine.apply(0.0, optimizer="sgd")
    state = engine.state()
    past = one.past_after(ids, np.zeros((4, one.memory)))
    assert np.array_equal(state["past"], past[None])
    resets = np.array([False, True, False, True])
    nats, _ = engine.gradient(later, later_targets, carries=True, resets=resets)
    zeroed = {name: np.where(resets[None, :, None], 0, value) for name, value in state.items()}
    engine.set_state(zeroed)
    assert engine.gradient(later, later_targets, carries=True)[0] == nats
    forgotten = zeroed | {"past": np.zeros_like(state["past"])}
    engine.set_state(forgotten)
    assert engine.gradient(later, later_targets, carries=True)[0] != nats


def test_rows_of_a_batch_do_not_touch_each_other(one: Context) -> None:
    _, engine = pair(one)
    ids, targets = text(4, 6)
    engine.gradient(ids, targets)
    engine.apply(0.0, optimizer="sgd")
    together = engine.state()
    for b in range(4):
        engine.gradient(ids[b : b + 1], targets[b : b + 1])
        engine.apply(0.0, optimizer="sgd")
        for name, value in engine.state().items():
            assert np.array_equal(value[:, 0], together[name][:, b]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_results_do_not_depend_on_threads_to_the_bit(precision: str, one: Context) -> None:
    found, wide = [], replace(one, ngram_rows=501 if one.ngrams else 0)
    for threads in (1, 2, 5):
        engine = EngineModel(V, 32, 2, embedding_size=48, **sizes(wide), precision=precision, threads=threads)
        engine.initialise(1)
        for step in range(3):
            engine.gradient(*text(33, 20, step), carries=True)
            engine.apply(0.01, optimizer="muon", clip=0.5, decay=0.1)
        found.append(engine.snapshot())
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, value in found[0].items():
            assert np.array_equal(value, other[name]), name


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_a_restored_snapshot_goes_on_to_the_bit(optimizer: str, one: Context) -> None:
    def steps(engine: EngineModel, numbers: range) -> dict[str, Any]:
        for step in numbers:
            engine.gradient(*text(5, 9, step), carries=True)
            engine.apply(0.01, optimizer=optimizer, clip=0.5, decay=0.1)
            engine.average(0.9)
        return engine.snapshot()

    _, whole = pair(one)
    _, first = pair(one)
    _, second = pair(one)
    second.gradient(*text(5, 9, 7))  # what it did before is forgotten
    second.apply(0.1)
    second.average(0.5)
    second.restore(steps(first, range(3)))
    expected = steps(whole, range(6))
    found = steps(second, range(3, 6))
    assert found.keys() == expected.keys()
    assert f"average.{context.TABLE}" in found
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name


def test_the_running_mean_has_the_table_too(one: Context) -> None:
    _, engine = pair(one)
    before = engine.read()[context.TABLE]
    engine.average(0.5)
    engine.gradient(*text(5, 9))
    engine.apply(0.1)
    now = engine.read()[context.TABLE]
    engine.average(0.75)
    with engine.averaged():
        assert distance(engine.read()[context.TABLE], 0.75 * before + 0.25 * now) < EXACT
    assert np.array_equal(engine.read()[context.TABLE], now)


def test_sizes_and_states_that_do_not_fit_are_refused(one: Context) -> None:
    of_ngrams = [{"ngrams": 1}, {"ngrams": 17}, {"ngrams": -2}, {"ngrams": 3, "ngram_rows": 0}]
    for wrong in (*of_ngrams, {"matches": 1}, {"matches": 65}, {"matches": -1}, {"embedding_size": 0}):
        with pytest.raises(ValueError, match="size"):
            EngineModel(V, 16, 1, **({"embedding_size": 9, **sizes(one)} | wrong))
    _, engine = pair(one)
    engine.gradient(*text(2, 5))
    engine.apply(0.1)
    state, P = engine.state(), one.memory
    for wrong in (np.full((1, 2, P), V), np.full((1, 2, P), -1), np.zeros((1, 2, P + 1))):
        with pytest.raises(ValueError, match="past"):
            engine.set_state(state | {"past": wrong})
    with pytest.raises(IndexError):
        engine.gradient(np.full((2, 5), V), np.zeros((2, 5)))
