"""Nats, bits and perplexity: losses are nats per character everywhere inside, and only this module converts.

A character that the model does not know counts `ESCAPE_BITS`: 20 bits for an escape that a coder would reserve a
probability of 2^-20 for, and 21 bits to name one of Unicode's 1,114,112 code points. (Reserving the escape adds 1.4e-6
bits to every known character, too little to show in any figure here.)
"""

import math

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


def plus_minus(mean: float, error: float | None, form: str = ".4f") -> str:
    """A mean and its error as `0.8338 ± 0.0042`; the mean alone where the error is unknown, as of a single block."""
    return f"{mean:{form}}" if error is None or math.isnan(error) else f"{mean:{form}} ± {error:{form.lstrip('+')}}"
