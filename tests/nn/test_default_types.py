"""torch's default type and device belong to the user's program: what storycell computes depends on neither."""

import ast
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.instruction_sets import needs_kernel
from support.tiny_runs import GRAMMAR, NETWORK, TEXT

import storycell
from storycell import CharLM
from storycell.generation.sampler import Sampling, Stream, advance, streams
from storycell.nn.adapter import TorchModel
from storycell.nn.backends.native import adam

SOURCES = sorted(Path(storycell.__file__).parent.rglob("*.py"))
_FACTORIES = """
    arange asarray as_tensor bartlett_window blackman_window empty empty_permuted empty_strided eye frombuffer full
    hamming_window hann_window kaiser_window linspace logspace normal ones rand randint randn randperm range
    scalar_tensor tensor tril_indices triu_indices zeros
"""
_MODULES = "Bilinear Conv1d Embedding EmbeddingBag GRU GRUCell LayerNorm Linear LSTM LSTMCell RNN RNNCell"
FACTORIES, MODULES = frozenset(_FACTORIES.split()), frozenset(_MODULES.split())


def unnamed(source: str) -> list[str]:
    """Calls that make a tensor or a module's weights without naming both type and device."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        makes = (owner == "torch" and name in FACTORIES) or (owner in ("nn", "torch.nn") and name in MODULES)
        if makes and not {"dtype", "device"} <= {keyword.arg for keyword in node.keywords}:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_whatever_makes_a_tensor_names_its_type_and_device(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not unnamed(source)
    assert "from torch import" not in source.replace("from torch import Tensor", "").replace("from torch import nn", "")


def test_the_search_finds_what_names_only_one() -> None:
    assert len(unnamed("torch.zeros(3)\ntorch.eye(3, dtype=torch.int64)\nnn.Linear(3, 4, device='cpu')")) == 3
    assert not unnamed("torch.zeros(3, dtype=t, device=d)\ntorch.zeros_like(x)\nx.new_zeros(3)\ntorch.from_numpy(a)")


def ours_of_kinds() -> Iterator[tuple[str, CharLM]]:
    for backend in ("auto", "torch", "reference"):
        for cell, embedding in (("lstm", 8), ("lstm", 0), ("gru", 8), ("gru", 0), ("rnn", 8)):
            yield f"{backend} {cell} {embedding}", CharLM(30, 20, 2, cell, embedding_size=embedding, backend=backend)


def model_numbers() -> dict[str, Any]:
    """Loss, gradients, logits, final states and texts of small models that are made here."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(2, 30, (3, 40)))
    found: dict[str, Any] = {}
    for name, lm in ours_of_kinds():
        loss, _ = lm(ids[:, :-1], targets=ids[:, 1:])
        loss.backward()
        optimizer = adam.AdamW(lm.parameters(), 1e-2) if lm.backend.name == "native" else None
        if optimizer is not None:
            found[f"{name}: norm"] = adam.clip(lm.parameters(), 0.1)
            optimizer.step()
        logits, state = lm(ids)
        nats, _ = lm.nats(ids[:, :-1], ids[:, 1:])
        written = advance(TorchModel(lm.eval()), [Stream(Sampling(1.0), 7), Stream(Sampling(0.0), 8)], 30, logits=True)
        found |= {f"{name}: loss": loss, f"{name}: logits": logits, f"{name}: state": state["h"], f"{name}: nats": nats}
        found |= {f"{name}: grad {n}": p.grad for n, p in lm.named_parameters()}
        found |= {f"{name}: weight {n}": p for n, p in lm.named_parameters()}
        found |= {f"{name}: text {k}": text.ids for k, text in enumerate(written)}
        found |= {f"{name}: kept {k}": text.logits for k, text in enumerate(written)}
    return found


def layer_numbers() -> dict[str, Any]:
    """Outputs and gradients of layers whose type is their own, without and with the kernel, states and dropout."""
    found: dict[str, Any] = {}
    for T in (4, 40):
        for precision in ("fp32", "bf16"):
            for dropout in (0.0, 0.5):
                torch.manual_seed(3)
                layer = storycell.LSTM(5, 7, 2, dropout=dropout, precision=precision, dtype=torch.float32, device="cpu")
                x = torch.ones(T, 2, 5, dtype=torch.float32, device="cpu", requires_grad=True)
                y, (h, c) = layer(x)
                (y.square().sum() + c.sum()).backward()
                name = f"{T} {precision} {dropout}"
                found |= {f"{name}: y": y, f"{name}: h": h, f"{name}: x": x.grad}
                found |= {f"{name}: grad {n}": p.grad for n, p in layer.named_parameters()}
                (slope,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
                slope.sum().backward()
                found[f"{name}: twice"] = x.grad
                with torch.no_grad():
                    found[f"{name}: without gradients"] = layer(x, (h, c))[0]
    return found


def run_numbers() -> dict[str, Any]:
    """What a model writes and measures, and what is seen inside it."""
    model = storycell.load(GRAMMAR)
    text = 'Once upon a time, there was a cat. "I am a cat," said the cat. ' * 4
    trace = model.trace(text)
    held = streams(model.network, [5], Sampling(1.0), [1, 2], 10, {("h", 0, 3): 1.0})
    return {
        "text": model.generate("Once upon a", chars=60, seed=1),
        "loss": model.evaluate(text).loss_nats,
        "score": model.score("a cat").tolist(),
        "gates": trace["f", 0],
        "probabilities": trace.probabilities(),
        "gradient flow": model.gradient_flow(text, lags=8).norms["c", 0],
        "unit": model.find_units(text * 20, "inside quotes", top=1)[0].unit,
        "held": list(held),
    }


def training_numbers() -> dict[str, Any]:
    """The weights, losses and text of a run that is trained, stopped and resumed."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        text = Path(folder, "text.txt")
        text.write_text(TEXT, encoding="utf-8")
        settings: dict[str, Any] = {**NETWORK, "layers": 2, "dropout": 0.2, "average": 0.5, "reset": 0.5, "threads": 1}
        storycell.train(str(text), out=run, steps=4, seed=2, **settings)
        storycell.resume(run, text=str(text), steps=8)
        model = storycell.load(run)
        return model.lm.state_dict() | {"text": model.generate("Once", chars=30, seed=1)}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return bool(a == b)


def under(setting: torch.dtype | str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    before = torch.get_default_dtype()
    try:
        if isinstance(setting, torch.dtype):
            torch.set_default_dtype(setting)
        else:
            torch.set_default_device(setting)
        return compute()
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)


@needs_kernel
@pytest.mark.parametrize(
    "compute", [model_numbers, layer_numbers, run_numbers, training_numbers], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("setting", [torch.float64, torch.bfloat16, torch.float16, "meta"], ids=str)
def test_numbers_are_the_same_under_any_default(
    setting: torch.dtype | str, compute: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path))
    expected, found = compute(), under(setting, compute)
    assert expected.keys() == found.keys()
    assert not [name for name in expected if not same(expected[name], found[name])]


@needs_kernel
def test_the_state_of_torchs_optimiser_is_taken_over_whatever_its_steps_type() -> None:
    def step() -> dict[str, Any]:
        weight = torch.nn.Parameter(torch.ones(20, dtype=torch.float32))
        theirs = torch.optim.AdamW([weight], 1e-2)
        for optimizer in (theirs, adam.AdamW([weight], 1e-2)):
            if optimizer is not theirs:
                optimizer.load_state_dict(theirs.state_dict())
            weight.grad = torch.full_like(weight, 0.5)
            optimizer.step()
        return {"weight": weight}

    assert same(step()["weight"], under(torch.float64, step)["weight"])
