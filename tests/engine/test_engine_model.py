"""The engine's losses, gradients and carried states against the reference cells in float64; what it refuses; resume."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from support.engine_pairs import V, chunk, distance, pair, tensor
from support.instruction_sets import ISAS, needs_kernel

from storycell.engine import EngineModel
from storycell.engine.library import use_isa
from storycell.nn.model import CharLM

pytestmark = needs_kernel

CELLS = ["lstm", "gru", "rnn"]
TOLERANCE = 1e-5  # float32's rounding, of the norm
ALLOWED_OF_AUTOCAST = 1.5  # times the error of torch's own bf16
SHAPES = [(1, 1, 5), (2, 17, 7), (3, 32, 16)]  # layers, hidden, streams


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    use_isa(request.param)
    yield request.param
    use_isa("")


def reference(model: CharLM, ids: np.ndarray, targets: np.ndarray, state: object = None) -> tuple[float, dict, object]:
    """Loss, gradients by name and last state."""
    model.zero_grad()
    loss, state = model(tensor(ids), state, targets=tensor(targets))
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in model.named_parameters()}, state


def in_float64(model: CharLM) -> CharLM:
    """A copy on the reference cells."""
    sizes = V, model.hidden_size, model.num_layers, model.cell
    other = CharLM(*sizes, embedding_size=model.embedding_size, backend="reference", precision="fp32")
    other.load_state_dict(model.state_dict())
    return other.double()


def norm_of(gradients: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in gradients.values())))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("embedding", [0, 9])
@pytest.mark.parametrize(("L", "H", "B"), SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_loss_and_gradients_are_the_reference_s(cell: str, L: int, H: int, B: int, embedding: int, bias: bool) -> None:
    model, engine = pair(cell, L, H, embedding, bias)
    ids, targets = chunk(B, 9)
    loss, gradients, _ = reference(model.double(), ids, targets)
    nats, norm = engine.gradient(ids, targets)
    whole = norm_of(gradients)
    assert nats == pytest.approx(loss, rel=TOLERANCE)
    assert norm == pytest.approx(whole, rel=TOLERANCE)
    ours = engine.read("gradient")
    assert set(ours) == set(gradients)
    for name, gradient in gradients.items():
        assert np.abs(ours[name] - gradient).max() <= TOLERANCE * whole, name


@pytest.mark.parametrize("cell", CELLS)
def test_every_instruction_set_has_the_reference_s_gradients(cell: str, isa: str) -> None:
    model, engine = pair(cell, 2, 40, 9)
    ids, targets = chunk(37, 11)
    loss, gradients, _ = reference(model.double(), ids, targets)
    nats, _ = engine.gradient(ids, targets)
    assert nats == pytest.approx(loss, rel=TOLERANCE)
    for name, gradient in gradients.items():
        assert np.abs(engine.read("gradient")[name] - gradient).max() <= TOLERANCE * norm_of(gradients), name


@pytest.mark.parametrize("cell", CELLS)
def test_bf16_gradients_are_as_near_as_torch_s_autocast(cell: str) -> None:
    model, engine = pair(cell, 2, 64, 9, backend="torch", precision="bf16")
    ids, targets = chunk(24, 20)
    loss, exact, _ = reference(in_float64(model), ids, targets)
    with torch.autocast("cpu", torch.bfloat16):
        _, theirs, _ = reference(model, ids, targets)
    nats, _ = engine.gradient(ids, targets)
    ours = engine.read("gradient")
    flat = [np.concatenate([np.ravel(g[name]) for name in exact]) for g in (ours, theirs, exact)]
    assert 0 < distance(flat[0], flat[2]) < ALLOWED_OF_AUTOCAST * distance(flat[1], flat[2])
    assert abs(nats - loss) < 1e-3


@pytest.mark.parametrize("cell", CELLS)
def test_streams_go_on_and_those_that_are_reset_begin_anew(cell: str) -> None:
    model, engine = pair(cell, 2, 17, 9)
    model.double()
    _, _, state = reference(model, *chunk(5, 9))
    engine.gradient(*chunk(5, 9))
    engine.apply(0.0)
    resets = np.array([False, True, False, False, True])
    kept = {name: value * torch.from_numpy(~resets)[None, :, None] for name, value in state.items()}
    ids, targets = chunk(5, 9, 2)
    for given, flags in [(state, None), (kept, resets), (state, np.zeros(5, bool)), (None, np.ones(5, bool))]:
        loss, gradients, last = reference(model, ids, targets, given)
        nats, norm = engine.gradient(ids, targets, carries=True, resets=flags)
        assert (nats, norm) == pytest.approx((loss, norm_of(gradients)), rel=TOLERANCE)
    for name, value in engine.state().items():  # of the chunk that was applied, not of those since
        assert distance(value, state[name]) < TOLERANCE
    engine.apply(0.0)
    for name, value in engine.state().items():
        assert distance(value, last[name]) < TOLERANCE


def test_only_whole_sets_of_streams_are_carried_on() -> None:
    _, engine = pair("lstm", 1, 16, 0)
    fresh = engine.gradient(*chunk(3, 4), carries=True)  # nothing to carry yet: zeros
    assert fresh == engine.gradient(*chunk(3, 4))
    engine.apply(0.0)
    with pytest.raises(ValueError, match="another number of streams"):
        engine.gradient(*chunk(4, 4), carries=True)
    with pytest.raises(ValueError, match="no gradient to apply"):
        engine.apply(0.1)
    with pytest.raises(ValueError, match="one entry for each of the 3"):
        engine.gradient(*chunk(3, 4), carries=True, resets=[True])
    engine.set_state({})
    assert engine.gradient(*chunk(3, 4), carries=True) == fresh


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "normuon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bits_do_not_depend_on_threads(precision: str, optimizer: str) -> None:
    found = []
    for threads in (1, 2, 3):
        _, engine = pair("lstm", 2, 80, 9, threads=threads, precision=precision, dropout=0.2, weight_dropout=0.1)
        for step in range(2):
            engine.gradient(*chunk(7, 9, step), carries=True, seed=step)
            engine.apply(0.01, optimizer=optimizer, clip=0.5)
            engine.average(0.9)
        found.append(engine.snapshot())
    for other in found[1:]:
        assert all((found[0][name] == other[name]).all() for name in other)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("B", [1, 3, 8, 64])
def test_bits_do_not_depend_on_how_many_threads_share_units_too(B: int, cell: str) -> None:
    """A network wide enough for it: with more threads than streams each has some of the units."""
    ids, targets = chunk(B, 128 // B)  # enough work for threads to be woken
    found: list[tuple[int, Any]] = []
    counts = (1, 2, 3, 8, 16)
    for threads in counts:
        engine = EngineModel(V, 272, 1, cell, threads=threads, precision="bf16" if B % 2 else "fp32")
        engine.initialise(1)
        found.append((threads, engine.gradient(ids, targets)))
        for name, gradient in engine.read("gradient").items():
            found.append((threads, (name, gradient.tobytes())))
    per = len(found) // len(counts)
    for k, (threads, other) in enumerate(found):
        assert other == found[k % per][1], f"with {threads} threads"


def test_packed_weights_are_those_of_now() -> None:
    """After every way in which weights change, the gradient is that of a model that never knew others."""
    _, engine = pair("gru", 2, 17, 9)
    ids, targets = chunk(3, 5)
    engine.gradient(ids, targets)

    def same_as_a_new_one() -> None:
        _, other = pair("gru", 2, 17, 9)
        other.write(engine.read())
        assert engine.gradient(ids, targets) == other.gradient(ids, targets)

    engine.apply(0.1, optimizer="sgd")
    same_as_a_new_one()
    engine.average(0.5)
    engine.apply(0.1)
    same_as_a_new_one()
    engine.write({"output.bias": np.ones(V)})
    same_as_a_new_one()
    with engine.averaged():
        same_as_a_new_one()
    same_as_a_new_one()
    engine.initialise(5)
    same_as_a_new_one()


def test_bad_input_is_refused_and_changes_nothing() -> None:
    _, engine = pair("gru", 1, 16, 0)
    before = engine.read()
    ids, targets = chunk(3, 4)
    with pytest.raises(IndexError, match="outside the vocabulary"):
        engine.gradient(ids, np.full_like(targets, V))
    with pytest.raises(IndexError, match="outside the vocabulary"):
        engine.gradient(np.full_like(ids, -1), targets)
    with pytest.raises(ValueError, match="no gradient to apply"):
        engine.apply(0.1)
    with pytest.raises(ValueError, match=r"must both be \[B T\]"):
        engine.gradient(ids, targets[:, 1:])
    engine.write({"output.bias": np.full(V, np.nan)})
    engine.gradient(ids, targets)
    for optimizer in ("adamw", "adam", "sgd", "muon", "normuon"):
        with pytest.raises(FloatingPointError, match="weights were left alone"):
            engine.apply(0.1, optimizer=optimizer)
    for keywords in ({"rate": np.nan}, {"rate": 0.1, "clip": -1.0}, {"rate": 0.1, "decay": np.inf}):
        with pytest.raises(ValueError, match="out of range"):
            engine.apply(**keywords)
    with pytest.raises(ValueError, match="adamw, adam, sgd, muon, normuon"):
        engine.apply(0.1, optimizer="lion")
    engine.write({"output.bias": before["output.bias"]})
    assert all((before[name] == value).all() for name, value in engine.read().items())
    assert set(engine.snapshot()) == {f"model.{name}" for name in before}
    with pytest.raises(ValueError, match="of shape"):
        engine.write({"output.bias": np.zeros(3)})
    with pytest.raises(ValueError, match="of shape"):
        engine.write({"output.sigh": np.zeros(3)})
    with pytest.raises(ValueError, match="out of range"):
        EngineModel(0)
    with pytest.raises(ValueError, match="out of range"):
        EngineModel(5, dropout=1.0)
    with pytest.raises(ValueError, match="no cell 'mlstm'"):
        EngineModel(5, cell="mlstm")
    with pytest.raises(ValueError, match="fp32 or bf16"):
        EngineModel(5, precision="fp16")


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "muon", "normuon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
def test_resume_is_bitwise(cell: str, precision: str, optimizer: str) -> None:
    dropouts = {"dropout": 0.1, "weight_dropout": 0.2, "embedding_dropout": 0.3}

    def train(engine: EngineModel, steps: range) -> None:
        for step in steps:
            engine.gradient(*chunk(5, 9, step), carries=True, seed=step)
            engine.apply(0.01, optimizer=optimizer, clip=0.5, decay=0.1)
            engine.average(0.9)

    _, uncut = pair(cell, 2, 17, 9, precision=precision, **dropouts)
    train(uncut, range(3))
    _, resumed = pair(cell, 2, 17, 9, precision=precision, **dropouts)
    train(resumed, range(7, 8))  # something else, to be forgotten
    resumed.restore(uncut.snapshot())
    train(uncut, range(3, 6))
    train(resumed, range(3, 6))
    ours, theirs = resumed.snapshot(), uncut.snapshot()
    assert set(ours) == set(theirs)
    assert all((value == ours[name]).all() for name, value in theirs.items())


def test_a_snapshot_goes_back_to_what_was_before_the_first_step() -> None:
    _, engine = pair("lstm", 1, 16, 9)
    fresh = engine.snapshot()
    engine.gradient(*chunk(3, 4))
    engine.apply(0.1, optimizer="normuon")
    engine.average(0.5)
    engine.restore(fresh)
    assert {name: value.tolist() for name, value in engine.snapshot().items()} == {
        name: value.tolist() for name, value in fresh.items()
    }


def test_a_snapshot_that_does_not_fit_changes_nothing() -> None:
    _, engine = pair("lstm", 1, 16, 9)
    engine.gradient(*chunk(3, 4))
    engine.apply(0.1)
    before = engine.snapshot()
    lacking = {name: value for name, value in before.items() if name != "model.output.bias"}
    with pytest.raises(ValueError, match=r"no model\.output\.bias"):
        engine.restore(lacking)
    for name in ("model.output.bias", "optimizer.output.bias.exp_avg", "state.h"):
        with pytest.raises(ValueError, match="shape"):
            engine.restore(before | {name: np.zeros(3, np.float32)})
    after = engine.snapshot()
    assert all((before[name] == value).all() for name, value in after.items())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("vocabulary", "H", "L", "embedding"), [(V, 17, 2, 9), (5, 2, 1, 0), (5, 3, 1, 3)])
@pytest.mark.parametrize("cell", CELLS)
def test_a_seed_draws_the_weights_that_torch_draws(
    cell: str, vocabulary: int, H: int, L: int, embedding: int, bias: bool
) -> None:
    model = CharLM(vocabulary, H, L, cell, embedding_size=embedding, gate_bias=bias, backend="reference")
    engine = EngineModel(vocabulary, H, L, cell, embedding_size=embedding, gate_bias=bias)
    for seed in (1, 7, (1 << 40) + 5):
        model.initialise(seed)
        engine.initialise(seed, model.forget_bias)
        for name, weight in engine.read().items():
            drawn = model.get_parameter(name).detach().numpy()
            np.testing.assert_allclose(weight, drawn, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_engine_imports_no_torch() -> None:
    code = "import sys, storycell.engine as e; e.EngineModel(5).initialise(1); print('torch' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.stdout == "False\n", child.stderr
