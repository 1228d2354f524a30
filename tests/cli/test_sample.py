"""`storycell sample`: seeds, filters, prompts, several texts, and output that is closed, full or not UTF-8."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.instruction_sets import needs_kernel
from support.tiny_runs import command, process, running

import storycell
from storycell.cli.main import main
from storycell.data.vocab import SEPARATOR


@pytest.fixture
def run(made: Path) -> Path:
    """The run that all tests share, which none here may change; its text lies beside it."""
    return made


def written(capsys: pytest.CaptureFixture[str], run: Path, *words: object) -> str:
    outcome = command(capsys, "sample", run, "--chars", 60, *words)
    assert outcome.code == 0, outcome.err
    return outcome.out


def test_one_seed_writes_one_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert written(capsys, run, "--seed", 5) == written(capsys, run, "--seed", 5)
    assert written(capsys, run, "--seed", 5) != written(capsys, run, "--seed", 6)
    told = json.loads(written(capsys, run, "--json"))
    assert written(capsys, run, "--seed", told["seed"]) == told["text"] + "\n"
    assert told["chars"] == len(told["text"]) - len("Once upon a")


@needs_kernel
def test_bf16_writes_and_only_natively(capsys: pytest.CaptureFixture[str]) -> None:
    several = ["--count", 30, "--seed", 5, "--chars", 300]
    outcomes = [command(capsys, "sample", "demo", *several, *more) for more in ([], ["--precision", "bf16"])]
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert outcomes[0].out != outcomes[1].out
    command(capsys, "sample", "--precision", "bf16", "--backend", "reference").stated(1, "only the native backend")


@needs_kernel
def test_int8_writes_and_only_by_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    several = ["--count", 30, "--seed", 5, "--chars", 300]
    outcomes = [command(capsys, "sample", "demo", *several, *more) for more in ([], ["--precision", "int8"])]
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert outcomes[0].out != outcomes[1].out
    command(capsys, "sample", "--precision", "int8", "--backend", "reference").stated(1, "only storycell's own engine")


def test_several_texts_are_those_of_the_following_seeds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = written(capsys, run, "--count", 3, "--seed", 7)
    single = [written(capsys, run, "--seed", 7 + k) for k in range(3)]
    assert several == f"{SEPARATOR}\n".join(single)
    assert json.loads(written(capsys, run, "--count", 3, "--seed", 7, "--json"))["texts"] == [t[:-1] for t in single]


def test_greedy_is_temperature_0_is_the_likeliest_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    greedy = written(capsys, run, "--greedy")
    for words in (("--temperature", 0), ("--top-k", 1, "--seed", 9), ("--top-p", 1e-9), ("--min-p", 1)):
        assert written(capsys, run, *words) == greedy


def test_a_stop_text_ends_the_text_before_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = written(capsys, run, "--greedy")[:-1]
    stop = whole[20:23]
    end = whole.index(stop, len("Once upon a"))
    assert written(capsys, run, "--greedy", "--stop", stop) == whole[:end] + "\n"
    assert written(capsys, run, "--greedy", "--stop", "") == whole + "\n"
    later = whole[end + 1 :]
    for stops in ((later, stop), (stop, later), ("\u65e5", stop)):
        several = [word for text in stops for word in ("--stop", text)]
        assert written(capsys, run, "--greedy", *several) == whole[:end] + "\n"


def test_no_characters_are_the_prompt_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, "sample", run, "Ann had", "--chars", 0).out == "Ann had\n"
    assert command(capsys, "sample", run, "", "--chars", 0).out == "\n"


def test_a_single_word_is_a_run_or_a_prompt_for_the_demo(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "demo")  # a folder of that name is taken before the model in the package
    shutil.copytree(run, tmp_path / "Ann")
    prompts = {"Ben": "Ben", "Ben had 3": "Ben had 3", "a " * 400: "a " * 400, "": ""}
    for word, prompt in prompts.items():
        assert command(capsys, "sample", word, "--chars", 0).out == prompt + "\n"
    for word in ("Ann", "demo", "./Ann", str(run)):
        assert command(capsys, "sample", word, "--chars", 0).out == "Once upon a\n"
    assert command(capsys, "sample", "--chars", 0).out == "Once upon a\n"
    command(capsys, "sample", "runs/nosuch").stated(1, "there is no run folder runs/nosuch")


def test_unknown_characters_are_replaced_or_skipped_with_a_notice(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for how, prompt in (("replace", "One cat"), ("skip", "On cat")):
        outcome = command(capsys, "sample", run, "On\u00e9 cat", "--unknown", how, "--chars", 0)
        assert outcome.out == prompt + "\n"
        assert repr(prompt) in outcome.err
        assert outcome.err.count("\n") == 1
    assert command(capsys, "sample", run, "One cat", "--unknown", "skip", "--chars", 0).err == ""


@pytest.mark.parametrize(
    ("content", "flags", "prompt"),
    [
        (b"Ann had", (), "Ann had"),
        (b"Ann had\n", (), "Ann had"),  # as editors and echo end a line
        (b"Ann had\r\n", (), "Ann had"),
        (b"Ann had\n\n", (), "Ann had\n"),
        (b"", (), ""),
        (b"\xef\xbb\xbfAnn\r\nhad", (), "Ann\nhad"),
        ("Ann “had”".encode(), (), "Ann “had”"),
        ("Ann “had”".encode("cp1252"), ("--encoding", "cp1252"), "Ann “had”"),
        ("Ann had".encode("utf-16"), ("--encoding", "utf-16"), "Ann had"),
        (f"Ann\r\n{SEPARATOR}\r\nBen".encode(), (), f"Ann\n{SEPARATOR}\nBen"),
    ],
)
def test_a_prompt_is_read_from_a_file_or_standard_input(
    run: Path,
    content: bytes,
    flags: tuple[str, ...],
    prompt: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "prompt.txt").write_bytes(content)
    none = ("--chars", 0, *flags)
    assert command(capsys, "sample", run, "--prompt-file", tmp_path / "prompt.txt", *none).out == prompt + "\n"
    for words in (("-",), ("--prompt-file", "-")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
        outcome = command(capsys, "sample", run, *words, *none)
        assert (outcome.out, outcome.err) == (prompt + "\n", "")


def test_what_cannot_be_a_prompt_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"Ann \xff had")
    command(capsys, "sample", run, "--prompt-file", file).stated(
        1, str(file), "is not UTF-8", "position 4", "--encoding"
    )
    command(capsys, "sample", run, "--prompt-file", tmp_path / "none").stated(1, "none", "cannot be read: No such file")
    command(capsys, "sample", run, "--prompt-file", tmp_path).stated(1, str(tmp_path), "cannot be read")
    command(capsys, "sample", run, "Ann", "--prompt-file", file).stated(2, "--prompt-file", "'Ann'", "one of the two")
    command(capsys, "sample", run, "-", "--encoding", "morse").stated(1, "there is no encoding 'morse'")
    monkeypatch.setattr(sys, "stdin", None)
    command(capsys, "sample", run, "-").stated(1, "standard input is closed")


def test_one_word_that_is_a_hyphen_is_standard_input_for_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"One day")))
    assert command(capsys, "sample", "-", "--chars", 0).out == "One day\n"


def test_what_is_the_same_text_is_read_without_a_notice_and_other_forms_with_one(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = command(capsys, "sample", run, "\ufeffAnn\r\nhad", "--chars", 0)
    assert (outcome.out, outcome.err) == ("Ann\nhad\n", "")
    outcome = command(capsys, "sample", run, "\ufb06and", "--chars", 0)
    assert outcome.out == "stand\n"
    assert "'stand'" in outcome.err
    outcome = command(capsys, "sample", run, "\ufb06and" * 5000, "--chars", 0)
    assert outcome.out == "stand" * 5000 + "\n"
    assert len(outcome.err) < 600


class Piece(str):
    """A piece of text that counts the characters which are copied when it is added to another."""

    copied = 0

    def __radd__(self, before: str) -> str:
        Piece.copied += len(before)
        return str(before) + str(self)


@pytest.mark.parametrize("flags", [(), ("--json",), ("--count", 2)])
def test_a_long_text_is_not_copied_for_each_character(
    run: Path, flags: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chars = 20_000
    monkeypatch.setattr(Piece, "copied", 0)
    monkeypatch.setattr(storycell.api.Model, "streams", lambda *_, **__: ((0, Piece("x")) for _ in range(chars)))
    assert "x" * chars in command(capsys, "sample", run, "Ann", *flags).out
    assert Piece.copied < 10 * chars


# Streams


def test_a_reader_that_has_seen_enough_ends_the_text_quietly(run: Path) -> None:
    words = [sys.executable, "-m", "storycell", "sample", str(run), "--greedy", "--chars", "20000"]
    with running(words) as sample:
        assert sample.stdout is not None
        assert sample.stderr is not None
        assert len(sample.stdout.read(100)) == 100
        sample.stdout.close()
        assert sample.wait(timeout=60) == 0
        assert sample.stderr.read() == b""


def test_windows_word_for_a_reader_that_has_seen_enough_is_understood(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There a broken pipe is an invalid argument; elsewhere that would be an error to tell."""

    def refuse(text: str) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    main_module = sys.modules["storycell.cli.main"]  # the package has the function under that name
    dropped = list[bool]()
    monkeypatch.setattr(main_module, "_drop_output", lambda: dropped.append(True))
    for windows in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(main_module, "_BROKEN_PIPE", (errno.EPIPE, *((errno.EINVAL,) if windows else ())))
            patch.setattr(sys.stdout, "write", refuse)
            code = main(["sample", str(run), "--chars", "5"])
        assert code == (0 if windows else 1)
        assert capsys.readouterr().err == ("" if windows else "storycell: standard output: Invalid argument\n")
    assert dropped == [True, True]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_an_error(run: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "storycell", "sample", str(run), "--chars", "5"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"storycell: standard output: No space left on device\n"


def test_curly_quotes_pass_through_a_locale_without_them(run: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    ascii_only = {**plain, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    outcome = process("sample", run, "Ann “had”", "--chars", 0, env=ascii_only)
    assert outcome.code == 0, outcome.err
    assert outcome.out == "Ann “had”\n"  # also where the locale decodes arguments as ASCII
