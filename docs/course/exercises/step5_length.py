"""Step 5, sequence length and layers. Fill in, then: python -m pytest docs/course/exercises/test_step5_length.py"""

from numpy.typing import NDArray


def chunks(ids: NDArray, streams: int, chunk: int) -> list[tuple[NDArray, NDArray]]:
    """The steps of one reading of a text: (inputs, targets) of each, both `[streams chunk]`.

    Each stream is a stretch of the text; row b of a step goes on where row b of the step before ended. The target of a
    character is the one that follows it in the text. What does not fill a last step of all streams is left out.
    """
    raise NotImplementedError


def reach(place: int, chunk: int) -> int:
    """How many characters before it the gradient of the loss at a character reaches.

    `place` is the number of the character, from 0, in a stream that is cut into chunks.
    """
    raise NotImplementedError


def parameters(V: int, H: int, layers: int) -> int:
    """The number of weights of the article's LSTM: V one-hot characters, layers of H, no biases in the gates.

    The output layer has V rows of H weights and V biases.
    """
    raise NotImplementedError
