"""The native kernels through their binding: any sizes, strides and numbers; refused, or what the reference computes.

An input is read as sizes, then ids (which may lie outside the vocabulary), then float32 numbers of every kind. What
the kernels do beyond an array's end is for the sanitizers to see (`tests/native/test_sanitizers.py`); here it would
show as a crash.
"""

import struct

import torch

from storycell.nn.backends import choice
from storycell.nn.backends.backend import Network
from storycell.nn.cells.registry import get_cell

CELLS = ("lstm", "gru", "rnn")
LARGE = 3.0  # beyond that, rounding is amplified from step to step and proves nothing
FP32 = 1e-3  # of numbers up to LARGE: sums of at most 64 float32 products, in another order, through two layers
BF16 = 0.1  # products round to 8 bits
SEEDS = [
    bytes([0, 0, 9, 4, 8, 1, 3, 5, 0]) + bytes(range(30)),
    bytes([1, 1, 40, 0, 17, 2, 1, 1, 1]) + struct.pack("<8f", 1, -1, 0.5, 2, float("inf"), float("nan"), 1e30, -0.0),
    bytes([2, 0, 2, 7, 33, 1, 16, 9, 2]) + bytes(200),
]
_NATIVE, _REFERENCE = choice.choose_backend("native", "lstm")[0], choice.choose_backend("reference", "lstm")[0]


def one_input(data: bytes) -> None:
    """One pass over the kernels, forward and backward, and the same over the reference."""
    if len(data) < 9:
        return
    cell, bf16 = CELLS[data[0] % 3], data[1] % 2 == 1
    V, D, H, L, B, T = (1 + byte % most for byte, most in zip(data[2:8], (40, 20, 40, 2, 17, 9), strict=True))
    numbers = _numbers(data[9:])
    network = _network(cell, V, D, H, L, numbers, bf16)
    ids = _ids(data[9:], V, B, T, data[8])
    targets = ids.roll(1, 1) if data[8] & 2 else ids.flip(0)
    state = {name: torch.zeros(L, B, H) for name in get_cell(cell).state_names}
    outside = bool(((ids < 0) | (ids >= V)).any())
    try:
        nats, last = _NATIVE.mean_nats(network, ids, targets, state)
    except IndexError:
        assert outside, "an id inside the vocabulary is refused"
        return
    assert not outside, "an id outside the vocabulary is taken"
    nats.backward()
    grads = [weight.grad for layer in network.layers for weight in layer.values()]
    assert all(grad is not None and grad.shape == w.shape for grad, w in zip(grads, _weights(network), strict=True))
    everything = [network.embedding, *_weights(network), network.output_weight, network.output_bias]
    if all(tensor is not None and float(tensor.detach().abs().max()) < LARGE for tensor in everything):  # no nan either
        expected, final = _REFERENCE.mean_nats(_plain(network), ids, targets, state)
        tolerance = BF16 if bf16 else FP32
        assert abs(nats.item() - expected.item()) < tolerance * (1 + abs(expected.item()))
        for name in state:
            assert (last[name] - final[name]).abs().max().item() < tolerance * T


def _numbers(data: bytes) -> list[float]:
    found = [value for (value,) in struct.iter_unpack("<f", data[: len(data) // 4 * 4])]
    return found or [0.5, -0.25, 0.125]


def _network(cell: str, V: int, D: int, H: int, L: int, numbers: list[float], bf16: bool) -> Network:
    taken = 0

    def tensor(*shape: int) -> torch.Tensor:
        nonlocal taken
        size = torch.Size(shape).numel()
        flat = torch.tensor([numbers[(taken + k) % len(numbers)] for k in range(min(size, 97))])
        taken += 5
        filled = flat.repeat(size // len(flat) + 1)[:size]
        return (filled.reshape(shape) / (1 if H < 8 else H**0.5)).requires_grad_()

    shapes = get_cell(cell).shapes
    layers = [{n: tensor(*s) for n, s in shapes(D if k == 0 else H, H, bias=True).items()} for k in range(L)]
    return Network(cell, tensor(V, D), layers, tensor(V, H), tensor(V), dropout=0.0, bf16=bf16)


def _weights(network: Network) -> list[torch.Tensor]:
    return [weight for layer in network.layers for weight in layer.values()]


def _plain(network: Network) -> Network:
    return Network(
        network.cell, network.embedding, network.layers, network.output_weight, network.output_bias, 0.0, bf16=False
    )


def _ids(data: bytes, V: int, B: int, T: int, how: int) -> torch.Tensor:
    """`[B T]`, with strides of a slice or of a transposed array; outside the vocabulary in one of four cases."""
    values = torch.tensor(list(data or b"\0"), dtype=torch.int64).repeat(2 * B * T // max(1, len(data)) + 1)
    values = values - 3 if how & 12 == 12 else values % V
    wide = values[: B * T].reshape(T, B).t() if how & 1 else values[: B * T].reshape(B, T)
    return wide
