"""`bench sample`: generation, in characters per second, for one stream or many.

Compared are storycell's sampler on a network such as `storycell sample` opens and, where torch is installed, torch's
layer called character by character in float32 and under autocast to bf16, and the article's loop; in int8 also
storycell itself in bf16 and float32; and the ceiling: for one stream the rate of reading a near cache over the weights'
bytes, for many the rate of a large matrix product.
"""

from typing import Any

from storycell import extras
from storycell.generation import sampler
from storycell.generation.sampler import Sampling, Stream
from storycell.lab.bench import results, roofline
from storycell.lab.bench.timing import Spread, Work, on_threads, time_interleaved
from storycell.lab.bench.workload import TEMPERATURE, V, Workload
from storycell.language_model import LanguageModel
from storycell.runs.network import new_model
from storycell.types import BOUNDARY

_NEVER = -1e9
_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}  # of a weight


def sample(workload: Workload) -> dict[str, Any]:
    """Measure generation; the figures as `results.summary` gives them."""
    workload = workload.model_copy(update={"streams": workload.streams or 1, "threads": workload.threads or 1})
    assert workload.streams
    assert workload.threads
    precision = "fp32" if workload.precision == "auto" else workload.precision
    with on_threads(workload.threads):
        lm = endless(workload, precision)
        contestants = {"storycell": write(lm, workload.streams)}
        for other in ("bf16", "fp32") if precision == "int8" else ():
            contestants[f"storycell_{other}"] = write(endless(workload, other), workload.streams)
        if extras.is_installed("torch"):
            from storycell.lab.bench import baselines

            contestants |= baselines.writing(workload, workload.streams)
        limits = roofline.readings() if workload.streams == 1 else roofline.products(precision)
        rates = time_interleaved(contestants | limits, workload.rounds)
    chosen = {"precision": precision, "backend": lm.backend, "torch_compile_skipped": None}
    return results.summary("sample", workload.model_dump() | chosen, rates, _ceiling(rates, workload, precision))


def endless(workload: Workload, precision: str) -> LanguageModel:
    """A network whose stories never end, for an end would stop the measurement."""
    lm = new_model(V, workload.model, backend=workload.backend, precision=precision)
    weights = lm.weights()
    weights["output.bias"][BOUNDARY] = _NEVER
    return lm.with_weights(weights)


def _ceiling(rates: dict[str, Spread], workload: Workload, precision: str) -> results.Ceiling:
    """Takes what the machine can do out of the rates: bytes read, or operations done, in a second."""
    weights = roofline.weights_read(workload.cell, workload.layers, workload.hidden, V)
    rate, reason = roofline.take_best(rates)
    if workload.streams == 1:
        size = _BYTES[precision] * weights
        return results.Ceiling(rate / size, f"{size / 1e6:.1f} MB of weights a character; {reason}")
    return results.Ceiling(rate / (2 * weights), f"{reason} in {precision}")


def write(lm: LanguageModel, streams: int) -> Work:
    """storycell's sampler, in the slices in which it serves text."""
    writing, pace = [Stream(Sampling(TEMPERATURE), seed) for seed in range(streams)], sampler.new_pace()

    def work() -> int:
        return sum(len(written.ids) for written in sampler.advance_slice(lm, writing, sampler.LONGEST_SLICE, pace))

    return work
