"""Whether the exercises of step 6 are done."""

import math

import pytest
from step6_latch import inside_quotes, latch_weights, share_restored


def test_quotations_are_inside_from_the_opening_quote_to_the_last_character_before_the_closing_one() -> None:
    assert inside_quotes('a "b c" d') == [False, False, True, True, True, True, False, False, False]


def test_quotations_are_those_of_the_package() -> None:
    from storycell.inspect.features import inside_quotes as expected

    text = '"No," he said. "Not now!"\nShe left. "Oh'
    assert inside_quotes(text) == [value > 0 for value in expected(text)]


def _cell(text: str) -> float:
    c = 0.0
    for character in text:
        i, f, g = latch_weights(character)
        c = c / (1 + math.exp(-f)) + math.tanh(g) / (1 + math.exp(-i))
    return c


@pytest.mark.parametrize("text", ["One, two", "A b. One, two, three", "Yes, " + "very " * 100, "," * 50, "a.,b"])
def test_a_comma_is_remembered(text: str) -> None:
    assert _cell(text) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("text", ["One two", "One, two.", "One, two! And", "a,b?" + "very " * 100, "No. " * 100])
def test_the_end_of_a_sentence_clears_it_and_nothing_else_writes(text: str) -> None:
    assert _cell(text) == pytest.approx(0, abs=0.05)


def test_shares_restored() -> None:
    assert share_restored(-6.0, 2.0, -6.0) == 0
    assert share_restored(-6.0, 2.0, 2.0) == 1
    assert share_restored(-6.0, 2.0, -2.0) == 0.5
    assert share_restored(1.0, 0.0, 1.5) == -0.5
