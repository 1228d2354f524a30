"""Who wrote a memory: the unrolled sum against the state, by hand, in torch, and where gates are wired to be known."""

import numpy as np
import pytest
import torch
from test_inspection import stories, text_ids, untrained, with_planted_latch
from test_trace import EXACT, TEXT, VOCAB, ids_of, network

import storycell
from storycell.errors import SettingsError
from storycell.inspect import authors
from storycell.inspect.authors import decompose, memory_authors, memory_lengths, quote_shares
from storycell.inspect.features import inside_quotes
from storycell.inspect.latch import LATCH, wire_by_hand
from storycell.inspect.trace import trace
from storycell.nn.adapter import TorchModel

FLOAT32 = 1e-6  # of the largest state: the engine's cells are sums in float32
PLANTED = 0.999  # of a memory that only the quote writes; sigmoid(-12) lets 6e-6 a character in


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_shares_add_up_to_the_state_of_any_unit_and_direction(cell: str) -> None:
    with torch.no_grad():
        path = trace(TorchModel(network(cell)), ids_of(TEXT[:150], TEXT[20:100]), VOCAB)
    chance = np.random.default_rng(1)
    for layer in range(2):
        for at in (0, 5, 149, 150, 151, 200, len(path) - 1):
            for which in (7, chance.standard_normal(12)):
                found = authors.authors(path, layer, which, at)
                assert abs(found.shares.sum() - found.value) < EXACT
                assert len(found.shares) == len(found.text)
                assert found.text == "\0" + path.text[: at + 1].split("\0")[-1]
    with pytest.raises(SettingsError, match="characters 0 to"):
        authors.authors(path, 0, 1, len(path))
    with pytest.raises(SettingsError, match="units count from 0 to 11"):
        authors.authors(path, 0, 12)


def test_the_shares_of_the_shipped_model_add_up_in_float64() -> None:
    model = storycell.load("demo")
    path = model.trace('Once upon a time, Tom said, "I can see a big red dog in the park, and it can see me too." ' * 4)
    for layer in range(2):
        scale = max(1.0, float(np.abs(path["c", layer]).max()))
        for at in range(3, len(path), 29):
            for which in (0, 64, np.ones(path.hidden) / 16):
                found = model.authors(path.text, layer, which, at)
                assert abs(found.shares.sum() - found.value) < FLOAT32 * scale
        assert scale > 1


def test_a_state_carried_in_is_a_term_of_its_own_and_shut_gates_end_all() -> None:
    """By hand: c = 0.5 * 8 + 1, then times 0.25 and 2 more; then a forget gate of exactly 0."""
    one = {"f": [[0.5], [0.25]], "i": [[1.0], [1.0]], "g": [[1.0], [2.0]]}
    written, carried = decompose({k: np.array(v) for k, v in one.items()}, np.array([8.0]))
    assert written[:, 0].tolist() == [0.25, 2.0]
    assert carried.tolist() == [1.0]
    one["f"][1] = [0.0]
    written, carried = decompose({k: np.array(v) for k, v in one.items()}, np.array([8.0]))
    assert written[:, 0].tolist() == [0.0, 2.0]
    assert carried.tolist() == [0.0]


def test_a_planted_latch_is_written_by_its_quotes_and_by_nothing_else() -> None:
    """The unit wired to keep between quotes: its opening quote wrote it, the character before did not."""
    texts = stories(30)
    vocab = wire_by_hand("".join(texts))[1]
    path = trace(with_planted_latch(vocab, unit=11), text_ids(texts, vocab), vocab)
    inside = inside_quotes(path.text) > 0
    for at in np.flatnonzero(inside)[::97]:
        found = authors.authors(path, 0, 11, int(at))
        opening = found.text.rindex('"')
        assert found.most == opening
        assert abs(found.shares[opening]) > PLANTED * np.abs(found.shares).sum()
    quotes = quote_shares(path, 0)
    assert quotes is not None
    assert quotes.quotations == 30
    assert quotes.opening[11] > PLANTED
    assert quotes.before[11] < 1 - PLANTED
    assert np.delete(quotes.opening, 11).max() < 0.5  # the rest of the network is random and forgets
    found_all = memory_authors(path, [(0, 3, "")])
    assert found_all is not None
    assert found_all.passage.units[0][:2] == (0, 11)
    assert inside[found_all.passage.at]
    assert not inside[found_all.passage.at + 1]


def test_an_untrained_network_remembers_no_opening_quote() -> None:
    texts = stories(30)
    vocab = wire_by_hand("".join(texts))[1]
    quotes = quote_shares(trace(untrained(vocab, 16, 9), text_ids(texts, vocab), vocab), 0)
    assert quotes is not None
    assert quotes.opening.max() < 0.1


def by_definition(kept: np.ndarray, written: np.ndarray) -> np.ndarray:
    """The mean share of what was written within the last n characters, [n units], one term at a time."""
    T, units = kept.shape
    within = np.zeros((T, units))
    for t in range(T):
        terms = np.stack([np.abs(written[s]) * np.prod(kept[s + 1 : t + 1], axis=0) for s in range(t, -1, -1)])
        share = np.cumsum(terms, axis=0) / terms.sum(0)
        within += np.concatenate([share, np.ones((T - len(share), units))])
    return within / T


@pytest.mark.parametrize("seed", range(3))
def test_lengths_are_those_of_the_terms_summed_one_by_one(seed: int) -> None:
    chance = np.random.default_rng(seed)
    kept = 1 - chance.random((120, 9)) ** np.arange(1, 10)  # units that forget fast, and units that keep
    written = chance.standard_normal((120, 9))
    kept[0], kept[60] = 0, 0  # stories begin
    mass = authors._running(kept, np.abs(written))
    expected = (by_definition(kept, written) < 0.5).sum(0) + 1
    assert authors._half_lives(kept, mass).tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 2


def test_the_latch_keeps_longer_than_units_that_write_anew() -> None:
    model, vocab = wire_by_hand("".join(stories(30)))
    lengths = memory_lengths(trace(model, text_ids(stories(30), vocab), vocab), 0)
    assert lengths[LATCH] > 10
    assert np.delete(lengths, LATCH).max() <= 2


def test_a_network_without_a_sum_says_so() -> None:
    with torch.no_grad():
        path = trace(TorchModel(network("rnn")), ids_of(TEXT), VOCAB)
    assert memory_authors(path, []) is None
    with pytest.raises(SettingsError, match="no sum"):
        authors.authors(path, 0, 0)
