"""The loss of a text: equal to a plain loop, and independent of how the work is cut up."""

import math
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storycell import loss
from storycell.data.corpus import text_corpus
from storycell.data.splits import write_tokens
from storycell.data.tokens import split_stories
from storycell.data.vocab import Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation import evaluator, statistics
from storycell.generation import sampler
from storycell.nn.adapter import TorchModel
from storycell.nn.backends.native import backend as native_backend
from storycell.nn.loss import nats_each
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, UNKNOWN

ROUNDING = 1e-5  # float32 sums in another order
VOCAB = Vocabulary("\n .abcdefgh")
STORIES = ["abc. gag.\n", "h", "a bed.\n" * 90, "dead.\n", "fee fed\n" * 3]


def model(seed: int = 2) -> CharLM:
    return CharLM(len(VOCAB), 24, layers=2, embedding_size=6, seed=seed).eval()


def ids_of(text: str) -> np.ndarray:
    return np.concatenate([[BOUNDARY], VOCAB.encode(text)]).astype(np.uint8)


def by_hand(lm: CharLM, stories: list[str], predicts_end: bool) -> list[list[float]]:
    """Every story, character by character, straight from the definition."""
    costs = []
    for story in stories:
        ids = [BOUNDARY, *VOCAB.encode(story).tolist(), *([BOUNDARY] if predicts_end else [])]
        state, nats = None, []
        for now, then in pairwise(ids):
            with torch.no_grad():
                logits, state = lm(torch.tensor([[now]]), state)
            probabilities = torch.log_softmax(logits[0, 0].double(), dim=0)
            nats.append(loss.ESCAPE_BITS * math.log(2) if then == UNKNOWN else -probabilities[then].item())
        costs.append(nats)
    return costs


def test_stories_are_scored_from_a_zero_state_with_their_end() -> None:
    lm = model()
    result = evaluator.evaluate(
        TorchModel(lm), ids_of("<|endoftext|>\n".join(s if s.endswith("\n") else s + "\n" for s in STORIES)), VOCAB
    )
    stories = [s if s.endswith("\n") else s + "\n" for s in STORIES]
    costs = by_hand(lm, stories, predicts_end=True)
    flat = [c for story in costs for c in story]
    assert result.chars == len(flat) == sum(map(len, stories)) + len(stories)
    assert result.stories == len(stories)
    assert result.loss_nats == pytest.approx(np.mean(flat), abs=ROUNDING)
    assert result.bits_per_char == pytest.approx(np.mean(flat) / math.log(2), abs=ROUNDING)
    assert result.perplexity == pytest.approx(math.exp(np.mean(flat)), rel=ROUNDING)
    assert result.bits_per_byte == pytest.approx(sum(flat) / math.log(2) / sum(map(len, stories)), rel=ROUNDING)
    residuals = np.array([sum(c) - np.mean(flat) * len(c) for c in costs])
    n = len(costs)
    assert result.stderr_nats == pytest.approx(math.sqrt(n / (n - 1) * (residuals**2).sum()) / len(flat), rel=1e-3)


def test_a_single_story_has_no_end_to_predict() -> None:
    lm, story = model(), "bad egg. a big bed.\n"
    result = evaluator.evaluate(TorchModel(lm), ids_of(story), VOCAB)
    assert result.chars == len(story)
    assert result.loss_nats == pytest.approx(np.mean(by_hand(lm, [story], predicts_end=False)[0]), abs=ROUNDING)


def test_unknown_characters_cost_the_escape_and_are_counted() -> None:
    lm, story = model(), "ab?c é.\n"
    result = evaluator.evaluate(TorchModel(lm), ids_of(story), VOCAB)
    assert result.unknown_chars == 2  # "?" and "é"
    assert result.loss_nats == pytest.approx(np.mean(by_hand(lm, [story], predicts_end=False)[0]), abs=ROUNDING)


@pytest.mark.parametrize(("rows", "columns", "group"), [(1, 1, 1), (2, 7, 3), (64, 256, 2048), (3, 1000, 2)])
def test_the_number_depends_on_no_batch_or_chunk(
    monkeypatch: pytest.MonkeyPatch, rows: int, columns: int, group: int
) -> None:
    text = "<|endoftext|>\n".join(s + "\n" for s in STORIES)
    usual = evaluator.evaluate(TorchModel(model()), ids_of(text), VOCAB)
    monkeypatch.setattr(evaluator, "_ROWS", rows)
    monkeypatch.setattr(evaluator, "_TARGETS", rows * columns)
    monkeypatch.setattr(evaluator, "_GROUP", group)
    other = evaluator.evaluate(TorchModel(model()), ids_of(text), VOCAB)
    assert other.loss_nats == pytest.approx(usual.loss_nats, abs=ROUNDING)
    assert other.stderr_nats == pytest.approx(usual.stderr_nats, rel=1e-3)
    assert (other.chars, other.stories) == (usual.chars, usual.stories)


def test_the_number_depends_on_no_backend_or_training_precision() -> None:
    text = ids_of("<|endoftext|>\n".join(s + "\n" for s in STORIES))
    usual = evaluator.evaluate(TorchModel(model()), text, VOCAB).loss_nats
    for backend in ("reference", "torch"):
        assert evaluator.evaluate(
            TorchModel(model().use(backend, "bf16").train()), text, VOCAB
        ).loss_nats == pytest.approx(usual, abs=ROUNDING)


def test_windows_start_from_a_zero_state_every_so_many_characters() -> None:
    lm, ids = model(), ids_of("abc\n<|endoftext|>\nbad bed\nfed\n")
    result = evaluator.evaluate(TorchModel(lm), ids, VOCAB, windows=4)
    costs = []
    for start in range(0, len(ids) - 1, 4):
        piece = torch.from_numpy(ids[start : start + 5].astype(np.int64))[None]
        with torch.no_grad():
            costs += nats_each(lm(piece[:, :-1])[0], piece[:, 1:])[0].tolist()
    assert result.chars == len(costs) == len(ids) - 1
    assert result.loss_nats == pytest.approx(np.mean(costs), abs=ROUNDING)
    with pytest.raises(SettingsError, match="windows = 0"):
        evaluator.evaluate(TorchModel(lm), ids, VOCAB, windows=0)


def test_scores_come_in_the_order_of_the_text() -> None:
    lm = model()
    stories = [s if s.endswith("\n") else s + "\n" for s in STORIES]
    flat = [c for story in by_hand(lm, stories, predicts_end=True) for c in story]
    assert evaluator.score(TorchModel(lm), ids_of("<|endoftext|>\n".join(stories))) == pytest.approx(flat, abs=1e-4)


def test_a_part_is_whole_stories_from_all_over_the_text() -> None:
    stories = [f"{'abcdefgh'[k % 8] * (k % 5 + 1)}\n" for k in range(100)]
    ids = ids_of("<|endoftext|>\n".join(stories))
    part = evaluator.take_part(ids, 60)
    chosen = [VOCAB.decode(story[1:]) for story in split_stories(part)]
    assert 60 <= len(part) < 60 + 2 * 7 + 12
    places = [k for k, story in enumerate(stories) if story in chosen]
    assert set(chosen) <= set(stories)
    assert min(places) < 25 < 75 < max(places)
    assert np.array_equal(evaluator.take_part(ids, 10**9), ids)
    assert len(evaluator.take_part(ids_of("abcabcabc"), 4)) == 5


def test_the_loss_of_a_uniform_model_is_ln_v_on_real_text(stories: Path, tmp_path: Path) -> None:
    text = stories.read_text(encoding="utf-8")[:20_000]
    vocab = Vocabulary("".join(sorted(set(text))))
    lm = CharLM(len(vocab), 8).eval()
    lm.output.weight.data.zero_()
    tokens = write_tokens(text_corpus(text), vocab, tmp_path / "t")
    result = evaluator.evaluate(TorchModel(lm), tokens.open(tmp_path / "t", vocab), vocab, utf8_bytes=tokens.utf8_bytes)
    assert result.loss_nats == pytest.approx(math.log(len(vocab)), abs=ROUNDING)
    assert result.chars == tokens.chars + tokens.stories


def test_sampling_is_calibrated_with_the_loss() -> None:
    """The frequency of the first character drawn at temperature 1 is its probability."""
    lm = model()
    with lm.reading():
        probabilities = torch.softmax(lm(torch.tensor([[BOUNDARY]]))[0][0, 0].double(), dim=0).numpy().copy()
    probabilities[UNKNOWN] = 0
    probabilities /= probabilities.sum()
    n = 4000
    firsts = next(sampler.streams(TorchModel(lm), [], sampler.Sampling(temperature=1.0), list(range(n)), 1))
    counts = np.bincount([k or 0 for k in firsts], minlength=len(VOCAB)) / n
    assert counts[UNKNOWN] == 0
    assert np.abs(counts - probabilities).max() < 4 * math.sqrt(0.25 / n)  # four standard errors


def test_an_error_that_is_unknown_is_not_printed() -> None:
    assert loss.plus_minus(0.83381, 0.00419) == "0.8338 ± 0.0042"
    assert loss.plus_minus(-0.5, 0.25, "+.1f") == "-0.5 ± 0.2"
    assert loss.plus_minus(0.5, math.nan, "+.1f") == "+0.5"
    assert loss.plus_minus(0.5, None) == "0.5000"
    assert math.isnan(evaluator.evaluate(TorchModel(model()), ids_of("one short story"), VOCAB).stderr_nats)


def test_an_empty_text_is_an_error() -> None:
    with pytest.raises(CorpusError, match="no characters"):
        evaluator.evaluate(TorchModel(model()), np.zeros(1, dtype=np.uint8), VOCAB)


@pytest.mark.parametrize("targets", [7, 999, 1 << 14])
@pytest.mark.parametrize("chars", [1, 999, 1000, 2000, 3507])
def test_of_one_story_the_standard_error_is_over_equal_blocks_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, targets: int, chars: int
) -> None:
    monkeypatch.setattr(evaluator, "_TARGETS", targets)
    lm, ids = model(), ids_of(("a bad egg? " * (chars // 11 + 1))[:chars])
    result = evaluator.evaluate(TorchModel(lm), ids, VOCAB)
    nats = evaluator.score(TorchModel(lm), ids)
    blocks = np.array_split(nats, max(1, chars // evaluator._BLOCK))
    mean, stderr = statistics.mean_and_stderr([b.sum() for b in blocks], [len(b) for b in blocks])
    assert result.loss_nats == pytest.approx(mean, abs=1e-12)
    assert result.stderr_nats == pytest.approx(stderr, rel=1e-6, nan_ok=True)
    assert (result.chars, result.unknown_chars) == (chars, int((ids == UNKNOWN).sum()))


def test_memory_does_not_grow_with_the_length_of_a_story() -> None:
    lm, peaks = model(), []
    _ = VOCAB.utf8_sizes
    for chars in (100_000, 800_000):
        text = np.resize(ids_of("a bad egg. ")[1:], chars + 1)
        text[0] = BOUNDARY
        for ids in (text, np.concatenate([text, text[:9]])):  # by itself, and as one of two
            tracemalloc.start()
            evaluator.evaluate(TorchModel(lm), ids, VOCAB)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[0]
    assert peaks[3] < 1.2 * peaks[1]


def test_a_single_story_is_read_in_few_long_calls_and_the_table_is_computed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[int, ...]] = []
    folds: list[str] = []
    scorer, fold = CharLM.scorer, native_backend.fold

    def counting(self: CharLM) -> Any:
        nats = scorer(self)
        return lambda ids, targets, state: (calls.append(tuple(ids.shape)), nats(ids, targets, state))[1]

    monkeypatch.setattr(CharLM, "scorer", counting)
    monkeypatch.setattr(native_backend, "fold", lambda *more, **named: (folds.append("fold"), fold(*more, **named))[1])
    lm = model()
    evaluator.evaluate(TorchModel(lm), ids_of("a bad egg. " * 4000), VOCAB)
    assert calls == [(1, 1 << 14), (1, 1 << 14), (1, 44_000 - (1 << 15))]
    assert len(folds) == (lm.backend.name == "native")
    calls.clear()
    evaluator.evaluate(TorchModel(lm), ids_of("<|endoftext|>\n".join(["a bad egg. " * 100 + "\n"] * 64)), VOCAB)
    assert {B for B, _ in calls} == {64}
    assert max(B * T for B, T in calls) <= 1 << 14
