"""The engine's reading and writing through its binding: any sizes, ids, states, choices and weights; refused, or right.

An input is read as sizes and choices, then as ids (which may lie outside the vocabulary), then as float32 numbers of
every kind. What must hold: no error but those that are promised; a text of characters that exist; its logits are those
that reading the text gives.
"""

import struct

import numpy as np

from storycell.context import PAST
from storycell.engine import EngineNetwork
from storycell.engine.cells import CELLS, weight_shapes
from storycell.engine.inference import context_rows
from storycell.language_model import Choice

SEEDS = [
    bytes([0, 9, 4, 8, 1, 3, 5, 0, 1, 0]) + struct.pack("<3dq", 0.8, 1.0, 0.0, 0) + bytes(range(30)),
    bytes([1, 40, 0, 17, 2, 1, 1, 1, 0, 3]) + struct.pack("<3dq", 1.5, 0.5, 0.1, 3) + struct.pack("<4f", 1, -1, 0.5, 2),
    bytes([2, 1, 7, 33, 1, 16, 9, 2, 1, 2]) + struct.pack("<3dq", float("inf"), 2.0, -1.0, -(2**63)) + bytes(200),
    bytes([0, 5, 2, 3, 1, 2, 4, 0, 0, 1])
    + struct.pack("<3dq", 1e-300, float("nan"), float("nan"), 2**63 - 1)
    + struct.pack("<4f", float("inf"), float("nan"), 1e30, -0.0),
    bytes([0, 5, 2, 3, 1, 2, 8, 198, 1, 1]) + struct.pack("<3dq", 0.8, 1.0, 0.0, 0) + bytes([4, 3, 4, 3, 4, 2] * 3),
    bytes([0, 5, 2, 3, 1, 2, 4, 12, 1, 1]) + struct.pack("<3dq", 0.0, 1.0, 0.0, 0) + bytes([250, 251, 252, 7] * 3),
]
_HEAD = struct.Struct("<3dq")


def one_input(data: bytes) -> None:
    """One text read and one written."""
    if len(data) < 10 + _HEAD.size:
        return
    cell, rest = [*CELLS][data[0] % 3], data[10 + _HEAD.size :]
    V, H, L, B, T = (1 + data[k] % most for k, most in ((1, 40), (3, 40), (4, 3), (5, 17), (6, 9)))
    D, how, biases, threads = data[2] % 20, data[7], data[8] % 2 == 1, 1 + data[9] % 3
    ngrams = 2 + data[9] // 3 % 15 if D and how & 64 else 0
    matches = 2 + data[5] % 63 if D and how & 128 else 0
    rows = (1 + data[9] if ngrams else 0) + matches * V
    temperature, top_p, min_p, top_k = _HEAD.unpack_from(data, 10)
    numbers = _numbers(rest)
    weights = {
        name: np.resize(np.roll(numbers, k), shape)
        for k, (name, shape) in enumerate(weight_shapes(V, H, L, cell, D, biases, rows).items())
    }
    network = EngineNetwork(
        weights,
        cell,
        ngrams=ngrams,
        matches=matches,
        generates_in=("fp32", "bf16", "int8")[how % 3],
        threads=threads,
    )
    ids = _ids(rest, V, B, T, how)
    state = {name: np.resize(numbers, zero.shape) for name, zero in network.zero_state(B).items()} if how & 2 else None
    if state and network.context:
        state[PAST] = np.resize(ids % V, (1, B, network.context.memory))
    outside = bool(((ids < 0) | (ids >= V)).any())
    try:
        nats, after = network.nats(ids, np.roll(ids, 1), state)
    except IndexError:
        assert outside, "an id inside the vocabulary is refused"
        return
    assert not outside, "an id outside the vocabulary is taken"
    assert nats.shape == ids.shape
    every = network.states(ids, state)
    if network.context:
        past = network.zero_state(B)[PAST][0] if state is None else state[PAST][0]
        rows = network.context.rows_of(ids, past)
        assert np.array_equal(context_rows(network.context, ids, past), rows), "other rows than the reference's"
        assert np.array_equal(after[PAST][0], network.context.past_after(ids, past)), "another past"
    for name, value in every.items():
        assert np.array_equal(value[:, :, -1], after[name], equal_nan=True), "states differ"
    choices = [Choice(temperature, top_p, min_p, top_k, how & 16 == 16)] * B
    random = np.full((B, 4), 1 + how)
    try:
        written = network.generate(ids[:, -1], after, random, choices, T, logits=True)
    except ValueError:
        assert not temperature > 0, "a good choice is refused"
        return
    except FloatingPointError:
        assert not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e9, "finite logits are refused"
        return
    assert ((written.ids >= 0) & (written.ids < V) & (written.ids != 1)).all(), "a character that cannot be written"
    if network.generates_in == "fp32":
        fed = np.concatenate((ids[:, -1:], written.ids[:, :-1]), axis=1)
        assert np.array_equal(network.logits(fed, after)[0], written.logits, equal_nan=True), "logits differ"


def _numbers(data: bytes) -> np.ndarray:
    found = np.frombuffer(data[: len(data) // 4 * 4], "<f4")
    return found if len(found) else np.array([0.5, -0.25, 0.125], np.float32)


def _ids(data: bytes, V: int, B: int, T: int, how: int) -> np.ndarray:
    """`[B T]`, sometimes as a transposed array; outside the vocabulary in one of four cases."""
    values = np.resize(np.frombuffer(data or b"\0", np.uint8).astype(np.int64), B * T)
    values = values - 3 if how & 12 == 12 else values % V
    return values.reshape(T, B).T if how & 32 else values.reshape(B, T)
