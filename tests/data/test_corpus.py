"""Words -> corpora: every way to name a text gives its stories, and every failure says what is wrong and where."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from storycell.data.corpus import Corpus, open_corpus, text_corpus
from storycell.data.files import CHUNK_BYTES
from storycell.data.story_pieces import pieces
from storycell.data.vocab import SEPARATOR, well_formed
from storycell.errors import CorpusError

TEXT = f"Once “upon”\n{SEPARATOR}\na time\n"
STORIES = ["Once “upon”\n", "a time\n"]


def stories(corpus: Corpus) -> list[str]:
    found: list[bytes] = []
    for begins, piece in pieces(corpus.blocks()):
        if begins:
            found.append(b"")
        found[-1] += piece
    return [story.decode() for story in found]


def stories_in(*words: Path | str, encoding: str = "utf-8") -> list[str]:
    return stories(open_corpus([str(word) for word in words], encoding))


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_file_is_its_stories_and_can_be_read_again(tmp_path: Path) -> None:
    corpus = open_corpus([str(written(tmp_path / "a.txt", TEXT))])
    assert stories(corpus) == STORIES
    assert stories(corpus) == STORIES


def test_progress_ends_at_the_size(tmp_path: Path) -> None:
    big = TEXT * (3 * CHUNK_BYTES // len(TEXT.encode()))
    for path in (written(tmp_path / "a.txt", big), written(tmp_path / "a.txt.gz", gzip.compress(big.encode()))):
        corpus = open_corpus([str(path), str(path)])
        told: list[int] = []
        assert sum(1 for _ in corpus.blocks(told.append)) > 0
        assert sum(told) == corpus.size_bytes == 2 * path.stat().st_size


@pytest.mark.parametrize("name", ["a.bin", "A.TXT", "a.jsonl.txt", "no-ending"])
def test_a_file_that_is_named_is_read_whatever_its_ending(tmp_path: Path, name: str) -> None:
    assert stories_in(written(tmp_path / name, TEXT)) == STORIES


def test_a_folder_is_its_texts_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "deep/er/c.text", "D.TXT", ".hidden.txt", ".git/x.txt", "deep/.x/y.txt", "image.png"):
        written(tmp_path / "texts" / name, name)
    assert stories_in(tmp_path / "texts") == ["D.TXT", "a.md", "b.txt", "deep/er/c.text"]
    written(tmp_path / "texts" / "e.jsonl.gz", gzip.compress(b'{"text": "packed"}'))
    assert stories_in(tmp_path / "texts")[-1] == "packed"


def test_a_folder_inside_a_hidden_one_can_be_named(tmp_path: Path) -> None:
    written(tmp_path / ".cache" / "a.txt", TEXT)
    assert stories_in(tmp_path / ".cache") == STORIES


def test_globs_match_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md", "in/d.txt"):
        written(tmp_path / name, name)
    assert stories_in(f"{tmp_path}/*.txt") == ["a.txt", "b.txt"]
    assert stories_in(f"{tmp_path}/**/*.txt") == ["a.txt", "b.txt", "in/d.txt"]
    assert stories_in(written(tmp_path / "[ab].txt", "literal")) == ["literal"]


def test_there_is_a_boundary_between_files(tmp_path: Path) -> None:
    one, two = written(tmp_path / "1.txt", "no line end"), written(tmp_path / "2.txt", "two\n<|endoftext|>")
    assert stories_in(one, two, one) == ["no line end", "two\n", "no line end"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "UTF8"])
def test_the_encoding_is_for_all_files(tmp_path: Path, encoding: str) -> None:
    written(tmp_path / "a.txt", "né\r\n".encode(encoding))
    written(tmp_path / "b.txt.gz", gzip.compress("é".encode(encoding)))
    assert stories_in(tmp_path, encoding=encoding) == ["né\n", "é"]


READ_STDIN = """
import sys
from storycell.data.corpus import open_corpus
corpus = open_corpus(["-"], sys.argv[1])
for _ in range(2):
    sys.stdout.buffer.write(b"".join(corpus.blocks()))
sys.stderr.write(str(corpus.sources[0].path))
"""


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_standard_input_is_kept_and_then_deleted(encoding: str) -> None:
    command = [sys.executable, "-c", READ_STDIN, encoding]
    done = subprocess.run(command, input=TEXT.encode(encoding), capture_output=True, check=True, timeout=60)
    assert done.stdout == b"".join(open_corpus_blocks()) * 2
    assert "storycell-" in done.stderr.decode()
    assert not Path(done.stderr.decode()).exists()


def open_corpus_blocks() -> list[bytes]:
    return list(text_corpus(TEXT).blocks())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_can_be_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen([sys.executable, "-c", f"open({str(tmp_path / 'pipe')!r}, 'w').write('through\\n')"]):
        corpus = open_corpus([str(tmp_path / "pipe")])
    assert stories(corpus) == stories(corpus) == ["through\n"]
    assert corpus.sources[0].name == str(tmp_path / "pipe")


def packed(ending: str, content: bytes) -> bytes:
    """Two members or frames."""
    pack: Callable[[bytes], bytes] = gzip.compress if ending == ".gz" else zstandard.ZstdCompressor().compress
    return pack(content[:7]) + pack(content[7:])


BIG = "".join(f"Story {k} of “many”, {k * k}\n{SEPARATOR}\n" for k in range(60_000)).encode()


@pytest.mark.parametrize("ending", [".gz", ".zst", ".GZ"])
def test_packed_files_are_unpacked_through_all_members(tmp_path: Path, ending: str) -> None:
    content = packed(ending.lower(), BIG)
    blocks = list(open_corpus([str(written(tmp_path / f"a.txt{ending}", content))]).blocks())
    assert b"".join(blocks) == b"".join(text_corpus(BIG.decode()).blocks())
    assert max(map(len, blocks)) < 3 * CHUNK_BYTES


def test_a_zst_that_unpacks_to_much_more_comes_in_small_blocks(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt.zst", zstandard.ZstdCompressor().compress(b"all the same\n" * 4_000_000))
    assert path.stat().st_size < 10_000
    sizes = [len(block) for block in open_corpus([str(path)]).blocks()]
    assert sum(sizes) == 13 * 4_000_000
    assert max(sizes) < 40 * CHUNK_BYTES


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("kept", [0.99, 0.5, 3])
def test_a_truncated_packed_file_is_named(tmp_path: Path, ending: str, kept: float) -> None:
    content = packed(ending, BIG)
    path = written(tmp_path / f"a.txt{ending}", content[: kept if kept > 1 else int(len(content) * kept)])
    with pytest.raises(CorpusError, match=rf"a\.txt{ending} is truncated or damaged"):
        stories_in(path)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_damaged_packed_file_is_named(tmp_path: Path, ending: str) -> None:
    content = bytearray(packed(ending, BIG))
    content[len(content) // 2] ^= 0xFF
    content[-3] ^= 0xFF
    for damaged in (bytes(content), b"not packed at all", packed(ending, BIG) + b"left over"):
        with pytest.raises(CorpusError, match=rf"a\.txt{ending} is truncated or damaged"):
            stories_in(written(tmp_path / f"a.txt{ending}", damaged))


FRAGMENTS = st.sampled_from(["a", "é", "😀", "\n", "\r\n", "\u2028", '"'])
JSON_TEXTS = st.lists(st.lists(FRAGMENTS, min_size=1).map("".join), min_size=1)


@given(texts=JSON_TEXTS, ascii_only=st.booleans())
def test_json_lines_are_stories(tmp_path_factory: pytest.TempPathFactory, texts: list[str], ascii_only: bool) -> None:
    lines = "\n".join(json.dumps({"id": 1, "text": text}, ensure_ascii=ascii_only) for text in texts)
    folder = tmp_path_factory.mktemp("lines")
    plain = written(folder / "a.jsonl", lines + "\n\n")
    zipped = written(folder / "a.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode()))
    expected = [text.replace("\r\n", "\n") for text in texts if not text.isspace()]
    assert stories_in(plain) == stories_in(zipped) == expected
    shutil.rmtree(folder)


def test_a_json_text_may_hold_several_stories_and_need_not_end_its_line(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}) for text in (TEXT, "no end", "", f"a{SEPARATOR}", f"b\n{SEPARATOR}")]
    assert stories_in(written(tmp_path / "a.jsonl", "\n".join(lines))) == [*STORIES, "no end", f"a{SEPARATOR}", "b\n"]


def test_many_json_lines_are_gathered_into_few_blocks(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"text": "short 😀"}\n' * 200_000)
    blocks = list(open_corpus([str(path)]).blocks())
    assert len(blocks) < 10
    assert b"".join(blocks) == "short 😀".encode().join([b"", *[b"\xff"] * 199_999, b"\xff"])


@pytest.mark.parametrize(
    "line",
    [
        b'{"title": "no text"}',
        b"not json",
        b'"text"',
        b"[1]",
        b"null",
        b'{"text": 3}',
        b'{"text": null}',
        b'{"text": ["a"]}',
        b'{"text": "half',
        b'{"text": "\\ud800"}',
        b'{"text": "\xff"}',
        b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"text": "a", "n": ' + b"9" * 10_000 + b"}",
        b'{"text": "a\\u0000b"}',
    ],
)
def test_a_wrong_json_line_is_named_by_its_number(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path / "a.jsonl", b'{"text": "fine"}\n\n' + line + b"\n")
    with pytest.raises(CorpusError, match=r"a\.jsonl line 3[: ]") as error:
        stories_in(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "word", ["nosuch", "no/such.txt", "nosuch.txt", "no*such", "", "tinystorie", "x\0y", "y" * 9000]
)
def test_what_does_not_exist_is_named_with_the_named_corpora(word: str) -> None:
    with pytest.raises(CorpusError) as error:
        open_corpus([word])
    message = str(error.value)
    assert word[:200] in message
    assert "stories and tinystories" in message or "cannot be read" in message


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_alone_holds_nothing(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "empty.txt", content)
    if content:
        assert stories_in(path) == []
    else:
        with pytest.raises(CorpusError, match=r"empty\.txt is empty"):
            open_corpus([str(path)])
    assert stories_in(path, written(tmp_path / "a.txt", TEXT)) == STORIES


def test_a_file_of_white_space_holds_no_story(tmp_path: Path) -> None:
    assert stories_in(written(tmp_path / "a.txt", " \n\n")) == []


def test_a_folder_without_text_says_what_a_text_is(tmp_path: Path) -> None:
    written(tmp_path / "image.png", b"png")
    with pytest.raises(CorpusError, match=r"holds no text; a text ends in one of \.txt \.text \.md \.jsonl"):
        open_corpus([str(tmp_path)])


def test_a_prepared_folder_is_no_text_beside_others(tmp_path: Path) -> None:
    written(tmp_path / "made" / "prepared.json", "{}")
    with pytest.raises(CorpusError, match="made by prepare; give it alone"):
        open_corpus([str(tmp_path / "made"), "stories"])


@pytest.mark.parametrize("encoding", ["nosuch", "hex", "rot13", "zlib", "a\0b", ""])
def test_an_encoding_that_is_none_is_refused(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "a.txt", TEXT)
    with pytest.raises(CorpusError, match="there is no encoding"):
        open_corpus([str(path)], encoding)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = open_corpus([str(written(tmp_path / "a.txt", TEXT))])

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    for read in (corpus.digest, lambda: list(corpus.blocks())):
        with pytest.raises(CorpusError, match=r"a\.txt cannot be read: Permission denied"):
            read()
    monkeypatch.undo()
    (tmp_path / "a.txt").unlink()
    for read in (corpus.digest, lambda: list(corpus.blocks()), lambda: corpus.size_bytes):
        with pytest.raises(CorpusError, match=r"a\.txt cannot be read: No such file"):
            read()


def test_invalid_text_names_its_file(tmp_path: Path) -> None:
    one, two = written(tmp_path / "1.txt", TEXT), written(tmp_path / "2.txt", b"ab\xffc")
    with pytest.raises(CorpusError, match=r"2\.txt is not UTF-8: invalid byte at position 2;"):
        stories_in(one, two)


def test_the_digest_follows_the_content_and_how_it_is_read(tmp_path: Path) -> None:
    line = '{"text": "a", "more": "b"}\n'
    one, same = written(tmp_path / "1.txt", line), written(tmp_path / "2.md", line)
    digests = [
        open_corpus(words, encoding, column=column).digest()
        for words, encoding, column in [
            ([str(one)], "utf-8", None),
            ([str(one), str(same)], "utf-8", None),
            ([str(one)], "latin-1", None),
            ([str(one)], "utf-8", ""),
            ([str(one)], "utf-8", "more"),
            ([str(written(tmp_path / "3.txt", line + " "))], "utf-8", None),
            ([str(written(tmp_path / "4.txt", line + line))], "utf-8", None),
        ]
    ]
    assert len(set(digests)) == len(digests)
    assert open_corpus([str(same)]).digest() == digests[0]


def test_the_embedded_corpus_is_the_same_whenever_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = open_corpus(["stories"])
    monkeypatch.setattr("storycell.data.embedded.STORIES", 500)
    told: list[int] = []
    found = list(pieces(corpus.blocks(told.append)))
    assert sum(told) == len(found) == 500
    assert [piece for _, piece in found] == [piece for _, piece in pieces(open_corpus(["stories"]).blocks())]
    assert all(begins and piece.endswith(b"\n") for begins, piece in found)
    assert corpus.is_embedded
    assert corpus.digest() == open_corpus(["stories"]).digest()


def test_a_file_goes_before_a_named_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "stories", "mine\n")
    assert stories_in("stories") == ["mine\n"]
    assert not open_corpus(["stories"]).is_embedded


@given(st.text(st.characters(exclude_categories=(), exclude_characters="\0\r\ufeff<")))
def test_a_string_is_a_corpus(text: str) -> None:
    corpus = text_corpus(text)
    assert stories(corpus) == ([well_formed(text)] if text.strip() else [])
    assert corpus.digest() == text_corpus(text).digest()
