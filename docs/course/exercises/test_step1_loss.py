"""Whether the exercises of step 1 are done."""

import math

import pytest
from step1_loss import bigram_loss, packed_bytes, perplexity


def test_perplexity_of_equal_choices_is_their_number() -> None:
    assert perplexity([0.25] * 7) == pytest.approx(4)
    assert perplexity([1 / 63] * 3) == pytest.approx(63)


def test_perplexity_of_one_certain_and_one_doubtful_guess_is_their_geometric_mean() -> None:
    assert perplexity([1.0, 0.25]) == pytest.approx(2)


def test_bigram_loss_of_pairs_counted_by_hand() -> None:
    # V = 2; a is followed by b three times and by a never, b by a twice and by b never
    assert bigram_loss("ababab", "ab") == pytest.approx(-math.log(4 / 5))
    assert bigram_loss("ababab", "bb") == pytest.approx(-math.log(1 / 4))
    assert bigram_loss("ababab", "abb") == pytest.approx(-math.log(4 / 5 * 1 / 4) / 2)


def test_a_character_that_was_never_seen_is_rare_but_not_impossible() -> None:
    assert bigram_loss("aaa", "az") == pytest.approx(-math.log(1 / 4))
    assert bigram_loss("aaa", "zz") == pytest.approx(math.log(2))


def test_packed_bytes_of_a_model_that_knows_nothing_about_bytes() -> None:
    assert packed_bytes(math.log(256), 1000) == pytest.approx(1000)


def test_packed_bytes_of_the_articles_best_model() -> None:
    assert packed_bytes(0.7964, 1_000_000) == pytest.approx(143_620, rel=1e-4)
