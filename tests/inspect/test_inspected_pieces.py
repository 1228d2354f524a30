"""Looking inside models of word pieces: what is shown by character is what the network did by piece."""

import math
import string
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from support.instruction_sets import needs_kernel
from test_inspection import SATURATED, stories, text_ids, untrained
from test_trace import FLOAT32

from storycell.context import TABLE
from storycell.data.stories import corpus
from storycell.data.vocab import Vocabulary
from storycell.engine.cells import weight_shapes
from storycell.engine.inference import EngineNetwork
from storycell.engine.random import draw_weights
from storycell.errors import SettingsError
from storycell.evaluation import evaluator
from storycell.generation.generate import generate_text
from storycell.generation.sampler import Sampling
from storycell.inspect import ablation, authors, latch, memory, patching, probes, saturation, truth, units
from storycell.inspect.cards import card
from storycell.inspect.chances import Chances, Endings, cut
from storycell.inspect.copying import MATCHES, copying
from storycell.inspect.features import features, inside_quotes, is_quote
from storycell.inspect.gradients import gradient_flow
from storycell.inspect.latch import LATCH, wire_by_hand
from storycell.inspect.mistakes import mistakes
from storycell.inspect.pairs import FACTS, Pair, pairs
from storycell.inspect.patching import Part, carriers, patch
from storycell.inspect.steering import direction, dose_curve
from storycell.inspect.step import unit_step
from storycell.inspect.trace import Trace, nearest, trace
from storycell.inspect.units import find_units
from storycell.language_model import LanguageModel
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, RESERVED, UNKNOWN

ROUNDING = 1e-9
SUMS = 1e-5  # float32, probabilities that are added up
MERGES = (
    *[
        ("h", "e"),
        ("t", "he"),
        (" ", "the"),
        (" ", "he"),
        ("s", "he"),
        (" ", "she"),
        ("i", "n"),
        ("in", "g"),
        (" ", "a"),
    ],
    *[("a", "n"), ("an", "d"), (" ", "and"), (".", '"'), ('."', "\n"), (".", "\n"), ("!", '"'), (" ", '"'), (",", '"')],
    *[("a", "b"), ("c", "d"), ("ab", "cd"), (" ", "ab"), (" ", "h"), ("e", "d"), (" a", "b"), ("o", "n"), ("On", "c")],
    *[("O", "n"), ("On", "ce"), ("c", "e"), (" ", "b"), ("y", ","), ("a", "y"), (" ", "w"), (" w", "as"), ("a", "s")],
)
WRITTEN = list(islice(corpus.generate(3), 40))


def pieces_of(*texts: str) -> Vocabulary:
    """Some characters and pieces, every pair of which is one of pieces before it."""
    known = sorted(set("".join(texts)) | set(" \"'.,!?-\n" + string.ascii_letters))
    found: list[tuple[str, str]] = []
    there = set(known)
    for _ in range(3):
        for a, b in MERGES:
            if {a, b} <= there and (a, b) not in found:
                found.append((a, b))
                there.add(a + b)
    return Vocabulary("".join(known), "pieces", merges=tuple(found))


VOCAB = pieces_of(*WRITTEN)


def network(layers: int = 2, hidden: int = 12, vocab: Vocabulary = VOCAB, seed: int = 3) -> TorchModel:
    """In float64, with enough weight that it is sure of something."""
    lm = CharLM(len(vocab), hidden, layers, "lstm", embedding_size=7, seed=seed).double().eval()
    with torch.no_grad():
        for weight in lm.parameters():
            weight.mul_(1.6)
    return TorchModel(lm)


def path_of(texts: Sequence[str] = WRITTEN[:6], model: LanguageModel | None = None, vocab: Vocabulary = VOCAB) -> Trace:
    return trace(model or network(vocab=vocab), text_ids(list(texts), vocab), vocab)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def test_every_character_of_a_piece_has_the_values_once_the_piece_was_read() -> None:
    model, texts = network(), WRITTEN[:3]
    path = path_of(texts, model)
    assert path.text == "\0".join(texts)
    assert len(path) == len(path.text) == len(path.nats) > 1.15 * len(path.ids)
    at, state = 0, model.zero_state(1)
    before = model.state_after(np.array([[BOUNDARY]]), state)
    for k in path.ids.tolist():
        state = model.state_after(np.array([[k]]), model.zero_state(1) if k == BOUNDARY else before)
        text = "\0" if k == BOUNDARY else VOCAB.text_of(k)
        assert path.text[at : at + len(text)] == text
        for layer in range(2):
            for name in ("c", "h"):
                assert np.abs(path[name, layer][at : at + len(text)] - state[name][layer, 0]).max() < FLOAT32
        at, before = at + len(text), state
    assert at == len(path)
    whole = path["i", 1]  # computed on the spot, in other ways
    assert whole.shape == (len(path), 12)
    for rows in (slice(40, 90, 7), slice(90, 40, -7), slice(None)):
        assert np.abs(path.values(1, rows, ("i",))["i"] - whole[rows]).max(initial=0) < FLOAT32
        assert np.abs(path.probabilities(rows) - path.probabilities()[rows]).max(initial=0) < FLOAT32
    assert np.array_equal(path.column("i", 1, 5), path.unit(1, 5)["i"])
    assert np.abs(path.column("i", 1, 5) - whole[:, 5]).max() < FLOAT32
    first = path.span(len(texts[0]) - 1)  # the last piece of a story
    assert path.text[first.start : first.stop] == VOCAB.text_of(int(path.ids[path.places[len(texts[0]) - 1]]))


def test_the_losses_of_characters_add_up_to_the_evaluators() -> None:
    model = network()
    path = path_of(WRITTEN[:3], model)
    scored = evaluator.score(model, path.all_ids, VOCAB)
    pieces = np.add.reduceat(scored, np.cumsum([0, *VOCAB.lengths[path.ids]])[: len(path.ids) + 1])[:-1]
    assert len(scored) == len(path) + 1  # the end of the last story too
    assert np.abs(path.by_step(path.nats) - pieces).max() < FLOAT32
    assert (path.nats > -ROUNDING).all()
    logits, _ = model.logits(np.array([[BOUNDARY, *VOCAB.encode(WRITTEN[0])]]))
    log_p = np.log(softmax(logits[0].astype(np.float64)))
    first = VOCAB.spell_nats(log_p[:-1], VOCAB.encode(WRITTEN[0]))
    assert np.abs(path.nats[: len(first)] - first).max() < FLOAT32
    assert np.abs(path.nats_reading(path.inputs) - path.nats).max() < FLOAT32


def test_a_trace_of_characters_holds_no_second_copy_of_anything() -> None:
    texts = WRITTEN[:2]
    path = path_of(texts, untrained(VOCAB.spelling, 8, 1), VOCAB.spelling)
    T = len(path)
    assert np.array_equal(path.places, np.arange(T))
    assert np.array_equal(path.ends, np.arange(T))
    assert np.array_equal(path.firsts, np.arange(T + 1))
    for view in (path["h", 0], path.column("c", 0, 3), path.values(0, slice(5, 50, 3), ("c",))["c"]):
        assert any(np.shares_memory(view, state) for state in path.states[0].values())
    assert path.by_step(path.nats) is path.nats
    assert path.once_read(path.nats) is path.nats


def next_chance(p: np.ndarray, ids: Sequence[int], wanted: str) -> list[float]:
    """The chance of some characters behind each character of ids, one piece of the vocabulary after the other."""
    found = []
    for t, k in enumerate(ids):
        text = "\0" if k == BOUNDARY else VOCAB.text_of(k)
        begin = sum(p[t + 1, j] for j in range(RESERVED, len(VOCAB)) if VOCAB.text_of(j)[0] in wanted)
        for read in range(1, len(text) + 1):
            if k == BOUNDARY:
                found.append(float(begin))
                continue
            alike = [j for j in range(RESERVED, len(VOCAB)) if VOCAB.text_of(j).startswith(text[:read])]
            going = [j for j in alike if len(VOCAB.text_of(j)) > read and VOCAB.text_of(j)[read] in wanted]
            chance = p[t, going].sum() + (p[t, k] * begin if read == len(text) else 0.0)
            found.append(float(chance / p[t, alike].sum()))
    return found


def test_the_chance_of_a_character_is_that_of_all_pieces_that_go_on_with_it() -> None:
    model, text = network(), 'she and the hand. "The end."\nabcd was'
    ids = VOCAB.encode(text).astype(np.int64)
    ids = np.concatenate([ids, [BOUNDARY], ids[:4]])
    logits, _ = model.logits(np.array([[BOUNDARY, *ids]]))
    p = softmax(logits[0].astype(np.float64))
    for wanted in ('"', "ae ", "d"):
        found = Chances(VOCAB, lambda c, wanted=wanted: bool(c) and c in wanted).along(p, ids)
        assert np.abs(found - next_chance(p, ids.tolist(), wanted)).max() < ROUNDING
        assert found.max() > 0.001
    every = [Chances(VOCAB, c.__eq__).along(p, ids) for c in VOCAB.characters]
    over = p[1:, : UNKNOWN + 1].sum(1)  # what is no character, behind each piece
    last = np.cumsum(VOCAB.lengths[ids]) - 1
    assert np.abs(np.sum(every, axis=0)[last][ids == BOUNDARY] + over[ids == BOUNDARY] - 1).max() < SUMS
    assert np.sum(every, axis=0).max() < 1 + SUMS


def test_of_all_that_may_follow_a_text_one_thing_does() -> None:
    """Over all characters and the end, the chances after an ending add up to one; what is sampled is likelier."""
    model = network()
    prompts = ["Once upon a time, the", "she said, ", 'He was happy."', "abcd"]
    found = [cut(VOCAB, (prompt,)) for prompt in prompts]
    every = "".join(VOCAB.characters)
    states = patching.states_after(model, [ids for (ids,), _ in found])
    totals = np.zeros(len(prompts))
    for character in every:
        yes, no = Endings(VOCAB, [e for _, e in found], [character] * 4, ["e"] * 4).ask(model, states)
        totals += yes
        if character == "e":
            assert np.abs(yes - no).max() < ROUNDING
    assert (totals < 1).all()
    for k, prompt in enumerate(prompts):  # what is missing: all as it is usually, and then the end
        (read,), ending = found[k]
        logits, _ = model.logits(np.array([[BOUNDARY, *read, *ending.then]]))
        p = softmax(logits[0].astype(np.float64))
        behind = [p[len(read) + j, t] for j, t in enumerate(ending.then)]
        usual = math.prod(behind)
        beyond = sum(
            math.prod(behind[:j]) * p[len(read) + j, one]
            for j, left in enumerate(ending.left)
            for one in range(RESERVED, len(VOCAB))
            if VOCAB.text_of(one).startswith(left) and len(VOCAB.text_of(one)) > len(left)
            and VOCAB.settled(prompt)[1].endswith(left)
        )  # fmt: skip
        over = usual * p[-1, : UNKNOWN + 1].sum() / (usual + beyond)
        assert abs(totals[k] + over - 1) < SUMS


def test_texts_are_cut_where_they_begin_to_end_alike() -> None:
    (source, base), ending = cut(VOCAB, ('a "the hand.', "a the hand."))
    assert VOCAB.decode(source) + "".join(ending.left[0]) == 'a "the hand.'
    assert VOCAB.decode(base) + "".join(ending.left[0]) == "a the hand."
    assert ending.left[-1] == "."
    assert {VOCAB.text_of(k) for k in ending.beyond[-1]} == {'."', '."\n', ".\n"}
    with pytest.raises(SettingsError, match="do not end in the same pieces"):
        cut(VOCAB, ("the", "hand"))


def test_what_is_exchanged_whole_is_read_on_as_its_own_text_is() -> None:
    model, then = network(), " the hand."
    base, source = "Once he was happy and", 'Once she said, "and'
    whole, nothing = (
        patch(model, VOCAB, base, source, part, then=then, chars=60, sampling=Sampling(greedy=True))
        for part in (Part(), Part(units=()))
    )
    assert np.abs(whole.after - whole.source).max() < SUMS
    assert np.array_equal(nothing.after, nothing.before)
    assert np.abs(whole.after - whole.before).max() > 1e-4
    for text, patched in ((base, nothing), (source, whole)):
        written = generate_text(model, VOCAB, text + then, 60, sampling=Sampling(greedy=True), seed=1)
        assert patched.text == written[len(text + then) :]
        assert 0 < len(patched.text) <= 60
    at_once = patch(model, VOCAB, base, source, chars=5)
    assert len(at_once.text) <= 5
    assert np.abs(at_once.after - at_once.source).max() < SUMS
    with pytest.raises(SettingsError, match="do not end in the same pieces"):
        patch(model, VOCAB, "h", "o", then="e")


def with_planted_latch(vocab: Vocabulary, unit: int) -> LanguageModel:
    """A random LSTM of 16 units, one of which is the hand-wired latch for every piece that holds a quote."""
    model, (ideal, letters) = untrained(vocab, 16, 5), wire_by_hand("".join(vocab.characters))
    ours, theirs = model.weights(), ideal.weights()
    quote = RESERVED + letters.characters.index('"')
    W_x, W_h, bias, other = (f"recurrent.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    for gate in range(4):
        row, wired = gate * 16 + unit, gate * 4 + LATCH
        for k in range(len(vocab)):
            plain = RESERVED + letters.characters.index("a")
            same = BOUNDARY if k == BOUNDARY else quote if '"' in vocab.text_of(k) else plain
            ours[W_x][row, k] = theirs[W_x][wired, same]
        ours[W_h][row] = 0.0
        ours[W_h][row, unit] = theirs[W_h][wired, LATCH]
        ours[bias][row], ours[other][row] = theirs[bias][wired], 0.0
    return model.with_weights(ours)


@pytest.fixture(scope="module")
def quoting() -> tuple[Trace, Trace]:
    """A planted latch, and an untrained network, along quotations that end within pieces."""
    texts = stories(160)
    vocab = pieces_of(*texts)
    ids = text_ids(texts, vocab)
    held = [vocab.text_of(int(k)) for k in np.unique(ids) if '"' in vocab.text_of(int(k))]
    assert set(held) == {' "', '."'}
    return trace(with_planted_latch(vocab, 11), ids, vocab), trace(untrained(vocab, 16, 9), ids, vocab)


def test_a_planted_unit_is_found_though_quotes_lie_within_pieces(quoting: tuple[Trace, Trace]) -> None:
    path, baseline = quoting
    known = features(path.text)
    best = find_units(path, baseline, {"inside quotes": known["inside quotes"]})["inside quotes"][0]
    assert (best.layer, best.unit, best.sign, best.score) == (0, 11, 1, 1.0)
    assert best.is_finding
    assert best.chars == len(path.ids) - len(path.ids) // 2  # a piece is one place, however long
    assert units.unit_score(path, known["inside quotes"], 0, 11, 1) == 1.0
    assert units.best_scores(path, {"inside quotes": known["inside quotes"]}) == {"inside quotes": 1.0}
    (told,) = probes.probe(path, baseline, {"inside quotes": known["inside quotes"]})
    assert told.score > 0.999


def test_labels_by_lot_are_of_what_a_state_can_know(quoting: tuple[Trace, Trace], monkeypatch: Any) -> None:
    """The control's label of a piece is that of the word as far as the piece reaches."""
    path, baseline = quoting
    seen: list[np.ndarray] = []
    by_lot = probes._by_lot
    monkeypatch.setattr(probes, "_by_lot", lambda types, *rest: seen.append(types) or by_lot(types, *rest))
    probes.probe(path, baseline, {"inside quotes": features(path.text)["inside quotes"]})
    every = probes._word_types(path.text)
    assert np.array_equal(seen[0], [every[end - 1] for end in np.cumsum(lengths_of(path))])


def lengths_of(path: Trace) -> list[int]:
    return [1 if k == BOUNDARY else len(path.vocab.text_of(k)) for k in path.ids.tolist()]


def test_the_moments_of_a_latch_are_told_apart(quoting: tuple[Trace, Trace]) -> None:
    path, _ = quoting
    found = {one.where: one for one in latch.moments(path, 0, 11)}
    quotes = path.text.count('"')
    assert found["opening quote"].chars == found["closing quote"].chars == quotes // 2
    for where, value in (("opening quote", 1), ("inside", 1), ("closing quote", -1), ("outside", -1)):
        assert abs(found[where].means["c"] - value) < 5 * SATURATED
    apart = sum(n for n, k in zip(lengths_of(path), path.ids, strict=True) if '"' in path.vocab.text_of(int(k)))
    assert found["inside"].chars + found["outside"].chars == len(path) - apart


def test_a_quote_within_a_piece_is_what_a_hold_changes(quoting: tuple[Trace, Trace]) -> None:
    """The output is made to expect '."' while the latch is on: the chance is asked for after the full stop."""
    path, _ = quoting
    weights = path.model.weights()
    closing = next(k for k in range(RESERVED, len(path.vocab)) if path.vocab.text_of(k) == '."')
    stop = next(k for k in range(RESERVED, len(path.vocab)) if path.vocab.text_of(k) == ".")
    weights["output.weight"][[closing, stop]] = 0
    weights["output.weight"][closing, 11], weights["output.weight"][stop, 11] = 8, -8
    wired = trace(path.model.with_weights(weights), path.all_ids.astype(path.vocab.dtype), path.vocab)
    test = latch.HoldTest(wired)
    assert test.is_possible
    plain = test.result("nothing", [])
    held = test.result("the latch", [("c", 0, 11)])
    assert plain.closing_places == test.closings.sum() >= latch._STORIES
    assert plain.closing > 0.99
    assert held.closing < 0.01  # held outside
    assert plain.opening < 0.01
    assert held.opening > 0.99  # held inside
    inside, outside = test.values_of([("c", 0, 11)])
    assert abs(inside["c", 0, 11] - 1) < 0.01
    assert abs(outside["c", 0, 11] + 1) < 0.01
    told = test.generate("held", inside, "abcd", seed=2)
    assert told.text.startswith("abcd")
    assert told.chars <= latch._WRITTEN * latch._WRITTEN_CHARS
    read = latch.read_sentence(wired.model, wired.vocab, 'she said, "abcd."', 0, 11)
    assert len(read.quote_next) == len(read.values["c"]) == len(read.text) == 17
    assert read.quote_next[read.text.index(".")] > 0.99


def test_who_wrote_a_memory_is_told_by_piece(quoting: tuple[Trace, Trace]) -> None:
    path, _ = quoting
    at = path.text.index('"', 200) + 5
    told = authors.authors(path, 0, 11, at)
    assert told.text.endswith(path.text[: path.span(at).stop][-20:])
    assert told.read[0] == "\0"
    assert abs(told.shares.sum() - told.value) < SUMS
    assert told.value == pytest.approx(path.column("c", 0, 11)[at])
    shares = authors.quote_shares(path, 0)
    assert shares is not None
    assert shares.quotations == path.text.count('"') // 2
    assert shares.opening[11] > 0.99  # the quote wrote it, and nobody since
    assert shares.before[11] < 0.01
    known = authors.memory_authors(path, [(0, 11, "inside quotes")])
    assert known is not None
    passage = known.passage
    assert path.texts(passage.rows)[passage.at - passage.rows.start + 1] == '."'  # all but the closing quote
    k = [unit[:2] for unit in passage.units].index((0, 11))
    state = passage.before[k]
    for keep, write in zip(passage.kept[k], passage.written[k], strict=True):
        state = keep * state + write
    assert abs(state - path.step_column("c", 0, 11)[passage.rows[-1]]) < SUMS


def test_a_direction_is_between_what_pieces_are_once_they_were_read(quoting: tuple[Trace, Trace]) -> None:
    path, _ = quoting
    found = direction(path, "inside quotes, not outside")
    inside = inside_quotes(path.text)[path.ends] > 0
    h = path.states[0]["h"][1:].astype(np.float64)
    assert np.abs(found.vector - (h[inside].mean(0) - h[~inside].mean(0))).max() < SUMS
    assert abs(found.vector[11] - 2 * 0.7616) < 0.01


def test_a_step_of_a_unit_is_that_of_the_last_piece() -> None:
    model = network()
    path = path_of(WRITTEN[:1], model)
    found = unit_step(model, path.all_ids, 1, 4)
    for name in path.names:
        assert found.after[name] == pytest.approx(float(path[name, 1][-1, 4]), abs=FLOAT32)


def test_how_far_it_remembers_is_counted_in_characters_that_were_known() -> None:
    model, window = network(), 64
    path = path_of(WRITTEN[:5], model)
    steps = max(2, round(window * len(path.ids) / len(path)))
    told: list[tuple[int, float, float]] = []  # characters known, nats, those with the whole story
    whole = path.by_step(path.nats)
    for start, end in zip(path.starts, [*path.starts[1:], len(path.all_ids)], strict=True):
        for a in range(start + 1, end - 1, steps):
            ids = path.all_ids[a : min(end, a + steps + 1)]
            nats, _ = model.nats(ids[None, :-1], ids[None, 1:])
            known = 0
            for j in range(len(ids) - 1):
                known += len(VOCAB.text_of(int(ids[j])))
                n = len(VOCAB.text_of(int(ids[j + 1])))
                told += [(known, nats[0, j] / n, whole[a + j] / n)] * n
    found = memory.context_losses(path, window)
    assert sum(one.chars for one in found) == sum(known <= window for known, *_ in told)
    for one in found:
        mine = [(nats, full) for known, nats, full in told if one.least <= known <= one.most]
        assert one.chars == len(mine)
        assert one.nats == pytest.approx(np.mean([nats for nats, _ in mine]), abs=FLOAT32)
        assert one.full_nats == pytest.approx(np.mean([full for _, full in mine]), abs=FLOAT32)


@needs_kernel
def test_what_is_lost_without_a_unit_is_counted_by_character() -> None:
    weights = draw_weights(weight_shapes(len(VOCAB), 8, 1, "lstm", 8, True, 0), "lstm", 8, 1, -1.0)
    model = EngineNetwork({name: 3 * weight for name, weight in weights.items()}, "lstm")
    path = path_of(WRITTEN, model)
    found = ablation.ablation(path, screened=(12, 200), judged=(12, 400))
    rows = ablation._stories(path, 12, 400)
    characters, story = ablation._characters(path, rows[:, 1:])
    expected, at = [], 0
    for b, line in enumerate(rows[:, 1:]):
        for row in line.tolist():
            reads = [-1] if row < 0 else list(path.span(int(path.firsts[row - 1])))
            assert characters[at : at + len(reads)].tolist() == reads
            assert (story[at : at + len(reads)] == b).all()
            at += len(reads)
            expected += [t for t in reads if t >= 0 and path.text[t] != "\0"]
    assert at == len(characters)
    assert found.kinds["every character"] == len(expected)
    assert found.base_nats["every character"] == pytest.approx(path.nats[expected].mean(), abs=FLOAT32)
    closes = is_quote(path.text) & (inside_quotes(path.text) == 0)
    closing = [t for t in expected if closes[t]]
    assert found.kinds["closing quote"] == len(closing) > 10
    assert found.base_nats["closing quote"] == pytest.approx(path.nats[closing].mean(), abs=FLOAT32)
    unit = found.best["closing quote"][0]
    means = path.states[unit.layer]["h"][1:].mean(0, dtype=np.float64)
    silent = ablation.silenced(model.frozen(), unit.layer, unit.unit, means[unit.unit])
    without = trace(silent, path.all_ids.astype(VOCAB.dtype), VOCAB).nats
    assert unit.nats == pytest.approx((without - path.nats)[closing].mean(), abs=FLOAT32)


def test_gates_are_counted_once_a_piece_and_gradients_go_back_by_piece() -> None:
    path = path_of(WRITTEN[:4])
    for one in saturation.saturation(path):
        gate = path.step_values(one.layer, names=(one.gate,))[one.gate]
        assert one.chars == len(path.ids)
        assert np.array_equal(one.right, (gate > 0.9).mean(0))
    flow = gradient_flow(path, 8, 6)
    assert flow.step_name == "piece"
    assert flow.norms["c", 1].shape == (6, 9)
    assert "half-lives in pieces" in repr(flow)
    with pytest.raises(SettingsError, match="9999 pieces"):
        gradient_flow(path, 9999)


def test_similar_moments_are_the_last_characters_of_pieces() -> None:
    path = path_of(WRITTEN[:6])
    rows = np.arange(300)
    places, cosines = nearest(path, rows)
    assert set(places.ravel().tolist()) <= {-1, *path.ends.tolist()}
    h = path["h", 1][:, :].astype(np.float64)
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    for t in (0, 17, 123, 299):
        assert cosines[t, 0] == pytest.approx(h[t] @ h[places[t, 0]], abs=SUMS)
        far = np.abs(path.places - path.places[t]) > 100
        assert cosines[t, 0] == pytest.approx((h[far] @ h[t]).max(), abs=SUMS)


def test_a_card_marks_pieces_and_says_what_pieces_a_unit_raises() -> None:
    path = path_of(WRITTEN[:12])
    found = card(path, 1, 3)
    for excerpt in (*found.highest, *found.lowest):
        assert excerpt.at in {"\0", *VOCAB.texts}
        assert f"{excerpt.before}{excerpt.at}{excerpt.after}" in path.text
    assert found.highest[0].value == pytest.approx(path.column("c", 1, 3).max())
    assert {text for text, _ in found.raises} <= {"end", *(VOCAB.text_of(k) for k in range(1, len(VOCAB)))}


@needs_kernel
def test_what_rows_of_matches_are_worth_is_told_by_character() -> None:
    V, M = len(VOCAB), 8
    shapes = weight_shapes(V, 16, 1, "lstm", 8, True, M * V)
    weights = draw_weights(shapes, "lstm", 16, 1, -1.0)
    random = np.random.default_rng(1)
    weights[TABLE] = random.normal(0, 1, weights[TABLE].shape).astype(np.float32)
    model = EngineNetwork(weights, "lstm", matches=M)
    texts = [f"{a} She said she had the hand. {a}" for a in WRITTEN[:6]]
    path = path_of(texts, model)
    found = copying(path)
    assert found is not None
    assert [one.rows for one in found.worth] == [MATCHES]
    assert found.worth[0].nats == pytest.approx(path.nats.mean())
    assert 0.9 * len(path) < sum(group.chars for group in found.groups) <= len(path)
    assert found.groups[-1].hits > 0.8  # the longest matches, in a text that repeats itself
    for one in found.passages:
        assert path.text[one.start : one.start + len(one.text)] == one.text == one.earlier
        assert len(one.gains) == len(one.text)
        assert path.text.index(one.text) < one.start


def test_the_truth_is_set_beside_what_came() -> None:
    texts = WRITTEN[:6]
    path = path_of(texts)
    found = truth.truth(path)
    assert found is not None
    first = np.array([-math.log(p[c]) for p, c in zip(corpus.predict(texts[0]), texts[0], strict=False)])
    assert np.abs(found.nats[: len(first)] - first).max() < ROUNDING
    assert np.abs(found.excess[: len(first)] - (path.nats[: len(first)] - first)).max() < ROUNDING
    whole = next(kind for kind in found.kinds if kind.kind == "every character")
    known = ~np.isnan(found.nats)
    ends = np.array([c == "\0" for c in path.text[: len(known)]])
    assert whole.excess_nats == pytest.approx(float(found.excess[known].mean()))
    told = next((kind for kind in found.kinds if kind.kind == "the end of the story"), None)
    assert told is None or told.chars == int((ends & known).sum())
    place = found.worst[0]
    assert place.model == [(path.text[place.row], pytest.approx(math.exp(-path.nats[place.row])))]
    assert place.excess_nats == pytest.approx(float(np.nanmax(found.excess)))


def test_what_carries_a_fact_is_found_in_a_network_of_pieces(quoting: tuple[Trace, Trace]) -> None:
    """The planted latch, listened to: that unit alone carries the quotation, all of it, and random ones nothing."""
    vocab = VOCAB
    model = with_planted_latch(vocab, 11)
    weights = model.weights()
    weights["output.weight"][:] *= 0.01
    for k in range(RESERVED, len(vocab)):
        if vocab.text_of(k) in ('."', '!"', '"', ".", "!"):
            weights["output.weight"][k, 11] = 4 if '"' in vocab.text_of(k) else -4
    wired = model.with_weights(weights)
    found = carriers(wired, vocab, "a quotation is open", count=24)
    assert found.is_carried
    assert found.ranking[0][0] == (0, 11)
    shares = {row.label: row.share for row in found.rows}
    assert shares["the whole state"] == pytest.approx(1)
    assert shares["the best unit"] == pytest.approx(1, abs=0.02)
    assert all(abs(share) < 0.02 for _, share in found.ranking[1:])
    assert found.source_probability > 0.4 > 0.1 > found.base_probability
    along = direction(quoting[0], "inside quotes, not outside")
    curve = dose_curve(wired, vocab, along, pairs("a quotation is open", 12), doses=(0.0, 1.0))
    assert curve.shares[0] < 0.3
    assert curve.shares[1] > 0.8


def test_every_pair_of_the_grammar_can_be_read_by_a_model_of_pieces() -> None:
    for fact in FACTS:
        for pair in pairs(fact, 64):
            vocab = pieces_of(pair.source, pair.base)
            (source, base), ending = cut(vocab, (pair.source + pair.then, pair.base + pair.then))
            assert vocab.decode([*source, *ending.then]) == pair.source + pair.then
            assert vocab.decode([*base, *ending.then]) == pair.base + pair.then
            assert source != base
    with pytest.raises(SettingsError, match="do not end in the same pieces"):
        patching.raised(network(), VOCAB, [Pair("a", "b", "", "c", "d")], [Part()])


def test_mistakes_are_of_characters_whoever_reads() -> None:
    model, letters = network(), untrained(VOCAB.spelling, 8, 1)
    path, other = path_of(WRITTEN[:6], model), path_of(WRITTEN[:6], letters, VOCAB.spelling)
    assert path.text == other.text
    mine, theirs = mistakes(path.text, path.nats), mistakes(other.text, other.nats)
    assert [kind.chars for kind in mine] == [kind.chars for kind in theirs]
    half = len(path.text) // 2
    assert mine[0].mistakes == int((np.exp(-path.nats[half:]) < 0.5).sum())
