"""The native kernels against torch in float64, for every instruction set of this machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from python import native  # noqa: E402

ISAS = ["portable"]
for _name in ("avx2", "avx512", "avx512bf16"):
    try:
        native.use_isa(_name)
        ISAS.append(_name)
    except RuntimeError:
        pass
CELLS = ["lstm", "gru", "rnn"]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@pytest.fixture(params=ISAS)
def isa(request):
    native.use_isa(request.param)
    yield request.param
    native.use_isa("")


def make(cell, V, D, H, L, seed=0, scale=None):
    g = torch.Generator().manual_seed(seed)
    gates = GATES[cell]
    s = scale or H**-0.5

    def uniform(*shape):
        return (torch.rand(*shape, generator=g) * 2 - 1) * s

    p = {"embedding.weight": torch.randn(V, D, generator=g)}
    for layer in range(L):
        p[f"weight_ih_l{layer}"] = uniform(gates * H, H if layer else D)
        p[f"weight_hh_l{layer}"] = uniform(gates * H, H)
        p[f"bias_ih_l{layer}"] = uniform(gates * H)
        p[f"bias_hh_l{layer}"] = uniform(gates * H)
    p["output.weight"] = uniform(V, H)
    p["output.bias"] = uniform(V)
    return {k: v.requires_grad_() for k, v in p.items()}


def reference(cell, p, ids, states, dtype=torch.float64):
    """(outputs, states, float64 parameters) by torch's own modules."""
    H, D = p["weight_hh_l0"].shape[1], p["embedding.weight"].shape[1]
    L = sum(k.startswith("weight_hh") for k in p)
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](
        D, H, L, batch_first=True, dtype=dtype
    )
    q = {k: v.detach().to(dtype).requires_grad_() for k, v in p.items()}
    x = q["embedding.weight"][ids]
    h = tuple(s.to(dtype) for s in states if s is not None)
    inner = {k: v for k, v in q.items() if "." not in k}
    out, last = torch.func.functional_call(module, inner, (x, h if cell == "lstm" else h[0]))
    return out, (last if cell == "lstm" else (last, None)), q


def distance(a, b):
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def random_states(cell, L, B, H):
    h = torch.randn(L, B, H).mul(0.5).requires_grad_()
    c = torch.randn(L, B, H).requires_grad_() if cell == "lstm" else None
    return native.States(h, c)


def compare(cell, V, D, H, L, B, T, precision, tolerance, loss=True):
    torch.manual_seed(V + H + B + T)
    p = make(cell, V, D, H, L)
    ids, targets = torch.randint(0, V, (B, T)), torch.randint(0, V, (B, T))
    states = random_states(cell, L, B, H)
    mirror = [s.detach().double().requires_grad_() if s is not None else None for s in states]
    weight_h, weight_c = torch.randn(L, B, H) / (L * B), torch.randn(L, B, H) / (L * B)
    out, last, q = reference(cell, p, ids, mirror)
    if loss:
        logits = out @ q["output.weight"].t() + q["output.bias"]
        expected = torch.nn.functional.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
        got, final = native.sequence_loss(cell, p, ids, targets, states, precision)
    else:
        weight_out = torch.randn(B, T, H) / (B * T)
        expected = (out * weight_out).sum()
        outputs, final = native.hidden_sequence(cell, p, ids, states, precision)
        got = (outputs * weight_out).sum()
        assert distance(outputs, out) < tolerance
    assert distance(final.hidden, last[0]) < tolerance
    total, mine = expected + (last[0] * weight_h).sum(), got + (final.hidden * weight_h).sum()
    if cell == "lstm":
        assert distance(final.cell, last[1]) < tolerance
        total, mine = total + (last[1] * weight_c).sum(), mine + (final.cell * weight_c).sum()
    if loss:
        assert abs(got.item() - expected.item()) < tolerance * max(1, abs(expected.item()))
    total.backward()
    mine.backward()
    for k in p:
        if not loss and k.startswith("output"):
            continue
        assert p[k].grad is not None, k
        assert distance(p[k].grad, q[k].grad) < tolerance * 1.5, k
    for s, m in zip(states, mirror, strict=True):
        if s is not None:
            assert distance(s.grad, m.grad) < tolerance * 1.5


SIZES = [  # V, D, H, L, B, T
    (2, 3, 1, 1, 1, 1),
    (17, 5, 7, 1, 3, 4),
    (96, 33, 33, 2, 5, 9),
    (300, 16, 48, 1, 13, 3),
    (96, 32, 64, 3, 2, 17),
    (50, 64, 80, 2, 31, 5),
]


@pytest.mark.parametrize("loss", [True, False])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", SIZES)
def test_float32(isa, cell, size, loss):
    compare(cell, *size, "float32", 1e-5, loss)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", SIZES)
def test_bfloat16(isa, cell, size):
    compare(cell, *size, "bfloat16", 3e-2)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision,tolerance", [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_large(isa, cell, precision, tolerance):
    compare(cell, 96, 64, 256, 2, 9, 20, precision, tolerance)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", CELLS)
def test_two_forwards_then_two_backwards(isa, cell, precision):
    p = make(cell, 20, 8, 32, 2)
    batches = [(torch.randint(0, 20, (4, 6)), torch.randint(0, 20, (4, 6))) for _ in range(2)]

    def grads(loss):
        return torch.autograd.grad(loss, list(p.values()))

    alone = [grads(native.sequence_loss(cell, p, *b, precision=precision)[0]) for b in batches]
    losses = [native.sequence_loss(cell, p, *b, precision=precision)[0] for b in batches]
    for loss, expected in zip(losses, alone, strict=True):
        for a, b in zip(grads(loss), expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_bits_for_any_threads(isa, precision):
    p = make("lstm", 30, 8, 48, 2)
    ids, targets = torch.randint(0, 30, (7, 40)), torch.randint(0, 30, (7, 40))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (2, 2, 1, 3):
            torch.set_num_threads(threads)
            loss, _ = native.sequence_loss("lstm", p, ids, targets, precision=precision)
            results.append((loss, *torch.autograd.grad(loss, list(p.values()))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_backward_runs_once():
    p = make("lstm", 10, 8, 16, 1)
    ids = torch.randint(0, 10, (2, 3))
    loss, _ = native.sequence_loss("lstm", p, ids, ids)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


def test_changed_weights_are_refused():
    p = make("lstm", 10, 8, 16, 1)
    ids = torch.randint(0, 10, (2, 3))
    loss, _ = native.sequence_loss("lstm", p, ids, ids)
    with torch.no_grad():
        p["weight_hh_l0"].add_(1)
    with pytest.raises(RuntimeError, match="modified"):
        loss.backward()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_spreads(isa, cell, precision, value):
    p = make(cell, 10, 8, 16, 1)
    with torch.no_grad():
        p["weight_hh_l0"][3, 2] = value
    ids = torch.randint(0, 10, (2, 5))
    states = native.States(torch.randn(1, 2, 16), torch.randn(1, 2, 16))
    out, _ = native.hidden_sequence(cell, p, ids, states, precision)
    expected, _, _ = reference(cell, p, ids, states, torch.float32)
    assert torch.equal(out.isnan(), expected.isnan())
    loss, _ = native.sequence_loss(cell, p, ids, ids, states, precision)
    if value != value:
        assert loss.isnan()
        assert torch.autograd.grad(loss, p["output.weight"])[0].isnan().any()


@pytest.mark.parametrize("cell", CELLS)
def test_extreme_inputs_saturate(isa, cell):
    p = make(cell, 6, 8, 16, 1, scale=200.0)
    ids = torch.randint(0, 6, (2, 5))
    states = native.States(torch.randn(1, 2, 16), torch.randn(1, 2, 16))
    out, _ = native.hidden_sequence(cell, p, ids, states)
    assert out.isfinite().all()
    assert distance(out, reference(cell, p, ids, states)[0]) < 1e-2


def test_wrong_arguments():
    p = make("lstm", 10, 8, 16, 1)
    ids = torch.randint(0, 10, (2, 3))
    run = native.sequence_loss
    with pytest.raises(IndexError):
        run("lstm", p, ids + 10, ids)
    with pytest.raises(IndexError):
        run("lstm", p, ids, ids - 10)
    with pytest.raises(TypeError):
        run("lstm", p, ids.int(), ids)
    with pytest.raises(TypeError):
        run("lstm", p, ids, ids.int())
    with pytest.raises(ValueError):
        run("lstm", p, ids, ids[:, :2])
    with pytest.raises(ValueError):
        run("lstm", p, ids[0], ids[0])
    with pytest.raises(ValueError):
        run("lstm", p, ids[:0], ids[:0])
    with pytest.raises(ValueError):
        run("tree", p, ids, ids)
    with pytest.raises(ValueError):
        run("lstm", p, ids, ids, precision="int8")
    with pytest.raises(ValueError):
        run("lstm", p, ids, ids, native.States(torch.zeros(1, 3, 16), torch.zeros(1, 3, 16)))
    with pytest.raises(TypeError):
        run("lstm", {k: v.double() for k, v in p.items()}, ids, ids)
    with pytest.raises(ValueError):
        run("lstm", {**p, "weight_hh_l0": torch.zeros(64, 8)}, ids, ids)
    with pytest.raises(ValueError):
        run("lstm", {**p, "output.weight": torch.zeros(10, 8)}, ids, ids)
    with pytest.raises(RuntimeError):
        native.use_isa("vax")


def test_strided_ids():
    p = make("gru", 10, 8, 16, 1)
    wide = torch.randint(0, 10, (6, 3))
    a = native.sequence_loss("gru", p, wide.t(), wide.t())[0]
    b = native.sequence_loss("gru", p, wide.t().contiguous(), wide.t().contiguous())[0]
    assert torch.equal(a, b)


def xoshiro(s):
    mask = 0xFFFFFFFF

    def rotate(x, k):
        return ((x << k) | (x >> (32 - k))) & mask

    result = (rotate((s[0] + s[3]) & mask, 7) + s[0]) & mask
    t = (s[1] << 9) & mask
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotate(s[3], 11)
    return result


def filtered(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The probabilities the kernel should draw from, one filter after another, in float64."""
    logits = logits.double().clone()
    logits[1] = -torch.inf
    w = torch.softmax(logits / temperature, -1)
    order = sorted(range(len(w)), key=lambda j: (-float(w[j]), j))
    keep = order[:top_k] if top_k > 0 else order
    if top_p < 1:
        total, mass, kept = float(sum(w[j] for j in keep)), 0.0, []
        for j in keep:
            if kept and mass >= top_p * total:
                break
            kept.append(j)
            mass += float(w[j])
        keep = kept
    keep = [j for j in keep if float(w[j]) >= min_p * float(w.max())]
    out = torch.zeros_like(w)
    out[keep] = w[keep]
    return out / out.sum()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1},
     {"top_k": 20, "top_p": 0.9, "min_p": 0.05, "temperature": 1.3}, {"greedy": True}],
)  # fmt: skip
def test_generation(isa, cell, options):
    V, H, L, B, n = 40, 20, 2, 3, 25
    p = {k: v.detach() for k, v in make(cell, V, 8, H, L, scale=0.6).items()}
    states = random_states(cell, L, B, H)
    states = native.States(*(s.detach() if s is not None else None for s in states))
    current = torch.tensor([0, 5, 7])
    random = torch.randint(0, 2**32, (B, 4))
    gen = native.Generator(cell, p)
    out, final, after = gen.generate(current, random, n, states, **options)
    assert out.shape == (B, n) and not (out == 1).any()
    fed = torch.cat((current[:, None], out[:, :-1]), 1)
    hidden, last, q = reference(cell, p, fed, states)
    assert distance(final.hidden, last[0]) < 1e-5
    if cell == "lstm":
        assert distance(final.cell, last[1]) < 1e-5
    logits = hidden @ q["output.weight"].t() + q["output.bias"]
    for b in range(B):
        s = random[b].tolist()
        for t in range(n):
            if options.get("greedy"):
                row = logits[b, t].clone()
                row[1] = -torch.inf
                assert int(row.argmax()) == int(out[b, t])
                continue
            u = xoshiro(s) / 2**32
            sums = filtered(logits[b, t], **options).cumsum(0)
            j = int(out[b, t])
            assert (float(sums[j - 1]) if j else 0.0) - 1e-4 <= u <= float(sums[j]) + 1e-4
        if not options.get("greedy"):
            assert s == after[b].tolist()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", CELLS)
def test_streams_do_not_meet(isa, cell, precision):
    p = {k: v.detach() for k, v in make(cell, 30, 8, 48, 2).items()}
    gen = native.Generator(cell, p, precision)
    current, random = torch.randint(0, 30, (9,)), torch.randint(1, 2**32, (9, 4))
    out, final, after = gen.generate(current, random, 60)
    for b in (0, 4, 8):
        o, f, a = gen.generate(current[b : b + 1], random[b : b + 1], 60)
        assert torch.equal(o[0], out[b]) and torch.equal(a[0], after[b])
        assert torch.equal(f.hidden[:, 0], final.hidden[:, b])
    first, states, middle = gen.generate(current, random, 25)
    rest, _, _ = gen.generate(first[:, -1], middle, 35, states)
    assert torch.equal(torch.cat((first, rest), 1), out)


def test_generation_wrong_arguments():
    p = {k: v.detach() for k, v in make("lstm", 10, 8, 16, 1).items()}
    gen = native.Generator("lstm", p)
    current, random = torch.tensor([0]), torch.ones(1, 4, dtype=torch.int64)
    for bad in ({"length": 0}, {"temperature": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(ValueError):
            gen.generate(current, random, **{"length": 3, **bad})
    with pytest.raises(IndexError):
        gen.generate(current + 10, random, 3)
    with pytest.raises(ValueError):
        gen.generate(current, random * 0, 3)
    with pytest.raises(ValueError):
        gen.generate(current, random[:, :3], 3)
    p["output.weight"] = p["output.weight"] * float("nan")
    with pytest.raises(FloatingPointError):
        native.Generator("lstm", p).generate(current, random, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_pool_survives_fork(monkeypatch):
    """torch's own pool does not survive a fork, so only the kernels use two threads here."""
    monkeypatch.setattr(native.lib, "threads", lambda: 2)
    p = make("lstm", 10, 8, 16, 1)
    ids = torch.randint(0, 10, (4, 3))
    native.sequence_loss("lstm", p, ids, ids)
    child = os.fork()
    if not child:
        signal.alarm(20)
        torch.set_num_threads(1)
        native.sequence_loss("lstm", p, ids, ids)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
