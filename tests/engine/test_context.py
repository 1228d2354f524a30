"""The rows that characters meet: `Context.rows_of` against its documentation, and the engine against that."""

from pathlib import Path

import numpy as np
import pytest
from support.instruction_sets import needs_kernel

from storycell import context
from storycell.context import MEMORY, Context
from storycell.engine import EngineModel, EngineNetwork
from storycell.engine.inference import context_rows
from storycell.language_model import Choice, State
from storycell.types import BOUNDARY

REAL = (Path(__file__).parents[1] / "data/stories-100.txt").read_text(encoding="utf-8")
LETTERS = sorted(set(REAL) - {"\n"})
V = len(LETTERS) + 2
CONTEXTS = {
    "n-grams": Context(4, 1000, 0, V),
    "matches": Context(0, 0, 16, V),
    "both": Context(5, 1000, 7, V),
    "longest": Context(16, 97, 64, V),
    "shortest": Context(2, 1, 2, V),
}
LINE = MEMORY + 2048  # the engine's line of characters, which is moved when it is full


def real(length: int) -> np.ndarray:
    """Stories, each after a boundary; one of them is told twice in a row, and one has no end."""
    ids = [BOUNDARY if c == "\n" else LETTERS.index(c) + 2 for c in REAL]
    ids = [BOUNDARY, *ids[:700], *ids[300:600], *(id for id in ids[700:] if id != BOUNDARY)]
    return np.array(ids[:length])


def adversarial(kind: str, length: int) -> np.ndarray:
    random = np.random.default_rng(len(kind))
    if kind == "one character":
        return np.full(length, 2)
    if kind == "two characters":
        return random.integers(2, 4, length)
    if kind == "three characters, boundaries":
        return np.where(random.random(length) < 0.01, BOUNDARY, random.integers(2, 4, length))
    if kind == "many boundaries":
        return random.integers(0, 3, length)
    if kind == "period 7, a mistake now and then":
        ids = 2 + np.arange(length) % 7
        return np.where(random.random(length) < 0.01, 9, ids)
    if kind == "period of all that is remembered":
        return np.resize(random.integers(2, V, MEMORY - 3), length)
    assert kind == "equal pairs of other hashes"  # pairs whose sum (31 a + b) is the same are linked together
    return random.choice([2, 33], length)


ADVERSARIAL = [
    "one character",
    "two characters",
    "three characters, boundaries",
    "many boundaries",
    "period 7, a mistake now and then",
    "period of all that is remembered",
    "equal pairs of other hashes",
]


def plain_rows(context_: Context, line: list[int]) -> list[int]:
    """The rows of the last character of a line, as the documentation words it."""
    seen: list[int] = []  # the latest first
    for id in reversed(line):
        seen.append(id)
        if id == BOUNDARY:
            break
    of_ngrams, h = [], 0
    for n in range(context_.ngrams):
        h = (h * context.FACTOR + (seen[n] if n < len(seen) else 0) + 1) % context.PRIME
        of_ngrams.append(h % context_.ngram_rows)
    of_ngrams = of_ngrams[1:]
    if not context_.matches:
        return of_ngrams
    story = [id for id in seen if id != BOUNDARY] if line[-1] != BOUNDARY else []
    longest, row = 1, 0
    for distance in range(1, min(MEMORY - context_.matches + 1, len(story) - 1) + 1):
        n = 0
        while n < context_.matches and distance + n < len(story) and story[n] == story[distance + n]:
            n += 1
        if n > longest:
            longest, row = n, (n - 1) * context_.vocab_size + story[distance - 1]
    return [*of_ngrams, (context_.ngram_rows if context_.ngrams else 0) + row]


def texts(length: int) -> np.ndarray:
    """`[B T]`: the real one and all adversarial ones."""
    return np.stack([real(length), *(adversarial(kind, length) for kind in ADVERSARIAL)])


@pytest.mark.parametrize("name", CONTEXTS)
def test_rows_are_those_of_the_documentation(name: str) -> None:
    """At places near the beginning, at random, and where a place is as far away as one may be."""
    one, length = CONTEXTS[name], 2400
    ids = texts(length)
    rows = one.rows_of(ids, np.zeros((len(ids), one.memory)))
    assert rows.shape == (*ids.shape, one.met)
    edge = MEMORY - one.matches
    places = {*range(60), *range(edge - 2, edge + 40, 3), *np.random.default_rng(1).integers(0, length, 120).tolist()}
    for b in range(len(ids)):
        for t in sorted(places):
            assert rows[b, t].tolist() == plain_rows(one, ids[b, : t + 1].tolist()), (b, t)


def test_the_texts_hold_what_they_are_for() -> None:
    """Matches of every length and none, far and near, in all but the texts that cannot have them."""
    one = CONTEXTS["matches"]
    ids = texts(LINE + 700)
    rows = one.rows_of(ids, np.zeros((len(ids), MEMORY)))[..., 0]
    lengths = rows // V + (rows > 0)
    assert set(lengths[0].tolist()) == {0, *range(2, 17)}
    assert (lengths[1, 20:] == 16).all()
    assert (lengths[ADVERSARIAL.index("period of all that is remembered") + 1, MEMORY + 20 :] < 6).all()
    assert (ids[0] == BOUNDARY).sum() > 2


def test_a_place_as_far_away_as_one_may_be_is_seen_and_none_beyond() -> None:
    for M in (2, 16, 64):
        one = Context(0, 0, M, 200)
        story = np.arange(2, 4)  # stands at the beginning and again after `gap` other characters
        for gap, seen in ((MEMORY - M - 1, True), (MEMORY - M, False)):
            between = 4 + np.arange(gap) % 190
            ids = np.concatenate([story, between, story])[None]
            for rows in (one.rows_of(ids, np.zeros((1, MEMORY))), context_rows(one, ids)):
                assert (rows[0, -1, 0] == 200 + 4) == seen, (M, gap)


@needs_kernel
@pytest.mark.parametrize("name", CONTEXTS)
def test_the_engines_rows_are_these_to_the_last_one(name: str) -> None:
    """On texts so long that its line is moved several times."""
    one = CONTEXTS[name]
    ids = texts(2 * LINE + 1500)
    expected = one.rows_of(ids, np.zeros((len(ids), one.memory)))
    assert np.array_equal(context_rows(one, ids), expected)


@needs_kernel
def test_rows_of_what_is_no_text_are_refused() -> None:
    one = CONTEXTS["both"]
    with pytest.raises(ValueError, match=r"a past of shape \[1, 1023\]: it must be \[1, 1024\]"):
        context_rows(one, [[2, 3]], np.zeros((1, 1023)))
    for ids, past in (([[2, V]], 0), ([[-1]], 0), ([[2]], V), ([[2]], -1)):
        with pytest.raises(IndexError):
            context_rows(one, ids, np.full((1, MEMORY), past))
    for rows, wrong in ((10, (1, 0)), (10, (17, 0)), (V, (0, 1)), (65 * V, (0, 65)), (V, (0, 2)), (2 * V, (3, 2))):
        with pytest.raises(ValueError, match=f"a table of {rows} rows is not that of n-grams"):
            Context.of(*wrong, rows, V)
    assert Context.of(3, 2, 2 * V + 1, V) == Context(3, 1, 2, V)
    assert not Context.of(0, 0, 0, V)


@needs_kernel
@pytest.mark.parametrize("name", CONTEXTS)
def test_a_text_in_pieces_has_the_rows_of_the_whole(name: str) -> None:
    one = CONTEXTS[name]
    ids = texts(LINE + 300)
    whole = context_rows(one, ids)
    sizes = [1, 1, 2, 5, 40, 700, 1, MEMORY, 1000]
    past, at = np.zeros((len(ids), one.memory), np.int64), 0
    while at < ids.shape[1]:
        size = sizes.pop(0) if sizes else ids.shape[1] - at
        piece = ids[:, at : at + size]
        assert np.array_equal(context_rows(one, piece, past), whole[:, at : at + size]), at
        if size < 100:
            assert np.array_equal(one.rows_of(piece, past), whole[:, at : at + size]), at
        past, at = one.past_after(piece, past), at + size
        for b in (0, 3):
            with_boundary = np.concatenate([[BOUNDARY], ids[b]])
            assert np.array_equal(past[b], one.past_before(with_boundary, [at + 1])[0])


def test_a_past_is_the_latest_characters_of_the_story_the_latest_first() -> None:
    for one in CONTEXTS.values():
        ids = np.array([[3, 4, 0, 5, 6, 7]])
        expected = np.resize([7, 6, 5], 3).tolist() + [0] * max(0, one.memory - 3)
        assert one.past_after(ids, np.full((1, one.memory), 9))[0].tolist() == expected[: one.memory]
        assert one.past_before(ids[0], [6, 3, 0]).tolist() == [
            expected[: one.memory],
            [0] * one.memory,
            [0] * one.memory,
        ]


@needs_kernel
@pytest.mark.parametrize("name", CONTEXTS)
def test_reading_learning_and_generating_meet_these_rows(name: str) -> None:
    """A table whose rows are told apart by their numbers: what is read shows which were met."""
    one, D = CONTEXTS[name], 8
    keywords = {"ngrams": one.ngrams, "matches": one.matches}
    model = EngineModel(V, 8, 1, embedding_size=D, ngram_rows=one.ngram_rows, threads=2, **keywords)
    model.initialise(1)
    table = np.random.default_rng(1).integers(-64, 64, (one.rows, D)).astype(np.float32) / 64  # sums are exact
    embedding = np.zeros((V, D), np.float32)
    model.write({context.TABLE: table, "embedding.weight": embedding})
    network = model.network()
    ids = texts(1500)
    zeros = np.zeros((len(ids), one.memory), np.int64)
    past = zeros
    for a, b in ((0, 1), (1, 30), (30, 1200), (1200, 1500)):
        piece = ids[:, a:b]
        rows = one.rows_of(piece, past)
        assert np.array_equal(network.inputs(piece, past), table[rows].sum(2))
        assert np.array_equal(one.vectors(table, piece, past), table[rows].sum(2))
        model.gradient(piece, np.roll(piece, 1), carries=True, resets=np.full(len(ids), a == 0))
        assert np.array_equal(model.row_gradients()[0], np.unique(rows))
        model.apply(0.0, optimizer="sgd")
        past = one.past_after(piece, past)
        assert np.array_equal(model.state()["past"][0], past)
        _reads_as(network, one, piece, past)
    resets = np.arange(len(ids)) % 2 == 0
    model.gradient(ids[:, :40], ids[:, 1:41], carries=True, resets=resets)
    forgotten = np.where(resets[:, None], 0, past)
    assert np.array_equal(model.row_gradients()[0], np.unique(one.rows_of(ids[:, :40], forgotten)))
    _writes_as_it_reads(network, network.state_after(ids[:, :1100]))


def _writes_as_it_reads(network: EngineNetwork, state: State) -> None:
    """So long a text that the line is moved while it is generated."""
    B, chars = state["h"].shape[1], 2100
    fed, random = np.full(B, 5), np.arange(1, 4 * B + 1).reshape(B, 4)
    written = network.generate(fed, state, random, [Choice(0.7, 1.0, 0.0, 2, False)] * B, chars, logits=True)
    read = np.concatenate([fed[:, None], written.ids[:, :-1]], axis=1)
    logits, after = network.logits(read, state)
    assert np.abs(written.logits - logits).max() < 1e-3
    assert np.array_equal(written.state["past"], after["past"])


def _reads_as(network: EngineNetwork, one: Context, ids: np.ndarray, past: np.ndarray) -> None:
    """Logits and states of a call are those of the layers' lines on the rows of `rows_of`; the past goes on."""
    short = ids[:, :20]
    state = network.zero_state(len(ids)) | {"past": past[None].astype(np.float32)}
    logits, after = network.logits(short, state)
    assert np.array_equal(after["past"][0], one.past_after(short, past))
    values = {name: state[name][0] for name in network.state_names}
    vectors = network.weights()[context.TABLE][one.rows_of(short, past)].sum(2)
    for t in range(short.shape[1]):
        values = network.layer_step(0, vectors[:, t], values)
        assert np.abs(network.output(values["h"]) - logits[:, t]).max() < 1e-4
