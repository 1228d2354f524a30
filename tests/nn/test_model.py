"""`CharLM`: shapes, weights that are torch's, losses, precision."""

import math

import pytest
import torch

from storycell.errors import SettingsError
from storycell.nn.model import CharLM
from storycell.types import UNKNOWN

EXACT = 1e-9  # float64: rounding only
BF16_ERROR = 0.02  # nats: eight bits of mantissa in the products of a small model


def ids(B: int = 3, T: int = 12, V: int = 20) -> torch.Tensor:
    return torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(3))


def test_the_recurrent_weights_load_into_torchs_lstm_unchanged() -> None:
    lm = CharLM(20, 16, layers=2, embedding_size=8).double().eval()
    layer = torch.nn.LSTM(8, 16, 2, batch_first=True).double()
    layer.load_state_dict(lm.recurrent.state_dict())
    logits, _ = lm(ids())
    assert lm.embedding is not None
    expected = lm.output(layer(lm.embedding(ids()))[0])
    assert (logits - expected).norm() / expected.norm() < EXACT


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("embedding", [0, 8])
def test_chunks_with_carried_state_equal_the_whole(cell: str, embedding: int) -> None:
    lm = CharLM(20, 16, layers=2, cell=cell, embedding_size=embedding).double().eval()
    whole, final = lm(ids())
    first, state = lm(ids()[:, :5])
    second, state = lm(ids()[:, 5:], state)
    assert (torch.cat([first, second], dim=1) - whole).abs().max() < EXACT
    assert all((state[n] - final[n]).abs().max() < EXACT for n in final)


def test_the_loss_is_the_mean_cross_entropy_in_nats() -> None:
    lm = CharLM(20, 16).double()
    batch = ids(T=13)
    loss_nats, _ = lm(batch[:, :-1], targets=batch[:, 1:])
    logits, _ = lm(batch[:, :-1])
    probabilities = torch.softmax(logits, dim=-1).gather(-1, batch[:, 1:, None])
    assert loss_nats.item() == pytest.approx(-probabilities.log().mean().item(), abs=EXACT)
    fresh = CharLM(20, 16)
    fresh.output.weight.data.zero_()
    assert fresh(batch[:, :-1], targets=batch[:, 1:])[0].item() == pytest.approx(math.log(20), abs=1e-5)


def test_one_hot_and_embedding_are_the_same_function_for_the_same_weights() -> None:
    one_hot = CharLM(20, 16, embedding_size=0).double().eval()
    embedded = CharLM(20, 16, embedding_size=20).double().eval()
    embedded.recurrent.load_state_dict(one_hot.recurrent.state_dict())
    embedded.output.load_state_dict(one_hot.output.state_dict())
    assert embedded.embedding is not None
    embedded.embedding.weight.data = torch.eye(20, dtype=torch.float64)
    assert (one_hot(ids())[0] - embedded(ids())[0]).abs().max() < EXACT


def test_without_gate_biases_the_weights_are_the_articles() -> None:
    lm = CharLM(20, 16, embedding_size=0, gate_bias=False)
    assert sorted(lm.state_dict()) == [
        "output.bias",
        "output.weight",
        "recurrent.weight_hh_l0",
        "recurrent.weight_ih_l0",
    ]


def test_bf16_rounds_products_only_while_training_and_stays_close() -> None:
    lm = CharLM(20, 64, precision="bf16")
    exact = CharLM(20, 64, precision="fp32")
    batch = ids(B=8, T=33)
    rough, _ = lm(batch[:, :-1], targets=batch[:, 1:])
    fine, _ = exact(batch[:, :-1], targets=batch[:, 1:])
    assert rough.dtype == torch.float32
    assert rough.item() != fine.item()
    assert rough.item() == pytest.approx(fine.item(), abs=BF16_ERROR)
    with lm.reading():
        assert torch.equal(lm(batch)[0], exact.eval()(batch)[0])
    assert lm.training
    assert lm.precision == "bf16"


def test_the_same_seed_gives_the_same_weights_and_unknown_says_nothing() -> None:
    a, b, other = CharLM(20, 16, seed=5), CharLM(20, 16, seed=5), CharLM(20, 16, seed=6)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.output.weight, other.output.weight)
    assert a.embedding is not None
    assert not a.embedding.weight[UNKNOWN].any()


def test_dropout_is_on_in_training_only() -> None:
    lm = CharLM(20, 16, layers=2, dropout=0.5, precision="fp32")
    assert not torch.equal(lm(ids())[0], lm(ids())[0])
    lm.eval()
    assert torch.equal(lm(ids())[0], lm(ids())[0])


def test_wrong_shapes_and_sizes_are_said() -> None:
    lm = CharLM(20, 16)
    with pytest.raises(ValueError, match=r"ids must be \[B T\]"):
        lm(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="T = 12"):
        lm(ids(), targets=ids(T=11))
    with pytest.raises(SettingsError, match="hidden_size = 0"):
        CharLM(20, 0)
