"""Compression that adapts: every file comes back, smaller where a text repeats itself, on any number of threads."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from support.tiny_runs import FLAGS, TEXT, command
from test_compress import CHARACTERS, FILES, HEADS_BYTES, compressed, network, original, stories

from storycell import threads
from storycell.data.vocab import BYTES, Vocabulary
from storycell.errors import CodecError
from storycell.evaluation.ngram import NGram
from storycell.evaluation.texts import encode_text
from storycell.lab.compress import archive, container
from storycell.lab.compress.coder import Adaptation
from storycell.language_model import LanguageModel

LM = network(CHARACTERS)
COUNTED = NGram.fit(encode_text(TEXT, CHARACTERS), len(CHARACTERS), 5)
WITHOUT, WITH = Adaptation(CHARACTERS), Adaptation(CHARACTERS, COUNTED)


def adapted(
    data: bytes, adaptation: Adaptation = WITHOUT, lm: LanguageModel = LM, vocab: Vocabulary = CHARACTERS
) -> bytes:
    sink = io.BytesIO()
    archive.compress(lm, vocab, io.BytesIO(data), sink, adaptation=adaptation)
    return sink.getvalue()


def back(packed: bytes, ngram: NGram | None = COUNTED, lm: LanguageModel = LM, vocab: Vocabulary = CHARACTERS) -> bytes:
    sink = io.BytesIO()
    count = None if ngram is None else lambda: ngram
    archive.decompress(lm, vocab, io.BytesIO(packed), sink, "the file", count=count)
    return sink.getvalue()


@settings(max_examples=15, deadline=None)
@given(data=FILES)
def test_any_file_comes_back(data: bytes) -> None:
    assert back(adapted(data)) == data
    assert back(adapted(data, WITH)) == data


def test_bytes_as_tokens_come_back() -> None:
    data = stories(5).encode()
    lm = network(BYTES)
    assert back(adapted(data, Adaptation(BYTES), lm, BYTES), None, lm, BYTES) == data


@pytest.mark.parametrize("adaptation", [WITHOUT, WITH], ids=["alone", "with the n-gram"])
@pytest.mark.parametrize("text", [TEXT, TEXT.replace("<|endoftext|>\n", "")], ids=["stories", "one text"])
def test_a_text_that_repeats_itself_becomes_smaller(text: str, adaptation: Adaptation) -> None:
    data = text.encode()
    packed = adapted(data, adaptation)
    assert back(packed) == data
    assert len(packed) - HEADS_BYTES < 0.7 * (len(compressed(data, LM)) - HEADS_BYTES)


def test_the_n_gram_of_the_training_text_makes_it_smaller_still() -> None:
    assert len(adapted(TEXT.encode(), WITH)) < 0.8 * len(adapted(TEXT.encode()))


def test_the_number_of_threads_changes_nothing() -> None:
    data = TEXT.encode()
    with threads.computing_on(2, 2):
        packed = adapted(data, WITH)
    with threads.computing_on(1, 1):
        assert adapted(data, WITH) == packed
        assert back(packed) == data


def test_a_file_without_adaptation_is_as_it_was_and_is_still_read() -> None:
    packed = compressed(TEXT.encode(), LM)
    assert packed.startswith(container.PLAIN)
    assert original(packed, LM) == TEXT.encode()
    assert adapted(TEXT.encode()).startswith(container.ADAPTED)


def test_a_file_that_needs_the_n_gram_says_so_and_refuses_another() -> None:
    packed = adapted(stories(4).encode(), WITH)
    with pytest.raises(CodecError, match="n-gram of the run's training text, which is needed"):
        back(packed, None)
    with pytest.raises(CodecError, match="n-gram of another training text"):
        back(packed, NGram.fit(encode_text(TEXT, CHARACTERS), len(CHARACTERS), 4))
    assert back(adapted(stories(4).encode()), None) == stories(4).encode()  # adapting alone needs none


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    done = command(capsys, "train", tmp_path / "text.txt", "--out", tmp_path / "run", *FLAGS)
    assert done.code == 0, done.err
    return tmp_path / "run"


def test_the_command_line_there_and_back(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run.parent / "file.txt"
    file.write_text(stories(12), encoding="utf-8")
    sizes = {}
    for flags in ((), ("--adapt",), ("--with-ngram",)):
        packed = run.parent / f"file{len(sizes)}.scz"
        done = command(capsys, "compress", run, file, "--out", packed, "--json", *flags)
        assert done.code == 0, done.err
        sizes[flags] = json.loads(done.out)["bytes_out"]
        command(capsys, "decompress", run, packed, "--out", run.parent / "back.txt")
        assert (run.parent / "back.txt").read_bytes() == file.read_bytes()
    assert sizes["--with-ngram",] < sizes["--adapt",] < sizes[()]
    (run.parent / "text.txt").unlink()
    gone = command(capsys, "decompress", run, packed, "--out", run.parent / "again.txt")
    assert gone.code == 1
    assert "is needed for its n-gram" in gone.err
    assert not (run.parent / "again.txt").exists()
