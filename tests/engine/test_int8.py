"""Generation in int8: the text of a numpy reference, on every instruction set; close to float32; no NaN goes unseen.

In: `storycell.engine` with `generates_in="int8"`. The kernels' own sums of bytes are in native/tests/.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.instruction_sets import ISAS
from support.int8_reference import Int8Reference

import storycell
from storycell.context import PAST, TABLE
from storycell.engine import EngineNetwork
from storycell.engine.cells import weight_shapes
from storycell.engine.library import use_isa
from storycell.errors import BackendError, SettingsError
from storycell.generation.sampler import Draw
from storycell.language_model import Choice, Generated, State
from storycell.types import UNKNOWN

V = 23
GREEDY = Choice(1.0, 1.0, 0.0, 0, True)
DRAWN = Choice(0.9, 0.95, 0.0, 0, False)
STORIES = Path(__file__).parents[1] / "data" / "stories-100.txt"
every_cell = pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    use_isa(request.param)
    yield request.param
    use_isa("")


def network(cell: str = "lstm", L: int = 2, H: int = 17, embedding: int = 9, bias: bool = True) -> EngineNetwork:
    random = np.random.default_rng(L + H)
    shapes = weight_shapes(V, H, L, cell, embedding, bias)
    weights = {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    return EngineNetwork(weights, cell, generates_in="int8", threads=1)


def state_of(of: EngineNetwork, B: int) -> State:
    """States as large as no text makes them: some are outside [-1, 1]."""
    random = np.random.default_rng(2)
    return {name: random.normal(0, 0.7, zero.shape).astype(np.float32) for name, zero in of.zero_state(B).items()}


def write(of: EngineNetwork, state: State, fed: np.ndarray, chars: int, choice: Choice = DRAWN) -> Generated:
    random = np.array([Draw(seed).words for seed in range(len(fed))])
    written = of.generate(fed, state, random, [choice] * len(fed), chars, logits=True)
    assert written is not None
    return written


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("embedding", [0, 9])
@every_cell
def test_logits_and_states_are_the_reference_s(cell: str, embedding: int, bias: bool, isa: str) -> None:
    """But where float32's last digit decides how a hidden state is rounded, which moves a logit by a hundredth."""
    for L, H, B in ((1, 1, 1), (1, 16, 4), (2, 17, 7), (3, 35, 13)):
        lm = network(cell, L, H, embedding, bias)
        reference, state = Int8Reference(lm.weights(), cell), state_of(lm, B)
        errors = []
        for fed in np.random.default_rng(5).integers(0, V, (20, B)):
            written = write(lm, state, fed, 1)
            logits, state = reference.step(fed, state)
            assert written.logits is not None
            errors.append(np.abs(written.logits[:, 0] - logits))
            for name, value in state.items():
                rounded = 0.51 / 127 if name == "h" and cell != "gru" else 1e-5  # other cells carry on 127ths
                assert written.state[name] == pytest.approx(value, abs=rounded + (0.02 if L > 1 else 0.0))
            assert written.ids.shape == (B, 1)
            assert not (written.ids == UNKNOWN).any()
        assert (np.array(errors) < 1e-5).mean() > 0.99
        assert np.max(errors) < 0.02


def test_greedy_text_of_the_demo_is_the_reference_s_to_the_character(isa: str) -> None:
    model = storycell.load("demo", precision="int8")
    lm = model.network
    assert isinstance(lm, EngineNetwork)
    prompt = model.vocab.encode("Once upon a time")
    state = lm.state_after(prompt[None, :-1])
    written = write(lm, state, prompt[-1:], 1000, GREEDY)
    weights, fed, expected = lm.weights(), prompt[-1:].astype(np.int64), []
    reference, past = Int8Reference(weights, lm.cell, gate_norm=lm.gate_norm), state.pop(PAST)[0]
    for _ in range(1000):
        added = lm.context.vectors(weights[TABLE], fed[:, None], past)[:, 0]
        past = lm.context.past_after(fed[:, None], past)
        logits, state = reference.step(fed, state, added)
        logits[:, UNKNOWN] = -np.inf
        fed = logits.argmax(axis=1)
        expected.append(int(fed[0]))
    assert written.ids[0].tolist() == expected
    assert len(set(expected)) > 15


def test_the_demo_s_loss_is_float32_s_within_half_a_percent() -> None:
    model = storycell.load("demo", precision="int8")
    lm = model.network
    assert isinstance(lm, EngineNetwork)
    stories = [s for s in STORIES.read_text(encoding="utf-8").split("<|endoftext|>\n") if len(s) > 300]
    ids = np.stack([model.vocab.encode(story[:301]) for story in stories]).astype(np.int64)
    B, exact = len(ids), lm.nats(ids[:, :-1], ids[:, 1:])[0]
    state, nats = lm.zero_state(B), []
    for t in range(300):
        one = write(lm, state, ids[:, t], 1, GREEDY)
        assert one.logits is not None
        logits, state = one.logits[:, 0].astype(np.float64), one.state
        nats.append(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(B), ids[:, t + 1]])
    rounded = np.stack(nats, axis=1)
    assert B > 30
    assert not np.allclose(rounded, exact, atol=1e-4)  # it is another computation
    assert rounded.mean() == pytest.approx(exact.mean(), rel=0.005)


@every_cell
def test_bits_do_not_depend_on_threads_on_rows_beside_or_on_the_calls(cell: str, isa: str) -> None:
    lm = network(cell, 2, 35)
    state, fed = state_of(lm, 7), np.arange(7)
    whole = write(lm, state, fed, 30)
    other = EngineNetwork(lm.weights(), cell, generates_in="int8", threads=3)
    assert whole.logits is not None
    np.testing.assert_array_equal(write(other, state, fed, 30).logits, whole.logits)
    for b in (0, 3, 6):
        alone = {name: value[:, b : b + 1] for name, value in state.items()}
        random = np.array([Draw(b).words])
        one = lm.generate(fed[b : b + 1], alone, random, [DRAWN], 30, logits=True)
        np.testing.assert_array_equal(one.logits[0], whole.logits[b])
    first = write(lm, state, fed, 11)
    second = lm.generate(first.ids[:, -1], first.state, first.random, [DRAWN] * 7, 19)
    np.testing.assert_array_equal(np.concatenate((first.ids, second.ids), axis=1), whole.ids)
    for name, value in whole.state.items():
        np.testing.assert_array_equal(second.state[name], value)


def test_what_is_not_finite_is_an_error_though_a_byte_holds_no_nan(isa: str) -> None:
    lm = network()
    state, fed = state_of(lm, 2), np.array([2, 3])
    for name, weight in lm.weights().items():
        for wrong in (np.nan, np.inf):
            broken = weight.copy()
            broken.flat[-1] = wrong
            damaged = lm.with_weights(lm.weights() | {name: broken})
            assert damaged.generates_in == "int8"
            with pytest.raises(FloatingPointError, match="not finite"):
                write(damaged, state, fed, 5)
    for name in state:
        broken = {key: value.copy() for key, value in state.items()}
        broken[name][1, 1, 3] = np.nan
        with pytest.raises(FloatingPointError, match="not finite"):
            write(lm, broken, fed, 5)
    assert write(lm, state, fed, 5).ids.shape == (2, 5)


def test_zero_and_tiny_rows_are_zeros_and_huge_ones_stay_finite(isa: str) -> None:
    lm = network()
    state, fed = state_of(lm, 2), np.array([2, 3])
    for scale in (0.0, 1e-44, 1e30):
        weights = lm.weights()
        weights["recurrent.weight_hh_l1"] = weights["recurrent.weight_hh_l1"] * np.float32(scale)
        written = write(lm.with_weights(weights), state, fed, 20)
        assert np.isfinite(written.logits).all()  # type: ignore[arg-type]


def test_only_the_engine_writes_in_int8() -> None:
    with pytest.raises(BackendError, match="precision = int8: only storycell's own engine"):
        storycell.load("demo", backend="reference", precision="int8")
    with pytest.raises(SettingsError, match="precision = 'int4': text is generated in fp32, bf16, int8"):
        storycell.load("demo", precision="int4")
