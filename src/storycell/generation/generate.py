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
from storycell.generation.sampler import Sampling, Unsettled
from storycell.generation.text_stream import Pieces
from storycell.language_model import Held, LanguageModel
from storycell.types import RESERVED

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
    skipped, most = (unsettled.length if unsettled else 0), (chars if vocab.kind == "pieces" else None)
    return _pieces(rows, {k: Pieces(vocab, stops, skipped, most) for k in range(count)} if chars else {})


def find_unsettled(vocab: Vocabulary, ids: list[int], read: str) -> tuple[list[int], Unsettled | None]:
    """The ids of a prompt that is `read` that stay whatever follows, and the rest of it; None where nothing is open."""
    if vocab.kind != "pieces":
        return ids, None
    settled, rest = vocab.settled(read)
    if not rest:
        return settled, None
    usual = ids[len(settled) :]
    beyond: list[npt.NDArray[np.intp]] = []
    behind = 0
    for k in usual:
        left = rest[behind:]
        found = [n for n, text in enumerate(vocab.texts, RESERVED) if len(text) > len(left) and text.startswith(left)]
        beyond.append(np.array(found, np.intp))
        behind += len(vocab.text_of(k))
    return settled, Unsettled(usual, beyond, len(rest))


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
