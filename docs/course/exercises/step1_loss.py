"""Step 1, what a loss means. Fill in, then: python -m pytest docs/course/exercises/test_step1_loss.py"""


def perplexity(probabilities: list[float]) -> float:
    """The perplexity of a model which gave these probabilities to the characters that came."""
    raise NotImplementedError


def bigram_loss(learnt: str, text: str) -> float:
    """The mean loss, in nats, of every character of `text` but the first under the pairs of characters of `learnt`.

    The probability of b after a is (pairs ab in `learnt`, plus 1) / (pairs that begin with a in `learnt`, plus V),
    where V is the number of different characters in both texts together.
    """
    raise NotImplementedError


def packed_bytes(nats: float, chars: int) -> float:
    """The bytes of a text of so many characters, packed by a model with this loss, in nats per character."""
    raise NotImplementedError
