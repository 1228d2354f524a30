"""Matrices in bytes: what is read back, and that nothing else is touched."""

import numpy as np
import pytest

from storycell import context, quantized
from storycell.quantized import BYTE, Scaled


def test_a_matrix_is_within_half_a_step_of_what_it_was() -> None:
    matrix = np.random.default_rng(1).normal(0, 3, (50, 40)).astype(np.float32)
    scaled = Scaled.of(matrix, BYTE)
    assert (np.abs(scaled.matrix() - matrix) <= scaled.scales[:, None] * 0.5001).all()
    assert (np.abs(scaled.whole).max(1) == BYTE).all()


def test_what_is_in_float16_is_in_bytes_and_is_found_again() -> None:
    draws = np.random.default_rng(2)
    spread = draws.normal(0, 1, (4000, 30)) * np.exp(draws.normal(0, 2, (4000, 1)))
    edges = np.nextafter(np.float32(125.7), np.float32(0)) * np.linspace(0.5, 1, 3001)[:, None] * [1, -0.3, 0.001]
    for matrix in (spread.astype(np.float32), edges.astype(np.float32)):
        exact, fitting = Scaled.of(matrix, BYTE), Scaled.in_float16(matrix)
        assert (fitting.scales >= exact.scales).all()
        assert (fitting.scales <= exact.scales * np.float32(1.27)).all()
        assert (np.abs(fitting.matrix() - matrix) <= fitting.scales[:, None] * 0.7001).all()
        assert (fitting.matrix().astype(np.float16) == fitting.matrix()).all()
        assert not (exact.matrix().astype(np.float16) == exact.matrix()).all()
        assert (Scaled.in_float16(fitting.matrix()).matrix() == fitting.matrix()).all()
        for first in (exact, fitting):
            stored = quantized.in_bytes({context.TABLE: first.matrix()})
            assert quantized.from_bytes(stored)[context.TABLE] == pytest.approx(first.matrix(), rel=1e-6)
        assert (quantized.from_bytes(stored)[context.TABLE] == fitting.matrix()).all()


def test_a_row_of_zeros_and_numbers_that_fit_stay_as_they_are() -> None:
    matrix = np.array([[0, 0, 0], [0.5, -31.75, 31.25], [-0.0, 2.0**-30, 0]], np.float32)
    assert Scaled.of(matrix, BYTE).matrix() == pytest.approx(matrix, rel=1e-6)
    assert Scaled.in_float16(matrix[:2]).matrix()[0].tolist() == [0, 0, 0]


def test_only_the_named_matrices_are_stored_in_bytes() -> None:
    draws = np.random.default_rng(3)
    names = ("embedding.weight", "recurrent.weight_hh_l0", context.TABLE)
    weights = {name: draws.normal(size=(6, 4)).astype(np.float32) for name in names}
    weights["output.bias"] = draws.normal(size=6).astype(np.float32)
    stored = quantized.in_bytes(weights)
    assert [name for name, array in stored.items() if array.dtype == np.int8] == [context.TABLE]
    assert stored["context_table.scale"].shape == (6,)
    stored = quantized.in_bytes(weights, names)
    assert {name for name, array in stored.items() if array.dtype == np.int8} == set(names)
    assert {"embedding.scale", "recurrent.scale_hh_l0", "context_table.scale"} < stored.keys()
    back = quantized.from_bytes(stored)
    assert back.keys() == weights.keys()
    assert back["output.bias"] is weights["output.bias"]
    for name in names:
        assert back[name].dtype == np.float32
        assert back[name] == pytest.approx(weights[name], abs=float(np.abs(weights[name]).max()) / 200)


def test_bytes_without_their_scales_are_left_to_whoever_checks_shapes() -> None:
    whole = np.ones((3, 2), np.int8)
    for scales in ({}, {"embedding.scale": np.ones(2, np.float32)}):
        assert quantized.from_bytes({"embedding.weight": whole, **scales}).keys() == {"embedding.weight", *scales}
