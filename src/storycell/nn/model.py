"""`CharLM`: characters in, logits of the next character out.

ids `[B T]` -> embedding (or one-hot) -> recurrent layers, on a backend -> output layer -> logits `[B T V]`.

The recurrent weights are this module's own parameters under torch's names, and a backend is a function that is handed
them; so a model can change its backend at any time and its state_dict never does.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from storycell.config import ModelSettings
from storycell.context import PAST, Context
from storycell.engine import inference
from storycell.errors import BackendError, SettingsError
from storycell.language_model import Floats, Integers
from storycell.nn.backends import choice
from storycell.nn.backends.backend import Backend, Network, Scorer
from storycell.nn.cells import registry
from storycell.nn.cells.cell import State
from storycell.types import UNKNOWN, check

EMBEDDING_STD = 4.0  # wide, so that a character is heard over the recurrence from the first step (LOG.md)
HIDDEN_TO_HIDDEN = ("weight_hh", "weight_mh")  # what weight dropout drops


class _ReadHere(threading.local):
    """The models, by identity, that the calling thread is reading with."""

    models: frozenset[int] = frozenset()


_read_here = _ReadHere()


class Recurrent(nn.Module):
    """The weights of a stack of cells: `weight_ih_l0`, `weight_hh_l0`, … as torch names them."""

    def __init__(self, cell: str, D: int, H: int, L: int, bias: bool, device: torch.device | str) -> None:
        super().__init__()
        for k in range(L):
            for name, shape in registry.get_cell(cell).shapes(D if k == 0 else H, H, bias).items():
                weight = torch.empty(shape, dtype=torch.float32, device=device)
                self.register_parameter(f"{name}_l{k}", nn.Parameter(weight))
        self.D, self.H, self.L, self.bias = D, H, L, bias
        self._layer = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}.get(cell)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "Recurrent":
        """As every module does when it is moved; then put the weights in one piece of memory, as torch's layers do.

        cuDNN copies weights in several pieces at every call. Elsewhere than on its GPUs nothing happens.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._layer is not None:
            layer = self._layer(self.D, self.H, self.L, bias=self.bias, device="meta")
            for name, weight in self.named_parameters():
                setattr(layer, name, weight)
            layer.flatten_parameters()
        return self

    def layers(self) -> list[dict[str, torch.Tensor]]:
        """The weights of each layer, by name without the layer."""
        stacks: list[dict[str, torch.Tensor]] = [{} for _ in range(self.L)]
        for name, weight in self.named_parameters():
            plain, _, k = name.rpartition("_l")
            stacks[int(k)][plain] = weight
        return stacks


class CharLM(nn.Module):
    """A character-level recurrent language model.

    `vocab_size` is V, `hidden_size` H; `embedding_size` 0 feeds one-hot characters. `backend` and `precision` are
    `auto` or a name; `backend_reason` says why the backend is the one it is. `form` is the cell as backends know it,
    with `gate_norm` another one (`cells.lstm`). Weights are float32, whatever torch's default type is, on `device`
    (`meta`: none are allocated), drawn from `seed`.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        layers: int = 1,
        cell: str = "lstm",
        *,
        embedding_size: int = 64,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        gate_bias: bool = True,
        forget_bias: float = -1.0,
        ngrams: int = 0,
        ngram_rows: int = 65_536,
        matches: int = 0,
        gate_norm: bool = False,
        backend: str = "auto",
        precision: str = "auto",
        seed: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        for name, size in (("vocab_size", vocab_size), ("hidden_size", hidden_size), ("layers", layers)):
            if size < 1:
                raise SettingsError(f"{name} = {size}: it must be at least 1")
        self.vocab_size, self.hidden_size, self.num_layers, self.cell = vocab_size, hidden_size, layers, cell
        self.gate_norm, self.form = gate_norm, registry.name_form(cell, gate_norm)
        if gate_norm and not gate_bias:
            raise SettingsError("gate_norm = True: it needs gate biases, which are off; set gate_bias on")
        self.embedding_size, self.dropout, self.forget_bias = embedding_size, dropout, forget_bias
        self.weight_dropout, self.embedding_dropout = weight_dropout, embedding_dropout
        self.context = Context(ngrams, ngram_rows, matches, vocab_size)
        if self.context and not embedding_size:
            raise SettingsError(f"{self.context}: its rows are added to an embedding, and embedding is 0")
        self.embedding = None
        if embedding_size:
            self.embedding = nn.Embedding(vocab_size, embedding_size, dtype=torch.float32, device=device)
        self.recurrent = Recurrent(self.form, embedding_size or vocab_size, hidden_size, layers, gate_bias, device)
        self.output = nn.Linear(hidden_size, vocab_size, dtype=torch.float32, device=device)
        self.context_table = None
        if self.context:
            self.context_table = nn.Embedding(self.context.rows, embedding_size, dtype=torch.float32, device=device)
        self.use(backend, precision)
        self.writing_precision = "fp32"
        self.initialise(seed)

    @classmethod
    def from_settings(cls, vocab_size: int, model: ModelSettings, **keywords: Any) -> "CharLM":
        """The model that `ModelSettings` describe, for a vocabulary of V ids; `keywords` as the constructor's."""
        return cls(
            vocab_size,
            model.hidden,
            model.layers,
            model.cell,
            embedding_size=model.embedding,
            dropout=model.dropout,
            weight_dropout=model.weight_dropout,
            embedding_dropout=model.embedding_dropout,
            gate_bias=model.gate_bias,
            forget_bias=model.forget_bias,
            ngrams=model.ngrams,
            ngram_rows=model.ngram_rows,
            matches=model.matches,
            gate_norm=model.gate_norm,
            **keywords,
        )

    def use(self, backend: str = "auto", precision: str = "auto") -> "CharLM":
        """Compute with another backend or precision from now on; `BackendError` if that cannot be."""
        choice.choose_backend(backend, self.form)
        self._asked = backend
        if precision not in ("auto", "fp32", "bf16"):
            raise SettingsError(f"precision = {precision!r}: it is auto, fp32 or bf16")
        self.precision = precision
        return self

    def write_in(self, precision: str) -> "CharLM":
        """Sample with products in fp32 or bf16 from now on; `BackendError` where the backend generates in fp32 only."""
        if precision == "int8":
            raise BackendError(
                "precision = int8: only storycell's own engine generates in int8, and here torch computes; "
                "leave backend and device as they are, or choose fp32 or bf16"
            )
        if precision not in ("fp32", "bf16"):
            raise SettingsError(f"precision = {precision!r}: text is generated in fp32 or bf16")
        if precision == "bf16" and self.backend.name != "native":
            raise BackendError(
                f"precision = bf16: only the native backend generates in bf16, and here {self.backend_reason}"
            )
        self.writing_precision = precision
        return self

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all weights, by name."""
        return {name: tuple(weight.shape) for name, weight in self.named_parameters()}

    def take(self, weights: Mapping[str, Any]) -> "CharLM":
        """Take the numbers of arrays, by name, which must fit; a meta model, which is nowhere, gets them on the CPU."""
        given = {name: torch.from_numpy(np.array(weight)) for name, weight in weights.items()}
        self.load_state_dict(given, assign=self.output.weight.is_meta)
        return self

    @property
    def backend(self) -> Backend:
        """What computes this model where its weights are now; `BackendError` if what was asked for cannot."""
        return choice.choose_backend(self._asked, self.form, self.output.weight)[0]

    @property
    def backend_reason(self) -> str:
        """Why it is that backend."""
        return choice.choose_backend(self._asked, self.form, self.output.weight)[1]

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all weights anew from `seed`; a meta model, which has none, is left as it is."""
        if self.output.weight.is_meta:
            return
        generator = torch.Generator().manual_seed(seed)
        for weights in self.recurrent.layers():
            registry.get_cell(self.form).initialise(weights, generator, self.forget_bias)
        bound = self.hidden_size**-0.5
        self.output.weight.uniform_(-bound, bound, generator=generator)
        self.output.bias.zero_()
        if self.embedding is not None:
            self.embedding.weight.normal_(0.0, EMBEDDING_STD, generator=generator)
            self.embedding.weight[UNKNOWN : UNKNOWN + 1] = 0.0  # never trained: an unknown character says nothing
        else:
            self.recurrent.get_parameter("weight_ih_l0")[:, UNKNOWN : UNKNOWN + 1] = 0.0
        if self.context_table is not None:
            self.context_table.weight.zero_()

    def zero_state(self, B: int) -> State:
        """The state before a text begins: zeros `[L B H]`."""
        weight = self.output.weight
        shape = (self.num_layers, B, self.hidden_size)
        zeros = {name: weight.new_zeros(shape) for name in registry.get_cell(self.form).state_names}
        return zeros | ({PAST: weight.new_zeros((1, B, self.context.memory))} if self.context else {})

    def forward(
        self, ids: torch.Tensor, state: State | None = None, targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """ids `[B T]` -> logits `[B T V]` and the final state `[L B H]`; with `targets [B T]`, the mean nats instead.

        `state=None` is the zero state. The returned state is detached: gradients end at the chunk.
        """
        check("ids", ids, "B T")
        network, state, past = self._begin(ids, state)
        if targets is None:
            out, state = self.backend.logits(network, ids, state)
        else:
            check("targets", targets, "B T", B=ids.shape[0], T=ids.shape[1])
            out, state = self.backend.mean_nats(network, ids, targets, state)
        return out, self._detach(state | past)

    def _begin(self, ids: torch.Tensor, state: State | None) -> tuple[Network, State, State]:
        """The network that reads ids `[B T]`, the state before them, and what is remembered after them."""
        state = self.zero_state(ids.shape[0]) if state is None else state
        network = self.network()
        if self.context_table is None:
            return network, state, {}
        past = state[PAST][0]
        after = torch.from_numpy(self.context.past_after(ids.cpu().numpy(), past.cpu().numpy())).to(past)
        states = {name: value for name, value in state.items() if name != PAST}
        added = self._look_up(self.context_table.weight, ids, past)
        return replace(network, context=added), states, {PAST: after[None]}

    def _look_up(self, table: torch.Tensor, ids: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """ids `[B T]` after `past [B P]` -> the sum of the rows that they meet, `[B T D]`."""
        rows = self._rows_of(ids.cpu().numpy(), past.cpu().numpy())
        return F.embedding(torch.from_numpy(rows).to(ids.device), table).sum(2)  # whose gradient is summed in one order

    def _rows_of(self, ids: Integers, past: Floats) -> Integers:
        """As `Context.rows_of`, which the reference backend asks itself."""
        if self.backend.name == "reference":
            return self.context.rows_of(ids, past)
        return inference.context_rows(self.context, ids, past)

    def vectors(self, ids: torch.Tensor, past: torch.Tensor | None = None) -> torch.Tensor:
        """What the first layer reads: ids `[B T]` -> `[B T D]`; with a context after `past [B P]`, None for zeros."""
        network = self.network()
        if self.context_table is not None:
            past = self.output.weight.new_zeros(len(ids), self.context.memory) if past is None else past
            network = replace(network, context=self._look_up(self.context_table.weight, ids, past))
        return network.vectors(ids)

    def nats(self, ids: torch.Tensor, targets: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        """The loss of every target: ids and targets `[B T]` -> nats `[B T]` and the final state; no gradients."""
        check("targets", targets, "B T", B=ids.shape[0], T=ids.shape[1])
        with torch.no_grad():
            network, state, past = self._begin(ids, state)
            nats, state = self.backend.nats(network, ids, targets, state)
        return nats, self._detach(state | past)

    def scorer(self) -> Scorer:
        """`nats` with the weights as they are now, for many calls: ids and targets `[B T]`, the state before them."""
        if self.context:
            return self.nats
        return self.backend.scorer(self.network())

    def state_after(self, ids: torch.Tensor, state: State | None = None) -> State:
        """The state after ids `[B T]`, `[L B H]`; no gradients."""
        check("ids", ids, "B T")
        with torch.no_grad():
            network, state, past = self._begin(ids, state)
            _, state = self.backend.hidden(network, ids, state)
        return self._detach(state | past)

    def network(self) -> Network:
        """The model's tensors, as backends take them; while training, what is dropped for a whole chunk is zero."""
        return Network(
            cell=self.form,
            embedding=self._embedding_kept(),
            layers=self._layers_kept(),
            output_weight=self.output.weight,
            output_bias=self.output.bias,
            dropout=self.dropout if self._trains else 0.0,
            bf16=self.rounds_to_bf16,
        )

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers: for dropout of any kind."""
        return max(self.dropout, self.weight_dropout, self.embedding_dropout) > 0

    def _embedding_kept(self) -> torch.Tensor | None:
        """The embedding, while training without some of its characters (Gal & Ghahramani 2016, arXiv:1512.05287)."""
        if self.embedding is None:
            return None
        weight, share = self.embedding.weight, self.embedding_dropout
        return weight * F.dropout(weight.new_ones(len(weight), 1), share) if share and self._trains else weight

    def _layers_kept(self) -> list[dict[str, torch.Tensor]]:
        """The layers, while training without some of their recurrent weights (Merity et al. 2017, arXiv:1708.02182)."""
        layers = self.recurrent.layers()
        if self.weight_dropout and self._trains:
            for weights in layers:
                for name, weight in weights.items():  # in the cell's order, since each mask is drawn after the other
                    if name in HIDDEN_TO_HIDDEN:
                        weights[name] = F.dropout(weight, self.weight_dropout)
        return layers

    def _detach(self, state: State) -> State:
        return {name: value.detach().to(self.output.weight.dtype) for name, value in state.items()}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within: no dropout, no gradients, no rounding to bf16; what evaluation and sampling compute with.

        It holds for the calling thread. The model is left alone, so other threads may read it, too, or train it.
        """
        before = _read_here.models
        _read_here.models = before | {id(self)}
        try:
            with torch.inference_mode():
                yield
        finally:
            _read_here.models = before

    @property
    def _reads(self) -> bool:
        return id(self) in _read_here.models

    @property
    def _trains(self) -> bool:
        return self.training and not self._reads

    @property
    def rounds_to_bf16(self) -> bool:
        """Whether matrix products take bf16 now: as asked for, or with `auto` where the hardware multiplies it."""
        weight = self.output.weight
        if weight.dtype != torch.float32 or self._reads:
            return False
        if self.precision != "auto":
            return self.precision == "bf16"
        return self.training and self.backend.multiplies_bf16(weight.device)
