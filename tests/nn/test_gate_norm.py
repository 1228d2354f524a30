"""Normalised gates in torch: the formula, gradients, chunks, bf16, and no backend that takes them for a plain LSTM."""

import math

import numpy as np
import pytest
import torch

from storycell.config import ModelSettings
from storycell.errors import BackendError, SettingsError
from storycell.nn.adapter import TorchModel
from storycell.nn.backends import choice
from storycell.nn.cells import registry
from storycell.nn.cells.lstm import NormalisedLSTM
from storycell.nn.model import CharLM

TOLERANCE = 1e-12  # difference of two numbers of about 1, float64: rounding only
BF16 = 0.05  # of a loss of about 2: products have 8 bits


def model(**more: object) -> CharLM:
    made = CharLM(9, 7, 2, embedding_size=4, gate_norm=True, seed=5, **more).double().eval()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # biases that are told apart from what is divided
        for name, weight in made.named_parameters():
            weight.normal_(0, 0.7 if "bias" in name else 0.4, generator=generator)
    return made


def ids(B: int, T: int) -> torch.Tensor:
    return torch.randint(0, 9, (B, T), generator=torch.Generator().manual_seed(6))


def by_hand(lm: CharLM, read: list[int]) -> list[list[float]]:
    """The logits after each id, number by number, as the formula is written down."""
    w = {name: p.detach().numpy() for name, p in lm.named_parameters()}
    H, L = lm.hidden_size, lm.num_layers
    h, c = [[0.0] * H for _ in range(L)], [[0.0] * H for _ in range(L)]
    out = []
    for k in read:
        x = [float(v) for v in w["embedding.weight"][k]]
        for n in range(L):
            W, U = w[f"recurrent.weight_ih_l{n}"], w[f"recurrent.weight_hh_l{n}"]
            b_x, b_h = w[f"recurrent.bias_ih_l{n}"], w[f"recurrent.bias_hh_l{n}"]
            pre = []
            for gate in range(4):
                rows = range(gate * H, (gate + 1) * H)
                s = [
                    sum(W[r, j] * x[j] for j in range(len(x))) + sum(U[r, j] * h[n][j] for j in range(H)) + b_h[r]
                    for r in rows
                ]
                root = math.sqrt(sum(v * v for v in s) / H + 1e-5)
                pre.append([v / root + b_x[r] for v, r in zip(s, rows, strict=True)])
            i, f, o = ([1 / (1 + math.exp(-v)) for v in pre[gate]] for gate in (0, 1, 3))
            c[n] = [f[u] * c[n][u] + i[u] * math.tanh(pre[2][u]) for u in range(H)]
            h[n] = x = [o[u] * math.tanh(c[n][u]) for u in range(H)]
        out.append([float(v) for v in w["output.weight"] @ np.array(x) + w["output.bias"]])
    return out


@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
def test_logits_are_those_of_the_formula_written_out(backend: str) -> None:
    lm, read = model(backend=backend), ids(2, 6)
    logits, _ = lm(read)
    expected = [by_hand(lm, row) for row in read.tolist()]
    assert np.abs(logits.detach().numpy() - np.array(expected)).max() < TOLERANCE


def test_every_gradient_is_that_of_finite_differences() -> None:
    cell, generator = NormalisedLSTM(), torch.Generator().manual_seed(2)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)

    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def step(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = cell.step(x, {"h": h, "c": c}, dict(zip(names, weights, strict=True)))
        return values["h"], values["c"]

    given = (draw(2, 3), draw(2, 4), draw(2, 4), draw(16, 3), draw(16, 4), draw(16), draw(16))
    assert torch.autograd.gradcheck(step, given)


def test_the_size_of_the_weights_does_not_matter_but_their_direction() -> None:
    small, large = model(), model()
    with torch.no_grad():
        for name, weight in large.named_parameters():
            if "recurrent.weight" in name or "bias_hh" in name:
                weight.mul_(1e4)
        for name, weight in small.named_parameters():
            if "recurrent.weight" in name or "bias_hh" in name:
                weight.mul_(1e3)
    (a, _), (b, _) = small(ids(3, 8)), large(ids(3, 8))
    assert (a - b).abs().max() < 1e-9  # what is left of the 1e-5 under the root


@pytest.mark.parametrize("cut", [1, 5, 10])
def test_chunked_and_stepwise_equal_whole(cut: int) -> None:
    lm, read = model(), ids(3, 11)
    whole, final = lm(read)
    for pieces in (read.split([cut, 11 - cut], dim=1), read.split(1, dim=1)):
        now, outs = None, []
        for piece in pieces:
            y, now = lm(piece, now)
            outs.append(y)
        assert (torch.cat(outs, 1) - whole).abs().max() < TOLERANCE
        assert all((now[name] - final[name]).abs().max() < TOLERANCE for name in final)


def test_its_weights_are_an_lstms_by_name_and_shape_and_draw() -> None:
    plain, lm = (CharLM(9, 7, 2, embedding_size=4, gate_norm=norm, seed=5) for norm in (False, True))
    theirs = plain.state_dict()
    assert {name: tuple(w.shape) for name, w in lm.state_dict().items()} == plain.shapes()
    assert all(torch.equal(w, theirs[name]) for name, w in lm.state_dict().items())


def test_weights_saved_and_taken_again_give_the_same_model() -> None:
    lm = model()
    settings = ModelSettings(hidden=7, layers=2, embedding=4, gate_norm=True)
    again = CharLM.from_settings(9, settings, device="meta").take(TorchModel(lm).weights()).eval()
    assert again.gate_norm
    assert torch.equal(again(ids(2, 5))[0], lm(ids(2, 5))[0])


def test_the_adapter_and_its_copies_keep_the_norm_and_step_as_the_whole_does() -> None:
    lm = model().float()
    network = TorchModel(lm)
    for one in (network, network.with_weights(network.weights()), network.frozen(), network.copy_untrained(3)):
        assert one.gate_norm
        assert one.cell == "lstm"
    read = ids(2, 6).numpy()
    logits, after = network.with_weights(network.weights()).logits(read)
    assert np.allclose(logits, network.logits(read)[0], atol=1e-6)
    every = network.states(read)  # by the cell's own lines
    assert np.allclose(every["c"][:, :, -1], after["c"], atol=1e-6)
    assert network.generate([0], network.zero_state(1), [[1, 2, 3, 4]], [], 1) is None  # no kernel draws from it


def test_bf16_rounds_the_products_alone_and_only_while_training() -> None:
    lm = CharLM(9, 32, 2, embedding_size=8, gate_norm=True, precision="bf16", backend="torch", seed=5)
    targets = ids(4, 20).roll(1, 1)
    lm.train()
    rounded, _ = lm(ids(4, 20), targets=targets)
    assert rounded.dtype == torch.float32
    with lm.reading():
        exact, state = lm(ids(4, 20), targets=targets)
    assert state["c"].dtype == torch.float32
    assert rounded.item() != exact.item()
    assert rounded.item() == pytest.approx(exact.item(), abs=BF16)
    rounded.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in lm.parameters())


def test_the_native_op_never_takes_it_for_a_plain_lstm() -> None:
    lm = CharLM(9, 7, embedding_size=4, gate_norm=True)
    assert lm.backend.name == "torch"
    assert "normalised gates" in lm.backend_reason
    assert lm.network().cell == NormalisedLSTM.name  # which no kernel has code for
    with pytest.raises(BackendError, match="no code for the cell 'lstm with normalised gates'"):
        lm.use("native")
    with pytest.raises(BackendError, match="only the native backend"):
        lm.write_in("bf16")


def test_what_has_no_normalised_gates_is_refused_by_name() -> None:
    for cell in ("gru", "rnn", "mlstm", "minlstm"):
        with pytest.raises(SettingsError, match=f"the cell '{cell}' has no normalised gates"):
            CharLM(9, 7, cell=cell, gate_norm=True)
    with pytest.raises(SettingsError, match="needs gate biases"):
        CharLM(9, 7, gate_norm=True, gate_bias=False)


def test_the_form_is_no_cell_to_ask_for() -> None:
    assert NormalisedLSTM.name not in registry.cell_names()
    with pytest.raises(SettingsError, match="there is no cell"):
        CharLM(9, 7, cell=NormalisedLSTM.name)
    backend, _ = choice.choose_backend("reference", NormalisedLSTM.name)
    assert backend.name == "reference"
