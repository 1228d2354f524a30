"""The film of a training: what is planted in its checkpoints is born where it was planted, and nothing else is."""

import string
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from test_inspection import stories, text_ids, untrained, with_planted_latch

import storycell
from storycell.config import ModelSettings
from storycell.data.stories import corpus
from storycell.data.vocab import BYTES, Vocabulary
from storycell.errors import RunFolderError, SettingsError
from storycell.inspect import film as films
from storycell.inspect import pairs
from storycell.inspect.features import features
from storycell.inspect.film import Film, Frame, Reel, film, first_stories, frames_of, from_half
from storycell.inspect.latch import LATCH, wire_by_hand
from storycell.inspect.trace import trace
from storycell.inspect.units import best_scores, find_units, unit_score
from storycell.language_model import LanguageModel
from storycell.runs.folder import RunFolder
from storycell.runs.network import new_model
from storycell.types import BOUNDARY, Ids

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128]
PLANTED = 5  # the frame, of step 16, from which on the latch is there
TINY = {"hidden": 8, "embedding": 4, "streams": 4, "chunk": 16, "evaluations": 2, "threads": 1}


def read_stories(count: int) -> str:
    return "\0".join(islice(corpus.generate(6), count))


def every_character(text: str) -> str:
    """Those of all stories, not of these alone."""
    return text.replace("\0", "") + string.ascii_letters + "-'"


def ids_of(text: str, vocab: Vocabulary) -> Ids:
    return text_ids(text.split("\0"), vocab)


def reel_of(models: list[LanguageModel]) -> Reel:
    return Reel([Frame(step, lambda model=model: model) for step, model in zip(STEPS, models, strict=True)])


def between(a: LanguageModel, b: LanguageModel, share: float) -> LanguageModel:
    ours, theirs = a.weights(), b.weights()
    return a.with_weights({name: (1 - share) * ours[name] + share * theirs[name] for name in ours})


@pytest.fixture(scope="module")
def wired() -> tuple[Film, Vocabulary]:
    """The network that was wired by hand, after random ones: its weights are faded in, all of it at one frame."""
    text = read_stories(30)
    model, vocab = wire_by_hand(every_character(text))
    random = model.copy_untrained(3)
    shares = [0.0, 0.0, 0.0, 0.0, 0.02, 1.0, 1.0, 1.0, 1.0]
    return film(reel_of([between(random, model, share) for share in shares]), vocab, ids_of(text, vocab), 9), vocab


def test_the_latch_is_born_where_it_was_planted_and_is_used_from_there_on(wired: tuple[Film, Vocabulary]) -> None:
    found = wired[0]
    quotes = next(birth for birth in found.births if birth.finding.feature == "inside quotes")
    assert found.births[0] is quotes
    assert (quotes.finding.layer, quotes.finding.unit) == (0, LATCH)
    assert (quotes.known_at, quotes.used_at) == (PLANTED, PLANTED)
    assert quotes.asked == "the grammar's"
    assert quotes.scores[PLANTED:].min() > 0.99
    assert quotes.scores[:PLANTED].max() < 0.75
    assert quotes.effects[PLANTED:].min() > 0.5  # of the probability of a closing quote
    assert np.abs(quotes.effects[:PLANTED]).max() < 0.05
    assert (quotes.lows <= quotes.effects).all()
    assert (quotes.effects <= quotes.highs).all()
    assert (quotes.random[PLANTED:] < 0.5 * quotes.effects[PLANTED:]).all()


def test_the_passage_shows_the_latch_from_where_it_was_planted(wired: tuple[Film, Vocabulary]) -> None:
    found = wired[0]
    quotes = found.births[0]
    inside = features(found.text)["inside quotes"].values > 0
    assert 20 < inside.sum() < len(found.text) - 20
    for k in range(len(STEPS)):
        apart = quotes.values[k][inside].min() - quotes.values[k][~inside].max()
        assert (apart > 1.5) == (k >= PLANTED)  # +1 inside, -1 outside
    assert quotes.values.shape == (len(STEPS), len(found.text)) == found.row_nats.shape
    assert found.steps == STEPS


def test_one_unit_planted_among_random_ones_is_followed_from_a_frame_in_the_middle_of_a_fade() -> None:
    """Half of a latch's weights make none, as its gates are half shut; with 0.8 of them it is there."""
    texts = stories(160)
    vocab = wire_by_hand("".join(texts))[1]
    end, begin = with_planted_latch(vocab, unit=11), untrained(vocab, 16, 5)
    weights = end.weights()
    own = np.arange(4) * 16 + 11
    latch = weights["recurrent.weight_hh_l0"][own, 11].copy()
    weights["output.weight"][:, 11] = weights["recurrent.weight_hh_l0"][:, 11] = 0.0  # nobody reads it ...
    weights["recurrent.weight_hh_l0"][own, 11] = latch  # ... but itself
    end = end.with_weights(weights)
    shares = [0.0, 0.0, 0.05, 0.1, 0.2, 0.8, 0.9, 1.0, 1.0]
    found = film(reel_of([between(begin, end, share) for share in shares]), vocab, text_ids(texts, vocab), 9)
    quotes = next(birth for birth in found.births if birth.finding.feature == "inside quotes")
    assert quotes.finding.unit == 11
    assert quotes.known_at is not None
    assert 2 <= quotes.known_at <= PLANTED
    assert quotes.scores[-1] == 1.0
    assert quotes.asked == "the text's own"  # in whose letters the grammar's stories cannot be read
    assert quotes.used_at is None
    assert np.abs(quotes.effects[-1]) < 1e-6


def test_nothing_is_born_of_random_weights() -> None:
    text = read_stories(30)
    vocab = wire_by_hand(every_character(text))[1]
    models = [untrained(vocab, 16, seed) for seed in range(20, 20 + len(STEPS))]
    found = film(reel_of(models), vocab, ids_of(text, vocab), 9)
    assert len(found.births) >= 2
    assert all(birth.known_at is None and birth.used_at is None for birth in found.births)


def test_born_is_what_has_come_to_half_of_its_end_for_good() -> None:
    assert from_half(np.array([0.0, 0.6, 0.1, 0.5, 0.9, 1.0])) == 3  # the 0.6 was lost again
    assert from_half(np.array([1.0, 1.0])) == 0
    assert from_half(np.array([0.0, 0.0, 1.0])) == 2
    assert from_half(np.array([1.0, 1.0, 0.0])) is None
    assert from_half(np.array([1.0, -1.0])) is None
    assert from_half(np.array([np.nan, np.nan])) is None
    assert from_half(np.array([1.0, np.nan, 1.0])) == 2


def test_scores_are_those_of_the_search_for_units() -> None:
    text = read_stories(30)
    model, vocab = wire_by_hand(every_character(text))
    path, other = (trace(one, ids_of(text, vocab), vocab) for one in (model, model.copy_untrained(9)))
    known = {name: f for name, f in features(path.text).items() if f.is_binary and name != "inside brackets"}
    found, best = find_units(path, other, known, top=1), best_scores(path, known)
    assert len(found) > 4
    for name, (one,) in found.items():
        assert best[name] == pytest.approx(one.score, abs=1e-12)
        assert unit_score(path, known[name], one.layer, one.unit, one.sign) == pytest.approx(one.score, abs=1e-12)
        assert unit_score(path, known[name], one.layer, one.unit, -one.sign) == pytest.approx(1 - one.score, abs=1e-12)


def test_pairs_of_a_text_differ_in_the_opening_mark_alone() -> None:
    text = "A cat (a very old one, I say) sat. \0No (closing of any\nIt [was a long day of rain] ended. (short)!\0"
    found = pairs.enclosed(text, {"(": ")", "[": "]"}, 9)
    assert [(pair.source + pair.then, pair.base + pair.then, pair.yes, pair.no) for pair in found] == [
        ("A cat (a very old one, I say", "A cat a very old one, I say", ")", " "),
        (
            "No (closing of any\nIt [was a long day of rain",
            "No (closing of any\nIt was a long day of rain",
            "]",
            " ",
        ),
    ]
    assert len(pairs.enclosed(text, {"(": ")", "[": "]"}, 1)) == 1


def test_pairs_of_a_name_differ_in_who_was_named_before() -> None:
    text = "Lily ran home. Then Lily ate. Lily\0Tim saw Lily. Then Lily sat.\0Anna met Max. At last Anna left."
    found = pairs.renamed(text, "Lily", ["Tim", "Leo", "Anna"], 9)
    assert [(pair.source + pair.then, pair.base + pair.then, pair.yes, pair.no) for pair in found] == [
        ("Lily ran home. Then ", "Tim ran home. Then ", "L", "T"),
        ("Lily ran home. Then Lily ate. ", "Tim ran home. Then Tim ate. ", "L", "T"),
        ("Tim saw Lily. Then ", "Tim saw Anna. Then ", "L", "A"),
    ]
    assert pairs.renamed(text, "Lily", ["Leo", "Lucy"], 9) == []  # they begin alike


def test_a_text_without_marks_and_names_has_a_film_of_its_loss_alone() -> None:
    text = "a b c d e f g h i j k l m n o p q r s t u v w x y z. " * 100
    model, vocab = wire_by_hand(every_character(text))
    found = film(reel_of([model] * 9), vocab, ids_of(text, vocab), 9)
    assert found.births == []
    assert len(found.nats) == len(found.row_nats) == 9
    assert found.row_nats.shape[1] == len(found.text) > 100


def test_a_model_of_bytes_is_asked_by_the_grammars_pairs_and_never_for_an_answer_of_several_bytes() -> None:
    text = 'He said, "I will go home now." She ran away from the house. ' * 90
    model = new_model(len(BYTES), ModelSettings(hidden=6, embedding=4))
    found = film(reel_of([model] * 9), BYTES, ids_of(text, BYTES), 9)
    quotes = next(birth for birth in found.births if birth.finding.feature == "inside quotes")
    assert quotes.asked == "the grammar's"
    assert np.isfinite(quotes.effects).all()
    several = [
        pairs.Pair("a “one, two, th", "a one, two, th", "ree.", "”", " "),
        pairs.Pair("é(", "é", "thré", ")", "é"),
    ]
    assert not any(films._can_read(BYTES, pair) for pair in several)


def test_a_text_is_cut_at_the_end_of_a_story() -> None:
    ids = np.array([BOUNDARY, 5, 5, 5, BOUNDARY, 6, 6, 6, 6, BOUNDARY, 7])
    assert first_stories(ids, 9).tolist() == ids[:9].tolist()
    assert first_stories(ids, 8).tolist() == ids[:8].tolist()  # the whole story would be less than half
    assert first_stories(ids, 100).tolist() == ids.tolist()


def test_a_run_of_checkpoints_has_a_film_that_ends_with_its_best_weights(story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", steps=12, checkpoints="log", **TINY)
    model, folder = run.model, RunFolder(run.path)
    frames = frames_of(folder, model.network)
    assert [frame.step for frame in frames] == [0, 1, 2, 3, 4, 6, 8, 11, 12]
    assert frames[-1].load() is model.network
    kept = frames[3].load().weights()
    assert all(np.array_equal(kept[name], weight) for name, weight in folder.load_checkpoint(3, shapes(model)).items())
    found = model.film(story_file.read_text())
    assert found.steps == [frame.step for frame in frames]
    assert [line[0] for line in found.curve] == [line["step"] for line in run.metrics]
    assert found.nats[-1] < found.nats[0]
    with pytest.raises(SettingsError, match="at least 4,000 characters"):
        model.film("Once upon a time.")


def shapes(model: storycell.Model) -> dict[str, tuple[int, ...]]:
    return {name: weight.shape for name, weight in model.network.weights().items()}


def test_a_run_without_checkpoints_has_no_film() -> None:
    with pytest.raises(RunFolderError, match="--checkpoints log"):
        storycell.load("demo").film("a" * 5000)


def test_only_a_frame_at_a_time_is_read(story_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", steps=12, checkpoints="log", **TINY)
    read: list[int] = []
    real = RunFolder.load_checkpoint

    def counted(self: RunFolder, step: int, shapes: dict[str, tuple[int, ...]]) -> object:
        read.append(step)
        return real(self, step, shapes)

    monkeypatch.setattr(RunFolder, "load_checkpoint", counted)
    frames = films.frames_of(RunFolder(run.path), run.model.network)
    assert read == []
    frames[2].load()
    assert read == [2]
