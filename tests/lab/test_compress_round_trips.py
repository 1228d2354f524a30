"""Compression of what a model least expects: whatever `compress` writes, `decompress` reads."""

import io
import random
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import storycell
from storycell.data.vocab import BYTES, Vocabulary
from storycell.errors import CodecError
from storycell.lab.compress import archive, coder
from storycell.lab.compress import archive as codec
from storycell.lab.compress.framing import CODE_BITS, Frame
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, RESERVED, UNKNOWN

LETTERS = Vocabulary("".join(sorted(set("\n .,!abcdefghijklmnopqrstuvwxyzO"))))
CHOICES = st.lists(st.sampled_from(["likely"] * 20 + ["unlikely", "any", "unknown", "end"]), max_size=80)
SOAK_FILES = 10_000


def sharp(vocab: Vocabulary, seed: int = 1, cell: str = "lstm", layers: int = 1) -> TorchModel:
    """A model that is nearly always sure: what it does not expect has a probability far below 2^-24."""
    lm = CharLM(len(vocab), 8, layers, cell, embedding_size=4, seed=seed)
    with torch.no_grad():
        lm.output.weight.mul_(60.0)
    return TorchModel(lm)


SHARP = {vocab: sharp(vocab) for vocab in (LETTERS, BYTES)}


def written(lm: TorchModel, vocab: Vocabulary, choices: list[str], chance: random.Random) -> bytes:
    """A text in which the model's likeliest characters, its least likely ones and others follow one another."""
    ids, state, text = np.zeros(1, np.int64), lm.zero_state(1), list[str]()
    take = coder.step_of(lm)
    for choice in choices:
        logits, state = take(ids, state)
        known = logits[0, RESERVED:]
        at = {"likely": int(known.argmax()), "unlikely": int(known.argmin())}
        at["any"] = chance.randrange(len(known))
        text.append({"unknown": "Ω", "end": "\n<|endoftext|>\n"}.get(choice) or vocab.characters[at.get(choice, 0)])
        ids = np.array([UNKNOWN if choice == "unknown" else at.get(choice, 0) + RESERVED])
    return "".join(text).encode("latin-1" if vocab.kind == "bytes" and "Ω" not in text else "utf-8")


def there_and_back(data: bytes, lm: TorchModel, vocab: Vocabulary) -> bytes:
    packed, back = io.BytesIO(), io.BytesIO()
    codec.compress(lm, vocab, io.BytesIO(data), packed)
    packed.seek(0)
    codec.decompress(lm, vocab, packed, back, "the file")
    return back.getvalue()


@given(choices=CHOICES, seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("vocab", [LETTERS, BYTES], ids=["characters", "bytes"])
def test_likely_text_with_the_least_likely_characters_comes_back(
    vocab: Vocabulary, choices: list[str], seed: int
) -> None:
    data = written(SHARP[vocab], vocab, choices, random.Random(seed))
    assert there_and_back(data, SHARP[vocab], vocab) == data


def test_the_least_likely_character_again_and_again_comes_back() -> None:
    """Each has a probability far below what the coder can express, and costs 24 bits all the same."""
    lm, choices = SHARP[LETTERS], (["likely"] * 7 + ["unlikely"]) * 40
    data = written(lm, LETTERS, choices, random.Random(1))
    rarest = []
    take, state, ids = coder.step_of(lm), lm.zero_state(1), np.zeros(1, np.int64)
    for character in data.decode():
        logits, state = take(ids, state)
        ids = LETTERS.encode(character).astype(np.int64)
        rarest.append(float(coder.probabilities(logits)[0, int(ids[0])]))
    assert np.sum(np.array(rarest) < 2.0**-30) >= 40  # else this test would show nothing
    assert codec.compress(lm, LETTERS, io.BytesIO(data), io.BytesIO()).deflated_bytes == 0  # nor would this
    assert there_and_back(data, lm, LETTERS) == data


ADDED = "\nSee https://www.example.com/stories/index.html?id=12345 for more."
SHE = "Once upon a time, there was a little girl named {}. She WAS very happy. "
SHE += "She loved to play with her toys in the park."
EIGHT = ["Lily", "Sue", "Tim", "Ben", "Mia", "Max", "Amy", "Sam"]
STORY = "Once upon a time, there was a little dog named Max. Max loved to play with his ball.\nHe ran and ran.\n"
REPORTED = {
    "eight names in turn": "".join(SHE.format(name) + " \n" for name in EIGHT * 3),
    "a story with an address in it": STORY + ADDED,
    "names in capitals": "".join(SHE.format(name.upper()) + "\n" for name in EIGHT * 2),
    "one story eight times": STORY * 8,
    "a letter in twelve replaced": "".join("$" if k % 12 == 11 else c for k, c in enumerate(STORY * 4)),
    "one word again and again": "the " * 100 + "XQZXQZ",
}


@pytest.mark.parametrize("name", REPORTED)
def test_what_the_model_in_the_package_once_refused_comes_back(name: str) -> None:
    model, data = storycell.load("demo"), REPORTED[name].encode()
    assert there_and_back(data, model.network, model.vocab) == data
    if name == "eight names in turn":
        assert len(data) == 2859


# The coder alone


SURE = np.array([[2.0**-60, 2.0**-20 - 2.0**-24, 1 - 2.0**-20, 2.0**-60, 2.0**-60]])
SYMBOLS = np.array([2, 3, 4, 0, 2, 1] * 4, dtype=np.int32)
HORSE = np.array([0x1F984] * 4, dtype=np.int32)
WORDS = """fffffcff fe22fff3 11 ecd579d7 fe078808 88080900 86670 37a08f57
4d67b01d 3 eff043c2 ff8b2801 e5a80200 1d826 93594000"""


def test_words_that_were_written_by_earlier_versions_are_read() -> None:
    """With the very words: whatever the decoder refuses, it must not be these."""
    encoder = coder.Encoder(Frame(0, SYMBOLS, HORSE, 1), lambda _: None)
    for _ in SYMBOLS:
        encoder.code(np.array([0]), SURE)
    assert [f"{word:x}" for word in encoder.words()] == WORDS.split()
    decoder = coder.Decoder(np.array([int(w, 16) for w in WORDS.split()], np.uint32), len(SYMBOLS), lambda _: None)
    for _ in SYMBOLS:
        decoder.code(np.array([0]), SURE)
    assert decoder.symbols().tolist() == SYMBOLS.tolist()
    assert decoder.read_escapes().tolist() == HORSE.tolist()


def test_a_model_that_is_sure_of_the_unknown_character_alone_still_codes() -> None:
    logits = np.array([[72.0, 936.0, 176.0, 175.0]])
    p = coder.probabilities(logits)[0]
    assert p[[BOUNDARY, 2, 3]].tolist() == pytest.approx([0, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], abs=1e-6)
    assert 0 < p[UNKNOWN] < 1e-6


@given(
    seed=st.integers(0, 2**32 - 1), ids=st.sampled_from([3, 40, 1000]), spread=st.sampled_from([0.0, 3.0, 30.0, 300.0])
)
@settings(max_examples=60, deadline=None)
def test_no_symbol_is_counted_at_more_than_the_coder_charges(seed: int, ids: int, spread: float) -> None:
    """Of the same symbol many times, which shows the charge in whole words, and of many different ones."""
    chance = np.random.default_rng(seed)
    p = coder.probabilities(chance.normal(0, spread, (1, ids)))
    for symbols in (np.full(2000, chance.integers(ids)), chance.integers(0, ids, 2000)):
        unknown = int((symbols == UNKNOWN).sum())
        frame = Frame(0, symbols.astype(np.int32), np.full(unknown, 0x3A9, np.int32), 2000)
        encoder = coder.Encoder(frame, lambda _: None)
        encoder.code(np.arange(2000), np.repeat(p, 2000, axis=0))
        counted = coder._least_bits(p[0, symbols]) + CODE_BITS * unknown
        charged = 32 * len(encoder.words())
        assert counted < charged + 64
        assert charged < counted * 25 / 23 + 2000 * ids * 2.0**-22 + 64  # nor at much less


# Compressing reads back


def test_a_file_that_would_not_come_back_is_not_said_to_be_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that computes something else the second time."""
    lm, real, runs = SHARP[LETTERS], coder.run, list[int]()

    def run(*arguments: object) -> None:
        runs.append(1)
        if len(runs) == 3:  # the probe, the coding, the reading back
            with torch.no_grad():
                lm.lm.output.bias[5] += 9.0
        try:
            real(*arguments)  # type: ignore[arg-type]
        finally:
            if len(runs) == 3:
                with torch.no_grad():
                    lm.lm.output.bias[5] -= 9.0

    monkeypatch.setattr(coder, "run", run)
    sink = io.BytesIO()
    with pytest.raises(CodecError, match=r"cannot be decompressed \(.*\), so it was not written"):
        codec.compress(lm, LETTERS, io.BytesIO(written(lm, LETTERS, ["likely"] * 200, random.Random(1))), sink)
    assert len(runs) == 3
    assert len(sink.getvalue()) == 20  # the head alone


def test_every_block_is_read_back_and_no_more_than_one_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, held, real = SHARP[LETTERS], list[int](), archive._read_back

    def read_back(lm: TorchModel, vocab: Vocabulary, block: bytes, raw: bytes, *rest: object) -> None:
        held.append(len(raw))
        real(lm, vocab, block, raw, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "BLOCK_BYTES", 64)
    monkeypatch.setattr(archive, "_read_back", read_back)
    data = b"a cat\n" * 50 + b"\xff\x80" * 100
    assert there_and_back(data, lm, LETTERS) == data
    assert sum(held) == len(data)
    assert max(held) <= 64


# The soak


def kinds(chance: random.Random, models: list[tuple[TorchModel, Vocabulary]], size: int) -> tuple[str, bytes]:
    """A file of a random kind, of `size` bytes or so."""
    lm, vocab = chance.choice(models)
    weights = [chance.random() ** 3 for _ in range(5)]
    names = ["likely", "unlikely", "any", "unknown", "end"]
    chosen = chance.choice(list(MADE))
    if chosen == "written":
        return chosen, written(lm, vocab, chance.choices(names, weights, k=min(size, 300)), chance)
    return chosen, MADE[chosen](chance, size)


def _edited(chance: random.Random, size: int) -> bytes:
    """The stories of the reports, with random edits."""
    text = list((chance.choice(list(REPORTED.values())) * 3)[: max(1, size)])
    for _ in range(chance.randrange(1 + len(text) // 6)):
        at = chance.randrange(len(text))
        text[at] = chance.choice([text[at].upper(), "", "Q", "$", "\r\n", "é", "🦄", "\n<|endoftext|>\n", " ", "\0"])
    return "".join(text).encode()


def _damaged(chance: random.Random, size: int) -> bytes:
    data = bytearray(_edited(chance, size) + b"\n")
    for _ in range(chance.randrange(1, 9)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


SCRIPTS = [
    "abcdefgh \n",
    "ABCD<>|&/\\\"'",
    "αβγδ ",
    "你好世界。",
    "😀🦄",
    "\u0301\u200d\ufeff",
    "\r\n\t\0",
    "0123456789,;",
]
MADE = {
    "written": None,
    "empty or nearly": lambda chance, size: chance.randbytes(chance.randrange(3)),
    "noise": lambda chance, size: chance.randbytes(size),
    "one byte again and again": lambda chance, size: bytes([chance.randrange(256)]) * size,
    "packed": lambda chance, size: zlib.compress(_edited(chance, size)),
    "edited": _edited,
    "damaged": _damaged,
    "windows": lambda chance, size: b"\xef\xbb\xbf" + _edited(chance, size).replace(b"\n", b"\r\n"),
    "utf-16": lambda chance, size: _edited(chance, size // 2).decode().encode("utf-16"),
    "scripts": lambda chance, size: "".join(
        chance.choice(chance.choice(SCRIPTS)) for _ in range(max(1, size // 3))
    ).encode(),
    "separators": lambda chance, size: b"".join(
        chance.choice([b"<|endoftext|>", b"\n", b"\r\n", b"a", b"once ", b"<|endoftext|>\n"]) for _ in range(size // 6)
    ),
}  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_random_files_come_back() -> None:
    """Files of all kinds, with models that are nearly always sure, one that knows nothing, and that in the package."""
    demo = storycell.load("demo")
    models = [(sharp(vocab, k, cell, 1 + k % 2), vocab)
              for vocab in (LETTERS, BYTES) for k, cell in enumerate(("lstm", "gru", "rnn"))]  # fmt: skip
    models += [(TorchModel(CharLM(len(LETTERS), 8, seed=9)), LETTERS), (demo.network, demo.vocab)]
    chance, counts = random.Random(20240601), dict.fromkeys(MADE, 0)
    for k in range(SOAK_FILES):
        size = round(2 ** chance.uniform(0, 11))
        name, data = kinds(chance, models, size)
        lm, vocab = chance.choice(models)
        assert there_and_back(data, lm, vocab) == data, f"file {k}, {name}"
        counts[name] += 1
    assert all(count > SOAK_FILES / len(MADE) / 2 for count in counts.values())


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_file_of_blocks_of_full_size_comes_back() -> None:
    """Past the size of a block, with a model that knows how often each byte comes and expects no other."""
    lm = TorchModel(CharLM(len(BYTES), 4, embedding_size=4))
    data = (STORY + ADDED).encode() * (archive.BLOCK_BYTES // 100)
    data = data[: archive.BLOCK_BYTES - 9] + b"\xff\0" * 500 + STORY.encode()
    counts = np.bincount(np.frombuffer(data, np.uint8).astype(int) + RESERVED, minlength=len(BYTES)) + 1e-9
    with torch.no_grad():
        lm.lm.output.bias.copy_(torch.from_numpy(counts).log())
    packed, back = io.BytesIO(), io.BytesIO()
    assert codec.compress(lm, BYTES, io.BytesIO(data), packed).deflated_bytes < 2000
    packed.seek(0)
    codec.decompress(lm, BYTES, packed, back, "the file")
    assert back.getvalue() == data
