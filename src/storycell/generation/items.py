"""Many short texts for a list: each once, none that stands in the training text, ordered by probability.

Texts are generated side by side, each with a seed of its own, until there are enough; number k of all that were tried
has the seed `seed + k`, so the same seed gives the same list. What is refused is counted by reason.

A text counts as known where it is a story of the training text or of what was held out from it, blanks around it apart;
of a text that is one story, where it stands anywhere in it. Likeness is 1 - (edits from one text to the other) / (the
longer one's characters), edits being characters put in, left out or exchanged (Levenshtein 1966).
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from storycell import extras
from storycell.data.tokens import Prepared, as_blocks
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.errors import SettingsError
from storycell.generation import sampler
from storycell.generation.constraints import Constraint
from storycell.generation.generate import CHARS, LARGEST_SEED, find_unsettled
from storycell.generation.sampler import Header, Sampling, Stream
from storycell.language_model import LanguageModel
from storycell.types import BOUNDARY, LABEL_END, Ids

SIDE_BY_SIDE = 512
LEAST_TRIES, TRIES_EACH = 10_000, 50  # it is given up after so many texts, or so many for each that is wanted
_COMPARED = 4_000_000  # likenesses that are held at once
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Item:
    """One text of a list."""

    text: str
    labels: dict[str, str]
    nats: float | None  # -ln of its probability, its end included, where that was asked for


@dataclass
class Items:
    """A list, and what was refused on the way."""

    items: list[Item] = field(default_factory=list)
    tried: int = 0
    refused: Counter[str] = field(
        default_factory=Counter
    )  # texts by reason: empty, filter, repeated, known, alike, stuck


def generate_items(
    lm: LanguageModel,
    vocab: Vocabulary,
    count: int,
    *,
    prompt: str = "",
    chars: int = CHARS,
    sampling: Sampling | None = None,
    seed: int = 0,
    unique: bool = False,
    new: bool | float = False,
    known: Prepared | None = None,
    filter: str | None = None,
    rank: bool = False,
    constraint: Constraint | None = None,
    header: Header | None = None,
    progress: Progress = lambda *_: None,
) -> Items:
    """At most `count` texts, fewer where the model does not make so many (see `TRIES_EACH`).

    `unique` leaves out what came before; `new` what is in the text `known`, and as a share below 1, what is
    more alike to one of its stories than that; `filter` what has no match of a regular expression; `rank` puts the
    likeliest first.
    """
    if not 1 <= count <= 10_000_000:
        raise SettingsError(f"count = {count}: it must be from 1 to 10,000,000")
    if not 0 <= seed <= LARGEST_SEED:
        raise SettingsError(f"seed = {seed}: it must be from 0 to {LARGEST_SEED:,}")
    try:
        wanted = re.compile(filter or "")
    except re.error as error:
        raise SettingsError(f"filter = {filter!r} is no regular expression: {error}") from None
    texts = None if known is None or not new else _Known(known, None if new == 1 else float(new))
    ids, read = vocab.prompt_ids(prompt)
    ids, unsettled = find_unsettled(vocab, ids, read)
    found, seen = Items(), set[str]()
    most = max(LEAST_TRIES, TRIES_EACH * count)
    while len(found.items) < count and found.tried < most:
        n = min(SIDE_BY_SIDE, most - found.tried)
        if not found.refused:
            n = min(n, count - len(found.items))
        seeds = [(seed + found.tried + k) % (LARGEST_SEED + 1) for k in range(n)]
        streams = sampler.start_streams(lm, ids, sampling or Sampling(), seeds, None, constraint, header, unsettled)
        made = _finish(lm, streams, chars, vocab)
        written = [vocab.decode([*ids, *one])[: len(read) + chars] for one in made]
        alike = texts.alike([text.strip() for text in written]) if texts else [""] * n
        for stream, one, text, why in zip(streams, made, written, alike, strict=True):
            if len(found.items) == count:
                break
            found.tried += 1
            plain = text.strip()
            reason = (
                "stuck" if stream.is_stuck
                else "empty" if not plain
                else "filter" if not wanted.search(text)
                else "repeated" if unique and plain in seen
                else why
            )  # fmt: skip
            if reason:
                found.refused[reason] += 1
                continue
            seen.add(plain)
            values = vocab.decode(stream.header).split(LABEL_END)
            labels = dict(zip(vocab.labels, values, strict=False)) if stream.header else {}
            nats = _nats(lm, stream.header, [*ids, *one], stream.ended) if rank else None
            found.items.append(Item(text, labels, nats))
        progress("generating", len(found.items), count)
    if rank:
        found.items.sort(key=lambda item: item.nats or 0.0)
    return found


def _finish(lm: LanguageModel, streams: list[Stream], chars: int, vocab: Vocabulary) -> list[list[int]]:
    """Let every stream write to its end, at most `chars` characters, of a piece more than that."""
    ids: dict[Stream, list[int]] = {stream: list(stream.healed) for stream in streams}
    done, step = 0, 4
    while done < chars and (left := [stream for stream in streams if not stream.ended]):
        step = min(2 * step, 64, chars - done)
        for stream, written in zip(left, sampler.advance(lm, left, step), strict=True):
            ids[stream] += written.ids
        done += step
    return [ids[stream] for stream in streams]


def _nats(lm: LanguageModel, header: list[int], ids: list[int], ended: bool) -> float:
    """-ln of the probability of a text behind its labels."""
    fed = [BOUNDARY, *header, *ids]
    targets = [*fed[1:], BOUNDARY]
    nats, _ = lm.nats([fed], [targets])
    return float(nats[0, len(header) : len(targets) if ended else len(targets) - 1].sum(dtype=np.float64))


class _Known:
    """The texts that are not to be repeated."""

    def __init__(self, text: Prepared, most_alike: float | None) -> None:
        if most_alike is not None:
            if not 0 < most_alike < 1:
                raise SettingsError(f"new = {most_alike}: it must be above 0 and below 1")
            extras.require("rapidfuzz", "--new with a likeness")
        self._most_alike = most_alike
        splits = [ids for ids in (text.train_ids, text.valid_ids) if ids is not None]
        found = [story for ids in splits for story in _stories(text.vocab, ids)]
        self._whole = "".join(found) if text.stories == 1 else ""
        self._stories = {story.strip() for story in found}
        self._list = sorted(self._stories)

    def alike(self, texts: list[str]) -> list[str]:
        """Why each text is refused: `known`, `alike`, or "" where it is new."""
        found = ["known" if text in self._stories or (self._whole and text in self._whole) else "" for text in texts]
        if self._most_alike is None:
            return found
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cdist

        open_ones = [k for k, why in enumerate(found) if not why]
        rows = max(1, _COMPARED // max(1, len(self._list)))
        for at in range(0, len(open_ones), rows):
            some = open_ones[at : at + rows]
            likeness = cdist(
                [texts[k] for k in some],
                self._list,
                scorer=Levenshtein.normalized_similarity,
                score_cutoff=self._most_alike,
                dtype=np.float32,
            )
            for k, best in zip(some, likeness.max(axis=1, initial=0.0), strict=True):
                if best > self._most_alike + 1e-6:
                    found[k] = "alike"
        return found


def _stories(vocab: Vocabulary, ids: Ids) -> list[str]:
    """The texts of all stories, without their labels."""
    stories = b"".join(as_blocks(ids, vocab)).split(BOUNDARY_BYTE)[1:]
    return [story.decode("utf-8", "replace").split(LABEL_END, len(vocab.labels))[-1] for story in stories]
