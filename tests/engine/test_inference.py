"""What the engine computes of a text, against the reference cells in float64, and what it writes, against torch's side.

The kernels' own tests are in tests/native/; these hold whole networks.
"""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from storycell.engine import EngineModel, EngineNetwork
from storycell.engine.cells import CELLS
from storycell.generation.sampler import Draw
from storycell.language_model import Choice, LanguageModel, State
from storycell.nn.adapter import TorchModel
from storycell.nn.cells import registry
from storycell.nn.model import CharLM

EXACT = 1e-5  # float32's rounding over a few dozen characters
V = 23
SIZES = [(1, 1, 1, 1), (1, 16, 4, 33), (2, 17, 7, 9), (3, 35, 3, 12)]  # layers, hidden, streams, characters
every_cell = pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
every_input = pytest.mark.parametrize("embedding", [0, 9])
every_bias = pytest.mark.parametrize("bias", [True, False])
every_size = pytest.mark.parametrize(("L", "H", "B", "T"), SIZES)


def pair(
    cell: str = "lstm", L: int = 2, H: int = 17, embedding: int = 9, bias: bool = True, *, precision: str = "fp32"
) -> tuple[CharLM, EngineNetwork]:
    """One model of both sides; the biases, which begin as zeros in part, are random."""
    lm = CharLM(V, H, L, cell, embedding_size=embedding, gate_bias=bias, backend="reference", seed=3).eval()
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if "bias" in name:
                weight.normal_(generator=torch.Generator().manual_seed(len(name)))
    weights = {name: weight.detach().numpy() for name, weight in lm.named_parameters()}
    return lm, EngineNetwork(weights, cell, generates_in=precision, threads=2)


def ids_of(B: int, T: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, (B, T))


def state_of(network: LanguageModel, B: int, seed: int = 2) -> State:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=zero.shape).astype(np.float32) for name, zero in network.zero_state(B).items()}


def tensors(state: State) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value).double() for name, value in state.items()}


def assert_same(ours: State, others: State) -> None:
    assert set(ours) == set(others)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, others[name])


@every_bias
@every_input
@every_size
@every_cell
def test_logits_losses_and_states_are_the_reference_s(
    cell: str, L: int, H: int, B: int, T: int, embedding: int, bias: bool
) -> None:
    lm, network = pair(cell, L, H, embedding, bias)
    ids, targets, state = ids_of(B, T), ids_of(B, T, 5), state_of(network, B)
    with torch.no_grad():
        expected, final = lm.double()(torch.from_numpy(ids), tensors(state))
        losses = torch.nn.functional.cross_entropy(expected.mT, torch.from_numpy(targets), reduction="none")
    logits, after = network.logits(ids, state)
    assert logits == pytest.approx(expected.numpy(), abs=EXACT)
    nats, after_nats = network.nats(ids, targets, state)
    assert nats == pytest.approx(losses.numpy(), abs=EXACT)
    for name, value in final.items():
        assert after[name] == pytest.approx(value.numpy(), abs=EXACT)
    assert_same(after_nats, after)
    assert_same(network.state_after(ids, state), after)
    assert logits.dtype == nats.dtype == after["h"].dtype == np.float32


@every_size
@every_cell
def test_states_on_the_way_are_those_after_each_character(cell: str, L: int, H: int, B: int, T: int) -> None:
    _, network = pair(cell, L, H)
    ids, state = ids_of(B, T), state_of(network, B)
    every = network.states(ids, state)
    for t in range(T):
        assert_same(
            {name: value[:, :, t] for name, value in every.items()}, network.state_after(ids[:, : t + 1], state)
        )


@every_cell
def test_one_pass_is_any_chunks_to_the_bit(cell: str) -> None:
    _, network = pair(cell)
    ids, targets = ids_of(5, 700), ids_of(5, 700, 5)  # two of the engine's own pieces
    logits, after = network.logits(ids)
    nats, _ = network.nats(ids, targets)
    for sizes in ([1] * 20, [300, 41, 1, 358]):
        state, at = None, 0
        for n in sizes:
            piece = slice(at, at + n)
            ours, _ = network.logits(ids[:, piece], state)
            costs, state = network.nats(ids[:, piece], targets[:, piece], state)
            np.testing.assert_array_equal(ours, logits[:, piece])
            np.testing.assert_array_equal(costs, nats[:, piece])
            at += n
    assert state is not None
    assert_same(state, after)


def test_a_large_vocabulary_s_logits_are_those_of_its_pieces() -> None:
    lm = CharLM(40_000, 3, 1, "rnn", embedding_size=2, backend="reference", seed=3).eval()
    network = EngineNetwork(TorchModel(lm).weights(), "rnn", threads=2)
    ids = np.random.default_rng(1).integers(0, 40_000, (2, 130))  # three of the engine's own pieces
    logits, state = network.logits(ids)
    first, between = network.logits(ids[:, :77])
    rest, after = network.logits(ids[:, 77:], between)
    np.testing.assert_array_equal(np.concatenate((first, rest), axis=1), logits)
    assert_same(after, state)
    assert logits[:, -1] == pytest.approx(lm(torch.from_numpy(ids))[0][:, -1].detach().numpy(), abs=EXACT)


@every_cell
def test_no_state_is_the_zero_state_and_a_state_that_is_given_stays(cell: str) -> None:
    _, network = pair(cell)
    ids, zero = ids_of(2, 5), network.zero_state(2)
    np.testing.assert_array_equal(network.logits(ids)[0], network.logits(ids, zero)[0])
    assert all((value == 0).all() for value in zero.values())


@every_cell
def test_bits_do_not_depend_on_threads_or_on_the_rows_beside(cell: str) -> None:
    lm, network = pair(cell)
    weights = {name: weight.detach().numpy() for name, weight in lm.named_parameters()}
    ids, state = ids_of(7, 40), state_of(network, 7)
    logits, after = network.logits(ids, state)
    written = write(network, state)
    for threads in (1, 3):
        other = EngineNetwork(weights, cell, threads=threads)
        ours, final = other.logits(ids, state)
        np.testing.assert_array_equal(ours, logits)
        assert_same(final, after)
        np.testing.assert_array_equal(write(other, state)[0], written[0])
    for b in range(7):
        alone = {name: value[:, b : b + 1] for name, value in state.items()}
        ours, final = network.logits(ids[b : b + 1], alone)
        np.testing.assert_array_equal(ours[0], logits[b])
        assert_same(final, {name: value[:, b : b + 1] for name, value in after.items()})


@every_cell
def test_bits_do_not_depend_on_threads_where_products_are_large_enough_to_be_split(cell: str) -> None:
    lm = CharLM(96, 64, 2, cell, embedding_size=8)
    weights = {name: weight.detach().numpy() for name, weight in lm.named_parameters()}
    ids = np.random.default_rng(2).integers(0, 96, (2, 700))
    found = [EngineNetwork(weights, cell, threads=threads).logits(ids) for threads in (1, 2, 3)]
    for logits, after in found[1:]:
        np.testing.assert_array_equal(logits, found[0][0])
        assert_same(after, found[0][1])


CHOICES = [
    Choice(0.8, 1.0, 0.0, 0, False),
    Choice(1.3, 0.9, 0.0, 0, False),
    Choice(1.0, 1.0, 0.05, 0, False),
    Choice(1.0, 1.0, 0.0, 5, False),
    Choice(0.7, 0.95, 0.01, 12, False),
    Choice(1.0, 1.0, 0.0, 0, True),
    Choice(2.0, 1.0, 0.0, 0, False),
]


def write(model: LanguageModel, state: State, chars: int = 60) -> tuple[np.ndarray, np.ndarray, State, np.ndarray]:
    random = np.array([Draw(seed).words for seed in range(7)])
    written = model.generate(np.arange(7), state, random, CHOICES, chars, logits=True)
    assert written is not None
    assert written.logits is not None
    return written.ids, written.logits, written.state, written.random


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@every_bias
@every_input
@every_cell
def test_text_is_that_of_the_native_generator_to_the_bit(cell: str, embedding: int, bias: bool, precision: str) -> None:
    for L, H in ((1, 16), (2, 17), (3, 5)):
        lm, network = pair(cell, L, H, embedding, bias, precision=precision)
        torch_side = TorchModel(lm.use("native").write_in(precision))
        state = state_of(network, 7)
        ids, logits, after, random = write(network, state)
        expected = write(torch_side, state)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_array_equal(logits, expected[1])
        assert_same(after, expected[2])
        np.testing.assert_array_equal(random, expected[3])
        assert len(np.unique(ids)) > 5
        assert not (ids == 1).any()


@every_cell
def test_logits_kept_are_those_of_the_text_and_two_calls_are_one(cell: str) -> None:
    _, network = pair(cell)
    state = state_of(network, 7)
    ids, logits, after, random = write(network, state)
    fed = np.concatenate((np.arange(7)[:, None], ids[:, :-1]), axis=1)
    read, final = network.logits(fed, state)
    np.testing.assert_array_equal(read, logits)
    assert_same(final, after)
    first = network.generate(np.arange(7), state, np.array([Draw(seed).words for seed in range(7)]), CHOICES, 25)
    second = network.generate(first.ids[:, -1], first.state, first.random, CHOICES, 35)
    np.testing.assert_array_equal(np.concatenate((first.ids, second.ids), axis=1), ids)
    assert_same(second.state, after)
    np.testing.assert_array_equal(second.random, random)
    assert first.logits is None


def test_logits_that_are_not_finite_are_an_error_and_change_nothing() -> None:
    _, network = pair()
    weights = network.weights()
    weights["output.bias"][4] = np.nan
    broken, state = network.with_weights(weights), state_of(network, 2)
    fed, random = np.array([2, 3]), np.array([[1, 2, 3, 4]] * 2)
    before = {name: value.copy() for name, value in state.items()}
    with pytest.raises(FloatingPointError, match="not finite"):
        broken.generate(fed, state, random, CHOICES[:2], 5)
    assert_same(state, before)
    assert fed.tolist() == [2, 3]
    assert random.tolist() == [[1, 2, 3, 4]] * 2
    assert np.isnan(broken.nats([[2]], [[3]])[0]).all()


def test_damaged_weights_are_stepped_through_without_a_warning() -> None:
    _, network = pair()
    damaged = network.with_weights({name: np.full_like(w, np.inf) for name, w in network.weights().items()})
    layer = {name: np.zeros((1, 17), np.float32) for name in "hc"}
    values = damaged.layer_step(0, damaged.inputs([[2]])[:, 0], layer)
    assert np.isnan(damaged.output(values["h"])).all()
    assert np.isnan(damaged.state_gradients([[2, 3]], [4], [layer] * 2)["h", 0]).all()


@every_bias
@every_cell
def test_a_step_is_that_of_the_reference_cell_in_float64(cell: str, bias: bool) -> None:
    ours, theirs = CELLS[cell], registry.get_cell(cell)
    random = np.random.default_rng(4)
    w = {name: random.normal(0, 2, shape) for name, shape in theirs.shapes(6, 5, bias).items()}
    assert ours.shapes(6, 5, bias) == theirs.shapes(6, 5, bias)
    assert (ours.gates, ours.state_names) == (theirs.gates, theirs.state_names)
    x, state = random.normal(0, 9, (4, 6)), {name: random.normal(size=(4, 5)) for name in ours.state_names}

    def both(hold: Callable[[str, np.ndarray], np.ndarray] | None) -> None:
        inside = {name: torch.from_numpy(weight) for name, weight in w.items()}
        before = {name: torch.from_numpy(value) for name, value in state.items()}
        held = () if hold is None else (lambda name, value: torch.from_numpy(hold(name, value.numpy())),)
        expected = theirs.step(torch.from_numpy(x), before, inside, *held)
        found = ours.step(x, state, w) if hold is None else ours.step(x, state, w, hold)
        assert tuple(found) == tuple(expected) == ours.value_names
        for name, value in found.items():
            assert value.dtype == np.float64
            np.testing.assert_allclose(value, expected[name].numpy(), rtol=1e-12, atol=1e-12)

    both(None)
    for held in ours.value_names:
        both(lambda name, value, held=held: np.where(np.arange(5) == 2, 0.25, value) if name == held else value)


@every_input
@every_cell
def test_steps_of_the_layers_are_the_whole_text(cell: str, embedding: int) -> None:
    _, network = pair(cell, 2, 17, embedding)
    ids, start = ids_of(4, 6), state_of(network, 4)
    state = [{name: value[k] for name, value in start.items()} for k in range(2)]
    for t in range(6):
        x = network.inputs(ids[:, t : t + 1])[:, 0]
        assert x.shape == (4, embedding or V)
        for k in range(2):
            values = network.layer_step(k, x, state[k])
            state[k] = {name: values[name] for name in network.state_names}
            x = values["h"]
    logits, after = network.logits(ids, start)
    assert network.output(x) == pytest.approx(logits[:, -1], abs=EXACT)
    for name, value in after.items():
        assert np.stack([layer[name] for layer in state]) == pytest.approx(value, abs=EXACT)


@pytest.mark.parametrize("cuts_h", [False, True])
@every_input
@every_bias
@every_cell
def test_gradients_of_states_are_autograd_s(cell: str, embedding: int, bias: bool, cuts_h: bool) -> None:
    for L, H, N, K in ((1, 1, 1, 1), (1, 9, 2, 7), (3, 17, 5, 12)):
        lm, network = pair(cell, L, H, embedding, bias)
        ids, targets, start = ids_of(N, K), ids_of(N, 1)[:, 0], state_of(network, N)
        state = [{name: value[k] for name, value in start.items()} for k in range(L)]
        found = network.state_gradients(ids, targets, state, cuts_h=cuts_h)
        expected = TorchModel(lm.double()).state_gradients(ids, targets, state, cuts_h=cuts_h)
        assert set(found) == set(expected)
        for key, gradient in expected.items():
            assert found[key].dtype == np.float32
            assert found[key] == pytest.approx(gradient, abs=EXACT * max(1.0, np.abs(gradient).max())), key
        assert any(np.abs(gradient[:, 0]).max() > 0 for gradient in expected.values()) or cuts_h


def test_bad_input_is_refused_with_what_is_wrong() -> None:
    _, network = pair()
    ids, state = ids_of(2, 3), state_of(network, 2)
    random = np.array([[1, 2, 3, 4]] * 2)
    for wrong in (V, -1):
        for call in (
            lambda wrong=wrong: network.logits([[2, wrong]]),
            lambda wrong=wrong: network.nats([[2, 3]], [[wrong, 3]]),
            lambda wrong=wrong: network.state_after([[wrong]]),
            lambda wrong=wrong: network.inputs([[wrong]]),
            lambda wrong=wrong: network.generate([2, wrong], state, random, CHOICES[:2], 3),
        ):
            with pytest.raises(IndexError, match="outside the vocabulary"):
                call()
    for call, message in (
        (lambda: network.logits([2, 3]), r"ids must be \[B T\]"),
        (lambda: network.inputs([2, 3]), r"ids must be \[B T\]"),
        (lambda: network.logits(np.zeros((2, 0), np.int64)), "at least one character"),
        (lambda: network.logits(ids * 1.0), "whole numbers"),
        (lambda: network.nats(ids, ids[:, :2]), "one shape"),
        (lambda: network.logits(ids, {"h": state["h"]}), "a state must have h, c"),
        (lambda: network.logits(ids, {name: value[:, :1] for name, value in state.items()}), r"\[2, 2, 17\]"),
        (lambda: network.generate([2], state, random, CHOICES[:2], 3), r"\[B 4\]"),
        (lambda: network.generate([2, 3], state, random, CHOICES[:1], 3), "1 choices"),
        (lambda: network.generate([2, 3], state, random, CHOICES[:2], 0), "0 characters"),
        (lambda: network.generate([2, 3], state, random * 0, CHOICES[:2], 3), "not all zero"),
        (lambda: network.generate([2, 3], state, random * 2**31, CHOICES[:2], 3), "below 2"),
        (lambda: network.generate([2, 3], state, random, [Choice(0.0, 1, 0, 0, False)] * 2, 3), "out of range"),
        (lambda: EngineNetwork({}, "lstm"), "not the weights of a character model"),
        (lambda: EngineNetwork(network.weights(), "gru"), "not the weights of a character model with the cell 'gru'"),
        (lambda: EngineNetwork(network.weights(), "mlstm"), "the engine has"),
        (lambda: network.with_weights({**network.weights(), "output.bias": np.zeros(3)}), "size mismatch for output"),
        (lambda: network.with_weights({**network.weights(), "more": np.zeros(3)}), "size mismatch for more"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_other_weights_make_another_network_and_leave_this_one() -> None:
    _, network = pair("gru")
    weights = network.weights()
    weights["output.bias"][4] += 1
    other = network.with_weights(weights)
    ids = np.array([[2, 3]])
    np.testing.assert_allclose(other.logits(ids)[0][..., 4], network.logits(ids)[0][..., 4] + 1, rtol=1e-6)
    weights["output.bias"][4] += 7  # neither of them sees it
    np.testing.assert_allclose(other.logits(ids)[0][..., 4], network.logits(ids)[0][..., 4] + 1, rtol=1e-6)
    transposed = network.with_weights({**weights, "output.weight": np.asfortranarray(weights["output.weight"])})
    np.testing.assert_array_equal(transposed.logits(ids)[0][..., :4], network.logits(ids)[0][..., :4])


@every_bias
@every_input
@every_cell
def test_an_untrained_network_is_the_module_that_the_seed_draws(cell: str, embedding: int, bias: bool) -> None:
    lm = CharLM(V, 12, 2, cell, embedding_size=embedding, gate_bias=bias, forget_bias=0.5, seed=7)
    network = EngineNetwork(TorchModel(lm).weights(), cell, forget_bias=0.5)
    drawn, theirs = network.copy_untrained(8).weights(), TorchModel(lm).copy_untrained(8).weights()
    assert [*drawn] == [*theirs]
    for name, weight in theirs.items():
        assert drawn[name] == pytest.approx(weight, rel=1e-5, abs=1e-6)
    assert (theirs["output.weight"] != network.weights()["output.weight"]).any()


@every_cell
def test_a_learning_model_s_network_is_that_of_the_moment(cell: str) -> None:
    _, network = pair(cell)
    model = EngineModel(V, 17, 2, cell, embedding_size=9, threads=2)
    model.write(network.weights())
    ids = ids_of(4, 9)
    before = model.network()
    assert before.threads == 2
    np.testing.assert_array_equal(before.logits(ids)[0], network.logits(ids)[0])
    nats, _ = model.gradient(ids[:, :-1], ids[:, 1:])
    assert nats == pytest.approx(before.nats(ids[:, :-1], ids[:, 1:])[0].mean(), rel=EXACT)
    model.apply(0.1)
    assert (model.network().logits(ids)[0] != before.logits(ids)[0]).any()
    np.testing.assert_array_equal(before.logits(ids)[0], network.logits(ids)[0])


COUNT_THREADS = """
import os
import numpy as np
from storycell.engine import EngineNetwork
from storycell.engine.cells import weight_shapes
from storycell.engine.random import draw_weights
from storycell.language_model import Choice

network = EngineNetwork(draw_weights(weight_shapes(96, 256, 2, "lstm", 64, True), "lstm", 256, 1, -1.0), threads=1)
network.logits(np.full((1, 2), 5))  # packs the weights, which is worth threads
network.threads = 4
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
network.generate(np.array([5]), network.zero_state(1), np.array([[1, 2, 3, 4]]), [Choice(0.8, 1.0, 0.0, 0, False)], 50)
network.logits(np.full((1, 8), 5))
few = count()
network.logits(np.full((1, 512), 5))
print(few - before, count() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux shows them")
def test_no_thread_is_woken_for_one_stream_or_for_a_few_characters() -> None:
    """A thread that wakes for little work, and then looks for more, costs more than it saves."""
    counted = subprocess.run([sys.executable, "-c", COUNT_THREADS], capture_output=True, text=True, check=True)
    assert counted.stdout == "0 3\n"


def test_threads_that_read_at_once_all_find_the_same() -> None:
    lm, _ = pair()
    weights = {name: weight.detach().numpy() for name, weight in lm.named_parameters()}
    for _ in range(5):
        network = EngineNetwork(weights, threads=2)  # packed anew, by whoever comes first
        ids = [ids_of(3, 50, seed) for seed in range(4)]
        found: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * 4
        start = threading.Barrier(4)

        def work(k: int) -> None:
            start.wait()  # noqa: B023
            for _ in range(5):
                found[k] = network.logits(ids[k])[0], write(network, state_of(network, 7, k))[0]  # noqa: B023

        workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        alone = EngineNetwork(weights, threads=1)
        for k in range(4):
            np.testing.assert_array_equal(found[k][0], alone.logits(ids[k])[0])
            np.testing.assert_array_equal(found[k][1], write(alone, state_of(alone, 7, k))[0])


def test_memory_does_not_grow_over_many_calls_and_networks() -> None:
    resource = pytest.importorskip("resource", reason="Windows counts its memory in another way")

    def work(times: int) -> None:
        for seed in range(times):
            network = EngineNetwork(weights, threads=1)
            network.nats(ids_of(8, 400), ids_of(8, 400, seed))
            write(network, network.zero_state(7), 50)

    weights = TorchModel(CharLM(V, 128, 2, embedding_size=0)).weights()  # a megabyte
    work(20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(100)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    )  # KiB; one network each would be 100,000
