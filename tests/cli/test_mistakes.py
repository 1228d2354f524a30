"""Everything a newcomer can get wrong: each mistake ends in one clear sentence and an exact exit code.

Exit 1 is a stated error (a file, a folder, a machine), 2 a flag or value that makes no sense.
"""

import gzip
from pathlib import Path

import pytest
import torch
from support.tiny_runs import FLAGS, TEXT, command, process

import storycell
from storycell.cli.main import main
from storycell.errors import BackendError
from storycell.runs.machine import best_device

# Texts


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "is empty"),
        ("blank.jsonl", b"\n\n", "holds no characters"),
        ("separators.txt", b"<|endoftext|>\n<|endoftext|>\n", "holds no characters"),
        ("short.txt", b"hello", "fewer than one chunk of 16"),
        ("picture.txt", bytes(range(256)) * 40, "looks binary (a NUL byte at position 0)"),
        ("latin.txt", "caf\u00e9 au lait ".encode("latin-1") * 50, "is not UTF-8: invalid byte at position 3"),
        ("cut.txt", "a line of text, \u201c".encode()[:-1] * 1, "is not UTF-8"),
        ("wide.txt", "a line of text".encode("utf-16"), "UTF-16, not UTF-8; read it with --encoding utf-16"),
        ("no.txt.gz", b"not gzip at all", "is truncated or damaged"),
        ("half.txt.gz", gzip.compress(TEXT.encode())[:200], "is truncated or damaged"),
        ("no.txt.zst", b"not zstandard at all", "is truncated or damaged"),
        ("no.jsonl", b'[1]\n{"text": "x"}\n', "no.jsonl"),
        ("deep.jsonl", b"[" * 100_000, "line 1: not a JSON object"),
    ],
)
def test_a_text_that_cannot_be_trained_on_is_named(
    name: str, content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    outcome = command(capsys, "train", tmp_path / name, "--out", tmp_path / "run", *FLAGS)
    outcome.stated(1, said, *(() if name == "short.txt" else (name,)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("word", ["nosuch.txt", "no/such/folder", "*.nosuch", "tinystorys", ""])
def test_a_text_that_is_not_there_is_answered_with_what_is(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("train", word, "--out", tmp_path / "run"), ("prepare", word, "--out", tmp_path / "run")):
        command(capsys, *words).stated(1, word, "the named corpora are stories and tinystories")


def test_a_folder_without_text_lists_the_endings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "image.png").write_bytes(b"x")
    command(capsys, "train", tmp_path / "folder").stated(1, "holds no text", ".txt .text .md .jsonl")


def test_a_text_in_a_wrong_encoding_is_named(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for encoding, said in (("nosuch", "there is no encoding 'nosuch'"), ("ascii", "cannot be read as ascii")):
        words = ("train", text, "--out", tmp_path / "run", "--encoding", encoding, *FLAGS)
        command(capsys, *words).stated(1, said, "try")


def test_a_run_given_as_a_text_is_not_trained_on(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "train", made).stated(1, "is a run, not a text", f"--resume {made}", f"--init {made}")


def test_a_chunk_longer_than_the_text_is_said_to_be(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", text, "--out", tmp_path / "run", *FLAGS, "--chunk", 100_000)
    command(capsys, *words).stated(1, "fewer than one chunk of 100000", "a smaller --chunk")


# Prompts


def test_unknown_characters_of_a_prompt_are_all_named(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = command(capsys, "sample", made, "On\u00e9 \u2603 tim\u00e9 \u4e2d")
    outcome.stated(
        1, "'\u00e9' (U+00E9) at position 2, closest known 'e'", "(U+2603) at position 4", "(U+4E2D) at position 11"
    )
    assert "--unknown replace or --unknown skip" in outcome.err


def test_a_prompt_that_is_no_text_is_said_to_be_unknown(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for prompt in ("a\udce9", "a\ud800"):
        command(capsys, "sample", made, prompt).stated(1, "'\ufffd' (U+FFFD) at position 1")


# Flags


@pytest.mark.parametrize(
    "flags",
    [
        "--layers 0", "--layers x", "--hidden -5", "--hidden 1e3", "--hidden 1000000", "--hidden none",
        "--embedding -1", "--steps 0", "--steps -1", "--steps 1.5", "--steps nan", "--steps 1e6", "--chars 0",
        "--minutes nan", "--minutes inf", "--minutes 0", "--minutes -1", "--steps 5 --minutes 2", "--steps 5 --chars 2",
        "--dropout 1.5", "--dropout 1", "--dropout nan", "--lr 0", "--lr -1", "--lr -1e-3", "--lr inf", "--seed -1",
        "--seed 1.5", "--seed 99999999999", "--chunk 0", "--streams 0", "--clip 0", "--warmup 1", "--final-lr 2",
        "--save-every 0",
        "--evaluations 0", "--threads 0", "--threads x", "--recipe nosuch", "--recipe", "--cell nosuch",
        "--backend nosuch", "--precision fp16", "--device gpu", "--device cuda:x", "--optimizer lion",
        "--batching rows", "--schedule linear", "--vocab words", "--gate-bias=yes", "--forget-bias 1e39", "--nosuch",
        "--nosuch 3", "--hid 8", "--rec quick", "--resume", "--init",
    ],
)  # fmt: skip
def test_a_flag_that_makes_no_sense_is_named_and_nothing_is_made(
    flags: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = command(capsys, "train", text, "--out", tmp_path / "run", *flags.split())
    outcome.stated(2)
    name = flags.split()[0].split("=")[0].removeprefix("--")
    assert name in outcome.err.replace("_", "-")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flags",
    [
        "--resume RUN --recipe quick", "--resume RUN --out x", "--resume RUN --init RUN", "--resume RUN --steps 0",
        "--resume RUN --vocab bytes", "--resume RUN --encoding latin-1", "--resume RUN --minutes 1 --steps 2",
        "--init RUN --hidden 9 --out x", "--init RUN --cell gru --out x",
    ],
)  # fmt: skip
def test_flags_that_contradict_each_other_are_refused(
    flags: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command(capsys, "train", *(made if word == "RUN" else word for word in flags.split())).stated(2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "", "nosuch", "trian", "--nosuch", "Train", "-- train", "--json train",
        "sample RUN a b", "sample RUN --temperature -1", "sample RUN --temperature nan", "sample RUN --temperature x",
        "sample RUN --top-k 0", "sample RUN --top-k 1.5", "sample RUN --top-p 0", "sample RUN --top-p 1.1",
        "sample RUN --top-p nan", "sample RUN --min-p -0.1", "sample RUN --min-p 2", "sample RUN --chars -1",
        "sample RUN --chars x", "sample RUN --count 0", "sample RUN --count 1000000000", "sample RUN --seed -1",
        "sample RUN --seed 99999999999999999999", "sample RUN --unknown drop", "sample RUN --temp 1",
        "sample RUN --backend nosuch", "sample RUN --stop", "sample RUN --nosuch",
        "eval RUN --windows 0", "eval RUN --windows -1", "eval RUN --windows x", "eval RUN --backend nosuch",
        "eval RUN --win 3", "info RUN RUN", "info RUN --nosuch", "prepare", "prepare x.txt", "prepare --out x",
        "prepare x.txt --out x --vocab words",
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense_exits_with_2(words: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, *(made if word == "RUN" else word for word in words.split())).stated(2)


def test_a_wrong_command_is_answered_with_the_place_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "trian").stated(2, "'trian'", "train", "see `storycell --help`")
    command(capsys, "sample", "--temp", "1").stated(2, "--temp", "see `storycell sample --help`")


def test_a_resumed_run_keeps_its_network(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flag, said in (("--hidden=9", "hidden cannot change from 8 to 9"), ("--cell=gru", "cell cannot change")):
        command(capsys, "train", "--resume", made, flag).stated(1, said, "--init")


@pytest.mark.parametrize("flag", ["--resume", "--init", "--out"])
def test_an_empty_name_of_a_run_is_no_name(
    flag: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `--resume "$RUN"` gives where RUN is not set: nothing must be trained."""
    monkeypatch.chdir(tmp_path)
    command(capsys, "train", text, flag, "", *FLAGS).stated(1)
    assert list(tmp_path.iterdir()) == [text]


# Machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_a_gpu_that_is_not_there_is_said_to_be_missing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in ("cuda", "cuda:3"):
        words = ("train", text, "--out", tmp_path / "run", *FLAGS, "--device", device)
        command(capsys, *words).stated(1, f"no device {device} on this machine", "leave --device out")
        assert not (tmp_path / "run").exists()
    assert best_device("auto") == "cpu"


def test_only_known_devices_are_looked_for(made: Path) -> None:
    for name in ("gpu", "cuda:x", "", "cpu:1"):
        with pytest.raises(BackendError, match="device"):
            storycell.load(made, device=name)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_too_little_memory_is_said_with_what_to_do(
    error: Exception, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("storycell.api.train", fail)
    command(capsys, "train", text).stated(1, "out of memory", "--hidden")


@pytest.mark.parametrize(
    "error", [ValueError("first\nsecond"), RuntimeError("x"), AssertionError(), KeyError("k"), RecursionError()]
)
def test_a_bug_of_ours_is_one_line_and_a_traceback_with_debug(
    error: Exception, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("storycell.api.load", fail)
    for verb in ("sample", "eval", "info"):
        outcome = command(capsys, verb, made)
        assert outcome.code == 1
        assert outcome.err.startswith(f"storycell: unexpected {type(error).__name__}: ")
        assert outcome.err.endswith("; this is a bug, --debug shows where\n")
        assert outcome.err.count("\n") == 1
        with pytest.raises(type(error)):
            main([verb, str(made), "--debug"])


def test_the_command_itself_ends_with_these_codes(made: Path) -> None:
    process("sample", made.parent / "nosuch").stated(1, "there is no run folder")
    process("sample", made, "--top-k", 0).stated(2, "top_k = 0")
