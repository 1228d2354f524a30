"""Token ids -> chunks: what a step reads depends on its number alone, and nothing is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storycell.config import TrainSettings
from storycell.data.batches import Streams, Windows, make
from storycell.errors import CorpusError

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 7), st.integers(1, 9)).filter(lambda s: s[0] >= s[2] + 2)


def ring(N: int) -> np.ndarray:
    """Ids that are all different, so that a place can be told from them."""
    return np.arange(N, dtype=np.uint16)


@given(SIZES, st.integers(0, 1000), st.integers(0, 2**31))
def test_targets_are_inputs_one_later_in_the_ring(sizes: tuple[int, int, int], step: int, seed: int) -> None:
    N, B, T = sizes
    for batches in (Streams(ring(N), B, T), Windows(ring(N), B, T, seed)):
        inputs, targets = batches.at(step)
        assert inputs.shape == targets.shape == (B, T)
        assert inputs.dtype == targets.dtype == np.int64
        assert np.array_equal(targets, (inputs + 1) % N)
        assert np.array_equal(inputs[:, 1:], targets[:, :-1])


@given(SIZES, st.integers(0, 1000))
def test_a_stream_goes_on_exactly_where_it_stopped(sizes: tuple[int, int, int], step: int) -> None:
    N, B, T = sizes
    streams = Streams(ring(N), B, T)
    assert np.array_equal(streams.at(step)[1][:, -1], streams.at(step + 1)[0][:, 0])
    assert streams.carries_state


@given(SIZES, st.integers(0, 1000), st.integers(0, 12))
def test_what_stands_before_a_chunk_is_the_text_before_it(sizes: tuple[int, int, int], step: int, count: int) -> None:
    N, B, T = sizes
    streams = Streams(ring(N), B, T)
    before, first = streams.before(step, count), streams.at(step)[0][:, :1]
    assert before.dtype == np.int64
    assert np.array_equal(before, (first + np.arange(-count, 0)) % N)
    assert np.array_equal(streams.before(step, count, slice(0, B, 2)), before[::2])
    assert Windows(ring(N), B, T, 1).before(step, count).shape == (B, 0)


@given(SIZES)
def test_an_epoch_covers_every_character(sizes: tuple[int, int, int]) -> None:
    N, B, T = sizes
    streams = Streams(ring(N), B, T)
    steps = -(-N // (B * T)) + (N % B > 0)
    seen = np.concatenate([streams.at(step)[1].flatten() for step in range(steps)])
    assert set(seen.tolist()) == set(range(N))


@given(SIZES)
def test_streams_start_evenly_spread(sizes: tuple[int, int, int]) -> None:
    N, B, T = sizes
    starts = Streams(ring(N), B, T).at(0)[0][:, 0].tolist()
    gaps = [b - a for a, b in zip(starts, [*starts[1:], N], strict=True)]
    assert starts[0] == 0
    assert set(gaps) <= {N // B, -(-N // B)}


def test_the_ring_closes_with_its_beginning() -> None:
    inputs, targets = Streams(ring(10), 2, 4).at(1)
    assert inputs.tolist() == [[4, 5, 6, 7], [9, 0, 1, 2]]
    assert targets.tolist() == [[5, 6, 7, 8], [0, 1, 2, 3]]
    inputs, _ = Streams(ring(10), 1, 4).at(10**12 + 1)
    assert inputs.tolist() == [[4, 5, 6, 7]]


@given(SIZES, st.integers(0, 1000), st.integers(0, 2**63 - 1))
def test_windows_are_a_pure_function_of_seed_and_step(sizes: tuple[int, int, int], step: int, seed: int) -> None:
    N, B, T = sizes
    one, other = Windows(ring(N), B, T, seed), Windows(ring(N), B, T, seed)
    other.at(step + 1)
    assert np.array_equal(one.at(step)[0], other.at(step)[0])
    assert not one.carries_state


def test_windows_differ_by_step_and_by_seed_and_reach_every_place() -> None:
    windows, others = Windows(ring(50), 8, 5, seed=1), Windows(ring(50), 8, 5, seed=2)
    starts = [tuple(windows.at(step)[0][:, 0].tolist()) for step in range(100)]
    assert len(set(starts)) == 100
    assert not set(starts) & {tuple(others.at(step)[0][:, 0].tolist()) for step in range(100)}
    places = np.bincount(np.array(starts).flatten(), minlength=50)
    assert places.min() > 0
    assert places.max() < 40  # 16 are expected; 40 are six deviations away


def test_a_batch_can_be_changed_without_changing_the_text() -> None:
    ids = ring(20)
    Streams(ids, 2, 4).at(0)[0][:] = 0
    assert ids.tolist() == list(range(20))


def settings(**changes: object) -> TrainSettings:
    return TrainSettings.model_validate({"streams": 8, "chunk": 10, **changes})


@pytest.mark.parametrize(("N", "B"), [(1000, 8), (88, 8), (87, 7), (22, 2), (21, 1), (12, 1)])
def test_a_short_text_gets_fewer_streams(N: int, B: int) -> None:
    batches = make(ring(N), settings())
    assert isinstance(batches, Streams)
    assert (batches.B, batches.T) == (B, 10)
    assert batches.at(3)[0].shape == (B, 10)


@pytest.mark.parametrize("batching", ["streams", "windows"])
@pytest.mark.parametrize("N", [1, 2, 11])
def test_a_text_shorter_than_a_chunk_is_refused(batching: str, N: int) -> None:
    with pytest.raises(CorpusError, match=rf"has {N - 1} characters, fewer than one chunk of 10 .* smaller --chunk"):
        make(ring(N), settings(batching=batching))


def test_windows_are_made_on_request_from_the_seed() -> None:
    batches = make(ring(12), settings(batching="windows", seed=5))
    assert np.array_equal(batches.at(7)[0], Windows(ring(12), 8, 10, seed=5).at(7)[0])
