"""`TorchModel`: a `CharLM` as a `LanguageModel`, numpy in and out.

Its weights may change between two calls (it may be in training): what is computed is always that of the weights of now.
"""

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from storycell.context import PAST
from storycell.language_model import Choice, Floats, Generated, Hold, Integers, State, Values, unheld
from storycell.nn.backends.backend import Scorer
from storycell.nn.backends.native import library
from storycell.nn.backends.native.backend import NativeBackend
from storycell.nn.backends.native.generator import Generator
from storycell.nn.cells import registry
from storycell.nn.loss import nats_each
from storycell.nn.model import CharLM
from storycell.types import UNKNOWN, check

_PIECE = 256  # characters stepped one after the other


class TorchModel:
    """`lm` is the module; see `LanguageModel` for the rest."""

    def __init__(self, lm: CharLM) -> None:
        self.lm = lm
        self.vocab_size, self.hidden_size, self.num_layers = lm.vocab_size, lm.hidden_size, lm.num_layers
        self.embedding_size, self.cell, self.context = lm.embedding_size, lm.cell, lm.context
        self._cell, self.gate_norm = registry.get_cell(lm.form), lm.gate_norm
        self.state_names = self._cell.state_names
        self.can_hold = "hold" in inspect.signature(self._cell.step).parameters
        self._packed: _Packed | None = None
        self._packing = threading.Lock()

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of a step's values, in the order of computation."""
        zero = {name: np.zeros((1, self.hidden_size), np.float32) for name in self.state_names}
        return tuple(self.layer_step(0, self.inputs(np.zeros((1, 1), np.int64))[0], zero))

    @property
    def backend(self) -> str:
        """The name of the backend."""
        return self.lm.backend.name

    @property
    def backend_reason(self) -> str:
        """Why it is that backend."""
        return self.lm.backend_reason

    @property
    def generates_in(self) -> str:
        """Precision of the products in `write`."""
        return self.lm.writing_precision

    def weights(self) -> dict[str, Floats]:
        """All parameters by torch's names: copies."""
        return {name: _array(p.detach()).copy() for name, p in self.lm.named_parameters()}

    def with_weights(self, weights: Mapping[str, Any]) -> "TorchModel":
        """A model of the same sizes and backend with other weights; `ValueError` where they do not fit."""
        lm = self._fresh(1)
        try:
            lm.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
        except RuntimeError as error:
            raise ValueError(str(error)) from None
        return TorchModel(lm.eval().write_in(self.generates_in))

    def copy_untrained(self, seed: int) -> "TorchModel":
        """A model of the same sizes with the weights that `seed` draws."""
        return TorchModel(self._fresh(seed).eval())

    def _fresh(self, seed: int) -> CharLM:
        lm = self.lm
        return CharLM(
            lm.vocab_size,
            lm.hidden_size,
            lm.num_layers,
            lm.cell,
            embedding_size=lm.embedding_size,
            gate_bias="bias_ih" in lm.recurrent.layers()[0],
            forget_bias=lm.forget_bias,
            ngrams=lm.context.ngrams,
            ngram_rows=lm.context.ngram_rows,
            matches=lm.context.matches,
            gate_norm=lm.gate_norm,
            backend=lm.backend.name,
            seed=seed,
        ).to(lm.output.weight)

    def frozen(self) -> "TorchModel":
        """The same module, whose weights are packed once, when that is first needed."""
        return _Frozen(self.lm)

    def zero_state(self, B: int) -> State:
        """Zeros `[L B H]` by name, and with a context `past [1 B P]`."""
        zeros = {name: np.zeros((self.num_layers, B, self.hidden_size), np.float32) for name in self.state_names}
        return zeros | ({PAST: np.zeros((1, B, self.context.memory), np.float32)} if self.context else {})

    def logits(self, ids: Any, state: State | None = None) -> tuple[Floats, State]:
        """ids `[B T]` -> logits `[B T V]` and the state after them."""
        with self._reading():
            logits, after = self.lm(self._ids(ids), self._state(state))
            return _array(logits), _arrays(after)

    def nats(self, ids: Any, targets: Any, state: State | None = None) -> tuple[Floats, State]:
        """ids and targets `[B T]` -> nats `[B T]` and the state after them."""
        both = self._ids(ids), self._ids(targets)
        check("ids", both[0], "B T")
        check("targets", both[1], "B T", B=len(both[0]), T=both[0].shape[1])
        with self._reading():
            before = self._state(state) or self.lm.zero_state(len(both[0]))
            nats, after = self._scorer(*both, before)
            return _array(nats), _arrays(after)

    @property
    def _scorer(self) -> Scorer:
        return self.lm.scorer()

    def state_after(self, ids: Any, state: State | None = None) -> State:
        """The state after ids `[B T]`."""
        with self._reading():
            return _arrays(self.lm.state_after(self._ids(ids), self._state(state)))

    def states(self, ids: Any, state: State | None = None) -> State:
        """Every state on the way of ids `[B T]`: `[L B T H]` by name, by the cell's own lines.

        Long rows are cut: the backend finds the state before each piece, and then all pieces are stepped together.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        B, T = ids.shape
        width = min(T, _PIECE)
        pieces = -(-T // width)
        before = [self.zero_state(B) if state is None else state]
        for a in range(0, (pieces - 1) * width, width):
            before.append(self.state_after(ids[:, a : a + width], before[-1]))
        padded = np.pad(ids, ((0, 0), (0, pieces * width - T))).reshape(B * pieces, width)
        starts = {name: np.stack([state[name] for state in before], axis=2) for name in before[0]}
        every = self._run_stepwise(padded, {name: s.reshape(len(s), -1, s.shape[-1]) for name, s in starts.items()})
        shape = (self.num_layers, B, pieces * width, self.hidden_size)
        return {name: values.reshape(shape)[:, :, :T] for name, values in every.items()}

    def _run_stepwise(self, ids: Integers, state: State) -> State:
        """The same, one character of all rows after the other."""
        weights = self.lm.recurrent.layers()
        size = (self.num_layers, *ids.shape, self.hidden_size)
        dtype = self.output(np.zeros((1, self.hidden_size), np.float32)).dtype
        every = {name: np.empty(size, dtype) for name in self.state_names}
        with self._reading():
            layers = [{name: self._tensor(state[name][k]) for name in self.state_names} for k in range(self.num_layers)]
            vectors = self.lm.vectors(self._ids(ids), self._tensor(state[PAST][0]) if self.context else None)
            for t in range(ids.shape[1]):
                x = vectors[:, t]
                for k, w in enumerate(weights):
                    layers[k] = self._cell.step(x, layers[k], w)
                    x = layers[k][self.state_names[0]]
                    for name in self.state_names:
                        every[name][k, :, t] = _array(layers[k][name])
        return every

    def generate(
        self, fed: Any, state: State, random: Any, choices: list[Choice], chars: int, *, logits: bool = False
    ) -> Generated | None:
        """By the native kernel, in one call; None on any other backend, and with a context."""
        if not isinstance(self.lm.backend, NativeBackend) or self.context:
            return None
        with library.one_torch_thread():
            written = self._generator().generate(
                torch.from_numpy(np.asarray(fed, np.int64)),
                {name: torch.from_numpy(value) for name, value in state.items()},
                torch.from_numpy(np.asarray(random, np.int64)),
                [library.Choice(*choice) for choice in choices],
                chars,
                keeps_logits=logits,
            )
        kept = None if written.logits is None else written.logits.numpy()
        return Generated(written.ids.numpy(), kept, _arrays(written.state), written.random.numpy())

    def inputs(self, ids: Any, past: Any = None) -> Floats:
        """ids `[B T]` -> what the first layer reads, `[B T D]`, with a context after `past [B P]`."""
        with self._reading():
            return _array(self.lm.vectors(self._ids(ids), None if past is None else self._tensor(past)))

    def layer_step(self, layer: int, x: Floats, state: Values, hold: Hold = unheld) -> Values:
        """The cell's own lines, on inputs `[N D]` and state `[N H]`."""
        held = () if hold is unheld else (lambda name, v: self._tensor(hold(name, _array(v))),)
        with self._reading():
            before = {name: self._tensor(value) for name, value in state.items()}
            return _arrays(self._cell.step(self._tensor(x), before, self.lm.recurrent.layers()[layer], *held))

    def output(self, h: Floats) -> Floats:
        """`[N H]` -> logits `[N V]`."""
        with self._reading():
            return _array(self.lm.output(self._tensor(h)))

    def state_gradients(
        self, ids: Any, targets: Any, state: list[Values], *, cuts_h: bool = False
    ) -> dict[tuple[str, int], Floats]:
        """By autograd on the cell's own lines: (state, layer) -> `[N K H]`."""
        ids = np.asarray(ids)
        path: list[list[dict[str, torch.Tensor]]] = []
        weights = self.lm.recurrent.layers()
        before = [{name: self._tensor(value) for name, value in layer.items()} for layer in state]
        with torch.enable_grad():
            vectors = self.lm.vectors(self._ids(ids), before[0].get(PAST))
            for t in range(ids.shape[1]):
                x, path_t = vectors[:, t], []
                for k, w in enumerate(weights):
                    values = self._cell.step(x, before[k], w)
                    path_t.append({name: values[name] for name in self.state_names})
                    x = values[self.state_names[0]]
                path.append(path_t)
                before = [s | {"h": s["h"].detach()} for s in path_t] if cuts_h else path_t
            total = nats_each(self.lm.output(x), self._ids(targets)).sum()
            keys = [(name, k) for k in range(self.num_layers) for name in self.state_names]
            nodes = [step[k][name] for name, k in keys for step in path]
            grads = torch.autograd.grad(total, nodes, allow_unused=True)
        found = [torch.zeros_like(n) if g is None else g for g, n in zip(grads, nodes, strict=True)]
        K = ids.shape[1]
        return {key: _array(torch.stack(found[j * K : (j + 1) * K], dim=1)) for j, key in enumerate(keys)}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self.lm.reading(), self.lm.backend.exclusive():
            yield

    def _ids(self, ids: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(ids, np.int64)).to(self.lm.output.weight.device)

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.lm.output.weight)

    def _state(self, state: State | None) -> dict[str, torch.Tensor] | None:
        return None if state is None else {name: self._tensor(value) for name, value in state.items()}

    def _generator(self) -> Generator:
        """The weights packed for the kernel; packed anew where they are not what they were.

        Compared with a copy: a tensor's version says nothing of what torch's fused optimisers, or numpy, change in
        place.
        """
        weights = [p.detach().numpy() for p in self.lm.parameters()]
        with self._packing:
            if self._packed is None or not self._packed.is_of(self.generates_in, weights):
                copies = [array.copy() for array in weights]  # first: what another thread changes now is packed again
                with self.lm.reading():
                    generator = Generator(self.lm.network(), UNKNOWN, self.generates_in)
                self._packed = _Packed(self.generates_in, copies, generator)
            return self._packed.generator


class _Frozen(TorchModel):
    """A module whose weights stay as they are while this is used."""

    @cached_property
    def _scorer(self) -> Scorer:
        return self.lm.scorer()

    @cached_property
    def _once(self) -> Generator:
        return super()._generator()

    def _generator(self) -> Generator:
        return self._once


@dataclass(frozen=True)
class _Packed:
    """Weights packed for the kernel, and the weights that were packed."""

    precision: str
    weights: list[Floats]
    generator: Generator

    def is_of(self, precision: str, weights: list[Floats]) -> bool:
        """Whether these are the weights, bit for bit; that costs less than any hash of them."""
        if precision != self.precision or len(weights) != len(self.weights):
            return False
        # As bits: NaN is what it was, too, and -0 is not 0.
        pairs = zip(self.weights, weights, strict=True)
        return all(np.array_equal(a.view(np.uint32), b.view(np.uint32)) for a, b in pairs)


def _array(tensor: torch.Tensor) -> Floats:
    tensor = tensor.detach()  # numpy has float64, which a model may compute in, and has no bfloat16
    array: Floats = (tensor if tensor.dtype == torch.float64 else tensor.float()).cpu().numpy()
    return array


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, Floats]:
    return {name: _array(value) for name, value in tensors.items()}
