"""Texts from the pieces of several streams."""

import tracemalloc
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from storycell.generation import text_stream
from storycell.generation.text_stream import gather


@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=3)), max_size=40), st.integers(1, 5))
def test_each_text_is_its_pieces_in_their_order(pieces: list[tuple[int, str]], joined: int) -> None:
    before = text_stream._JOINED
    try:
        text_stream._JOINED = joined
        assert gather(iter(pieces), 3) == ["".join(piece for k, piece in pieces if k == n) for n in range(3)]
    finally:
        text_stream._JOINED = before


def test_a_long_text_takes_little_more_memory_than_its_characters() -> None:
    chars = 200_000

    def pieces() -> Iterator[tuple[int, str]]:
        yield from ((0, "x") for _ in range(chars))

    tracemalloc.start()
    try:
        assert gather(pieces(), 1) == ["x" * chars]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * chars  # the text, and its parts while they are joined
