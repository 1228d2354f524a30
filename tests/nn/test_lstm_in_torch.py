"""storycell.LSTM among torch's tools: traced, compiled, exported, scripted, viewed, forked, one step at a time."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.instruction_sets import needs_kernel

import storycell
from storycell.nn.backends.native import library

pytestmark = needs_kernel

TOLERANCE = 1e-5  # difference of outputs, all within 1


class Model(torch.nn.Module):
    def __init__(self, kind: Callable[..., torch.nn.LSTM], H: int = 20) -> None:
        super().__init__()
        self.lstm, self.head = kind(5, H, 2, batch_first=True), torch.nn.Linear(H, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.lstm(x)[0])
        return out


def example(seed: int = 0, T: int = 12) -> torch.Tensor:
    return torch.randn(4, T, 5, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def models() -> tuple[Model, Model]:
    """One with storycell's layer, one with torch's, of the same weights."""
    torch.manual_seed(0)
    theirs, ours = Model(torch.nn.LSTM).eval(), Model(storycell.LSTM).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("H", [16, 20, 100])
@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("T", [1, 40])
@pytest.mark.parametrize("batch_first", [True, False])
def test_strides_are_torchs_so_what_can_be_viewed_can_be(
    batch_first: bool, T: int, batch: int | None, H: int, grad: bool
) -> None:
    shape = (T, 8) if batch is None else (batch, T, 8) if batch_first else (T, batch, 8)
    laid = []
    for kind in (storycell.LSTM, torch.nn.LSTM):
        with torch.set_grad_enabled(grad):
            y, (h, c) = kind(8, H, 2, batch_first=batch_first)(torch.zeros(shape))
        laid.append([(t.shape, t.stride(), t.is_contiguous()) for t in (y, h, c)])
    assert laid[0] == laid[1]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("how", [torch.jit.trace, torch.jit.script])
def test_a_program_of_torch_jit_is_saved_and_computes_other_inputs(how: Any, models: tuple[Model, Model]) -> None:
    ours, theirs = models
    program = how(ours, example()) if how is torch.jit.trace else how(ours)
    file = io.BytesIO()
    torch.jit.save(program, file)
    file.seek(0)
    other = example(1, T=30)
    assert torch.allclose(torch.jit.load(file)(other), theirs(other), atol=TOLERANCE)
    assert program.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the older exporter
@pytest.mark.filterwarnings("ignore:Exporting a model to ONNX with a batch_size")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchs_onnx_exporter_writes_what_torchs_layer_computes(tmp_path: Path, models: tuple[Model, Model]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ours, theirs = models
    path = tmp_path / "model.onnx"
    torch.onnx.export(ours, (example(),), path, input_names=["x"], dynamo=False)
    found = onnxruntime.InferenceSession(path).run(None, {"x": example(1).numpy()})[0]
    assert np.allclose(found, theirs(example(1)).detach().numpy(), atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # of torch's own layer, too
@pytest.mark.parametrize("strict", [True, False])
def test_torch_export_gives_a_program_of_torchs_operations(strict: bool, models: tuple[Model, Model]) -> None:
    ours, theirs = models
    program = torch.export.export(ours, (example(),), strict=strict).module()
    assert torch.allclose(program(example(1)), theirs(example(1)), atol=TOLERANCE)


COMPILED = """
import torch, storycell
layer = storycell.LSTM(8, 16, 2, batch_first=True)
head = torch.nn.Linear(16, 3)
def model(x):
    return head(layer(x * 2)[0]).square().sum()
compiled = torch.compile(model, backend="eager")
for T in (20, 21, 30, 40, 50):
    x = torch.randn(4, T, 8, requires_grad=True)
    plain = torch.autograd.grad(model(x), [x, *layer.parameters()])
    mine = torch.autograd.grad(compiled(x), [x, *layer.parameters()])
    assert layer.backend_reason.startswith("the native kernel"), layer.backend_reason
    assert all(torch.allclose(a, b) for a, b in zip(mine, plain))
    with torch.no_grad():
        assert torch.allclose(compiled(x), model(x))
"""


def run(program: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_compiled_it_is_the_kernel_and_nothing_is_printed() -> None:
    run(COMPILED)


def test_importing_and_calling_does_not_import_torchs_compiler() -> None:
    """It takes seconds, and nobody who does not compile needs it."""
    run(
        "import sys, torch, storycell\n"
        "storycell.LSTM(8, 16)(torch.ones(40, 2, 8))\n"
        "assert 'torch._dynamo' not in sys.modules"
    )


FORKED = """
import os, torch, storycell
layer = storycell.LSTM(64, 256, 2, batch_first=True)
x = torch.ones(16, 64, 64)
layer(x)[0].sum().backward()
model = storycell.load("demo")
def seen():
    with torch.no_grad():
        return model.generate("Once upon a", chars=50, seed=1), layer(x)[0].tolist()
here = seen()
children = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        torch.set_num_threads(1)
        os._exit(seen() != here)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_computes_and_writes_what_its_parent_does() -> None:
    run("import warnings; warnings.simplefilter('ignore', DeprecationWarning)" + FORKED)


def test_one_step_at_a_time_is_torchs_own_and_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[str] = []
    pack = library.pack

    def noted(precision: str, *arguments: Any, **keywords: Any) -> torch.Tensor:
        packed.append(precision)
        return pack(precision, *arguments, **keywords)

    monkeypatch.setattr(library, "pack", noted)
    torch.manual_seed(0)
    ours, theirs = storycell.LSTM(6, 20, 2), torch.nn.LSTM(6, 20, 2)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(10, 1, 6)
    for grad in (True, False):
        mine, other = None, None
        with torch.set_grad_enabled(grad):
            for step in x:
                y, mine = ours(step[None], mine)
                expected, other = theirs(step[None], other)
                assert torch.equal(y, expected)
                assert y.requires_grad == grad
    assert not packed
    assert "few steps" in ours.backend_reason
    ours(torch.randn(40, 3, 6))
    assert packed
    assert ours.backend_reason.startswith("the native kernel")


def test_what_watches_torchs_operations_sees_torchs_layer() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    layer = storycell.LSTM(8, 16)
    program = make_fx(lambda x: layer(x)[0])(torch.randn(40, 2, 8))
    x = torch.randn(40, 2, 8)
    assert torch.allclose(program(x), layer(x)[0], atol=TOLERANCE)
