"""The parts of the server that need no network: cutting at stop texts, the outbox, the pace, the engine's order."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storycell.vocab import BYTES, Vocabulary

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

from storycell.pace import Pace
from storycell.server.engine import LEAST, MOST, SLICE_S
from storycell.server.outbox import Outbox
from storycell.text_stream import Pieces

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
        shown += pieces.take(ids[at : at + sizes[k % len(sizes)]])
        assert pieces.covered == len(shown)
        at += sizes[k % len(sizes)]
        k += 1
    shown += pieces.rest()
    assert shown == one_by_one(text, stops)
    assert pieces.covered == len(shown)


@given(st.text(max_size=12), st.integers(1, 5))
def test_bytes_become_characters_when_they_are_whole(text: str, size: int) -> None:
    pieces, ids = Pieces(BYTES), BYTES.encode(text).tolist()
    shown = "".join(pieces.take(ids[at : at + size]) for at in range(0, len(ids), size)) + pieces.rest()
    assert shown == BYTES.decode(ids)
    assert pieces.covered == len(ids)


def test_a_full_outbox_says_so_until_its_reader_has_caught_up() -> None:
    async def scene() -> None:
        woken: list[bool] = []
        box: Outbox[str] = Outbox(10, lambda: woken.append(True))
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
