"""The parts of the server that need no network: cutting at stop texts, the outbox, the pace, the engine's order."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storycell.data.vocab import BYTES, SEPARATOR, Vocabulary
from storycell.types import RESERVED

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

from storycell.generation.slicing import Pace
from storycell.generation.text_stream import Pieces
from storycell.server.engine import LEAST, MOST, SLICE_S, StreamQueue

LETTERS = Vocabulary("abc")


def one_by_one(text: str, stops: list[str]) -> str:
    """The definition: characters come one at a time, and the first stop that is complete ends the text before it."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(
    st.text("abc", max_size=40),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_a_text_with_stops_does_not_depend_on_its_slices(text: str, stops: list[str], sizes: list[int]) -> None:
    pieces, shown, at, k = Pieces(LETTERS, stops), "", 0, 0
    ids = LETTERS.encode(text).tolist()
    while at < len(ids) and not pieces.stopped:
        shown += pieces.take(ids[at : at + sizes[k % len(sizes)]]).text
        assert pieces.covered == len(shown)
        at += sizes[k % len(sizes)]
        k += 1
    shown += pieces.rest().text
    assert shown == one_by_one(text, stops)
    assert pieces.covered == len(shown)


def in_slices(pieces: Pieces, ids: list[int], size: int) -> tuple[str, list[int]]:
    """All that is shown of some ids, and where each of them stands."""
    shown = [pieces.take(ids[at : at + size]) for at in range(0, len(ids), size)]
    shown.append(pieces.rest())
    for before, after in pairwise(shown):
        assert after.start == before.start + len(before.text)
    return "".join(one.text for one in shown), [at for one in shown for at in one.offsets]


@given(st.text(max_size=12), st.integers(1, 5))
def test_bytes_become_characters_when_they_are_whole_and_each_tells_where_its_character_stands(
    text: str, size: int
) -> None:
    pieces, ids = Pieces(BYTES), BYTES.encode(text).tolist()
    shown, offsets = in_slices(pieces, ids, size)
    assert shown == text
    assert offsets == [at for at, character in enumerate(text) for _ in character.encode()]
    assert pieces.covered == len(ids)


@given(st.binary(max_size=12), st.integers(1, 5))
def test_bytes_that_are_no_characters_are_shown_and_stand_somewhere_too(drawn: bytes, size: int) -> None:
    pieces, ids = Pieces(BYTES), [byte + RESERVED for byte in drawn]
    shown, offsets = in_slices(pieces, ids, size)
    assert shown == drawn.decode("utf-8", "replace")
    assert offsets == sorted(offsets)
    assert len(offsets) == len(ids)
    assert set(offsets) == set(range(len(shown)))


@given(st.text("aé€😀", max_size=20), st.lists(st.text("aé€😀", min_size=1, max_size=3), max_size=3), st.integers(1, 5))
def test_of_a_stop_text_of_several_bytes_none_is_covered(text: str, stops: list[str], size: int) -> None:
    pieces, ids = Pieces(BYTES, stops), BYTES.encode(text).tolist()
    shown, offsets = "", []
    for at in range(0, len(ids), size):
        if not pieces.stopped:
            part = pieces.take(ids[at : at + size])
            shown, offsets = shown + part.text, offsets + part.offsets
    part = pieces.rest()
    shown, offsets = shown + part.text, offsets + part.offsets
    assert shown == one_by_one(text, stops)
    assert offsets == [at for at, character in enumerate(shown) for _ in character.encode()]
    assert pieces.covered == len(shown.encode())


@pytest.mark.parametrize("vocab", [LETTERS, BYTES], ids=["characters", "bytes"])
@pytest.mark.parametrize("stops", [[], ["zz"]])
def test_a_boundary_is_a_separator_line_and_stands_at_its_beginning(vocab: Vocabulary, stops: list[str]) -> None:
    text = f"ab\n{SEPARATOR}\nc" if vocab is BYTES else f"{SEPARATOR}\nc"
    before = text.index(SEPARATOR)
    shown, offsets = in_slices(Pieces(vocab, stops), vocab.encode(text).tolist(), 2)
    assert shown == text
    assert offsets == [*range(before), before, len(text) - 1]


def test_a_full_outbox_says_so_until_its_reader_has_caught_up() -> None:
    async def scene() -> None:
        woken: list[bool] = []
        box: StreamQueue[str] = StreamQueue(10, lambda: woken.append(True))
        for item in ("first", "second"):
            box.put_in += 6
            box.put(item, 6)
        assert box.full
        assert await box.take() == "first"
        assert (box.full, woken) == (False, [True])
        box.fail(ValueError("broken"))
        assert await box.take() == "second"
        with pytest.raises(ValueError, match="broken"):
            await box.take()

    asyncio.run(scene())


def test_slices_are_as_long_as_fits_into_their_time_within_bounds() -> None:
    pace = Pace(SLICE_S, LEAST, MOST)
    for _ in range(20):
        pace.learn(200, 10, 200 * 10 * 2e-5)
    assert pace.chars(200) == int(SLICE_S / (200 * 2e-5))
    assert pace.chars(1) == MOST
    assert pace.chars(100_000) == LEAST
