"""Found units, the latch, gradients, memory, mistakes: against independent computations and planted truths."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from test_trace import EXACT, FLOAT32, TEXT, VOCAB, ids_of, network

from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.evaluation.statistics import clustered_mean
from storycell.generation.sampler import held_step
from storycell.inspect import gradients, latch, memory, mistakes, saturation, units
from storycell.inspect.features import Feature, features, inside_quotes, last_of
from storycell.inspect.latch import LATCH, wire_by_hand
from storycell.inspect.trace import nearest as nearest_states
from storycell.inspect.trace import trace
from storycell.inspect.units import find_units
from storycell.language_model import LanguageModel
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, Ids

SATURATED = 1e-3  # sigmoid(12) is 6e-6 from one; sums of a few hundred steps stay below this
HALF = 0.5
TEXTS = 200
MOST_BY_CHANCE = 0.06  # of texts of which something has p <= 0.05 without a reason; the bar


def stories(count: int, seed: int = 0) -> list[str]:
    """Random words, some of them quoted: nothing but the quotes themselves tells where one is."""
    random = np.random.default_rng(seed)

    def said(n: int) -> str:
        return " ".join("".join(random.choice(list("abcdefgh"), random.integers(2, 6))) for _ in range(n))

    return [f'{said(6)}, "{said(int(random.integers(2, 7)))}." {said(8)}.\n' for _ in range(count)]


def text_ids(texts: list[str], vocab: Vocabulary) -> Ids:
    return np.concatenate([np.concatenate([[BOUNDARY], vocab.encode(t)]) for t in texts]).astype(vocab.dtype)


def untrained(vocab: Vocabulary, hidden: int, seed: int) -> LanguageModel:
    return TorchModel(CharLM(len(vocab), hidden, embedding_size=0, seed=seed).eval())


def with_planted_latch(vocab: Vocabulary, unit: int) -> LanguageModel:
    """A random LSTM of 16 units, one of which was made the hand-wired latch."""
    model, (ideal, _) = untrained(vocab, 16, 5), wire_by_hand("".join(vocab.characters))
    ours, theirs = model.weights(), ideal.weights()
    W_x, W_h, bias, other_bias = (f"recurrent.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    for gate in range(4):
        row, wired = gate * 16 + unit, gate * 4 + LATCH
        ours[W_x][row], ours[W_h][row] = theirs[W_x][wired], 0.0
        ours[W_h][row, unit] = theirs[W_h][wired, LATCH]
        ours[bias][row], ours[other_bias][row] = theirs[bias][wired], 0.0
    return model.with_weights(ours)


def test_a_unit_planted_by_hand_is_found_and_nothing_is_found_in_the_untrained() -> None:
    texts = stories(160)
    vocab = wire_by_hand("".join(texts))[1]
    ids = text_ids(texts, vocab)
    path = trace(with_planted_latch(vocab, unit=11), ids, vocab)
    baseline = trace(untrained(vocab, 16, 9), ids, vocab)
    quotes = {"inside quotes": features(path.text)["inside quotes"]}
    best = find_units(path, baseline, quotes)["inside quotes"][0]
    assert (best.layer, best.unit, best.sign) == (0, 11, 1)
    assert best.score == 1.0
    assert best.low > 0.9999
    assert best.p_value == 1 / (1 + units.SHIFTS)
    assert best.untrained_score < 0.9
    assert best.is_finding
    itself = find_units(baseline, baseline, features(path.text), top=1)
    assert itself
    assert not any(found[0].is_finding for found in itself.values())  # no excess over itself
    assert all(found[0].excess == 0 for found in itself.values())


def slow(chance: np.random.Generator, chars: int, columns: int, lasts: float) -> npt.NDArray[np.float64]:
    """Noise that remembers the last `lasts` characters, `[chars columns]`: c = f c + (1 - f) noise, as a cell's."""
    n = 2 ** int(np.ceil(np.log2(chars + 8 * lasts)))
    response = 1 / (1 - np.exp(-1 / lasts - 2j * np.pi * np.arange(n // 2 + 1) / n))
    white = np.fft.rfft(chance.standard_normal((n, columns)), axis=0)
    return np.fft.irfft(white * response[:, None], n, axis=0)[:chars]


def smallest_p(seed: int, chars: int, lasts: float, piece: int) -> float:
    """Of all units and features of a text in which they know nothing of each other; a step reads `piece` characters."""
    chance, every = np.random.default_rng((seed, chars)), 4 * piece
    values, noise = slow(chance, chars, 8, lasts)[::every], slow(chance, chars, 3, lasts)[::every]
    ours = units._standard(units.ranks(np.ascontiguousarray(values.T.astype(np.float32))))
    return float(units._p_values(ours, units._standard((noise > noise.std() / 2).T.astype(np.float32)).T).min())


LENGTHS = (units._FEWEST_CHARS, units._FEWEST_CHARS + 101, 6_000, 10_000)


def test_units_that_know_nothing_seldom_come_up_at_any_permitted_length() -> None:
    """Where all shifts were nearly the same, 58 % of the shortest texts did."""
    shares = [
        np.mean([smallest_p(seed, chars, lasts, piece) <= units.SIGNIFICANT for seed in range(TEXTS)])
        for piece, lengths in ((1, LENGTHS), (4, LENGTHS[1:3]))
        for chars in lengths
        for lasts in (20.0, 100.0)
    ]
    assert np.mean(shares) <= MOST_BY_CHANCE
    assert max(shares) <= MOST_BY_CHANCE + 2 * (MOST_BY_CHANCE / TEXTS) ** 0.5


def test_what_is_surely_known_has_the_smallest_p_and_hides_nothing_else() -> None:
    """In the shortest text: a unit that is a feature, one that is half another feature and half noise, and noise."""
    chance = np.random.default_rng(2)
    features = slow(chance, units._FEWEST_CHARS, 2, 20.0)[::4]
    noise = slow(chance, units._FEWEST_CHARS, 14, 20.0)[::4]
    half = features[:, 1:] / features[:, 1].std() + noise[:, :1] / noise[:, 0].std()
    ours = units._standard(np.concatenate([features[:, :1], half, noise[:, 1:]], axis=1).T.astype(np.float32))
    p = units._p_values(ours, units._standard(features.T.astype(np.float32)).T)
    assert p[0, 0] == p[1, 1] == 1 / (1 + units.SHIFTS)
    assert p[2:].min() > units.SIGNIFICANT


def test_a_feature_that_has_nothing_to_do_with_the_text_is_no_finding() -> None:
    texts = stories(160)
    vocab = wire_by_hand("".join(texts))[1]
    path = trace(with_planted_latch(vocab, unit=3), text_ids(texts, vocab), vocab)
    coin = np.repeat(np.random.default_rng(4).random(len(path) // 50 + 1) < HALF, 50)[: len(path)]
    found = find_units(path, path, {"coin": Feature("coin", coin.astype(np.float32))})["coin"]
    assert found[0].p_value > units.SIGNIFICANT
    assert not found[0].is_finding


def test_auc_ranks_and_correlation_equal_their_definitions() -> None:
    random = np.random.default_rng(1)
    z = random.integers(0, 20, 200).astype(np.float32)  # many ties
    y = (random.random(200) < 0.3).astype(np.float64)
    pairs = z[y > 0][:, None] - z[y == 0][None, :]
    assert units.auc(units.ranks(z), y) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-9)
    by_sorting = [(z < v).sum() + ((z == v).sum() + 1) / 2 for v in z]
    assert np.array_equal(units.ranks(z), np.array(by_sorting, dtype=np.float32))


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    """Independent characters: 95 % intervals of the AUC of noise should hold one half some 95 times in 100."""
    vocab = Vocabulary("ab")
    path = trace(untrained(vocab, 1, 1), text_ids(["ab" * 50] * 60, vocab), vocab)
    random = np.random.default_rng(2)
    held, rows = 0, 3030
    judge = units._Judge(path, path, "c", slice(len(path) - rows, len(path)), seed=0)
    for _ in range(200):
        z = units.ranks(random.standard_normal(rows).astype(np.float32))
        y = (random.random(rows) < 0.3).astype(np.float64)
        _, resampled = judge._scores(z, y, 1, is_binary=True)
        low, high = np.quantile(resampled, [0.025, 0.975])
        held += low <= HALF <= high
    assert 178 <= held <= 198  # of 200; thirty stories make the interval a little narrow


def test_too_short_a_text_and_too_rare_a_feature_are_not_judged() -> None:
    path = trace(TorchModel(network("lstm").float()), ids_of(TEXT), VOCAB)
    with pytest.raises(SettingsError, match="at least 4,000 characters"):
        find_units(path, path, features(path.text))
    long = trace(TorchModel(network("lstm").float()), ids_of(TEXT * 6), VOCAB)
    assert "inside brackets" not in find_units(long, long, features(long.text), top=1)


def test_features_say_what_a_reader_would() -> None:
    text = 'Tim said, "Go!"\n"No," he said.\0She (Ann) ran.'
    inside = inside_quotes(text)
    assert "".join(c for c, v in zip(text, inside, strict=True) if v) == '"Go!"No,'
    assert inside_quotes('“a” "b\n c').tolist() == [1, 1, 0, 0, 1, 1, 0, 0, 0]
    found = features(text)
    assert "".join(c for c, v in zip(text, found["inside brackets"].values, strict=True) if v) == "(Ann"
    assert "".join(c for c, v in zip(text, found["first letter of a word"].values, strict=True) if v) == "TsGNhsSAr"
    assert found["position in the word"].values[:6].tolist() == [1, 2, 3, 0, 1, 2]
    assert found["position in the story"].values[text.index("\0") :].tolist() == list(range(15))
    she = last_of("he saw her. She sat\0he", {"she", "her"}, {"he"})
    assert she.astype(int).tolist() == [0] * 9 + [1] * 10 + [0] * 3


def test_the_hand_wired_latch_does_exactly_what_the_article_says() -> None:
    sentence = latch.SENTENCES[0]
    model, vocab = wire_by_hand(sentence)
    read = latch.read_sentence(model, vocab, sentence, 0, LATCH)
    quotes = [t for t, c in enumerate(sentence) if c == '"']
    between = [t for t in range(len(sentence)) if t not in quotes]
    i, f, o, c = (read.values[n] for n in "ifoc")
    assert np.abs(i[quotes] - 1).max() < SATURATED
    assert np.abs(i[between]).max() < SATURATED
    assert np.abs(f[quotes]).max() < SATURATED
    assert np.abs(f[between] - 1).max() < SATURATED
    assert np.abs(o - 1).max() < SATURATED
    inside = inside_quotes(sentence)
    assert np.abs(c - (2 * inside - 1)).max() < SATURATED
    expected = [t + 1 in quotes for t in range(len(sentence))]
    assert (read.quote_next > 0.95).tolist() == expected
    assert read.quote_next[[not e for e in expected]].max() < 0.01


def test_holding_the_latch_moves_the_closing_quote_and_holding_another_unit_does_not() -> None:
    texts = stories(160)
    model, vocab = wire_by_hand("".join(texts))
    test = latch.HoldTest(trace(model, text_ids(texts, vocab), vocab))
    as_is, held = test.result("as is", []), test.result("latch", [("c", 0, LATCH)])
    assert as_is.closing > 0.95
    assert as_is.opening < 0.01
    assert held.closing < 0.01
    assert held.opening > 0.95
    space = test.result("space", [("c", 0, 3)])
    assert space.closing == pytest.approx(as_is.closing, abs=0.05)
    assert held.closing_places >= latch._STORIES / 2


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gradients_through_time_equal_autograd_on_torchs_own_layer(cell: str) -> None:
    """One layer in float64. For each lag the story up to there is run by torch's layer, and its end made a leaf."""
    lags = 6
    lm = network(cell, layers=1)
    path = trace(TorchModel(lm), ids_of(TEXT), VOCAB)
    flow = gradients.gradient_flow(path, lags, samples=3, seed=2)
    layers = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
    layer = layers[cell](lm.embedding_size, lm.hidden_size, batch_first=True).double()
    layer.load_state_dict(lm.recurrent.state_dict())
    for s, last in enumerate(gradients._sample_rows(path, lags, 3, 2)):
        ids = torch.from_numpy(path.all_ids)
        for k in range(lags + 1):
            x = lm.embedding(ids[None]).detach()
            _, end = layer(x[:, : last - k + 1])
            h, c = (end[0].detach(), end[1].detach()) if cell == "lstm" else (end.detach(), None)
            h.requires_grad_()
            state = h if c is None else (h, c.requires_grad_())
            y = layer(x[:, last - k + 1 : last + 1], state)[0][0, -1] if k else h[0, 0]
            loss = torch.nn.functional.cross_entropy(lm.output(y), ids[last + 1])
            dh, *dc = torch.autograd.grad(loss, [h] if c is None else [h, c], allow_unused=True)
            assert flow.norms["h", 0][s, k] == pytest.approx(dh.norm().item(), rel=EXACT * 100)
            if c is not None:
                o = torch.from_numpy(path["o", 0][last - k - 1])
                through_h = dh[0, 0] * o * (1 - torch.tanh(c[0, 0]) ** 2)
                total = through_h + (dc[0][0, 0] if dc[0] is not None else 0)
                assert flow.norms["c", 0][s, k] == pytest.approx(total.norm().item(), rel=EXACT * 100)


def test_the_path_through_the_sum_is_the_product_of_forget_gates() -> None:
    lags = 9
    path = trace(TorchModel(network("lstm", layers=1)), ids_of(TEXT), VOCAB)
    flow = gradients.gradient_flow(path, lags, samples=4)
    f, o, c = path["f", 0], path["o", 0], path["c", 0]
    W = path.model.weights()["output.weight"]
    for s, last in enumerate(gradients._sample_rows(path, lags, 4, 0)):
        t = last - 1  # rows of arrays count from the first character, those of states from the boundary before it
        error = path.probabilities(slice(t, t + 1))[0]
        error[path.ids[t + 1]] -= 1
        at_c = (error @ W) * o[t] * (1 - np.tanh(c[t]) ** 2)
        for k in range(lags + 1):
            direct = at_c * np.prod(f[t - k + 1 : t + 1], axis=0)
            assert flow.through_sum["c", 0][s, k] == pytest.approx(np.linalg.norm(direct), rel=EXACT * 100)


def test_half_lives_are_those_of_a_known_decay() -> None:
    norms = np.tile(3.0 * 0.9 ** np.arange(50), (8, 1))
    flow = gradients.GradientFlow({("h", 0): norms})
    life, low, high = flow.half_life("h", 0)
    assert life == low == high == pytest.approx(math.log(2) / -math.log(0.9))
    assert gradients.GradientFlow({("h", 0): np.ones((4, 9))}).half_life("h", 0)[0] == math.inf


def test_an_untrained_rnn_has_the_radius_that_was_asked_for_and_linear_gradients_follow_it() -> None:
    model = TorchModel(network("lstm", hidden=24))
    fading = []
    for radius in (0.5, 0.9):
        rnn = gradients.rnn_at_radius(model, radius)
        assert gradients.spectral_radius(rnn) == pytest.approx(radius, rel=FLOAT32)
        weights = rnn.weights()
        weights["embedding.weight"] *= 1e-6
        weights |= {name: np.zeros_like(w) for name, w in weights.items() if "bias" in name}
        rnn = rnn.with_weights(weights)  # next to zero a tanh is a line
        curve = gradients.gradient_flow(trace(rnn, ids_of(TEXT), VOCAB), 60, samples=2).curve("h", 0)
        fading.append((curve[60] / curve[40]) ** (1 / 20))
    assert fading == pytest.approx([0.5, 0.9], rel=0.05)  # the largest eigenvalue rules after some steps


def test_saturation_counts_what_the_gates_do() -> None:
    path = trace(TorchModel(network("lstm", hidden=6)), ids_of(TEXT), VOCAB)
    for s in saturation.saturation(path):
        gate = path[s.gate, s.layer]
        assert np.array_equal(s.left, (gate < 0.1).mean(0))
        assert np.array_equal(s.right, (gate > 0.9).mean(0))
        assert s.chars == len(TEXT)
    gates = [(s.gate, s.layer) for s in saturation.saturation(path)]
    assert gates == [("i", 0), ("f", 0), ("o", 0), ("i", 1), ("f", 1), ("o", 1)]
    rnn = trace(TorchModel(network("rnn", layers=1)), ids_of(TEXT), VOCAB)
    (s,) = saturation.saturation(rnn)
    assert np.array_equal(s.left, (rnn["h", 0] < -0.9).mean(0))


def test_context_losses_are_those_of_windows_from_a_zero_state() -> None:
    lm = network("gru").float()
    path = trace(TorchModel(lm), ids_of(TEXT, TEXT[:101]), VOCAB)
    losses = memory.context_losses(path, window=8)
    assert [(c.least, c.most) for c in losses] == [(1, 1), (2, 2), (3, 4), (5, 8)]
    nats = []
    for story in (TEXT, TEXT[:101]):
        for a in range(0, len(story) - 1, 8):
            ids = torch.from_numpy(VOCAB.encode(story[a : a + 9]).astype(np.int64))
            with torch.no_grad():
                logits, _ = lm(ids[None, :-1])
            nats.append(torch.nn.functional.cross_entropy(logits[0], ids[1:], reduction="none").numpy())
    by_hand = np.concatenate([row[2:4] for row in nats])
    assert losses[2].chars == len(by_hand)
    assert losses[2].nats == pytest.approx(by_hand.mean(), abs=1e-5)


def test_clustered_errors_of_independent_groups_equal_the_textbook() -> None:
    values = np.random.default_rng(3).standard_normal(400)
    mean, stderr = clustered_mean(values, np.arange(400))
    assert mean == pytest.approx(values.mean())
    assert stderr == pytest.approx(values.std(ddof=1) / 20, rel=1e-9)


def test_places_cover_the_letters_of_words() -> None:
    path = trace(TorchModel(network("rnn").float()), ids_of(TEXT * 4), VOCAB)
    firsts = next(p for p in memory.place_losses(path) if (p.place, p.label) == ("letter of a word", "1"))
    starts = features(path.text)["first letter of a word"].values > 0
    assert firsts.chars == starts.sum()
    assert firsts.nats == pytest.approx(path.nats[starts].mean())


def test_every_mistake_has_one_kind_and_tables_know_what_they_counted() -> None:
    text = ("the cat sat on the mat. " * 40) + ("the cat sat on zyx mat. " * 40)
    nats = np.full(len(text), 0.1)
    wrong = [t for t in range(len(text) // 2, len(text)) if text[t] in "zc"]
    nats[wrong] = 3.0
    found = {m.kind: m for m in mistakes.mistakes(text, nats)}
    kinds = [m for kind, m in found.items() if kind != "all"]
    assert found["all"].mistakes == len(wrong) == sum(m.mistakes for m in kinds)
    assert found["rare words"].mistakes == text.count("z")
    assert found["a table of 6 characters knows better"].mistakes + found[
        "a table of 3 characters knows better"
    ].mistakes == text[len(text) // 2 :].count("c")
    assert found["all"].per_thousand == pytest.approx(1000 * len(wrong) / (len(text) // 2))


def test_the_nearest_moment_of_a_repeated_text_is_the_same_place_in_another_copy() -> None:
    copy = "".join(np.random.default_rng(0).choice(list("abcdefgh "), 200))
    path = trace(TorchModel(network("lstm").float()), ids_of(copy, copy, copy), VOCAB)
    rows = np.array([30, 90, 150])
    places, cosines = nearest_states(path, rows, count=2)
    assert {tuple(p) for p in np.sort(places - rows[:, None], axis=1).tolist()} == {(201, 402)}
    assert cosines.min() > 1 - 1e-5


def test_an_untrained_copy_has_the_weights_the_run_began_with() -> None:
    begun = CharLM(30, 9, 2, "lstm", embedding_size=4, seed=17)
    trained = CharLM(30, 9, 2, "lstm", embedding_size=4, seed=1)
    copied = TorchModel(trained).copy_untrained(17).weights()
    assert len(copied) == len(begun.state_dict())
    for name, weight in begun.state_dict().items():
        assert np.array_equal(weight.numpy(), copied[name])


def test_a_step_without_hold_gives_what_it_gave() -> None:
    lm = network("lstm", layers=1)
    model = TorchModel(lm)
    given, after = held_step(model, {})(np.array([4]), model.zero_state(1))
    with torch.no_grad():
        logits, final = lm(torch.tensor([[4]]))
    assert np.array_equal(after["c"], final["c"].numpy())
    assert np.abs(given - logits[0].numpy()).max() < EXACT


def test_findings_and_gradients_show_themselves_in_a_notebook() -> None:
    path = trace(TorchModel(network("lstm").float()), ids_of(TEXT * 6), VOCAB)
    baseline = trace(TorchModel(network("lstm", seed=4).float()), ids_of(TEXT * 6), VOCAB)
    best = find_units(path, baseline, features(path.text), top=1)["inside quotes"][0]
    assert f"layer {best.layer}, unit {best.unit}" in best._repr_html_()
    assert "dc of layer 1" in gradients.gradient_flow(path, 5, samples=3)._repr_html_()
