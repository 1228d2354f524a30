"""States exchanged between texts: against the model's own reading, and where one wired unit carries the fact."""

import re

import numpy as np
import pytest
import torch
from test_inspection import untrained
from test_trace import EXACT, TEXT, VOCAB, network

import storycell
from storycell.data.stories import corpus
from storycell.errors import SettingsError
from storycell.inspect import pairs, patching
from storycell.inspect.latch import LATCH, wire_by_hand
from storycell.inspect.patching import WHOLE, Part, carriers_of, exchange, patch
from storycell.nn.adapter import TorchModel
from storycell.types import BOUNDARY

ALL = 0.999  # of what the whole state does
NONE = 0.001


def states(model: TorchModel) -> tuple[dict, dict]:
    chance = np.random.default_rng(0)
    shape = (2, 3, 12)
    a, b = ({name: chance.standard_normal(shape) for name in ("h", "c")} for _ in range(2))
    return a, b


def test_exactly_the_part_is_exchanged() -> None:
    model = TorchModel(network("lstm"))
    base, source = states(model)
    some = exchange(model, base, source, Part(units=((1, 3), (0, 5))))
    for name in ("h", "c"):
        changed = some[name] != base[name]
        assert np.array_equal(np.argwhere(changed.any(1)), [[0, 5], [1, 3]])
        assert np.array_equal(some[name][changed], source[name][changed])
        assert np.array_equal(exchange(model, base, source, WHOLE)[name], source[name])
    cells = exchange(model, base, source, Part(layers=(1,), names=("c",)))
    assert np.array_equal(cells["h"], base["h"])
    assert np.array_equal(cells["c"][1], source["c"][1])
    assert np.array_equal(cells["c"][0], base["c"][0])
    direction = np.arange(12.0)
    along = exchange(model, base, source, Part(layers=(0,), names=("h",), direction=direction))
    assert np.allclose(along["h"][0] @ direction, source["h"][0] @ direction)
    across = np.linalg.svd(direction[None])[2][1:].T
    assert np.allclose(along["h"][0] @ across, base["h"][0] @ across)
    assert np.array_equal(along["c"], base["c"])


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (Part(names=("q",)), "the states of a lstm are h, c"),
        (Part(layers=(2,)), "layers count from 0 to 1"),
        (Part(units=((0, 12),)), "units from 0 to 11"),
        (Part(direction=np.ones(12)), "one layer's c or h"),
        (Part(direction=np.zeros(12), layers=(0,), names=("c",)), "not all 0"),
    ],
)
def test_a_part_that_is_not_there_is_refused(part: Part, says: str) -> None:
    model = TorchModel(network("lstm"))
    with pytest.raises(SettingsError, match=says):
        exchange(model, *states(model), part)


@torch.no_grad()
def test_the_whole_state_exchanged_is_as_if_the_other_text_had_been_read() -> None:
    model = TorchModel(network("lstm"))
    one, other = TEXT[:40], TEXT[7:30]
    found = patch(model, VOCAB, one, other, then="the ", chars=30)
    ids = VOCAB.prompt_ids(other + "the ")[0]
    logits = model.logits(np.array([[BOUNDARY, *ids]]))[0][0, -1].astype(np.float64)
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert np.abs(found.after - expected).max() < EXACT
    assert np.array_equal(found.after, found.source)
    assert np.abs(found.before - found.after).max() > 1000 * EXACT
    nothing = patch(model, VOCAB, one, other, Part(units=()), then="the ")
    assert np.array_equal(nothing.before, nothing.after)
    assert nothing.text == ""


def test_what_is_generated_after_an_exchange_is_what_the_other_text_would_go_on_with() -> None:
    model = storycell.load("demo")
    base, source = "Once upon a time, there was a boy named Tom. ", "One day, Lily saw a big red ball. She"
    found = model.patch(base, source, then=" wanted", chars=60, sampling=storycell.api.Sampling(greedy=True))
    assert source + " wanted" + found.text == model.generate(source + " wanted", chars=60, greedy=True)
    assert model.patch(base, source, units=[(1, 3)], names=["c"], then=" w").after.shape == (len(model.vocab),)


def test_every_pair_differs_in_its_fact_alone_and_the_grammar_knows_the_answer() -> None:
    for fact in pairs.FACTS:
        found = pairs.pairs(fact, 20)
        assert len({pair.source for pair in found}) == 20
        for pair in found:
            assert pair.source != pair.base
            assert pair.then == pair.then[-4:] != ""
            if fact == pairs.QUOTED:
                start = next(k for k, (a, b) in enumerate(zip(pair.source, pair.base, strict=False)) if a != b)
                assert pair.source[start] == '"'
                assert pair.source[:start] + pair.source[start + 1 :] == pair.base
                assert (pair.yes, pair.no) == ('"', " ")
            else:
                words = [re.findall(r"\w+|\W+", text) for text in (pair.source, pair.base)]
                if fact == "what was lost":
                    first, second = next((a, b) for a, b in zip(*words, strict=False) if a != b)
                    assert (first[0], second[0]) == (pair.yes, pair.no)
                else:
                    changed = {(a, b) for a, b in zip(*words, strict=True) if a != b}
                    assert {("girl", "boy"), ("She", "He")} <= changed
                    assert len(changed) == 3  # and the name


def test_sources_of_quotations_are_stories_of_the_grammar() -> None:
    for pair in pairs.pairs(pairs.QUOTED, 5):
        story = next(s for k in range(99) if (s := corpus.story_at(17, k)[0]).startswith(pair.source + pair.then))
        assert corpus.parses(story)
        assert story[len(pair.source + pair.then)] == pair.yes


def test_a_latch_wired_by_hand_carries_the_quotation_and_nothing_else_does() -> None:
    """Exchanging unit 0 restores all; units 1 to 3 are written anew at every character and restore nothing."""
    given = [pair for pair in pairs.pairs(pairs.QUOTED, 40) if '"' not in pair.base]
    model, vocab = wire_by_hand("".join(pair.source + pair.then for pair in given))
    found = carriers_of(model, vocab, "quote", given, named={"the others": [(0, 1), (0, 2), (0, 3)]})
    assert found.is_carried
    assert found.source_probability > 0.95  # the other characters share the rest
    shares = {row.label: row for row in found.rows}
    assert found.ranking[0][0] == (0, LATCH)
    assert shares["the whole state"].share == pytest.approx(1)
    for row in (shares["the best unit"], shares["c of layer 0"]):
        assert row.low > 0.2
    assert shares["the best unit"].units == ((0, LATCH),)
    assert shares["the best unit"].low > ALL
    assert shares["the best unit"].moved_low > ALL
    assert abs(shares["the others"].share) < NONE
    assert max(abs(share) for _, share in found.ranking[1:]) < NONE


def test_an_untrained_network_carries_nothing() -> None:
    given = pairs.pairs(pairs.QUOTED, 24)
    vocab = wire_by_hand("".join(pair.source + pair.then for pair in given))[1]
    found = carriers_of(untrained(vocab, 16, 9), vocab, "quote", given)
    assert not found.is_carried
    assert found.rows == []


def test_the_shipped_model_keeps_quotations_in_a_few_units_and_random_ones_do_not() -> None:
    """The bar: at least half of what the whole state does, judged on pairs that did not choose the units."""
    rows = {row.label: row for row in storycell.load("demo").carriers(count=48).rows}
    assert rows["the 5 best units"].moved_low > 0.5
    assert all(abs(row.moved) < 0.1 for label, row in rows.items() if "random" in label)
    assert rows["layer 1"].share > rows["layer 0"].share


def test_states_of_prompts_read_side_by_side_are_those_of_each_alone() -> None:
    model = TorchModel(network("lstm"))
    prompts = [VOCAB.prompt_ids(TEXT[a:b])[0] for a, b in ((0, 9), (3, 30), (5, 14), (0, 1), (2, 29))]
    with torch.no_grad():
        together = patching.states_after(model, prompts)
        for k, ids in enumerate(prompts):
            alone = model.state_after(np.array([[BOUNDARY, *ids]]))
            for name in ("h", "c"):
                assert np.abs(together[name][:, k] - alone[name][:, 0]).max() < 1e-6
