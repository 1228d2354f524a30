"""`bench sample`: generation, in characters per second, for one stream or many.

Compared are storycell's sampler, torch's layer called character by character in float32 and under autocast to bf16, the
article's loop, and the ceiling: for one stream the rate of reading a near cache over the weights' bytes, for many the
rate of a large matrix product.
"""

import contextlib
from typing import Any

import torch

from storycell import threads
from storycell.generation import sampler
from storycell.generation.sampler import Sampling, Stream
from storycell.lab.bench import results, roofline
from storycell.lab.bench.baselines import PlainLoop, TorchModel
from storycell.lab.bench.timing import Spread, Work, time_interleaved
from storycell.lab.bench.workload import V, Workload
from storycell.language_model import LanguageModel
from storycell.nn import adapter
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY

TEMPERATURE = 0.8
_THEIR_CHARS = 32  # that a rival writes in every stream between two looks at the clock
_NEVER = -1e9
_BYTES = {"fp32": 4, "bf16": 2}  # of a weight


def sample(workload: Workload) -> dict[str, Any]:
    """Measure writing; the figures as `figures.summary` gives them."""
    workload = workload.model_copy(update={"streams": workload.streams or 1, "threads": workload.threads or 1})
    assert workload.streams
    assert workload.threads
    one, precision = workload.streams == 1, "bf16" if workload.precision == "bf16" else "fp32"
    weights = roofline.weights_read(workload.cell, workload.layers, workload.hidden, V)
    with threads.computing_on(workload.threads, workload.threads):
        lm = CharLM(V, workload.hidden, workload.layers, workload.cell, embedding_size=workload.embedding).eval()
        lm.write_in(precision)
        with torch.no_grad():
            lm.output.bias[BOUNDARY] = _NEVER  # a story that ended would stop the measurement
        contestants = {"storycell": ours(adapter.TorchModel(lm), workload.streams)} | _rivals(workload)
        limits = {roofline.READING: roofline.reading()} if one else roofline.products(precision)
        rates = time_interleaved(contestants | limits, workload.rounds)
    ceiling = _ceiling(rates, weights, precision)
    chosen = {"precision": precision, "backend": lm.backend.name, "torch_compile_skipped": None}
    return results.summary("sample", workload.model_dump() | chosen, rates, ceiling)


def _ceiling(rates: dict[str, Spread], weights: int, precision: str) -> results.Ceiling:
    """Takes what the machine can do out of the rates: bytes read, or operations done, in a second."""
    if roofline.READING in rates:
        rate = rates.pop(roofline.READING).median
        size = _BYTES[precision] * weights
        reason = f"{size / 1e6:.1f} MB of weights a character; torch sums a near array at {rate / 1e9:.0f} GB/s"
        return results.Ceiling(rate / size, reason)
    flop_per_s, reason = roofline.best_product(rates)
    return results.Ceiling(flop_per_s / (2 * weights), f"{reason} in {precision}")


def ours(lm: LanguageModel, streams: int) -> Work:
    """storycell's sampler, in the slices in which it serves text."""
    writing, pace = [Stream(Sampling(TEMPERATURE), seed) for seed in range(streams)], sampler.new_pace()

    def work() -> int:
        return sum(len(written.ids) for written in sampler.advance_slice(lm, writing, sampler.LONGEST_SLICE, pace))

    return work


def theirs(model: torch.nn.Module, streams: int, bf16: bool = False) -> Work:
    """Another model, called for each character."""
    state, ids = None, torch.zeros(streams, 1, dtype=torch.int64, device="cpu")

    @torch.inference_mode()
    def work() -> int:
        nonlocal state, ids
        for _ in range(_THEIR_CHARS):
            with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
                logits, state = model(ids, state)
            ids = torch.multinomial(torch.softmax(logits[:, -1].float() / TEMPERATURE, dim=-1), 1)
        return _THEIR_CHARS * streams

    return work


def _rivals(workload: Workload) -> dict[str, Work]:
    sizes, streams = (workload.hidden, workload.layers), workload.streams or 1
    torchs = TorchModel(workload.cell, V, workload.embedding, *sizes).eval()
    rivals = {"torch_fp32": theirs(torchs, streams), "torch_bf16": theirs(torchs, streams, bf16=True)}
    if workload.loop and workload.cell in PlainLoop.GATES:
        rivals["article"] = theirs(PlainLoop(workload.cell, V, *sizes).eval(), streams)
    return rivals
