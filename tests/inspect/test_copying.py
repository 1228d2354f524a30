"""What rows of a context are worth, on a network that copies by construction, and by leaving rows out one by one."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from support.instruction_sets import needs_kernel

from storycell.context import MEMORY, TABLE, Context
from storycell.data.vocab import Vocabulary
from storycell.engine.cells import weight_shapes
from storycell.engine.inference import EngineNetwork
from storycell.engine.random import draw_weights
from storycell.inspect.copying import BOTH, MATCHES, NGRAMS, copying, match_of
from storycell.inspect.trace import trace
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.report.inspection import Section
from storycell.report.page import render
from storycell.report.sections.copying import build
from storycell.types import BOUNDARY, Ids

VOCAB = Vocabulary("abcdefghijklmnop .\n")
V, H, M = len(VOCAB), 24, 12
EXACT = 1e-4  # nats, in float32


def drawn(ngrams: int, matches: int, cell: str = "lstm") -> EngineNetwork:
    """Random weights, and random rows of the context."""
    shapes = weight_shapes(V, H, 2, cell, 8, True, (50 if ngrams else 0) + matches * V)
    weights = draw_weights(shapes, cell, H, 1, -1.0)
    random = np.random.default_rng(1)
    weights = {name: (w + random.normal(0, 0.3, w.shape)).astype(np.float32) for name, w in weights.items()}
    if TABLE in weights:
        weights[TABLE] *= 8
    return EngineNetwork(weights, cell, ngrams=ngrams, matches=matches)


def copier() -> EngineNetwork:
    """One layer whose units say which character followed in the match, and an output that believes them."""
    shapes = weight_shapes(V, V, 1, "rnn", V, True, M * V)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights["recurrent.weight_ih_l0"] = np.eye(V, dtype=np.float32)
    weights["output.weight"] = 6 * np.eye(V, dtype=np.float32)
    rows = weights[TABLE].reshape(M, V, V)
    for n in range(1, M):
        rows[n] = 3 * np.eye(V) * n / (M - 1)  # the surer, the longer the match
    return EngineNetwork(weights, "rnn", matches=M)


def stories(count: int = 12) -> list[str]:
    """Random characters; a sentence is said again in every story, once with a character changed."""
    random = np.random.default_rng(3)
    made = []
    for _ in range(count):
        said = "".join(random.choice(list("abcdefgh"), 30))
        apart = "".join(random.choice(list("ijklmnop"), 60))
        made.append(f"{apart[:30]} {said}. {apart[30:]} {said[:15]}p{said[16:]}.\n")
    return made


def ids_of(texts: list[str]) -> Ids:
    return np.concatenate([np.concatenate([[BOUNDARY], VOCAB.encode(t)]) for t in texts]).astype(VOCAB.dtype)


@needs_kernel
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_row_is_worth_what_the_loss_is_without_it_one_character_at_a_time(cell: str) -> None:
    """By hand: the state before is the model's own, and a copy whose rows are zero reads one character."""
    model, ids = drawn(3, M, cell), ids_of(stories(2)).astype(np.int64)
    path = trace(model, ids, VOCAB)
    found = copying(path)
    assert found is not None
    assert [one.rows for one in found.worth] == [NGRAMS, MATCHES, BOTH]
    zeroed = {}
    for name, part in ((NGRAMS, slice(50)), (MATCHES, slice(50, None)), (BOTH, slice(None))):
        weights = model.weights()
        weights[TABLE][part] = 0
        zeroed[name] = model.with_weights(weights)
    for one in found.worth:
        state, nats = model.zero_state(1), []
        for t in range(len(ids) - 1):
            if ids[t] == BOUNDARY:
                state = model.zero_state(1)
            nats.append(zeroed[one.rows].nats(ids[None, t : t + 1], ids[None, t + 1 : t + 2], state)[0][0, 0])
            state = model.state_after(ids[None, t : t + 1], state)
        assert one.without_nats == pytest.approx(np.mean(nats), abs=EXACT)
        assert one.nats == pytest.approx(path.nats.mean(), abs=EXACT)
        assert one.without_nats != pytest.approx(one.nats, abs=1e-3)


@needs_kernel
def test_engine_and_torch_find_the_same() -> None:
    lm = CharLM(V, H, 2, "gru", embedding_size=8, ngrams=3, ngram_rows=50, matches=M, backend="reference")
    one, two = drawn(3, M, "gru"), TorchModel(lm.eval()).with_weights(drawn(3, M, "gru").weights())
    ours, theirs = (copying(trace(model, ids_of(stories(3)), VOCAB)) for model in (one, two))
    assert ours is not None
    assert theirs is not None
    for a, b in zip(ours.worth, theirs.worth, strict=True):
        assert a.without_nats == pytest.approx(b.without_nats, abs=EXACT)
    assert [g.chars for g in ours.groups] == [g.chars for g in theirs.groups]


@needs_kernel
def test_what_a_network_copies_is_found_where_it_stands() -> None:
    model, texts = copier(), stories()
    path = trace(model, ids_of(texts), VOCAB)
    found = copying(path)
    assert found is not None
    (worth,) = found.worth
    assert worth.rows == MATCHES
    assert worth.without_nats == pytest.approx(np.log(V), abs=EXACT)  # without the match all characters are alike
    assert worth.without_nats - worth.nats > 3 * worth.stderr > 0
    assert len(found.passages) == 8
    for one in found.passages:
        end = one.start + len(one.text)
        story = path.text[: one.start].rpartition("\0")[2] + path.text[one.start :].partition("\0")[0]
        assert path.text[one.start : end] == one.text
        assert story.count(one.text) == 2
        assert one.earlier == one.text
        assert story.index(one.earlier_before + one.earlier) < story.index(one.before + one.text)
        assert one.gains.sum() == pytest.approx(np.log(one.probability / one.without_probability) * len(one.text))
        assert one.gains.sum() > 5
    gains = [one.gains.sum() for one in found.passages]
    assert gains == sorted(gains, reverse=True)
    assert {(g.least, g.most) for g in found.groups} >= {(0, 0), (2, 2), (9, M)}
    none, longest = found.groups[0], found.groups[-1]
    assert none.without_nats == pytest.approx(none.nats, abs=EXACT)  # the row of no match is zero here
    assert longest.hits > 0.8
    assert longest.without_nats - longest.nats > 1


@needs_kernel
def test_what_is_said_of_matches_is_what_their_rows_say() -> None:
    context, text = Context(3, 50, M, V), np.array([0, 2, 3, 4, 2, 3, 4, 5, 2, 3, 0, 2])
    rows = context.rows_of(text[None], np.zeros((1, MEMORY)))[0, :, -1]
    lengths, follows = match_of(context, rows)
    assert lengths.tolist() == [0, 0, 0, 0, 0, 2, 3, 0, 0, 2, 0, 0]
    assert follows[lengths > 0].tolist() == [4, 2, 4]


def test_a_model_without_a_context_or_matches_is_told_less() -> None:
    assert copying(trace(drawn(0, 0), ids_of(stories(2)), VOCAB)) is None
    found = copying(trace(drawn(3, 0), ids_of(stories(2)), VOCAB))
    assert found is not None
    assert [one.rows for one in found.worth] == [NGRAMS]
    assert found.groups == found.passages == []


def section(model: EngineNetwork) -> tuple[Section, str]:
    found = SimpleNamespace(copying=copying(trace(model, ids_of(stories(20)), VOCAB)))
    built = build(found)  # type: ignore[arg-type]
    assert built is not None
    figures = {one.name: one for one in built.figures}
    return built, render("report/sections/copying.html", figures=figures, **built.values)


@needs_kernel
def test_the_report_says_where_a_network_copies() -> None:
    built, page = section(copier())
    assert built.title == "Where it copies"
    assert [one.name for one in built.figures] == ["matches"]
    assert json.dumps(built.figures[0].numbers)
    assert 'class="saved-3"' in page
    best = built.values["passages"][0]["passage"]
    assert f"<u>{best.earlier.replace(chr(10), '↵')}</u>" in page
    assert page.count("<article") == 8
    built, page = section(drawn(3, 0))
    assert built.title == "What n-grams add"
    assert not built.figures
    assert "<article" not in page
    assert "copies" not in page
    built, page = section(drawn(3, M))
    assert built.title == "Where it copies"
    assert "with those of its n-grams left out" in page
    assert build(SimpleNamespace(copying=None)) is None  # type: ignore[arg-type]
