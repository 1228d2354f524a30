"""Normalised gates in the engine against their formula, written out here in torch in float64: learning, reading."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from support.engine_pairs import V, chunk, distance, lanes, mask, tensor
from support.instruction_sets import ISAS, needs_kernel
from support.int8_reference import Int8Reference

from storycell.config import TrainSettings
from storycell.context import TABLE, Context
from storycell.engine import EngineModel, EngineNetwork
from storycell.engine.cells import NORMALISED_LSTM
from storycell.engine.library import use_isa
from storycell.generation.sampler import Draw
from storycell.language_model import Choice, Generated, State
from storycell.nn.model import CharLM
from storycell.nn.optim import build_optimizer

pytestmark = needs_kernel

EXACT = 1e-5  # float32's rounding, of the norm
BF16 = 0.03
SIZES = [
    (1, 2, 5, 0),
    (1, 24, 16, 9),
    (2, 17, 7, 9),
    (2, 24, 37, 0),
    (2, 256, 3, 9),
]  # layers, hidden, streams, embedding
GREEDY, DRAWN = Choice(1.0, 1.0, 0.0, 0, True), Choice(0.8, 0.95, 0.0, 0, False)
Tensors = Mapping[str, torch.Tensor]
every_size = pytest.mark.parametrize(("L", "H", "B", "D"), SIZES)
every_precision = pytest.mark.parametrize("precision", ["fp32", "bf16"])


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    use_isa(request.param)
    yield request.param
    use_isa("")


def engine_of(L: int, H: int, D: int, **keywords: Any) -> EngineModel:
    """With biases that differ, and a table of the context that has been learnt."""
    engine = EngineModel(V, H, L, embedding_size=D, gate_norm=True, **keywords)
    engine.initialise(1)
    random = np.random.default_rng(2)
    engine.write({name: random.normal(0, 1, s) for name, s in engine.shapes.items() if "bias" in name or name == TABLE})
    return engine


def weights_of(engine: EngineModel) -> dict[str, torch.Tensor]:
    return {name: tensor(weight).double().requires_grad_() for name, weight in engine.read().items()}


def logits_of(
    w: Tensors,
    ids: np.ndarray,
    state: Tensors | None = None,
    *,
    past: np.ndarray | None = None,
    context: Context | None = None,
    seed: int = 0,
    dropout: float = 0.0,
    weight_dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    nodes: list[torch.Tensor] | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """ids `[B T]` -> logits `[B T V]` and the states after each character, `[L B T H]`: the definition.

    `nodes` gets h and c of every character of every layer, one after the other.
    """
    (B, T), L = ids.shape, sum("weight_hh" in name for name in w)
    H, wide = w["output.weight"].shape[1], lanes(w["output.weight"].shape[1])
    embedding = w.get("embedding.weight", torch.eye(V, dtype=torch.float64))
    if embedding_dropout:
        embedding = embedding * tensor(mask((lanes(V),), embedding_dropout, seed, 0))[:V, None]
    x = embedding[tensor(ids)]
    if context:
        before = np.zeros((B, context.memory), np.int64) if past is None else past
        x = x + w[TABLE][tensor(context.rows_of(ids, before))].sum(2)
    every: dict[str, list[torch.Tensor]] = {"h": [], "c": []}
    for k in range(L):
        W, U = w[f"recurrent.weight_ih_l{k}"], w[f"recurrent.weight_hh_l{k}"]
        b_x, b_h = w[f"recurrent.bias_ih_l{k}"], w[f"recurrent.bias_hh_l{k}"]
        if weight_dropout:
            U = U * tensor(mask((4, wide, wide), weight_dropout, seed, 1 + k)[:, :H, :H].reshape(4 * H, H))
        h, c = (torch.zeros(B, H, dtype=torch.float64) if state is None else state[name][k] for name in "hc")
        hs, cs = [], []
        for t in range(T):
            sums = (x[:, t] @ W.T + h @ U.T + b_h).view(B, 4, H)
            normalised = sums / torch.sqrt(sums.square().mean(-1, keepdim=True) + 1e-5)
            i, f, g, o = (normalised.reshape(B, 4 * H) + b_x).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            hs.append(h)
            cs.append(c)
            if nodes is not None:
                nodes += [h, c]
        x = torch.stack(hs, 1)
        every["h"].append(x)
        every["c"].append(torch.stack(cs, 1))
        if dropout:
            x = x * tensor(mask((T, B, wide), dropout, seed, 1 + L + k)[:, :, :H]).transpose(0, 1)
    return x @ w["output.weight"].T + w["output.bias"], {name: torch.stack(value) for name, value in every.items()}


def loss_of(logits: torch.Tensor, targets: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits.reshape(-1, V), tensor(targets).reshape(-1))


def assert_gradients(engine: EngineModel, w: Tensors, norm: float, allowed: float) -> None:
    exact = {name: weight.grad.numpy() for name, weight in w.items() if weight.grad is not None}
    whole = np.sqrt(sum(float((g**2).sum()) for g in exact.values()))
    assert norm == pytest.approx(whole, rel=max(allowed, EXACT))
    ours = engine.read("gradient")
    assert set(ours) == set(exact)
    for name, gradient in exact.items():
        assert np.abs(gradient).max() > 0
        assert np.linalg.norm(ours[name] - gradient) <= allowed * whole, name


@every_size
def test_loss_and_gradients_are_the_definitions(L: int, H: int, B: int, D: int) -> None:
    engine = engine_of(L, H, D)
    w, (ids, targets) = weights_of(engine), chunk(B, 9)
    loss = loss_of(logits_of(w, ids)[0], targets)
    loss.backward()
    nats, norm = engine.gradient(ids, targets)
    assert nats == pytest.approx(loss.item(), rel=EXACT)
    assert_gradients(engine, w, norm, EXACT)


@every_precision
def test_every_instruction_set_has_the_definitions_gradients(precision: str, isa: str) -> None:
    engine = engine_of(2, 40, 9, precision=precision)
    w, (ids, targets) = weights_of(engine), chunk(37, 11)
    loss = loss_of(logits_of(w, ids)[0], targets)
    loss.backward()
    nats, norm = engine.gradient(ids, targets)
    assert nats == pytest.approx(loss.item(), rel=EXACT if precision == "fp32" else 1e-3)
    assert_gradients(engine, w, norm, EXACT if precision == "fp32" else BF16)


@every_size
def test_gradients_in_bf16_are_near_the_definitions(L: int, H: int, B: int, D: int) -> None:
    engine = engine_of(L, H, D, precision="bf16")
    w, (ids, targets) = weights_of(engine), chunk(B, 9)
    loss = loss_of(logits_of(w, ids)[0], targets)
    loss.backward()
    nats, norm = engine.gradient(ids, targets)
    assert nats == pytest.approx(loss.item(), rel=2e-3)
    assert_gradients(engine, w, norm, BF16)


@pytest.mark.parametrize("D", [0, 9])
def test_dropout_drops_what_it_drops_of_other_gates(D: int) -> None:
    shares = {"dropout": 0.2, "weight_dropout": 0.3, "embedding_dropout": 0.4 if D else 0.0}
    engine = engine_of(2, 17, D, **shares)
    w, (ids, targets) = weights_of(engine), chunk(6, 8)
    loss = loss_of(logits_of(w, ids, seed=12345, **shares)[0], targets)
    loss.backward()
    nats, norm = engine.gradient(ids, targets, seed=12345)
    assert nats == pytest.approx(loss.item(), rel=EXACT)
    assert_gradients(engine, w, norm, EXACT)


def test_soft_targets_are_learnt_from() -> None:
    engine = engine_of(1, 17, 9)
    w, (ids, targets) = weights_of(engine), chunk(6, 8)
    soft = np.random.default_rng(3).dirichlet(np.ones(V), ids.shape).astype(np.float32)
    logits, _ = logits_of(w, ids)
    cross = -(tensor(soft) * logits.log_softmax(-1)).sum(-1).mean()
    (0.7 * loss_of(logits, targets) + 0.3 * cross).backward()
    _, norm = engine.gradient(ids, targets, soft=soft, share=0.3)
    assert_gradients(engine, w, norm, EXACT)


@pytest.mark.parametrize(
    "sizes", [{}, {"ngrams": 4, "ngram_rows": 37}, {"matches": 6}], ids=["plain", "ngrams", "matches"]
)
@pytest.mark.parametrize("optimizer", ["adamw", "normuon"])
def test_training_is_the_definitions(optimizer: str, sizes: dict[str, int]) -> None:
    engine = engine_of(2, 24, 9, **sizes)
    model = CharLM(V, 24, 2, embedding_size=9, backend="reference", precision="fp32", **sizes)  # its parameters alone
    with torch.no_grad():
        for name, weight in engine.read().items():
            model.get_parameter(name).copy_(tensor(weight))
    model.double()
    w = dict(model.named_parameters())
    settings = TrainSettings.model_validate({"optimizer": optimizer, "lr": 0.01, "weight_decay": 0.1})
    torchs = build_optimizer(model, settings)
    state, past = None, np.zeros((5, engine.context.memory), np.int64)
    for step in range(4):
        ids, targets = chunk(5, 9, step)
        torchs.zero_grad()
        logits, every = logits_of(w, ids, state, past=past, context=engine.context)
        loss = loss_of(logits, targets)
        loss.backward()
        state = {name: value[:, :, -1].detach() for name, value in every.items()}
        past = engine.context.past_after(ids, past) if engine.context else past
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item()
        torchs.step()
        nats, ours = engine.gradient(ids, targets, carries=True)
        assert (nats, ours) == pytest.approx((loss.item(), norm), rel=1e-4)
        engine.apply(0.01, optimizer=optimizer, clip=0.5, decay=0.1)
        for name, value in engine.state().items():
            if name != "past":
                assert distance(value, state[name]) < 1e-4
    for name, weight in engine.read().items():
        assert distance(weight, w[name].detach()) < 1e-3, name  # divisions by small moments


def test_the_same_weights_without_it_give_other_losses() -> None:
    engine, plain = engine_of(1, 17, 9), EngineModel(V, 17, 1, embedding_size=9)
    plain.write(engine.read())
    assert abs(engine.gradient(*chunk(5, 9))[0] - plain.gradient(*chunk(5, 9))[0]) > 1e-3
    assert not np.allclose(engine.network().logits([[3, 4]])[0], plain.network().logits([[3, 4]])[0], atol=1e-3)


@every_precision
@pytest.mark.parametrize("B", [1, 7, 16, 37])
def test_bits_do_not_depend_on_threads(B: int, precision: str) -> None:
    """More streams than sums are kept of, as many, and fewer; so wide that threads would share units otherwise."""
    found = []
    for threads in (1, 2, 3, 16):
        engine = engine_of(2, 272 if B == 1 else 40, 9, threads=threads, precision=precision, dropout=0.2)
        for step in range(2):
            engine.gradient(*chunk(B, 128 // B, step), carries=True, seed=step)
            engine.apply(0.01, optimizer="normuon", clip=0.5)
        found.append(engine.snapshot())
    for other in found[1:]:
        assert all((found[0][name] == other[name]).all() for name in other)


@every_precision
def test_resume_is_bitwise(precision: str) -> None:
    def train(engine: EngineModel, steps: range) -> dict[str, Any]:
        for step in steps:
            engine.gradient(*chunk(5, 9, step), carries=True, seed=step)
            engine.apply(0.01, optimizer="normuon", clip=0.5, decay=0.1)
            engine.average(0.9)
        return engine.snapshot()

    def new() -> EngineModel:
        return engine_of(2, 17, 9, precision=precision, dropout=0.1, weight_dropout=0.2, embedding_dropout=0.3)

    uncut, resumed = new(), new()
    train(resumed, range(7, 8))
    resumed.restore(train(uncut, range(3)))
    ours, theirs = train(resumed, range(3, 6)), train(uncut, range(3, 6))
    assert set(ours) == set(theirs)
    assert all((value == ours[name]).all() for name, value in theirs.items())


def pair(L: int, H: int, D: int, **keywords: Any) -> tuple[Tensors, EngineNetwork]:
    engine = engine_of(L, H, D)
    w = {name: weight.detach() for name, weight in weights_of(engine).items()}
    return w, engine.network(**{"threads": 2, **keywords})


def state_of(network: EngineNetwork, B: int) -> State:
    random = np.random.default_rng(2)
    return {name: random.normal(0, 0.5, z.shape).astype(np.float32) for name, z in network.zero_state(B).items()}


def doubles(state: State) -> dict[str, torch.Tensor]:
    return {name: tensor(value).double() for name, value in state.items()}


@every_size
def test_what_is_read_is_the_definitions(L: int, H: int, B: int, D: int) -> None:
    w, network = pair(L, H, D)
    assert network.gate_norm
    ids, targets = chunk(B, 12)
    state = state_of(network, B)
    expected, every = logits_of(w, ids, doubles(state))
    logits, after = network.logits(ids, state)
    assert logits == pytest.approx(expected.numpy(), abs=EXACT)
    nats, _ = network.nats(ids, targets, state)
    losses = torch.nn.functional.cross_entropy(expected.mT, tensor(targets), reduction="none")
    assert nats == pytest.approx(losses.numpy(), abs=EXACT)
    for name, value in network.states(ids, state).items():
        assert value == pytest.approx(every[name].numpy(), abs=EXACT)
        np.testing.assert_array_equal(value[:, :, -1], after[name])


def test_every_instruction_set_reads_what_the_definition_says(isa: str) -> None:
    w, network = pair(2, 40, 9)
    ids, _ = chunk(5, 12)
    assert network.logits(ids)[0] == pytest.approx(logits_of(w, ids)[0].numpy(), abs=EXACT)


def test_what_is_read_does_not_depend_on_threads_or_rows_or_pieces() -> None:
    _, network = pair(2, 17, 9)
    ids, state = chunk(7, 700)[0], state_of(network, 7)
    logits, after = network.logits(ids, state)
    first, between = network.logits(ids[:, :301], state)
    rest, last = network.logits(ids[:, 301:], between)
    np.testing.assert_array_equal(np.concatenate((first, rest), 1), logits)
    assert all((last[name] == value).all() for name, value in after.items())
    for threads in (1, 3):
        np.testing.assert_array_equal(pair(2, 17, 9, threads=threads)[1].logits(ids, state)[0], logits)
    for b in range(7):
        alone = {name: value[:, b : b + 1] for name, value in state.items()}
        np.testing.assert_array_equal(network.logits(ids[b : b + 1], alone)[0][0], logits[b])


def test_steps_of_the_layers_are_the_whole_text() -> None:
    w, network = pair(2, 17, 9)
    ids, start = chunk(4, 6)[0], state_of(network, 4)
    state = [{name: value[k] for name, value in start.items()} for k in range(2)]
    for t in range(6):
        x = network.inputs(ids[:, t : t + 1])[:, 0]
        for k in range(2):
            state[k] = network.layer_step(k, x, state[k])
            assert tuple(state[k]) == NORMALISED_LSTM.value_names
            x = state[k]["h"]
    assert network.output(x) == pytest.approx(logits_of(w, ids, doubles(start))[0][:, -1].numpy(), abs=EXACT)


@pytest.mark.parametrize(("L", "H", "N", "K", "D"), [(1, 1, 1, 1, 0), (1, 9, 2, 7, 9), (3, 17, 5, 12, 9)])
def test_gradients_of_states_are_autograds(L: int, H: int, N: int, K: int, D: int) -> None:
    w, network = pair(L, H, D)
    (ids, _), targets = chunk(N, K), chunk(N, 1)[1][:, 0]
    start = state_of(network, N)
    state = [{name: value[k] for name, value in start.items()} for k in range(L)]
    found = network.state_gradients(ids, targets, state)
    leaves = {name: value.requires_grad_() for name, value in doubles(start).items()}
    nodes: list[torch.Tensor] = []
    logits, _ = logits_of(w, ids, leaves, nodes=nodes)
    loss = torch.nn.functional.cross_entropy(logits[:, -1], tensor(targets), reduction="sum")
    exact = torch.autograd.grad(loss, nodes)
    for at, (k, t, name) in enumerate((k, t, name) for k in range(L) for t in range(K) for name in "hc"):
        gradient = exact[at]
        assert found[name, k][:, t] == pytest.approx(
            gradient.numpy(), abs=EXACT * max(1.0, gradient.abs().max().item())
        )
    assert len(nodes) == 2 * L * K


def write(network: EngineNetwork, state: State, chars: int, choice: Choice) -> Generated:
    B = state["h"].shape[1]
    random = np.array([Draw(seed).words for seed in range(B)])
    return network.generate(np.arange(B) % V, state, random, [choice] * B, chars, logits=True)


def fed_to(written: Generated) -> np.ndarray:
    return np.concatenate((np.arange(len(written.ids))[:, None] % V, written.ids[:, :-1]), axis=1)


@pytest.mark.parametrize("choice", [GREEDY, DRAWN])
@pytest.mark.parametrize("B", [1, 7, 70])
@pytest.mark.parametrize(("L", "H", "D"), [(1, 24, 0), (2, 17, 9), (1, 256, 9)])
def test_text_is_drawn_from_the_logits_of_reading(L: int, H: int, D: int, B: int, choice: Choice) -> None:
    _, network = pair(L, H, D)
    state = state_of(network, B)
    written = write(network, state, 30, choice)
    logits, after = network.logits(fed_to(written), state)
    np.testing.assert_array_equal(written.logits, logits)
    assert all((written.state[name] == value).all() for name, value in after.items())
    if choice.greedy:
        logits[:, :, 1] = -np.inf  # the unknown character is never written
        np.testing.assert_array_equal(written.ids, logits.argmax(-1))
    else:
        assert len(np.unique(written.ids)) > 5


@pytest.mark.parametrize("sizes", [{"ngrams": 4, "ngram_rows": 37}, {"matches": 6}], ids=["ngrams", "matches"])
def test_text_with_a_context_is_drawn_from_the_logits_of_reading(sizes: dict[str, int]) -> None:
    engine = engine_of(2, 17, 9, **sizes)
    network = engine.network(threads=2)
    state = network.zero_state(7)
    written = write(network, state, 30, DRAWN)
    np.testing.assert_array_equal(written.logits, network.logits(fed_to(written), state)[0])
    w = {name: weight.detach() for name, weight in weights_of(engine).items()}
    expected, _ = logits_of(w, fed_to(written), context=engine.context)
    assert written.logits == pytest.approx(expected.numpy(), abs=EXACT)


@pytest.mark.parametrize("B", [1, 7, 70])
def test_text_in_bf16_is_nearly_reading_s_choice(B: int, isa: str) -> None:
    _, network = pair(2, 40, 9, generates_in="bf16")
    state = state_of(network, B)
    written = write(network, state, 30, GREEDY)
    logits, _ = network.logits(fed_to(written), state)
    assert written.logits is not None
    assert 0 < np.abs(written.logits - logits).max() < 0.05
    logits[:, :, 1] = -np.inf
    chosen = np.take_along_axis(logits, written.ids[:, :, None], -1)[:, :, 0]
    assert (chosen >= logits.max(-1) - 0.1).all()
    assert (written.ids == logits.argmax(-1)).mean() > 0.95


def test_text_in_int8_is_that_of_the_reference(isa: str) -> None:
    """But where float32's last digit decides how a hidden state is rounded, which moves a logit by a hundredth."""
    for L, H, B, D in ((1, 1, 1, 0), (1, 16, 4, 9), (2, 17, 7, 9)):
        _, network = pair(L, H, D, generates_in="int8")
        reference, state = Int8Reference(network.weights(), "lstm", gate_norm=True), state_of(network, B)
        errors = []
        for fed in np.random.default_rng(5).integers(0, V, (20, B)):
            random = np.array([Draw(seed).words for seed in range(B)])
            written = network.generate(fed, state, random, [DRAWN] * B, 1, logits=True)
            logits, state = reference.step(fed, state)
            assert written.logits is not None
            errors.append(np.abs(written.logits[:, 0] - logits))
            for name, value in state.items():
                rounded = 0.51 / 127 if name == "h" else 1e-5
                assert written.state[name] == pytest.approx(value, abs=rounded + (0.05 if L > 1 else 0.0))
        assert (np.array(errors) < 1e-5).mean() > 0.98
        assert np.max(errors) < 0.05


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_text_does_not_depend_on_threads_or_on_the_rows_beside(precision: str) -> None:
    _, network = pair(2, 40, 9, generates_in=precision)
    state = state_of(network, 7)
    written = write(network, state, 40, DRAWN)
    for threads in (1, 3):
        other = write(pair(2, 40, 9, generates_in=precision, threads=threads)[1], state, 40, DRAWN)
        np.testing.assert_array_equal(other.ids, written.ids)
        np.testing.assert_array_equal(other.logits, written.logits)
    for b in range(7):
        alone = {name: value[:, b : b + 1] for name, value in state.items()}
        random = np.array([Draw(b).words])
        one = network.generate(np.array([b]), alone, random, [DRAWN], 40, logits=True)
        np.testing.assert_array_equal(one.ids[0], written.ids[b])


def test_networks_made_of_one_another_keep_it() -> None:
    engine = engine_of(1, 17, 9)
    network = engine.network()
    assert engine.gate_norm
    expected = network.logits([[2, 3, 4]])[0]
    np.testing.assert_array_equal(network.with_weights(network.weights()).logits([[2, 3, 4]])[0], expected)
    assert network.copy_untrained(3).gate_norm
    assert not EngineModel(V, 17).gate_norm
    assert not EngineModel(V, 17).network().gate_norm


def test_other_cells_and_gates_without_biases_are_refused() -> None:
    for keywords in ({"cell": "gru"}, {"cell": "rnn"}, {"gate_bias": False}):
        with pytest.raises(ValueError, match="gate_norm needs the cell lstm and gate biases"):
            EngineModel(V, 17, gate_norm=True, **keywords)
        plain = EngineModel(V, 17, **keywords)
        with pytest.raises(ValueError, match="gate_norm needs the cell lstm and gate biases"):
            plain.network(gate_norm=True)
