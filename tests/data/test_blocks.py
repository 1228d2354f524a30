"""Bytes -> blocks: wherever the byte stream is cut, the text comes out the same, and errors say where."""

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from storycell.data.blocks import normalise
from storycell.data.story_pieces import HASHED_BYTES, LONGEST_WHITE_BYTES, hash_pieces, pieces, stories_in
from storycell.data.vocab import BOUNDARY_BYTE, SEPARATOR
from storycell.errors import CorpusError

FRAGMENTS = [SEPARATOR, f"{SEPARATOR}\n", f"{SEPARATOR}\r\n", f"\n{SEPARATOR}\n", SEPARATOR[:5], SEPARATOR[5:],
             "\r\n", "\r", "\n", "a", "Zz", "é", "“", "😀", "\ufeff", " ", "\x85", "\u2028", "\x7f", "ÿ"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def chunks_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


def texts_of(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


def naive(text: str) -> bytes:
    """The whole text at once, line by line."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    ended = [line + "\n" for line in lines[:-1]] + lines[-1:]
    return b"".join(BOUNDARY_BYTE if line.removesuffix("\n") == SEPARATOR else line.encode() for line in ended)


def blocks_of(chunks: list[bytes], encoding: str = "utf-8") -> list[bytes]:
    return list(normalise(chunks, "text.txt", encoding))


@given(TEXTS, CUTS)
def test_cuts_of_the_stream_do_not_show(text: str, cuts: list[int]) -> None:
    assert b"".join(blocks_of(chunks_of(text.encode(), cuts))) == naive(text)


@given(TEXTS)
def test_a_byte_at_a_time_is_the_whole(text: str) -> None:
    data = text.encode()
    assert b"".join(blocks_of([data[k : k + 1] for k in range(len(data))])) == naive(text)


@given(TEXTS, CUTS)
def test_each_block_holds_whole_characters(text: str, cuts: list[int]) -> None:
    for block in blocks_of(chunks_of(text.encode(), cuts)):
        assert block.replace(BOUNDARY_BYTE, b"").decode().encode() == block.replace(BOUNDARY_BYTE, b"")


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("", b""),
        ("\ufeffa\r\nb\rc\r", b"a\nb\nc\n"),
        ("\r\r\n\n", b"\n\n\n"),
        ("<|endoftext|>", b"\xff"),
        ("\ufeff<|endoftext|>\na", b"\xffa"),
        ("a\n<|endoftext|>\r\nb", b"a\n\xffb"),
        ("a\r<|endoftext|>\rb", b"a\n\xffb"),
        ("<|endoftext|>\n<|endoftext|>\n\n", b"\xff\xff\n"),
        ("a<|endoftext|>\n<|endoftext|>", b"a<|endoftext|>\n\xff"),
        ("<|endoftext|> \n", b"<|endoftext|> \n"),
        ("a\ufeff\u2028b\x85", "a\ufeff\u2028b\x85".encode()),
    ],
)
def test_line_ends_marks_and_separators(text: str, block: bytes) -> None:
    data = text.encode()
    assert naive(text) == block
    assert b"".join(blocks_of([data])) == block
    assert b"".join(blocks_of([data[k : k + 1] for k in range(len(data))])) == block


@given(TEXTS, st.sampled_from([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x28", b"\xf5", b"\x80"]), TEXTS, CUTS)
def test_bad_bytes_are_named_with_their_position(before: str, bad: bytes, after: str, cuts: list[int]) -> None:
    data = before.encode() + bad + after.encode()
    assume(not data.startswith((b"\xff\xfe", b"\xfe\xff")))  # these look like UTF-16, see below
    with pytest.raises(CorpusError) as error:
        blocks_of(chunks_of(data, cuts))
    assert f"text.txt is not UTF-8: invalid byte at position {len(before.encode()):,};" in str(error.value)
    assert "latin-1" not in str(error.value)


@pytest.mark.parametrize("character", ["é", "“", "😀"])
@given(text=TEXTS, cuts=CUTS)
def test_a_character_cut_off_at_the_end_is_named(character: str, text: str, cuts: list[int]) -> None:
    for missing in range(1, len(character.encode())):
        data = (text + character).encode()[:-missing]
        with pytest.raises(CorpusError, match=f"invalid byte at position {len(text.encode()):,};"):
            blocks_of(chunks_of(data, cuts))


def test_positions_count_the_byte_order_mark() -> None:
    with pytest.raises(CorpusError, match="position 5;"):
        blocks_of(["\ufeffab".encode(), b"\xff"])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_utf16_or_utf32_file_is_told_by_its_mark(encoding: str, size: int) -> None:
    data = "\ufeffhello".encode(encoding)
    family = encoding[:6]
    with pytest.raises(CorpusError, match=f"is {family.upper()}, not UTF-8; read it with --encoding {family}$"):
        blocks_of([data[k : k + size] for k in range(0, len(data), size)])
    assert b"".join(blocks_of([data], family)) == b"hello"


@given(TEXTS, CUTS)
def test_a_nul_looks_binary(text: str, cuts: list[int]) -> None:
    with pytest.raises(CorpusError, match=f"looks binary .a NUL byte at position {len(text.encode()):,}."):
        blocks_of(chunks_of(text.encode() + b"\0x", cuts))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "shift_jis", "UTF8"])
@given(text=st.text(st.sampled_from("ab <|\r\n"), max_size=40), cuts=CUTS)
def test_other_encodings_give_the_same_text(encoding: str, text: str, cuts: list[int]) -> None:
    letters = {"shift_jis": "日", "utf-16": "😀é", "utf-16-le": "😀é", "utf-8-sig": "😀é", "UTF8": "😀é"}.get(
        encoding, "éÿ"
    )
    whole = f"{text}{letters}\r\n{SEPARATOR}\r\n{letters}"
    assert b"".join(blocks_of(chunks_of(whole.encode(encoding), cuts), encoding)) == naive(whole)


@pytest.mark.parametrize(
    ("data", "encoding", "at"),
    [
        (b"abc\x81d", "cp1252", 3),
        ("ab😀".encode("utf-16-le")[:-2], "utf-16-le", 4),
        ("abc".encode("utf-16-le")[:-1], "utf-16-le", 4),
        (b"ab\xff\xff", "shift_jis", 2),
        (b"ab\xff", "ascii", 2),
    ],
)
@given(cuts=CUTS)
def test_what_another_encoding_cannot_read_is_named(data: bytes, encoding: str, at: int, cuts: list[int]) -> None:
    with pytest.raises(CorpusError, match=f"text.txt cannot be read as {encoding}, from byte {at} on"):
        blocks_of(chunks_of(data, cuts), encoding)


def test_a_wrong_encoding_that_gives_nuls_is_refused() -> None:
    with pytest.raises(CorpusError, match="read as latin-1 holds NUL"):
        blocks_of(["hello".encode("utf-16")], "latin-1")


def test_a_line_of_megabytes_goes_through_in_pieces() -> None:
    line = b"x" * 100_000
    blocks = blocks_of([b"a\n"] + [line] * 40 + [SEPARATOR.encode() + b"\n" + SEPARATOR.encode()])
    assert max(map(len, blocks)) < 2 * len(line)
    assert b"".join(blocks) == b"a\n" + line * 40 + SEPARATOR.encode() + b"\n\xff"


def test_blocks_come_while_chunks_are_read() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield "“line”\n".encode()

    blocks = normalise(endless(), "endless")
    assert next(blocks) + next(blocks) == "“line”\n“line”\n".encode()
    assert read < 5


STORIES = st.lists(st.text(st.sampled_from("ab é\n\u3000"), max_size=8), max_size=8)


@given(STORIES, CUTS)
def test_pieces_are_the_stories_without_the_empty_and_the_white_ones(stories: list[str], cuts: list[int]) -> None:
    text = BOUNDARY_BYTE.decode("latin-1").join(stories)
    blocks = [b"".join(BOUNDARY_BYTE if c == "ÿ" else c.encode() for c in chunk) for chunk in texts_of(text, cuts)]
    found: list[bytes] = []
    for begins, piece in pieces(blocks):
        assert piece
        if begins:
            found.append(b"")
        found[-1] += piece
    assert found == [story.encode() for story in stories if story.strip()] == stories_in(blocks)


def test_white_space_that_is_held_back_has_a_bound() -> None:
    white = b" \n" * (LONGEST_WHITE_BYTES // 2)
    for size in (7, 1000, 1 << 20):
        blocks = [white[k : k + size] for k in range(0, len(white), size)]
        assert stories_in(blocks) == []
        assert stories_in([*blocks, b"a"]) == [white + b"a"]
        assert stories_in([*blocks, b" "]) == [white + b" "]


@given(
    st.lists(st.sampled_from([0, 1, 5, HASHED_BYTES - 1, HASHED_BYTES, HASHED_BYTES + 1, 9000]), max_size=5), st.data()
)
def test_the_hash_of_a_story_depends_on_its_text_alone(sizes: list[int], data: st.DataObject) -> None:
    stories = [random.Random(size).randbytes(size).hex()[:size].encode() for size in sizes]
    text = BOUNDARY_BYTE.join(stories)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=12))
    found: list[tuple[int, bytes]] = []
    for hashed, piece in hash_pieces(chunks_of(text, cuts)):
        found += [(hashed, b"")] if hashed is not None else []
        found[-1] = (found[-1][0], found[-1][1] + piece)
    assert [story for _, story in found] == [story for story in stories if story]
    for hashed, story in found:
        assert [hashed] == [h for h, _ in hash_pieces([story]) if h is not None]


def test_different_stories_have_different_hashes_up_to_white_space_around_them() -> None:
    def hash_of(story: bytes) -> int | None:
        return next(hash_pieces([story]))[0]

    assert len({hash_of(b"story %d" % k) for k in range(1000)}) == 1000
    assert hash_of(b"the end\n") == hash_of(b"the end") == hash_of(b"\nthe end")
    assert hash_of(b"x" * HASHED_BYTES + b"a") == hash_of(b"x" * HASHED_BYTES + b"b")


def test_the_boundary_byte_is_in_no_character() -> None:
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert BOUNDARY_BYTE not in every.encode()
