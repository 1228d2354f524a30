"""The quote latch as the article describes it, beside what a model does, and what happens when its units are held.

A unit that follows the quotes need not be what the model uses. So its state is held at the value it has inside quotes,
or outside, while the model reads real stories (`HoldTest`): if the model depends on it, a closing quote becomes less
likely where one closes (held outside) and likely where nothing was opened (held inside). Random units are held in the
same way for comparison. `LatchReading` follows one unit along a sentence, `Moments` tells what its gates do at quotes
and between them, over the whole text.

`wire_by_hand` is the article's latch with weights set by hand: an LSTM of four units fed with one-hot characters, never
trained.

* Unit 0 is the latch. A quote opens its input gate and shuts its forget gate, and the candidate is the opposite of what
  the hidden state holds: +1 (inside) after an opening quote, -1 (outside) after a closing one. Any other character
  shuts the input gate and opens the forget gate. The output gate is always open.
* Unit 1 says that a sentence has just ended inside quotes, unit 2 that a comma has just been read outside (and keeps it
  over one space), unit 3 that the last character was a space.
* The output layer expects a closing quote from unit 1 alone, and an opening one from units 2 and 3 together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.config import ModelSettings
from storycell.data.vocab import Vocabulary
from storycell.evaluation.statistics import clustered_mean
from storycell.generation.generate import stream_texts
from storycell.generation.sampler import Sampling, held_step
from storycell.generation.text_stream import gather
from storycell.inspect.chances import Chances
from storycell.inspect.features import inside_quotes, is_quote
from storycell.inspect.trace import Trace, probabilities, trace
from storycell.language_model import Held, LanguageModel
from storycell.runs.network import new_model
from storycell.types import BOUNDARY, RESERVED

Floats = npt.NDArray[np.floating]

LATCH, MAY_CLOSE, MAY_OPEN, SPACE = range(4)
UNITS = ("inside quotes", "may close", "may open", "space")
_K = 12.0  # what opens a gate: sigmoid(12) = 0.999994
_SHOWN = 0.7615941559557649  # tanh(1): what the hidden state shows of a cell at 1, with the output gate open
_INPUT, _FORGET, _CANDIDATE, _OUTPUT = range(4)  # the blocks of rows in a weight, in torch's order i f g o


def wire_by_hand(text: str) -> tuple[LanguageModel, Vocabulary]:
    """The latch, for the characters of `text` and those it needs."""
    vocab = Vocabulary("".join(sorted(set(text) | set('",.!? '))))
    model = new_model(len(vocab), ModelSettings(cell="lstm", layers=1, hidden=4, embedding=0))
    place = {c: k + RESERVED for k, c in enumerate(vocab.characters)}
    w = {name: np.zeros_like(weight) for name, weight in model.weights().items()}
    W_x, W_h = w["recurrent.weight_ih_l0"].reshape(4, 4, -1), w["recurrent.weight_hh_l0"].reshape(4, 4, 4)
    _wire(W_x, W_h, w["recurrent.bias_ih_l0"].reshape(4, 4), place)
    w["output.weight"][place['"']] = np.array([0.0, 16.0, 8.0, 8.0]) / _SHOWN
    w["output.bias"][place['"']] = 8.0
    return model.with_weights(w), vocab


def _wire(W_x: Floats, W_h: Floats, bias: Floats, place: dict[str, int]) -> None:
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


SENTENCES = (
    'The writer said, "you need to use double quotes more."',
    'John said, "I can\'t make it to the gym today because I have to work."',
)
_STORIES, _CHARS = 32, 320  # of the causal test
_WRITTEN, _WRITTEN_CHARS = 8, 300  # stories written under a hold

Unit = tuple[str, int, int]  # name of the value, layer, unit


@dataclass(frozen=True)
class LatchReading:
    """One unit along one sentence: `values[name] [T]`, and the probability of a quote after each character `[T]`."""

    text: str
    layer: int
    unit: int
    values: dict[str, Floats]
    quote_next: Floats


@dataclass(frozen=True)
class Moments:
    """Mean value of a unit at one kind of character."""

    where: str  # opening quote, inside, closing quote, outside
    chars: int
    means: dict[str, float]
    stderrs: dict[str, float]  # over blocks of 1,000 characters


@dataclass(frozen=True)
class HoldResult:
    """What a hold does to the probability of a quote, the mean over places and its standard error over stories."""

    label: str
    units: tuple[Unit, ...]
    closing: float  # where the text closes a quotation, held at the outside value
    closing_stderr: float
    closing_places: int
    opening: float  # after the end of a sentence outside quotes, held at the inside value
    opening_stderr: float
    opening_places: int


@dataclass(frozen=True)
class HeldStory:
    """What a model generates under a hold: of several stories the first, and how many quotes there are in all."""

    label: str
    text: str
    quotes: int
    chars: int


def quote_of(vocab: Vocabulary) -> tuple[str, str] | None:
    """The opening and closing quote that a model knows, straight ones first."""
    for pair in ('""', "“”", "«»"):
        if pair[0] in vocab.characters and pair[1] in vocab.characters:
            return pair[0], pair[1]
    return None


def read_sentence(model: LanguageModel, vocab: Vocabulary, sentence: str, layer: int, unit: int) -> LatchReading:
    """A unit along a sentence with straight quotes, which are made those that the model knows."""
    quotes = quote_of(vocab) or ('"', '"')
    first, _, rest = sentence.partition('"')
    said, _, last = rest.partition('"')
    text = f"{first}{quotes[0]}{said}{quotes[1]}{last}"
    ids, read = vocab.prompt_ids(text, "replace")
    path = trace(model, np.array([BOUNDARY, *ids]), vocab)
    h = path.states[-1][path.output]
    expected = np.concatenate([probabilities(model.output(some)) for some in (h[:1], h[1:])])
    return LatchReading(read, layer, unit, path.unit(layer, unit), _quote_chances(vocab).along(expected, path.ids))


def moments(path: Trace, layer: int, unit: int) -> list[Moments]:
    """What a unit's gates and states are on average at opening quotes, inside, at closing quotes and outside.

    A piece that holds a quote is neither inside nor outside as a whole: its other characters are left out.
    """
    inside, quote = inside_quotes(path.text) > 0, is_quote(path.text)
    plain = (path.by_step(quote.astype(np.float64)) == 0)[path.places]
    columns = path.unit(layer, unit)
    block = np.arange(len(path)) // 1000
    found = []
    kinds = {
        "opening quote": quote & inside,
        "inside": inside & plain,
        "closing quote": quote & ~inside,
        "outside": ~inside & plain,
    }
    for where, here in kinds.items():
        if here.sum() > 1:
            each = {name: clustered_mean(column[here], block[here]) for name, column in columns.items()}
            means, stderrs = {n: m for n, (m, _) in each.items()}, {n: s for n, (_, s) in each.items()}
            found.append(Moments(where, int(here.sum()), means, stderrs))
    return found


class HoldTest:
    """The causal test of a model on the stories of a text that say most within their first characters."""

    def __init__(self, path: Trace) -> None:
        self.path = path
        self.chances = _quote_chances(path.vocab)
        self.ids = self._stories()
        text = ["".join("\0" if k == BOUNDARY else path.vocab.text_of(int(k)) for k in row) for row in self.ids]
        text = [line.ljust(max(map(len, text)), "\0") for line in text]
        inside = np.stack([inside_quotes(line) for line in text]) > 0
        quote = np.stack([is_quote(line) for line in text])
        ended = np.array([[c in ".!?" for c in line] for line in text])
        self.closings = np.zeros_like(quote)
        self.closings[:, :-1] = quote[:, 1:] & inside[:, :-1] & ~inside[:, 1:]
        self.openings = ended & ~inside
        self._inside = path.once_read(inside_quotes(path.text) > 0)
        nothing = self._probabilities({})
        self._closing_before, self._opening_before = nothing[self.closings], nothing[self.openings]

    @property
    def is_possible(self) -> bool:
        """Whether the text holds quotations to test with."""
        return bool(self.closings.sum() > 1 and self.openings.sum() > 1)

    def values_of(self, units: Sequence[Unit]) -> tuple[Held, Held]:
        """What units are on average inside and outside quotes."""
        columns = {unit: self.path.column(*unit) for unit in units}
        return (
            {unit: float(column[self._inside].mean()) for unit, column in columns.items()},
            {unit: float(column[~self._inside].mean()) for unit, column in columns.items()},
        )

    def result(self, label: str, units: Sequence[Unit]) -> HoldResult:
        """Hold units (none: the model as it is)."""
        if not units:
            closing, opening = self._closing_before, self._opening_before
        else:
            inside, outside = self.values_of(units)
            closing = self._probabilities(outside)[self.closings]
            opening = self._probabilities(inside)[self.openings]
        story = np.repeat(np.arange(len(self.ids))[:, None], self.closings.shape[1], axis=1)
        closed, closed_stderr = clustered_mean(closing, story[self.closings])
        opened, opened_stderr = clustered_mean(opening, story[self.openings])
        return HoldResult(label, tuple(units), closed, closed_stderr, len(closing), opened, opened_stderr, len(opening))

    def random_units(self, count: int, name: str, seed: int) -> list[Unit]:
        """Units drawn from all layers."""
        H = self.path.hidden
        drawn = np.random.default_rng(seed).choice(
            self.path.layers * H, min(count, self.path.layers * H), replace=False
        )
        return [(name, int(u) // H, int(u) % H) for u in drawn]

    def generate(self, label: str, held: Held, prompt: str, seed: int = 1) -> HeldStory:
        """Stories generated with some units held."""
        vocab = self.path.vocab
        pieces = stream_texts(
            self.path.model, vocab, prompt, _WRITTEN_CHARS, count=_WRITTEN, sampling=Sampling(), seed=seed,
            unknown="replace", hold=held,
        )  # fmt: skip
        texts, read = gather(pieces, _WRITTEN), vocab.prompt_ids(prompt, "replace")[1]
        return HeldStory(label, read + texts[0], int(sum(is_quote(t).sum() for t in texts)), sum(map(len, texts)))

    def _probabilities(self, held: Held) -> npt.NDArray[np.float64]:
        """Probability of a quote after every character, `[stories chars]`."""
        step, state = held_step(self.path.model, held), self.path.model.zero_state(len(self.ids))
        expected = []
        for k in self.ids.T:
            logits, state = step(k, state)
            expected.append(probabilities(logits))
        out = np.zeros(self.closings.shape)
        for line, ids, p in zip(out, self.ids, np.stack(expected, axis=1), strict=True):
            chances = self.chances.along(np.concatenate([p[:1], p]).astype(np.float64), ids)
            line[: len(chances)] = chances
        return out

    def _stories(self) -> npt.NDArray[np.int64]:
        """The first characters of stories, `[stories chars]`, those with most quotes; short ones end in boundaries."""
        all_ids, starts, vocab = self.path.all_ids, self.path.starts, self.path.vocab
        width = max(1, round(_CHARS * len(self.path.ids) / len(self.path)))  # steps
        if len(starts) < _STORIES:  # a text of few stories is cut in parts
            starts = np.arange(0, max(1, len(all_ids) - width), width)
        rows = np.zeros((len(starts), width), dtype=np.int64)
        for row, start, end in zip(rows, starts, [*starts[1:], len(all_ids)], strict=True):
            piece = all_ids[start : min(end, start + width)]
            row[: len(piece)] = piece
        held = np.array([any(is_quote(vocab.text_of(k))) for k in range(len(vocab))])
        return rows[np.argsort(-held[rows].sum(1), kind="stable")[:_STORIES]]


def _quote_chances(vocab: Vocabulary) -> Chances:
    return Chances(vocab, lambda c: bool(c) and bool(is_quote(c)[0]))
