"""Units silenced: against values held step by step, and where one wired unit is known to matter; cards and probes."""

import numpy as np
import pytest
import torch
from test_inspection import stories, text_ids, untrained, with_planted_latch
from test_trace import TEXT, VOCAB, ids_of, network

from storycell.engine.inference import EngineNetwork
from storycell.errors import SettingsError
from storycell.generation.sampler import held_step
from storycell.inspect import ablation, cards, probes
from storycell.inspect.ablation import ablate, character_kinds
from storycell.inspect.features import Feature, features, inside_quotes
from storycell.inspect.latch import LATCH, wire_by_hand
from storycell.inspect.shown import changed, silenced, steered
from storycell.inspect.trace import trace
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM

FLOAT32 = 2e-5  # sums of some hundred products
CHANCE = 0.06  # that AUCs of a few thousand characters stray from one half


def engine(cell: str, gate_bias: bool = True, gate_norm: bool = False) -> EngineNetwork:
    lm = CharLM(len(VOCAB), 12, 2, cell, embedding_size=5, seed=3, gate_bias=gate_bias)
    weights = {name: 1.3 * value.detach().numpy() for name, value in lm.state_dict().items()}
    return EngineNetwork(weights, cell, gate_norm=gate_norm)


@pytest.mark.parametrize(
    ("cell", "gate_bias", "gate_norm"),
    [*((cell, bias, False) for cell in ("lstm", "gru", "rnn") for bias in (True, False)), ("lstm", True, True)],
)
def test_a_silenced_unit_is_one_held_at_that_value(cell: str, gate_bias: bool, gate_norm: bool) -> None:
    """The changed weights against the cells' own lines with h held, from a state that shows the value already."""
    model, ids = engine(cell, gate_bias, gate_norm), np.array(ids_of(TEXT[:60])).astype(np.int64)
    for layer in range(2):
        step, state = held_step(model, {("h", layer, 4): 0.37}), model.zero_state(1)
        state["h"][layer, :, 4] = 0.37
        expected = []
        for k in ids:
            logits, state = step(np.array([k]), state)
            expected.append(logits[0])
        found = silenced(model, layer, 4, 0.37).logits(ids[None])[0][0]
        assert np.abs(found - np.array(expected)).max() < FLOAT32
        assert np.abs(found - model.logits(ids[None])[0][0]).max() > 100 * FLOAT32


@pytest.mark.parametrize(("cell", "gate_norm"), [("lstm", False), ("rnn", False), ("lstm", True)])
def test_a_steered_layer_shows_the_direction_on_top_at_every_step(cell: str, gate_norm: bool) -> None:
    """Step by step in numpy, the addition put on what is read: by the layer itself, the layer above, the output."""
    model, ids = engine(cell, gate_norm=gate_norm), np.array(ids_of(TEXT[:60])).astype(np.int64)
    addition = np.random.default_rng(0).standard_normal(12).astype(np.float32) / 4
    for layer in range(2):
        state = [{n: np.zeros((1, 12), np.float32) for n in model.state_names} for _ in range(2)]
        expected = []
        for k in ids:
            x = model.inputs(np.array([[k]]))[0]
            for n in range(2):
                shift = addition if n == layer else 0
                state[n] = model.layer_step(n, x, {**state[n], "h": state[n]["h"] + shift})
                x = state[n]["h"] + shift
            expected.append(model.output(x)[0])
        found = steered(model, layer, addition).logits(ids[None])[0][0]
        assert np.abs(found - np.array(expected)).max() < FLOAT32
    assert np.array_equal(steered(model, 0, np.zeros(12)).logits(ids[None])[0], model.logits(ids[None])[0])


def test_what_can_not_be_changed_is_refused() -> None:
    model = engine("lstm")
    with pytest.raises(SettingsError, match="layers count from 0 to 1"):
        steered(model, 2, np.zeros(12))
    with pytest.raises(SettingsError, match="12 finite numbers"):
        steered(model, 0, np.zeros(11))
    with pytest.raises(SettingsError, match="12 finite numbers"):
        changed(model, 0, np.ones(12), np.full(12, np.inf))
    with torch.no_grad(), pytest.raises(SettingsError, match="'minlstm'"):
        steered(TorchModel(network("minlstm")), 0, np.zeros(12))


def planted() -> tuple[object, list[str]]:
    texts = stories(80)
    model, vocab = wire_by_hand("".join(texts))
    return trace(model, text_ids(texts, vocab), vocab), texts


def test_a_wired_latch_is_what_closing_quotes_miss_and_units_that_say_nothing_are_missed_by_none() -> None:
    path, _ = planted()
    found = ablation.ablation(path)
    best = found.best["closing quote"][0]
    assert best.unit in (LATCH, 1)  # what is inside, and that a sentence has just ended inside
    assert best.nats > 5
    assert best.nats > 10 * 1.96 * best.stderr
    assert found.ranking["closing quote"][LATCH] > 5
    assert found.ranking["opening quote"][3] > 0.5  # the space before it
    wider = with_planted_latch(path.vocab, unit=11)
    weights = wider.weights()
    weights["output.weight"][:, 5] = 0
    for name in ("recurrent.weight_hh_l0",):
        weights[name][:, 5] = 0
    deaf = trace(wider.with_weights(weights), path.all_ids.astype(path.vocab.dtype), path.vocab)
    silent = ablation.ablation(deaf, screened=(4, 40), judged=(4, 60))
    assert all(abs(change[5]) < 1e-6 for change in silent.ranking.values())


def test_what_is_told_is_measured_on_stories_that_did_not_rank() -> None:
    path, _ = planted()
    half = len(path) // 2
    rows, state = ablation._windows(path, 6, 40)
    assert rows.max() < half
    assert rows.shape == (6, 41)
    for name, value in state.items():
        assert np.array_equal(value[0, 2], path.states[0][name][rows[2, 0] - 1])
    later = ablation._stories(path, 8, 50)
    assert later[later >= 0].min() >= half
    assert set(later[:, 0].tolist()) <= set(path.starts.tolist())


def test_changes_of_loss_are_those_of_the_text_scored_again() -> None:
    path, _ = planted()
    ids = path.all_ids[:41][None]
    found = ablate(path.model, ids, [(0, 0), (0, 3)], {0: np.array([0.1, 0.0, 0.0, -0.2])})
    for row, (unit, value) in zip(found, [(0, 0.1), (3, -0.2)], strict=True):
        logits = silenced(path.model, 0, unit, value).logits(ids[:, :-1])[0][0].astype(np.float64)
        nats = np.log(np.exp(logits).sum(-1)) - logits[np.arange(40), ids[0, 1:]]
        assert np.abs(row[0] - nats).max() < FLOAT32


def test_kinds_of_characters_are_those_of_a_text_read_by_hand() -> None:
    text = 'Then Tom said, "I saw Tom." He ran.'
    kinds = {
        name: "".join(c if m else "." for c, m in zip(text, mask, strict=True))
        for name, mask in character_kinds(text).items()
    }
    assert kinds["closing quote"] == 'Then Tom said, "I saw Tom." He ran.'.translate(
        {ord(c): "." for c in text if c != '"'}
    ).replace('"', ".", 1)
    assert [m for m in kinds["verb"].split(".") if m] == ["said", "saw", "ran"]
    assert [m for m in kinds["name"].split(".") if m] == ["Tom", "Tom"]
    assert [m for m in kinds["first letter of a word"].split(".") if m] == list("TTsIsTHr")
    assert sum(c != "." for c in kinds["space"]) == 7


def test_a_card_shows_the_highest_places_and_what_the_unit_raises() -> None:
    path, _ = planted()
    found = cards.card(path, 0, LATCH)
    values = path.column("c", 0, LATCH)
    assert found.counts.sum() == len(path)
    assert found.highest[0].value == pytest.approx(values.max())
    assert found.lowest[0].value == pytest.approx(values.min())
    for place in (*found.highest, *found.lowest):
        assert place.before + place.at + place.after in path.text
    assert inside_quotes(found.highest[0].before + found.highest[0].at)[-1] == 1
    may_close = cards.card(path, 0, 1)
    assert may_close.promotes[0][0] == '"'
    assert may_close.suppresses == []


def test_a_probe_tells_what_is_spread_over_units_and_a_control_by_lot_it_does_not() -> None:
    path, _ = planted()
    chance = np.random.default_rng(0)
    rows = len(path)
    noise = chance.standard_normal((rows + 1, 40)).astype(np.float32)
    path.states[0] = {"h": noise, "c": noise}
    bare = untrained(path.vocab, 16, 9)
    other = trace(bare, path.all_ids.astype(path.vocab.dtype), path.vocab)
    spread = Feature("spread", (noise[1:, :8].sum(1) > 0).astype(np.float32))
    nowhere = Feature("nowhere", (chance.random(rows) > 0.5).astype(np.float32))
    count = Feature("a count", np.arange(rows).astype(np.float32), False)
    found = {p.feature: p for p in probes.probe(path, other, {f.name: f for f in (spread, nowhere, count)})}
    assert found.keys() == {"spread", "nowhere"}  # counts are not probed
    assert found["spread"].score > 0.98
    assert found["spread"].selectivity > 0.4
    assert found["spread"].low <= found["spread"].score <= found["spread"].high
    assert abs(found["spread"].untrained - 0.5) < CHANCE
    assert abs(found["nowhere"].score - 0.5) < CHANCE
    assert abs(found["nowhere"].selectivity) < CHANCE


def test_labels_by_lot_are_those_of_words_as_far_as_read_and_are_learnt_by_heart_by_states_that_tell_the_word() -> None:
    types = probes._word_types("to be, to")
    assert types[0] == types[7]
    assert types[1] == types[8]
    assert types[2] == types[6]
    assert len(set(types.tolist())) == 6
    labels = probes._by_lot(types, 0.5, 1, "x")
    assert labels[1] == labels[8]
    texts = stories(80)
    vocab = wire_by_hand("".join(texts))[1]
    path = trace(untrained(vocab, 16, 9), text_ids(texts, vocab), vocab)
    found = probes.probe(path, path, {"a": features(path.text)["a vowel"]})[0]
    assert found.score == found.untrained
    assert found.control > 0.6  # the last letters say much of the label: the control is no chance level
