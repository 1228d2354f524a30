"""What runs on a GPU keeps to a GPU's rules: tried on one that is none (`fake_gpu`)."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import storycell
from storycell.errors import BackendError
from storycell.nn.model import CharLM, Recurrent
from storycell.runs.folder import RunFolder
from storycell.runs.machine import best_device

SOURCE = Path(__file__).parents[2] / "src" / "storycell"
TEXT = 'Once upon a time there was a dog. "Hello!" said the dog.\n'
NETWORK = {"hidden": 8, "embedding": 4, "streams": 4, "chunk": 8, "backend": "reference", "precision": "fp32"}
CLOSE = 1e-5  # the same float32 operations on the same processor, perhaps in another order

# In a process of its own: torch knows the device from then on.
PROGRAM = """
import io, json, sys
from pathlib import Path
import torch
import storycell, storycell.runs.network, storycell.training.start, storycell.training.torch_learner
from support.fake_gpu import FakeGpu, NAME
from storycell.evaluation import evaluator, texts
from storycell.lab.compress.archive import compress
from storycell.generation.sampler import Sampling

text, network, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
gpu = torch.device(NAME, 0)
storycell.runs.network.best_device = storycell.training.torch_learner.best_device = lambda asked: str(gpu)
torch.inference_mode = torch.no_grad  # a tensor of this kind cannot be made within the other
evaluate, measured_on = evaluator.evaluate, []
def watched(lm, *arguments, **keywords):
    measured_on.append(str(lm.lm.output.weight.device))
    return evaluate(lm, *arguments, **keywords)
evaluator.evaluate = texts.evaluate = watched
told = {}
(folder / "a.txt").write_text("<|endoftext|>\\n".join(f"Once {k} cats sat on {k} mats.\\n" for k in range(60)))
with FakeGpu():
    model = storycell.load("demo", backend="reference")
    told["device"] = str(model.lm.output.weight.device)
    told["loss_nats"] = model.evaluate(text).loss_nats
    told["score"] = model.score(text).tolist()
    told["written"] = model.generate("Once", chars=20, seed=1)
    told["held"] = model.generate("Once", chars=5, seed=1, hold={("c", 0, 3): 1.0})
    told["cells"] = float(abs(model.trace(text)["c", 0]).sum())
    told["flow"] = {str(key): float(value.sum()) for key, value in model.gradient_flow(text * 4, lags=8).norms.items()}
    packed = io.BytesIO()
    compress(model.network, model.vocab, io.BytesIO(text.encode()), packed)
    told["packed"] = len(packed.getvalue())
    for cell in ("lstm", "rnn"):
        run = storycell.train(folder / "a.txt", out=folder / cell, cell=cell, steps=4, evaluations=2, **network)
        more = storycell.resume(folder / cell, steps=6)
        told[cell] = [run.summary["valid_nats"], more.summary["valid_nats"]]
    told["measured_on"] = sorted(set(measured_on))
    told["measurements"] = len(measured_on)
    try:
        model.lm.output.weight.double()
    except TypeError:
        told["refuses"] = True
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process found out on the device."""
    folder = tmp_path_factory.mktemp("gpu")
    words = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(TEXT), json.dumps(NETWORK), str(folder)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1], timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"folder": folder}


def test_the_device_refuses_what_apple_s_refuses(told: dict[str, Any]) -> None:
    assert told["refuses"]
    assert told["device"] == "fakegpu:0"


def test_measuring_writing_looking_inside_and_coding_give_on_a_gpu_what_they_give_here(told: dict[str, Any]) -> None:
    model = storycell.load("demo", backend="reference")
    assert told["loss_nats"] == pytest.approx(model.evaluate(TEXT).loss_nats, rel=CLOSE)
    assert told["score"] == pytest.approx(model.score(TEXT).tolist(), rel=1e-3, abs=CLOSE)
    assert told["written"] == model.generate("Once", chars=20, seed=1)
    assert told["held"] == model.generate("Once", chars=5, seed=1, hold={("c", 0, 3): 1.0})
    assert told["cells"] == pytest.approx(float(abs(model.trace(TEXT)["c", 0]).sum()), rel=CLOSE)
    flow = {str(key): value.sum() for key, value in model.gradient_flow(TEXT * 4, lags=8).norms.items()}
    assert told["flow"] == pytest.approx(flow, rel=1e-3)
    assert told["packed"] > 0


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_a_training_on_a_gpu_learns_what_it_learns_here(told: dict[str, Any], tmp_path: Path, cell: str) -> None:
    text = told["folder"] / "a.txt"
    run = storycell.train(text, out=tmp_path / "run", cell=cell, steps=4, evaluations=2, device="cpu", **NETWORK)
    more = storycell.resume(run.path, steps=6)
    assert told[cell] == pytest.approx([run.summary["valid_nats"], more.summary["valid_nats"]], rel=1e-4)


def test_every_measurement_of_a_training_stays_on_its_gpu(told: dict[str, Any]) -> None:
    assert told["measurements"] == 1 + 2 * (3 + 2)  # model.evaluate; of each cell two or one on the way, one at the end
    assert told["measured_on"] == ["fakegpu:0"]


def test_weights_are_loaded_to_where_the_model_is_and_as_what_it_is(made: Path) -> None:
    vocab_size = len(RunFolder(made).vocab())
    settings = RunFolder(made).config().settings.model
    lm = CharLM.from_settings(vocab_size, settings).double()
    before = {name: (id(p), p.data_ptr()) for name, p in lm.named_parameters()}
    lm.take(RunFolder(made).load_weights(lm.shapes())[0])
    assert {name: (id(p), p.data_ptr()) for name, p in lm.named_parameters()} == before
    loaded = storycell.load(made).lm
    for name, parameter in lm.named_parameters():
        assert parameter.dtype == torch.float64
        assert torch.equal(parameter, loaded.get_parameter(name).double())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("cell", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)])
def test_a_model_that_moves_puts_its_weights_in_one_piece_as_torch_s_layer_does(
    monkeypatch: pytest.MonkeyPatch, cell: str, kind: type[nn.RNNBase], bias: bool
) -> None:
    """cuDNN copies weights in several pieces at every call; on a CPU there is nothing to do."""
    flattened: list[list[torch.Tensor]] = []
    monkeypatch.setattr(nn.RNNBase, "flatten_parameters", lambda self: flattened.append(list(self._flat_weights)))
    expected = kind(5, 7, 2, bias=bias)._flat_weights_names
    recurrent = Recurrent(cell, 5, 7, 2, bias, "cpu")
    flattened.clear()
    recurrent.to(torch.float32)
    assert [id(w) for w in flattened[-1]] == [id(recurrent.get_parameter(name)) for name in expected]
    assert all(w.device.type == "cpu" for w in flattened[-1])


def test_a_cell_that_torch_has_no_layer_for_moves_too() -> None:
    assert Recurrent("minlstm", 5, 7, 2, True, "cpu").to(torch.float64).weight_ih_l0.dtype == torch.float64


# Which device


@pytest.mark.parametrize("there", [True, False])
def test_apple_s_gpu_is_taken_only_by_its_name(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    assert best_device("auto") == "cpu"
    if there:
        assert best_device("mps") == "mps"
    else:
        with pytest.raises(BackendError, match="finds no device mps"):
            best_device("mps")


def test_auto_takes_an_nvidia_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert best_device("auto") == "cuda"


def test_nothing_becomes_float64_before_it_is_on_the_cpu() -> None:
    found = 0
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "double":
                found += 1
                assert ".cpu()" in ast.unparse(node.func.value), f"{path}:{node.lineno}: {ast.unparse(node)}"
    assert found  # what is measured after training is numpy's, on the CPU
