"""Dropout of every kind in the engine: the reference given the same masks, their shares, and what a seed decides."""

import numpy as np
import pytest
import torch
from support.engine_pairs import V, chunk, lanes, mask, pair, tensor
from support.instruction_sets import needs_kernel

from storycell.nn.cells.registry import get_cell
from storycell.nn.model import CharLM

pytestmark = needs_kernel

TOLERANCE = 1e-5
CELLS = ["lstm", "gru", "rnn"]
KINDS = [
    {"dropout": 0.3},
    {"weight_dropout": 0.4},
    {"embedding_dropout": 0.5},
    {"dropout": 0.2, "weight_dropout": 0.3, "embedding_dropout": 0.4},
]


def masked_loss(
    model: CharLM, ids: np.ndarray, targets: np.ndarray, shares: dict[str, float], seed: int
) -> torch.Tensor:
    """The reference's loss, written out, with the masks that the engine draws."""
    (B, T), H, L = ids.shape, model.hidden_size, model.num_layers
    cell, G = get_cell(model.cell), get_cell(model.cell).gates
    wide = lanes(H)
    embedding = model.embedding.weight if model.embedding is not None else torch.eye(V, dtype=torch.float64)
    if model.embedding is not None and (share := shares.get("embedding_dropout")):
        embedding = embedding * tensor(mask((lanes(V),), share, seed, 0))[:V, None]
    x = embedding[tensor(ids)]
    for k, weights in enumerate(model.recurrent.layers()):
        if share := shares.get("weight_dropout"):
            kept = mask((G, wide, wide), share, seed, 1 + k)[:, :H, :H].reshape(G * H, H)
            weights["weight_hh"] = weights["weight_hh"] * tensor(kept)
        state = {name: torch.zeros(B, H, dtype=torch.float64) for name in cell.state_names}
        outputs = []
        for t in range(T):
            state = cell.step(x[:, t], state, weights)
            outputs.append(state["h"])
        x = torch.stack(outputs, 1)
        if share := shares.get("dropout"):
            kept = mask((T, B, wide), share, seed, 1 + L + k)[:, :, :H]
            x = x * tensor(kept).transpose(0, 1)
    logits = model.output(x)
    return torch.nn.functional.cross_entropy(logits.reshape(-1, V), tensor(targets).reshape(-1))


@pytest.mark.parametrize("shares", KINDS, ids=lambda kinds: "+".join(kinds))
@pytest.mark.parametrize("embedding", [0, 9])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_the_reference_s_with_the_same_masks(cell: str, embedding: int, shares: dict[str, float]) -> None:
    model, engine = pair(cell, 2, 17, embedding, **shares)
    ids, targets = chunk(6, 8)
    loss = masked_loss(model.double(), ids, targets, shares, seed=(1 << 63) + 12345)
    loss.backward()
    nats, norm = engine.gradient(ids, targets, seed=(1 << 63) + 12345)
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    whole = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    assert (nats, norm) == pytest.approx((loss.item(), whole), rel=TOLERANCE)
    for name, gradient in gradients.items():
        assert np.abs(engine.read("gradient")[name] - gradient).max() <= TOLERANCE * whole, name


def test_a_seed_decides_what_is_dropped_and_another_seed_drops_other_things() -> None:
    for shares in KINDS:
        _, engine = pair("lstm", 2, 32, 9, **shares)
        found = [engine.gradient(*chunk(6, 8), seed=seed) for seed in (1, 2, 1, 1 + (1 << 32))]
        assert found[0] == found[2], shares
        assert len(set(found)) == 3, shares


def test_no_two_masks_of_a_step_are_alike() -> None:
    masks = [mask((4096,), 0.5, 7, number) > 0 for number in range(6)] + [mask((4096,), 0.5, 8, 0) > 0]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert (one == other).mean() == pytest.approx(0.5, abs=0.04)  # five standard deviations


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_as_much_is_dropped_as_was_asked_for_and_the_mean_stays(share: float) -> None:
    kept = mask((1 << 16,), share, 3, 1)
    assert (kept == 0).mean() == pytest.approx(share, abs=0.01)
    assert kept.mean() == pytest.approx(1.0, abs=0.05)
    assert set(np.unique(kept)) == {0.0, np.float32(1 / (1 - share))}


def test_without_dropout_a_seed_changes_nothing() -> None:
    _, engine = pair("gru", 2, 17, 9)
    assert engine.gradient(*chunk(6, 8), seed=1) == engine.gradient(*chunk(6, 8), seed=2)
