"""Adapting: a true distribution from what was read before alone, and better the more a text repeats itself."""

import numpy as np
import pytest
from support.tiny_runs import TEXT

from storycell.data.vocab import BYTES, Vocabulary
from storycell.evaluation.adaptation import Adapter
from storycell.evaluation.ngram import NGram
from storycell.evaluation.texts import encode_text
from storycell.types import UNKNOWN

VOCAB = Vocabulary("".join(sorted(set(TEXT))))
ESCAPE = 2.0**-20


def flat(B: int, V: int = len(VOCAB)) -> np.ndarray:
    """What a model that knows nothing predicts."""
    p = np.full((B, V), (1 - ESCAPE) / (V - 1))
    p[:, UNKNOWN] = ESCAPE
    return p


def ngram(order: int = 6) -> NGram:
    return NGram.fit(encode_text(TEXT, VOCAB), len(VOCAB), order)


@pytest.mark.parametrize("vocab", [VOCAB, BYTES], ids=["characters", "bytes"])
@pytest.mark.parametrize("with_ngram", [False, True])
def test_what_it_predicts_sums_to_one_and_leaves_the_escape_alone(vocab: Vocabulary, with_ngram: bool) -> None:
    V, draw = len(vocab), np.random.default_rng(1)
    counted = NGram.fit(encode_text(TEXT, vocab), V, 4) if with_ngram else None
    adapter = Adapter(vocab, 5, counted)
    for _ in range(120):
        p_model = draw.dirichlet(np.full(V, 0.1), 5)
        p_model[:, UNKNOWN] = 0
        p_model *= (1 - ESCAPE) / p_model.sum(axis=1, keepdims=True)
        p_model[:, UNKNOWN] = ESCAPE
        p = adapter.predict(p_model)
        assert np.abs(p.sum(axis=1) - 1).max() < 1e-9
        assert (p >= 0).all()
        assert (p[:, UNKNOWN] == ESCAPE).all()
        adapter.learn(draw.integers(1, min(V, 12), 5))  # the unknown character too


def test_two_that_read_the_same_predict_the_same_to_the_bit_whatever_comes_next() -> None:
    one, two = Adapter(VOCAB, 3, ngram()), Adapter(VOCAB, 3, ngram())
    draw = np.random.default_rng(2)
    for _ in range(60):
        p, q = one.predict(flat(3)), two.predict(flat(3))
        assert p.tobytes() == q.tobytes()
        came = draw.integers(2, len(VOCAB), 3)
        one.learn(came)
        two.learn(came)
    one.predict(flat(3))
    two.predict(flat(3))
    one.learn(np.array([2, 3, 4]))
    two.learn(np.array([2, 3, 5]))
    assert one.predict(flat(3)).tobytes() != two.predict(flat(3)).tobytes()


def losses(adapter: Adapter, ids: np.ndarray) -> np.ndarray:
    """The nats of one text."""
    nats = []
    for k in ids.tolist():
        nats.append(-np.log(adapter.predict(flat(1))[0, k]))
        adapter.learn(np.array([k]))
    return np.array(nats)


def test_a_text_that_repeats_itself_is_soon_expected() -> None:
    piece = np.array(VOCAB.encode("Once upon a time Ann had 7 balls. "))
    nats = losses(Adapter(VOCAB, 1), np.tile(piece, 12)).reshape(12, -1)
    assert abs(nats[0].mean() - np.log(len(VOCAB) - 1)) < 0.3
    assert nats[-1].mean() < nats[1].mean() < nats[0].mean()
    assert nats[-1].mean() < 0.3 * nats[0].mean()


def test_the_n_gram_is_used_from_the_first_character() -> None:
    ids = encode_text(TEXT, VOCAB)[1:80].astype(np.int64)
    assert losses(Adapter(VOCAB, 1, ngram()), ids).mean() < 0.8 * losses(Adapter(VOCAB, 1), ids).mean()


def test_a_text_that_ends_leaves_the_others_as_they_are() -> None:
    """Rows that go on predict the same whether another row was given up or began anew, but for what is learnt of it."""
    draw = np.random.default_rng(3)
    steps = draw.integers(2, len(VOCAB), (40, 4))
    ended, begun = Adapter(VOCAB, 4, ngram()), Adapter(VOCAB, 4, ngram())
    for came in steps:
        ended.predict(flat(4))
        begun.predict(flat(4))
        ended.learn(came)
        begun.learn(came)
    ended.move_on(np.zeros(0, np.int64), np.array([False, True, False, False]))
    begun.move_on(np.array([1]), np.zeros(4, bool))
    three, four = ended.predict(flat(3)), begun.predict(flat(4))
    np.testing.assert_array_equal(three, four[[0, 2, 3]])
    fresh = Adapter(VOCAB, 1, ngram()).predict(flat(1))
    alike = [np.corrcoef(row, fresh[0])[0, 1] for row in four]  # it begins like a text, with what was learnt from all
    assert max(alike) == alike[1] > 0.5
