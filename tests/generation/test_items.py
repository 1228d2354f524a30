"""Lists: lines as stories, labels as conditions, and texts that are new, each once."""

import csv
import io
import json
import logging
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.lists import names, train_names, train_spells
from support.tiny_runs import command

import storycell
from storycell.config import TrainSettings
from storycell.data import batches
from storycell.data.corpus import open_corpus, text_corpus
from storycell.data.story_pieces import stories_in
from storycell.data.vocab import BYTES, Vocabulary
from storycell.errors import CorpusError, SettingsError, VocabularyError
from storycell.evaluation.evaluator import evaluate
from storycell.runs.text import read_run_text
from storycell.training.start import fit_items
from storycell.types import BOUNDARY, LABEL_END, UNKNOWN


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists")


@pytest.fixture(scope="module")
def named(cache: Path) -> Path:
    (cache / "names").mkdir()
    return train_names(cache / "names")


@pytest.fixture(scope="module")
def spells(cache: Path) -> Path:
    (cache / "spells").mkdir()
    return train_spells(cache / "spells")


def stories(path: Path, **how: object) -> list[str]:
    return [story.decode() for story in stories_in(open_corpus([str(path)], **how).blocks())]  # type: ignore[arg-type]


# Reading


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("closed", [True, False])
def test_with_lines_each_line_is_a_story_whatever_the_file_is(tmp_path: Path, end: str, closed: bool) -> None:
    lines = ["Ann", "  Ben B.", "", "[1, 2]", "a,b", " ", "日本", "<|endoftext|>", "Zoë"]
    (tmp_path / "list.txt").write_bytes((end.join(lines) + (end if closed else "")).encode())
    assert stories(tmp_path / "list.txt", lines=True) == ["Ann", "  Ben B.", "[1, 2]", "a,b", "日本", "Zoë"]


def test_lines_may_be_cut_anywhere_between_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.txt").write_text("".join(f"né{k}\n" for k in range(50)), encoding="utf-8")
    for size in (1, 2, 3, 7):
        monkeypatch.setattr("storycell.data.files.CHUNK_BYTES", size)
        assert stories(tmp_path / "list.txt", lines=True) == [f"né{k}" for k in range(50)]


def test_a_list_read_line_by_line_is_another_text_than_one_story(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a\nb\n")
    assert (
        open_corpus([str(tmp_path / "list.txt")]).digest()
        != open_corpus([str(tmp_path / "list.txt")], lines=True).digest()
    )


@pytest.mark.parametrize("how", [{"column": "text"}, {"labels": ["genre"]}])
def test_lines_do_not_go_with_columns(tmp_path: Path, how: dict[str, object]) -> None:
    (tmp_path / "list.txt").write_text("a\nb\n")
    with pytest.raises(CorpusError, match="--lines"):
        stories(tmp_path / "list.txt", lines=True, **how)
    with pytest.raises(CorpusError, match="are for files"):
        open_corpus(["stories"], lines=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n".join(names(80)) + "\n", True),
        ("\n".join(f"Fire Ball {k}" for k in range(80)) + "\n", True),
        ("\n".join(names(80)), True),
        ("\n".join(names(30)) + "\n", False),  # too few to tell
        ("\n".join(f"{name} went home." for name in names(80)), False),
        ("\n\n".join(names(80)), False),
        ("\n".join(f"{name},\nand so on;" for name in names(80)), False),
        ("\n".join(f"{name} went a long way home in the rain again" for name in names(80)), False),
        ("\n<|endoftext|>\n".join(names(80)), False),
    ],
)
def test_a_text_that_looks_like_a_list_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, told: bool
) -> None:
    (tmp_path / "text.txt").write_text(text)
    with caplog.at_level(logging.WARNING, "storycell"):
        stories(tmp_path / "text.txt")
        assert ["--lines" in record.message for record in caplog.records] == [True] * told
        caplog.clear()
        stories(tmp_path / "text.txt", lines=True)
        stories(tmp_path / "text.txt", column="")
    assert not caplog.records


# Labels


ROWS = [{"text": "one", "genre": "poem", "n": 3}, {"text": "two\n<|endoftext|>\nthree", "genre": " a  b\n", "n": None}]
LABELLED = ["poem␟3␟one", "a b␟␟two\n", "a b␟␟three"]


def _write(path: Path, form: str) -> Path:
    if form == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["genre", "text", "n"])
            writer.writeheader()
            writer.writerows(ROWS)
    elif form == "json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_labels_are_a_header_of_each_story(tmp_path: Path, form: str) -> None:
    found = stories(_write(tmp_path / f"rows.{form}", form), labels=["genre", "n"])
    assert [story.replace(LABEL_END, "␟") for story in found] == LABELLED


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_other_labels_are_another_text(tmp_path: Path, form: str) -> None:
    path = str(_write(tmp_path / f"rows.{form}", form))
    digests = {
        open_corpus([path], labels=labels).digest() for labels in ([], ["genre"], ["n"], ["genre", "n"], ["n", "genre"])
    }
    assert len(digests) == 5


def test_labels_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello.")
    for form in ("csv", "json", "jsonl"):
        with pytest.raises(CorpusError, match="nosuch"):
            stories(_write(tmp_path / f"rows.{form}", form), labels=["nosuch"])
    with pytest.raises(CorpusError, match="plain text"):
        stories(tmp_path / "a.txt", labels=["genre"])
    (tmp_path / "b.jsonl").write_text('{"text": "a", "genre": ["x"]}\n')
    with pytest.raises(CorpusError, match="a label must be a text or a number"):
        stories(tmp_path / "b.jsonl", labels=["genre"])
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "a", "genre": "x" * 300}) + "\n")
    with pytest.raises(CorpusError, match="more than 200 characters"):
        stories(tmp_path / "c.jsonl", labels=["genre"])


def test_a_vocabulary_keeps_its_labels() -> None:
    vocab = Vocabulary(f"{LABEL_END}ab", labels=("genre", "n"))
    assert Vocabulary.from_json(vocab.to_json()) == vocab
    assert "labels" not in Vocabulary("ab").to_json()
    assert vocab.merge(Vocabulary("c")).labels == ("genre", "n")
    assert BYTES.merge(Vocabulary(BYTES.characters, "bytes", ("x",))).labels == ("x",)
    assert vocab.header_size(vocab.encode(f"a{LABEL_END}bb{LABEL_END}ab{LABEL_END}")) == 5
    assert vocab.header_size(vocab.encode(f"a{LABEL_END}bb")) == 0
    for labels in (["x"], [1], "x", [""]):
        text = (
            vocab.to_json()
            .replace('["genre", "n"]', json.dumps(labels))
            .replace("\\u001f", "c" if labels == ["x"] else "\\u001f")
        )
        with pytest.raises(VocabularyError):
            Vocabulary.from_json(text.replace('["c", "a", "b"]', '["a", "b", "c"]'))


def test_the_labels_of_a_run_are_context_and_are_not_scored(spells: Path) -> None:
    model = storycell.load(spells)
    prepared = read_run_text(model.config, model.vocab)
    ids = prepared.valid_ids
    assert ids is not None
    found, stories_of = model.evaluate_prepared(prepared), np.flatnonzero(ids == BOUNDARY)
    nats = chars = utf8 = 0.0
    for a, b in pairwise([*stories_of.tolist(), len(ids)]):
        story = ids[a:b].tolist()
        losses, _ = model.network.nats([story], [[*story[1:], BOUNDARY]])
        header = story.index(int(model.vocab.encode(LABEL_END)[0]))
        nats, chars = nats + float(losses[0, header:].sum()), chars + len(story) - header
        utf8 += len(story) - header - 1
    assert found.chars == chars
    assert found.loss_nats == pytest.approx(nats / chars, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / np.log(2) / utf8, rel=1e-5)
    with pytest.raises(SettingsError, match="labels"):
        evaluate(model.network, ids, model.vocab, windows=5)
    plain = evaluate(model.network, ids, Vocabulary(model.vocab.characters))
    assert plain.chars == len(ids)


def test_a_label_chooses_what_is_generated(spells: Path) -> None:
    model = storycell.load(spells)
    assert model.labels == {"school": ["fire", "ice"]}
    for school, letter in (("fire", "a"), ("ice", "z")):
        texts = [model.generate(labels={"school": school}, seed=seed, temperature=0.5) for seed in range(10)]
        assert {text[0] for text in texts} == {letter}
        assert not any(LABEL_END in text or school in text for text in texts)
    assert model.generate("ab", labels={"school": "ice"}, seed=1).startswith("ab")
    drawn = model.items(60, seed=1, sampling=storycell.generation.sampler.Sampling(0.5)).items
    assert {(item.labels["school"], item.text[0]) for item in drawn} == {("fire", "a"), ("ice", "z")}
    assert {model.generate(seed=seed, temperature=0.5)[0] for seed in range(20)} == {"a", "z"}
    with pytest.raises(SettingsError, match="no school 'mud'; it knows fire, ice"):
        model.generate(labels={"school": "mud"})
    with pytest.raises(SettingsError, match="its labels are school"):
        model.generate(labels={"genre": "mud"})
    with pytest.raises(SettingsError, match="trained without any"):
        storycell.load().generate(labels={"genre": "mud"})


def test_a_run_with_labels_says_so_and_reads_other_files_as_its_own(
    spells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "school=fire|ice" in command(capsys, "info", spells).out
    said = command(capsys, "eval", spells, spells.parent / "spells.csv", "--column", "name", "--json")
    assert json.loads(said.out)["chars"] == sum(2 + (k % 5 + 1) for k in range(90)) + sum(
        2 + (k % 5 + 1) for k in range(80)
    )
    rows = csv.DictReader(io.StringIO(command(capsys, "sample", spells, "--count", 20, "--format", "csv").out))
    assert {row["school"] for row in rows} == {"fire", "ice"}
    command(capsys, "sample", spells, "--label", "school").stated(2, "NAME=VALUE")
    command(capsys, "sample", spells, "--label", "school=mud").stated(2, "it knows fire, ice")


# Batches and the recipe


def test_rows_of_items_are_whole_stories_from_a_boundary_on() -> None:
    text = [[BOUNDARY, *([k + 2] * (k % 4 + 1))] for k in range(20)]
    ids = np.concatenate(text).astype(np.uint8)
    made = batches.make(ids, TrainSettings(batching="items", streams=8, chunk=15, seed=3))
    assert (made.B, made.T, made.carries_state) == (8, 15, False)
    known, seen = {tuple(story) for story in text}, Counter[tuple[int, ...]]()
    for step in range(40):
        inputs, targets = made.at(step)
        assert (inputs[:, 0] == BOUNDARY).all()
        assert (inputs[:, 1:] == targets[:, :-1]).all()
        assert (made.at(step, slice(2, 5))[0] == inputs[2:5]).all()
        for row in inputs.tolist():
            starts = [k for k, id in enumerate(row) if id == BOUNDARY]
            seen.update(tuple(row[a:b]) for a, b in pairwise(starts))
    assert set(seen) == known
    assert max(seen.values()) < 4 * min(seen.values())
    assert UNKNOWN not in ids


def test_the_recipe_grows_with_the_list() -> None:
    assert fit_items(50_000) == {"hidden": 64, "chars": 1_000_000}
    assert fit_items(250_000) == {"hidden": 128, "chars": 3_000_000}
    assert fit_items(50_000_000) == {"hidden": 256, "chars": 10_000_000}
    assert fit_items(250_000, keeps_network=True) == {"chars": 3_000_000}


def test_a_list_is_learnt_with_the_recipe_items_unless_another_is_named(tmp_path: Path, named: Path) -> None:
    assert storycell.load(named).config.settings.recipe == "items"
    assert storycell.load(named).config.text.lines
    assert storycell.load(named).config.settings.training.batching == "items"
    again = storycell.train(
        named.parent / "names.txt", lines=True, recipe="small", out=tmp_path / "run", steps=1, hidden=8, threads=1
    )
    assert again.settings.recipe == "small"


# Lists of new texts


def test_new_items_are_new_each_once_and_made_like_those_of_the_list(named: Path) -> None:
    model, known = storycell.load(named), names(1500)
    found = model.items(200, unique=True, new=True, seed=1)
    texts = [item.text for item in found.items]
    assert len(set(texts)) == len(texts) == 200
    assert not set(texts) & set(known)
    assert found.tried == len(texts) + sum(found.refused.values())
    assert found.refused["known"] > 0
    trigrams = Counter(t for name in known for t in _trigrams(name))

    def strange(found: list[str]) -> float:
        return sum(trigrams[t] == 0 for text in found for t in _trigrams(text)) / sum(map(len, found))

    shuffled = ["".join(random.Random(1).sample(text, len(text))) for text in texts]
    assert strange(texts) < 0.3
    assert strange(texts) < strange(shuffled) / 2
    assert [item.text for item in model.items(200, unique=True, new=True, seed=1).items] == texts
    plain = model.items(300, seed=1)
    repeated = [item.text for item in plain.items]
    assert plain.tried == 300 + plain.refused["empty"]
    assert len(set(repeated)) < 300 or set(repeated) & set(known)  # what the flags refuse is there without them


def _trigrams(name: str) -> list[str]:
    padded = f"^{name}$"
    return [padded[k : k + 3] for k in range(len(padded) - 2)]


def test_a_likeness_keeps_away_from_the_list(named: Path) -> None:
    pytest.importorskip("rapidfuzz", reason="the extra storycell[items] is not installed")
    model, known = storycell.load(named), names(1500)
    found = model.items(60, new=0.7, seed=1)
    assert found.refused["alike"] > 0
    for item in found.items:
        assert max(_likeness(item.text, name) for name in known) <= 0.7
    with pytest.raises(SettingsError, match=r"new = 1\.5"):
        model.items(1, new=1.5)


def _likeness(a: str, b: str) -> float:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return 1 - row[-1] / max(len(a), len(b))


def test_ranked_items_come_by_their_probability(named: Path) -> None:
    model = storycell.load(named)
    found = model.items(50, rank=True, seed=2).items
    nats = [item.nats or 0.0 for item in found]
    assert nats == sorted(nats)
    for item in found[::10]:
        ids = [BOUNDARY, *model.vocab.encode(item.text).tolist()]
        assert item.nats == pytest.approx(float(model.network.nats([ids], [[*ids[1:], BOUNDARY]])[0].sum()), rel=1e-5)


def test_items_obey_filters_and_constraints(named: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "names.jsonl"
    words = ["sample", named, "--count", 30, "--unique", "--new", "--filter", "a", "--seed", 1]
    words += ["--match", "B[a-z]{3,7}", "--rank", "--out", out]
    said = command(capsys, *words)
    assert (said.code, said.out) == (0, ""), said.err
    assert "% of " in said.err
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 30
    for row in rows:
        assert row["text"][0] == "B"
        assert 4 <= len(row["text"]) <= 8
        assert "a" in row["text"]
    assert [row["nats"] for row in rows] == sorted(row["nats"] for row in rows)
    summary = json.loads(command(capsys, "sample", named, "--count", 5, "--unique", "--seed", 1, "--json").out)
    assert len(summary["texts"]) == 5
    assert summary["refused_share"] == pytest.approx(sum(summary["refused"].values()) / summary["tried"], abs=1e-4)
    lines = command(capsys, "sample", named, "--count", 5, "--unique", "--seed", 1).out.splitlines()
    assert lines == summary["texts"]


def test_a_list_that_cannot_be_had_is_given_as_far_as_it_goes(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = command(capsys, "sample", named, "--count", 9, "--unique", "--match", "[AB]a", "--seed", 1)
    assert sorted(said.out.split()) == ["Aa", "Ba"] or said.out.split() == ["Ba"]
    assert "of the 9 texts that were wanted" in said.err
    command(capsys, "sample", named, "--filter", "(").stated(2, "no regular expression")
    command(capsys, "sample", named, "--match", "b{9}", "--max-chars", 8).stated(2, "no text of 0 to 8 characters")
    command(capsys, "sample", named, "--unique", "--out", "/nowhere/at/all.txt").stated(2, "cannot be written")


def test_a_text_of_one_story_knows_all_that_stands_in_it(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcabcabd " * 300)
    run = storycell.train(
        tmp_path / "text.txt", out=tmp_path / "run", steps=60, hidden=16, streams=4, chunk=16, threads=1
    )
    found = run.model.items(5, new=True, chars=3, prompt="a", seed=1)
    assert found.refused["known"] > 0
    assert not any(item.text.strip() in "abcabcabd " * 3 for item in found.items)


def test_the_command_writes_a_table(named: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(capsys, "sample", named, "--count", 3, "--rank", "--out", tmp_path / "a.csv", "--seed", 1).code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert [*rows[0]] == ["text", "nats"]
    assert len(rows) == 3


def test_a_text_in_memory_has_no_labels() -> None:
    assert text_corpus("a").labels == ()
