"""Copied spans: the suffix array finds what a plain search finds, and a copyist is told from a writer."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_runs import FLAGS, TEXT, command

import storycell
from storycell.data.vocab import Vocabulary, story_lines
from storycell.lab import novelty
from storycell.lab.novelty import Matches, matches
from storycell.types import BOUNDARY, UNKNOWN

PIECES = st.lists(st.lists(st.integers(1, 4), max_size=12), min_size=1, max_size=4)
TEXTS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def ids_of(numbers: list[int], dtype: type = np.uint8) -> np.ndarray:
    return np.array(numbers, dtype=dtype)


def plainly(text: list[int], piece: list[int]) -> list[int]:
    """The same lengths, by trying every place."""

    def length(a: int, b: int) -> int:
        n = 0
        while a + n < len(text) and b + n < len(piece) and text[a + n] == piece[b + n] > UNKNOWN:
            n += 1
        return n

    return [max(length(a, b) for a in range(len(text))) for b in range(len(piece))]


@given(text=TEXTS, pieces=PIECES, dtype=st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=300, deadline=None)
def test_the_longest_matches_are_those_of_a_plain_search(text: list[int], pieces: list[list[int]], dtype: type) -> None:
    found = matches(ids_of(text, dtype), [ids_of(piece, dtype) for piece in pieces])
    assert [list(match.lengths) for match in found] == [plainly(text, piece) for piece in pieces]
    for match, piece in zip(found, pieces, strict=True):
        for b, (n, at) in enumerate(zip(match.lengths, match.places, strict=True)):
            assert text[at : at + n] == piece[b : b + n]


@given(text=TEXTS, piece=st.lists(st.integers(2, 4), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_text_in_parts_gives_the_same(text: list[int], piece: list[int]) -> None:
    told: list[int] = []
    whole = matches(ids_of(text), [ids_of(piece)])[0]
    parts = matches(ids_of(text), [ids_of(piece)], told.append, part=2 * len(piece) + 1)[0]
    assert list(parts.lengths) == list(whole.lengths)
    assert told[-1] == len(text)


@given(st.lists(st.integers(2, 3), min_size=1, max_size=20), TEXTS)
@settings(deadline=None)
def test_no_span_contains_another_and_every_copied_character_is_in_one(piece: list[int], text: list[int]) -> None:
    match = matches(ids_of(text), [ids_of(piece)])[0]
    spans = match.spans()
    ends = sorted((at, at + n) for at, n in spans)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(ends))
    inside = {k for a, b in ends for k in range(a, b)}
    assert inside == {k + j for k, n in enumerate(match.lengths) for j in range(n)}
    assert match.longest == (spans[0][1] if spans else 0)


def test_no_match_crosses_a_story_and_nothing_unknown_matches() -> None:
    text = ids_of([BOUNDARY, 5, 6, BOUNDARY, 7, 8, UNKNOWN, 9])
    assert list(matches(text, [ids_of([6, 7])])[0].lengths) == [1, 1]
    assert list(matches(text, [ids_of([8, UNKNOWN, 9])])[0].lengths) == [1, 0, 1]


def test_it_is_not_quadratic() -> None:
    """A text of one repeated character, the worst case of a plain search, in a moment."""
    text = np.full(400_000, 5, dtype=np.uint8)
    match = matches(text, [text[:20_000]])[0]
    assert list(match.lengths[:3]) == [20_000, 19_999, 19_998]


def test_a_copyist_is_told_from_a_writer(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = storycell.load(made)
    stories = story_lines(TEXT)
    training, heldout = model.vocab.encode("<|endoftext|>\n" + "<|endoftext|>\n".join(stories[:40])), stories[40:]
    held = model.vocab.encode("<|endoftext|>\n" + "<|endoftext|>\n".join(heldout))
    monkeypatch.setattr(novelty, "samples", lambda *_: stories[:10])
    copied = novelty.novelty(model, training, held, shown=3)
    assert copied.samples.longest == max(map(len, stories[:10]))
    assert copied.samples.copied_share == 1.0
    assert copied.heldout is not None
    assert copied.heldout.longest < copied.samples.longest
    assert [span.text for span in copied.spans] == sorted(stories[:10], key=lambda s: -len(s))[:3]
    for span in copied.spans:
        at = span.place
        assert model.vocab.decode(training[at : at + span.chars]) == span.text
    monkeypatch.setattr(novelty, "samples", lambda *_: heldout[:10])
    written = novelty.novelty(model, training, held)
    assert written.samples.longest <= written.heldout.longest  # type: ignore[union-attr]
    assert written.samples.copied_share == 0.0


def test_held_out_pieces_are_as_many_and_as_long_as_the_samples() -> None:
    ids = Vocabulary("ab").encode("<|endoftext|>\n" + "<|endoftext|>\n".join("ab" * n + "\n" for n in range(1, 30)))
    pieces = novelty.cut_alike(ids, [5, 9, 30])
    assert sorted(map(len, pieces)) == [3, 9, 30]  # one of the stories is that short
    assert [len(piece) for piece in novelty.cut_alike(ids_of([BOUNDARY] + [2] * 50), [5, 9])] == [5, 9]


def test_passages_do_not_overlap() -> None:
    lengths = np.array([4, 5, 4, 3, 2, 1, 2, 1])
    match = Matches(lengths, np.zeros(8, dtype=np.int64))
    shown = novelty._longest_spans(Vocabulary("abcdefgh"), [ids_of([2, 3, 4, 5, 6, 7, 8, 9])], [match], 5)
    assert [(span.at, span.text) for span in shown] == [(1, "bcdef"), (6, "gh")]


def test_the_command_measures_the_run_s_own_text(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = command(capsys, "novelty", made, "--count", 4, "--chars", 60, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert 0 < said["longest_copied"] <= 60
    assert said["heldout_longest_copied"] > 20  # the stories of this text share most of their words
    assert said["samples"] == 4
    assert said["spans"][0]["chars"] == said["longest_copied"]
    shown = command(capsys, "novelty", made, made.parent / "text.txt", "--count", 4, "--chars", 60)
    assert shown.out.splitlines()[2].split() == [
        "samples",
        *(f"{said[key]:.0f}" for key in ("median_copied", "p95_copied", "longest_copied", "samples", "chars")),
    ]


def test_what_cannot_be_measured_is_said(
    made: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--count", 2, "--chars", 20]
    command(capsys, "novelty", made, tmp_path / "none", *flags).stated(1, "there is no file or folder")
    command(capsys, "novelty", made, text, "--count", 0).stated(2, "count = 0: it must be from 1")
    command(capsys, "novelty", made, text, "--chars", 0).stated(1, "the samples are empty")
    command(capsys, "novelty", made, text, "--show", -1).stated(2, "show = -1")
    command(capsys, "novelty", made, text, "--heldout", tmp_path / "no").stated(1, str(tmp_path / "no"))
    short = tmp_path / "short.txt"
    short.write_text("a")
    alone = command(capsys, "novelty", made, short, *flags, "--json")
    assert json.loads(alone.out)["heldout_longest_copied"] is None
    assert "no yardstick" in alone.err


def test_a_prepared_text_and_a_held_out_one_are_measured_together(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = tmp_path / "tokens", tmp_path / "run"
    assert command(capsys, "prepare", text, "--out", folder).code == 0
    assert command(capsys, "train", folder, "--out", run, *FLAGS).code == 0
    other = tmp_path / "other.txt"
    other.write_text("Once upon a time Ann had 3 balls.\n<|endoftext|>\nBen had 4 balls.\n", encoding="utf-8")
    flags = ["--count", 2, "--chars", 40, "--json"]
    heldout_chars = {}
    for words in ((folder, "--heldout", other), (text, "--heldout", other), (other, "--heldout", folder), (folder,)):
        done = command(capsys, "novelty", run, *words, *flags)
        assert done.code == 0, done.err
        heldout_chars[words[-1]] = json.loads(done.out)["heldout_chars"]
    assert all(heldout_chars.values())


def test_a_text_that_has_changed_since_is_said(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, flags = tmp_path / "run", ["--count", 2, "--chars", 20]
    assert command(capsys, "train", text, "--out", run, *FLAGS).code == 0
    assert "has changed" not in command(capsys, "novelty", run, *flags).err
    assert "has changed" not in command(capsys, "compare", run, "--no-baselines").err
    text.write_text(TEXT + "More.\n", encoding="utf-8")
    assert "has changed since the training" in command(capsys, "novelty", run, *flags).err
    assert "has changed since the training" in command(capsys, "compare", run, "--no-baselines").err
