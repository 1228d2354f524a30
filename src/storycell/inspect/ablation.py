"""Every unit silenced in turn: what the model loses without it, by kind of character.

A unit is made to show its mean, whatever it computes (`inspect.shown`), and the text is scored again: the change of
loss is what the unit was worth there. Units are ranked on one part of the text and those that come first are measured
again on another, so that what is reported is not the luck of the choice; standard errors are over stories.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from storycell.data.vocab import Vocabulary
from storycell.evaluation.statistics import clustered_mean
from storycell.inspect.features import inside_quotes, is_quote, names_of, words
from storycell.inspect.shown import silenced
from storycell.inspect.trace import Trace, log_probabilities
from storycell.language_model import LanguageModel, State
from storycell.types import BOUNDARY

Floats = npt.NDArray[np.float64]
Unit = tuple[int, int]

_VERBS = frozenset({
    "am", "are", "ate", "be", "became", "been", "began", "bought", "brought", "came", "can", "could", "cried",
    "did", "do", "does", "drank", "fell", "felt", "flew", "found", "gave", "get", "give", "go", "going", "got",
    "grew", "had", "has", "have", "heard", "held", "help", "is", "keep", "kept", "knew", "know", "let", "like",
    "look", "lost", "made", "make", "met", "play", "put", "ran", "read", "run", "said", "sang", "sat", "saw", "say",
    "see", "sent", "sing", "sleep", "slept", "sold", "stood", "swam", "take", "thought", "told", "took", "try",
    "want", "was", "went", "were", "will", "woke", "wore", "would", "wrote",
})  # fmt: skip
_PAST = re.compile(r"[a-z]{2,}ed$")
_FEWEST = 8  # characters of a kind

SCREENED = (12, 48)  # windows and their characters, that rank all units
JUDGED = (16, 448)  # stories and the characters of each that measure the first of the ranking
_BEST = 4  # of each kind


@dataclass(frozen=True)
class Loss:
    """The change of loss of characters of one kind when a unit shows its mean."""

    kind: str
    layer: int
    unit: int
    nats: float  # a character of that kind; above 0: the unit helps
    stderr: float  # over stories
    chars: int


@dataclass(frozen=True)
class Ablation:
    """All units, ranked; the first of every kind, measured where they were not chosen."""

    kinds: dict[str, int]  # name -> characters in the part that measures
    base_nats: dict[str, float]  # the loss of each kind there, with nothing silenced
    best: dict[str, list[Loss]]  # the highest first, as the ranking has them
    ranking: dict[str, Floats]  # change of loss of all units, `[L*H]`, in the part that ranks


def character_kinds(text: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Kinds of characters of a text `[T]`, by name; one may be of several."""
    found = {"every character": np.array([c != "\0" for c in text], dtype=np.bool_)}
    inside, quote = inside_quotes(text) > 0, is_quote(text)
    found["closing quote"], found["opening quote"] = quote & ~inside, quote & inside
    marks: dict[str, npt.NDArray[np.bool_]] = {
        name: np.zeros(len(text), dtype=np.bool_) for name in ("first letter of a word", "later letter", "name", "verb")
    }
    names = {name for name, _ in names_of(text)}
    for start, end, word in words(text):
        marks["first letter of a word"][start] = True
        marks["later letter"][start + 1 : end] = True
        marks["name"][start:end] = word in names
        marks["verb"][start:end] = word in _VERBS or bool(_PAST.match(word))
    found |= marks
    found["space"] = np.array([c == " " for c in text], dtype=np.bool_)
    found["end of a sentence"] = np.array([c in ".!?" for c in text], dtype=np.bool_)
    return found


def ablate(
    model: LanguageModel, ids: npt.NDArray[np.int64], units: Iterable[Unit], means: Mapping[int, Floats],
    state: State | None = None,
) -> Floats:  # fmt: skip
    """The loss of every next character with each unit silenced: ids `[B T]` -> `[units B T-1]`; `means` by layer `[H]`.

    `state` is that before the first of the ids; None is the zero state.
    """
    found = [
        silenced(model, layer, unit, means[layer][unit]).nats(ids[:, :-1], ids[:, 1:], state)[0]
        for layer, unit in units
    ]
    return np.array(found, dtype=np.float64)


def _losses(model: LanguageModel, vocab: Vocabulary, ids: npt.NDArray[np.int64], state: State | None = None) -> Floats:
    """The loss of every next character, row after row: ids `[B T]` -> `[chars]`."""
    if vocab.kind != "pieces":
        return model.nats(ids[:, :-1], ids[:, 1:], state)[0].astype(np.float64).ravel()
    logits, _ = model.logits(ids[:, :-1], state)
    return vocab.spell_nats(log_probabilities(logits.reshape(-1, logits.shape[-1])), ids[:, 1:].ravel())


def _changes(
    path: Trace, model: LanguageModel, ids: npt.NDArray[np.int64], units: Iterable[Unit], means: Mapping[int, Floats],
    base: Floats, state: State | None = None,
) -> Floats:  # fmt: skip
    """By how much each unit, silenced, changes the loss of every next character, `[units chars]`."""
    found = [
        _losses(silenced(model, layer, unit, means[layer][unit]), path.vocab, ids, state) - base
        for layer, unit in units
    ]
    return np.array(found, dtype=np.float64)


def ablation(path: Trace, screened: tuple[int, int] = SCREENED, judged: tuple[int, int] = JUDGED) -> Ablation:
    """Rank all units on the windows of a text's first half with most quotes; measure the first on the second half."""
    model = path.model.frozen()
    means = {k: path.states[k][path.output][1:].mean(0, dtype=np.float64) for k in range(path.layers)}
    every = [(layer, unit) for layer in range(path.layers) for unit in range(path.hidden)]
    kinds = character_kinds(path.text)
    rows, state = _windows(path, *screened)
    ranking = {}
    base = _losses(model, path.vocab, path.all_ids[rows], state)
    changes = _changes(path, model, path.all_ids[rows], every, means, base, state)
    characters, _ = _characters(path, rows[:, 1:])
    for kind, mask in kinds.items():
        here = mask[characters]
        if here.sum() >= _FEWEST:
            ranking[kind] = changes[:, here].mean(1)
    stories = _stories(path, *judged)
    ids = np.where(stories < 0, BOUNDARY, path.all_ids[stories])
    base = _losses(model, path.vocab, ids)
    characters, story = _characters(path, stories[:, 1:])
    first = {kind: [every[k] for k in np.argsort(-change, kind="stable")[:_BEST]] for kind, change in ranking.items()}
    chosen = list(dict.fromkeys(unit for several in first.values() for unit in several))
    measured = dict(zip(chosen, _changes(path, model, ids, chosen, means, base), strict=True))
    best, counts, base_nats = {}, {}, {}
    for kind, several in first.items():
        here = kinds[kind][np.maximum(characters, 0)] & (characters >= 0)
        if here.sum() >= _FEWEST:
            best[kind] = [_loss(kind, unit, measured[unit][here], story[here]) for unit in several]
            counts[kind], base_nats[kind] = int(here.sum()), float(base[here].mean())
    return Ablation(counts, base_nats, best, ranking)


def _characters(path: Trace, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The characters that rows (of `all_ids`) `[B T]` read, -1 for a row -1, and which of B each is in: `[chars]`."""
    steps = np.maximum(rows.ravel() - 1, 0)  # row t + 1 of the ids is step t
    sizes = np.where(rows.ravel() < 0, 1, np.diff(path.firsts)[steps])
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    characters = np.repeat(path.firsts[steps], sizes) + within
    characters[np.repeat(rows.ravel() < 0, sizes)] = -1
    return characters, np.repeat(np.repeat(np.arange(len(rows)), rows.shape[1]), sizes)


def _steps_in(path: Trace, chars: int) -> int:
    """How many steps read about as many characters."""
    return max(1, round(chars * len(path.ids) / len(path)))


def _loss(kind: str, unit: Unit, change: Floats, story: npt.NDArray[np.int64]) -> Loss:
    mean, stderr = clustered_mean(change, story)
    return Loss(kind, *unit, mean, stderr, len(change))


def _windows(path: Trace, count: int, chars: int) -> tuple[npt.NDArray[np.int64], State]:
    """Rows (as in `all_ids`) `[count n+1]` in stories of the first half, most quotes first; the state before."""
    half, chars = len(path.ids) // 2, _steps_in(path, chars)
    quote = np.concatenate([[0.0], np.cumsum(path.by_step(is_quote(path.text).astype(np.float64)))])
    bounds = [*path.starts[path.starts < half].tolist(), half]
    firsts = [a for s, e in pairwise(bounds) for a in range(s + 1, e - chars - 1, chars)]
    if not firsts:
        firsts = [1]
    chars = min(chars, half - firsts[-1] - 1)
    held = np.array([quote[a + chars - 1] - quote[a - 1] for a in firsts])
    chosen = np.array(firsts)[np.argsort(-held, kind="stable")[:count]]
    state = path.state_at(chosen - 1)
    return chosen[:, None] + np.arange(chars + 1), state


def _stories(path: Trace, count: int, chars: int) -> npt.NDArray[np.int64]:
    """Rows of the beginnings of stories of the second half, boundary first, `[count n+1]`; -1 after a story's end.

    A text of few stories is cut into as many parts.
    """
    N, half, chars = len(path.all_ids), len(path.ids) // 2, _steps_in(path, chars)
    bounds = path.starts[path.starts >= half].tolist()
    if len(bounds) < count // 2:
        bounds = np.linspace(half, max(half, N - chars - 1), count).astype(int).tolist()
    ends = [*bounds[1:], N]
    quoted = path.by_step(is_quote(path.text).astype(np.float64))
    rows = np.full((len(bounds), chars + 1), -1, dtype=np.int64)
    for row, start, end in zip(rows, bounds, ends, strict=True):
        n = min(end - start, chars + 1)
        row[:n] = np.arange(start, start + n)
    quotes = [int(quoted[np.maximum(row[row > 0] - 1, 0)].sum()) for row in rows]
    return rows[np.argsort(-np.array(quotes), kind="stable")[:count]]


def unit_kinds(found: Ablation) -> dict[Unit, list[Loss]]:
    """What was measured of each unit, the kinds with the largest loss first."""
    by_unit: dict[Unit, list[Loss]] = {}
    for losses in found.best.values():
        for one in losses:
            by_unit.setdefault((one.layer, one.unit), []).append(one)
    return {unit: sorted(several, key=lambda one: -one.nats) for unit, several in by_unit.items()}
