"""A model mixed with an n-gram: the probabilities are the mixture's, and sum to one, however they are asked for."""

import numpy as np
import pytest
from support.tiny_runs import TEXT

from storycell import loss
from storycell.data.vocab import BYTES, Vocabulary
from storycell.engine import EngineModel
from storycell.evaluation import evaluator, mixing
from storycell.evaluation.mixing import ENTROPY_LEVELS, ORDER_LEVELS, MixedModel
from storycell.evaluation.ngram import NGram
from storycell.evaluation.texts import encode_text
from storycell.generation.generate import generate_text
from storycell.generation.sampler import Sampling
from storycell.language_model import LanguageModel
from storycell.types import BOUNDARY, UNKNOWN

ROUNDING = 1e-6  # float32 logarithms of probabilities
VOCAB = Vocabulary("".join(sorted(set(TEXT))))


def network(V: int = len(VOCAB), seed: int = 3) -> LanguageModel:
    engine = EngineModel(V, 8, 1, "lstm", embedding_size=4)
    engine.initialise(seed, -1.0)
    return engine.network()


def mixture(vocab: Vocabulary = VOCAB, order: int = 5) -> MixedModel:
    ids = encode_text(TEXT, vocab)
    mix = np.random.default_rng(1).uniform(0.05, 0.95, ORDER_LEVELS * ENTROPY_LEVELS)
    return MixedModel(network(len(vocab)), NGram.fit(ids, len(vocab), order), mix)


@pytest.mark.parametrize("vocab", [VOCAB, BYTES], ids=["characters", "bytes"])
def test_the_probabilities_sum_to_one_over_the_vocabulary_at_every_place(vocab: Vocabulary) -> None:
    mixed = mixture(vocab)
    strange = "Zzz 'Ann' had\n\n“red”"  # contexts that the n-gram has never seen, too
    ids = np.array([[BOUNDARY, *vocab.encode(strange)[:20]], [BOUNDARY, *vocab.encode(TEXT)[:20]]])
    logits, _ = mixed.logits(ids)
    total = np.exp(logits.astype(np.float64)).sum(axis=-1)
    assert np.abs(total - 1).max() < ROUNDING


def test_each_probability_is_the_weighted_sum_of_both_enumerated_one_by_one() -> None:
    mixed = mixture()
    story = encode_text(TEXT, VOCAB)[1:12].astype(np.int64)
    logits, _ = mixed.logits(np.array([[BOUNDARY, *story]]))
    plain, _ = mixed.lm.logits(np.array([[BOUNDARY, *story]]))
    for t in range(len(story) + 1):
        p_model = mixing.softmax(plain[0, t])
        p_ngram = mixed.ngram.distribution([BOUNDARY, *story[:t].tolist()])
        p = np.exp(logits[0, t].astype(np.float64))
        m = (p[2] - p_ngram[2]) / (p_model[2] - p_ngram[2])  # from one character the weight, which then fits all
        assert min(abs(m - known) for known in mixed.mix) < 1e-3
        np.testing.assert_allclose(p, m * p_model + (1 - m) * p_ngram, atol=2e-5)


def test_the_losses_of_targets_are_those_of_the_whole_distributions() -> None:
    mixed, ids = mixture(), encode_text(TEXT, VOCAB)[:301].astype(np.int64)
    fed, targets = ids[:-1].reshape(3, 100), ids[1:].reshape(3, 100)
    nats, _ = mixed.nats(fed, targets)
    logits, _ = mixed.logits(fed)
    np.testing.assert_allclose(nats, -np.take_along_axis(logits, targets[..., None], -1)[..., 0], atol=ROUNDING)


def test_a_text_cut_anywhere_has_the_same_losses() -> None:
    mixed, ids = mixture(), encode_text(TEXT, VOCAB)[:121].astype(np.int64)
    fed, targets = ids[None, :-1], ids[None, 1:]
    whole, end = mixed.nats(fed, targets)
    state = None
    parts = []
    for a, b in ((0, 1), (1, 2), (2, 60), (60, 120)):
        nats, state = mixed.nats(fed[:, a:b], targets[:, a:b], state)
        parts.append(nats)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)
    assert state is not None
    np.testing.assert_array_equal(state["ngram"], end["ngram"])
    np.testing.assert_array_equal(mixed.state_after(fed)["ngram"], end["ngram"])


@pytest.mark.parametrize("windows", [None, 7])
def test_with_no_trust_in_the_model_it_is_the_n_gram_and_with_all_of_it_the_model(windows: int | None) -> None:
    mixed, ids = mixture(), encode_text(TEXT, VOCAB)
    alone = MixedModel(mixed.lm, mixed.ngram, np.zeros_like(mixed.mix))
    np.testing.assert_allclose(
        evaluator.score(alone, ids, windows=windows), mixed.ngram.score(ids, windows=windows), rtol=1e-5
    )
    plain = MixedModel(mixed.lm, mixed.ngram, np.ones_like(mixed.mix))
    np.testing.assert_allclose(
        evaluator.score(plain, ids, windows=windows), evaluator.score(mixed.lm, ids, windows=windows), atol=1e-4
    )


def test_an_unknown_character_costs_the_escape_and_is_followed_by_a_true_distribution() -> None:
    mixed = mixture()
    ids = np.array([[BOUNDARY, 5, UNKNOWN, 6, 7]])
    logits, _ = mixed.logits(ids)
    assert np.abs(np.exp(logits.astype(np.float64)).sum(axis=-1) - 1).max() < ROUNDING
    nats = evaluator.score(mixed, ids[0].astype(np.uint16))
    assert nats[1] == loss.ESCAPE_NATS


def test_the_weights_are_those_that_make_the_held_back_text_most_likely() -> None:
    draw = np.random.default_rng(2)
    p_model, p_ngram = draw.uniform(0.01, 1, 4000), draw.uniform(0.01, 1, 4000)
    buckets = draw.integers(0, 2, 4000)
    p_model[buckets == 1] **= 2
    m = mixing.fit_weights(p_model, p_ngram, buckets)
    assert m[0] > m[1] + 0.1
    assert m[5] == 0.5  # nothing is known of it
    for k in (0, 1):
        at = buckets == k
        losses = [-np.log(w * p_model[at] + (1 - w) * p_ngram[at]).sum() for w in (m[k] - 0.02, m[k], m[k] + 0.02)]
        assert losses[1] == min(losses)


def test_the_held_back_part_is_whole_stories_that_were_not_counted() -> None:
    ids = encode_text(TEXT, VOCAB)
    counted = mixing.count(ids, len(VOCAB), 4)
    assert counted.held_back[0] == BOUNDARY
    np.testing.assert_array_equal(counted.held_back, ids[-len(counted.held_back) :])
    rest = ids[: -len(counted.held_back)]
    assert counted.ngram.params == NGram.fit(rest, len(VOCAB), 4).params


def test_a_fitted_mixture_is_better_on_the_held_back_part_than_with_any_one_weight() -> None:
    ids = np.tile(encode_text(TEXT, VOCAB), 20)  # so much that the prior hardly counts
    counted = mixing.count(ids, len(VOCAB), 3)
    mixed = mixing.fit(network(), counted)
    fitted = evaluator.score(mixed, counted.held_back).mean()
    for weight in (0.1, 0.3, 0.5, 0.9):
        one = MixedModel(mixed.lm, mixed.ngram, np.full_like(mixed.mix, weight))
        assert fitted < evaluator.score(one, counted.held_back).mean()
    assert fitted < evaluator.score(mixed.lm, counted.held_back).mean()


def test_a_seed_samples_one_text_and_drawn_characters_follow_the_mixture() -> None:
    mixed = mixture()
    texts = [generate_text(mixed, VOCAB, "Once", 40, sampling=Sampling(1.0), seed=s) for s in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]
    draws = [generate_text(mixed, VOCAB, "Once upon a tim", 1, sampling=Sampling(1.0), seed=s)[-1] for s in range(300)]
    logits, _ = mixed.logits(np.array([[BOUNDARY, *VOCAB.encode("Once upon a tim")]]))
    p = np.exp(logits[0, -1].astype(np.float64))[VOCAB.encode("e")[0]]
    assert abs(draws.count("e") / 300 - p) < 4 * np.sqrt(p * (1 - p) / 300)
