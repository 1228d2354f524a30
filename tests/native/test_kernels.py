"""The native kernels against torch in float64, on every instruction set of this machine."""

import gc
import os
import signal
import weakref
from collections.abc import Iterator

import pytest
import torch
from support.instruction_sets import ISAS, needs_kernel

from storycell.nn.backends.backend import Network
from storycell.nn.backends.native import library
from storycell.nn.backends.native.backend import NativeBackend
from storycell.nn.backends.native.generator import Generator
from storycell.nn.backends.native.library import Choice, use_isa
from storycell.nn.backends.native.ops import drop
from storycell.nn.backends.native.stack import Stack
from storycell.nn.backends.torch import TorchBackend
from storycell.nn.cells.cell import State
from storycell.nn.cells.registry import get_cell
from storycell.nn.model import CharLM

pytestmark = needs_kernel


CELLS = ("lstm", "gru", "rnn")
SIZES = [  # V, D, H, L, B, T: odd ones, single ones, and one of real size
    (2, 3, 1, 1, 1, 1),
    (17, 5, 7, 1, 3, 4),
    (96, 33, 33, 2, 5, 9),
    (300, 16, 48, 1, 13, 3),
    (50, 64, 80, 2, 31, 5),
    (96, 64, 256, 2, 9, 20),
]
FP32 = 1e-5  # difference over norm: sums of some hundred float32 products
BF16 = 3e-2  # the same where products take 8 bits of mantissa
ALLOWED_OF_AUTOCAST = 1.5  # times the error of torch's own bf16


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    use_isa(request.param)
    yield request.param
    use_isa("")


def network(cell: str, V: int, D: int, H: int, L: int, *, bf16: bool = False, scale: float = 1.0) -> Network:
    """Random weights of a network; `scale` times torch's usual width."""
    g = torch.Generator().manual_seed(V + D + H + L)

    def uniform(*shape: int) -> torch.Tensor:
        return ((torch.rand(*shape, generator=g) * 2 - 1) * scale * H**-0.5).requires_grad_()

    layers = [
        {name: uniform(*shape) for name, shape in get_cell(cell).shapes(D if k == 0 else H, H, bias=True).items()}
        for k in range(L)
    ]
    embedding = torch.randn(V, D, generator=g).requires_grad_()
    return Network(cell, embedding, layers, uniform(V, H), uniform(V), dropout=0.0, bf16=bf16)


def tensors(n: Network) -> list[torch.Tensor]:
    weights = [w for layer in n.layers for w in layer.values()]
    assert n.embedding is not None
    return [n.embedding, *weights, n.output_weight, n.output_bias]


def random_state(cell: str, L: int, B: int, H: int) -> State:
    return {name: torch.randn(L, B, H).requires_grad_() for name in get_cell(cell).state_names}


def oracle(n: Network, ids: torch.Tensor, state: State) -> tuple[torch.Tensor, State, list[torch.Tensor], State]:
    """By torch's own modules in float64: outputs, final state, and the float64 copies of weights and state."""
    copies = [t.detach().double().requires_grad_() for t in tensors(n)]
    start = {name: value.detach().double().requires_grad_() for name, value in state.items()}
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[n.cell]
    H, D = n.layers[0]["weight_hh"].shape[1], copies[0].shape[1]
    module = kind(D, H, len(n.layers), batch_first=True, dtype=torch.float64)
    names = [f"{name}_l{k}" for k, layer in enumerate(n.layers) for name in layer]
    given = dict(zip(names, copies[1:-2], strict=True))
    h0 = (start["h"], start["c"]) if n.cell == "lstm" else start["h"]
    out, final = torch.func.functional_call(module, given, (copies[0][ids], h0))
    return out, dict(zip(start, final if n.cell == "lstm" else (final,), strict=True)), copies, start


def distance(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    """|a - b| / |b|."""
    assert a is not None
    assert b is not None
    b = b.detach().double()
    return float((a.detach().double() - b).norm() / b.norm().clamp_min(1e-12))


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_losses_states_and_all_gradients_are_torchs(isa: str, size: tuple[int, ...], cell: str, bf16: bool) -> None:
    V, D, H, L, B, T = size
    torch.manual_seed(0)
    n, state = network(cell, V, D, H, L, bf16=bf16), random_state(cell, L, B, H)
    ids, targets = torch.randint(0, V, (B, T)), torch.randint(0, V, (B, T))
    tolerance = BF16 if bf16 else FP32
    out, final, copies, start = oracle(n, ids, state)
    logits = out @ copies[-2].t() + copies[-1]
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    nats, last = NativeBackend().mean_nats(n, ids, targets, state)
    assert nats.item() == pytest.approx(expected.item(), rel=tolerance)
    pull = {name: torch.randn(L, B, H) / (L * B) for name in state}  # the final states take part in the gradient
    (expected + sum((final[k] * pull[k]).sum() for k in state)).backward()
    (nats + sum((last[k] * pull[k]).sum() for k in state)).backward()
    for name in state:
        assert distance(last[name], final[name]) < tolerance
        assert distance(state[name].grad, start[name].grad) < tolerance
    for mine, copy in zip(tensors(n), copies, strict=True):
        assert distance(mine.grad, copy.grad) < tolerance
    each, _ = NativeBackend().nats(n, ids, targets, state)
    assert float(each.mean()) == pytest.approx(nats.item(), rel=FP32)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("characters", [True, False], ids=["characters", "vectors"])
def test_outputs_and_their_gradients_are_torchs(isa: str, characters: bool, cell: str, bf16: bool) -> None:
    V, D, H, L, B, T = 40, 21, 33, 2, 5, 7
    torch.manual_seed(1)
    n, state = network(cell, V, D, H, L, bf16=bf16), random_state(cell, L, B, H)
    ids = torch.randint(0, V, (B, T))
    out, final, copies, _ = oracle(n, ids, state)
    if characters:
        y, last = NativeBackend().hidden(n, ids, state)
    else:
        y, last = NativeBackend().run(cell, n.vectors(ids), state, n.layers, bf16=bf16)
    tolerance = BF16 if bf16 else FP32
    assert distance(y, out) < tolerance
    assert distance(last["h"], final["h"]) < tolerance
    pull = torch.randn(B, T, H)
    (out * pull).sum().backward()
    (y * pull).sum().backward()
    for mine, copy in zip(tensors(n)[:-2], copies[:-2], strict=True):
        assert distance(mine.grad, copy.grad) < tolerance


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
def test_two_forwards_then_two_backwards(isa: str, cell: str, bf16: bool) -> None:
    n, state = network(cell, 20, 8, 32, 2, bf16=bf16), random_state(cell, 2, 4, 32)
    chunks = [(torch.randint(0, 20, (4, 6)), torch.randint(0, 20, (4, 6))) for _ in range(2)]

    def gradients(nats: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(nats, tensors(n))

    alone = [gradients(NativeBackend().mean_nats(n, *chunk, state)[0]) for chunk in chunks]
    both = [NativeBackend().mean_nats(n, *chunk, state)[0] for chunk in chunks]
    for nats, expected in zip(both, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(gradients(nats), expected, strict=True))


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_bits_do_not_depend_on_threads(isa: str, bf16: bool) -> None:
    n, state = network("lstm", 30, 8, 48, 2, bf16=bf16), random_state("lstm", 2, 7, 48)
    T = 150  # so that every product is worth several threads
    ids, targets = torch.randint(0, 30, (7, T)), torch.randint(0, 30, (7, T))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (2, 2, 1, 3):
            torch.set_num_threads(threads)
            nats, _ = NativeBackend().mean_nats(n, ids, targets, state)
            results.append((nats, *torch.autograd.grad(nats, tensors(n))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_dropout_is_a_mask_of_the_right_share_that_backward_repeats(isa: str) -> None:
    """With the output layer cut out of the network, a gradient of zero is a unit that was dropped."""
    V, H, B, T, p = 12, 64, 8, 16, 0.25
    n = network("lstm", V, 8, H, 2)
    dropping = Network(n.cell, n.embedding, n.layers, n.output_weight, n.output_bias, dropout=p, bf16=False)
    ids, targets = torch.randint(0, V, (B, T)), torch.randint(0, V, (B, T))
    state = {name: torch.zeros(2, B, H) for name in ("h", "c")}

    def nats(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return NativeBackend().mean_nats(dropping, ids, targets, state)[0]

    assert torch.equal(nats(1), nats(1))
    assert not torch.equal(nats(1), nats(2))
    weight = n.output_weight  # along one direction the gradient must be the slope of the very same masks
    direction, step = torch.randn_like(weight), 1e-2
    slope = torch.autograd.grad(nats(5), weight)[0].mul(direction).sum().item()
    with torch.no_grad():
        weight.add_(step * direction)
        above = nats(5).item()
        weight.sub_(2 * step * direction)
        below = nats(5).item()
    assert slope == pytest.approx((above - below) / (2 * step), rel=2e-2, abs=1e-4)
    ones = torch.ones(100_000)
    kept = drop("fp32", ones[:99_200].view(-1, 16), 7, 1 - p, 99_200)
    assert (kept > 0).double().mean().item() == pytest.approx(1 - p, abs=5 * (p * (1 - p) / 99_200) ** 0.5)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])


def test_a_second_backward_is_refused() -> None:
    n, state = network("lstm", 10, 8, 16, 1), random_state("lstm", 1, 2, 16)
    ids = torch.randint(0, 10, (2, 3))
    nats, _ = NativeBackend().mean_nats(n, ids, ids, state)
    nats.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        nats.backward()


def test_weights_changed_before_backward_are_refused() -> None:
    n, state = network("lstm", 10, 8, 16, 1), random_state("lstm", 1, 2, 16)
    ids = torch.randint(0, 10, (2, 3))
    nats, _ = NativeBackend().mean_nats(n, ids, ids, state)
    with torch.no_grad():
        n.layers[0]["weight_hh"].add_(1)
    with pytest.raises(RuntimeError, match="modified"):
        nats.backward()


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_spreads_as_in_torch(isa: str, value: float, cell: str, bf16: bool) -> None:
    n, state = network(cell, 10, 8, 16, 1, bf16=bf16), random_state(cell, 1, 2, 16)
    with torch.no_grad():
        n.layers[0]["weight_hh"][3, 2] = value
    ids = torch.randint(0, 10, (2, 5))
    out, _, _, _ = oracle(n, ids, state)
    y, _ = NativeBackend().hidden(n, ids, state)
    assert torch.equal(y.isnan(), out.isnan())
    if value != value:
        assert NativeBackend().mean_nats(n, ids, ids, state)[0].isnan()


@pytest.mark.parametrize("cell", CELLS)
def test_extreme_weights_saturate(isa: str, cell: str) -> None:
    n, state = network(cell, 6, 8, 16, 1, scale=800.0), random_state(cell, 1, 2, 16)
    ids = torch.randint(0, 6, (2, 5))
    y, _ = NativeBackend().hidden(n, ids, state)
    assert y.isfinite().all()
    assert distance(y, oracle(n, ids, state)[0]) < 1e-2


def test_wrong_arguments_raise() -> None:
    n, state = network("lstm", 10, 8, 16, 1), random_state("lstm", 1, 2, 16)
    ids = torch.randint(0, 10, (2, 3))
    run = NativeBackend().mean_nats
    with pytest.raises(IndexError):
        run(n, ids + 10, ids, state)
    with pytest.raises(IndexError):
        run(n, ids, ids - 10, state)
    with pytest.raises(TypeError):
        run(n, ids.int(), ids, state)
    with pytest.raises(TypeError):
        run(n, ids, ids.int(), state)
    with pytest.raises(ValueError, match="targets"):
        run(n, ids, ids[:, :2], state)
    with pytest.raises(ValueError, match="hidden"):
        run(n, ids, ids, random_state("lstm", 1, 3, 16))
    with pytest.raises(RuntimeError, match="STORYCELL_ISA"):
        use_isa("vax")


def test_strided_ids_are_read_where_they_lie() -> None:
    n, state = network("gru", 10, 8, 16, 1), random_state("gru", 1, 3, 16)
    wide = torch.randint(0, 10, (6, 3)).t()
    strided, _ = NativeBackend().mean_nats(n, wide, wide, state)
    plain, _ = NativeBackend().mean_nats(n, wide.contiguous(), wide.contiguous(), state)
    assert torch.equal(strided, plain)


def choice(temperature: float = 1.0, top_p: float = 1.0, min_p: float = 0.0, top_k: int = 0, greedy: int = 0) -> Choice:
    return Choice(temperature, top_p, min_p, top_k, greedy)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
def test_what_a_stream_writes_depends_on_no_other(isa: str, cell: str, precision: str) -> None:
    n = network(cell, 30, 8, 48, 2)
    with torch.no_grad():
        generator = Generator(n, 1, precision)
    state = {name: value.detach() for name, value in random_state(cell, 2, 9, 48).items()}
    fed, random = torch.randint(0, 30, (9,)), torch.randint(1, 2**32, (9, 4))
    how = [choice(0.5 + 0.1 * k, top_k=k) for k in range(9)]
    together = generator.generate(fed, state, random, how, 60)
    for b in (0, 4, 8):
        own = {name: value[:, b : b + 1] for name, value in state.items()}
        alone = generator.generate(fed[b : b + 1], own, random[b : b + 1], how[b : b + 1], 60)
        assert torch.equal(alone.ids[0], together.ids[b])
        assert torch.equal(alone.random[0], together.random[b])
        assert torch.equal(alone.state["h"][:, 0], together.state["h"][:, b])
    first = generator.generate(fed, state, random, how, 25)
    rest = generator.generate(first.ids[:, -1], first.state, first.random, how, 35)
    assert torch.equal(torch.cat((first.ids, rest.ids), 1), together.ids)


@pytest.mark.parametrize("cell", CELLS)
def test_written_characters_were_drawn_from_the_models_logits(isa: str, cell: str) -> None:
    V, H, L, B, length = 40, 20, 2, 3, 25
    n = network(cell, V, 8, H, L, scale=3.0)
    state = {name: value.detach() for name, value in random_state(cell, L, B, H).items()}
    fed, random = torch.tensor([0, 5, 7]), torch.randint(1, 2**32, (B, 4))
    written = Generator(n, 1).generate(fed, state, random, [choice(greedy=1)] * B, length, keeps_logits=True)
    read = torch.cat((fed[:, None], written.ids[:, :-1]), 1)
    out, final, copies, _ = oracle(n, read, state)
    logits = out @ copies[-2].t() + copies[-1]
    assert distance(written.logits, logits) < FP32
    assert distance(written.state["h"], final["h"]) < FP32
    logits[..., 1] = -torch.inf
    assert torch.equal(written.ids, logits.argmax(-1))


@pytest.mark.parametrize("temperature", [0.01, 0.7, 5.0])
def test_draws_follow_the_softmax_of_the_logits(isa: str, temperature: float) -> None:
    """Each stream draws once, from a point of its own: the id drawn is where the softmax's running sum passes it."""
    n, B = network("lstm", 40, 8, 16, 1, scale=6.0), 400
    state = {name: torch.zeros(1, B, 16) for name in ("h", "c")}
    fed, random = torch.arange(B) % 40, torch.randint(1, 2**32, (B, 4))
    written = Generator(n, 1).generate(fed, state, random, [choice(temperature)] * B, 1, keeps_logits=True)
    logits = written.logits[:, 0].double() / temperature
    logits[:, 1] = -torch.inf
    turned = (random[:, 0] + random[:, 3]) % 2**32
    point = ((((turned << 7) | (turned >> 25)) + random[:, 0]) % 2**32).double() / 2**32
    passed = logits.softmax(-1).cumsum(-1) > point[:, None] * (1 - 1e-13)
    assert torch.equal(written.ids[:, 0], passed.int().argmax(-1))


def test_generation_refuses_what_makes_no_sense() -> None:
    n = network("lstm", 10, 8, 16, 1)
    generator, state = Generator(n, 1), {name: torch.zeros(1, 1, 16) for name in ("h", "c")}
    fed, random = torch.tensor([0]), torch.ones(1, 4, dtype=torch.int64)
    for length, how in ((0, choice()), (3, choice(temperature=0.0)), (3, choice(temperature=float("nan")))):
        with pytest.raises(ValueError):
            generator.generate(fed, state, random, [how], length)
    with pytest.raises(IndexError):
        generator.generate(fed + 10, state, random, [choice()], 3)
    with pytest.raises(ValueError):
        generator.generate(fed, state, random * 0, [choice()], 3)
    with torch.no_grad():
        n.output_weight.mul_(float("nan"))
    with pytest.raises(FloatingPointError):
        Generator(n, 1).generate(fed, state, random, [choice()], 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_pool_survives_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own pool does not survive a fork, so only the kernels use two threads here."""
    monkeypatch.setattr(library.threads, "for_kernels", lambda: 2)
    n, state = network("lstm", 10, 8, 16, 1), random_state("lstm", 1, 4, 16)
    ids = torch.randint(0, 10, (4, 3))
    NativeBackend().mean_nats(n, ids, ids, state)
    child = os.fork()
    if not child:
        signal.alarm(20)
        torch.set_num_threads(1)
        NativeBackend().mean_nats(n, ids, ids, state)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("cell", CELLS)
def test_bf16_errs_no_more_than_torchs_autocast(cell: str) -> None:
    """Outputs and the gradients of all weights, summed up as one vector each, against float64."""
    V, D, H, L, B, T = 96, 64, 128, 2, 8, 64
    torch.manual_seed(3)
    n, state = network(cell, V, D, H, L, bf16=True), random_state(cell, L, B, H)
    ids, pull = torch.randint(0, V, (B, T)), torch.randn(B, T, H)
    out, _, copies, _ = oracle(n, ids, state)
    (out * pull).sum().backward()
    exact = torch.cat([w.grad.flatten() for w in copies[:-2] if w.grad is not None])

    def errors(y: torch.Tensor) -> tuple[float, float]:
        gradients = torch.autograd.grad((y.float() * pull).sum(), tensors(n)[:-2])
        return distance(y, out), distance(torch.cat([g.flatten() for g in gradients]), exact)

    ours = errors(NativeBackend().hidden(n, ids, state)[0])
    with torch.autocast("cpu", torch.bfloat16):
        theirs = errors(TorchBackend().hidden(n, ids, state)[0])
    assert ours[0] < ALLOWED_OF_AUTOCAST * theirs[0]
    assert ours[1] < ALLOWED_OF_AUTOCAST * theirs[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_same_seed_trains_to_the_same_bits(cell: str, precision: str) -> None:
    def trained() -> list[torch.Tensor]:
        lm = CharLM(
            30, 40, 2, cell, embedding_size=8, dropout=0.1, backend="native", precision=precision, seed=2
        ).train()
        optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-2, fused=True)
        g = torch.Generator().manual_seed(1)
        lm_state = None
        for step in range(12):
            torch.manual_seed(step)
            ids = torch.randint(2, 30, (5, 13), generator=g)
            nats, lm_state = lm(ids[:, :-1], lm_state, targets=ids[:, 1:])
            nats.backward()
            optimizer.step()
            optimizer.zero_grad()
        return [p.detach().clone() for p in lm.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(trained(), trained(), strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_training_goes_on_after_an_evaluation_of_the_same_shape(cell: str) -> None:
    """Both take their large arrays from one pool, and the evaluation's are made in inference mode."""
    lm = CharLM(30, 24, 2, cell, embedding_size=8, backend="native", precision="fp32", seed=3).train()
    ids = torch.randint(2, 30, (5, 23), generator=torch.Generator().manual_seed(1))
    with lm.reading():
        costs, _ = lm.nats(ids[:, :-1], ids[:, 1:])
    nats, _ = lm(ids[:, :-1], targets=ids[:, 1:])
    nats.backward()
    assert nats.item() == pytest.approx(costs.mean().item(), rel=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_leaves_nothing_behind(cell: str) -> None:
    """A context of autograd that holds one of its own results is never freed: no pass may stay alive."""
    n, state = network(cell, 20, 8, 32, 2), {name: torch.zeros(2, 4, 32) for name in get_cell(cell).state_names}
    ids = torch.randint(0, 20, (4, 6))
    alive: list[weakref.ref[Stack]] = []
    made = Stack.__init__

    def noted(self: Stack, *arguments: object) -> None:
        made(self, *arguments)  # type: ignore[arg-type]
        alive.append(weakref.ref(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "__init__", noted)
        for _ in range(3):
            nats, last = NativeBackend().mean_nats(n, ids, ids, state)
            nats.backward()
            y, last = NativeBackend().hidden(n, ids, state)
            (y.sum() + last["h"].sum()).backward()
            NativeBackend().mean_nats(n, ids, ids, state)  # never asked for its gradient
            NativeBackend().hidden(n, ids, state)
        del nats, last, y
    gc.collect()
    assert len(alive) >= 12
    assert not [stack for stack in alive if stack() is not None]
