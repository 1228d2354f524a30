"""Step 6, the latch. Fill in, then: python -m pytest docs/course/exercises/test_step6_latch.py"""


def inside_quotes(text: str) -> list[bool]:
    """For every character of a text with straight quotes, whether a quotation is open once it was read."""
    raise NotImplementedError


def latch_weights(character: str) -> tuple[float, float, float]:
    """What a character adds to the gates of a latch, before sigmoid and tanh: (input gate, forget gate, candidate).

    The unit sees nothing but the character, and has no biases. From the comma on its cell is to be near 1, until one of
    . ! ? has been read, and near 0 otherwise. Whatever is read in between must not matter, hundreds of characters or
    more commas. Numbers from -15 to 15 will do.
    """
    raise NotImplementedError


def share_restored(base: float, source: float, patched: float) -> float:
    """How much of the way from the base's logit to the source's a patch goes: 0 none of it, 1 all of it."""
    raise NotImplementedError
