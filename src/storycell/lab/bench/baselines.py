"""What storycell is measured against where torch is installed: torch's own layer as one would use it, and a plain loop.

Both are modules: ids `[B T]` and a state -> logits `[B T V]` and the next state. Here too are the work that they are
timed for, and what the machine does at best in torch's hands. All of `bench` that imports torch is in this file.
"""

import contextlib
import warnings
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from storycell.lab.bench.timing import Work
from storycell.lab.bench.workload import CLIP, RATE, TEMPERATURE, V, Workload
from storycell.language_model import Floats

_CHARS = 32  # written in every stream between two looks at the clock
_ELEMENT = {"fp32": torch.float32, "bf16": torch.bfloat16}
Text = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # inputs and targets [B T]


class TorchModel(nn.Module):
    """An embedding, torch.nn.LSTM (or GRU, or RNN) and an output layer."""

    def __init__(self, cell: str, V: int, D: int, H: int, L: int) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
        self.embedding = nn.Embedding(V, D, dtype=torch.float32, device="cpu")
        self.recurrent = kind(D, H, L, batch_first=True, dtype=torch.float32, device="cpu")
        self.output = nn.Linear(H, V, dtype=torch.float32, device="cpu")

    def forward(self, ids: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """ids `[B T]` -> logits `[B T V]` and torch's own state."""
        y, state = self.recurrent(self.embedding(ids), state)
        return self.output(y), state


class PlainLoop(nn.Module):
    """The formulas in a loop over characters, as the article computes them: one-hot input, a pair of matrices for each
    gate, no gate biases."""

    GATES: ClassVar = {"lstm": 4, "rnn": 1}

    def __init__(self, cell: str, V: int, H: int, L: int) -> None:
        super().__init__()
        self.V, self.H, self.L, self.G = V, H, L, self.GATES[cell]
        widths = [V if k == 0 else H for k in range(L) for _ in range(self.G)]
        self.W_x = nn.ParameterList(torch.randn(D, H, dtype=torch.float32, device="cpu") * H**-0.5 for D in widths)
        self.W_h = nn.ParameterList(torch.randn(H, H, dtype=torch.float32, device="cpu") * H**-0.5 for _ in widths)
        self.output = nn.Linear(H, V, dtype=torch.float32, device="cpu")

    def forward(self, ids: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """ids `[B T]` -> logits `[B T V]` and, for each layer, `(h, c)` `[B H]`."""
        if state is None:
            zeros = torch.zeros(len(ids), self.H, dtype=torch.float32, device="cpu")
            state = [(zeros, zeros)] * self.L
        outputs = []
        for x in F.one_hot(ids, self.V).float().unbind(dim=1):
            now = []
            for k in range(self.L):
                h, c = state[k]
                x, c = self._cell(x, h, c, k)
                now.append((x, c))
            state = now
            outputs.append(self.output(x))
        return torch.stack(outputs, dim=1), state

    def _cell(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        gates = range(layer * self.G, (layer + 1) * self.G)
        sums = [x @ self.W_x[gate] + h @ self.W_h[gate] for gate in gates]
        if self.G == 1:
            return torch.tanh(sums[0]), c
        i, f, g, o = sums
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


def detach(state: Any) -> Any:
    """A state of any of the models, cut off from the graph."""
    if isinstance(state, torch.Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {name: value.detach() for name, value in state.items()}
    return type(state)(detach(part) for part in state)


def step(model: nn.Module, text: Text, bf16: bool = False) -> Work:
    """Training steps of a model, where it lies, in float32 or under autocast to bf16."""
    device = next(model.parameters()).device
    ids, targets = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in text)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, fused=True)
    state = None

    def work() -> int:
        nonlocal state
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits, state = model(ids, state)
        state = detach(state)
        nats = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        torch.autograd.backward(nats)
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return ids.numel()

    return work


def write(model: nn.Module, streams: int, bf16: bool = False) -> Work:
    """Generation by a model, called for each character."""
    state, ids = None, torch.zeros(streams, 1, dtype=torch.int64, device="cpu")

    @torch.inference_mode()
    def work() -> int:
        nonlocal state, ids
        for _ in range(_CHARS):
            with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
                logits, state = model(ids, state)
            ids = torch.multinomial(torch.softmax(logits[:, -1].float() / TEMPERATURE, dim=-1), 1)
        return _CHARS * streams

    return work


def training(workload: Workload, text: Text) -> dict[str, Work]:
    """Training steps of everybody, by the names in the figures."""
    sizes = workload.hidden, workload.layers
    found = {
        name: step(TorchModel(workload.cell, V, workload.embedding, *sizes), text, bf16)
        for name, bf16 in (("torch_fp32", False), ("torch_bf16", True))
    }
    if workload.loop and workload.cell in PlainLoop.GATES:
        found["article"] = step(PlainLoop(workload.cell, V, *sizes), text)
    return found


def compiled(workload: Workload, text: Text) -> Work | str:
    """torch.compile's training steps where it runs; otherwise the reason why not."""
    model = TorchModel(workload.cell, V, workload.embedding, workload.hidden, workload.layers)
    try:
        with warnings.catch_warnings(action="ignore"):  # a compiler's, about itself
            work = step(torch.compile(model), text, bf16=True)  # type: ignore[arg-type]
            work()
    except Exception as error:  # whatever a compiler can raise
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    return work


def writing(workload: Workload, streams: int) -> dict[str, Work]:
    """Generation by everybody, by the names in the figures."""
    sizes = workload.hidden, workload.layers
    torchs = TorchModel(workload.cell, V, workload.embedding, *sizes).eval()
    found = {"torch_fp32": write(torchs, streams), "torch_bf16": write(torchs, streams, bf16=True)}
    if workload.loop and workload.cell in PlainLoop.GATES:
        found["article"] = write(PlainLoop(workload.cell, V, *sizes).eval(), streams)
    return found


def product(precision: str, left: Floats, right: Floats) -> Work:
    """torch's product of two square matrices, rounded to `precision`; counts operations."""
    a, b = (torch.from_numpy(matrix).to(_ELEMENT[precision]) for matrix in (left, right))
    out = torch.empty_like(a)

    def work() -> int:
        torch.mm(a, b, out=out)
        return 2 * len(a) ** 3

    return work


def reading(array: Floats, times: int) -> Work:
    """torch's sum over an array, so many times in one call; counts bytes."""
    many = torch.from_numpy(array).expand(times, -1)

    def work() -> int:
        many.sum()
        return times * array.nbytes

    return work
