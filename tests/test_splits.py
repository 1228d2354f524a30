"""What is held out: an eighth at most, never a story on both sides, nothing lost, whatever the text looks like."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import FLAGS, command

from storycell import tokens
from storycell.corpus import open_corpus, text_corpus
from storycell.errors import CorpusError
from storycell.tokens import Prepared, open_prepared, prepare, stories_of
from storycell.vocab import SEPARATOR

ANY_TMP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
BOOK = "".join(f"Line {k} of the book, {k * k * 7919 % 1000003}.\n" for k in range(3000))


@pytest.fixture(autouse=True)
def cache_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "cache"))


def joined(stories: list[str]) -> str:
    return f"{SEPARATOR}\n".join(stories)


def split(tmp_path: Path, text: str, vocab: str = "characters") -> Prepared:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    return prepare(text_corpus(text), tmp_path / "out", vocab=vocab)


def texts(prepared: Prepared) -> tuple[list[str], list[str]]:
    """What is trained on, and what is held out, story by story."""

    def of(ids: object) -> Iterator[str]:
        return (prepared.vocab.decode(story[1:]) for story in stories_of(ids))  # type: ignore[arg-type]

    return list(of(prepared.train_ids)), [] if prepared.valid_ids is None else list(of(prepared.valid_ids))


WHITE = st.text(st.sampled_from(" \n\t\u3000\xa0\u2028"), max_size=4).map(lambda white: white + "\n")
STORY = st.builds(
    lambda k, length: f"{k}: " + "".join(chr(0x61 + (k * 31 + j * j) % 26) for j in range(length)) + "é\n",
    st.integers(0, 25),
    st.one_of(st.integers(0, 30), st.integers(0, 3000)),
)
SHAPES = st.lists(st.one_of(STORY, st.lists(STORY, max_size=8), WHITE), min_size=1, max_size=60).map(
    lambda drawn: [story for part in drawn for story in (part if isinstance(part, list) else [part])]
)


@ANY_TMP
@given(shape=SHAPES, repeated=st.integers(0, 40))
def test_of_any_text_at_most_an_eighth_is_held_out_and_no_story_is_on_both_sides(
    tmp_path: Path, shape: list[str], repeated: int
) -> None:
    shape = [*shape, *shape[:1] * repeated]
    stories = [story for story in shape if not story.isspace()]
    if not stories:
        with pytest.raises(CorpusError, match="no characters but white space"):
            split(tmp_path, joined(shape))
        return
    prepared = split(tmp_path, joined(shape))
    train, valid = texts(prepared)
    total = sum(map(len, stories))
    large = [story for story in stories if 10 * len(story) > total]
    heads = Counter(story[: len(story) - len(story) // 10] for story in large)
    tails = Counter(story[len(story) - len(story) // 10 :] for story in large) - Counter({"": len(large)})
    whole_train, whole_valid = Counter(train) - heads, Counter(valid) - tails
    assert not heads - Counter(train)  # every large story is cut at its last tenth
    assert not tails - Counter(valid)
    assert whole_train + whole_valid == Counter(stories) - Counter(large)  # nothing is lost, nothing comes twice
    assert not whole_train.keys() & whole_valid.keys()
    assert prepared.stories == len(stories)

    held_out = sum(map(len, valid))
    assert held_out <= max(total / 8, total // 10)
    in_whole = Counter[str]()
    for story in Counter(stories) - Counter(large):
        in_whole[story] = len(story) * stories.count(story)
    can_be_had = sum(map(len, tails.elements())) + sum(n for n in in_whole.values() if n <= total * 3 / 40)
    assert held_out >= total / 40 or can_be_had < total / 40

    again = random.Random(3).sample(shape, len(shape))
    assert Counter(texts(split(tmp_path, joined(again)))[1]) == Counter(valid)  # in whatever order they stand


def test_many_stories_hold_out_those_with_the_lowest_twentieth_of_all_hashes(tmp_path: Path) -> None:
    """The held-out stories of a text of many stories are for ever the same: losses are compared on them."""
    stories = [f"Story number {k}.\n" for k in range(400)]
    hashes = [blake2b(story.strip().encode(), digest_size=8).digest() for story in stories]
    expected = [story for story, h in zip(stories, hashes, strict=True) if int.from_bytes(h, "big") < 0.05 * 2**64]
    assert texts(split(tmp_path, joined(stories)))[1] == expected
    assert len(expected) == 21


def test_of_a_book_beside_a_readme_the_last_tenth_is_held_out(tmp_path: Path) -> None:
    for k in range(12):
        folder = tmp_path / f"texts{k}"
        folder.mkdir()
        (folder / "book.txt").write_text(f"Book {k}.\n{BOOK}")
        (folder / "readme.md").write_text(f"Read me, number {k}. " * 30)
        prepared = prepare(open_corpus([str(folder)]), tmp_path / f"out{k}")
        train, valid = texts(prepared)
        assert valid[0] == f"Book {k}.\n{BOOK}"[-(len(f"Book {k}.\n{BOOK}") // 10) :]
        assert sum(map(len, valid)) < 0.11 * sum(map(len, train + valid))
        assert prepared.stories == 2
        assert prepared.held_out.startswith("held out to validate on: ")


@pytest.mark.parametrize("end", ["\n", "\n\n \n", "\u3000", "\n" * 5000, f"\n{SEPARATOR}\n\n"])
def test_a_separator_and_white_space_after_a_book_are_no_story(tmp_path: Path, end: str) -> None:
    prepared = split(tmp_path, f"{BOOK}{SEPARATOR}\n{end}")
    assert texts(prepared) == ([BOOK[: len(BOOK) - len(BOOK) // 10]], [BOOK[len(BOOK) - len(BOOK) // 10 :]])
    assert prepared.stories == 1
    assert prepared.held_out == (
        f"held out to validate on: 10.0% of the text, {len(BOOK) // 10:,} characters: the last tenth of 1 story"
    )


def test_of_three_large_stories_the_last_tenth_of_each_is_held_out(tmp_path: Path) -> None:
    books = [f"Book {k}.\n{BOOK}" for k in range(3)]
    prepared = split(tmp_path, joined(books))
    assert texts(prepared)[1] == [book[-(len(book) // 10) :] for book in books]
    assert prepared.held_out.endswith("the last tenth of 3 stories")


def test_of_forty_stories_one_of_which_is_most_of_the_text_that_one_is_cut(tmp_path: Path) -> None:
    for k in range(10):
        small = [f"{k} {n} " * 120 + "\n" for n in range(39)]
        large = f"{k}\n" + BOOK[: int(1.5 * sum(map(len, small)))] + "\n"
        stories = [*small[:20], large, *small[20:]]
        train, valid = texts(split(tmp_path, joined(stories)))
        assert large[-(len(large) // 10) :] in valid
        assert sum(map(len, valid)) <= sum(map(len, stories)) / 8
        assert set(small) == {story for story in train + valid if story in small}


def test_a_story_that_is_most_of_the_text_by_repetition_is_only_trained_on(tmp_path: Path) -> None:
    for k in range(10):
        often, others = f"{k} again and again\n", [f"{k} then number {n}\n" for n in range(100)]
        train, valid = texts(split(tmp_path, joined([*others[:50], *[often] * 300, *others[50:]])))
        assert train.count(often) == 300
        assert len(valid) > 15  # a twentieth of the text, all of it from the rest
        assert set(valid) < set(others)


@pytest.mark.parametrize("stories", [["a"], ["abcdefghi"], ["a\n", "b\n"], ["the same\n"] * 50, ["ab\n", "cd\n"] * 30])
def test_where_nothing_can_be_held_out_that_is_said(tmp_path: Path, stories: list[str]) -> None:
    prepared = split(tmp_path, joined(stories))
    assert texts(prepared) == (stories, [])
    assert prepared.valid is None
    assert prepared.held_out.startswith("nothing is held out to validate on")
    assert prepared.held_out.endswith("--valid FILE names a text to validate on")


def test_bytes_are_split_as_characters_are(tmp_path: Path) -> None:
    stories = [f"“Story” {k}\n" for k in range(400)]
    prepared = split(tmp_path, joined(stories), vocab="bytes")
    assert texts(prepared) == texts(split(tmp_path, joined(stories)))
    train, valid = texts(split(tmp_path, "é" * 1000, vocab="bytes"))
    assert (len(train[0].encode()), len(valid[0].encode())) == (1800, 200)


def test_a_folder_prepared_by_an_earlier_version_opens(tmp_path: Path) -> None:
    made = split(tmp_path, joined([f"Story {k}\n" for k in range(400)]))
    about = json.loads((made.folder / "prepared.json").read_text())
    del about["cut_stories"]
    (made.folder / "prepared.json").write_text(json.dumps(about))
    earlier = open_prepared(made.folder)
    assert (earlier.train, earlier.valid, earlier.cut_stories) == (made.train, made.valid, None)
    assert earlier.held_out.startswith("validated on ")


def test_a_text_changed_after_it_was_hashed_is_not_filed_under_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("The old words.\n" * 20)
    digest_of = tokens.preparing.Corpus.digest

    def changed_after(self: object, *arguments: object) -> str:
        found = digest_of(self, *arguments)  # type: ignore[arg-type]
        path.write_text("NEW words here.\n" * 20)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(tokens.preparing.Corpus, "digest", changed_after)
        with pytest.raises(CorpusError, match=r"a\.txt was changed while it was read"):
            tokens.cached(open_corpus([str(path)]))
    path.write_text("The old words.\n" * 20)
    assert "old" in texts(tokens.cached(open_corpus([str(path)])))[0][0]


def test_prepare_counts_a_text_without_separators_as_one_story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    done = command(capsys, "prepare", tmp_path / "book.txt", "--out", tmp_path / "out", "--json")
    assert json.loads(done.out)["stories"] == 1
    done = command(capsys, "prepare", tmp_path / "book.txt", "--out", tmp_path / "out2")
    assert "characters in 1 story, " in done.out
    assert "the last tenth of 1 story" in done.err


def test_train_says_what_is_held_out_and_what_of_it_cannot_be_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    (tmp_path / "valid.txt").write_text("The book: ÄÖÜ “quoted” €\n" * 4)
    done = command(capsys, "train", tmp_path / "book.txt", "--out", tmp_path / "one", *FLAGS, "--json")
    assert "held out to validate on: 10.0% of the text" in done.err
    assert json.loads(done.out)["unknown_chars"] == 0
    done = command(
        capsys, "train", tmp_path / "book.txt", "--valid", tmp_path / "valid.txt", "--out", tmp_path / "two", *FLAGS
    )
    unknown = 4 * sum(c not in set(BOOK) for c in "The book: ÄÖÜ “quoted” €\n")
    assert f"validated on 100 characters in 1 story; {unknown} of its characters the model cannot know" in done.err
    assert f"{unknown} of its characters are unknown to the model" in done.err.splitlines()[-4]
    metrics = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    counted = [m["unknown_chars"] for m in metrics if m["valid_nats"] is not None]  # in the part that was scored
    assert counted
    assert all(0 < count <= unknown for count in counted)


def test_eval_prints_no_error_where_there_is_none_and_tells_unknown_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    (tmp_path / "short.txt").write_text("The book: “quoted”\n")
    assert command(capsys, "train", tmp_path / "book.txt", "--out", tmp_path / "run", *FLAGS).code == 0
    done = command(capsys, "eval", tmp_path / "run", tmp_path / "short.txt")
    unknown = sum(c not in set(BOOK) for c in "The book: “quoted”\n")
    assert "nats per character" in done.out
    assert "nan" not in done.out
    assert "±" not in done.out
    assert f"{unknown} characters are unknown to the model" in done.err
    summary = json.loads(command(capsys, "eval", tmp_path / "run", tmp_path / "short.txt", "--json").out)
    assert (summary["unknown_chars"], summary["stderr_nats"], summary["chars"]) == (unknown, None, 19)
    assert " ± " in command(capsys, "eval", tmp_path / "run").out
