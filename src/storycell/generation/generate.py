"""From a prompt to text: checks, seeds, and the pieces of several streams side by side."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Literal

from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.generation import sampler
from storycell.generation.constraints import Constraint
from storycell.generation.sampler import Sampling
from storycell.generation.text_stream import Pieces
from storycell.language_model import Held, LanguageModel

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
    ids, _ = vocab.prompt_ids(prompt, unknown)
    seeds = [seed + k for k in range(count)]
    rows = sampler.streams(lm, ids, sampling or Sampling(), seeds, chars, hold, constraint, header)
    return _pieces(rows, vocab, count, stops)


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


def _pieces(
    rows: Iterator[list[int | None]], vocab: Vocabulary, count: int, stops: list[str]
) -> Iterator[tuple[int, str]]:
    going = {k: Pieces(vocab, stops) for k in range(count)}
    for row in rows:
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
