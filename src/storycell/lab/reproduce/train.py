"""Trains and measures every run of a plan: a finished run is left alone, an interrupted one goes on.

Run folders are made in `runs/`, each with `measured.json`; `context.json` has what belongs to the text and to no run:
the baselines, the floor, the properties of real stories.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from storycell import api
from storycell.data.corpus import NAMES, Named
from storycell.errors import RunFolderError
from storycell.lab import compare, scored_text, scoring
from storycell.lab.compare import Say
from storycell.lab.reproduce import measure
from storycell.lab.reproduce.measure import Yardstick
from storycell.lab.reproduce.plan import Entrant, Plan, folder_of
from storycell.lab.scored_text import ScoredText
from storycell.runs.files import write_json
from storycell.runs.folder import RunFolder
from storycell.training.loop import Callback

Watch = Callable[[], AbstractContextManager[Callback | None]]


def carry_out(
    plan: Plan,
    out: Path,
    say: Say = lambda note: None,
    watch: Watch = nullcontext,
    after_run: Callable[[], object] = lambda: None,
) -> str:
    """Train and measure what is not there yet; returns the signal that stopped it, if one did.

    `watch` gives a context whose value sees every report of a training; `after_run` is called after each run.
    """
    runs = plan.runs
    shared: tuple[ScoredText, Yardstick] | None = None
    for number, (entrant, seed) in enumerate(runs, 1):
        run = folder_of(out, entrant, seed)
        if measure.is_measured(run):
            continue
        say(f"{number} of {len(runs)}: {entrant.title}, seed {seed}")
        with watch() as callback:
            interrupted = _train(plan, entrant, seed, run, callback)
        if interrupted:
            return interrupted
        shared = shared or _context(plan, out, run, say)
        say(f"measuring {run.name}")
        measure.measure(run, *shared, plan.samples)
        after_run()
    return ""


def _train(plan: Plan, entrant: Entrant, seed: int, run: Path, callback: Callback | None) -> str:
    """Train a run to the end of its budget; the signal that stopped it, or nothing."""
    if not run.exists():
        chosen = {**entrant.overrides, **plan.settings, **plan.budget, "seed": seed}
        words = [Named(word) if word in NAMES else word for word in plan.words]  # files by their absolute paths
        done = api.train(words, valid=plan.valid_words, out=run, recipe=entrant.recipe, callback=callback, **chosen)
        return done.interrupted
    settings = RunFolder(run).config().settings
    wanted = entrant.settings.with_changes(**plan.settings).model
    if settings.model != wanted or settings.training.seed != seed:
        raise RunFolderError(f"{run} holds another model than {entrant.title}; name another --out")
    return api.resume(run, callback=callback).interrupted


def _context(plan: Plan, out: Path, run: Path, say: Say) -> tuple[ScoredText, Yardstick]:
    """The held-out text and the yardstick; what belongs to the text is measured once."""
    config, known = RunFolder(run).config(), RunFolder(run).vocab()
    target = scored_text.held_out(config, known)
    ids, vocab = scored_text.load_training_ids(config, known)
    yardstick = measure.yardstick_of(ids, vocab)
    if not (out / "context.json").exists():
        T = max(entrant.settings.training.chunk for entrant in plan.entrants)
        notes: list[str] = []
        scored = compare.baselines_on(config, known, target, T, notes, say)
        floor = scoring.of_floor(target)
        scored += [floor] if floor else []
        about = {
            "text": target.name,
            "stories": len(target.stories),
            "targets": len(target.targets),
            "embedded": target.is_embedded,
            "baselines": [scoring.row(scores, target, against=scores) for scores in scored],
            "notes": notes,
            "judgements": measure.real_counts(target, yardstick, plan.samples),
        }
        write_json(out / "context.json", about)
    return target, yardstick
