"""The n-gram equals a textbook one, its probabilities sum to one; the compressors' figures are their files' sizes."""

import bz2
import io
import lzma
import math
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storycell import loss
from storycell.data.corpus import open_corpus
from storycell.data.prepare import prepare_cached
from storycell.data.tokens import split_stories
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation.compressors import compressed_bits
from storycell.evaluation.ngram import NGram
from storycell.types import BOUNDARY, UNKNOWN

ROUNDING = 1e-9  # float64 sums in another order
V = 9


def random_text(stories: int, seed: int) -> np.ndarray:
    """Stories of a drifting chain, so that all orders have something to learn."""
    draw = np.random.default_rng(seed)
    ids: list[int] = []
    for _ in range(stories):
        ids.append(BOUNDARY)
        now = 2
        for _ in range(int(draw.integers(1, 60))):
            now = int(2 + (now * 3 + draw.integers(0, 3) ** 2) % (V - 2))
            ids.append(now)
    return np.array(ids, dtype=np.uint8)


def cut(ids: np.ndarray) -> list[list[int]]:
    """The stories with the boundary before each, and after each where there are several."""
    stories = [story.tolist() for story in split_stories(ids)]
    return [[*s, BOUNDARY] if len(stories) > 1 else s for s in stories]


class Textbook:
    """Chen & Goodman (1999), modified Kneser-Ney, interpolated; with dictionaries, as slowly as it is written."""

    def __init__(self, stories: list[list[int]], order: int) -> None:
        self.order = order
        occurs: dict[int, Counter] = {k: Counter() for k in range(1, order + 1)}
        before: dict[int, dict[tuple, set]] = {k: defaultdict(set) for k in range(1, order + 1)}
        for story in stories:
            for end in range(1, len(story)):
                for k in range(1, min(order, end + 1) + 1):
                    gram = tuple(story[end - k + 1 : end + 1])
                    occurs[k][gram] += 1
                    if end - k >= 0:
                        before[k][gram].add(story[end - k])
        self.count = {order: dict(occurs[order])}
        for k in range(1, order):
            self.count[k] = {g: len(before[k][g]) if before[k][g] else n for g, n in occurs[k].items()}
        self.discounts = {k: self._discounts(self.count[k]) for k in self.count}
        self.followers: dict[tuple, list[int]] = defaultdict(list)
        for grams in self.count.values():
            for gram, n in grams.items():
                self.followers[gram[:-1]].append(n)

    def _discounts(self, counts: dict) -> tuple[float, float, float]:
        n1, n2, n3, n4 = (sum(c == k for c in counts.values()) for k in (1, 2, 3, 4))
        if 0 in (n1, n2, n3, n4):
            return 0.5, 1.0, 1.5
        y = n1 / (n1 + 2 * n2)
        found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        return found if 0 < found[0] <= 1 and 0 < found[1] <= 2 and 0 < found[2] <= 3 else (0.5, 1.0, 1.5)

    def p(self, w: int, context: tuple) -> float:
        """The probability of `w` after the context, which has `order - 1` characters at most."""
        k = len(context) + 1
        lower = self.p(w, context[1:]) if context else 1 / (V - 1)
        followers = self.followers.get(context)
        if not followers:
            return lower
        d = self.discounts[k]
        c = self.count[k].get((*context, w), 0)
        total = sum(followers)
        gamma = sum(d[min(n, 3) - 1] for n in followers) / total
        return (max(c - d[min(c, 3) - 1], 0) / total if c else 0.0) + gamma * lower

    def nats(self, stories: list[list[int]]) -> list[float]:
        return [
            -math.log(self.p(story[end], tuple(story[max(0, end - self.order + 1) : end])))
            for story in stories
            for end in range(1, len(story))
        ]


@pytest.mark.parametrize(("stories", "order"), [(40, 5), (40, 1), (40, 2), (1, 4), (200, 12)])
def test_the_loss_agrees_with_a_textbook_implementation(stories: int, order: int) -> None:
    train, held_out = random_text(stories, 1), random_text(max(1, stories // 4), 2)
    if stories == 1:
        train = np.array([0, *([2, 3, 4, 5, 3, 6] * 30), 7, 8, 2], dtype=np.uint8)
    textbook = Textbook(cut(train), order)
    ngram = NGram.fit(train, V, order)
    for text in (train, held_out):
        assert ngram.score(text) == pytest.approx(textbook.nats(cut(text)), abs=ROUNDING)
    assert ngram.params >= sum(len(grams) for grams in textbook.count.values())
    assert ngram.order == order


@pytest.mark.parametrize("order", [1, 3, 8])
def test_probabilities_sum_to_one_after_any_context(order: int) -> None:
    ngram = NGram.fit(random_text(60, 3), V, order)
    draw = np.random.default_rng(4)
    contexts = [[], [BOUNDARY], [BOUNDARY, 2], [UNKNOWN, 3], *(draw.integers(2, V, n).tolist() for n in range(1, 12))]
    for context in contexts:
        p = ngram.distribution(context)
        assert p.shape == (V,)
        assert p.sum() == pytest.approx(1.0, abs=ROUNDING)
        assert p[UNKNOWN] == 0
        assert (np.delete(p, UNKNOWN) > 0).all()


def test_orders_end_where_no_story_is_as_long() -> None:
    ids = np.array([BOUNDARY, 3, 4, BOUNDARY, 3, 5, BOUNDARY, 6], dtype=np.uint8)
    ngram = NGram.fit(ids, V, order=10)
    assert ngram.order == 4  # the boundary, two characters, the boundary that ends them
    contexts = ngram.contexts(ids.astype(np.int64)[None], ngram.begin(1))
    p = ngram.distributions(contexts.reshape(-1, ngram.order))
    assert p.sum(1) == pytest.approx(np.ones(len(p)), abs=ROUNDING)
    assert -np.log(p[np.arange(len(p)), [*ids[1:], BOUNDARY]]) == pytest.approx(ngram.score(ids), abs=ROUNDING)


def test_a_distribution_gives_what_scoring_gives() -> None:
    ngram = NGram.fit(random_text(60, 3), V, 6)
    story = random_text(1, 9)
    expected = [-math.log(ngram.distribution(story[:k].tolist())[story[k]]) for k in range(1, len(story))]
    assert ngram.score(story) == pytest.approx(expected, abs=ROUNDING)


def test_windows_begin_without_a_past_and_long_texts_are_scored_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    ngram = NGram.fit(random_text(60, 3), V, 6)
    ids = random_text(8, 5)
    T = 7
    expected = [
        -math.log(ngram.distribution(begun(ids[a : a + k].tolist()))[ids[a + k]])
        for a in range(0, len(ids) - 1, T)
        for k in range(1, min(T, len(ids) - 1 - a) + 1)
    ]
    assert ngram.score(ids, windows=T) == pytest.approx(expected, abs=ROUNDING)
    whole = ngram.score(ids)
    monkeypatch.setattr("storycell.evaluation.ngram._SLICE", 10)
    assert (ngram.score(ids) == whole).all()


def begun(context: list[int]) -> list[int]:
    """The part of a context since the last boundary, which begins it."""
    last = max((k for k, c in enumerate(context) if c == BOUNDARY), default=0)
    return context[last:]


def test_an_unknown_character_costs_the_escape_and_hides_what_came_before() -> None:
    ngram = NGram.fit(random_text(60, 3), V, 6)
    nats = ngram.score(np.array([0, 2, UNKNOWN, 3], dtype=np.uint8))
    assert nats[1] == loss.ESCAPE_NATS
    assert nats[2] == pytest.approx(-math.log(ngram.distribution([UNKNOWN])[3]))
    assert nats[2] == pytest.approx(-math.log(ngram.distribution([])[3]))


def test_mistakes_are_stated() -> None:
    with pytest.raises(SettingsError, match="order = 0"):
        NGram.fit(random_text(3, 1), V, 0)
    with pytest.raises(CorpusError, match="no characters"):
        NGram.fit(np.array([0], dtype=np.uint8), V)


def test_longer_orders_help_on_the_embedded_stories() -> None:
    prepared = prepare_cached(open_corpus(["stories"]))
    ids, held_out = prepared.train_ids[:400_000], prepared.valid_ids
    nats = {order: NGram.fit(ids, len(prepared.vocab), order).score(held_out).mean() for order in (1, 3, 6, 10)}
    assert nats[1] > nats[3] > nats[6] > nats[10]
    assert nats[1] > 2.5  # single letters of English
    assert nats[10] < 1.2


def test_compressors_are_as_good_as_their_files() -> None:
    text = b"Once upon a time there was a cat. " * 40 + bytes(range(256))
    assert compressed_bits("bz2", text) == 8 * len(bz2.compress(text, 9))
    packed = io.BytesIO()
    with lzma.open(packed, "wb", preset=6) as file:
        file.write(text)
    assert compressed_bits("xz", text) == pytest.approx(8 * len(packed.getvalue()), abs=8 * 8)
    assert compressed_bits("xz", text, training=text) < compressed_bits("xz", text) / 3


@pytest.mark.soak
def test_ten_megabytes_are_counted_within_a_minute_and_two_gigabytes(real_data: Callable[[str], Path]) -> None:
    """Order 12 on TinyStories; measured 12 s and 1.3 GB on one core of a busy machine."""
    program = """
import resource, sys, time
from storycell.data.corpus import open_corpus
from storycell.data.prepare import prepare_cached
from storycell.evaluation.ngram import NGram
prepared = prepare_cached(open_corpus([sys.argv[1]]), valid=open_corpus([sys.argv[2]]))
began = time.monotonic()
ngram = NGram.fit(prepared.train_ids, len(prepared.vocab), 12)
took_s = time.monotonic() - began
print(took_s, ngram.score(prepared.valid_ids).mean(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
    words = [str(real_data(f"tinystories/{split}.txt")) for split in ("train", "valid")]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, check=True)
    took_s, nats, gigabytes = map(float, done.stdout.split())
    print(f"{took_s:.1f} s, {gigabytes:.2f} GB, {nats:.4f} nats per character")
    assert took_s < 60
    assert gigabytes < 2.0
    assert nats < 0.85
