"""Folders and globs -> files: each once, whatever links there are, and none that storycell itself has made."""

import glob
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.tiny_runs import FLAGS, command

from storycell import api
from storycell.data import embedded, files, prepare
from storycell.data.corpus import Named, open_corpus
from storycell.errors import CorpusError
from storycell.runs import text as checkpoint
from storycell.training.start import name_texts

ANY_TMP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


@pytest.fixture(autouse=True)
def cache_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three files, which is the working directory."""
    for name in ("a.txt", "in/b.txt", "in/er/c.txt"):
        written(tmp_path / "texts" / name)
    monkeypatch.chdir(tmp_path / "texts")
    return tmp_path / "texts"


def written(path: Path, text: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or f"{path.name} is here.\n" * 30)
    return path


def names(word: Path | str) -> list[str]:
    return [source.name for source in open_corpus([str(word)]).sources]


needs_links = pytest.mark.skipif(not hasattr(Path, "symlink_to"), reason="this system has no links")


@needs_links
def test_a_linked_folder_is_read_and_what_it_shares_with_others_is_read_once(texts: Path, tmp_path: Path) -> None:
    written(tmp_path / "elsewhere" / "d.txt")
    (texts / "aa-link").symlink_to(tmp_path / "elsewhere")
    (texts / "bb-link").symlink_to(tmp_path / "elsewhere")
    (texts / "cc-link").symlink_to(texts / "in")
    (texts / "dd.txt").symlink_to(texts / "a.txt")
    (texts / "broken.txt").symlink_to(texts / "nowhere")
    expected = ["a.txt", "aa-link/d.txt", "in/b.txt", "in/er/c.txt"]
    assert names(texts) == [f"{texts}/{name}" for name in expected]
    for pattern in (f"{texts}/**/*.txt", f"{texts}/**"):
        assert names(pattern) == [f"{texts}/{name}" for name in expected]
    assert names("*.txt") == ["a.txt"]
    assert names("*/*.txt") == ["aa-link/d.txt", "in/b.txt"]


@needs_links
def test_loops_end(texts: Path) -> None:
    (texts / "up").symlink_to(texts)
    (texts / "in" / "up").symlink_to(texts)
    (texts / "in" / "er" / "self").symlink_to(texts / "in" / "er" / "self")
    (texts / "in" / "er" / "on").symlink_to(texts / "in")
    for word in (".", "**/*.txt", "in/../**/*.txt"):
        assert len(names(word)) == 3
    assert names("up/**/*.txt") == ["up/a.txt", "up/in/b.txt", "up/in/er/c.txt"]


PARTS = st.sampled_from(["a", "b.txt", ".h", ".x.txt", "c.txt"])
PATTERNS = st.lists(st.sampled_from(["**", "*", "a", "*.txt", "?.txt", "[ab]*", ".*", "b.txt"]), min_size=1, max_size=4)


@ANY_TMP
@example(paths=[["a"]], pattern=["a", "**"])
@example(paths=[["a"]], pattern=["**", "*", "**"])
@given(paths=st.lists(st.lists(PARTS, min_size=1, max_size=4), max_size=12), pattern=PATTERNS)
def test_a_pattern_means_what_it_means_to_glob(tmp_path: Path, paths: list[list[str]], pattern: list[str]) -> None:
    folder = tmp_path / "globbed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for parts in paths:
        path = folder.joinpath(*parts)
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            written(path)
    word = str(folder.joinpath(*pattern))
    found = glob.glob(word, recursive=True)  # noqa: PTH207 - it is the oracle
    expected = {Path(p) for p in found if os.path.exists(p)}  # noqa: PTH110 - of a file `a` it finds `a/`, which is none
    assert files.matching(word) == sorted(path for path in expected if path.is_file())


def test_what_storycell_made_is_no_text(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(".")
    assert command(capsys, "train", ".", "--out", "runs/one", *FLAGS).code == 0
    assert command(capsys, "prepare", ".", "--out", "made").code == 0
    written(texts / "cache" / "found.txt")
    (texts / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# a comment\n")
    assert (texts / "runs" / "one" / "metrics.jsonl").exists()
    assert names(".") == before == names("**/*.txt")
    for word in ("**/*.jsonl", "*/*/samples.txt", "runs/*/*.txt", "runs/**"):
        with pytest.raises(CorpusError, match="there is no file or folder"):
            open_corpus([word])
    with pytest.raises(CorpusError, match="the folder runs holds no text"):
        open_corpus(["runs"])
    assert names("runs/one/samples.txt") == ["runs/one/samples.txt"]  # unless it is asked for
    with pytest.raises(CorpusError, match="runs/one is a run, not a text"):
        open_corpus(["runs/one"])


def test_a_folder_of_texts_with_a_run_beside_them_is_trained_on_evaluated_and_resumed(
    texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        assert command(capsys, "train", ".", "--out", f"runs/{name}", *FLAGS).code == 0
        done = command(capsys, "eval", f"runs/{name}")
        assert done.code == 0, done.err
        assert "has changed" not in done.err
        assert command(capsys, "train", "--resume", f"runs/{name}", "--steps", "5").code == 0
    one, two = (api.load(f"runs/{name}").config.text for name in ("one", "two"))
    assert (one.digest, one.train_chars) == (two.digest, two.train_chars)


def test_the_default_text_is_the_embedded_one_whatever_lies_in_the_working_directory(
    texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STORIES", 300)
    written(texts / "stories" / "mine.txt")
    assert command(capsys, "train", "--out", "../run", *FLAGS).code == 0
    record = api.load("../run").config.text
    assert record.words == ["stories"]
    assert checkpoint.open_text(record)[0].is_embedded
    assert command(capsys, "train", "--resume", "../run", "--steps", "5").code == 0
    for verb in ("eval", "inspect"):
        done = command(capsys, verb, "../run", "--json", *(["--chars=5000"] if verb == "inspect" else []))
        assert done.code == 0, done.err
        assert "has changed" not in done.err
    assert command(capsys, "train", "stories", "--out", "../mine", *FLAGS).code == 0  # a folder that is named
    assert api.load("../mine").config.text.words == [str(texts / "stories")]


@pytest.mark.parametrize("vocab", ["characters", "bytes"])
def test_what_follows_a_training_does_not_prepare_its_text_again(
    texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, vocab: str
) -> None:
    written(texts / "in" / "b.txt", "<|endoftext|>\n".join(f"Story {k} of many.\n" for k in range(6000)))
    assert command(capsys, "train", ".", "--vocab", vocab, "--out", "run", *FLAGS).code == 0
    assert command(capsys, "train", ".", "--init", "run", "--out", "next", *FLAGS).code == 0
    made = sorted(prepare.cache_folder().iterdir())

    def again(*_: object) -> None:
        raise AssertionError("a text was prepared again")

    monkeypatch.setattr(prepare, "_translate", again)
    for run in ("run", "next"):
        for words in (["eval"], ["inspect", "--chars=5000"], ["novelty", "--count=3", "--chars=50"]):
            done = command(capsys, words[0], run, "--json", *words[1:])
            assert done.code == 0, done.err
    assert sorted(prepare.cache_folder().iterdir()) == made


def test_a_named_corpus_that_was_not_typed_is_never_a_folder(texts: Path) -> None:
    written(texts / "stories" / "mine.txt")
    assert name_texts("stories") == [str(texts / "stories")]
    assert name_texts(Named("stories")) == ["stories"]
    assert name_texts([Named("stories"), "a.txt"]) == ["stories", str(texts / "a.txt")]
