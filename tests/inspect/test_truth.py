"""The truth by character: against enumeration of a tiny grammar, the probability of whole stories, and sampling."""

import math
import random
from collections import defaultdict
from itertools import islice

import numpy as np
import pytest
from test_inspection import text_ids, untrained

import storycell
from storycell.data.stories import corpus
from storycell.data.stories.grammar import END, Word, WordList
from storycell.data.stories.notation import build
from storycell.data.vocab import Vocabulary
from storycell.inspect import truth as truths
from storycell.inspect.trace import trace
from storycell.inspect.truth import truth

ROUNDING = 1e-9
FLOAT32 = 1e-4  # nats of a model's softmax in float32

RULES = """
start =
    <who> [saw|sat by] {=thing.a!t}[.|!]
    3* {t=thing.a} and {u=thing.a!t}, {t}
    2* so <who>

who =
    {h=person} so {h.he}
    2* {h=person}
"""


def word(base: str, a: str = "", he: str = "") -> Word:
    return Word((base, a or f"a {base}", "", "", he, "", "", "", "", "", "", ""))


TINY = build(
    RULES,
    {
        "person": WordList([word("so", he="she"), word("Sam", he="he"), word("Sal", he="she")], [1, 2, 3]),
        "thing": WordList([word("can"), word("cane"), word("ant", "an ant"), word("cat")], [4, 3, 2, 1]),
    },
    "start",
)


def enumerated(count: int) -> dict[str, float]:
    """Every text of the tiny grammar with its probability, gathered from many draws, each probability exact."""
    chance = random.Random(1)
    texts = {TINY.generate(chance.random)[0] for _ in range(count)}
    return {text: math.exp(TINY.log_probability(text)) for text in texts}


def test_next_characters_are_those_of_all_texts_counted_one_by_one() -> None:
    texts = enumerated(20_000)
    assert abs(sum(texts.values()) - 1) < ROUNDING  # nothing is missing
    after: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for text, p in texts.items():
        for k, c in enumerate(text + END):
            after[text[:k]][c] += p
    assert len(after) > 100
    for beginning, mass in after.items():
        total = sum(mass.values())
        found = TINY.predict(beginning)[-1]
        assert found.keys() == mass.keys(), beginning
        for c, p in mass.items():
            assert abs(found[c] - p / total) < ROUNDING, (beginning, c)


@pytest.mark.parametrize("seed", [1, 2])
def test_probabilities_sum_to_one_and_multiply_to_the_storys(seed: int) -> None:
    for k in range(12):
        story, _ = corpus.story_at(seed, k)
        found = corpus.predict(story)
        assert len(found) == len(story) + 1
        assert all(abs(sum(p.values()) - 1) < ROUNDING for p in found)
        total = sum(math.log(p[c]) for p, c in zip(found, story + END, strict=True))
        assert abs(total - corpus.log_probability(story)) < ROUNDING * len(story)
        assert corpus.predict(story[:200])[:201] == found[:201]  # what comes later changes nothing before


def test_the_mean_loss_of_drawn_stories_is_their_entropy_to_sampling_error() -> None:
    """Of what comes, minus what is to be expected there: mean zero; so the floor is that of the probabilities."""
    gaps, nats = [], []
    for k in range(60):
        story, drawn = corpus.story_at(9, k)
        rows = corpus.predict(story)
        entropy = sum(-sum(v * math.log(v) for v in p.values()) for p in rows)
        came = sum(-math.log(p[c]) for p, c in zip(rows, story + END, strict=True))
        gaps.append(came - entropy)
        nats.append(came)
        assert came <= -drawn + ROUNDING * len(story)  # a story may have several derivations
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / math.sqrt(len(gaps))
    assert np.std(gaps) > 1
    assert np.mean(nats) == pytest.approx(
        np.mean([-corpus.log_probability(corpus.story_at(9, k)[0]) for k in range(60)])
    )


def test_a_text_that_the_grammar_leaves_has_no_truth_from_there_on() -> None:
    story = corpus.story_at(1, 0)[0]
    found = corpus.predict(story[:60] + "xyz" + story[60:])
    assert all(found[:61])
    assert not any(found[61:])


def test_what_a_model_loses_is_the_divergence_and_its_mean_the_difference_of_losses() -> None:
    model = storycell.load("demo")
    path = model.trace("<|endoftext|>\n".join(islice(corpus.generate(4), 12)))
    found = truth(path)
    assert found is not None
    assert np.isfinite(found.excess).all()
    assert (found.excess >= 0).all()
    q = path.probabilities()
    story = path.text.split("\0")[0]
    for t, p in enumerate(corpus.predict(story)[1:60], 1):  # by the formula, one by one
        expected = sum(
            v * math.log(v / float(q[t - 1, 0 if c == END else model.vocab.prompt_ids(c)[0][0]])) for c, v in p.items()
        )
        assert abs(found.excess[t] - expected) < FLOAT32
    paired = path.nats[: len(found.nats)] - found.nats - found.excess
    assert abs(paired.mean()) < 4 * paired.std() / math.sqrt(len(paired))
    assert found.kinds[0].kind == "every character"
    assert found.kinds[0].share == pytest.approx(1)
    sure = next(k for k in found.kinds if k.kind == "the rules leave no choice")
    choice = next(k for k in found.kinds if k.kind == "there is a choice")
    assert sure.share + choice.share == pytest.approx(1)
    assert sure.chars + choice.chars == found.kinds[0].chars
    assert sure.true_nats < 0.01
    assert found.worst[0].excess_nats == found.excess.max()


def test_the_truth_beside_itself_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The null: a model whose logits are the grammar's own."""
    stories = list(islice(corpus.generate(4), 3))
    vocab = Vocabulary(
        "".join(sorted(set("".join(stories)) | set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-'")))
    )
    path = trace(untrained(vocab, 8, 1), text_ids(stories, vocab), vocab)
    rows = [p for story in stories for p in corpus.predict(story)][: len(path)]
    ids = {vocab.text_of(k): k for k in range(2, len(vocab))} | {END: 0}
    exact = np.full((len(rows), len(vocab)), -60.0)
    for row, p in zip(exact, rows, strict=True):
        for c, v in p.items():
            row[ids[c]] = math.log(v)
    parts = iter(np.split(exact, range(2048, len(exact), 2048)))
    monkeypatch.setattr(path.model, "output", lambda h: next(parts)[: len(h)], raising=False)
    found = truth(path)
    assert found is not None
    assert found.excess.max() < FLOAT32
    assert len(found.shown) == truths._SHOWN


def test_a_text_of_somebody_else_has_no_truth() -> None:
    model = storycell.load("demo")
    assert truth(model.trace("Once upon a time, a king had two sons. " * 40)) is None
