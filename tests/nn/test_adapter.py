"""`TorchModel` computes what its module computes."""

import numpy as np
import pytest
import torch
from support.instruction_sets import needs_kernel

from storycell.language_model import Choice, LanguageModel
from storycell.nn import adapter
from storycell.nn.adapter import TorchModel
from storycell.nn.cells import registry
from storycell.nn.model import CharLM

V, H, L = 11, 6, 2
CELLS = sorted(registry.cell_names())


def made(cell: str) -> tuple[CharLM, LanguageModel]:
    lm = CharLM(V, H, L, cell, embedding_size=3, backend="reference", seed=3).eval()
    return lm, TorchModel(lm)


@pytest.mark.parametrize("cell", CELLS)
def test_logits_nats_and_states_are_those_of_the_module(cell: str) -> None:
    lm, model = made(cell)
    ids = np.random.default_rng(0).integers(2, V, (3, 7))
    logits, state = model.logits(ids[:, :-1])
    expected, after = lm(torch.tensor(ids[:, :-1]))
    np.testing.assert_array_equal(logits, expected.detach().numpy())
    nats, again = model.nats(ids[:, :-1], ids[:, 1:])
    picked = torch.nn.functional.cross_entropy(expected.mT, torch.tensor(ids[:, 1:]), reduction="none")
    np.testing.assert_allclose(nats, picked.detach().numpy(), rtol=1e-5)
    for name, value in after.items():
        np.testing.assert_array_equal(state[name], value.numpy())
        np.testing.assert_array_equal(again[name], value.numpy())
        np.testing.assert_array_equal(model.state_after(ids[:, :-1])[name], value.numpy())


@pytest.mark.parametrize("cell", CELLS)
def test_steps_of_the_layers_are_the_whole_chunk(cell: str) -> None:
    _, model = made(cell)
    ids = np.random.default_rng(1).integers(2, V, (4, 5))
    state = [{name: value[k] for name, value in model.zero_state(4).items()} for k in range(L)]
    for t in range(5):
        x = model.inputs(ids[:, t : t + 1])[:, 0]
        for k in range(L):
            values = model.layer_step(k, x, state[k])
            assert tuple(values) == model.value_names
            state[k] = {name: values[name] for name in model.state_names}
            x = state[k][model.state_names[0]]
    np.testing.assert_allclose(model.output(x), model.logits(ids)[0][:, -1], atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("piece", [256, 4])
def test_all_states_are_those_after_each_character_however_they_are_cut(
    cell: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_PIECE", piece)
    _, model = made(cell)
    ids = np.random.default_rng(2).integers(2, V, (3, 11))
    _, start = model.logits(ids[:, :2])
    every = model.states(ids[:, 2:], start)
    for t in range(9):
        for name, value in model.state_after(ids[:, 2 : 3 + t], start).items():
            assert every[name].shape == (L, 3, 9, H)
            np.testing.assert_allclose(every[name][:, :, t], value, atol=1e-6)


def test_a_held_value_stays_and_changes_what_follows_from_it() -> None:
    _, model = made("lstm")
    state = {name: np.ones((1, H), np.float32) for name in "hc"}
    x = model.inputs(np.array([[4]]))[0]
    held = model.layer_step(0, x, state, lambda name, v: np.where(np.arange(H) == 2, 0.0, v) if name == "f" else v)
    free = model.layer_step(0, x, state)
    assert held["f"][0, 2] == 0.0
    assert held["c"][0, 2] == pytest.approx(free["i"][0, 2] * free["g"][0, 2])
    np.testing.assert_array_equal(np.delete(held["h"], 2), np.delete(free["h"], 2))


def test_gradients_with_h_cut_pass_through_the_forget_gates_alone() -> None:
    _, model = made("lstm")
    ids = np.random.default_rng(2).integers(2, V, (2, 4))
    state = [{name: np.zeros((2, H), np.float32) for name in "hc"} for _ in range(L)]
    cut = model.state_gradients(ids, ids[:, 0], state, cuts_h=True)
    assert cut["c", 1].shape == (2, 4, H)
    before = state
    forget = []
    for t in range(4):
        x, after = model.inputs(ids[:, t : t + 1])[:, 0], []
        for k in range(L):
            values = model.layer_step(k, x, before[k])
            after.append({name: values[name] for name in "hc"})
            x = values["h"]
        forget.append(values["f"])
        before = after
    np.testing.assert_allclose(cut["c", 1][:, 2], cut["c", 1][:, 3] * forget[3], rtol=1e-4, atol=1e-7)


def test_other_weights_make_another_model_and_leave_this_one() -> None:
    lm, model = made("gru")
    weights = model.weights()
    weights["output.bias"][4] += 1
    other = model.with_weights(weights)
    ids = np.array([[2, 3]])
    np.testing.assert_allclose(other.logits(ids)[0][..., 4], model.logits(ids)[0][..., 4] + 1, rtol=1e-6)
    with pytest.raises(ValueError, match="size mismatch"):
        model.with_weights({**weights, "output.bias": np.zeros(3, np.float32)})
    fresh = CharLM(V, H, L, "gru", embedding_size=3, seed=9)
    np.testing.assert_array_equal(
        model.copy_untrained(9).weights()["output.weight"], fresh.output.weight.detach().numpy()
    )
    assert lm.output.bias[4] == model.weights()["output.bias"][4]


def test_only_the_native_backend_writes_in_one_call() -> None:
    _, model = made("lstm")
    arguments = (np.array([0]), model.zero_state(1), np.array([[1, 2, 3, 4]]), [Choice(1.0, 1.0, 0.0, 0, True)], 5)
    assert model.generate(*arguments) is None
    native = TorchModel(CharLM(V, H, L, "lstm", embedding_size=3, backend="native", seed=3))
    written = native.generate(*arguments, logits=True)
    assert written is not None
    assert written.logits is not None
    likeliest = np.where(np.arange(V) == 1, -np.inf, written.logits).argmax(-1)
    np.testing.assert_array_equal(written.ids, likeliest)


@needs_kernel
def test_other_weights_generate_in_the_same_precision() -> None:
    model = TorchModel(CharLM(V, H, L, embedding_size=3, backend="native").eval().write_in("bf16"))
    assert model.with_weights(model.weights()).generates_in == "bf16"


@needs_kernel
def test_a_frozen_model_computes_the_same_and_looks_at_its_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TorchModel(CharLM(30, 20, layers=2, seed=6, backend="native").eval())
    looks: list[int] = []
    generator, scorer = TorchModel._generator, CharLM.scorer
    monkeypatch.setattr(TorchModel, "_generator", lambda self: (looks.append(1), generator(self))[1])
    monkeypatch.setattr(CharLM, "scorer", lambda self: (looks.append(2), scorer(self))[1])
    frozen = model.frozen()
    ids = np.arange(2, 14).reshape(2, 6)
    for _ in range(3):
        assert np.array_equal(frozen.nats(ids, ids)[0], model.nats(ids, ids)[0])
        written = [
            one.generate([3], one.zero_state(1), [[1, 2, 3, 4]], [Choice(1.0, 1.0, 0.0, 0, False)], 9)
            for one in (frozen, model)
        ]
        assert np.array_equal(written[0].ids, written[1].ids)
    assert sorted(looks) == [1] * (1 + 3) + [2] * (1 + 3)
