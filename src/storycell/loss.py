"""Nats, bits and perplexity, in one place.

Losses are nats per character everywhere inside; only this module converts. A character that the model does not know
costs `ESCAPE_BITS`: 20 bits for an escape that a coder would reserve a probability of 2^-20 for, and 21 bits to name
one of Unicode's 1,114,112 code points. (Reserving the escape costs known characters 1.4e-6 bits each, which no figure
here can show.)
"""

import math

import torch
import torch.nn.functional as F

ESCAPE_BITS = 41.0
ESCAPE_NATS = ESCAPE_BITS * math.log(2)


def bits_per_char(nats: float) -> float:
    """Nats per character -> bits per character."""
    return nats / math.log(2)


def perplexity(nats: float) -> float:
    """Nats per character -> the number of equally likely characters that would be as hard to guess."""
    return math.exp(nats) if nats < 700 else math.inf


def bits_per_byte(total_nats: float, utf8_bytes: int) -> float:
    """Nats of a whole text -> bits for each byte of its UTF-8 encoding."""
    return total_nats / math.log(2) / utf8_bytes


def nats_each(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every character, in float32 at least: logits `[... V]`, targets `[...]` -> nats `[...]`."""
    wide = logits.reshape(-1, logits.shape[-1])
    wide = wide if wide.dtype == torch.float64 else wide.float()
    return F.cross_entropy(wide, targets.reshape(-1), reduction="none").view(targets.shape)


def mean_nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, a scalar in nats per character: logits `[B T V]`, targets `[B T]`."""
    wide = logits.reshape(-1, logits.shape[-1])
    wide = wide if wide.dtype == torch.float64 else wide.float()
    return F.cross_entropy(wide, targets.reshape(-1))
