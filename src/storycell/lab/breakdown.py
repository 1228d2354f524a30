"""Where one model beats another: by kind of character, by place in the word, inside quotes or outside.

For every group of targets of a `ScoredText`: its share of the text, the mean loss of each model, and the paired
difference from the first one.
"""

import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.evaluation.statistics import clustered_mean
from storycell.inspect.features import inside_quotes
from storycell.lab.scored_text import END, ScoredText
from storycell.lab.scoring import Scores, groups_of

KINDS = ("small letter", "capital", "digit", "space", "line end", "quote", "other mark", "end of the story", "other")
PLACES = ("1st letter", "2nd letter", "3rd letter", "4th letter", "5th or 6th letter", "7th letter or later")
SIDES = ("outside quotes", "inside quotes")
_UPPER_ENDS = (2, 3, 4, 5, 7)  # the letter at which the next of PLACES begins, from 1
_QUOTES = '"“”„«»'

Labels = npt.NDArray[np.int64]


def kinds(text: ScoredText) -> Labels:
    """The place in `KINDS` of every target, `[targets]`."""
    codes, back = np.unique(text.targets, return_inverse=True)
    return np.array([KINDS.index(_kind(int(code))) for code in codes])[back]


def _kind(code: int) -> str:
    if code == END:
        return "end of the story"
    character = chr(code)
    category = unicodedata.category(character)
    if character in _QUOTES:
        return "quote"
    if character == "\n":
        return "line end"
    if category in ("Lu", "Lt"):
        return "capital"
    names = {"L": "small letter", "N": "digit", "Z": "space", "P": "other mark", "S": "other mark"}
    return names.get(category[0], "other")


def places(text: ScoredText) -> Labels:
    """The place in `PLACES` of every letter, -1 for what is no letter, `[targets]`."""
    kind = kinds(text)
    letter = kind <= KINDS.index("capital")
    at = np.arange(len(letter))
    last_other = np.maximum.accumulate(np.where(letter, -1, at))
    number = at - last_other  # a letter's number in its word, from 1; a story begins after the end of another
    return np.where(letter, np.digitize(number, _UPPER_ENDS), -1)


def sides(text: ScoredText) -> Labels:
    """Whether a target is predicted inside a quotation, as its characters before say: 0 outside, 1 inside, `[targets]`.

    So the mark that opens a quotation is outside, the one that closes it inside.
    """
    characters = "".join(chr(code) if code < END else "\0" for code in text.targets.tolist())
    return np.concatenate([[0], inside_quotes(characters)[:-1]]).astype(np.int64)


def breakdown(text: ScoredText, scored: list[Scores]) -> list[dict[str, Any]]:
    """A row for every group that occurs: `group`, `part`, `share`, and by model `loss_nats` and the difference.

    The difference is that from the first model, with its standard error over stories; `weight` is what it comes to in
    the mean over the whole text.
    """
    models = [scores for scores in scored if scores.nats is not None]
    rows = []
    for group, names, labels in (
        ("kind of character", KINDS, kinds(text)),
        ("place in the word", PLACES, places(text)),
        ("quotation", SIDES, sides(text)),
    ):
        for k, name in enumerate(names):
            chosen = labels == k
            if chosen.any():
                share = float(chosen.mean())
                rows.append({"group": group, "part": name, "share": share, "models": _means(models, chosen, text)})
    return rows


def _means(models: list[Scores], chosen: npt.NDArray[np.bool_], text: ScoredText) -> list[dict[str, Any]]:
    groups = groups_of(text)[chosen]
    first = models[0].nats
    assert first is not None
    means = []
    for scores in models:
        assert scores.nats is not None
        nats, _ = clustered_mean(scores.nats[chosen], groups)
        less, stderr = clustered_mean((scores.nats - first)[chosen], groups)
        means.append(
            {
                "name": scores.name,
                "loss_nats": nats,
                "difference_nats": less,
                "difference_stderr_nats": stderr,
                "weight": less * float(chosen.mean()),
            }
        )
    return means
