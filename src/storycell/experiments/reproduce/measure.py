"""What a finished run comes to: its losses both ways, a sample, and the judgements on a hundred of them.

In: a run folder, the passage, a yardstick. Out: `measured.json` and `samples.json` in the run folder. It is written
once; the report reads nothing else but the run's own files.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from storycell import api, cells
from storycell.api import Model
from storycell.checkpoint import RunFolder, disk
from storycell.experiments import scoring
from storycell.experiments.pages import write_json
from storycell.experiments.passage import Passage, as_bytes
from storycell.experiments.reproduce import judgements
from storycell.experiments.reproduce.judgements import Yardstick
from storycell.experiments.reproduce.plan import SAMPLE_CHARS, TEMPERATURE
from storycell.model import CharLM
from storycell.sampler import Sampling
from storycell.shapes import Ids
from storycell.text_stream import gathered
from storycell.vocab import BOUNDARY_BYTE, Vocabulary

MOST_READ = 50_000_000  # characters of the training text that the yardstick knows


def is_measured(run: Path) -> bool:
    """Whether a run is finished and measured."""
    return (run / "measured.json").is_file()


def measured(run: Path) -> dict[str, Any]:
    """What `measure` wrote."""
    found: dict[str, Any] = disk.read_json(run / "measured.json")
    return found


def measure(run: Path, passage: Passage, yardstick: Yardstick, samples: int) -> None:
    """Score, sample and count; write it beside the run's other files."""
    model = api.load(run, backend=RunFolder(run).config().settings.training.backend)
    T = model.config.settings.training.chunk
    scored = scoring.of_run(model, passage, T, run.name)
    row = scoring.row(scored, passage, against=scored)
    assert scored.nats is not None
    groups = scoring.groups_of(passage)
    texts = write_samples(model, samples)
    write_json(run / "samples.json", {"prompt": model.default_prompt, "temperature": TEMPERATURE, "samples": texts})
    row |= {
        "sums_nats": np.bincount(groups, weights=scored.nats).tolist(),  # of every story, for paired differences
        "counts": np.bincount(groups).tolist(),
        "judgements": judgements.counts(texts, yardstick, passage.is_embedded),
        "sample": texts[0][0],
        "watched_at_start": _at_start(model),
    }
    write_json(run / "measured.json", row)


def write_samples(model: Model, count: int) -> list[tuple[str, bool]]:
    """Samples from the prompt with seeds 1, 2, 3, …: the text, and whether its story ended."""
    sampling = Sampling(temperature=TEMPERATURE)
    written = gathered(model.streams(None, SAMPLE_CHARS, count=count, sampling=sampling, seed=1), count)
    return [(model.default_prompt + text, len(text) < SAMPLE_CHARS) for text in written]


def _at_start(model: Model) -> dict[str, float]:
    """What the cell has worth watching, in the weights that the run's seed draws."""
    settings = model.config.settings
    lm = CharLM.from_settings(len(model.vocab), settings.model, seed=settings.training.seed)
    layers = enumerate(lm.recurrent.layers())
    return {f"{name}_l{k}": v for k, w in layers for name, v in cells.get(lm.cell).watch(w).items()}


def yardstick_of(ids: Ids, vocab: Vocabulary) -> Yardstick:
    """The words and names of a training text, of its first 50 million characters."""
    return Yardstick.of(_texts(ids[:MOST_READ], vocab))


def _texts(ids: Ids, vocab: Vocabulary) -> Iterable[str]:
    """Stories, in pieces of four million characters (a word that is cut between two of them does no harm)."""
    for at in range(0, len(ids), 1 << 22):
        yield from (story.decode() for story in as_bytes(ids[at : at + (1 << 22)], vocab).split(BOUNDARY_BYTE))


def real_counts(passage: Passage, yardstick: Yardstick, samples: int) -> dict[str, Any]:
    """The judgements on held-out stories themselves, cut to the length of a sample."""
    chosen = passage.stories[:samples]
    cut = [(story[:SAMPLE_CHARS], len(story) <= SAMPLE_CHARS) for story in chosen]
    return judgements.counts(cut, yardstick, passage.is_embedded)


def read_samples(run: Path) -> list[str]:
    """The samples of a run."""
    return [text for text, _ in json.loads(disk.read_text(run / "samples.json"))["samples"]]
