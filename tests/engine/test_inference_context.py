"""A network with n-grams, matches or both as the engine reads and generates with it, against the reference."""

from typing import Any

import numpy as np
import pytest
import torch
from support.instruction_sets import needs_kernel

from storycell.context import TABLE, Context
from storycell.engine import EngineNetwork, inference
from storycell.language_model import Choice
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY

pytestmark = needs_kernel

V, H, D = 19, 17, 9
CONTEXTS = {"n-grams": Context(4, 41, 0, V), "matches": Context(0, 0, 5, V), "both": Context(4, 41, 5, V)}
TIGHT = 1e-5  # of the largest
CELLS = ["lstm", "gru", "rnn"]
DRAWN, GREEDY = Choice(0.8, 1.0, 0.0, 0, False), Choice(1.0, 1.0, 0.0, 0, True)


@pytest.fixture(params=CONTEXTS)
def one(request: pytest.FixtureRequest) -> Context:
    return CONTEXTS[request.param]


def both(one: Context, cell: str = "lstm", L: int = 2, **keywords: str) -> tuple[EngineNetwork, TorchModel]:
    """An engine's network and a reference in float64 with the same weights."""
    given = {"ngrams": one.ngrams, "matches": one.matches}
    lm = CharLM(
        V, H, L, cell, embedding_size=D, backend="reference", precision="fp32", ngram_rows=one.ngram_rows, **given
    )
    with torch.no_grad():
        lm.get_parameter(TABLE).normal_(0, 1, generator=torch.Generator().manual_seed(3))
    weights = {name: p.detach().numpy() for name, p in lm.named_parameters()}
    return EngineNetwork(weights, cell, **given, **keywords), TorchModel(lm.eval().double())


def text(B: int, T: int, seed: int = 1) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(2, V, (B, T))
    ids = np.where(ids < 13, 2 + ids % 3, ids)  # some are frequent, so that there are matches
    ids[:, 0] = BOUNDARY
    ids[::2, T // 2] = BOUNDARY  # a second story
    return ids


def close(a: object, b: object, tolerance: float = TIGHT) -> bool:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-3))


@pytest.mark.parametrize("L", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_logits_losses_and_states_are_the_references(one: Context, cell: str, L: int) -> None:
    network, reference = both(one, cell, L)
    ids = text(3, 30)
    logits, state = network.logits(ids)
    expected, expected_state = reference.logits(ids)
    assert close(logits, expected)
    assert state.keys() == expected_state.keys() == reference.zero_state(3).keys() == network.zero_state(3).keys()
    for name, value in expected_state.items():
        assert close(state[name], value), name
    nats, _ = network.nats(ids[:, :-1], ids[:, 1:])
    assert close(nats, reference.nats(ids[:, :-1], ids[:, 1:])[0])
    every, expected_every = network.states(ids), reference.states(ids)
    assert every.keys() == expected_every.keys()
    for name, value in expected_every.items():
        assert close(every[name], value), name
    assert np.array_equal(state["past"][0], one.past_after(ids, np.zeros((3, one.memory))))


@pytest.mark.parametrize("cell", CELLS)
def test_one_pass_is_chunked_is_step_by_step(one: Context, cell: str) -> None:
    for model in both(one, cell):
        ids = text(3, 24)
        whole, end = model.logits(ids)
        for sizes in ([7, 1, 16], [1] * 24):
            state, parts, at = model.zero_state(3), [], 0
            for size in sizes:
                part, state = model.logits(ids[:, at : at + size], state)
                parts.append(part)
                at += size
            assert close(np.concatenate(parts, axis=1), whole)
            assert all(close(state[name], value) for name, value in end.items())
        zero = model.zero_state(3)
        layers = [{name: zero[name][k] for name in model.state_names} for k in range(2)]
        past = zero["past"][0]
        for t in range(24):  # by the lines of the cells
            x = model.inputs(ids[:, t : t + 1], past)[:, 0]
            for k in range(2):
                values = model.layer_step(k, x, layers[k])
                layers[k], x = {name: values[name] for name in model.state_names}, values["h"]
            past = one.past_after(ids[:, t : t + 1], past)
            assert close(model.output(x), whole[:, t])


@pytest.mark.parametrize("is_built", [True, False])
def test_torch_meets_the_rows_of_the_reference_however_they_are_found(
    one: Context, is_built: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the engine, which is much faster, where it was built."""
    found, plain = [], []
    rows_of, library = Context.rows_of, inference.library.library

    def by_engine() -> Any:
        if not is_built:
            raise ImportError
        found.append(1)
        return library()

    def by_numpy(*given: Any) -> Any:
        plain.append(given)
        return rows_of(*given)

    _, reference = both(one)
    lm = reference.lm.float()
    ids, past = text(3, 30), np.random.default_rng(2).integers(2, 5, (3, one.memory))
    tensors = torch.from_numpy(ids), torch.from_numpy(past).float()
    expected = lm.vectors(*tensors)
    monkeypatch.setattr(inference.library, "library", by_engine)
    monkeypatch.setattr(Context, "rows_of", by_numpy)
    assert torch.equal(lm.use("torch").vectors(*tensors), expected)
    assert (len(found), len(plain)) == ((1, 0) if is_built else (0, 1))
    assert torch.equal(lm.use("reference").vectors(*tensors), expected)
    assert len(plain) == (1 if is_built else 2)


def test_a_story_is_read_as_if_nothing_were_before_it(one: Context) -> None:
    """But for the carried state, which is set back here: contexts do not reach across a boundary."""
    network, _ = both(one)
    ids = text(1, 30)
    state = network.zero_state(1)
    first = network.state_after(ids, state)
    alone, _ = network.logits(ids)
    behind, _ = network.logits(ids, state | {"past": first["past"]})
    assert first["past"].any()
    assert np.array_equal(alone, behind)
    inside, _ = network.logits(ids[:, 1:], state | {"past": first["past"]})
    assert not np.array_equal(network.logits(ids[:, 1:])[0], inside)


def test_rows_of_a_batch_do_not_touch_each_other(one: Context) -> None:
    network, _ = both(one)
    ids = text(9, 20)
    together, _ = network.nats(ids[:, :-1], ids[:, 1:])
    for b in range(9):
        assert np.array_equal(network.nats(ids[b : b + 1, :-1], ids[b : b + 1, 1:])[0], together[b : b + 1])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("L", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_generated_is_what_the_logits_say(one: Context, cell: str, L: int, precision: str) -> None:
    network, _ = both(one, cell, L, generates_in=precision)
    B, chars = 3, 40
    state = network.state_after(text(B, 12))
    fed = np.array([2, 3, 4])
    random = np.random.default_rng(5).integers(1, 2**32, (B, 4))
    written = network.generate(fed, state, random, [DRAWN, GREEDY, DRAWN], chars, logits=True)
    read = np.concatenate([fed[:, None], written.ids[:, :-1]], axis=1)
    logits, after = network.logits(read, state)
    # Boundaries are drawn like any character; what follows one means nothing to callers but is the same here.
    assert close(written.logits, logits, {"fp32": 1e-4, "bf16": 0.05, "int8": 0.15}[precision])
    assert np.array_equal(written.state["past"], after["past"])
    two = network.generate(fed, state, random, [DRAWN, GREEDY, DRAWN], 15)
    rest = network.generate(two.ids[:, -1], two.state, two.random, [DRAWN, GREEDY, DRAWN], chars - 15)
    if precision == "fp32":  # the others round the state that is handed over
        assert np.array_equal(np.concatenate([two.ids, rest.ids], axis=1), written.ids)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_through_time_are_the_references(one: Context, cell: str) -> None:
    network, reference = both(one, cell)
    before = network.state_after(text(4, 12))
    start = [{name: value[k] for name, value in before.items() if k < len(value)} for k in range(2)]
    ids, targets = text(4, 6, 2)[:, 1:], np.array([2, 3, 4, 5])
    expected = reference.state_gradients(ids, targets, start)
    for key, gradient in network.state_gradients(ids, targets, start).items():
        assert close(gradient, expected[key], 1e-4), key


def test_copies_keep_their_context(one: Context) -> None:
    network, _ = both(one)
    ids = text(2, 10)
    assert np.array_equal(network.with_weights(network.weights()).logits(ids)[0], network.logits(ids)[0])
    untrained = network.copy_untrained(1)
    assert untrained.context == network.context == one
    assert not untrained.weights()[TABLE].any()


def test_networks_and_states_that_do_not_fit_are_refused(one: Context) -> None:
    network, _ = both(one)
    weights = network.weights()
    for ngrams, matches in ((0, 0), (1, 0), (17, 0), (-1, 0), (0, 1), (0, 6), (0, 65), (0, -1), (0, 5), (4, 5)):
        if (ngrams, matches) != (one.ngrams, one.matches):
            with pytest.raises(ValueError, match="n-grams"):
                EngineNetwork(weights, ngrams=ngrams, matches=matches)
    with pytest.raises(ValueError, match="n-grams"):
        EngineNetwork({name: w for name, w in weights.items() if name != TABLE}, ngrams=one.ngrams, matches=one.matches)
    state = network.zero_state(2)
    with pytest.raises(ValueError, match="a state must have h, c, past"):
        network.logits(text(2, 5), {"h": state["h"], "c": state["c"]})
    with pytest.raises(IndexError):
        network.logits(text(2, 5), state | {"past": np.full_like(state["past"], V)})
    with pytest.raises(IndexError):
        network.logits(np.full((2, 5), V))
