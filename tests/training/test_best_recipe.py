"""The recipe `best`: what it makes of the text, the budget and the machine's speed, and that flags still win."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storycell
from storycell import config
from storycell.config import Settings
from storycell.data import batches
from storycell.runs.folder import RunFolder
from storycell.training import best
from storycell.training.best import CANDIDATES, NARROW, NOMINAL, SHALLOW, WIDE, Network
from storycell.training.trainer import Report, Trainer

MB = 1_000_000
ZEN_5 = {SHALLOW: 205_000.0, **NOMINAL}  # two cores of it


def fitted(train_chars: int, speed: float = 1.0, **budget: float) -> dict[str, Any]:
    speeds = {network: speed * nominal for network, nominal in (ZEN_5 if "minutes" in budget else NOMINAL).items()}
    return best.plan(config.resolve("best", **budget), train_chars, speeds).changes


def network_of(changes: dict[str, float]) -> Network:
    return Network(int(changes["layers"]), int(changes["hidden"]))


@pytest.mark.parametrize("name", ["dropout", "weight_decay"])
def test_more_passes_over_the_text_are_held_back_more(name: str) -> None:
    amounts = [fitted(MB, chars=passes * MB)[name] for passes in (1, 4, 8, 16, 60)]
    assert amounts == sorted(amounts)
    assert len(set(amounts)) > 2


@pytest.mark.parametrize("seconds", [100, 900])
def test_a_budget_in_minutes_characters_or_steps_of_the_same_length_is_the_same(seconds: int) -> None:
    by_minutes = fitted(10 * MB, minutes=seconds / 60)
    chars = seconds * int(NOMINAL[NARROW])
    assert network_of(fitted(10 * MB, chars=chars)) == network_of(by_minutes)
    assert network_of(fitted(10 * MB, steps=chars // (64 * 64))) == network_of(by_minutes)


def test_long_budgets_and_short_texts_get_wide_layers() -> None:
    assert fitted(10 * MB, minutes=3)["hidden"] < fitted(10 * MB, minutes=20)["hidden"]
    assert fitted(10 * MB, minutes=3)["hidden"] < fitted(MB, minutes=3)["hidden"]


def rate(train_chars: int, passes: float, network: Network, **given: Any) -> float:
    settings = config.resolve("best", chars=round(passes * train_chars), **given)
    return float(best.plan(settings, train_chars, {network: 1.0}, given).changes["lr"])


def test_gates_are_normalised_at_the_rate_of_the_recipe_until_the_text_is_read_very_often() -> None:
    own = config.resolve("best").training.lr
    assert own == config.resolve("base").training.lr
    for train_chars, network in itertools.product((MB, 10 * MB), (NARROW, SHALLOW)):
        for passes in (2, 5, 12):
            assert fitted(train_chars, chars=passes * train_chars)["gate_norm"]
            assert rate(train_chars, passes, network) == own
        assert not fitted(train_chars, chars=30 * train_chars)["gate_norm"]
        assert rate(train_chars, 30, network) == pytest.approx(rate(train_chars, 30, network, gate_norm=False))
        assert rate(train_chars, 30, network) < own / 2
        assert rate(train_chars, 30, network, gate_norm=True) == own


def test_two_layers_of_plain_gates_learn_slower_where_the_text_is_hardly_read_twice() -> None:
    plain = {"gate_norm": False}
    assert rate(10 * MB, 2, NARROW, **plain) < rate(10 * MB, 2, SHALLOW, **plain)
    assert rate(10 * MB, 2, SHALLOW, **plain) == rate(10 * MB, 30, NARROW, **plain)
    assert fitted(10 * MB, chars=20 * MB, **plain)["lr"] == rate(10 * MB, 2, NARROW, **plain)


def test_a_small_text_is_held_back_after_fewer_readings() -> None:
    for passes in (5, 18):
        assert fitted(MB, chars=passes * MB)["dropout"] > fitted(10 * MB, chars=passes * 10 * MB)["dropout"]


def test_n_grams_are_learnt_where_the_text_is_not_read_too_often() -> None:
    assert fitted(10 * MB, chars=20 * MB)["ngrams"] == 8
    assert fitted(10 * MB, chars=60 * MB)["ngrams"] == 0
    one_hot = config.resolve("best", chars=20 * MB, embedding=0)
    assert best.plan(one_hot, 10 * MB, NOMINAL).changes["ngrams"] == 0


def test_a_slower_machine_gets_no_larger_a_network_and_at_last_a_smaller_one() -> None:
    for train_chars, minutes in itertools.product((MB, 4 * MB, 10 * MB), (1, 3, 10, 20)):
        sizes = [
            CANDIDATES.index(network_of(fitted(train_chars, speed, minutes=minutes)))
            for speed in (2, 1, 0.5, 0.25, 0.1, 0.01)
        ]
        assert sizes == sorted(sizes, reverse=True)
    assert network_of(fitted(10 * MB, 1.0, minutes=10)) == WIDE
    assert network_of(fitted(10 * MB, 0.5, minutes=10)) == NARROW
    assert network_of(fitted(MB, 1.0, minutes=1.5)) == WIDE
    assert network_of(fitted(MB, 0.5, minutes=1.5)) == NARROW
    assert network_of(fitted(MB, 0.25, minutes=1.5)) == SHALLOW


def test_what_is_chosen_is_never_expected_to_do_worse_than_the_network_of_base() -> None:
    for train_chars, minutes, speed in itertools.product(
        (MB // 2, MB, 3 * MB, 40 * MB), (0.5, 3, 30), (2, 1, 0.5, 0.1)
    ):
        chosen = network_of(fitted(train_chars, speed, minutes=minutes))
        chars = {k: ZEN_5[k] * speed * 60 * minutes * best.TRAINS for k in CANDIDATES}
        expected = {k: best.expected_nats(k, chars[k], train_chars) for k in CANDIDATES}
        assert expected[chosen] <= expected[NARROW]


def test_the_expected_loss_is_the_one_of_the_table_and_never_rises_with_more_characters() -> None:
    for train_chars, curves in best.LEARNT.items():
        for network, curve in curves.items():
            for chars, nats in curve:
                assert best.expected_nats(network, chars, train_chars) == pytest.approx(nats)
            losses = [best.expected_nats(network, chars, train_chars) for chars in np.geomspace(1e5, 1e9, 40)]
            assert losses == sorted(losses, reverse=True)
            assert losses[0] > losses[-1]


class FakeLearner:
    """Learns nothing; every step takes `step_s` of the clock, the first one ten times as long."""

    def __init__(self, clock: "FakeClock", step_s: float) -> None:
        self.clock, self.step_s, self.steps = clock, step_s, 0

    def gradient(self, *_: object) -> tuple[float, float]:
        self.steps += 1
        self.clock.now += self.step_s * (10 if self.steps == 1 else 1)
        return 1.0, 1.0

    def apply(self, rate: float) -> None:
        pass

    def snapshot(self) -> dict[str, np.ndarray]:
        return {}


class FakeClock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(step_s: dict[int, float], **budget: float) -> tuple[dict[Network, float], float]:
    """The speeds that steps of those seconds come to, by hidden units, and the seconds that measuring took."""
    clock = FakeClock()

    def build(settings: Settings) -> Trainer:
        learner = FakeLearner(clock, step_s[settings.model.hidden] * settings.model.layers)
        made = batches.make(np.resize(np.arange(30), MB), settings.training)
        return Trainer(learner, made, settings.training, clock)  # type: ignore[arg-type]

    settings = config.resolve("best", **budget)
    return best.measure(settings, CANDIDATES, build), clock.now


def test_measuring_finds_the_speed_of_each_network_in_a_few_seconds_at_most() -> None:
    speeds, took_s = measured({256: 0.02, 384: 0.05}, minutes=3)
    assert speeds[SHALLOW] == pytest.approx(64 * 64 / 0.02)
    assert speeds[NARROW] == pytest.approx(64 * 64 / 0.04)
    assert speeds[WIDE] == pytest.approx(64 * 64 / 0.1)
    assert took_s <= len(CANDIDATES) * best.MEASURED_S + 0.2


def test_on_a_very_slow_machine_one_step_of_each_is_all_that_is_measured() -> None:
    speeds, took_s = measured({256: 2.0, 384: 5.0}, minutes=3)
    assert took_s == pytest.approx(10 * (2 + 4 + 10))
    assert speeds[SHALLOW] > speeds[NARROW] > speeds[WIDE]


def test_measuring_takes_a_fiftieth_of_a_short_budget_and_a_step_of_each() -> None:
    _, took_s = measured({256: 0.002, 384: 0.005}, minutes=0.1)
    assert took_s <= 0.02 * 6 + 10 * (0.002 + 0.004 + 0.010) + 0.01


def settings_of(run: storycell.Run) -> config.Settings:
    return RunFolder(run.path).config().settings


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("A hen sat on a wall. A hen had a fall. " * 40, encoding="utf-8")
    return path


def test_a_run_is_made_with_what_was_chosen_and_with_what_was_asked_for(tmp_path: Path, text: Path) -> None:
    chosen = storycell.train(text, out=tmp_path / "a", recipe="best", steps=9, chunk=16)
    assert settings_of(chosen).model.dropout > 0
    assert settings_of(chosen).training.streams == 32
    asked = storycell.train(text, out=tmp_path / "b", recipe="best", steps=9, chunk=16, dropout=0.0, hidden=24)
    assert (settings_of(asked).model.dropout, settings_of(asked).model.hidden) == (0.0, 24)
    onwards = storycell.train(text, out=tmp_path / "c", recipe="best", steps=9, chunk=16, init=asked.path)
    assert onwards.settings.training.lr == pytest.approx(asked.settings.training.lr / 4)  # as --init does by any recipe
    assert settings_of(onwards).model.hidden == 24
    assert settings_of(onwards).model.dropout > 0


def test_minutes_are_planned_from_what_was_measured_and_resuming_keeps_the_choice(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []

    def note(report: Report) -> None:
        notices.append(report.notice)

    def speeds(*_: object) -> dict[Network, float]:
        return {SHALLOW: 2e4, NARROW: 1.0, WIDE: 0.5}

    monkeypatch.setattr(best, "measure", speeds)
    run = storycell.train(text, out=tmp_path / "a", recipe="best", minutes=0.002, chunk=16, callback=note)
    model = settings_of(run).model
    assert (model.layers, model.hidden) == SHALLOW
    assert "an LSTM of 1 x 256" in notices[0]
    assert "20,000 characters/s measured here, 0.002 minutes" in notices[0]
    monkeypatch.setattr(best, "measure", lambda *_: pytest.fail("resuming measures nothing"))
    again = storycell.resume(run.path, minutes=0.004)
    assert settings_of(again).model == model


def test_measuring_leaves_the_training_as_it_is(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that measured, and one that was told what the other chose, begin alike."""
    losses: dict[str, list[float]] = {"a": [], "b": []}
    settings = {"hidden": 8, "layers": 1, "chunk": 16, "minutes": 0.01, "seed": 5}
    storycell.train(
        text, out=tmp_path / "a", recipe="best", callback=lambda r: losses["a"].append(r.train_nats), **settings
    )
    told = settings_of(storycell.Run(tmp_path / "a"))
    storycell.train(
        text,
        out=tmp_path / "b",
        recipe="base",
        callback=lambda r: losses["b"].append(r.train_nats),
        **{
            **settings,
            "streams": told.training.streams,
            "weight_decay": told.training.weight_decay,
            "lr": told.training.lr,
            "dropout": told.model.dropout,
            "gate_norm": told.model.gate_norm,
            "ngrams": told.model.ngrams,
            "ngram_rows": told.model.ngram_rows,
        },
    )
    assert losses["a"][0] == losses["b"][0]


def test_a_budget_in_characters_measures_nothing(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best, "measure", lambda *_: pytest.fail("nothing should be measured"))
    run = storycell.train(text, out=tmp_path / "a", recipe="best", chars=4000, chunk=16)
    assert settings_of(run).training.chars == 4000
