"""The loss of a model on a text, the same however it is cut and batched.

In: a `CharLM` and token ids. Out: an `Evaluation`, or the nats of every character. Every story is scored by itself,
from a zero state: inputs `0 s1 … sn`, targets `s1 … sn 0`; a text that is one story of n characters has n targets, no
end is predicted. All in float32, summed in float64.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from storycell import loss
from storycell.errors import CorpusError, SettingsError
from storycell.model import CharLM
from storycell.shapes import Ids, State
from storycell.vocab import BOUNDARY, UNKNOWN, Vocabulary

_ROWS = 64  # stories scored side by side
_COLUMNS = 256  # characters of each in one call
_GROUP = 2048  # stories sorted by length together
_BLOCK = 1000  # characters of a single-story text that count as one draw for the standard error

Nats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """What a text costs a model. All averages are over `chars` targets."""

    loss_nats: float  # nats per character
    stderr_nats: float  # standard error of loss_nats, over stories (over blocks of 1,000 characters of a single one)
    bits_per_char: float
    bits_per_byte: float  # total bits / bytes of the stories in UTF-8, separators not counted
    perplexity: float  # exp(loss_nats)
    chars: int  # targets: characters, and the end of each story where there are several
    stories: int
    unknown_chars: int  # targets that the model does not know; each costs loss.ESCAPE_BITS
    windows: int | None = None  # length of the zero-state windows, where these were scored instead of stories
    floor_nats: float | None = None  # the text's own entropy rate, where it is known: no model can beat it on average


def evaluate(
    lm: CharLM, ids: Ids, vocab: Vocabulary, *, windows: int | None = None, utf8_bytes: int | None = None
) -> Evaluation:
    """Score a text `[tokens]`, laid out as in a token file (`0 s1 … sn 0 s1 … sm`).

    `utf8_bytes` is the size of the stories; without it, it is counted from the ids (unknown characters as three bytes).
    """
    if windows is not None and windows < 1:
        raise SettingsError(f"windows = {windows}: it must be at least 1")
    starts = story_starts(ids)
    if not len(starts) or len(ids) < 2:
        raise CorpusError("the text holds no characters to score")
    if utf8_bytes is None:
        utf8_bytes = sum(int(vocab.utf8_sizes[ids[a : a + (1 << 20)]].sum()) for a in range(0, len(ids), 1 << 20))
    parts = _windows(lm, ids, windows) if windows else _stories(lm, ids, starts)
    return _summary(parts, utf8_bytes, len(starts), windows)


def score(lm: CharLM, ids: Ids, *, windows: int | None = None) -> Nats:
    """Nats of every target `[chars]`, in the order of the text."""
    if windows is not None:
        return np.concatenate([nats for nats, _ in _windows(lm, ids, windows)])
    starts = story_starts(ids)
    parts = dict(_in_order(lm, ids, starts))
    return np.concatenate([parts[k][0] for k in range(len(starts))])


def part_of(ids: Ids, chars: int) -> Ids:
    """Whole stories from all over a text, at least `chars` characters together; of a single story, its first `chars`.

    Files are often in some order, so the first stories would not stand for the rest.
    """
    starts = story_starts(ids)
    if len(starts) == 1 or chars >= len(ids):
        return ids[: chars + 1]
    ends = np.append(starts[1:], len(ids))
    spread = np.argsort(
        np.arange(len(starts)) * 0.6180339887498949 % 1, kind="stable"
    )  # golden ratio: even at any length
    needed = int(np.searchsorted(np.cumsum((ends - starts)[spread]), chars)) + 1
    return np.concatenate([ids[starts[k] : ends[k]] for k in sorted(spread[:needed])])


def story_starts(ids: Ids) -> npt.NDArray[np.int64]:
    """The positions of the boundary ids, `[stories]`, found in constant memory."""
    step = 1 << 24
    found = [np.flatnonzero(ids[a : a + step] == BOUNDARY) + a for a in range(0, len(ids), step)]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _stories(lm: CharLM, ids: Ids, starts: npt.NDArray[np.int64]) -> Iterator[tuple[Nats, int]]:
    for _, part in _in_order(lm, ids, starts):
        yield part


def _in_order(lm: CharLM, ids: Ids, starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, tuple[Nats, int]]]:
    """(number of the story, (nats of its targets, how many are unknown)), groups of like length together."""
    ends = [*starts[1:], len(ids)]
    closing = [BOUNDARY] if len(starts) > 1 else []
    for first in range(0, len(starts), _GROUP):
        group = range(first, min(first + _GROUP, len(starts)))
        longest_first = sorted(group, key=lambda k: starts[k] - ends[k])
        for at in range(0, len(group), _ROWS):
            rows = longest_first[at : at + _ROWS]
            stories = [np.concatenate([ids[starts[k] : ends[k]], closing]).astype(np.int64) for k in rows]
            yield from zip(rows, _score_rows(lm, stories), strict=True)


def _windows(lm: CharLM, ids: Ids, T: int) -> Iterator[tuple[Nats, int]]:
    """Zero-state windows of T targets, cut from the text as it lies; the last one may be shorter."""
    places = range(0, len(ids) - 1, T)
    for at in range(0, len(places), _ROWS):
        yield from _score_rows(lm, [ids[a : a + T + 1].astype(np.int64) for a in places[at : at + _ROWS]])


def _score_rows(lm: CharLM, rows: list[npt.NDArray[np.int64]]) -> list[tuple[Nats, int]]:
    """Score rows of ids, longest first, each from a zero state: row k has `len(rows[k]) - 1` targets."""
    device = lm.output.weight.device
    lengths = [len(row) - 1 for row in rows]
    nats = [np.zeros(n) for n in lengths]
    state: State | None = None
    for t in range(0, lengths[0], _COLUMNS):
        alive = sum(n > t for n in lengths)
        width = min(_COLUMNS, lengths[0] - t)
        chunk = np.zeros((alive, width + 1), dtype=np.int64)
        for line, row in zip(chunk, rows, strict=False):
            piece = row[t : t + width + 1]
            line[: len(piece)] = piece
        both = torch.from_numpy(chunk).to(device)
        with lm.reading():
            state = state and {name: value[:, :alive].contiguous() for name, value in state.items()}
            costs_here, state = lm.nats(both[:, :-1], both[:, 1:], state)
            costs = costs_here.cpu().double().numpy()
        for k in range(alive):
            n = min(width, lengths[k] - t)
            nats[k][t : t + n] = costs[k, :n]
    return [_escaped(row[1:], costs) for row, costs in zip(rows, nats, strict=True)]


def _escaped(targets: npt.NDArray[np.int64], nats: Nats) -> tuple[Nats, int]:
    unknown = targets == UNKNOWN
    nats[unknown] = loss.ESCAPE_NATS
    return nats, int(unknown.sum())


def _summary(parts: Iterator[tuple[Nats, int]], utf8_bytes: int, stories: int, windows: int | None) -> Evaluation:
    sums: list[float] = []
    counts: list[int] = []
    unknown_chars = 0
    for nats, unknown in parts:
        unknown_chars += unknown
        blocks = np.array_split(nats, max(1, len(nats) // _BLOCK)) if stories == 1 and windows is None else [nats]
        sums += [float(block.sum()) for block in blocks]
        counts += [len(block) for block in blocks]
    mean, stderr = mean_and_stderr(sums, counts)
    total, chars = math.fsum(sums), sum(counts)
    return Evaluation(
        loss_nats=mean,
        stderr_nats=stderr,
        bits_per_char=loss.bits_per_char(mean),
        bits_per_byte=loss.bits_per_byte(total, max(1, utf8_bytes)),
        perplexity=loss.perplexity(mean),
        chars=chars,
        stories=stories,
        unknown_chars=unknown_chars,
        windows=windows,
    )


def mean_and_stderr(sums: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """The mean of what `sums` sum up, `counts` at a time, and its standard error: nan where there is one sum only."""
    chars, n = int(sum(counts)), len(sums)
    mean = math.fsum(sums) / chars
    residuals = np.array(sums) - mean * np.array(counts)  # the ratio estimator's
    return mean, math.sqrt(n / (n - 1) * float(residuals @ residuals)) / chars if n > 1 else math.nan
