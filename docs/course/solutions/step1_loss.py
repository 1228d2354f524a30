"""Solutions of step 1."""

import math
from collections import Counter
from itertools import pairwise


def perplexity(probabilities: list[float]) -> float:
    return math.exp(-sum(math.log(p) for p in probabilities) / len(probabilities))


def bigram_loss(learnt: str, text: str) -> float:
    V = len(set(learnt + text))
    pairs, firsts = Counter(pairwise(learnt)), Counter(learnt[:-1])
    nats = [-math.log((pairs[a, b] + 1) / (firsts[a] + V)) for a, b in pairwise(text)]
    return sum(nats) / len(nats)


def packed_bytes(nats: float, chars: int) -> float:
    return nats / math.log(2) * chars / 8
