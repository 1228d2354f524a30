"""The article's latch, wired by hand: an LSTM of four units whose weights were never trained.

Unit 0 is the latch. A quote opens its input gate and shuts its forget gate, and what it writes is the opposite of what
the hidden state says it holds: +1 (inside) after an opening quote, -1 (outside) after a closing one. Any other
character shuts the input gate and opens the forget gate. The output gate is always open.
Unit 1 says that a sentence has just ended inside quotes, unit 2 that a comma has just been read outside (and keeps it
over one space), unit 3 that the last character was a space. The output layer expects a closing quote from unit 1 alone
and an opening one from units 2 and 3 together.

In: the characters of a text. Out: a `CharLM` fed with one-hot characters, and its vocabulary.
"""

import torch

from storycell.model import CharLM
from storycell.vocab import BOUNDARY, RESERVED, Vocabulary

LATCH, MAY_CLOSE, MAY_OPEN, SPACE = range(4)
UNITS = ("inside quotes", "may close", "may open", "space")
_K = 12.0  # what opens a gate: sigmoid(12) = 0.999994
_SHOWN = 0.7615941559557649  # tanh(1): what the hidden state shows of a cell at 1, with the output gate open
_INPUT, _FORGET, _CANDIDATE, _OUTPUT = range(4)  # the blocks of rows in a weight, in torch's order i f g o


def handwired(text: str) -> tuple[CharLM, Vocabulary]:
    """The latch, for the characters of `text` and those it needs."""
    vocab = Vocabulary("".join(sorted(set(text) | set('",.!? '))))
    lm = CharLM(len(vocab), 4, embedding_size=0, seed=0)
    place = {c: k + RESERVED for k, c in enumerate(vocab.characters)}
    with torch.no_grad():
        for weight in lm.parameters():
            weight.zero_()
        first = lm.recurrent.layers()[0]
        _wire(first["weight_ih"].view(4, 4, -1), first["weight_hh"].view(4, 4, 4), first["bias_ih"].view(4, 4), place)
        lm.output.weight[place['"']] = lm.output.weight.new_tensor([0.0, 16.0, 8.0, 8.0]) / _SHOWN
        lm.output.bias[place['"']] = 8.0
    return lm, vocab


def _wire(W_x: torch.Tensor, W_h: torch.Tensor, bias: torch.Tensor, place: dict[str, int]) -> None:
    """Weights `[gate unit input]`, `[gate unit unit]` and biases `[gate unit]`, in place."""
    bias[_OUTPUT] = _K  # always shown
    bias[_INPUT], bias[_FORGET] = _K, -_K  # every unit writes anew ...
    quote = place['"']
    bias[_INPUT, LATCH], bias[_FORGET, LATCH] = -_K, _K  # ... but the latch keeps
    for k in (quote, BOUNDARY):
        W_x[_INPUT, LATCH, k], W_x[_FORGET, LATCH, k] = 2 * _K, -2 * _K
    W_h[_CANDIDATE, LATCH, LATCH] = -2 * _K / _SHOWN  # a quote turns it round
    W_x[_CANDIDATE, LATCH, BOUNDARY] = -4 * _K  # a story begins outside
    ended = [place[c] for c in ".!?"]
    bias[_CANDIDATE, MAY_CLOSE] = -3 * _K
    W_x[_CANDIDATE, MAY_CLOSE, ended] = 3 * _K
    W_h[_CANDIDATE, MAY_CLOSE, LATCH] = _K / _SHOWN
    bias[_CANDIDATE, MAY_OPEN] = -3 * _K
    W_x[_CANDIDATE, MAY_OPEN, place[","]] = 3 * _K
    W_h[_CANDIDATE, MAY_OPEN, LATCH] = -_K / _SHOWN
    W_x[_INPUT, MAY_OPEN, place[" "]], W_x[_FORGET, MAY_OPEN, place[" "]] = -2 * _K, 2 * _K
    bias[_CANDIDATE, SPACE] = -_K
    W_x[_CANDIDATE, SPACE, place[" "]] = 2 * _K
