"""From a prompt to text: checks, seeds, and the pieces of several streams side by side."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.generation import sampler
from storycell.generation.constraints import Constraint
from storycell.generation.sampler import Beginnings, Sampling, Unsettled
from storycell.generation.text_stream import Pieces
from storycell.language_model import Held, LanguageModel
from storycell.types import BOUNDARY, UNKNOWN

CHARS = 1000
MOST_STREAMS = 65_536
LARGEST_SEED = 2**64 - 1
Unknown = Literal["error", "replace", "skip"]


def stream_texts(
    lm: LanguageModel,
    vocab: Vocabulary,
    prompt: str,
    chars: int = CHARS,
    *,
    count: int = 1,
    sampling: Sampling | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    unknown: Unknown = "error",
    hold: Held | None = None,
    constraint: Constraint | None = None,
    header: sampler.Header | None = None,
) -> Iterator[tuple[int, str]]:
    """Several continuations of one prompt side by side: (number of the stream, piece). Stream k has seed + k.

    `hold` keeps values of units where they are told to be (`sampler.held_step`); `constraint` says what the texts, with
    their prompt, must be like; `header` is the labels that they begin with, which are no part of what is given.
    """
    _check_whole("chars", chars, 0, None)
    _check_whole("count", count, 1, MOST_STREAMS)
    if seed is None:
        seed = secrets.randbits(32)
    _check_whole("seed", seed, 0, LARGEST_SEED)
    stops = _stop_texts(stop)
    ids, read = vocab.prompt_ids(prompt, unknown)
    ids, unsettled = find_unsettled(vocab, ids, read)
    seeds = [seed + k for k in range(count)]
    rows = sampler.streams(lm, ids, sampling or Sampling(), seeds, chars, hold, constraint, header, unsettled)
    skipped, most = (len(unsettled.text) if unsettled else 0), (chars if vocab.kind == "pieces" else None)
    return _pieces(rows, {k: Pieces(vocab, stops, skipped, most) for k in range(count)} if chars else {})


def find_unsettled(
    vocab: Vocabulary, ids: list[int], read: str, before: str = ""
) -> tuple[list[int], Unsettled | None]:
    """The ids of a prompt that is `read` that stay whatever follows, and the rest of it; None where nothing is open.

    `before` is the rest of what was read before this prompt. `ids` are those of the prompt where nothing is ever open.
    """
    if vocab.kind != "pieces":
        return ids, None
    settled, rest = vocab.settled(read, before)
    if not rest:
        return settled, None
    usual: list[int] = vocab.ids_of_text(rest).tolist()
    beyond: list[npt.NDArray[np.intp]] = []
    behind = 0
    for k in usual:
        found = vocab.beginning_with(rest[behind:])
        beyond.append(found[vocab.lengths[found] > len(rest) - behind])
        behind += len(vocab.text_of(k))
    return settled, Unsettled(usual, beyond, rest)


def spell_unsettled(
    vocab: Vocabulary, unsettled: Unsettled, scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The loss in nats of each character of what is unsettled, `[chars]`; `scores [n V]` are ln p at its usual pieces.

    Unlike `Vocabulary.spell_nats` it takes into account that the last pieces may go on: a character costs what the
    probability of all beginnings (see `Unsettled`) that agree with the text before it has to be multiplied by for those
    that agree with it too.
    """
    text, usual = unsettled.text, unsettled.ids
    own = scores[np.arange(len(usual)), usual]
    behind = np.cumsum(own) - own
    starts = np.cumsum(vocab.lengths[usual]) - vocab.lengths[usual]
    agree = np.full(len(text) + 1, -np.inf)  # ln p of all that agree with so many characters
    agree[0] = 0.0
    for at, (start, k) in enumerate(zip(starts.tolist(), usual, strict=True)):
        for end in range(start + 1, len(text) + 1):
            found = [UNKNOWN] if k == UNKNOWN and end == start + 1 else vocab.beginning_with(text[start:end])
            if not len(found):
                break
            agree[end] = np.logaddexp(agree[end], behind[at] + np.logaddexp.reduce(scores[at, found]))
    nats: npt.NDArray[np.float64] = np.maximum(agree[:-1] - agree[1:], 0.0)
    return nats


def ways_on(
    vocab: Vocabulary, unsettled: Unsettled, beginnings: Beginnings, logits: npt.NDArray[np.float32], sampling: Sampling
) -> list[tuple[str | None, float]]:
    """What may follow a prompt whose end is `unsettled`, likeliest first, each text once; None is the end of the story.

    A way on is the rest of a piece that reaches beyond the prompt, or, behind the usual pieces, whose `logits [V]` are
    given, a whole one. Each has the probability with which `sampling` chooses it.
    """
    found: dict[str | None, float] = {}
    texts = [vocab.text_of(k) for k in unsettled.ids]
    for (count, k), p in zip(beginnings.paths, beginnings.probabilities(sampling).tolist(), strict=True):
        begun = "".join(texts[:count]) + vocab.text_of(k)
        if len(begun) > len(unsettled.text):
            way = begun[len(unsettled.text) :]
            found[way] = found.get(way, 0.0) + p
            continue
        for following, share in enumerate(sampling.probabilities(logits).tolist()):
            if share:
                text = None if following == BOUNDARY else vocab.text_of(following)
                found[text] = found.get(text, 0.0) + p * share
    return sorted(((text, p) for text, p in found.items() if p), key=lambda one: -one[1])


def generate_text(
    lm: LanguageModel,
    vocab: Vocabulary,
    prompt: str,
    chars: int = CHARS,
    *,
    sampling: Sampling | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    unknown: Unknown = "error",
    hold: Held | None = None,
    constraint: Constraint | None = None,
    header: sampler.Header | None = None,
) -> str:
    """The prompt, as it was read, and what follows it; see `stream_texts`."""
    _, read = vocab.prompt_ids(prompt, unknown)
    pieces = stream_texts(
        lm,
        vocab,
        prompt,
        chars,
        sampling=sampling,
        seed=seed,
        stop=stop,
        unknown=unknown,
        hold=hold,
        constraint=constraint,
        header=header,
    )
    return read + "".join(piece for _, piece in pieces)


def _pieces(rows: Iterator[list[int | None]], going: dict[int, Pieces]) -> Iterator[tuple[int, str]]:
    for row in rows if going else ():
        for k, pieces in list(going.items()):
            chosen = row[k]
            if piece := (pieces.rest() if chosen is None else pieces.take([chosen])).text:
                yield k, piece
            if chosen is None or pieces.stopped:
                del going[k]
        if not going:
            return
    for k, pieces in going.items():
        if piece := pieces.rest().text:
            yield k, piece


def _check_whole(name: str, value: int, least: int, most: int | None) -> None:
    if value < least or (most is not None and value > most):
        bound = f"at least {least}" if most is None else f"from {least} to {most:,}"
        raise SettingsError(f"{name} = {value}: it must be {bound}")


def _stop_texts(stop: str | Sequence[str] | None) -> list[str]:
    """The stop texts; an empty one stops nothing."""
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    if wrong := [text for text in stops if not isinstance(text, str)]:
        raise SettingsError(f"stop = {wrong[0]!r}: it must be a text, or a list of texts")
    return [text for text in stops if text]
