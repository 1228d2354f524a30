"""An interpolated character n-gram with modified Kneser-Ney discounts.

After Chen & Goodman 1999, "An Empirical Study of Smoothing Techniques for Language Modeling"
(https://doi.org/10.1006/csla.1999.0128):

    p_k(w | u) = max(c(u w) - D(c(u w)), 0) / c(u .)  +  gamma(u) p_{k-1}(w | u without its first character)

where u has k - 1 characters, gamma(u) is the mass that the discounts D_1, D_2, D_3+ of order k took away, and p_0 is
uniform. At the highest order c counts occurrences; below it, how many different characters stand before the n-gram,
except where it begins a story, since nothing stands before that: there it counts occurrences again. A context reaches
back to the boundary that begins its story and never beyond, as a network starts every story from its zero state.

There is no hash table. The n-grams of order k are numbered by sorting (number of the first k - 1 characters, last
character), all positions of the text at once; a node of the trie is a row of sorted keys, and looking up is a binary
search. That is exact and takes a second an order for ten million characters.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell import loss
from storycell.errors import CorpusError, SettingsError
from storycell.types import BOUNDARY, UNKNOWN, Ids

LONGEST = 64  # orders; no text of ours repeats itself over more
FALLBACK = (0.5, 1.0, 1.5)  # discounts where a text is too small, or an order too low, to estimate them (as in KenLM)
_SLICE = 1 << 22  # targets scored at once

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Order:
    """The n-grams of k characters. The last entry of `share` and `left` stands for all that were never seen."""

    keys: Whole  # sorted, [n-grams]: number of the first k - 1 characters * V + last character
    share: Floats  # [n-grams + 1]: the first term of the formula
    left: Floats  # [contexts + 1]: gamma, 1 for a context that nothing follows


class NGram:
    """A fitted n-gram of up to `order` characters, over ids below V."""

    def __init__(self, V: int, orders: list[_Order]) -> None:
        self.V, self._orders = V, orders

    @property
    def order(self) -> int:
        """The longest n-gram, in characters."""
        return len(self._orders)

    @property
    def keys(self) -> Whole:
        """All that it has seen, of all orders after one another: what tells it from another n-gram."""
        return np.concatenate([order.keys for order in self._orders])

    @property
    def params(self) -> int:
        """How many n-grams it has seen, of all orders together."""
        return sum(len(order.keys) for order in self._orders)

    @classmethod
    def fit(cls, ids: Ids, V: int, order: int = 12) -> "NGram":
        """Count a training text `[tokens]`; a text of several stories teaches their ends too.

        The orders end where no story is long enough to hold one.
        """
        if not 1 <= order <= LONGEST:
            raise SettingsError(f"order = {order}: it must be from 1 to {LONGEST}")
        if len(ids) < 2:
            raise CorpusError("the text holds no characters to count")
        x = _close_last_story(ids).astype(np.int64)
        reach = _reach(x, order, None)
        node, counts = x.astype(np.int32), np.bincount(x[1:], minlength=V)
        keys = np.arange(V, dtype=np.int64)
        orders: list[_Order] = []
        contexts = 1
        for k in range(2, order + 1):
            at = np.flatnonzero(reach >= k - 1)
            if not len(at):
                break  # no story is as long
            longer_keys, inverse, occurrences = np.unique(
                node[at - 1].astype(np.int64) * V + x[at], return_inverse=True, return_counts=True
            )
            inverse = inverse.astype(np.int32)
            last = np.empty(len(longer_keys), dtype=np.int64)
            last[inverse] = at  # any one place of each n-gram
            preceded = np.bincount(node[last], minlength=len(keys))
            orders.append(_smooth(keys, np.where(preceded, preceded, counts), contexts, V))
            contexts, keys, counts = len(keys), longer_keys, occurrences
            node[at] = inverse
        return cls(V, [*orders, _smooth(keys, counts, contexts, V)])

    def score(self, ids: Ids, *, windows: int | None = None) -> Floats:
        """Nats of every target `[chars]`, in the order of the text; `windows` as `evaluator` has them."""
        x = (ids if windows else _close_last_story(ids)).astype(np.int64)
        reach = _reach(x, self.order, windows)
        parts = []
        for first in range(1, len(x), _SLICE):
            begin = max(0, first - self.order)
            part = slice(begin, first + _SLICE)
            parts.append(self._probabilities(x[part], reach[part])[first - begin :])
        with np.errstate(divide="ignore"):  # log 0 of an unknown character, replaced below
            nats = -np.log(np.concatenate(parts))
        nats[x[1:] == UNKNOWN] = loss.ESCAPE_NATS
        return nats

    def distribution(self, context: list[int]) -> Floats:
        """The probabilities `[V]` of what follows a context; one that begins with 0 begins a story."""
        context = context[max(0, len(context) - self.order + 1) :]
        rows = np.array([[*context, w] for w in range(self.V)], dtype=np.int64)
        reach = np.tile(np.arange(len(context) + 1), self.V)
        return self._probabilities(rows.reshape(-1), reach).reshape(rows.shape)[:, -1]

    def begin(self, B: int) -> Whole:
        """The contexts of B texts of which nothing has been read, `[B orders]`."""
        return np.tile([0, *(len(order.left) - 1 for order in self._orders[1:])], (B, 1))

    def contexts(self, ids: Whole, before: Whole) -> Whole:
        """The contexts after each of ids `[B T]`, `[B T orders]`: in each order the number of its last characters.

        `before [B orders]` are those before the first. A boundary begins a text, of which nothing was read before.
        """
        after = np.zeros((*ids.shape, self.order), np.int64)
        for k in range(1, self.order):
            if k == 1:
                after[..., k] = ids
                continue
            order = self._orders[k - 1]
            shorter = np.concatenate([before[:, None, k - 1], after[:, :-1, k - 1]], axis=1)
            found = self._find(order, shorter.reshape(-1), ids.reshape(-1)).reshape(ids.shape)
            after[..., k] = np.where(ids == BOUNDARY, len(order.keys), found)
        return after

    def _find(self, order: _Order, context: Whole, x: Whole) -> Whole:
        """The numbers of n-grams: the characters that `context` numbers and x after them; the last for none."""
        missing = len(order.keys)
        wanted = context * self.V + x
        node = np.searchsorted(order.keys, wanted)
        node[order.keys[np.minimum(node, missing - 1)] != wanted] = missing
        node[context == len(order.left) - 1] = missing
        return node

    def distributions(self, contexts: Whole) -> Floats:
        """The probabilities `[N V]` of what follows contexts `[N orders]`."""
        p = np.full((len(contexts), self.V), 1.0 / (self.V - 1))
        p[:, UNKNOWN] = 0.0
        for k, order in enumerate(self._orders):
            seen = np.flatnonzero(order.left[contexts[:, k]] < 1)
            context = contexts[seen, k]
            p[seen] *= order.left[context, None]
            begin, end = (np.searchsorted(order.keys, (context + one) * self.V) for one in (0, 1))
            counts = end - begin
            rows = np.repeat(seen, counts)
            nodes = np.arange(len(rows)) + np.repeat(begin - (np.cumsum(counts) - counts), counts)
            p[rows, order.keys[nodes] % self.V] += order.share[nodes]
        return p

    def follow_up(self, contexts: Whole, x: Whole) -> Floats:
        """The probability of `x [N]` after each of contexts `[N orders]`: of `distributions`, that of x alone."""
        p = np.where(x == UNKNOWN, 0.0, 1.0 / (self.V - 1))
        for k, order in enumerate(self._orders):
            p = order.share[self._find(order, contexts[:, k], x)] + order.left[contexts[:, k]] * p
        return p

    def longest(self, contexts: Whole) -> Whole:
        """The longest order that has seen something follow each of contexts `[N orders]`: `[N]`, from 1."""
        known = [order.left[contexts[:, k]] < 1 for k, order in enumerate(self._orders)]
        longest: Whole = np.stack(known, axis=1).cumprod(axis=1).sum(axis=1)
        return longest

    def _probabilities(self, x: Whole, reach: npt.NDArray[np.integer]) -> Floats:
        """The probability of `x [n]` at each place, given as many of the characters before it as `reach` allows."""
        p = np.full(len(x), 1.0 / (self.V - 1))  # the unknown character is never predicted
        p[x == UNKNOWN] = 0.0
        context = np.zeros(len(x), dtype=np.int64)  # the number of the k - 1 characters before; the empty one is 0
        for k, order in enumerate(self._orders, 1):
            contexts, missing = len(order.left) - 1, len(order.keys)
            context[reach < k - 1] = contexts
            node = self._find(order, context, x)
            p = order.share[node] + order.left[context] * p
            context = np.concatenate([[missing], node[:-1]]) if k > 1 else np.concatenate([[missing], x[:-1]])
        return p


def _smooth(keys: Whole, counts: Whole, contexts: int, V: int) -> _Order:
    """Discounted shares and what is left for the order below."""
    parent = keys // V
    discounts = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
    total = np.bincount(parent, weights=counts, minlength=contexts)
    taken = np.bincount(parent, weights=discounts, minlength=contexts)
    share = np.append((counts - discounts) / np.maximum(total, 1)[parent], 0.0)
    left = np.append(np.where(total > 0, taken / np.maximum(total, 1), 1.0), 1.0)
    return _Order(keys, share, left)


def _discounts(counts: Whole) -> tuple[float, ...]:
    """D_1, D_2 and D_3+ from how many n-grams have a count of 1, 2, 3 and 4."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 < d <= c for c, d in enumerate(found, 1)) else FALLBACK


def _close_last_story(ids: Ids) -> Ids:
    """The ids with the boundary that ends the last story, where there are several."""
    return np.append(ids, np.array([BOUNDARY], ids.dtype)) if np.count_nonzero(ids == BOUNDARY) > 1 else ids


def _reach(x: Whole, order: int, windows: int | None) -> npt.NDArray[np.int8]:
    """How many characters before each place may be seen, `[n]`, `order` at most: those since its story began."""
    places = np.arange(len(x))
    begins = np.maximum.accumulate(np.where(x == BOUNDARY, places, 0))
    begins = np.concatenate([[0], begins[:-1]])
    if windows:
        begins = np.maximum(begins, (places - 1) // windows * windows)
    return np.minimum(places - begins, order).astype(np.int8)
