"""The recipe `best`: what it makes of the size of a text and of the budget, and that flags still win."""

from pathlib import Path

import pytest

import storycell
from storycell import config
from storycell.runs.folder import RunFolder
from storycell.training import start

MB = 1_000_000


def fitted(train_chars: int, **budget: float) -> dict[str, float]:
    return start.fit_recipe(config.resolve("best", **budget), train_chars)


@pytest.mark.parametrize("name", ["dropout", "weight_decay"])
def test_more_passes_over_the_text_are_held_back_more(name: str) -> None:
    amounts = [fitted(MB, chars=passes * MB)[name] for passes in (1, 4, 8, 16, 60)]
    assert amounts == sorted(amounts)
    assert len(set(amounts)) > 2


@pytest.mark.parametrize("seconds", [100, 900])
def test_a_budget_in_minutes_characters_or_steps_of_the_same_length_is_the_same(seconds: int) -> None:
    by_minutes = fitted(10 * MB, minutes=seconds / 60)
    chars = seconds * start.CHARS_PER_S[start.NARROW]
    assert fitted(10 * MB, chars=chars)["hidden"] == by_minutes["hidden"]
    assert fitted(10 * MB, steps=chars // (64 * 64))["hidden"] == by_minutes["hidden"]


def test_long_budgets_and_short_texts_get_wide_layers() -> None:
    assert fitted(10 * MB, minutes=3)["hidden"] < fitted(10 * MB, minutes=20)["hidden"]
    assert fitted(10 * MB, minutes=3)["hidden"] < fitted(MB, minutes=3)["hidden"]


def test_n_grams_are_learnt_where_the_text_is_not_read_too_often() -> None:
    assert fitted(10 * MB, chars=20 * MB)["ngrams"] == 8
    assert fitted(10 * MB, chars=60 * MB)["ngrams"] == 0
    one_hot = config.resolve("best", chars=20 * MB, embedding=0)
    assert start.fit_recipe(one_hot, 10 * MB)["ngrams"] == 0
    assert "ngrams" not in start.fit_recipe(one_hot, 10 * MB, keeps_network=True)


def settings_of(run: storycell.Run) -> config.Settings:
    return RunFolder(run.path).config().settings


def test_a_run_is_made_with_what_was_chosen_and_with_what_was_asked_for(tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text("A hen sat on a wall. A hen had a fall. " * 40, encoding="utf-8")
    chosen = storycell.train(text, out=tmp_path / "a", recipe="best", steps=9, chunk=16)
    assert settings_of(chosen).model.dropout > 0
    assert settings_of(chosen).training.streams == 32
    asked = storycell.train(text, out=tmp_path / "b", recipe="best", steps=9, chunk=16, dropout=0.0, hidden=24)
    assert (settings_of(asked).model.dropout, settings_of(asked).model.hidden) == (0.0, 24)
    onwards = storycell.train(text, out=tmp_path / "c", recipe="best", steps=9, chunk=16, init=asked.path)
    assert settings_of(onwards).model.hidden == 24
    assert settings_of(onwards).model.dropout > 0
