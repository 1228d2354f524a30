"""Settings and recipes: what is accepted, what is refused and in which words, and that `config.json` holds it all."""

import json
from typing import Any

import pytest

from storycell import config
from storycell.config import ModelSettings, Settings, TrainSettings, validate
from storycell.errors import SettingsError
from storycell.runs.folder import RunConfig, TextRecord

WRONG: dict[str, list[Any]] = {
    "cell": [None, 3],
    "layers": [0, -1, 65, 10**6, 1.0, "1", True, None],
    "hidden": [0, -5, 65_537, 10**9, 8.0],
    "embedding": [-1, 10**9],
    "dropout": [-0.1, 1, 1.5, float("nan")],
    "weight_dropout": [1.0, -0.1],
    "embedding_dropout": [1.0, float("nan")],
    "ngrams": [-1, 1, 17, 2.0, None],
    "ngram_rows": [0, -1, 10**9],
    "matches": [-1, 1, 65, 2.0, None],
    "gate_bias": [1, "yes", None],
    "forget_bias": [float("inf"), 1e39, "1"],
    "gate_norm": [1, "yes", None],
    "streams": [0, 10**9],
    "chunk": [0, -1, 10**9],
    "batching": ["rows", None],
    "reset": [1.0, -0.1],
    "optimizer": ["lion", ""],
    "lr": [0, -1e-3, float("nan"), float("inf"), 1e9],
    "schedule": ["linear"],
    "warmup": [-0.1, 1],
    "final_lr": [-0.1, 1.1],
    "weight_decay": [-0.1, float("inf"), 1e300],
    "clip": [0, -1, float("nan")],
    "average": [1.0, -0.5],
    "soft_targets": [1.0, -0.1],
    "soft_chars": [0, 1.5, 10**400],
    "steps": [0, -3, 1.5, 10**400],
    "chars": [0, 10**400],
    "minutes": [0, -1, float("nan"), float("inf"), 1e9],
    "evaluations": [0, 10**9],
    "save_every": [0, -1, float("inf")],
    "checkpoints": ["all", "every", 3],
    "seed": [-1, 2**32, 1.5],
    "backend": ["nosuch"],
    "precision": ["fp16", "fp64"],
    "threads": [0, -1, 10**6],
    "device": ["gpu", "cuda:", "cuda:x", "cpu:0", 0],
}
ARTICLE = {
    "article-rnn-32": ("rnn", 1, 32),
    "article-lstm-32": ("lstm", 1, 32),
    "article-lstm-128": ("lstm", 1, 128),
    "article-lstm-128x2": ("lstm", 2, 128),
}


def test_every_setting_has_wrong_values_to_try() -> None:
    assert list(WRONG) == config.names()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_in_one_short_sentence_that_names_the_setting(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings().with_changes(**{name: value})
    message = str(raised.value)
    assert message.startswith(f"{name} = ")
    assert ": it must be " in message
    assert len(message) < 200
    assert "\n" not in message


@pytest.mark.parametrize("name", config.recipes())
def test_every_recipe_is_valid_and_has_a_budget_of_its_own(name: str) -> None:
    settings = config.recipe(name)
    assert settings.recipe == name
    assert sum(getattr(settings.training, unit) is not None for unit in config.BUDGETS) == 1


def test_the_recipes_that_the_documentation_names_are_there() -> None:
    assert {*ARTICLE, "quick", "small", "base", "best"} <= set(config.recipes())


@pytest.mark.parametrize("name", ARTICLE)
def test_the_article_s_recipes_are_faithful_to_it(name: str) -> None:
    cell, layers, chunk = ARTICLE[name]
    network, training = config.recipe(name).model, config.recipe(name).training
    assert (network.cell, network.layers, network.hidden) == (cell, layers, 256)
    assert network.embedding == 0
    assert not network.gate_bias
    assert network.dropout == 0
    assert (training.optimizer, training.weight_decay, training.chunk) == ("adam", 0, chunk)


def test_flags_win_over_the_recipe_and_the_recipe_over_the_defaults() -> None:
    recipe = config.recipe("article-lstm-32")
    assert recipe.model.embedding != ModelSettings().embedding
    settings = config.resolve("article-lstm-32", hidden=99)
    assert settings.model.hidden == 99
    assert settings.model.embedding == recipe.model.embedding
    assert settings.training == recipe.training


def test_a_budget_takes_the_place_of_the_recipe_s_and_there_is_only_one() -> None:
    assert config.resolve("small", steps=5).training.budget == ("steps", 5)
    assert config.resolve("small", chars=7, minutes=None).training.budget == ("chars", 7)
    assert TrainSettings().budget == ("minutes", 1.0)
    with pytest.raises(SettingsError, match="steps and minutes: give one budget"):
        config.resolve("small", steps=5, minutes=2.0)


@pytest.mark.parametrize("name", ["nosuch", "../quick", "quick.toml", "", None])
def test_an_unknown_recipe_is_answered_with_the_names(name: Any) -> None:
    with pytest.raises(SettingsError, match=r"there is no recipe .*article-lstm-128.*quick"):
        config.recipe(name)


@pytest.mark.parametrize("name", ["hiden", "recipe", "model", ""])
def test_an_unknown_setting_is_answered_with_the_names(name: str) -> None:
    with pytest.raises(SettingsError, match=f"no setting named '{name}'.*hidden.*device"):
        Settings().with_changes(**{name: 1})


def test_settings_are_frozen_and_whole_numbers_do_for_real_ones() -> None:
    settings = config.resolve("small", minutes=2, lr=1)
    assert settings.training.minutes == 2
    with pytest.raises(ValueError, match="frozen"):
        settings.model.hidden = 3  # type: ignore[misc]


def run_config(settings: Settings) -> RunConfig:
    text = TextRecord(words=["a", "“b”"], valid_words=["c"], digest="d", train_chars=5, valid_chars=0)
    return RunConfig(
        made_at="2024-01-01T00:00:00+00:00",
        settings=settings,
        text=text,
        init="demo",
        versions={"python": "3"},
        machine={"cores": 2, "processor": "p"},
    )


@pytest.mark.parametrize("name", config.recipes())
def test_what_is_written_is_read_back_equal(name: str) -> None:
    written = run_config(config.resolve(name, lr=0.1 + 0.2, clip=None, seed=2**32 - 1))
    assert validate(RunConfig, json.loads(json.dumps(written.model_dump()))) == written


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("settings.training.lr", "fast", "lr = 'fast': it must be a number"),
        ("settings.model.hidden", 10**9, "hidden = 1000000000: it must be at most 65536"),
        ("settings.model.hidden", nested(900), "hidden = [[[[[["),
        ("settings.model.cell", ["x" * 10**6], "cell = ['xxxx"),
        ("settings.model", 5, "model = 5: it must be a JSON object"),
        ("settings.model.colour", 5, "there is no setting named 'colour'"),
        ("settings", None, "settings = None"),
        ("machine.cores", 1.5, "machine.cores = 1.5"),
        ("text.words", "a", "text.words = 'a': it must be a list"),
        ("text.words", [5], "text.words.0 = 5: it must be a text"),
        ("text.train_chars", -1, "text.train_chars = -1: it must be at least 0"),
        ("format", 2, "format = 2: it must be 1"),
    ],
)
def test_a_wrong_entry_of_a_config_is_named_by_its_path(path: str, value: Any, said: str) -> None:
    data = run_config(Settings()).model_dump()
    *groups, last = path.split(".")
    place = data
    for group in groups:
        place = place[group]
    place[last] = value
    with pytest.raises(SettingsError) as raised:
        validate(RunConfig, data)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("data", [None, [], "x", 3, {}])
def test_a_config_that_is_none_is_refused(data: Any) -> None:
    with pytest.raises(SettingsError, match=r"missing|JSON object"):
        validate(RunConfig, data)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cell": "gru"}, "cell is 'gru'"),
        ({"cell": "mlstm"}, "cell is 'mlstm'"),
        ({"gate_bias": False}, "gate_bias is off"),
    ],
)
def test_normalised_gates_are_those_of_an_lstm_with_biases(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings().with_changes(gate_norm=True, **changes)
    assert str(raised.value) == (
        f"gate_norm = True: only an LSTM with gate biases has normalised gates, and {why}; "
        "leave gate_norm out, or set cell to lstm and gate_bias on"
    )


@pytest.mark.parametrize("name", config.recipes())
def test_gates_of_an_lstm_with_biases_can_be_normalised_or_not_by_every_recipe(name: str) -> None:
    model = config.recipe(name).model
    if model.cell == "lstm" and model.gate_bias:
        assert config.resolve(name, gate_norm=True).model.gate_norm
        assert not config.resolve(name, gate_norm=False).model.gate_norm


@pytest.mark.parametrize("without", [{"cell": "gru"}, {"gate_bias": False}, {"gate_norm": False}])
def test_a_recipe_does_without_normalised_gates_where_there_can_be_none_and_learns_slower(
    without: dict[str, Any],
) -> None:
    recipe, found = config.recipe("base"), config.resolve("base", **without)
    assert recipe.model.gate_norm
    assert not found.model.gate_norm
    assert found.training.lr < recipe.training.lr / 2
    assert config.resolve("base", lr=0.02, **without).training.lr == 0.02


def test_a_config_from_before_there_were_normalised_gates_has_none() -> None:
    older = Settings().model_dump()
    del older["model"]["gate_norm"]
    assert not validate(Settings, older).model.gate_norm
    assert validate(Settings, Settings().with_changes(gate_norm=True).model_dump()).model.gate_norm
