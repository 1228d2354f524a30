"""Soft targets: what the teacher counts, against the formula worked out place by place; and learning from them."""

from collections import Counter

import numpy as np
import pytest
import torch
from support.engine_pairs import V, chunk, distance, pair, tensor
from support.instruction_sets import needs_kernel

from storycell.engine import EngineModel
from storycell.engine.teacher import Teacher

pytestmark = needs_kernel

ORDER = 4
DISCOUNTS = (0.0, 0.9, 1.6, 2.5)
CLOSE = 1e-5  # float32 sums


def text(length: int = 4000, characters: int = 4, seed: int = 1) -> np.ndarray:
    """Stories over a few characters, so that contexts are met once, twice and often."""
    ids = np.random.default_rng(seed).integers(2, 2 + characters, length)
    ids[np.random.default_rng(seed + 1).random(length) < 0.05] = 0
    ids[0] = 0
    return ids


def contexts(line: list[int]) -> list[tuple[int, ...]]:
    """The last 0 to ORDER characters of a line, never beyond a boundary, the shortest first."""
    out = [()]
    for n in range(1, min(ORDER, len(line)) + 1):
        out.append(tuple(line[-n:]))
        if line[-n] == 0:
            break
    return out


def expected(counts: dict[tuple[int, ...], Counter[int]], line: list[int], left_out: int | None) -> np.ndarray:
    """The formula of native/engine/teacher.h, from the longest context to the shortest."""
    p, weight = np.zeros(V), 1.0
    for context in reversed(contexts(line)):
        if weight <= 1 / 1024:
            break
        follow = Counter(counts.get(context, Counter()))
        if left_out is not None and follow[left_out]:
            follow[left_out] -= 1
        total = sum(follow.values())
        if not total:
            continue
        discounts = {c: DISCOUNTS[min(n, 3)] for c, n in follow.items() if n}
        for c, discount in discounts.items():
            p[c] += weight * (follow[c] - discount) / total
        weight *= sum(discounts.values()) / total
    return p + weight / V


def count(ids: np.ndarray) -> dict[tuple[int, ...], Counter[int]]:
    counts: dict[tuple[int, ...], Counter[int]] = {}
    for i in range(len(ids)):
        for context in contexts(ids[:i].tolist()):
            counts.setdefault(context, Counter())[int(ids[i])] += 1
    return counts


def test_every_target_is_the_formula_s_with_its_own_place_left_out() -> None:
    ids = text()
    counts, teacher = count(ids), Teacher(ids, V, ORDER)
    B, T = 3, 50
    starts = [10, 130, 250]
    rows = np.stack([ids[s - ORDER : s + T + 1] for s in starts])
    got = teacher.teach(rows[:, :ORDER], rows[:, ORDER:-1], rows[:, ORDER + 1 :])
    assert got.shape == (B, T, V)
    for b, start in enumerate(starts):
        for t in range(T):
            at = start + t + 1
            assert np.allclose(got[b, t], expected(counts, ids[:at].tolist(), int(ids[at])), atol=CLOSE), (b, t)
    assert np.allclose(got.sum(2), 1, atol=CLOSE)


def test_a_place_tells_nothing_that_only_it_says() -> None:
    """5 stands once in the text: at that place it is expected no more than a character that never stands in it."""
    ids = np.array([0, 2, 3, 5, 0, 4, 3, 6, 4, 3, 6, 0, 4, 3, 6])
    teacher = Teacher(ids, V, ORDER)
    at = 3
    p = teacher.teach(ids[None, :1], ids[None, 1:at], ids[None, 2 : at + 1])[0, -1]
    assert p[5] == pytest.approx(p[9])
    assert p[6] == p.max() > 4 * p[5]


def test_only_what_stands_before_in_the_row_is_known() -> None:
    ids = text()
    counts, teacher = count(ids), Teacher(ids, V, ORDER)
    row = ids[None, 20:32]
    got = teacher.teach(row[:, :0], row[:, :-1], row[:, 1:])
    for t in range(row.shape[1] - 1):
        assert np.allclose(got[0, t], expected(counts, row[0, : t + 1].tolist(), int(row[0, t + 1])), atol=CLOSE)


def test_results_do_not_depend_on_threads() -> None:
    ids = text()
    teacher, rows = Teacher(ids, V, ORDER), np.stack([ids[k : k + 40] for k in range(7)])
    one, three = (teacher.teach(rows[:, :4], rows[:, 4:-1], rows[:, 5:], threads=n) for n in (1, 3))
    assert np.array_equal(one, three)


def test_what_cannot_be_counted_or_asked_is_refused() -> None:
    with pytest.raises(IndexError, match="outside"):
        Teacher(np.array([0, V]), V)
    with pytest.raises(ValueError, match="0 ids"):
        Teacher(np.array([], int), V)
    with pytest.raises(ValueError, match="order 99"):
        Teacher(text(), V, 99)
    with pytest.raises(IndexError):
        Teacher(text(), V).teach(np.zeros((1, 0)), np.array([[V]]), np.array([[0]]))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_gradients_are_those_of_the_mixed_loss_and_the_loss_of_the_targets_alone(share: float) -> None:
    model, engine = pair("lstm", 2, 17, 9, threads=2)
    ids, targets = chunk(5, 9)
    soft = np.random.default_rng(3).dirichlet(np.ones(V), (5, 9)).astype(np.float32)
    nats, _ = engine.gradient(ids, targets, soft=soft, share=share)
    logits, _ = model(tensor(ids))
    log_p = torch.log_softmax(logits, 2)
    hard = -log_p.gather(2, tensor(targets)[..., None]).mean()
    ((1 - share) * hard - share * (tensor(soft) * log_p).sum(2).mean()).backward()
    assert nats == pytest.approx(hard.item(), rel=1e-5)
    got = engine.read("gradient")
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert distance(got[name], p.grad) < 1e-4, name


def test_soft_targets_of_another_shape_or_share_are_refused() -> None:
    engine = EngineModel(V, 16)
    engine.initialise(1)
    ids, targets = chunk(2, 3)
    with pytest.raises(ValueError, match="soft targets"):
        engine.gradient(ids, targets, soft=np.zeros((2, 3, V - 1)), share=0.5)
    with pytest.raises(ValueError, match="size"):
        engine.gradient(ids, targets, soft=np.zeros((2, 3, V)), share=1.5)
