"""Steering: a direction in what a layer shows, and the model with more or less of it.

A direction is the difference of the mean h of a layer between two kinds of characters of a text: those where the last
pronoun was she and those where it was he, inside and outside quotations, after glad and after sad words. Added to h at
every step (`inspect.shown`), `dose` times, it makes the model go on as if it had read the one kind more than the other
(Turner et al. 2023, arXiv:2308.10248; in recurrent networks Paulo et al. 2024, arXiv:2404.05971). A random direction of
the same length says what any push as large would do.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.atomic import write_atomically
from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError, UnknownCharacterError
from storycell.inspect.chances import Endings, cut
from storycell.inspect.features import inside_quotes, last_of
from storycell.inspect.pairs import QUOTED, Pair, pairs
from storycell.inspect.patching import states_after
from storycell.inspect.shown import can_change, steered
from storycell.inspect.trace import Trace, probabilities
from storycell.language_model import LanguageModel
from storycell.runs import files

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
DOSES = (-2.0, 0.0, 1.0, 2.0, 4.0, 8.0)
_FORMAT = "storycell direction 1"
_FEWEST = 30  # characters of either kind
_PROMPTS = 12
_RANDOM = 2
_LARGEST_BYTES = 10_000_000

_SHE, _HE = frozenset({"she", "her", "hers"}), frozenset({"he", "him", "his"})
_GLAD = frozenset(
    {
        "happy",
        "glad",
        "joy",
        "smiled",
        "smile",
        "laughed",
        "laugh",
        "fun",
        "love",
        "loved",
        "proud",
        "excited",
        "merry",
        "jolly",
        "cheerful",
    }
)
_SAD = frozenset(
    {
        "sad",
        "cried",
        "cry",
        "tears",
        "scared",
        "afraid",
        "angry",
        "hurt",
        "upset",
        "lonely",
        "gloomy",
        "lost",
        "sorry",
        "unhappy",
    }
)


@dataclass(frozen=True)
class Direction:
    """A vector in what a layer shows; at dose 1 it is the whole difference between the two kinds."""

    about: str
    layer: int
    vector: Floats = field(compare=False)  # [H]

    def save(self, path: str | Path) -> None:
        """Write it as JSON, for `load` and `storycell sample --steer FILE:DOSE`."""
        told = {"format": _FORMAT, "about": self.about, "layer": self.layer, "vector": self.vector.tolist()}
        with files.writing(Path(path), files.OTHER_OUT):
            write_atomically(Path(path), (json.dumps(told) + "\n").encode())

    @staticmethod
    def load(path: str | Path) -> "Direction":
        """Read one; `SettingsError` where there is none."""
        file = Path(path)
        try:
            if file.stat().st_size > _LARGEST_BYTES:
                raise ValueError
            told = json.loads(file.read_text(encoding="utf-8"))
            vector = np.array(told["vector"], np.float64)
            if told["format"] != _FORMAT or vector.ndim != 1 or not np.isfinite(vector).all():
                raise ValueError
            return Direction(str(told["about"]), int(told["layer"]), vector)
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}; a direction is written by `Direction.save`") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise SettingsError(f"{path} is no direction; one is written by `Direction.save`") from None

    def random(self, seed: int) -> "Direction":
        """A direction drawn at random, of the same length."""
        drawn = np.random.default_rng(seed).standard_normal(len(self.vector))
        length = float(np.linalg.norm(self.vector))
        return Direction(f"random, as long as {self.about}", self.layer, drawn * length / float(np.linalg.norm(drawn)))


def _she(text: str) -> tuple[Bools, Bools]:
    return last_of(text, {*_SHE}, _HE) > 0, last_of(text, {*_HE}, _SHE) > 0


def _quotation(text: str) -> tuple[Bools, Bools]:
    inside = inside_quotes(text) > 0
    return inside, ~inside


def _glad(text: str) -> tuple[Bools, Bools]:
    return last_of(text, {*_GLAD}, _SAD) > 0, last_of(text, {*_SAD}, _GLAD) > 0


KINDS: dict[str, Callable[[str], tuple[Bools, Bools]]] = {
    "she, not he": _she,
    "inside quotes, not outside": _quotation,
    "glad, not sad": _glad,
}


def direction(path: Trace, about: str | tuple[Any, Any], layer: int = -1, name: str = "") -> Direction:
    """The difference of means between two kinds of characters: one of `KINDS`, or two masks `[T]` of your own.

    `layer` -1 is the last. `SettingsError` where a kind is unknown or occurs too seldom.
    """
    if isinstance(about, str):
        if about not in KINDS:
            raise SettingsError(f"there is no direction {about!r}; there are {', '.join(KINDS)}")
        yes, no = KINDS[about](path.text)
        name = about
    else:
        yes, no = (np.asarray(mask, dtype=np.bool_) for mask in about)
    if yes.shape != (len(path),) or no.shape != (len(path),):
        raise SettingsError(f"the two kinds must say yes or no for each of the {len(path):,} characters of the text")
    yes, no = yes[path.ends], no[path.ends]  # what is true of a piece once it was read
    if min(yes.sum(), no.sum()) < _FEWEST:
        raise SettingsError(
            f"{name or 'the two kinds'}: {yes.sum()} and {no.sum()} {path.step_name}s are too few, not {_FEWEST} of "
            "both"
        )
    layer = layer + path.layers if layer < 0 else layer
    h = path.step_values(layer, names=(path.output,))[path.output]
    difference = h[yes].mean(0, dtype=np.float64) - h[no].mean(0, dtype=np.float64)
    return Direction(name or "a difference of means", layer, difference)


def steer(model: LanguageModel, along: Direction, dose: float) -> LanguageModel:
    """The model with `dose` times a direction on top of what its layer shows; `SettingsError` as `shown.changed`."""
    return steered(model, along.layer, dose * along.vector)


@dataclass(frozen=True)
class DoseCurve:
    """How likely the direction's own answer is, against the other one, by dose: means over prompts, 0 to 1."""

    direction: Direction
    answers: tuple[str, str]
    doses: tuple[float, ...]
    shares: Floats  # [doses]
    stderrs: Floats  # over prompts
    random: Floats  # [directions doses], of random directions of the same length


def dose_curve(
    model: LanguageModel, vocab: Vocabulary, along: Direction, given: Sequence[Pair], doses: Sequence[float] = DOSES
) -> DoseCurve:
    """Read the bases of pairs, which expect `no`, with the model steered to `yes`: p(yes) / (p(yes) + p(no))."""
    ask = _questions(vocab, given)

    def shares(one: Direction) -> Floats:
        found = []
        for dose in doses:
            yes, no = ask(steer(model, one, dose))
            found.append(yes / (yes + no))
        return np.array(found)

    each = shares(along)
    random = np.array([shares(along.random(seed)).mean(1) for seed in range(_RANDOM)])
    stderrs = each.std(1, ddof=1) / np.sqrt(len(given))
    return DoseCurve(along, (given[0].yes, given[0].no), tuple(doses), each.mean(1), stderrs, random)


def _questions(vocab: Vocabulary, given: Sequence[Pair]) -> Callable[[LanguageModel], tuple[Floats, Floats]]:
    """What asks a model for the probabilities of both answers after the bases of pairs, `[pairs]` each."""
    prompts = [pair.base + pair.then for pair in given]
    answers = [pair.yes for pair in given], [pair.no for pair in given]
    if vocab.kind == "pieces":
        found = [cut(vocab, (prompt,)) for prompt in prompts]
        endings = Endings(vocab, [ending for _, ending in found], *answers)

        def ask_pieces(model: LanguageModel) -> tuple[Floats, Floats]:
            yes, no = endings.ask(model, states_after(model, [ids for (ids,), _ in found]))
            return yes, no

        return ask_pieces
    ids = [vocab.prompt_ids(prompt)[0] for prompt in prompts]
    yes, no = (np.array([vocab.prompt_ids(text)[0][0] for text in texts]) for texts in answers)
    number = np.arange(len(ids))

    def ask(model: LanguageModel) -> tuple[Floats, Floats]:
        p = probabilities(model.output(states_after(model, ids)[model.state_names[0]][-1]).astype(np.float64))
        return p[number, yes], p[number, no]

    return ask


def dose_curves(path: Trace) -> list[DoseCurve]:
    """The curves of the report: she, and quotations; without those of which the text has too little."""
    if not can_change(path.model):
        return []
    found = []
    for about, fact in (("she, not he", "she or he"), ("inside quotes, not outside", QUOTED)):
        try:
            along = direction(path, about)
        except SettingsError:
            continue
        try:
            found.append(dose_curve(path.model, path.vocab, along, pairs(fact, _PROMPTS)))
        except UnknownCharacterError:  # a model of another language or alphabet
            break
    return found
