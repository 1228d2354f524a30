"""Drawing text: greedy, filters, seeds, stop strings, streams that do not touch each other."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.instruction_sets import needs_kernel

from storycell.errors import BackendError, NotFiniteError, SettingsError
from storycell.generation.sampler import Draw, Sampling, Stream, advance, read, streams
from storycell.nn.adapter import TorchModel
from storycell.nn.backends.native.generator import Generator
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, UNKNOWN

LOGITS = np.log(np.array([0.05, 0.60, 0.20, 0.10, 0.03, 0.02], dtype=np.float32))  # id 1 is never drawn


def drawn(sampling: Sampling, n: int = 3000) -> np.ndarray:
    draw = Draw(1)
    return np.bincount([sampling.choose(LOGITS, draw) for _ in range(n)], minlength=len(LOGITS)) / n


def test_the_generator_is_xoshiro128plusplus_seeded_by_splitmix64() -> None:
    """The reference implementation's outputs for the state 1 2 3 4, and splitmix64's for the seed 0."""
    draw = Draw(0)
    assert draw.words == [0x7B1DCDAF, 0xE220A839, 0xA1B965F4, 0x6E789E6A]  # 0xE220A8397B1DCDAF 0x6E789E6AA1B965F4
    draw.words = [1, 2, 3, 4]
    assert [round(draw.next() * 2**32) for _ in range(4)] == [641, 1573767, 3222811527, 3517856514]


def test_draws_are_uniform() -> None:
    draw = Draw(42)
    values = np.array([draw.next() for _ in range(20_000)])
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * len(values)))
    assert np.corrcoef(values[1:], values[:-1])[0, 1] == pytest.approx(0, abs=4 / math.sqrt(len(values)))


def test_temperature_one_draws_the_models_probabilities_without_the_unknown() -> None:
    expected = np.exp(LOGITS.astype(float))
    expected[UNKNOWN] = 0
    assert drawn(Sampling(temperature=1.0)) == pytest.approx(expected / expected.sum(), abs=0.04)


def test_a_temperature_sharpens_or_flattens() -> None:
    p = np.exp(LOGITS.astype(float) / 0.5)
    p[UNKNOWN] = 0
    assert drawn(Sampling(temperature=0.5)) == pytest.approx(p / p.sum(), abs=0.04)


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(greedy=True), {2}),
        (Sampling(temperature=0.0), {2}),
        (Sampling(1.0, top_k=1), {2}),
        (Sampling(1.0, top_k=2), {2, 3}),
        (Sampling(1.0, top_k=99), {0, 2, 3, 4, 5}),
        (Sampling(1.0, top_p=0.5), {2}),  # 0.2 / 0.4 is exactly half
        (Sampling(1.0, top_p=0.7), {2, 3}),
        (Sampling(1.0, top_p=1.0), {0, 2, 3, 4, 5}),
        (Sampling(1.0, min_p=0.4), {2, 3}),
        (Sampling(1.0, min_p=0.9), {2}),
        (Sampling(1.0, top_k=3, top_p=0.8, min_p=0.01), {2, 3}),
    ],
)
def test_filters_keep_what_they_should(sampling: Sampling, allowed: set[int]) -> None:
    assert set(np.flatnonzero(drawn(sampling))) == allowed


def test_the_lowest_id_wins_a_tie() -> None:
    assert Sampling(greedy=True).choose(np.array([0.0, 9.0, 1.0, 1.0], dtype=np.float32), Draw(1)) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
    ],
)
def test_nonsense_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_greedy_text_is_the_argmax_of_the_whole_text_so_far() -> None:
    lm = CharLM(9, 20, layers=2, embedding_size=5, seed=3).eval()
    lm.output.bias.data[BOUNDARY] = -9.0
    written = [row[0] for row in streams(TorchModel(lm), [4, 5], Sampling(greedy=True), [1], 25)]
    text = [BOUNDARY, 4, 5]
    for chosen in written:
        with lm.reading():
            logits = lm(torch.tensor([text]))[0][0, -1].numpy().copy()
        logits[UNKNOWN] = -math.inf
        assert chosen == int(logits.argmax())
        text.append(int(logits.argmax()))
    assert len(written) == 25


def test_a_stream_depends_on_its_seed_and_not_on_its_neighbours() -> None:
    lm = CharLM(9, 20, embedding_size=5, seed=4).double().eval()
    alone = [row[0] for row in streams(TorchModel(lm), [3], Sampling(1.0), [12], 60)]
    beside = [row[1] for row in streams(TorchModel(lm), [3], Sampling(1.0), [11, 12, 13], 60)]
    assert alone == beside[: len(alone)]
    assert all(k is None for k in beside[len(alone) :])


def test_a_story_ends_at_the_boundary() -> None:
    lm = CharLM(9, 20, seed=4).eval()
    lm.output.bias.data[BOUNDARY] = 99.0
    assert list(streams(TorchModel(lm), [3], Sampling(1.0), [1, 2], 10)) == [[None, None]]


def test_a_model_that_was_trained_generates_with_its_new_weights() -> None:
    """torch's fused optimisers change weights without raising their version."""
    lm = CharLM(9, 20, seed=4, backend="native").eval()
    before = advance(TorchModel(lm), [Stream(Sampling(greedy=True), 1)], 30, logits=True)[0]
    optimizer = torch.optim.AdamW(lm.parameters(), lr=0.1, fused=True)
    ids = torch.randint(2, 9, (3, 12), generator=torch.Generator().manual_seed(1))
    lm.train()(ids, targets=ids)[0].backward()
    optimizer.step()
    after = advance(TorchModel(lm.eval()), [Stream(Sampling(greedy=True), 1)], 30, logits=True)[0]
    with lm.reading():
        expected = lm(torch.tensor([[BOUNDARY]]))[0][0, 0].numpy()
    assert before.logits is not None
    assert after.logits is not None
    assert not np.allclose(before.logits[0], expected, atol=1e-3)
    assert np.allclose(after.logits[0], expected, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(greedy=True),
        Sampling(0.7),
        Sampling(1.3, top_k=5),
        Sampling(1.3, top_k=2**64 + 1),
        Sampling(1.0, top_p=0.8),
        Sampling(1.0, min_p=0.2),
    ],
    ids=str,
)
def test_the_kernel_writes_what_the_reference_writes(cell: str, sampling: Sampling) -> None:
    lm = CharLM(30, 40, layers=2, cell=cell, embedding_size=7, seed=6).eval()
    texts = []
    for backend in ("native", "reference"):
        lm.use(backend)
        stream = Stream(sampling, 5)
        read(TorchModel(lm), stream, [4, 9, 2])
        texts.append(advance(TorchModel(lm), [stream], 120)[0].ids)
    assert texts[0] == texts[1]
    assert texts[0]


def _shuffled(lm: CharLM, name: str) -> None:
    """Change a parameter in place to the same numbers in another order, unseen by tensors' versions."""
    weight = lm.get_parameter(name).detach().numpy()
    weight[:] = np.random.default_rng(1).permuted(weight.reshape(-1)).reshape(weight.shape)


def _rows_swapped(lm: CharLM, name: str) -> None:
    weight = lm.get_parameter(name).detach().numpy()
    weight[[3, 7]] = weight[[7, 3]]


def _one_sign_turned(lm: CharLM, name: str) -> None:
    weight = lm.get_parameter(name).detach().numpy().reshape(-1)
    weight[5] = -weight[5] or -0.5


@needs_kernel
@pytest.mark.parametrize("change", [_shuffled, _rows_swapped, _one_sign_turned])
@pytest.mark.parametrize("embedding", [7, 0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_change_of_weights_in_place_is_heard_at_once(
    precision: str, embedding: int, change: Callable[[CharLM, str], None]
) -> None:
    lm = CharLM(30, 20, layers=2, embedding_size=embedding, seed=6, backend="native").eval().write_in(precision)
    names = [name for name, _ in lm.named_parameters()]
    last = advance(TorchModel(lm), [Stream(Sampling(1.0), 5)], 20, logits=True)[0].logits
    for name in names:
        change(lm, name)
        heard = advance(TorchModel(lm), [Stream(Sampling(1.0), 5)], 20, logits=True)[0].logits
        fresh = CharLM(30, 20, layers=2, embedding_size=embedding, backend="native").eval().write_in(precision)
        fresh.load_state_dict(lm.state_dict())
        expected = advance(TorchModel(fresh), [Stream(Sampling(1.0), 5)], 20, logits=True)[0].logits
        assert np.array_equal(heard, expected), name
        if name != "output.bias":  # zeros, in any order
            assert not np.array_equal(heard, last), name
        last = heard


@needs_kernel
def test_weights_that_stay_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = CharLM(30, 20, layers=2, seed=6, backend="native").eval()
    made: list[object] = []

    def noted(*arguments: object) -> Generator:
        made.append(arguments)
        return Generator(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("storycell.nn.adapter.Generator", noted)
    model = TorchModel(lm)
    stream = Stream(Sampling(1.0), 5)
    for _ in range(5):
        stream.ended = False
        advance(model, [stream], 3)
    assert len(made) == 1


@needs_kernel
def test_text_in_bf16_comes_from_logits_close_to_those_in_float32() -> None:
    lm = CharLM(30, 40, layers=2, embedding_size=7, seed=6, backend="native").eval()
    lm.output.weight.data *= 8
    rounded = advance(TorchModel(lm.write_in("bf16")), [Stream(Sampling(0.7), 5)], 120, logits=True)[0]
    with lm.reading():
        exact = lm(torch.tensor([[BOUNDARY, *rounded.ids[:-1]]]))[0][0].numpy()
    assert rounded.logits is not None
    error = np.linalg.norm(rounded.logits - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 2e-2


@pytest.mark.parametrize(
    ("backend", "precision", "error"), [("reference", "bf16", BackendError), ("auto", "fp8", SettingsError)]
)
def test_a_precision_that_nothing_writes_in_is_refused(backend: str, precision: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"precision = '?{precision}"):
        CharLM(9, 20, backend=backend).write_in(precision)


@pytest.mark.parametrize("slice_s", [0.0, 0.002, 10.0])
def test_how_a_text_is_sliced_does_not_change_it(slice_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = CharLM(30, 40, seed=6).eval()
    lm.output.bias.data[BOUNDARY] = -3.0
    whole = [advance(TorchModel(lm), [Stream(Sampling(1.2), seed)], 300)[0].ids for seed in (1, 2, 3)]
    monkeypatch.setattr("storycell.generation.sampler.SLICE_S", slice_s)
    rows = list(streams(TorchModel(lm), [], Sampling(1.2), [1, 2, 3], 300))
    assert [[row[k] for row in rows if row[k] is not None] for k in range(3)] == whole
    assert len(rows) == min(300, max(map(len, whole)) + 1)


@pytest.mark.parametrize("top_k", [2**31, 2**32 + 1, 2**63, 2**64 + 1])
def test_a_top_k_above_the_vocabulary_filters_nothing(top_k: int) -> None:
    lm = TorchModel(CharLM(12, 8, seed=1))
    wide, all_of_them = ([row[0] for row in streams(lm, [3], Sampling(1.5, k), [5], 60)] for k in (top_k, None))
    assert wide == all_of_them


@pytest.mark.parametrize("backend", [pytest.param("native", marks=needs_kernel), "torch"])
def test_a_call_that_fails_leaves_every_stream_as_it_was(backend: str) -> None:
    lm = CharLM(12, 8, backend=backend, seed=1).eval()
    how = Sampling(1.0, top_k=6)
    expected = advance(TorchModel(lm), [Stream(how, 5)], 40)[0].ids
    fine, broken = Stream(how, 5), Stream(how, 6)
    begun = advance(TorchModel(lm), [fine], 10)[0].ids
    broken.state = {name: np.full_like(value, math.nan) for name, value in (fine.state or {}).items()}
    with pytest.raises(NotFiniteError):
        advance(TorchModel(lm), [fine, broken], 20)
    assert begun + advance(TorchModel(lm), [fine], 30)[0].ids == expected[: len(begun) + 30]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), [0.1, 0, 0.4, 0.2, 0.1, 0.2]),
        (Sampling(0.5), [0.01, 0, 0.16, 0.04, 0.01, 0.04]),
        (Sampling(1.0, top_k=2), [0, 0, 0.4, 0.2, 0, 0]),
        (Sampling(1.0, top_p=0.55), [0, 0, 0.4, 0.2, 0, 0]),
        (Sampling(1.0, min_p=0.4), [0, 0, 0.4, 0.2, 0, 0.2]),
        (Sampling(1.0, top_k=4, top_p=0.9, min_p=0.3), [0, 0, 0.4, 0.2, 0, 0.2]),
        (Sampling(0.0), [0, 0, 1, 0, 0, 0]),
        (Sampling(greedy=True), [0, 0, 1, 0, 0, 0]),
    ],
)
def test_probabilities_are_what_is_drawn_from(sampling: Sampling, expected: list[float]) -> None:
    logits = np.log(np.array([0.1, 0.7, 0.4, 0.2, 0.1, 0.2])).astype(np.float32)
    p = sampling.probabilities(np.stack([logits, logits + 3]))
    assert p == pytest.approx(np.array([expected, expected]) / sum(expected), abs=1e-7)
    draw, n = Draw(3), 4_000
    counts = np.bincount([sampling.choose(logits, draw) for _ in range(n)], minlength=6) / n
    assert np.abs(counts - p[0]).max() < 4 * math.sqrt(0.25 / n)  # four standard errors
    assert set(np.flatnonzero(counts)) <= set(np.flatnonzero(p[0]))
