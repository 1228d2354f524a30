"""The film of a training: when each thing that a unit tells was learnt, from the weights kept on the way.

A run trained with `--checkpoints log` keeps small copies of its weights. For the features that the article is about
(quotations, brackets, names, she or he) the unit that tells most at the end is followed back through all of them:

* what it tells: its AUC on the half of the text that did not choose it (`inspect.units`), beside that of whichever unit
  was best at the time;
* what it does: by how much it alone, exchanged between two texts that differ in the fact (`inspect.patching`), raises
  the probability of the fact's own answer, beside random units, and the units that tell most together. The pairs are
  the grammar's where it has the fact and the model its characters, otherwise they are made of the text itself.

Something is *born* at the first checkpoint from which on at least half of what it comes to at the end is there: of the
AUC, counted from the best unit of an untrained network; of the effect, counted from nothing. What the untrained network
or random units show as well is not born at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.data.vocab import Vocabulary
from storycell.errors import RunFolderError, SettingsError, UnknownCharacterError
from storycell.inspect import pairs
from storycell.inspect.chances import cut
from storycell.inspect.features import Feature, features
from storycell.inspect.pairs import QUOTED, Pair
from storycell.inspect.patching import Part, raised
from storycell.inspect.trace import Trace, trace
from storycell.inspect.units import Finding, best_scores, find_units, unit_score
from storycell.language_model import LanguageModel
from storycell.runs.folder import RunFolder
from storycell.types import BOUNDARY, Ids

Floats = npt.NDArray[np.float64]

CHARS = 20_000  # of the text are read at every checkpoint
_PASSAGE = 420  # characters to be coloured
_PAIRS, _FEWEST_PAIRS = 32, 12
TOGETHER = 5  # units that tell most
_RANDOM_UNITS = 8
_RESAMPLES = 1000
_FELT = 0.005  # of a probability: less is no use that a model makes of a unit
_NAMES = 2


@dataclass(frozen=True)
class Frame:
    """The weights after some step; `load` makes the model of them, which need not stay in memory."""

    step: int
    load: Callable[[], LanguageModel]


@dataclass(frozen=True)
class Plan:
    """What to look for in every frame: the units that tell most at the end, and how to ask for what they do."""

    vocab: Vocabulary
    ids: Ids
    features: dict[str, Feature]
    findings: list[Finding]  # the best unit of every feature at the end
    groups: list[Part]  # the units that tell most of it, the best among them
    asked: dict[str, tuple[str, list[Pair]]]  # feature -> whose pairs, and the pairs
    rows: range  # the passage
    text: str  # of it


@dataclass(frozen=True)
class Look:
    """What was found in one frame; lists have an entry for each finding of the plan."""

    nats: float  # mean loss on the text
    scores: list[float]  # AUC of the unit
    bests: list[float]  # AUC of the best unit at the time
    effects: list[tuple[float, ...]]  # mean, 95 % interval, of random units, of the group; nan where nothing asks
    values: Floats  # [findings rows], the unit's memory along the passage
    row_nats: Floats  # [rows]


@dataclass(frozen=True)
class Birth:
    """A feature, the unit that tells it at the end, and its way there: an entry for each frame."""

    finding: Finding
    scores: Floats
    bests: Floats
    asked: str  # whose pairs; empty where there are none
    effects: Floats
    lows: Floats
    highs: Floats
    random: Floats  # of a random unit
    together: Floats  # of the units that tell most
    values: Floats  # [frames rows]
    known_at: int | None  # the frame from which on it tells, if it does so at the end
    used_at: int | None  # and from which on the model uses it


@dataclass(frozen=True)
class Film:
    """All frames: `steps [frames]`, the loss on the text, what was born, and one passage through time."""

    steps: list[int]
    nats: Floats
    births: list[Birth]
    text: str  # the passage, n characters
    row_nats: Floats  # [frames n]
    curve: list[tuple[int, float | None, float | None]]  # the log: step, training loss, validation loss; nats
    name: str  # of the value that colours: c, or h


@dataclass(frozen=True)
class Reel:
    """The frames of a run, the last of them the model itself, and the lines of its log."""

    frames: Sequence[Frame]
    metrics: Sequence[dict[str, Any]] = ()


def reel_of(folder: RunFolder, model: LanguageModel) -> Reel:
    """What a run keeps of its training, for `model`, which has its best weights. Errors as `frames_of`."""
    return Reel(frames_of(folder, model), folder.metrics())


def frames_of(folder: RunFolder, model: LanguageModel) -> list[Frame]:
    """The checkpoints of a run up to its best weights, which `model` has and which come last.

    `RunFolderError` where the run kept none.
    """
    shapes = {name: weight.shape for name, weight in model.weights().items()}
    _, about = folder.load_weights(shapes)
    last = int(about.get("step", 0))
    kept = [step for step in folder.checkpoints() if step < last]
    if not kept:
        raise RunFolderError(
            f"{folder.path} has no checkpoints of what came before its weights; a run that is trained with "
            "`--checkpoints log` keeps some"
        )

    def loader(step: int) -> Callable[[], LanguageModel]:
        return lambda: model.with_weights(folder.load_checkpoint(step, shapes))

    return [*(Frame(step, loader(step)) for step in kept), Frame(last, lambda: model)]


def first_stories(ids: Ids, chars: int = CHARS) -> Ids:
    """The first ids of a text, whole stories where there are several."""
    ends = np.append(np.flatnonzero(ids[1:] == BOUNDARY) + 1, len(ids))
    fitting = ends[ends <= chars]
    return ids[: fitting[-1] if len(fitting) and fitting[-1] > chars // 2 else chars]


def plan(model: LanguageModel, vocab: Vocabulary, ids: Ids, seed: int) -> Plan:
    """What the last weights came to; `seed` is that of the untrained network. `SettingsError` for too short a text."""
    ids = first_stories(ids, max(1, round(CHARS * len(ids) / vocab.count_chars(ids))))
    path, untrained = trace(model, ids, vocab), trace(model.copy_untrained(seed), ids, vocab)
    known = features(path.text)
    chosen = ["inside quotes", "inside brackets", "last pronoun is she or her"]
    chosen += [name for name in known if name.startswith(_LAST_NAME)][:_NAMES]
    found = find_units(path, untrained, {name: known[name] for name in chosen}, top=TOGETHER)
    findings = [best for best, *_ in found.values()]
    groups = [Part(units=tuple((one.layer, one.unit) for one in several)) for several in found.values()]
    asked = {name: _ask(name, path.text, vocab) for name in found}
    rows = _passage(path, known, list(found))
    return Plan(
        vocab,
        ids,
        {name: known[name] for name in found},
        findings,
        groups,
        asked,
        rows,
        path.text[rows.start : rows.stop],
    )


def look(frame: Frame, plan: Plan) -> Look:
    """Read the text with the weights of a frame, and measure the plan's units."""
    model = frame.load()
    path = trace(model, plan.ids, plan.vocab)
    bests = best_scores(path, plan.features)
    scores, effects, values = [], [], []
    for finding, group in zip(plan.findings, plan.groups, strict=True):
        unit = (finding.layer, finding.unit)
        scores.append(unit_score(path, plan.features[finding.feature], *unit, finding.sign))
        given = plan.asked[finding.feature][1]
        effects.append(_effect(model, plan.vocab, given, unit, group) if given else (np.nan,) * 5)
        values.append(path.column(path.memory, *unit)[plan.rows.start : plan.rows.stop])
    rows = path.nats[plan.rows.start : plan.rows.stop]
    return Look(
        float(path.nats.mean()), scores, [bests[f.feature] for f in plan.findings], effects,
        np.array(values, np.float64).reshape(len(values), len(plan.rows)), rows,
    )  # fmt: skip


def develop(reel: Reel, plan: Plan, looks: Sequence[Look]) -> Film:
    """What was found in all frames, put together."""
    births = []
    for k, finding in enumerate(plan.findings):
        effects, lows, highs, random, together = np.array([one.effects[k] for one in looks], np.float64).T
        scores = np.array([one.scores[k] for one in looks])
        told = finding.is_finding
        known_at = from_half(scores - finding.untrained_score) if told else None
        used = bool(lows[-1] > max(_FELT, random[-1]))
        births.append(
            Birth(
                finding=finding,
                scores=scores,
                bests=np.array([one.bests[k] for one in looks]),
                asked=plan.asked[finding.feature][0],
                effects=effects,
                lows=lows,
                highs=highs,
                random=random,
                together=together,
                values=np.array([one.values[k] for one in looks]),
                known_at=known_at,
                used_at=from_half(effects) if told and used else None,
            )
        )
    return Film(
        steps=[frame.step for frame in reel.frames],
        nats=np.array([one.nats for one in looks]),
        births=sorted(births, key=lambda birth: (birth.known_at is None, birth.finding.feature != "inside quotes")),
        text=plan.text,
        row_nats=np.array([one.row_nats for one in looks]),
        curve=[(line["step"], line["train_nats"], line["valid_nats"]) for line in reel.metrics],
        name=plan.findings[0].name if plan.findings else "",
    )


def film(reel: Reel, vocab: Vocabulary, ids: Ids, seed: int) -> Film:
    """The whole film, along a text `[N]` that starts with a boundary; `seed` is that of the untrained network."""
    planned = plan(reel.frames[-1].load(), vocab, ids, seed)
    return develop(reel, planned, [look(frame, planned) for frame in reel.frames])


def from_half(gained: Floats) -> int | None:
    """The first place from which on at least half of the last value is there; None where that is not above 0."""
    if not gained[-1] > 0:
        return None
    below = np.flatnonzero(~(gained >= gained[-1] / 2))
    return int(below[-1]) + 1 if len(below) else 0


_LAST_NAME = "last name is "


def _ask(name: str, text: str, vocab: Vocabulary) -> tuple[str, list[Pair]]:
    """Pairs of prompts that differ in a feature, and whose they are: the grammar's, or the text's own."""
    facts = {"inside quotes": QUOTED, "last pronoun is she or her": "she or he"}
    if name in facts:
        given = pairs.pairs(facts[name], _PAIRS)
        if all(_can_read(vocab, pair) for pair in given):
            return "the grammar's", given
    if name == "inside quotes":
        given = pairs.enclosed(text, {'"': '"', "“": "”", "«": "»"}, _PAIRS)
    elif name == "inside brackets":
        given = pairs.enclosed(text, {"(": ")", "[": "]", "{": "}"}, _PAIRS)
    elif name.startswith(_LAST_NAME):
        said = name.removeprefix(_LAST_NAME)
        others = [other.removeprefix(_LAST_NAME) for other in features(text) if other.startswith(_LAST_NAME)]
        given = pairs.renamed(text, said, [other for other in others if other != said], _PAIRS)
    else:
        given = []
    given = [pair for pair in given if _can_read(vocab, pair)]
    return ("the text's own", given) if len(given) >= _FEWEST_PAIRS else ("", [])


def _can_read(vocab: Vocabulary, pair: Pair) -> bool:
    """Whether a model knows the characters of a pair, and an answer is one id (of a model of bytes it may be more)."""
    try:
        if vocab.kind == "pieces":
            cut(vocab, (pair.source + pair.then, pair.base + pair.then))
            return set(pair.yes + pair.no) <= set(vocab.characters)
        ids = [vocab.prompt_ids(text)[0] for text in (pair.source, pair.base, pair.then, pair.yes, pair.no)]
    except (UnknownCharacterError, SettingsError):
        return False
    return len(ids[2]) == len(pair.then) and len(ids[3]) == len(ids[4]) == 1


def _effect(
    model: LanguageModel, vocab: Vocabulary, given: Sequence[Pair], unit: tuple[int, int], group: Part
) -> tuple[float, ...]:
    """By how much a unit raises the probability of the answer: mean, 95 % interval; a random unit; a group of units."""
    every = [(layer, u) for layer in range(model.num_layers) for u in range(model.hidden_size) if (layer, u) != unit]
    chance = np.random.default_rng(1)
    drawn = chance.choice(len(every), min(_RANDOM_UNITS, len(every)), replace=False)
    parts = [group, *(Part(units=(one,)) for one in (unit, *(every[k] for k in drawn)))]
    together, alone, *random = raised(model, vocab, given, parts)
    n = len(given)
    means = chance.multinomial(n, np.full(n, 1 / n), _RESAMPLES) @ alone / n
    low, high = np.quantile(means, [0.025, 0.975])
    by_chance = float(np.mean(random)) if random else 0.0
    return float(alone.mean()), float(low), float(high), by_chance, float(together.mean())


def _passage(path: Trace, known: dict[str, Feature], names: list[str]) -> range:
    """The stretch of the second half, from a story's beginning where it can, with most changes of the first feature."""
    if not names:
        return range(min(_PASSAGE, len(path)))
    begins = [row for row in path.firsts[path.starts].tolist() if len(path) // 2 <= row <= len(path) - _PASSAGE]
    begins = begins or list(range(len(path) // 2, max(len(path) - _PASSAGE, len(path) // 2 + 1), _PASSAGE))
    changes = np.abs(np.diff(known[names[0]].values, prepend=0.0))
    best = max(begins, key=lambda row: float(changes[row : row + _PASSAGE].sum()))
    return range(best, min(best + _PASSAGE, len(path)))
