"""Compression: every file comes back bit for bit, at the size that the loss predicts, or is refused in a sentence."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_runs import TEXT, command

import storycell
from storycell import loss
from storycell.data.vocab import BYTES, Vocabulary
from storycell.errors import CodecError, NotFiniteError
from storycell.lab.compress import archive, coder, container, fingerprint, framing
from storycell.lab.compress import archive as codec
from storycell.language_model import Floats, Integers, LanguageModel, State
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.types import UNKNOWN

HEADS_BYTES = 64  # of the file and its only block, and the check sums
PREDICTED = 1e-3  # how far a size may be from what the loss predicts: the bar
CHARACTERS = Vocabulary("".join(sorted(set(TEXT))))
PIECES = (
    b"<|endoftext|>",
    b"\n",
    b"\r\n",
    b"\r",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"\xed\xa0\x80",
    "é".encode(),
    b"cat ",
)
FILES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    st.lists(st.sampled_from(PIECES), max_size=16).map(b"".join),
)


def network(vocab: Vocabulary, seed: int = 1, backend: str = "auto") -> TorchModel:
    return TorchModel(CharLM(len(vocab), 8, 1, embedding_size=4, backend=backend, seed=seed))


def compressed(data: bytes, lm: LanguageModel, vocab: Vocabulary = CHARACTERS) -> bytes:
    sink = io.BytesIO()
    sizes = codec.compress(lm, vocab, io.BytesIO(data), sink)
    assert (sizes.bytes_in, sizes.bytes_out) == (len(data), len(sink.getvalue()))
    return sink.getvalue()


def original(packed: bytes, lm: LanguageModel, vocab: Vocabulary = CHARACTERS) -> bytes:
    sink = io.BytesIO()
    codec.decompress(lm, vocab, io.BytesIO(packed), sink, "the file")
    return sink.getvalue()


def stories(count: int, extra: str = "") -> str:
    return "<|endoftext|>\n".join(
        f"Once upon a time Ann had {k * k} “red” balls.{extra}\n'Good!' said cat number {k * 7}.\n"
        for k in range(count)
    )


def taught(made: Path) -> storycell.Model:
    """A model that has learned that the unknown character never comes, which takes more than three steps."""
    model = storycell.load(made)
    weights = model.network.weights()
    weights["output.bias"][UNKNOWN] = -20.0
    model.network = model.network.with_weights(weights)
    return model


@given(data=FILES)
@settings(max_examples=400, deadline=None)
@pytest.mark.parametrize("vocab", [CHARACTERS, BYTES], ids=["characters", "bytes"])
def test_a_frame_loses_nothing(vocab: Vocabulary, data: bytes) -> None:
    assert framing.unframe(framing.frame(data, vocab), vocab) == data


@given(data=FILES)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("vocab", [CHARACTERS, BYTES], ids=["characters", "bytes"])
def test_any_file_comes_back(vocab: Vocabulary, data: bytes) -> None:
    lm = network(vocab)
    assert original(compressed(data, lm, vocab), lm, vocab) == data


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_every_cell_and_stack_decodes_what_it_encoded(cell: str, layers: int) -> None:
    lm = TorchModel(CharLM(len(CHARACTERS), 5, layers, cell, embedding_size=0))
    data = stories(70).encode()
    packed = compressed(data, lm)
    assert original(packed, lm) == data
    assert len(packed) < len(data)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "<|endoftext|>", "<|endoftext|>\n"])
def test_line_ends_marks_and_last_separators_cost_nothing(ends: str, tail: str) -> None:
    plain = stories(30)
    odd = "\ufeff" + (plain + tail).replace("\n", ends)
    lm = network(CHARACTERS)
    assert len(compressed(odd.encode(), lm)) == len(compressed(plain.encode(), lm))
    assert original(compressed(odd.encode(), lm), lm) == odd.encode()


@pytest.mark.parametrize("extra", ["", " Ω", " 🦄\tčau"], ids=["known", "one-unknown", "unknown"])
def test_the_size_is_what_the_loss_predicts(made: Path, extra: str) -> None:
    model = taught(made)
    text = stories(1500, extra)
    packed = compressed(text.encode(), model.network, model.vocab)
    result = model.evaluate(text)
    assert (result.unknown_chars > 0) == bool(extra)
    predicted = result.bits_per_char * result.chars / 8
    assert abs(len(packed) - predicted) < PREDICTED * predicted
    assert original(packed, model.network, model.vocab) == text.encode()


def test_a_text_without_separators_pays_only_its_cold_starts(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "SEGMENT", 1 << 12)
    model = taught(made)
    text = stories(1500).replace("<|endoftext|>\n", "")
    packed = compressed(text.encode(), model.network, model.vocab)
    assert framing.frame(text.encode(), model.vocab).segments == len(text) // framing.SEGMENT > 9
    predicted = model.evaluate(text).bits_per_char * len(text) / 8
    assert abs(len(packed) - predicted) < PREDICTED * predicted
    assert original(packed, model.network, model.vocab) == text.encode()


def test_a_character_that_is_unknown_costs_what_eval_says() -> None:
    lm = network(CHARACTERS)
    bits = [8 * len(compressed((stories(300) + "Ω" * n).encode(), lm)) for n in (100, 1100)]
    assert abs(bits[1] - bits[0] - 1000 * loss.ESCAPE_BITS) <= 32


def test_what_the_model_cannot_read_is_deflated_and_never_grows_much() -> None:
    lm = network(CHARACTERS)
    noise = np.random.default_rng(1).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    assert len(compressed(noise, lm)) < len(noise) + 100
    assert len(compressed(b"\x80" * 20_000, lm)) < 200
    for data in (noise, b"\x80" * 20_000):
        assert original(compressed(data, lm), lm) == data


@given(
    data=st.lists(st.sampled_from([b"a", "é".encode(), b"\n", b"<|endoftext|>\n", b"\x80\x80"]), max_size=60).map(
        b"".join
    )
)
@settings(max_examples=60, deadline=None)
def test_a_file_of_many_blocks_comes_back(data: bytes) -> None:
    lm = network(CHARACTERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "BLOCK_BYTES", 16)
        assert original(compressed(data, lm), lm) == data


def test_blocks_are_cut_where_a_story_ends() -> None:
    text = stories(60).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "BLOCK_BYTES", 1000)
        blocks = list(archive._blocks(io.BytesIO(text)))
    assert b"".join(blocks) == text
    assert len(blocks) > 4
    assert all(block.endswith(b"<|endoftext|>\n") for block in blocks[:-1])


def test_progress_ends_at_the_size_of_the_file() -> None:
    lm, data, told = network(CHARACTERS), TEXT.encode(), list[int]()
    packed = io.BytesIO()
    codec.compress(lm, CHARACTERS, io.BytesIO(data), packed, told.append)
    assert told == sorted(told)
    assert told[-1] == len(data)


# Refusals


PACKED = compressed(TEXT.encode(), network(CHARACTERS))


def counted(monkeypatch: pytest.MonkeyPatch, changed: Callable[[int, Floats], Floats]) -> list[int]:
    """From now on every step of a model is counted, and its logits are changed."""
    steps: list[int] = []
    real = coder.step_of

    def step_of(lm: LanguageModel) -> coder.Step:
        take = real(lm)

        def one(ids: Integers, state: State) -> tuple[Floats, State]:
            steps.append(1)
            logits, state = take(ids, state)
            return changed(len(steps), logits), state

        return one

    monkeypatch.setattr(coder, "step_of", step_of)
    return steps


def with_right_crc(packed: bytes) -> bytes:
    return packed[:-4] + struct.pack("<I", zlib.crc32(packed[:-4]))


@given(at=st.integers(0, 8 * len(PACKED) - 1))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_is_refused(at: int) -> None:
    damaged = bytearray(PACKED)
    damaged[at // 8] ^= 1 << at % 8
    with pytest.raises(CodecError, match="the file"):
        original(bytes(damaged), network(CHARACTERS))


HEADS_BITS = 8 * (20 + 1 + 17)  # of the file's head, a block's kind and its sizes: each bit of them counts


def original_or_refusal(packed: bytes) -> bytes | str:
    try:
        return original(packed, network(CHARACTERS))
    except CodecError as error:
        return str(error)


@given(at=st.integers(0, 8 * (len(PACKED) - 4) - 1))
@settings(max_examples=100, deadline=None)
def test_a_flipped_bit_behind_a_right_crc_never_gives_wrong_bytes(at: int) -> None:
    damaged = bytearray(PACKED)
    damaged[at // 8] ^= 1 << at % 8
    outcome = original_or_refusal(with_right_crc(bytes(damaged)))
    if at < HEADS_BITS:
        assert outcome != TEXT.encode()
    assert outcome == TEXT.encode() or "the file" in str(outcome)  # the coder's last two bytes carry no information


@given(kept=st.integers(0, len(PACKED) - 1))
@settings(max_examples=40, deadline=None)
def test_a_truncated_file_is_refused(kept: int) -> None:
    with pytest.raises(CodecError, match="the file"):
        original(PACKED[:kept], network(CHARACTERS))
    with pytest.raises(CodecError, match="the file"):
        original(with_right_crc(PACKED[:kept]), network(CHARACTERS))


@given(body=st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_made_up_blocks_are_refused(body: bytes) -> None:
    made_up = with_right_crc(PACKED[:20] + body + bytes(4))
    with pytest.raises(CodecError, match="the file"):
        original(made_up, network(CHARACTERS))


@pytest.mark.parametrize("symbols", [2**32 - 1, 8 << 20])
def test_a_file_that_claims_more_than_it_holds_ends_soon(symbols: int, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = bytes([container.CODED]) + container._CODED.pack(8 << 20, 8, 0, symbols, 64) + bytes(8)
    steps = counted(monkeypatch, lambda _, logits: logits)
    with pytest.raises(CodecError, match=r"the file cannot be decompressed here: .*; nothing was written"):
        original(with_right_crc(PACKED[:20] + claim + bytes(21)), network(CHARACTERS))
    assert 0 < len(steps) < 200


def test_another_model_is_refused_at_once() -> None:
    with pytest.raises(CodecError, match="the file was compressed with another model"):
        original(PACKED, network(CHARACTERS, seed=2))
    with pytest.raises(CodecError, match="is not a file that `storycell compress` wrote"):
        original(TEXT.encode(), network(CHARACTERS))
    with pytest.raises(CodecError, match="written by another version"):
        original(PACKED[:3] + b"\x03" + PACKED[4:], network(CHARACTERS))


def test_other_arithmetic_is_refused_or_right() -> None:
    other = network(CHARACTERS, backend="reference")
    rows = [np.full((3, 9), k) for k in range(2, 40)]
    same = [np.array_equal(network(CHARACTERS).logits(ids)[0], other.logits(ids)[0]) for ids in rows]
    assert not all(same)  # the two do round differently
    with pytest.raises(CodecError, match="the model's arithmetic differs"):
        original(PACKED, other)


def test_other_arithmetic_that_the_probe_misses_never_gives_wrong_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that agrees on the probe and differs later."""
    lm = network(CHARACTERS)
    monkeypatch.setattr(fingerprint, "of_arithmetic", lambda *_: bytes(8))
    packed = compressed(TEXT.encode(), lm)
    counted(monkeypatch, lambda steps, logits: logits * 1.01 if steps > 40 else logits)
    with pytest.raises(CodecError, match="the file"):
        original(packed, lm)


def test_the_number_of_threads_does_not_matter() -> None:
    lm = TorchModel(CharLM(len(CHARACTERS), 96, 2))
    torch.set_num_threads(2)
    try:
        packed = compressed(TEXT.encode(), lm)
    finally:
        torch.set_num_threads(1)
    assert original(packed, lm) == TEXT.encode()


def test_a_model_that_is_not_finite_is_said_to_be() -> None:
    lm = network(CHARACTERS)
    with torch.no_grad():
        lm.lm.output.bias[3] = float("nan")
    with pytest.raises(NotFiniteError, match="not finite"):
        compressed(TEXT.encode(), lm)


# The command


def test_the_command_compresses_and_gets_back(
    made: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(capsys, "compress", made, text, "--json")
    assert done.code == 0, done.err
    assert '"bytes_in": 5259' in done.out
    packed = text.with_name("text.txt.scz")
    before = text.read_bytes()
    command(capsys, "compress", made, text).stated(1, "is there already; name it with --out")
    command(capsys, "decompress", made, packed).stated(1, "text.txt is there already")
    assert command(capsys, "decompress", made, packed, "--out", tmp_path / "again").code == 0
    assert (tmp_path / "again").read_bytes() == before
    text.unlink()
    assert command(capsys, "decompress", made, packed).code == 0
    assert text.read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


def test_what_cannot_be_decompressed_leaves_the_output_alone(
    made: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, out = tmp_path / "p.scz", tmp_path / "out.txt"
    assert command(capsys, "compress", made, text, "--out", packed).code == 0
    out.write_text("mine")
    command(capsys, "decompress", "demo", packed, "--out", out).stated(1, str(packed), "another model")
    packed.write_bytes(packed.read_bytes()[:-9])
    command(capsys, "decompress", made, packed, "--out", out).stated(1, str(packed), "truncated or damaged")
    assert out.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.txt", "p.scz", "text.txt"]


def test_names_that_make_no_sense_are_refused(
    made: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(capsys, "compress", made, tmp_path / "none").stated(1, "is not there")
    command(capsys, "compress", made, tmp_path).stated(1, "is a folder")
    command(capsys, "compress", made, text, "--out", text).stated(1, "is the file itself")
    command(capsys, "compress", made, text, "--out", tmp_path).stated(1, "is a folder; name another --out")
    command(capsys, "compress", made, text, "--out", tmp_path / "no" / "x").stated(1, "cannot be written", "--out")
    command(capsys, "decompress", made, text).stated(1, "does not end in .scz", "--out")
    command(capsys, "decompress", made, text, "--out", tmp_path / "x").stated(1, "not a file that `storycell compress`")


@pytest.mark.parametrize(
    "stories", ["stories-100.txt", pytest.param("tinystories/valid.txt", marks=pytest.mark.soak)], indirect=True
)
def test_stories_come_back_at_the_predicted_size(stories: Path) -> None:
    model = storycell.load("demo")
    data = stories.read_bytes()
    packed = compressed(data, model.network, model.vocab)
    result = model.evaluate(data.decode())
    predicted = result.bits_per_char * result.chars / 8
    assert abs(len(packed) - predicted) < PREDICTED * predicted + HEADS_BYTES
    assert original(packed, model.network, model.vocab) == data
