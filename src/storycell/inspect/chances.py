"""How likely a character is to come next, of a model whose ids may be pieces of words.

A piece is expected as a whole, so what is expected of the character after some part of it is the share of those pieces
that go on with it, among all that begin with that part (`Chances`); after the whole of it also what is expected then.
Other ways to put the same text together of pieces are left out: the model was never shown them.

Where a prompt ends, more text may change its last pieces (`Vocabulary.settled`), and a model expects little that is
right after pieces that would have been others. `Endings` adds up all ways in which a text can go on from there: from
each of those pieces on one that reaches beyond the end, or all of them as they are and then any.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.data.pieces import find_prefixes
from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.generation.generate import find_unsettled
from storycell.inspect.trace import probabilities
from storycell.language_model import LanguageModel, State
from storycell.types import RESERVED

Floats = npt.NDArray[np.floating]
Ids = npt.NDArray[np.intp]
_LEAST = 1e-300  # of a probability, in a logarithm


class Chances:
    """How likely one of the characters that are `wanted` comes next."""

    def __init__(self, vocab: Vocabulary, wanted: Callable[[str], bool]) -> None:
        self._vocab = vocab
        self.ids = [k for k in range(RESERVED, len(vocab)) if wanted(vocab.text_of(k)[0])]  # they begin with one
        if vocab.kind == "pieces":
            self._prefixes = find_prefixes(vocab.texts)
            texts = [vocab.texts[k] for k in self._prefixes.order]
            depths = range(int(vocab.lengths.max()) + 1)
            self._wanted = [np.array([wanted(t[depth : depth + 1]) for t in texts]) for depth in depths]

    def along(self, p: Floats, ids: npt.NDArray[np.int64]) -> Floats:
        """The chance after each character of `ids [n]`, `[chars]`; `p [n+1 V]` is what is expected before and after."""
        chances: Floats = p[1:][:, self.ids].sum(1)
        if self._vocab.kind != "pieces":
            return chances
        width = len(self._vocab.texts) + 1
        before = np.zeros((len(ids), width))  # in the order of the texts, and a zero behind them all
        before[:, :-1] = p[:-1, RESERVED + self._prefixes.order]
        lengths = self._vocab.lengths[ids]
        places = np.cumsum(lengths) - lengths
        starts = np.cumsum(self._vocab.lengths) - self._vocab.lengths - RESERVED
        found = np.empty(int(lengths.sum()))
        found[places[ids < RESERVED]] = chances[ids < RESERVED]
        for read in range(1, lengths.max(initial=0) + 1):
            here = np.flatnonzero((lengths >= read) & (ids >= RESERVED))
            at = starts[ids[here]] + read - 1
            edges = np.stack([self._prefixes.first[at], self._prefixes.end[at]], axis=1)
            edges = (edges + np.arange(len(here))[:, None] * width).ravel()
            begin = np.add.reduceat(before[here].ravel(), edges)[::2]
            going_on = np.where(np.append(self._wanted[read], False), before[here], 0)
            chance = np.add.reduceat(going_on.ravel(), edges)[::2]
            chance += np.where(lengths[here] == read, p[here, ids[here]] * chances[here], 0)
            found[places[here] + read - 1] = chance / np.maximum(begin, _LEAST)
        return found


@dataclass(frozen=True)
class Ending:
    """The last pieces of a text, as they are usually; from the place of each the ids that `beyond` it reach further.

    `left` are the characters from the place of each to the end.
    """

    then: list[int]
    beyond: list[Ids]
    left: list[str]


def cut(vocab: Vocabulary, texts: Sequence[str], least: int = 0) -> tuple[list[list[int]], Ending]:
    """The ids of texts that end alike up to their ending, and that.

    It has no more pieces than are not settled, or hold `least` characters, and one at least; `SettingsError` where the
    texts do not end in the same piece.
    """
    ids = [vocab.prompt_ids(text)[0] for text in texts]
    read = vocab.prompt_ids(texts[0])[1]
    settled, unsettled = find_unsettled(vocab, ids[0], read)
    size, lengths = max(1, len(ids[0]) - len(settled)), np.cumsum([len(vocab.text_of(k)) for k in reversed(ids[0])])
    if least:
        size = int(np.searchsorted(lengths, least)) + 1
    alike = 0
    while alike < min(size, *map(len, ids)) and len({one[-1 - alike] for one in ids}) == 1:
        alike += 1
    if not alike or (least and alike < size):
        raise SettingsError(
            f"{' and '.join(repr(text[-20:]) for text in texts)} do not end in the same pieces; what is read after an "
            "exchange must be the same, and begin where a word does"
        )
    then = ids[0][-alike:]
    left = ["".join(vocab.text_of(k) for k in then[at:]) for at in range(alike)]
    open_from = alike - (len(unsettled.ids) if unsettled else 0)
    beyond = [
        unsettled.beyond[at - open_from] if unsettled and at >= open_from else np.zeros(0, np.intp)
        for at in range(alike)
    ]
    return [one[:-alike] for one in ids], Ending(then, beyond, left)


class Endings:
    """What comes after texts, n of them, each with its ending: how likely one character is, and how likely another."""

    def __init__(self, vocab: Vocabulary, endings: Sequence[Ending], yes: Sequence[str], no: Sequence[str]) -> None:
        self._endings = endings
        self.then = np.zeros((len(endings), max(len(one.then) for one in endings)), np.int64)
        for row, one in zip(self.then, endings, strict=True):
            row[: len(one.then)] = one.then
        begin = {c: np.array(Chances(vocab, c.__eq__).ids, np.intp) for c in dict.fromkeys([*yes, *no])}
        self._answers = [
            [(begin[c], [_going_on(vocab, *way, c) for way in zip(one.beyond, one.left, strict=True)]) for c in both]
            for one, *both in zip(endings, yes, no, strict=True)
        ]

    def ask(self, model: LanguageModel, state: State) -> npt.NDArray[np.float64]:
        """The probabilities of yes and no, given the texts: `[2 streams]`, of states after any rounds of all n."""
        shown = state[model.state_names[0]][-1]
        n, streams = len(self._endings), len(shown)
        then = np.tile(self.then, (streams // n, 1))
        every, _ = model.logits(then, {name: np.ascontiguousarray(value) for name, value in state.items()})
        p = probabilities(np.concatenate([model.output(shown)[:, None], every], axis=1)).astype(np.float64)
        found = np.empty((2, streams))
        for k, (one, answers) in enumerate(zip(self._endings, self._answers, strict=True)):
            mine = p[k::n]  # [rounds K+1 V]
            behind = np.cumprod([np.ones(len(mine)), *(mine[:, at, t] for at, t in enumerate(one.then))], axis=0)
            ways = [behind[at] * mine[:, at, ids].sum(1) for at, ids in enumerate(one.beyond)]
            every_way = np.maximum(sum(ways, behind[-1]), _LEAST)
            for j, (begin, reaching) in enumerate(answers):
                answer = behind[-1] * mine[:, len(one.then), begin].sum(1)
                answer = sum((behind[at] * mine[:, at, ids].sum(1) for at, ids in enumerate(reaching)), answer)
                found[j, k::n] = np.maximum(answer, _LEAST) / every_way
        return found


def _going_on(vocab: Vocabulary, beyond: Ids, left: str, character: str) -> Ids:
    """Those of the ids that have a character behind what is left of a text."""
    return np.array([k for k in beyond.tolist() if vocab.text_of(k)[len(left)] == character], np.intp)
