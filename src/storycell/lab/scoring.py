"""The loss of each model on each character of a text, and what follows from it: rows of a table, paired differences.

`Scores` are nats of every target of a `ScoredText`, aligned between models, n-grams and compressors. The unit is the
character for every model: for one that reads bytes, the loss of a character is the sum over the character's bytes, so
it stands in the same table.
"""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell import loss
from storycell.api import Model
from storycell.data.stories import corpus
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.evaluation import evaluator
from storycell.evaluation.compressors import compressed_bits
from storycell.evaluation.ngram import NGram
from storycell.evaluation.statistics import clustered_mean
from storycell.lab.scored_text import ScoredText
from storycell.runs.folder import RunFolder
from storycell.types import BOUNDARY, UNKNOWN, Ids

BLOCK = 1000  # characters of a single-story text that count as one draw, as in the evaluator
INTERVAL = 1.96  # standard errors on either side of a mean: 95 %
MOST_COUNTED = 20_000_000  # characters of the training text that an n-gram counts: about 2.5 GB of memory at order 12

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One row of a comparison: nats of every target, or of the whole text only."""

    name: str
    about: dict[str, Any]  # kind, params, speed and the like: what the row says besides its losses
    nats: Floats | None = None  # [targets], every story from its beginning
    total_nats: float = math.nan  # where the single targets are not known
    windows: int | None = None  # length of the zero-state windows
    windows_nats: Floats | None = None  # [targets]
    metrics: list[dict[str, Any]] = field(default_factory=list)  # the learning curve


def of_run(model: Model, text: ScoredText, windows: int, name: str) -> Scores:
    """A trained model, both ways."""
    ids = text.ids(model.vocab)
    metrics = RunFolder(model.path).metrics()
    training = model.config.settings.training
    about = {
        "kind": "run",
        "params": model.params,
        "train_chars": metrics[-1]["chars"] if metrics else 0,
        "chars_per_s": metrics[-1]["chars_per_s"] if metrics else None,
        "elapsed_s": metrics[-1]["elapsed_s"] if metrics else None,
        "backend": training.backend,
        "precision": training.precision,
        "unknown_chars": int(np.count_nonzero(ids == UNKNOWN)),
    }
    if model.vocab.kind == "pieces":  # windows of so many characters may begin within a piece
        return Scores(name, about, evaluator.score(model.network, ids, model.vocab), metrics=metrics)
    nats = by_character(evaluator.score(model.network, ids), ids, model.vocab, several=len(text.stories) > 1)
    in_windows = evaluator.score(model.network, ids, windows=windows)
    if model.vocab.kind == "bytes":
        in_windows = by_character(in_windows, ids, model.vocab, several=False)
    return Scores(name, about, nats, windows=windows, windows_nats=in_windows, metrics=metrics)


def by_character(nats: Floats, ids: Ids, vocab: Vocabulary, several: bool) -> Floats:
    """Nats of every id -> nats of every character `[targets]`: the same, but for a vocabulary of bytes."""
    if vocab.kind == "characters":
        return nats
    targets = np.append(ids[1:], [BOUNDARY]) if several else ids[1:]
    first_bytes = np.array([k < 2 or not 0x80 <= k - 2 < 0xC0 for k in range(len(vocab))])
    summed: Floats = np.add.reduceat(nats, np.flatnonzero(first_bytes[targets]))
    return summed


def of_ngram(training_ids: Ids, vocab: Vocabulary, text: ScoredText, windows: int, order: int) -> Scores:
    """A character n-gram with modified Kneser-Ney discounts, both ways."""
    counted = np.asarray(training_ids[: MOST_COUNTED + 1])
    began = time.monotonic()
    ngram = NGram.fit(counted, len(vocab), order)
    elapsed_s = time.monotonic() - began
    ids = text.ids(vocab)
    about = {
        "kind": "baseline",
        "params": ngram.params,
        "train_chars": int(np.count_nonzero(counted)),
        "chars_per_s": round(len(counted) / max(elapsed_s, 1e-9), 1),
        "elapsed_s": round(elapsed_s, 3),
        "unknown_chars": int(np.count_nonzero(ids == UNKNOWN)),
    }
    in_windows = ngram.score(ids, windows=windows)
    return Scores(f"{order}-gram", about, ngram.score(ids), windows=windows, windows_nats=in_windows)


def of_compressor(name: str, text: ScoredText, training: bytes = b"") -> Scores:
    """A compressor, alone or after the training text; a byte between two stories, as a boundary."""
    joined = BOUNDARY_BYTE.join(story.encode() for story in text.stories)
    began = time.monotonic()
    bits = compressed_bits(name, joined, training)
    about = {"kind": "baseline", "train_chars": len(training), "elapsed_s": round(time.monotonic() - began, 3)}
    return Scores(f"{name} after the training text" if training else name, about, total_nats=bits * math.log(2))


def of_floor(text: ScoredText) -> Scores | None:
    """The loss of the grammar of the embedded stories itself; None where it cannot have generated the text."""
    if not text.is_embedded:
        return None
    total = -math.fsum(corpus.log_probability(story) for story in text.stories)
    return Scores("floor: the grammar itself", {"kind": "floor"}, total_nats=total) if math.isfinite(total) else None


def row(scores: Scores, text: ScoredText, against: Scores) -> dict[str, Any]:
    """A line of the table: losses with their standard errors, units, and the paired difference from `against`."""
    targets = len(text.targets)
    groups = groups_of(text)
    mean, stderr = (scores.total_nats / targets, None) if scores.nats is None else clustered_mean(scores.nats, groups)
    entry: dict[str, Any] = {"name": scores.name, **scores.about, "loss_nats": mean, "stderr_nats": stderr}
    entry |= {
        "bits_per_char": loss.bits_per_char(mean),
        "bits_per_byte": loss.bits_per_byte(mean * targets, max(1, text.utf8_bytes)),
        "perplexity": loss.perplexity(mean),
        "chars": targets,
    }
    if scores.windows_nats is not None and scores.windows:
        in_windows = np.arange(len(scores.windows_nats)) // scores.windows
        nats, error = clustered_mean(scores.windows_nats, in_windows)
        entry |= {"windows": scores.windows, "windows_nats": nats, "windows_stderr_nats": error}
    if scores is not against and scores.nats is not None and against.nats is not None:
        entry |= difference(scores.nats, against.nats, groups)
    return entry


def difference(ours: Floats, theirs: Floats, groups: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The mean of ours - theirs, with its standard error and 95 % interval: paired, over stories or blocks."""
    mean, stderr = clustered_mean(ours - theirs, groups)
    half = INTERVAL * stderr
    return {
        "difference_nats": mean,
        "difference_stderr_nats": stderr,
        "difference_interval": [mean - half, mean + half],
    }


def groups_of(text: ScoredText) -> npt.NDArray[np.int64]:
    """The draw that each target belongs to, `[targets]`: its story, or its block of a single-story text."""
    if len(text.stories) > 1:
        return text.story_of
    chars = len(text.targets)
    blocks = np.array_split(np.zeros(chars), max(1, chars // BLOCK))
    return np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
