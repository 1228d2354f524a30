"""Characters <-> ids: what is written can be read back, and every path agrees with a plain one."""

import json
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storycell.data.blocks import normalise
from storycell.data.vocab import (
    BOUNDARY_BYTE,
    BYTES,
    LARGEST,
    SEPARATOR,
    Vocabulary,
    add_counts,
    from_counts,
    story_lines,
    well_formed,
)
from storycell.errors import UnknownCharacterError, VocabularyError
from storycell.types import BOUNDARY, RESERVED, UNKNOWN

CODE_POINTS = 0x110000
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
WHOLE_TEXT = st.text(st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from("\0\r\n a\x7fé“😀\uffff")))
STORIES = st.lists(st.text(st.sampled_from("aé“😀\n\0\x7f\x80ÿ日"), min_size=1), min_size=1)


def vocabulary(text: str) -> Vocabulary:
    return Vocabulary("".join(sorted(set(text))))


def block_of(stories: list[str]) -> bytes:
    return BOUNDARY_BYTE.join(story.encode() for story in stories)


def counts_of(block: bytes) -> np.ndarray:
    counts = np.zeros(CODE_POINTS, dtype=np.int64)
    add_counts(counts, block)
    return counts


@given(WHOLE_TEXT.filter(lambda text: SEPARATOR not in text))
def test_characters_round_trip(text: str) -> None:
    known = vocabulary(text)
    ids = known.encode(text)
    assert known.decode(ids) == text
    assert len(ids) == len(text)
    assert ids.dtype == known.dtype


@given(ANY_TEXT)
def test_bytes_round_trip_and_lone_surrogates_become_the_replacement_character(text: str) -> None:
    whole = well_formed(text)
    assert not any("\ud800" <= c <= "\udfff" for c in whole)
    assert BYTES.decode(BYTES.encode(text)) == whole
    assert vocabulary(whole).decode(vocabulary(whole).encode(text)) == whole


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc00\ud800", "\ud83dx", "x\ud800\ud801"])
def test_each_lone_surrogate_is_one_replacement_character(text: str) -> None:
    assert well_formed(text) == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def test_ids_are_in_code_point_order_after_the_two_reserved() -> None:
    known = from_counts(counts_of("z😀a\ré\n".encode()))
    assert known.characters == "\n\raz\u00e9😀"
    assert known.encode("\n\raz\u00e9😀?").tolist() == [2, 3, 4, 5, 6, 7, UNKNOWN]
    assert (BOUNDARY, UNKNOWN, RESERVED, len(known)) == (0, 1, 2, 8)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("<|endoftext|>", [0]),
        ("<|endoftext|>\n", [0]),
        ("a\n<|endoftext|>\nb", [3, 2, 0, 4]),
        ("<|endoftext|>\n<|endoftext|>\n", [0, 0]),
        ("\n<|endoftext|>\n\n", [2, 0, 2]),
    ],
)
def test_a_separator_line_is_one_id(text: str, ids: list[int]) -> None:
    known = vocabulary("\nab")
    assert known.encode(text).tolist() == ids
    assert known.decode(ids).removesuffix("\n") == text.removesuffix("\n")
    assert BYTES.encode(text).tolist().count(BOUNDARY) == ids.count(BOUNDARY)


@pytest.mark.parametrize("text", ["a<|endoftext|>\n", "<|endoftext|>b\n", " <|endoftext|>", "<|endoftext|>\r\n"])
def test_a_separator_inside_a_line_is_text(text: str) -> None:
    known = vocabulary(text)
    assert story_lines(text) == [text]
    assert len(known.encode(text)) == len(text)
    assert BOUNDARY not in known.encode(text)


@given(STORIES, st.booleans())
def test_a_block_is_encoded_as_character_by_character(stories: list[str], complete: bool) -> None:
    text = "".join(stories)
    known = vocabulary(text if complete else "a\n😀")
    id_of = {c: k for k, c in enumerate(known.characters, start=RESERVED)}
    naive: list[int] = []
    for k, story in enumerate(stories):
        naive += [BOUNDARY] * (k > 0) + [id_of.get(c, UNKNOWN) for c in story]
    assert known.encode_block(block_of(stories)).tolist() == naive


@given(STORIES)
def test_a_large_vocabulary_encodes_alike(stories: list[str]) -> None:
    known = vocabulary("".join(map(chr, range(1000))) + "“😀")
    id_of = {c: k for k, c in enumerate(known.characters, start=RESERVED)}
    naive = [BOUNDARY if c is None else id_of.get(c, UNKNOWN) for s in stories for c in [None, *s]][1:]
    ids = known.encode_block(block_of(stories))
    assert ids.dtype == np.uint16
    assert ids.tolist() == naive


@given(STORIES)
def test_bytes_are_encoded_as_bytes(stories: list[str]) -> None:
    ids = BYTES.encode_block(block_of(stories))
    assert ids.tolist() == [0 if b == 0xFF else b + RESERVED for b in block_of(stories)]
    assert ids.dtype == np.uint16


def test_an_empty_block_is_no_ids() -> None:
    for known in (BYTES, vocabulary("a"), vocabulary("aé")):
        assert known.encode_block(b"").tolist() == []
        assert known.encode("").dtype == known.dtype


def test_ids_are_bytes_as_long_as_they_fit() -> None:
    assert Vocabulary("".join(map(chr, range(254)))).dtype == np.uint8
    assert Vocabulary("".join(map(chr, range(255)))).dtype == np.uint16


def test_encoded_ids_can_be_changed_in_place() -> None:
    ids = vocabulary("ab").encode_block(b"ab")
    ids[0] = 3
    assert ids.tolist() == [3, 3]


@given(STORIES)
def test_counts_are_those_of_a_counter(stories: list[str]) -> None:
    counts = counts_of(block_of(stories))
    text = "".join(stories)
    assert {chr(k): int(counts[k]) for k in np.flatnonzero(counts)} == Counter(text)
    assert from_counts(counts) == vocabulary(text)


def test_counts_of_blocks_add_up() -> None:
    counts = counts_of("aé\n".encode())
    add_counts(counts, BOUNDARY_BYTE + "é😀".encode())
    assert {chr(k): int(counts[k]) for k in np.flatnonzero(counts)} == {"a": 1, "é": 2, "\n": 1, "😀": 1}


@given(WHOLE_TEXT.filter(bool))
def test_utf8_sizes_add_up_to_the_text(text: str) -> None:
    known = vocabulary(text)
    assert known.utf8_sizes[known.encode(text)].sum() == len(text.encode())
    assert BYTES.utf8_sizes[BYTES.encode(text)].sum() == len(text.encode())
    assert known.utf8_sizes[[BOUNDARY, UNKNOWN]].tolist() == [0, 3]


def test_the_text_of_single_ids() -> None:
    known = vocabulary("aé")
    assert [known.text_of(k) for k in range(4)] == [SEPARATOR + "\n", "\ufffd", "a", "é"]
    assert [BYTES.text_of(k) for k in (0, 1, 99, 200)] == [SEPARATOR + "\n", "\ufffd", "a", "\ufffd"]
    assert BYTES.decode([0, 1, 99, 0xC3 + RESERVED]) == SEPARATOR + "\n\ufffda\ufffd"


@given(WHOLE_TEXT.filter(bool))
def test_json_round_trip_in_ascii(text: str) -> None:
    known = vocabulary(text)
    assert known.to_json().isascii()
    assert Vocabulary.from_json(known.to_json()) == known
    assert Vocabulary.from_json(BYTES.to_json()) == BYTES


GOOD = {"format": 1, "kind": "characters", "characters": ["a", "b"]}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("", "not the JSON"),
        ("[]", "not the JSON"),
        ("null", "not the JSON"),
        ("3", "not the JSON"),
        ('"text"', "not the JSON"),
        ('{"kind": "characters"', "not the JSON"),
        ("[" * 100_000, "not the JSON"),
        ({"characters": None}, "not a list of single characters"),
        ({"characters": "ab"}, "not a list of single characters"),
        ({"characters": ["a", 3]}, "not a list of single characters"),
        ({"characters": ["a", "bc"]}, "not a list of single characters"),
        ({"characters": ["a", ""]}, "not a list of single characters"),
        ({"characters": []}, "0 'characters'"),
        ({"characters": ["b", "a"]}, "code point order"),
        ({"characters": ["a", "a"]}, "code point order"),
        ({"characters": ["a", "\ud800"]}, "surrogate"),
        ({"kind": "words"}, "'words'"),
        ({"kind": ["characters"]}, "characters"),
        ({"kind": "bytes"}, "code point order"),
        ({"format": 2}, "format 2"),
        ({"format": None}, "format None"),
    ],
)
def test_a_damaged_vocabulary_is_refused(damage: str | dict[str, object], reason: str) -> None:
    text = damage if isinstance(damage, str) else json.dumps({**GOOD, **damage})
    with pytest.raises(VocabularyError, match=reason):
        Vocabulary.from_json(text)
    assert Vocabulary.from_json(json.dumps(GOOD)).characters == "ab"


@pytest.mark.parametrize("missing", list(GOOD))
def test_a_vocabulary_without_one_of_its_keys_is_refused(missing: str) -> None:
    with pytest.raises(VocabularyError, match="not the JSON"):
        Vocabulary.from_json(json.dumps({key: value for key, value in GOOD.items() if key != missing}))


def too_many() -> set[str]:
    return {chr(0x20000 + k) for k in range(LARGEST - RESERVED)}


def test_a_vocabulary_holds_no_more_than_fits_in_its_ids() -> None:
    full = Vocabulary("".join(sorted(too_many())))
    assert len(full) == LARGEST
    assert int(full.encode(full.characters[-1])[0]) == LARGEST - 1
    assert Vocabulary.from_json(full.to_json()) == full
    counts = np.zeros(CODE_POINTS, dtype=np.int64)
    counts[[ord(c) for c in too_many()]] = 1
    assert from_counts(counts) == full
    counts[ord("a")] = 1
    with pytest.raises(VocabularyError, match=r"65,535 different characters.*--vocab bytes"):
        from_counts(counts)
    with pytest.raises(VocabularyError, match="65,535 different characters"):
        full.merge(Vocabulary("a"))


def test_merged_vocabularies_hold_both_in_order() -> None:
    assert Vocabulary("bd").merge(Vocabulary("acd")) == Vocabulary("abcd")
    assert BYTES.merge(BYTES) == BYTES
    for one, other in ((BYTES, Vocabulary("a")), (Vocabulary("a"), BYTES)):
        with pytest.raises(VocabularyError, match="cannot take"):
            one.merge(other)


@pytest.mark.parametrize(
    ("known", "stranger", "closest"),
    [
        ("aeiou", "é", "e"),
        ("AEIOU", "é", "E"),
        ("aeiou", "É", "e"),
        ("ab\"'-.", "“", '"'),
        ("ab\"'-.", "’", "'"),
        ("ab\"'-.", "—", "-"),
        ("ab\"'-.", "…", "."),
        ("a59", "7", "5"),
        ("a5.", "٣", "5"),
        ("ab", "Q", "a"),
        (" \na", "\t", " "),
        ("\na", "\r", "\n"),
        ("\na", "\u2028", "\n"),
        ("xyz", "😀", "z"),
        ("FIx", "ﬁ", "F"),
        ("S", "ß", "S"),
    ],
)
def test_the_closest_known_character(known: str, stranger: str, closest: str) -> None:
    assert vocabulary(known).closest(stranger) == closest


LINE_ENDS = "\n\v\f\r\x85\u2028\u2029"


def is_seen(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp")


@given(
    st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from("\u200d\u00ad\ufeff\x07\t😀\U0001f9d1")),
    st.text(st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from("\n\t\0\u200dab "))),
)
def test_the_closest_is_a_known_character_that_is_seen_or_a_line_end_for_one(stranger: str, known: str) -> None:
    closest = vocabulary(known).closest(stranger)
    if stranger in known:
        assert closest == stranger
    elif not closest:
        assert not any(map(is_seen, known))
    else:
        assert closest in known
        assert is_seen(closest) or (stranger in LINE_ENDS and closest == "\n")


def test_a_prompt_error_names_each_unknown_character_its_position_and_the_closest_known() -> None:
    with pytest.raises(UnknownCharacterError) as error:
        vocabulary("abe\n").prompt_ids("ab\u00e9b😀\u00e9")
    message = str(error.value)
    assert "'é' (U+00E9) at position 2, closest known 'e'" in message
    assert "'😀' (U+1F600) at position 4, closest known" in message
    assert message.count("U+00E9") == 1
    assert "--unknown replace" in message
    assert "\n" not in message


def test_a_prompt_error_counts_what_it_does_not_list() -> None:
    with pytest.raises(UnknownCharacterError, match=r"'7' .*, and 2 more; write"):
        vocabulary("a").prompt_ids("0123456789")


def test_unknown_characters_are_replaced_or_skipped_on_request() -> None:
    known = vocabulary("abe\n")
    ids, read = known.prompt_ids("\u00e9ab", "replace")
    assert (read, known.decode(ids)) == ("eab", "eab")
    ids, read = known.prompt_ids("\u00e9ab", "skip")
    assert (read, known.decode(ids)) == ("ab", "ab")
    assert known.prompt_ids("\u00e9", "skip") == ([], "")


@given(ANY_TEXT)
def test_a_prompt_in_bytes_knows_everything(prompt: str) -> None:
    ids, read = BYTES.prompt_ids(prompt)
    assert BYTES.decode(ids) == read
    assert UNKNOWN not in ids


@given(st.text(st.sampled_from("ab\né<|")), st.sampled_from(["replace", "skip"]))
def test_what_is_read_of_a_prompt_is_what_its_ids_say(prompt: str, unknown: str) -> None:
    known = vocabulary("abe\n")
    ids, read = known.prompt_ids(f"{prompt}\n{SEPARATOR}\n{prompt}", unknown)  # type: ignore[arg-type]
    assert known.decode(ids) == read
    assert UNKNOWN not in ids
    assert ids.count(BOUNDARY) == 1


def test_separator_lines_of_a_prompt_are_known_whatever_the_vocabulary() -> None:
    known = vocabulary("ab\n")
    prompt = f"a\n{SEPARATOR}\nb"
    assert known.prompt_ids(prompt) == ([3, 2, BOUNDARY, 4], prompt)
    for unknown in ("replace", "skip"):
        ids, read = known.prompt_ids(f"{prompt}<", unknown)  # type: ignore[arg-type]
        assert ids[:4] == [3, 2, BOUNDARY, 4]
        assert read.startswith(prompt)
    with pytest.raises(UnknownCharacterError, match=r"'<' \(U\+003C\) at position 17,"):
        known.prompt_ids(f"{prompt}<")


CAFÉ, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"  # the same word


@pytest.mark.parametrize(
    ("known", "prompt", "read"),
    [
        ("ab\n", "a\r\nb\ra", "a\nb\na"),
        ("ab\n", "\ufeffa\nb", "a\nb"),
        ("ab\n", f"\ufeff{SEPARATOR}\r\na\r\n{SEPARATOR}", f"{SEPARATOR}\na\n{SEPARATOR}\n"),
        ("Café", DECOMPOSED, CAFÉ),
        ("Cafe\u0301", CAFÉ, DECOMPOSED),
        ("Cafe\u0301é", CAFÉ + DECOMPOSED, CAFÉ + DECOMPOSED),  # what is known as it is written stays so
        ("ế", "e\u0302\u0301", "ế"),
        ("ế", "ê\u0301", "ế"),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "한국"),
        ("\u212b", "\u212b", "\u212b"),
        ("Å", "\u212b", "Å"),  # the sign of the unit
        ("ab", "a\u200db\u00ad\u200c\u2060\ufeff\ufe0f", "ab"),
        ("a\u200d", "a\u200d\u00ad", "a\u200d"),
        ("fil", "ﬁﬂ", "fifl"),
        ("filﬁ", "ﬁﬂ", "ﬁfl"),
        ("sSß", "ß", "ß"),
        ("sS", "ßẞ", "ssSS"),
        ("Ab 1", "Ａ\u00a0ｂ\u2009１", "A b 1"),
        ("a-", "a\u2011a", "a-a"),
    ],
)
def test_a_prompt_is_read_by_the_rules_of_a_text_in_the_characters_that_the_model_knows(
    known: str, prompt: str, read: str
) -> None:
    letters = vocabulary(known)
    for unknown in ("error", "replace", "skip"):
        assert letters.prompt_ids(prompt, unknown) == (letters.encode(read).tolist(), read)  # type: ignore[arg-type]


@given(st.text(st.sampled_from("ab\r\n\ufeff<|é")))
def test_a_prompt_is_read_as_the_same_text_in_a_file(prompt: str) -> None:
    prompt = prompt.replace("<", f"\n{SEPARATOR}\r\n")
    known = vocabulary("ab\n\ufeff<|é")
    read = b"".join(normalise([prompt.encode()], "prompt"))
    assert known.prompt_ids(prompt)[0] == known.encode_block(read).tolist()
    assert BYTES.prompt_ids(prompt)[0] == BYTES.encode_block(read).tolist()


@pytest.mark.parametrize(
    ("known", "prompt", "replaced", "skipped"),
    [
        ("FIx", "ﬁx", "FIx", "x"),
        ("S", "ß", "SS", ""),
        (".a", "a…", "a...", "a"),
        ("abe", "e\u0301", "e", "e"),
        ("a b", "a\r\nb", "a b", "ab"),
        ("ab\n", "a\u2028b", "a\nb", "ab"),
        ("ab", "\u200d日a", "ba", "a"),
    ],
)
def test_an_unknown_character_is_replaced_by_what_it_is_made_of_or_the_closest(
    known: str, prompt: str, replaced: str, skipped: str
) -> None:
    letters = vocabulary(known)
    assert letters.prompt_ids(prompt, "replace")[1] == replaced
    assert letters.prompt_ids(prompt, "skip")[1] == skipped


@pytest.mark.parametrize("prompt", ["\ufeffa\r\nb\r\ré日", f"{SEPARATOR}\r\n{SEPARATOR}\n\u200d日", "e\u0301日"])
def test_a_position_is_that_in_the_prompt_as_it_was_given(prompt: str) -> None:
    with pytest.raises(UnknownCharacterError, match=rf"'日' \(U\+65E5\) at position {prompt.index('日')}, closest"):
        vocabulary("abé\n").prompt_ids(prompt)


def test_an_accent_that_nothing_is_like_is_named_too() -> None:
    with pytest.raises(UnknownCharacterError, match=r"\(U\+0301\) at position 1, with none like it that it knows;"):
        vocabulary("ab").prompt_ids("a\u0301")


def test_a_long_prompt_asks_once_for_each_character(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = Vocabulary.replacement
    monkeypatch.setattr(Vocabulary, "replacement", lambda self, c: asked.append(c) or original(self, c))
    assert vocabulary("ab").prompt_ids("日本" * 5000, "replace")[1] == "bb" * 5000
    assert asked == ["日", "本"]


def test_the_reserved_names_are_in_the_file_for_its_reader() -> None:
    assert json.loads(BYTES.to_json())["reserved"] == [SEPARATOR, "<|unknown|>"]
