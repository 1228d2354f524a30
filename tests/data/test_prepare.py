"""Stories -> token files: the layout, the split, the cache, and what happens when something is wrong."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from storycell.data import files
from storycell.data import prepare as prepare_module
from storycell.data.corpus import Corpus, open_corpus, text_corpus
from storycell.data.files import FileSource
from storycell.data.prepare import cache_folder, prepare, prepare_cached
from storycell.data.splits import write_tokens
from storycell.data.survey import build_vocabulary
from storycell.data.tokens import Prepared, TokenFile, is_prepared, open_prepared, split_stories
from storycell.data.vocab import BYTES, SEPARATOR, Vocabulary
from storycell.errors import CorpusError, RunFolderError, SettingsError

RESIDENT_LIMIT = 300 << 20  # bytes, importing torch (about 220 MB of them) included
TOKEN_FILES = ["prepared.json", "train.tokens", "valid.tokens", "vocab.json"]


@pytest.fixture(autouse=True)
def cache_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def joined(stories: list[str]) -> str:
    return f"{SEPARATOR}\n".join(stories)


def numbered(count: int, seed: int = 0) -> list[str]:
    """Stories that differ, of different lengths, some not in ASCII."""
    chance = random.Random(seed)
    return [f"Story {k}: “{'é!' * chance.randrange(40)}”\n" for k in range(count)]


def texts(prepared: Prepared) -> tuple[list[str], list[str]]:
    """The stories of both splits."""
    splits = [prepared.train_ids, prepared.valid_ids]
    return tuple([prepared.vocab.decode(s[1:]) for s in split_stories(h)] if h is not None else [] for h in splits)  # type: ignore[return-value]


def prepared_from(tmp_path: Path, text: str, **options: Any) -> Prepared:
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    return prepare(text_corpus(text), out, **options)


def test_a_token_file_is_every_story_after_its_boundary(tmp_path: Path) -> None:
    vocab = Vocabulary("\nabé")
    split = write_tokens(text_corpus(f"ab\n{SEPARATOR}\n{SEPARATOR}\nzé\n{SEPARATOR}\n"), vocab, tmp_path / "x.tokens")
    assert np.fromfile(tmp_path / "x.tokens", dtype=np.uint8).tolist() == [0, 3, 4, 2, 0, 1, 5, 2]
    assert split == TokenFile(tokens=8, chars=6, stories=2, utf8_bytes=7, unknown_chars=1)
    ids = split.open(tmp_path / "x.tokens", vocab)
    assert isinstance(ids, np.memmap)
    assert [story.tolist() for story in split_stories(ids)] == [[0, 3, 4, 2], [0, 1, 5, 2]]
    assert split_stories(ids[:0]) == []


STORIES = st.lists(st.text(st.sampled_from("ab\né😀"), max_size=6), min_size=1, max_size=30)
ANY_TMP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@ANY_TMP
@given(stories=STORIES, vocab=st.sampled_from([BYTES, Vocabulary("\nabé"), Vocabulary("".join(map(chr, range(999))))]))
def test_counts_are_right_and_empty_or_white_stories_vanish(
    tmp_path: Path, stories: list[str], vocab: Vocabulary
) -> None:
    text = joined([story if story.endswith("\n") or not story else story + "\n" for story in stories])
    expected = [story for story in text.split(f"{SEPARATOR}\n") if story.strip()]
    if not expected:
        with pytest.raises(CorpusError, match="holds no characters"):
            write_tokens(text_corpus(text), vocab, tmp_path / "x.tokens")
        return
    split = write_tokens(text_corpus(text), vocab, tmp_path / "x.tokens")
    ids = split.open(tmp_path / "x.tokens", vocab)
    assert [story.tolist() for story in split_stories(ids)] == [
        [0, *vocab.encode(story).tolist()] for story in expected
    ]
    whole = "".join(expected)
    unknown = 0 if vocab is BYTES else sum(c not in vocab.characters for c in whole)
    chars = len(whole.encode()) if vocab is BYTES else len(whole)
    assert split == TokenFile(chars + len(expected), chars, len(expected), len(whole.encode()), unknown)


def test_ids_are_as_small_as_the_vocabulary_allows(tmp_path: Path) -> None:
    small = prepared_from(tmp_path, "".join(map(chr, range(32, 127))) * 3)
    assert small.train_ids.dtype == np.uint8
    large = prepared_from(tmp_path, "".join(map(chr, range(0x4E00, 0x4E00 + 500))) * 3)
    assert large.train_ids.dtype == np.uint16
    assert texts(large)[0][0] + texts(large)[1][0] == "".join(map(chr, range(0x4E00, 0x4E00 + 500))) * 3
    in_bytes = prepared_from(tmp_path, "é日本" * 50, vocab="bytes")
    assert in_bytes.vocab == BYTES
    assert in_bytes.train_ids.dtype == np.uint16
    assert np.concatenate([in_bytes.train_ids[1:], in_bytes.valid_ids[1:]]).tolist() == [  # type: ignore[index]
        b + 2 for b in ("é日本" * 50).encode()
    ]


def test_a_vocabulary_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="vocab = 'words'"):
        prepare(text_corpus("abc"), tmp_path / "out", vocab="words")


def test_about_a_twentieth_of_the_stories_is_held_out(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, joined(numbered(4000)))
    assert prepared.valid is not None
    assert prepared.train.stories + prepared.valid.stories == 4000
    assert abs(prepared.valid.stories - 200) < 60  # more than four deviations of a binomial
    train, valid = texts(prepared)
    assert sorted(train + valid) == sorted(numbered(4000))
    assert [story for story in numbered(4000) if story in set(train)] == train  # in their order


def test_the_split_depends_on_neither_the_order_nor_the_chunks_nor_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories = [*numbered(300), *(f"{k} " * 3000 + "\n" for k in range(20))]  # some longer than what is hashed
    expected = set(texts(prepared_from(tmp_path, joined(stories)))[1])
    assert expected
    mixed = random.Random(1).sample(stories, len(stories))
    one = joined(mixed)[:-1]  # the last one without its line end
    assert {s.rstrip("\n") for s in texts(prepared_from(tmp_path, one))[1]} == {s.rstrip("\n") for s in expected}
    for size in (1 << 20, 1000, 7):
        monkeypatch.setattr(files, "CHUNK_BYTES", size)
        (tmp_path / "mixed.txt").write_text(joined(mixed), encoding="utf-8")
        shutil.rmtree(tmp_path / "out")
        prepared = prepare(open_corpus([str(tmp_path / "mixed.txt")]), tmp_path / "out")
        assert set(texts(prepared)[1]) == expected
        assert sorted(chain(*texts(prepared))) == sorted(stories)


def test_stories_longer_than_what_is_hashed_are_whole_and_in_one_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 1000)
    stories = [f"{k}é" * (4096 // len(f"{k}é".encode()) + extra) for k in range(60) for extra in (-1, 0, 1, 900)]
    stories = [story + "\n" for story in stories]
    (tmp_path / "long.txt").write_text(joined(stories), encoding="utf-8")
    train, valid = texts(prepare(open_corpus([str(tmp_path / "long.txt")]), tmp_path / "out"))
    assert len(train) > 5
    assert len(valid) > 5
    assert sorted(train + valid) == sorted(stories)


@ANY_TMP
@given(
    text=st.text(st.sampled_from("ab\né😀"), min_size=1, max_size=300), vocab=st.sampled_from(["characters", "bytes"])
)
def test_of_a_single_story_the_last_tenth_is_held_out(tmp_path: Path, text: str, vocab: str) -> None:
    assume(not text.isspace())
    prepared = prepared_from(tmp_path, text, vocab=vocab)
    total = len(text if vocab == "characters" else text.encode())
    held_out = prepared.valid.chars if prepared.valid else 0
    assert (prepared.train.chars, held_out) == (total - total // 10, total // 10)
    assert prepared.train.utf8_bytes + (prepared.valid.utf8_bytes if prepared.valid else 0) == len(text.encode())
    assert (prepared.valid is None) == (prepared.valid_ids is None) == (total < 10)
    splits = [prepared.train_ids, *([prepared.valid_ids] if prepared.valid_ids is not None else [])]
    assert all(split[0] == 0 and np.count_nonzero(split == 0) == 1 for split in splits)
    assert prepared.vocab.decode(np.concatenate([split[1:] for split in splits])) == text


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_single_story_larger_than_a_chunk_is_cut_at_the_right_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", size)
    text = "".join(f"{k}é😀\n" for k in range(2000))
    (tmp_path / "one.txt").write_text(text, encoding="utf-8")
    known = Vocabulary("\n0123456789é")
    prepared = prepare(open_corpus([str(tmp_path / "one.txt")]), tmp_path / "out", vocab=known)
    train, valid = texts(prepared)
    kept = len(text) - len(text) // 10
    assert (train, valid) == ([text[:kept].replace("😀", "\ufffd")], [text[kept:].replace("😀", "\ufffd")])
    assert prepared.valid is not None
    assert prepared.train.utf8_bytes == len(text[:kept].encode())  # unknown characters at their real size
    assert prepared.valid.utf8_bytes == len(text[kept:].encode())
    assert prepared.train.unknown_chars + prepared.valid.unknown_chars == 2000


def test_a_text_to_hold_out_is_the_validation_half(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, joined(["a\n", "b\n"]), valid=text_corpus("abc\n"))
    assert texts(prepared) == (["a\n", "b\n"], ["ab\ufffd\n"])
    assert prepared.valid is not None
    assert prepared.valid.unknown_chars == 1
    with pytest.raises(CorpusError, match="text holds no characters"):
        prepared_from(tmp_path, "ab", valid=text_corpus(f"{SEPARATOR}\n"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", SEPARATOR, f"{SEPARATOR}\n{SEPARATOR}\n", "\ufeff", "\n" * 20])
def test_a_text_without_characters_is_refused_and_leaves_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorpusError, match="holds no characters"):
        prepare(text_corpus(text), tmp_path / "deep" / "er" / "out")
    assert not list(tmp_path.iterdir())


def test_what_is_prepared_opens_as_it_was_returned(tmp_path: Path) -> None:
    made = prepare(text_corpus(joined(numbered(50))), tmp_path / "deep" / "out")
    assert open_prepared(tmp_path / "deep" / "out") == made
    assert is_prepared(made.folder)
    assert not is_prepared(tmp_path / "deep")
    assert made.vocab == build_vocabulary(text_corpus(joined(numbered(50))))
    assert sorted(p.name for p in made.folder.iterdir()) == TOKEN_FILES
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_occupied_folder_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "out", tmp_path / "out" / "thesis.txt"):
        with pytest.raises(RunFolderError, match="exists and is not empty; name another folder"):
            prepare(text_corpus("abc" * 9), out)
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "thesis.txt"]
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["out", "."])
def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / ("out" if name == "." else ""))
    made = prepare(text_corpus("abc" * 9), Path(name))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == TOKEN_FILES
    assert open_prepared(tmp_path / "out").train == made.train


class Stopped(BaseException):
    """What Ctrl-C raises, as far as a test can."""


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("failure", [Stopped, OSError(28, "No space left on device")])
def test_a_failed_prepare_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool, failure: Any
) -> None:
    out = tmp_path / "deep" / "out"
    if exists:
        out.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))

    def fail(_: int) -> None:
        assert sorted(tmp_path.rglob("*.part/*"))  # it has begun
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Stopped if failure is Stopped else RunFolderError) as error:
        prepare(text_corpus(joined(numbered(50))), out)
    assert failure is Stopped or "cannot be written: No space left" in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_text_that_turns_out_damaged_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(joined(numbered(50)).encode() * 40 + b"\xff")
    for make in (lambda c: prepare(c, tmp_path / "new" / "out"), prepare_cached):
        with pytest.raises(CorpusError, match=r"bad\.txt is not UTF-8"):
            make(open_corpus([str(tmp_path / "bad.txt")]))
        assert [p.name for p in tmp_path.rglob("*")] == ["bad.txt"]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the texts whose stories were read, as they are read."""
    names: list[str] = []
    blocks = FileSource.blocks

    def spied(self: FileSource, *arguments: Any) -> Iterator[bytes]:
        names.append(self.name)
        return blocks(self, *arguments)

    monkeypatch.setattr(FileSource, "blocks", spied)
    return names


def file_of(path: Path, stories: list[str]) -> Corpus:
    path.write_text(joined(stories), encoding="utf-8")
    return open_corpus([str(path)])


def test_what_is_in_the_cache_is_not_read_again(tmp_path: Path, reads: list[str]) -> None:
    first = prepare_cached(file_of(tmp_path / "a.txt", numbered(60)))
    assert reads
    reads.clear()
    assert prepare_cached(file_of(tmp_path / "a.txt", numbered(60))) == first
    other = prepare_cached(file_of(tmp_path / "b.txt", numbered(60)))
    assert not reads
    assert (other.folder, other.name) == (first.folder, str(tmp_path / "b.txt"))
    assert first.folder.parent == cache_folder()


def test_another_text_vocabulary_or_held_out_text_is_another_entry(tmp_path: Path) -> None:
    first, second = file_of(tmp_path / "a.txt", numbered(60)), text_corpus("abc" * 9)
    made = [
        prepare_cached(first),
        prepare_cached(first, vocab="bytes"),
        prepare_cached(first, vocab=Vocabulary("abc")),
        prepare_cached(first, valid=second),
        prepare_cached(file_of(tmp_path / "a.txt", numbered(61))),
        prepare_cached(file_of(tmp_path / "a.txt", [*numbered(59), "another\n"])),
    ]
    assert len({prepared.folder for prepared in made}) == len({prepared.digest for prepared in made}) == len(made)
    assert texts(made[-1])[0][-1] == "another\n" or texts(made[-1])[1][-1] == "another\n"


Damage = Callable[[Path], object]


def edited(**changes: Any) -> Damage:
    """`prepared.json` with other values; `train__tokens` is the field `tokens` of the split `train`."""

    def damage(folder: Path) -> None:
        about = json.loads((folder / "prepared.json").read_text())
        for name, value in changes.items():
            where, _, key = name.rpartition("__")
            (about[where] if where else about)[key] = value
        (folder / "prepared.json").write_text(json.dumps(about))

    return damage


def truncated(name: str, by: int = 1) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-by])


DAMAGES: dict[str, Damage] = {
    **{f"no {name}": lambda folder, name=name: (folder / name).unlink() for name in TOKEN_FILES},  # type: ignore[misc]
    **{f"short {name}": truncated(name, 7) for name in TOKEN_FILES},
    **{f"empty {name}": lambda f, name=name: (f / name).write_bytes(b"") for name in TOKEN_FILES},  # type: ignore[misc]
    "long": lambda folder: (folder / "train.tokens").write_bytes((folder / "train.tokens").read_bytes() + b"x"),
    "no UTF-8": lambda folder: (folder / "prepared.json").write_bytes(b"\xff\xfe"),
    "nested": lambda folder: (folder / "prepared.json").write_text("[" * 100_000),
    "a list": lambda folder: (folder / "prepared.json").write_text("[]"),
    "null": lambda folder: (folder / "prepared.json").write_text("null"),
    "no keys": lambda folder: (folder / "prepared.json").write_text("{}"),
    "text tokens": edited(train__tokens="many"),
    "null tokens": edited(train__tokens=None),
    "float tokens": edited(train__tokens=1e3),
    "negative": edited(train__unknown_chars=-1),
    "text chars": edited(train__chars="many"),
    "null stories": edited(valid__stories=None),
    "true stories": edited(valid__stories=True),
    "wrong chars": edited(train__chars=3),
    "another key": edited(train__more=3),
    "no train": edited(train=None),
    "list train": edited(train=[]),
    "text train": edited(train="all"),
    "text valid": edited(valid="all"),
    "list valid": edited(valid=[]),
    "zero valid": edited(valid=0),
    "zero train": edited(train={"tokens": 0, "chars": 0, "stories": 0, "utf8_bytes": 0, "unknown_chars": 0}),
    "number name": edited(name=3),
    "null digest": edited(digest=None),
    "format": edited(format=99),
    "vocabulary": lambda folder: (folder / "vocab.json").write_text(Vocabulary("ab").to_json()),
    "a folder": lambda folder: ((folder / "train.tokens").unlink(), (folder / "train.tokens").mkdir()),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_folder_is_refused_in_a_sentence_and_rebuilt_in_the_cache(
    tmp_path: Path, reads: list[str], damage: str
) -> None:
    corpus = file_of(tmp_path / "a.txt", numbered(60))
    first = prepare_cached(corpus)
    expected = texts(first)
    del first
    folder = prepare_cached(corpus).folder
    DAMAGES[damage](folder)
    with pytest.raises(RunFolderError) as error:
        open_prepared(folder)
    message = str(error.value)
    assert str(folder) in message
    assert re.search("prepare (it|the text) again$", message)
    assert "\n" not in message
    reads.clear()
    assert texts(prepare_cached(corpus)) == expected
    assert reads


def test_a_token_file_that_disappears_later_is_named(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, joined(numbered(60)))
    (prepared.folder / "train.tokens").unlink()
    with pytest.raises(RunFolderError, match=r"train\.tokens cannot be read: No such file"):
        _ = prepared.train_ids


def test_of_two_that_prepare_the_same_text_both_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    corpus = file_of(tmp_path / "a.txt", numbered(60))
    survey = prepare_module.survey

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(prepare_module, "survey", survey)
        prepare_cached(corpus)  # the other one, from beginning to end
        return survey(*arguments)

    monkeypatch.setattr(prepare_module, "survey", overtaken)
    slower = prepare_cached(corpus)
    assert sorted(chain(*texts(slower))) == sorted(numbered(60))
    assert [p.name for p in cache_folder().iterdir()] == [slower.folder.name]


def test_progress_is_told_to_the_end_of_both_passes(tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}

    def progress(what: str, done: int, total: int) -> None:
        told[what] = done, total

    corpus = file_of(tmp_path / "a.txt", numbered(300))
    prepare(corpus, tmp_path / "out", progress=progress)
    assert told == dict.fromkeys(
        ["hashing", "counting characters", "translating"], (corpus.size_bytes, corpus.size_bytes)
    )


def test_real_stories_come_back_whole(tmp_path: Path, stories: Path) -> None:
    prepared = prepare(open_corpus([str(stories)]), tmp_path / "out")
    train, valid = texts(prepared)
    expected = [story for story in stories.read_text(encoding="utf-8").split(f"{SEPARATOR}\n") if story]
    assert sorted(train + valid) == sorted(expected)
    assert 0.02 < len(valid) / len(expected) < 0.09


PREPARE = """
import json, sys, time
from pathlib import Path
from storycell.data.corpus import open_corpus
from storycell.data.prepare import prepare
corpus = open_corpus([sys.argv[1]])
began = time.monotonic()
prepared = prepare(corpus, Path(sys.argv[2]))
elapsed_s = time.monotonic() - began
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"resident": peak_kb << 10, "bytes_per_s": corpus.size_bytes / elapsed_s,
                  "stories": prepared.train.stories + prepared.valid.stories}))
"""


def prepare_a_large_file(tmp_path: Path, megabytes: int) -> dict[str, float]:
    """Figures of another process that prepares so much text, a part of it one long story."""
    part = joined([story * 5 for story in numbered(3000)]).encode() + f"{SEPARATOR}\n".encode()
    with (tmp_path / "large.txt").open("wb") as file:
        file.write(b"One long story. " * (megabytes << 15) + f"\n{SEPARATOR}\n".encode())
        while file.tell() < megabytes * 1_000_000:
            file.write(part)
    command = [sys.executable, "-c", PREPARE, str(tmp_path / "large.txt"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=280)
    for path in (tmp_path / "large.txt", tmp_path / "out"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    figures: dict[str, float] = json.loads(done.stdout)
    print(f"{figures['bytes_per_s'] / 1e6:.0f} MB/s, {figures['resident'] >> 20} MB resident")
    return figures


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


@needs_proc
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    figures = prepare_a_large_file(tmp_path, 200)
    assert figures["resident"] < RESIDENT_LIMIT
    assert figures["stories"] > 10_000


@needs_proc
@pytest.mark.soak
def test_memory_does_not_grow_with_two_gigabytes(tmp_path: Path) -> None:
    figures = prepare_a_large_file(tmp_path, 2000)
    assert figures["resident"] < RESIDENT_LIMIT
    assert figures["stories"] > 100_000
