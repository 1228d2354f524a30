"""`inspect`: everything that a report shows about a run, as arrays and numbers in an `Inspection`.

The input is a model, its vocabulary and a text as ids; perhaps a second model on the same text. Analyses run in two
threads, each of which computes alone. Stepping through a model makes thousands of small matrix products, in which
several threads would mostly wait for each other (LOG.md); two analyses side by side keep both cores busy.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from storycell import threads
from storycell.data.vocab import Vocabulary
from storycell.errors import CorpusError, UnknownCharacterError
from storycell.inspect import film as films
from storycell.inspect import gradients, latch, memory
from storycell.inspect import trace as neighbours
from storycell.inspect.ablation import Ablation, ablation
from storycell.inspect.authors import MemoryAuthors, memory_authors
from storycell.inspect.cards import Card, card
from storycell.inspect.copying import Copying, copying
from storycell.inspect.features import Feature, features
from storycell.inspect.film import Film, Reel
from storycell.inspect.gradients import GradientFlow
from storycell.inspect.latch import LATCH, HeldStory, HoldResult, HoldTest, LatchReading, Moments, wire_by_hand
from storycell.inspect.memory import ContextLoss, PlaceLoss
from storycell.inspect.mistakes import MistakeKind, mistakes
from storycell.inspect.pairs import FACTS, QUOTED
from storycell.inspect.patching import Carriers, Transplant, carriers, transplant
from storycell.inspect.probes import Probe, probe
from storycell.inspect.saturation import Saturation, saturation
from storycell.inspect.shown import can_change
from storycell.inspect.steering import DoseCurve, dose_curves
from storycell.inspect.trace import Trace, trace
from storycell.inspect.truth import Truth, truth
from storycell.inspect.units import Finding, find_units
from storycell.language_model import LanguageModel
from storycell.types import Ids

FEWEST_CHARS = 4000
_BROWSED = 2400  # characters to read on the page
_SHOWN_UNITS = 16
_RADII = (0.9, 1.0, 1.1)
_RNN_CHARS = 20_000  # of the text are enough for the gradients of the untrained RNNs
_RANDOM_UNITS = 4
_GROUP = 5  # units held together
_CARDS = 8
_TRANSPLANTED = 160  # characters generated with a state exchanged


@dataclass(frozen=True)
class Subject:
    """A model to look at: the network, its vocabulary, the text as its ids, and what to call it."""

    name: str
    model: LanguageModel
    vocab: Vocabulary
    ids: Ids
    seed: int = 1  # what its weights were drawn from before training


@dataclass(frozen=True)
class Latch:
    """The article's latch: wired by hand, and the unit of the model that goes along with quotes best."""

    ideal: LatchReading
    readings: list[LatchReading]
    moments: list[Moments]
    holds: list[HoldResult] = field(default_factory=list)
    stories: list[HeldStory] = field(default_factory=list)


@dataclass(frozen=True)
class Browsed:
    """The part of the text to read, with what each character shows: next guesses, similar moments."""

    rows: range
    units: list[tuple[int, int, str]]  # layer, unit, what it goes along with
    likely: np.ndarray[Any, Any]  # [rows 5] ids of the likeliest next characters, or pieces
    likely_probabilities: np.ndarray[Any, Any]
    similar: np.ndarray[Any, Any]  # [rows 3] rows of the nearest states
    similar_cosines: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Inspection:
    """What was found."""

    subject: Subject
    trace: Trace
    browsed: Browsed
    findings: dict[str, list[Finding]]
    latch: Latch
    saturation: list[Saturation]
    flows: dict[str, GradientFlow]
    radii: dict[str, tuple[float, float]]  # an RNN's spectral radius: (at the start, trained)
    contexts: list[ContextLoss]
    places: list[PlaceLoss]
    mistakes: dict[str, list[MistakeKind]]  # by the name of the model
    copying: Copying | None  # of a model with n-grams or matches
    authors: MemoryAuthors | None  # of an LSTM or a GRU
    carriers: list[Carriers]  # of the facts of the embedded stories; none where their characters are unknown
    transplants: list[Transplant]  # of the facts that the model carries
    ablation: Ablation | None  # of models whose units can be silenced
    cards: list[Card]
    probes: list[Probe]
    doses: list[DoseCurve]  # of steering; none where the text or the cell has no such direction
    truth: Truth | None  # of a text that the embedded stories' grammar can have written
    against: Subject | None = None
    film: Film | None = None  # of a run that kept checkpoints, where it was asked for


def inspect(
    subject: Subject,
    against: Subject | None = None,
    extra: Mapping[str, Feature] | None = None,
    reel: Reel | None = None,
) -> Inspection:
    """Look into a model while it reads a text; `extra` are features `[T]` beside those that the text itself shows.

    With the `reel` of its run there is a film as well.
    """
    if (chars := subject.vocab.count_chars(subject.ids)) <= FEWEST_CHARS:
        raise CorpusError(
            f"the text has {chars - 1:,} characters, too few for figures with meaning; give at least {FEWEST_CHARS:,}"
        )
    if against and against.name == subject.name:
        against = replace(against, name=f"{against.name} (the second)")
    pool = ThreadPoolExecutor(2, initializer=threads.keep_to, initargs=(1,))
    with threads.computing_on(1, 1), threads.one_blas_thread(), pool:
        return _gather(pool, subject, against, extra or {}, reel)


def _gather(
    pool: ThreadPoolExecutor,
    subject: Subject,
    against: Subject | None,
    extra: Mapping[str, Feature],
    reel: Reel | None,
) -> Inspection:
    untrained_job = pool.submit(lambda: trace(subject.model.copy_untrained(subject.seed), subject.ids, subject.vocab))
    path = pool.submit(trace, subject.model, subject.ids, subject.vocab).result()
    second = pool.submit(_second_trace, against, path) if against else None
    saturated = pool.submit(saturation, path)
    untrained = untrained_job.result()
    developed = _film(pool, subject, reel) if reel else None
    found_job = pool.submit(lambda: find_units(path, untrained, features(path.text) | dict(extra)))
    silenced = pool.submit(ablation, path) if can_change(subject.model) else None
    probed = pool.submit(lambda: probe(path, untrained, features(path.text) | dict(extra)))
    true = pool.submit(truth, path)
    doses = pool.submit(dose_curves, path)
    copied = pool.submit(copying, path)
    losses = pool.submit(lambda: (memory.context_losses(path), memory.place_losses(path)))
    flows = _flows(pool, path, untrained, second, subject, against)
    wrong = pool.submit(_mistakes, subject, path, against, second)
    found = found_job.result()
    carried = pool.submit(_carriers, path, found.get("inside quotes", []))
    latch_jobs = _latch_jobs(pool, path, found.get("inside quotes", []))
    units = _telling(found, path)
    browsed = pool.submit(_browse, path, units)
    authors = pool.submit(memory_authors, path, units)
    contexts, places = losses.result()
    without = silenced.result() if silenced else None
    cards = [pool.submit(card, path, *unit) for unit in _carded(without, carried.result()[0], found)]
    return Inspection(
        subject=subject,
        trace=path,
        browsed=browsed.result(),
        findings=found,
        latch=latch_jobs(),
        saturation=saturated.result(),
        flows={name: job.result() for name, job in flows.items()},
        radii=_radii(subject, untrained, against),
        contexts=contexts,
        places=places,
        mistakes=wrong.result(),
        copying=copied.result(),
        authors=authors.result(),
        carriers=carried.result()[0],
        transplants=carried.result()[1],
        ablation=without,
        cards=_all(cards),
        probes=probed.result(),
        doses=doses.result(),
        truth=true.result(),
        against=against,
        film=developed() if developed else None,
    )


def _film(pool: ThreadPoolExecutor, subject: Subject, reel: Reel) -> Callable[[], Film]:
    """Start looking at every frame; the result puts them together."""
    planned = pool.submit(films.plan, subject.model, subject.vocab, subject.ids, subject.seed).result()
    looks = [pool.submit(films.look, frame, planned) for frame in reel.frames]
    return lambda: films.develop(reel, planned, _all(looks))


def _second_trace(against: Subject, path: Trace) -> Trace:
    other = trace(against.model, against.ids, against.vocab)
    if len(other) != len(path):
        raise CorpusError(
            f"{against.name} reads this text as {len(other):,} characters or bytes where the first run reads "
            f"{len(path):,}; --against takes a run of bytes beside one of bytes alone"
        )
    return other


def _flows(
    pool: ThreadPoolExecutor,
    path: Trace,
    untrained: Trace,
    second: "Future[Trace] | None",
    subject: Subject,
    against: Subject | None,
) -> dict[str, "Future[GradientFlow]"]:
    """Gradients of the run trained and not, of the second run, and of untrained RNNs at three spectral radii."""
    lags = min(gradients.LAGS, gradients.longest(path))
    if against and second and against.vocab.kind != subject.vocab.kind:  # its steps may be longer
        lags = min(lags, gradients.longest(second.result()))
    jobs: dict[str, Callable[[], GradientFlow]] = {
        "trained": lambda: gradients.gradient_flow(path, lags),
        "untrained": lambda: gradients.gradient_flow(untrained, lags),
    }
    if against and second:
        jobs["second"] = lambda: gradients.gradient_flow(second.result(), lags)

    def at_radius(radius: float) -> Callable[[], GradientFlow]:
        return lambda: gradients.gradient_flow(_rnn_trace(subject, path, radius), lags)

    jobs |= {f"RNN at {radius:g}": at_radius(radius) for radius in _RADII}
    return {name: pool.submit(job) for name, job in jobs.items()}


def _rnn_trace(subject: Subject, path: Trace, radius: float) -> Trace:
    part = subject.ids if len(path.starts) < 2 else subject.ids[: _whole_stories(path)]
    return trace(gradients.rnn_at_radius(subject.model, radius), part, subject.vocab)


def _whole_stories(path: Trace) -> int:
    ends = [*path.starts[1:], len(path.all_ids)]
    return int(next((end for end in ends if end >= _RNN_CHARS), ends[-1]))


def _radii(subject: Subject, untrained: Trace, against: Subject | None) -> dict[str, tuple[float, float]]:
    found = {}
    for one in (subject, against):
        if one is not None and one.model.cell == "rnn":
            begun = untrained.model if one is subject else one.model.copy_untrained(one.seed)
            found[one.name] = (gradients.spectral_radius(begun), gradients.spectral_radius(one.model))
    return found


def _mistakes(
    subject: Subject, path: Trace, against: Subject | None, second: "Future[Trace] | None"
) -> dict[str, list[MistakeKind]]:
    found = {subject.name: mistakes(path.text, path.nats)}
    if against and second:
        found[against.name] = mistakes(path.text, second.result().nats)
    return found


def _latch_jobs(pool: ThreadPoolExecutor, path: Trace, found: list[Finding]) -> Callable[[], Latch]:
    """Start the readings and the causal test; the result gathers them."""
    model, vocab = path.model, path.vocab
    ideal_model, ideal_vocab = wire_by_hand("".join(latch.SENTENCES))
    ideal = pool.submit(latch.read_sentence, ideal_model, ideal_vocab, latch.SENTENCES[0], 0, LATCH)
    if not found or latch.quote_of(vocab) is None:
        return lambda: Latch(ideal.result(), [], [])
    best = found[0]
    readings = [pool.submit(latch.read_sentence, model, vocab, s, best.layer, best.unit) for s in latch.SENTENCES]
    means = pool.submit(latch.moments, path, best.layer, best.unit)
    test = HoldTest(path) if model.can_hold else None
    if test is None or not test.is_possible:
        return lambda: Latch(ideal.result(), [r.result() for r in readings], means.result())
    units = [(f.name, f.layer, f.unit) for f in found]
    group = test.random_units(_GROUP, best.name, seed=_RANDOM_UNITS)
    held: list[tuple[str, list[latch.Unit]]] = [("nothing held", []), ("the quote unit", units[:1])]
    held += [(f"the {len(units)} best quote units", units)] if len(units) > 1 else []
    held += [(f"random unit {k + 1}", test.random_units(1, best.name, seed=k)) for k in range(_RANDOM_UNITS)]
    held += [(f"{len(group)} random units", group)]
    holds = [pool.submit(test.result, label, these) for label, these in held]
    inside, outside = test.values_of(units[:1])
    random = test.values_of(group)[0]
    wishes = {
        "nothing held": {},
        "quote unit held inside": inside,
        "quote unit held outside": outside,
        f"{len(group)} random units held": random,
    }
    prompt = path.text[:11].split("\0")[0] or "A"
    stories = [pool.submit(test.generate, label, these, prompt) for label, these in wishes.items()]
    return lambda: Latch(ideal.result(), _all(readings), means.result(), _all(holds), _all(stories))


def _carriers(path: Trace, quotes: list[Finding]) -> tuple[list[Carriers], list[Transplant]]:
    """What carries each fact of the stories, and what exchanging a few units makes the model write."""
    model, vocab = path.model, path.vocab
    named: dict[str, list[tuple[int, int]]] = {
        f"the {len(quotes)} units found for quotes": [(f.layer, f.unit) for f in quotes]
    }
    try:
        found = [carriers(model, vocab, fact, named=named if fact == QUOTED else None) for fact in FACTS]
    except UnknownCharacterError:  # a model of another language or alphabet
        return [], []
    moved = []
    for one in found:
        if one.is_carried:  # the fewest units that restore half
            enough = next((r.units for r in one.rows if "best" in r.label and r.share >= 0.5), one.rows[-1].units)
            moved.append(transplant(model, vocab, one.example, enough, _TRANSPLANTED))
    return found, moved


def _all(jobs: "Iterable[Future[Any]]") -> list[Any]:
    return [job.result() for job in jobs]


def _carded(
    without: Ablation | None, carried: list[Carriers], found: Mapping[str, list[Finding]]
) -> list[tuple[int, int]]:
    """Units worth a card: that quotations, names or verbs miss most, that carry a fact, that were found for quotes."""
    units = [unit for one in carried if one.is_carried for unit, _ in one.ranking[:2]]
    units += [(f.layer, f.unit) for f in found.get("inside quotes", [])[:1]]
    kinds = ("closing quote", "opening quote", "name", "verb", "every character")
    units += [(one.layer, one.unit) for kind in kinds for one in (without.best.get(kind, []) if without else [])[:1]]
    units += [(fs[0].layer, fs[0].unit) for fs in found.values() if fs[0].is_finding]
    return list(dict.fromkeys(units))[:_CARDS]


def _by_interest(f: Finding) -> tuple[bool, bool, float]:
    """The article's quotes first, then what is furthest ahead of the untrained network."""
    return f.feature != "inside quotes", not f.is_finding, -f.excess


def _telling(found: Mapping[str, list[Finding]], path: Trace) -> list[tuple[int, int, str]]:
    """The units to browse: the best of every finding, then other findings, then those that vary most."""
    ranked = sorted((f for fs in found.values() for f in fs[:1]), key=_by_interest)
    units: dict[tuple[int, int], str] = {}
    for f in ranked:
        units.setdefault((f.layer, f.unit), f.feature if f.is_finding else "")
    for layer in range(path.layers):
        spread = path.states[layer][path.output][1:].var(axis=0)
        for unit in np.argsort(-spread)[:2]:
            units.setdefault((layer, int(unit)), "")
    return [(layer, unit, label) for (layer, unit), label in units.items()][:_SHOWN_UNITS]


def _browse(path: Trace, units: list[tuple[int, int, str]]) -> Browsed:
    rows = range(min(_BROWSED, len(path)))
    probabilities = path.probabilities(slice(rows.start, rows.stop))
    likely = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    similar, cosines = neighbours.nearest(path, np.arange(rows.start, rows.stop))
    return Browsed(rows, units, likely, np.take_along_axis(probabilities, likely, axis=1), similar, cosines)
