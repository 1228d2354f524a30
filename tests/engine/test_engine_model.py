"""The engine's training step against the reference cells in float64 and torch's own optimiser."""

import numpy as np
import pytest
import torch

from storycell.engine import EngineModel
from storycell.nn.model import CharLM

TOLERANCE = 1e-5  # float32's rounding, of the norm
SHAPES = [(1, 1, 5), (2, 17, 7), (3, 32, 16)]  # layers, hidden, streams


def pair(cell: str, L: int, H: int, embedding: int, bias: bool, **keywords: object) -> tuple[CharLM, EngineModel]:
    torch.manual_seed(0)
    model = CharLM(23, H, L, cell, embedding_size=embedding, gate_bias=bias, backend="reference", precision="fp32")
    engine = EngineModel(23, H, L, cell, embedding_size=embedding, gate_bias=bias, **keywords)
    engine.write({name: p.detach().numpy() for name, p in model.named_parameters()})
    return model, engine


def chunk(B: int, T: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(0, 23, (B, T + 1))
    return ids[:, :-1], ids[:, 1:]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("embedding", [0, 9])
@pytest.mark.parametrize(("L", "H", "B"), SHAPES)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_loss_and_gradients_are_the_reference_s(cell: str, L: int, H: int, B: int, embedding: int, bias: bool) -> None:
    model, engine = pair(cell, L, H, embedding, bias)
    ids, targets = chunk(B, 9)
    model.double()
    loss, _ = model(torch.from_numpy(ids.copy()), None, targets=torch.from_numpy(targets.copy()))
    loss.backward()
    nats, norm = engine.gradient(ids, targets)
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    whole = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    assert nats == pytest.approx(loss.item(), rel=TOLERANCE)
    assert norm == pytest.approx(whole, rel=TOLERANCE)
    ours = engine.read("gradient")
    assert set(ours) == set(gradients)
    for name, gradient in gradients.items():
        assert np.abs(ours[name] - gradient).max() <= TOLERANCE * whole, name


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_steps_and_carried_states_are_those_of_torch_s_adamw(cell: str) -> None:
    model, engine = pair(cell, 2, 17, 9, True)
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if p.dim() == 2 and not name.startswith("embedding")]
    others = [p for name, p in named.items() if p.dim() == 1 or name.startswith("embedding")]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], 0.01, (0.9, 0.99)
    )
    state = None
    for step in range(4):
        ids, targets = chunk(5, 9, step)
        optimizer.zero_grad()
        loss, state = model(torch.from_numpy(ids.copy()), state, targets=torch.from_numpy(targets.copy()))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item()
        optimizer.step()
        nats, ours = engine.gradient(ids, targets, carries=True)
        assert (nats, ours) == pytest.approx((loss.item(), norm), rel=1e-4)
        engine.apply(0.01, clip=0.5, decay=0.1)
    for name, weight in engine.read().items():
        assert distance(weight, named[name].detach().numpy()) < 1e-3, name  # four divisions by small moments


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bits_do_not_depend_on_threads(precision: str) -> None:
    found = []
    for threads in (1, 2, 3):
        _, engine = pair("lstm", 2, 32, 9, True, threads=threads, precision=precision)
        for step in range(2):
            engine.gradient(*chunk(7, 9, step), carries=True)
            engine.apply(0.01, clip=0.5)
        found.append(engine.read())
    for other in found[1:]:
        assert all((found[0][name] == other[name]).all() for name in other)


def test_bad_input_is_refused_and_changes_nothing() -> None:
    _, engine = pair("gru", 1, 16, 0, True)
    before = engine.read()
    ids, targets = chunk(3, 4)
    with pytest.raises(IndexError, match="outside the vocabulary"):
        engine.gradient(ids, np.full_like(targets, 23))
    with pytest.raises(ValueError, match="missing"):
        engine.apply(0.1)
    engine.write({"output.bias": np.full(23, np.nan)})
    engine.gradient(ids, targets)
    with pytest.raises(FloatingPointError):
        engine.apply(0.1)
    engine.write({"output.bias": before["output.bias"]})
    assert all((before[name] == value).all() for name, value in engine.read().items())
    with pytest.raises(ValueError, match="of shape"):
        engine.write({"output.bias": np.zeros(3)})
    with pytest.raises(ValueError, match="out of range"):
        EngineModel(0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_resume_is_bitwise(cell: str, precision: str) -> None:
    def train(engine: EngineModel, steps: range) -> None:
        for step in steps:
            engine.gradient(*chunk(5, 9, step), carries=True)
            engine.apply(0.01, clip=0.5, decay=0.1)

    _, uncut = pair(cell, 2, 17, 9, True, precision=precision)
    train(uncut, range(3))
    _, resumed = pair(cell, 2, 17, 9, True, precision=precision)
    for kind in ("weight", "exp_avg", "exp_avg_sq", "step"):
        resumed.write(uncut.read(kind), kind)
    resumed.set_state(uncut.state())
    train(uncut, range(3, 6))
    train(resumed, range(3, 6))
    for kind in ("weight", "exp_avg", "exp_avg_sq", "step"):
        assert all((value == resumed.read(kind)[name]).all() for name, value in uncut.read(kind).items())
    assert all((value == resumed.state()[name]).all() for name, value in uncut.state().items())
