"""A preparation that was stopped or killed goes on where it was, inside a file too, and ends as it would have."""

import gzip
import io
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest
import zstandard
from support.tiny_runs import FLAGS, command

from storycell.data import corpus, files, resumable, splits
from storycell.data.blocks import Bookmark
from storycell.data.corpus import Corpus
from storycell.data.files import Advance, FileSource
from storycell.data.prepare import cache_folder, prepare, prepare_cached
from storycell.data.resumable import Progress
from storycell.data.splits import TokenWriter

SHARDS = 12
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows, which has one way to end a process, that is its name
KILLED = KILL if sys.platform == "win32" else -KILL
NAMES = ("train.tokens", "valid.tokens", "vocab.json", "prepared.json")


@pytest.fixture(autouse=True)
def at_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "_EVERY_S", -1.0)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of shards, packed and plain, with a few stories each that hold characters of their own."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for k in range(SHARDS):
        text = "<|endoftext|>\n".join(f"{chr(0x100 + k)} story {k} {n}\n" for n in range(40)).encode()
        packed = k % 2 == 0
        (folder / f"{k:02}.txt{'.zst' if packed else ''}").write_bytes(zstandard.compress(text) if packed else text)
    return folder


def opened(shards: Path) -> Corpus:
    return corpus.open_corpus([str(shards)])


def files_of(folder: Path) -> dict[str, bytes]:
    assert sorted(p.name for p in folder.iterdir()) == sorted(NAMES)
    return {name: (folder / name).read_bytes() for name in NAMES}


def stopping_after(bytes_read: int) -> Progress:
    """A progress callback that presses Ctrl-C when so much of both passes has been read."""

    def progress(what: str, done: int, total: int) -> None:
        if what != "hashing" and done + (0 if what.startswith("counting") else total) >= bytes_read:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("with_valid", [False, True], ids=["split", "valid"])
def test_stopped_at_any_source_it_ends_with_the_same_bytes(shards: Path, tmp_path: Path, with_valid: bool) -> None:
    text = opened(shards)
    valid = corpus.text_corpus("A story by itself.") if with_valid else None
    whole = files_of(prepare(text, tmp_path / "whole", valid=valid).folder)
    chance = random.Random(5)
    for k in range(8):
        out = tmp_path / f"out{k}"
        for _ in range(3):
            stop = stopping_after(chance.randrange(1, 2 * text.size_bytes))
            with pytest.raises(KeyboardInterrupt):
                prepare(text, out, valid=valid, progress=stop)
            assert not out.exists()
        assert files_of(prepare(text, out, valid=valid).folder) == whole
        assert not list(tmp_path.glob(".*"))


def test_what_was_done_is_not_done_again(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, names = opened(shards), list[str]()
    blocks = FileSource.blocks
    monkeypatch.setattr(
        FileSource, "blocks", lambda self, *more: (names.append(self.path.name), blocks(self, *more))[1]
    )
    with pytest.raises(KeyboardInterrupt):
        prepare(text, tmp_path / "out", progress=stopping_after(round(1.7 * text.size_bytes)))
    begun = len(names) - SHARDS  # all have been counted, and so many begun to be translated
    assert SHARDS / 2 < begun < SHARDS
    names.clear()
    told: list[int] = []
    prepare(text, tmp_path / "out", progress=lambda what, done, total: what != "hashing" and told.append(done))
    assert names == [f"{k:02}.txt{'.zst' if k % 2 == 0 else ''}" for k in range(begun - 1, SHARDS)]
    assert told[0] > text.size_bytes / 2
    assert told[-1] == text.size_bytes


def test_a_killed_preparation_goes_on(shards: Path, tmp_path: Path) -> None:
    """Killed for good, in a process of its own, in the middle of the second pass."""
    program = (
        "import os, signal, sys; from pathlib import Path; from storycell.data import corpus, prepare, resumable\n"
        "resumable._EVERY_S = -1.0; text = corpus.open_corpus([sys.argv[1]])\n"
        "def die(what, done, total):\n"
        "    if what == 'translating' and done > total / 2: os.kill(os.getpid(), int(sys.argv[3]))\n"
        "prepare.prepare(text, Path(sys.argv[2]), progress=die)"
    )
    done = subprocess.run([sys.executable, "-c", program, shards, tmp_path / "out", str(int(KILL))], timeout=60)
    assert done.returncode == KILLED
    left = next(tmp_path.glob(".out.*.part"))
    assert (left / "journal.json").exists()
    whole = files_of(prepare(opened(shards), tmp_path / "whole").folder)
    assert files_of(prepare(opened(shards), tmp_path / "out").folder) == whole
    assert not left.exists()


CHUNK = 2000
FIGURES = random.Random(3)
TEXTS = {
    "stories": "".join(f"“{FIGURES.getrandbits(200):x}”\n" + "<|endoftext|>\n" * (k % 3 == 0) for k in range(600)),
    "one story": "".join(f"{FIGURES.getrandbits(300):x} é\n" for _ in range(500)),
    "one line": "".join(f"{FIGURES.getrandbits(300):x} 😀 <|endoftext|>" for _ in range(400)),
    "line ends": "\ufeff"
    + "".join(f"{FIGURES.getrandbits(99):x}\r\n" + "<|endoftext|>\r\n" * (k % 9 == 0) for k in range(1200)),
    "a book among others": "<|endoftext|>\n".join(
        f"{FIGURES.getrandbits(80_000 if k == 20 else 2000):x} é\n" + " \n" * (k % 2 * 3000) for k in range(40)
    ),
    "two attempts": "<|endoftext|>\n".join(f"{k}: {'again and again ' * 160}\n" for k in (1, 2, *[3] * 12, 4)),
    "long stories": "<|endoftext|>\n".join(f"{FIGURES.getrandbits(24_000):x}\n" for k in range(7)),
}  # fmt: skip
PACKED = {".txt": bytes, ".txt.gz": gzip.compress, ".txt.zst": zstandard.compress}
ONE_FILE = [
    *((name, ".txt", "utf-8", "characters") for name in TEXTS),
    *(("stories", ending, "utf-8", "characters") for ending in (".txt.gz", ".jsonl", ".jsonl.gz")),
    ("one story", ".txt", "utf-8", "bytes"),
    ("line ends", ".txt.zst", "utf-16", "characters"),
    ("stories", ".txt", "cp1252", "characters"),
]


@pytest.mark.parametrize(("name", "ending", "encoding", "vocab"), ONE_FILE)
def test_stopped_inside_a_file_it_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ending: str, encoding: str, vocab: str
) -> None:
    """One file of about 40,000 bytes, read two thousand at a time, stopped three times on its way."""
    monkeypatch.setattr(files, "CHUNK_BYTES", CHUNK)
    text = TEXTS[name]
    if ending.startswith(".jsonl"):
        text = "".join(json.dumps({"text": story}) + "\n" for story in text.split("<|endoftext|>\n"))
    (tmp_path / f"one{ending}").write_bytes(PACKED[ending.replace("jsonl", "txt")](text.encode(encoding)))
    one = corpus.open_corpus([str(tmp_path / f"one{ending}")], encoding)
    whole = files_of(prepare(one, tmp_path / "whole", vocab=vocab).folder)
    chance = random.Random(name)
    for share in sorted(chance.random() for _ in range(3)):
        stop = stopping_after(round(2 * share * one.size_bytes))
        with pytest.raises(KeyboardInterrupt):
            prepare(one, tmp_path / "out", vocab=vocab, progress=stop)
    assert files_of(prepare(one, tmp_path / "out", vocab=vocab).folder) == whole


LARGE = "".join(f"“{FIGURES.getrandbits(2000):x}”\n" + "<|endoftext|>\n" * (k % 3 == 0) for k in range(2000)).encode()
BLOCK = 50_000  # of the large file, read at a time: a twentieth of it
STOPPED = """
import os, sys
from storycell.cli.main import main
from storycell.data import files, resumable
from storycell.data.splits import TokenWriter
chunk, number, size, *words = sys.argv[1:]
resumable._EVERY_S, files.CHUNK_BYTES = -1.0, int(chunk)
add, done = TokenWriter.add, 0
def adding(self, piece, begins):
    global done
    done += len(piece)
    if done > int(size) / 2:
        os.kill(os.getpid(), int(number))
    add(self, piece, begins)
TokenWriter.add = adding
sys.exit(main(words))
"""


@pytest.mark.parametrize(
    ("ending", "number"), [(".txt", KILL), (".txt", signal.SIGINT), (".txt.gz", KILL), (".txt.zst", KILL)]
)
def test_one_large_file_is_taken_up_in_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, number: signal.Signals
) -> None:
    """A process of its own, really killed; what the second one translates is the second half, and nothing else."""
    if number == signal.SIGINT and sys.platform == "win32":
        pytest.skip("a process of Windows cannot press Ctrl-C")
    path, out = tmp_path / f"large{ending}", tmp_path / "out"
    path.write_bytes(PACKED[ending](LARGE))
    words = [str(BLOCK), str(int(number)), str(len(LARGE)), "prepare", str(path), "--out", str(out)]
    stopped = subprocess.run([sys.executable, "-c", STOPPED, *words], capture_output=True, check=False, timeout=120)
    assert stopped.returncode == (130 if number == signal.SIGINT else KILLED), stopped.stderr
    said = stopped.stderr.splitlines()[-1:]
    assert said == ([b"storycell: interrupted; the same command goes on from where it was"] if number == 2 else [])
    assert not out.exists()

    monkeypatch.setattr(files, "CHUNK_BYTES", BLOCK)
    text = corpus.open_corpus([str(path)])
    starts, translated = list[int](), list[int]()
    blocks, add = FileSource.blocks, TokenWriter.add

    def reading(self: FileSource, advance: Advance, bookmark: Bookmark) -> Iterator[bytes]:
        starts.append(bookmark.place.offset)
        return blocks(self, advance, bookmark)

    def adding(self: TokenWriter, piece: bytes, begins: bool) -> None:
        translated.append(len(piece))
        add(self, piece, begins)

    with monkeypatch.context() as patch:
        patch.setattr(FileSource, "blocks", reading)
        patch.setattr(TokenWriter, "add", adding)
        again = files_of(prepare(text, out).folder)
    assert len(starts) == 1  # nothing is counted again
    assert len(LARGE) * 0.3 < starts[0] < len(LARGE) * 0.6  # a block of .zst holds up to 128 KB
    assert sum(translated) < len(LARGE) * 0.7
    assert again == files_of(prepare(text, tmp_path / "whole").folder)


@pytest.mark.parametrize("damage", ["journal", "tokens", "text"])
def test_what_does_not_fit_begins_anew(shards: Path, tmp_path: Path, damage: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare(opened(shards), tmp_path / "out", progress=stopping_after(round(1.6 * opened(shards).size_bytes)))
    left = next(tmp_path.glob(".out.*.part"))
    if damage == "journal":
        (left / "journal.json").write_text("[" * 1000)
    elif damage == "tokens":
        (left / "train.tokens").write_bytes(b"")
    else:
        (shards / "03.txt").write_text("Another story.\n")
    whole = files_of(prepare(opened(shards), tmp_path / "whole").folder)
    assert files_of(prepare(opened(shards), tmp_path / "out").folder) == whole


def test_two_at_a_time_do_not_meet(shards: Path, tmp_path: Path) -> None:
    inner: list[dict[str, bytes]] = []

    def another(what: str, done: int, total: int) -> None:
        if not inner:
            inner.append({})
            inner[0] = files_of(prepare(opened(shards), tmp_path / "two").folder)

    first = files_of(prepare(opened(shards), tmp_path / "one", progress=another).folder)
    assert first == inner[0]
    (tmp_path / "same").mkdir()
    held = resumable.Journal(tmp_path / "same", ".out", "d" * 32)
    other = resumable.Journal(tmp_path / "same", ".out", "d" * 32)
    assert held.folder != other.folder
    other.close(keep=False)
    held.close(keep=True)
    again = resumable.Journal(tmp_path / "same", ".out", "d" * 32)
    assert again.folder == held.folder
    again.close(keep=False)
    assert list((tmp_path / "same").iterdir()) == []


def while_a_lock_is_taken(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen between the opening of the next lock's file and its locking."""
    fcntl = pytest.importorskip("fcntl")
    lock, pending = fcntl.flock, [happens]

    def delayed(*arguments: Any) -> None:
        if pending:
            pending.pop()()
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", delayed)


class PlainLock:
    """A lock at its simplest, as in older versions of filelock: a file that was removed meanwhile is locked, too."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, io.BytesIO()

    def acquire(self, timeout: float) -> None:
        """Lock the file, or raise."""
        fcntl = pytest.importorskip("fcntl")
        self._file = self._path.open("ab")  # type: ignore[assignment]
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise filelock.Timeout(str(self._path)) from None

    def release(self) -> None:
        """Unlock it."""
        self._file.close()


@pytest.mark.parametrize("lock", [filelock.FileLock, PlainLock])
@pytest.mark.parametrize("keep", [True, False])
def test_a_folder_never_has_two_owners_however_they_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool, lock: type
) -> None:
    """One lets go while another is about to take its lock, and a third comes before that one has it."""
    monkeypatch.setattr(filelock, "FileLock", lock)
    first = resumable.Journal(tmp_path, ".out", "d" * 32)
    third: list[resumable.Journal] = []

    def meanwhile() -> None:
        first.close(keep=keep)
        third.append(resumable.Journal(tmp_path, ".out", "d" * 32))
        (third[0].folder / "train.tokens").write_text("the third's")

    while_a_lock_is_taken(monkeypatch, meanwhile)
    second = resumable.Journal(tmp_path, ".out", "d" * 32)
    assert third[0].folder == first.folder
    assert second.folder != first.folder
    second.close(keep=False)
    assert (third[0].folder / "train.tokens").read_text() == "the third's"
    third[0].close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_folder_is_nobody_else_s_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its name while it is held, and who waits for it begins a folder of its own."""
    first, out = resumable.Journal(tmp_path, ".out", "d" * 32), tmp_path / "out"
    (first.folder / "train.tokens").write_text("finished")
    while_a_lock_is_taken(monkeypatch, lambda: first.finish(out, ()))
    second = resumable.Journal(tmp_path, ".out", "d" * 32)
    (second.folder / "train.tokens").write_text("begun")
    third = resumable.Journal(tmp_path, ".out", "d" * 32)
    first.close(keep=False)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"train.tokens": "finished"}
    assert (second.folder / "train.tokens").read_text() == "begun"
    for other in (second, third):
        other.close(keep=False)
    assert list(tmp_path.iterdir()) == [out]


def test_training_on_many_files_goes_on_preparing_too(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "cache"))
    text = opened(shards)
    with pytest.raises(KeyboardInterrupt):
        prepare_cached(text, progress=stopping_after(round(1.5 * text.size_bytes)))
    assert len(list(cache_folder().glob(".*.part"))) == 1
    assert command(capsys, "train", shards, "--out", tmp_path / "run", *FLAGS).code == 0
    assert not list(cache_folder().glob(".*"))


def test_the_texts_of_these_tests_are_split_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    class Noted(TokenWriter):
        def __init__(self, path: Path, *arguments: Any) -> None:
            super().__init__(path, *arguments)
            made.append(path)

    monkeypatch.setattr(splits, "TokenWriter", Noted)
    attempts: dict[str, int] = {}
    cut: dict[str, int | None] = {}
    for name, text in TEXTS.items():
        made.clear()
        cut[name] = prepare(corpus.text_corpus(text), tmp_path / name).cut_stories
        attempts[name] = len(made) // 2
    assert attempts == dict.fromkeys(TEXTS, 1) | {"two attempts": 2, "a book among others": 2}
    assert cut == dict.fromkeys(TEXTS, 0) | {"one story": 1, "one line": 1, "a book among others": 1, "long stories": 7}
