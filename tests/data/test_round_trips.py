"""Whatever a text holds, what was prepared from it is that text; and reading it can be left and taken up anywhere."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_blocks import CUTS, TEXTS, chunks_of, naive

from storycell.data.batches import Streams
from storycell.data.blocks import Place, TextReader
from storycell.data.corpus import Corpus, open_corpus, text_corpus
from storycell.data.json_text import JsonReader
from storycell.data.prepare import prepare
from storycell.data.tokens import Prepared, split_stories
from storycell.data.vocab import BOUNDARY_BYTE, well_formed
from storycell.errors import CorpusError

ODD = [
    "<|endoftext|>",
    "\n",
    "\r\n",
    "\r",
    "\ufeff",
    "\ud800",
    "\udfff",
    "\ud83d\ude00",
    "\0",
    "\x85",
    "\u2028",
    "x" * 5000,
]
ANY_TEXT = st.lists(
    st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=()), max_size=8)), max_size=20
).map("".join)  # fmt: skip
ANY_TMP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)


def prepared_from(text: Corpus, tmp_path: Path, vocab: str = "characters") -> Prepared:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    return prepare(text, tmp_path / "out", vocab=vocab)


def stories_in(prepared: Prepared) -> list[bytes]:
    """All stories, those of the training split first."""
    splits = [ids for ids in (prepared.train_ids, prepared.valid_ids) if ids is not None]
    table = [prepared.vocab.bytes_of(k) for k in range(len(prepared.vocab))]
    return [b"".join(table[k] for k in story[1:]) for ids in splits for story in split_stories(ids)]


def parts_of(stories: list[bytes], in_bytes: bool) -> list[bytes]:
    """The stories, those that are more than a tenth of all in two parts: the last tenth, and what is before it."""
    parts: list[bytes] = []
    total = sum(len(story if in_bytes else story.decode()) for story in stories)
    for story in stories:
        text = story if in_bytes else story.decode()
        kept = len(text) - len(text) // 10 if 10 * len(text) > total else len(text)
        parts += [part if isinstance(part, bytes) else part.encode() for part in (text[:kept], text[kept:]) if part]
    return parts


@ANY_TMP
@given(text=ANY_TEXT, vocab=st.sampled_from(["characters", "bytes"]))
@example(text="\ufeff\ufeff<|endoftext|>\r\na\r", vocab="characters")
@example(text="\ud83d" + "\ude00", vocab="bytes")
@example(text="<|endoftext|>\0" * 3 + "\0", vocab="characters")
def test_any_text_comes_back_from_its_tokens(tmp_path: Path, text: str, vocab: str) -> None:
    expected = [s for s in naive(well_formed(text)).split(BOUNDARY_BYTE) if s.decode().strip()]
    if "\0" in text or not expected:
        with pytest.raises(CorpusError, match=r"looks binary|holds no characters"):
            prepared_from(text_corpus(text), tmp_path, vocab)
        return
    prepared = prepared_from(text_corpus(text), tmp_path, vocab)
    assert sorted(stories_in(prepared)) == sorted(parts_of(expected, vocab == "bytes"))
    assert prepared.stories == len(expected)
    assert prepared.train.unknown_chars == 0


@given(text=TEXTS, cuts=CUTS, left_after=st.integers(0, 12))
def test_reading_goes_on_from_behind_any_block(text: str, cuts: list[int], left_after: int) -> None:
    data = text.encode()
    reader, begun = TextReader("a"), b""
    for chunk in chunks_of(data, cuts)[:left_after]:
        begun += reader.feed(chunk)
    place = Place(*json.loads(json.dumps(reader.place)))  # as a journal keeps it
    other = TextReader("a", place)
    rest = b"".join(other.feed(bytes([byte])) for byte in data[place.offset :]) + other.feed(b"", final=True)
    assert begun + rest == naive(text)


@given(
    stories=st.lists(ANY_TEXT.filter(lambda text: "\0" not in text), max_size=6),
    cuts=CUTS,
    left_after=st.integers(0, 12),
)
def test_json_lines_go_on_from_behind_any_block(stories: list[str], cuts: list[int], left_after: int) -> None:
    lines = "".join(json.dumps({"text": well_formed(story)}) + "\r\n\n" for story in stories) + '{"text": "no end"}'
    data = lines.encode()
    reader, begun = JsonReader("a"), b""
    for chunk in chunks_of(data, cuts)[:left_after]:
        begun += reader.feed(chunk)
    other = JsonReader("a", reader.place)
    rest = other.feed(data[reader.place.offset :]) + other.feed(b"", final=True)
    assert begun + rest == b"".join(naive(well_formed(story)) + BOUNDARY_BYTE for story in [*stories, "no end"])
    assert other.place.lines == lines.count("\n")


def test_a_wrong_json_line_has_its_number_after_going_on_too() -> None:
    reader = JsonReader("a", Place(100, 41))
    with pytest.raises(CorpusError, match="a line 43: not a JSON object"):
        reader.feed(b'{"text": "fine"}\n{"txt": 1}\n')


@pytest.mark.parametrize("ending", [".txt", ".txt.zst", ".jsonl"])
def test_lines_of_megabytes_are_whole_in_the_tokens_and_in_the_batches(tmp_path: Path, ending: str) -> None:
    letters = random.Random(3).choices("aé“😀 ", k=1_500_000)  # one line of 3.6 MB: several chunks
    text = "".join(letters)
    content = json.dumps({"text": text}, ensure_ascii=False) if ending == ".jsonl" else text
    path = tmp_path / f"long{ending}"
    path.write_bytes(zstandard.compress(content.encode()) if ending.endswith(".zst") else content.encode())
    prepared = prepared_from(open_corpus([str(path)]), tmp_path)
    assert prepared.valid_ids is not None
    ids = np.concatenate([prepared.train_ids[1:], prepared.valid_ids[1:]])
    alphabet = np.array([ord(character) for character in prepared.vocab.characters])
    assert (alphabet[ids - 2] == np.array([ord(letter) for letter in letters])).all()
    inputs, targets = Streams(prepared.train_ids, 4, 1000).at(7)
    starts = [b * len(prepared.train_ids) // 4 + 7000 for b in range(4)]
    assert [prepared.vocab.decode(row) for row in inputs.tolist()] == [text[a - 1 : a + 999] for a in starts]
    assert [prepared.vocab.decode(row) for row in targets.tolist()] == [text[a : a + 1000] for a in starts]
