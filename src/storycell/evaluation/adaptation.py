"""Adapting while reading: a model's prediction corrected by what the text has said so far.

`Adapter` reads B texts side by side, a character of each at a time. Where the last characters have occurred before, in
the same text (2 to 16 of them, or the word and the word before it) or in any text of this reading (5 to 20), the
character that followed then is predicted again. How much that weighs is learnt on the way, for each kind of context, by
how often in a row it came true and by how likely the model thinks it. With u for each context that predicts w,

    p(w) ~ exp(a log p_model(w) + b log p_ngram(w) + v(w) + sum of u)

where a and b, the exponents, depend on the model's entropy, the longest n-gram seen, and how many contexts are known;
v(w), which begins as 0, depends on the last character. The gradient of the loss moves a, b, u and v after every
character: the logistic mixing of Mahoney 2005 ("Adaptive Weighing of Context Models for Lossless Data Compression",
TR CS-2005-16), over all characters at once instead of bits.

Nothing but what has been read before enters a prediction, so a decoder adapts alike: float64 and whole numbers, by the
same numpy operations on arrays of the same shapes, on one thread.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.data.vocab import Vocabulary
from storycell.evaluation.ngram import NGram
from storycell.types import BOUNDARY, RESERVED, UNKNOWN

OWN = (2, 3, 4, 5, 6, 8, 11, 16)  # characters of a context in the same text
ALL = (5, 7, 10, 14, 20)  # in all texts of this reading
LONGEST = 20
_OWN_SLOTS, _ALL_SLOTS = 1 << 12, 1 << 20  # contexts remembered, of each length
_RUNS = 4  # levels of how often in a row a context's prediction came true; level 0 is a context never seen
_LIKELY = 4  # levels of how likely the model thinks it, a nat each
_ENTROPIES, _ORDERS = 8, 6  # levels of the model's entropy, and of the longest n-gram that was seen
_ENTROPY_NATS = 0.35  # of one level
_LEAST_NATS = -20.0  # a log probability counts as no less
_LEAST_PROBABILITY = 1e-9  # of the n-gram
RATE, EXPONENT_RATE, CHARACTER_RATE = 0.02, 0.002, 0.01
_STEADY_CHARS, _LEAST_RATE = 20_000, 0.2  # after so many the rates begin to fall, with the square root, to that share

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


class _Memory:
    """What followed each context last, and how often in a row: tables `[rows kinds slots]`, found by a hash."""

    def __init__(self, rows: int, kinds: int, slots: int) -> None:
        self._slots = slots
        shape = (rows, kinds, slots)
        self._check = np.zeros(shape, np.uint32)  # tells a context from others in its slot; 0: nothing there
        self._symbol, self._run = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
        self._kinds = np.arange(kinds)[None]

    def forget(self, rows: Whole) -> None:
        """Empty some rows."""
        self._check[rows] = 0

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Give up the other rows."""
        self._check, self._symbol, self._run = self._check[rows], self._symbol[rows], self._run[rows]

    def look_up(self, rows: Whole, hashed: npt.NDArray[np.uint64]) -> tuple[Whole, Whole]:
        """The symbols that contexts of these hashes predict, and their levels, 0 for one never seen: `[B kinds]`."""
        slot = (hashed >> np.uint64(40)).astype(np.int64) % self._slots
        self._at = (rows[:, None], self._kinds, slot)
        self._asked = (hashed & np.uint64(0xFFFFFFFF)).astype(np.uint32) | np.uint32(1)
        self._seen = self._check[self._at] == self._asked
        return self._symbol[self._at].astype(np.int64), np.where(
            self._seen, 1 + self._run[self._at].astype(np.int64), 0
        )

    def learn(self, symbols: Whole) -> None:
        """What came after the contexts that were looked up last, `[B]`."""
        came_true = self._seen & (self._symbol[self._at] == symbols[:, None])
        self._run[self._at] = np.where(came_true, np.minimum(self._run[self._at] + 1, _RUNS - 1), 0)
        self._symbol[self._at] = symbols[:, None]
        self._check[self._at] = self._asked


@dataclass
class _Prediction:
    """What the gradient needs of the last one."""

    p: Floats  # [B V], without the unknown character
    logs: Floats  # [B V experts]
    symbols: Whole  # [B contexts]
    levels: Whole
    likely: Whole
    bucket: Whole  # [B]
    known: Whole


class Adapter:
    """Predicts the next character of `texts` texts, side by side at the beginning, and learns from what came.

    `ngram`, if there is one, is over the same ids as the model. For every character: `predict`, then `learn`; where
    texts end, `move_on`.
    """

    def __init__(self, vocab: Vocabulary, texts: int, ngram: NGram | None = None) -> None:
        V = len(vocab)
        self._ngram = ngram
        if vocab.kind == "characters":
            word = [c.isalnum() for c in vocab.characters]
        else:
            word = [(chr(k).isalnum() and k < 128) or k >= 128 for k in range(V - RESERVED)]
        self._in_word = np.array([False] * RESERVED + word + [False])  # the last stands for what was before the text
        self._before = V
        self._last = self._begin(texts)
        self._own = _Memory(texts, len(OWN) + 2, _OWN_SLOTS)
        self._all = _Memory(1, len(ALL), _ALL_SLOTS)
        self._hashes = _powers(OWN), _powers(ALL)
        contexts = len(OWN) + 2 + len(ALL)
        self._weights = np.tile(0.05 * np.outer(np.arange(1 + _RUNS), np.arange(2, 2 + _LIKELY)), (contexts, 1, 1))
        start = [0.85, 0.25] if ngram else [1.0]
        self._exponents = np.tile(start, (_ORDERS * _ENTROPIES, 1))
        self._exponents_known = np.zeros((contexts + 1, len(start)))
        self._characters = np.zeros((V + 1, V))
        self._chars = 0
        self._contexts = None if ngram is None else ngram.begin(texts)
        if ngram is not None:
            self._contexts = ngram.contexts(np.full((texts, 1), BOUNDARY), ngram.begin(texts))[:, 0]
        self._made: _Prediction | None = None

    def _begin(self, texts: int) -> Whole:
        last = np.full((texts, LONGEST), self._before)
        last[:, 0] = BOUNDARY
        return last

    def predict(self, p_model: Floats) -> Floats:
        """The model's probabilities `[B V]` -> adapted ones; the unknown character's stays as it is."""
        B = len(p_model)
        rows = np.arange(B)
        own, all_ = self._hash()
        found = self._own.look_up(rows, own), self._all.look_up(np.zeros(B, np.int64), all_)
        symbols, levels = (np.concatenate(pair, axis=1) for pair in zip(*found, strict=True))
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(p_model), _LEAST_NATS)[..., None]
        entropies = -(p_model * logs[..., 0]).sum(axis=1)
        bucket = np.minimum((entropies / _ENTROPY_NATS).astype(np.int64), _ENTROPIES - 1)
        if self._ngram is not None and self._contexts is not None:
            p_ngram = np.log(np.maximum(self._ngram.distributions(self._contexts), _LEAST_PROBABILITY))
            logs = np.concatenate([logs, p_ngram[..., None]], axis=2)
            longest = self._ngram.longest(self._contexts)
            bucket += _ENTROPIES * np.clip(longest - (self._ngram.order - _ORDERS + 1), 0, _ORDERS - 1)
        known = (levels > 0).sum(axis=1)
        likely = np.minimum(-logs[rows[:, None], symbols, 0], _LIKELY - 1).astype(np.int64)
        exponents = self._exponents[bucket] + self._exponents_known[known]
        scores = self._characters[self._last[:, 0]].copy()
        for k in range(logs.shape[2]):
            scores += exponents[:, k, None] * logs[..., k]
        weights = np.where(levels > 0, self._weights[np.arange(symbols.shape[1])[None], levels, likely], 0.0)
        np.add.at(scores, (rows[:, None], symbols), weights)
        scores[:, UNKNOWN] = -np.inf
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        self._made = _Prediction(p, logs, symbols, levels, likely, bucket, known)
        adapted: Floats = p * (1 - p_model[:, UNKNOWN, None])
        adapted[:, UNKNOWN] = p_model[:, UNKNOWN]
        return adapted

    def learn(self, symbols: npt.NDArray[np.integer]) -> None:
        """Take in what came, `[B]`; of an unknown character only that it came."""
        made, came = self._made, symbols.astype(np.int64)
        assert made is not None
        rows = np.arange(len(came))
        known = came != UNKNOWN
        rate = max(_LEAST_RATE, (1 + self._chars / _STEADY_CHARS) ** -0.5)
        error = made.p * known[:, None]
        error[rows[known], came[known]] -= 1
        pushed = np.where(made.levels > 0, error[rows[:, None], made.symbols], 0.0)
        kinds = np.broadcast_to(np.arange(made.symbols.shape[1]), made.symbols.shape)
        np.subtract.at(self._weights, (kinds, made.levels, made.likely), rate * RATE * pushed)
        gradient = np.einsum("bv,bvk->bk", error, made.logs, optimize=False)
        np.subtract.at(self._exponents, made.bucket, rate * EXPONENT_RATE * gradient)
        np.subtract.at(self._exponents_known, made.known, 0.5 * rate * EXPONENT_RATE * gradient)
        np.subtract.at(self._characters, self._last[:, 0], rate * CHARACTER_RATE * error)
        self._own.learn(came)
        self._all.learn(came)
        self._last = np.concatenate([came[:, None], self._last[:, :-1]], axis=1)
        if self._ngram is not None and self._contexts is not None:
            self._contexts = self._ngram.contexts(came[:, None], self._contexts)[:, 0]
        self._chars += len(came)

    def move_on(self, fresh: Whole, ended: npt.NDArray[np.bool_]) -> None:
        """Where texts ended: a new one begins in each of the rows `fresh`, and the rows that `ended` are given up."""
        self._last[fresh] = self._begin(len(fresh))
        self._own.forget(fresh)
        if self._ngram is not None and self._contexts is not None:
            begun = self._ngram.begin(len(fresh))
            self._contexts[fresh] = self._ngram.contexts(np.full((len(fresh), 1), BOUNDARY), begun)[:, 0]
            self._contexts = self._contexts[~ended]
        if ended.any():
            self._last = self._last[~ended]
            self._own.keep(~ended)

    def _hash(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """The hashes of the contexts before each text's next character, `[B kinds]`: in its own text, in all."""
        last = self._last.astype(np.uint64) + np.uint64(1)
        own, all_ = ((last[:, :, None] * powers).sum(axis=1) for powers in self._hashes)
        outside = (~self._in_word[self._last]).cumsum(axis=1)
        word, words = (last * (outside <= most) @ _POWERS for most in (0, 1))
        own = np.concatenate([own, word[:, None] + np.uint64(1), words[:, None] + np.uint64(2)], axis=1)
        return _mix(own), _mix(all_)


_MULTIPLIER = 0x9E3779B97F4A7C15
_POWERS = np.array([pow(_MULTIPLIER, k + 1, 1 << 64) for k in range(LONGEST)], np.uint64)


def _powers(lengths: tuple[int, ...]) -> npt.NDArray[np.uint64]:
    """What the last characters, newest first, are multiplied with to hash so many of them, `[20 lengths]`."""
    return np.where(np.arange(LONGEST)[:, None] < np.array(lengths), _POWERS[:, None], np.uint64(0))


def _mix(hashed: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of a hash made to depend on all (the end of splitmix64)."""
    hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return hashed ^ (hashed >> np.uint64(27))
