"""The loss of a model on a text, the same however it is cut and batched.

`Evaluation` holds it with its standard error; the nats of every character can be had as well. Every story is scored by
itself, from a zero state: inputs `0 s1 … sn`, targets `s1 … sn 0`; a text that is one story of n characters has n
targets, no end is predicted. The labels that a story begins with are context: they are read, and are no targets. All in
float32, summed in float64. The unit is the character also where an id stands for several: the nats of a piece are
spread over its characters in equal parts, so that losses and their standard errors compare with any other model's.

The text is read a chunk at a time and only sums are kept, so memory does not grow with the length of a story. Stories
are scored side by side; a single story is one stream, since its state goes on from character to character.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from storycell import loss
from storycell.data.vocab import LONGEST_HEADER, Vocabulary
from storycell.errors import CorpusError, SettingsError
from storycell.evaluation.statistics import mean_and_stderr
from storycell.language_model import LanguageModel
from storycell.naming import show_facts
from storycell.types import BOUNDARY, UNKNOWN, Ids

_ROWS = 64  # stories scored side by side
_TARGETS = 1 << 14  # in one call; the fewer rows there are, the longer they are
_LOGITS = 1 << 26  # in one call, for backends that write them to memory
_READ = 1 << 16  # ids looked through at a time
_GROUP = 2048  # stories sorted by length together
_BLOCK = 1000  # characters of a single-story text that count as one draw for the standard error

Nats = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The loss of a model on a text. All averages are over `chars` targets."""

    loss_nats: float  # nats per character
    stderr_nats: float  # standard error of loss_nats, over stories (over blocks of 1,000 characters of a single one)
    bits_per_char: float
    bits_per_byte: float  # total bits / bytes of the stories in UTF-8, separators not counted
    perplexity: float  # exp(loss_nats)
    chars: int  # targets: characters, and the end of each story where there are several
    stories: int
    unknown_chars: int  # targets that the model does not know; each counts loss.ESCAPE_BITS
    windows: int | None = None  # length of the zero-state windows, where these were scored instead of stories
    floor_nats: float | None = None  # the text's own entropy rate, where it is known: no model can beat it on average

    def __repr__(self) -> str:
        error = "" if math.isnan(self.stderr_nats) else f" ± {self.stderr_nats:.4f}"
        return (
            f"Evaluation({self.loss_nats:.4f}{error} nats per character, "
            f"{self.bits_per_char:.3f} bits, perplexity {self.perplexity:.3f}; "
            f"{self.chars:,} characters, {self.stories:,} stories)"
        )

    def _repr_html_(self) -> str:
        """For a notebook: every figure."""
        names = {field.name.replace("_", " "): getattr(self, field.name) for field in fields(self)}
        return show_facts("Evaluation", {name: value for name, value in names.items() if value is not None})


def evaluate(
    lm: LanguageModel, ids: Ids, vocab: Vocabulary, *, windows: int | None = None, utf8_bytes: int | None = None
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
        utf8_bytes = sum(int(vocab.utf8_sizes[ids[a : a + _READ]].sum()) for a in range(0, len(ids), _READ))
    if windows and vocab.labels:
        raise SettingsError(
            "windows: a text with labels is scored story by story, as its labels are context; leave it out"
        )
    if windows and vocab.kind == "pieces":
        raise SettingsError("windows: a model of pieces is scored story by story; leave it out")
    headers = [vocab.header_size(ids[a + 1 : a + 1 + LONGEST_HEADER]) for a in starts] if vocab.labels else None
    if windows:
        groups, draws = _windows(ids, windows), _Draws(-(-(len(ids) - 1) // windows))
    elif len(starts) > 1:
        groups, draws = _stories(ids, starts, headers), _Draws(len(starts))
    else:
        parts = (ids[a : a + _READ] for a in range(1, len(ids), _READ))
        groups, draws = _stories(ids, starts), _Blocks(sum(vocab.count_chars(part) for part in parts))
    for piece in _score_groups(lm, ids, groups, vocab):
        draws.add(piece)
    if headers:
        utf8_bytes -= sum(int(vocab.utf8_sizes[ids[a : a + 1 + n]].sum()) for a, n in zip(starts, headers, strict=True))
    return _summary(draws, utf8_bytes, len(starts), windows)


def score(lm: LanguageModel, ids: Ids, vocab: Vocabulary | None = None, *, windows: int | None = None) -> Nats:
    """Nats of every target `[chars]`, in the order of the text; of every id where it is without a vocabulary."""
    starts = story_starts(ids)
    targets = np.append(ids[1:], ids[:1]) if len(starts) > 1 and windows is None else ids[1:]
    of_pieces = vocab is not None and vocab.kind == "pieces"
    ends = np.cumsum(vocab.lengths[targets]) if vocab is not None and of_pieces else np.arange(1, len(targets) + 1)
    nats = np.zeros(int(ends[-1]) if len(ends) else 0)
    rows = _stories(ids, starts) if windows is None else _windows(ids, windows)
    for piece in _score_groups(lm, ids, rows, vocab if of_pieces else None):
        at = (int(ends[piece.row.start - 1]) if piece.row.start else 0) + piece.at
        nats[at : at + len(piece.nats)] = piece.nats
    return nats


def mean_of(ids: Ids, nats: Nats, *, windows: int | None = None) -> tuple[float, float]:
    """The mean of nats of every target, as `score` gives them, and its standard error, as `evaluate` counts it."""
    starts = story_starts(ids)
    if windows:
        rows, draws = _windows(ids, windows), _Draws(-(-(len(ids) - 1) // windows))
    elif len(starts) > 1:
        rows, draws = _stories(ids, starts), _Draws(len(starts))
    else:
        rows, draws = _stories(ids, starts), _Blocks(len(ids) - 1)
    for group in rows:
        for row in group:
            draws.add(_Piece(row, 0, nats[row.start : row.start + row.targets], 0))
    return mean_and_stderr(draws.sums, draws.counts)


def take_part(ids: Ids, chars: int) -> Ids:
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
    found = [np.flatnonzero(ids[a : a + _READ] == BOUNDARY) + a for a in range(0, len(ids), _READ)]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


class _Row(NamedTuple):
    """Some ids that are scored from a zero state."""

    number: int
    start: int
    end: int
    closes: bool  # whether the end of the story is predicted, too
    header: int = 0  # ids at its beginning that are read and not scored

    @property
    def targets(self) -> int:
        return self.end - self.start - 1 + self.closes


class _Piece(NamedTuple):
    """The losses of some targets of a row, in characters."""

    row: _Row
    at: int  # of its characters, the first of these
    nats: Nats
    unknown: int


def _stories(ids: Ids, starts: npt.NDArray[np.int64], headers: list[int] | None = None) -> Iterator[list[_Row]]:
    """Stories to be scored side by side, longest first, those of like length together."""
    ends = np.append(starts[1:], len(ids))
    for first in range(0, len(starts), _GROUP):
        group = range(first, min(first + _GROUP, len(starts)))
        longest_first = sorted(group, key=lambda k: starts[k] - ends[k])
        for at in range(0, len(group), _ROWS):
            rows = longest_first[at : at + _ROWS]
            yield [_Row(k, int(starts[k]), int(ends[k]), len(starts) > 1, headers[k] if headers else 0) for k in rows]


def _windows(ids: Ids, T: int) -> Iterator[list[_Row]]:
    """Zero-state windows of T targets, cut from the text as it lies; the last one may be shorter."""
    count = -(-(len(ids) - 1) // T)
    for first in range(0, count, _ROWS):
        rows = range(first, min(first + _ROWS, count))
        yield [_Row(k, k * T, min((k + 1) * T + 1, len(ids)), closes=False) for k in rows]


def _score_groups(
    lm: LanguageModel, ids: Ids, groups: Iterator[list[_Row]], vocab: Vocabulary | None = None
) -> Iterator[_Piece]:
    """The losses of the rows, piece by piece. The rows of a group come longest first.

    They are those of characters where the `vocab` of pieces is given.
    """
    at_a_time = min(_TARGETS, max(_ROWS, _LOGITS // lm.vocab_size))
    lengths = vocab.lengths if vocab is not None and vocab.kind == "pieces" else None
    lm = lm.frozen()
    for rows in groups:
        state, t = lm.zero_state(len(rows)), 0
        before = [0] * len(rows)  # characters of each row that have been looked at
        while alive := sum(row.targets > t for row in rows):
            width = min(max(1, at_a_time // alive), rows[0].targets - t)
            chunk = np.full((alive, width + 1), BOUNDARY, dtype=np.int64)  # it closes stories
            for line, row in zip(chunk, rows, strict=False):
                piece = ids[row.start + t : min(row.start + t + width + 1, row.end)]
                line[: len(piece)] = piece
            state = {name: value[:, :alive] for name, value in state.items()}
            losses, state = lm.nats(chunk[:, :-1], chunk[:, 1:], state)
            nats = losses.astype(np.float64)
            for k, row in enumerate(rows[:alive]):
                n = min(width, row.targets - t)
                skipped = min(max(row.header - t, 0), n)
                unknown = chunk[k, 1 + skipped : n + 1] == UNKNOWN
                scored = np.where(unknown, loss.ESCAPE_NATS, nats[k, skipped:n])
                at = t + skipped
                if lengths is not None:
                    chars = lengths[chunk[k, 1 : n + 1]]
                    at, before[k] = before[k] + int(chars[:skipped].sum()), before[k] + int(chars.sum())
                    scored = np.repeat(scored / chars[skipped:], chars[skipped:])
                yield _Piece(row, at, scored, int(unknown.sum()))
            t += width


class _Draws:
    """Sums over what counts as one draw each: a story, or a window."""

    def __init__(self, count: int) -> None:
        self.sums, self.counts = np.zeros(count), np.zeros(count, dtype=np.int64)
        self.unknown_chars = 0

    def add(self, piece: _Piece) -> None:
        """Take in the losses of some targets."""
        self.sums[piece.row.number] += piece.nats.sum()
        self.counts[piece.row.number] += len(piece.nats)
        self.unknown_chars += piece.unknown


class _Blocks(_Draws):
    """Sums over the blocks of one story of n targets, which are of one length, the first ones longer by one."""

    def __init__(self, n: int) -> None:
        super().__init__(max(1, n // _BLOCK))
        self._short, self._longer = divmod(n, len(self.sums))

    def add(self, piece: _Piece) -> None:
        """Take in the losses of some targets."""
        places = np.arange(piece.at, piece.at + len(piece.nats))
        in_longer = self._longer * (self._short + 1)
        late = self._longer + (places - in_longer) // max(1, self._short)
        blocks = np.where(places < in_longer, places // (self._short + 1), late)
        first = int(blocks[0])
        sums, counts = np.bincount(blocks - first, weights=piece.nats), np.bincount(blocks - first)
        self.sums[first : first + len(sums)] += sums
        self.counts[first : first + len(counts)] += counts
        self.unknown_chars += piece.unknown


def _summary(draws: _Draws, utf8_bytes: int, stories: int, windows: int | None) -> Evaluation:
    mean, stderr = mean_and_stderr(draws.sums, draws.counts)
    return Evaluation(
        loss_nats=mean,
        stderr_nats=stderr,
        bits_per_char=loss.bits_per_char(mean),
        bits_per_byte=loss.bits_per_byte(math.fsum(draws.sums), max(1, utf8_bytes)),
        perplexity=loss.perplexity(mean),
        chars=int(draws.counts.sum()),
        stories=stories,
        unknown_chars=draws.unknown_chars,
        windows=windows,
    )
