"""Log-probabilities of characters, as the model has them: temperature 1, nothing filtered.

In: raw logits `[n V]` and the ids that were drawn from them. Out: for each, ln p of the character and the likeliest
characters with theirs. The reserved id for unknown characters can never be written and is left out of the likeliest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.sampler import Sampling
from storycell.vocab import BOUNDARY, SEPARATOR, UNKNOWN, Vocabulary


@dataclass(frozen=True)
class CharLogprobs:
    """ln p of one character, and the likeliest ids with ln p of each, best first."""

    k: int
    logprob: float
    top: list[tuple[int, float]]


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Logits `[… V]` -> ln p `[… V]`."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


def describe(logits: npt.NDArray[np.float32], ids: list[int], top: int) -> list[CharLogprobs]:
    """What `logits [n V]` said of `ids`, with the `top` likeliest beside each."""
    if not ids:
        return []
    scores = log_softmax(logits)
    chosen = scores[np.arange(len(ids)), ids].tolist()
    ranked = likeliest(scores, top)
    return [CharLogprobs(k, logprob, best) for k, logprob, best in zip(ids, chosen, ranked, strict=True)]


def likeliest(scores: npt.NDArray[np.float64], top: int) -> list[list[tuple[int, float]]]:
    """The `top` likeliest ids of each row of ln p `[n V]`, best first, the lower id where two are equal."""
    if top == 0:
        return [[] for _ in scores]
    hidden = scores.copy()
    hidden[:, UNKNOWN] = -np.inf
    order = np.argsort(-hidden, axis=-1, kind="stable")[:, : min(top, scores.shape[-1] - 1)]
    values = np.take_along_axis(scores, order, axis=-1)
    return [list(zip(row, value, strict=True)) for row, value in zip(order.tolist(), values.tolist(), strict=True)]


def chances(logits: npt.NDArray[np.float32], sampling: Sampling, top: int) -> list[tuple[int, float]]:
    """The ids that would be drawn most often, with their probabilities under `sampling`; logits `[V]`."""
    scores = logits.astype(np.float64)
    scores[UNKNOWN] = -np.inf
    temperature = sampling.temperature
    if temperature == 0:
        return [(int(scores.argmax()), 1.0)]
    with np.errstate(over="ignore"):
        weights = np.exp((scores - scores.max()) / temperature)
    weights /= weights.sum()
    order = np.argsort(-weights, kind="stable")[:top]
    return [(int(k), float(weights[k])) for k in order if weights[k] > 0]


def token_text(vocab: Vocabulary, k: int) -> str:
    """How a character is named where each must have a text of its own: a lone byte as `bytes:\\xe2`."""
    if k == BOUNDARY:
        return SEPARATOR
    raw = vocab.bytes_of(k)
    return f"bytes:\\x{raw[0]:02x}" if len(raw) == 1 and raw[0] >= 0x80 else vocab.text_of(k)
