"""Drawing text from a model, character by character.

In: a `CharLM`, the ids of a prompt, how to choose (`Sampling`), seeds. Out: one id for each stream and step, as they
come. Every stream draws from a generator of its own, so what it writes depends on its seed alone.

The surprising decision: the generator is our own xoshiro128++, twenty lines that are the same in Python, C and
JavaScript, so that one seed can tell one story wherever the model runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from storycell.errors import SettingsError
from storycell.model import CharLM
from storycell.vocab import BOUNDARY, UNKNOWN

_MASK_32, _MASK_64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class Sampling:
    """How the next character is chosen from the model's probabilities; filters apply in the order of the fields."""

    temperature: float = 0.8  # above 1 bolder, below 1 safer; 0 is greedy
    top_k: int | None = None  # only the k likeliest
    top_p: float | None = None  # only the likeliest that together have probability p
    min_p: float | None = None  # only those at least this share as likely as the likeliest
    greedy: bool = False  # always the likeliest

    def __post_init__(self) -> None:
        wrong = None
        if not 0 <= self.temperature < 1e6:
            wrong = f"temperature = {self.temperature}: it must be a number of at least 0"
        elif self.top_k is not None and self.top_k < 1:
            wrong = f"top_k = {self.top_k}: it must be at least 1"
        elif self.top_p is not None and not 0 < self.top_p <= 1:
            wrong = f"top_p = {self.top_p}: it must be above 0 and at most 1"
        elif self.min_p is not None and not 0 <= self.min_p <= 1:
            wrong = f"min_p = {self.min_p}: it must be from 0 to 1"
        if wrong:
            raise SettingsError(wrong)

    def choose(self, logits: npt.NDArray[np.float32], draw: "Draw") -> int:
        """One id from logits `[V]`: never the unknown character; the lowest id where two are equally likely."""
        scores = logits.astype(np.float64)
        scores[UNKNOWN] = -np.inf
        if self.greedy or self.temperature == 0:
            return int(scores.argmax())
        with np.errstate(over="ignore"):  # a tiny temperature: minus infinity, and so a weight of 0, is right
            weights = np.exp((scores - scores.max()) / self.temperature)
        weights = self._filtered(weights)
        cumulative = np.cumsum(weights)
        return int(np.searchsorted(cumulative, draw.next() * cumulative[-1], side="right"))

    def _filtered(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.top_k is None and self.top_p is None and self.min_p is None:
            return weights
        order = np.argsort(-weights, kind="stable")
        ranked = weights[order]
        kept = len(ranked) if self.top_k is None else min(self.top_k, len(ranked))
        if self.top_p is not None:
            share = np.cumsum(ranked[:kept]) / ranked[:kept].sum()
            kept = int(np.searchsorted(share, self.top_p)) + 1 if self.top_p < 1 else kept
        if self.min_p is not None:
            kept = min(kept, int(np.count_nonzero(ranked >= self.min_p * ranked[0])))
        out = np.zeros_like(weights)
        out[order[:kept]] = ranked[:kept]
        return out


class Draw:
    """xoshiro128++ 1.0 (Blackman & Vigna 2019), its 128 bits of state filled from the seed by splitmix64."""

    def __init__(self, seed: int) -> None:
        x = seed & _MASK_64
        words: list[int] = []
        for _ in range(2):
            x = (x + 0x9E3779B97F4A7C15) & _MASK_64
            z = x
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK_64
            z ^= z >> 31
            words += [z & _MASK_32, z >> 32]
        self._s = words

    def next(self) -> float:
        """A number from 0 (included) to 1 (excluded), a multiple of 2^-32."""
        a, b, c, d = self._s
        out = (_rotated((a + d) & _MASK_32, 7) + a) & _MASK_32
        t = (b << 9) & _MASK_32
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        self._s = [a, b, c ^ t, _rotated(d, 11)]
        return out / 2**32


def _rotated(x: int, k: int) -> int:
    return ((x << k) | (x >> (32 - k))) & _MASK_32


def streams(
    lm: CharLM, prompt: list[int], sampling: Sampling, seeds: list[int], limit: int
) -> Iterator[list[int | None]]:
    """Continue one prompt in several streams at once, `limit` characters at most.

    Yields, for every character, one id a stream; None for a stream whose story has ended.
    """
    device = lm.output.weight.device
    draws = [Draw(seed) for seed in seeds]
    ended = [False] * len(seeds)
    ids = torch.tensor([[BOUNDARY, *prompt]] * len(seeds), device=device)
    state = None
    for _ in range(limit):
        with lm.reading():
            logits, state = lm(ids, state)
        last = logits[:, -1].float().cpu().numpy()
        chosen = [BOUNDARY if e else sampling.choose(row, d) for e, row, d in zip(ended, last, draws, strict=True)]
        ended = [e or k == BOUNDARY for e, k in zip(ended, chosen, strict=True)]
        yield [None if e else k for e, k in zip(ended, chosen, strict=True)]
        if all(ended):
            return
        ids = torch.tensor(chosen, device=device).unsqueeze(1)
