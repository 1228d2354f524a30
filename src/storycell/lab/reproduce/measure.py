"""Measurements of a finished run: its losses both ways, a sample, and properties of a hundred samples.

The properties count what the article judges by eye: words, quotes, punctuation, paragraphs, names. Each is a share
between 0 and 1, and how many things it is a share of. The held-out stories, cut to the same length, are counted the
same way: they show what a perfect score looks like, since even real text has words that the training text (`Yardstick`)
has not. Results go to `measured.json` and `samples.json` in the run folder, once; the report reads only files of the
run.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storycell import api
from storycell.api import Model
from storycell.data.stories import corpus
from storycell.data.tokens import as_blocks
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary
from storycell.generation.sampler import Sampling
from storycell.generation.text_stream import gather
from storycell.inspect.gradients import spectral_radius
from storycell.lab import scoring
from storycell.lab.reproduce.plan import SAMPLE_CHARS, TEMPERATURE
from storycell.lab.scored_text import ScoredText
from storycell.runs import files
from storycell.runs.files import write_json
from storycell.runs.folder import RunFolder
from storycell.types import Ids

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_IN_SENTENCE = re.compile(r"(?<=[^\W\d_A-Z], |[^\W\d_A-Z]{2} )[A-Z][^\W\d_]+")
_MARK = re.compile(r"[,.;:!?]")
_AFTER_MARK = re.compile(r"[\s,.;:!?\"'”’)\]–—-]|$")
_SEEN_OFTEN = 5  # times in the middle of a sentence, capitalised, makes a name
_PAIRS = {"”": "“", ")": "(", "]": "["}


@dataclass(frozen=True)
class Yardstick:
    """What the training text teaches about words: those it holds, in small letters, and which of them are names."""

    words: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Yardstick":
        """A name is capitalised in the middle of sentences, and five times as often as it is written small."""
        small: Counter[str] = Counter()
        capitals: Counter[str] = Counter()
        known: set[str] = set()
        for text in texts:
            found = Counter(_WORD.findall(text))
            known |= {_plain(word) for word in found}
            for word, count in found.items():
                if word[0].islower():
                    small[word] += count
            capitals.update(_IN_SENTENCE.findall(text))
        names = {w for w, n in capitals.items() if n >= _SEEN_OFTEN and n > 5 * small[w.lower()]}
        return cls(frozenset(known), frozenset(names))


def counts(samples: Sequence[tuple[str, bool]], yardstick: Yardstick, embedded: bool) -> dict[str, Any]:
    """The judgements on samples: (text, whether its story ended)."""
    words = [word for text, ended in samples for word in _whole_words(text, ended)]
    strange = Counter(plain for word in words if (plain := _plain(word)) not in yardstick.words)
    paragraphs = [p for text, ended in samples for p in _whole_paragraphs(text, ended)]
    quotes = [_balance(p, "“”", '"') for p in paragraphs]
    brackets = [_balance(p, "()[]", "") for p in paragraphs]
    marks = [_is_spaced(text, m.start()) for text, _ in samples for m in _MARK.finditer(text)]
    named = [Counter(_names(text, yardstick)) for text, _ in samples]
    found: dict[str, Any] = {
        "samples": len(samples),
        "chars": sum(len(text) for text, _ in samples),
        "ended": _share([ended for _, ended in samples]),
        "words": len(words),
        "unknown_words": sum(strange.values()) / len(words) if words else None,
        "unknown_examples": [word for word, _ in strange.most_common(12)],
        **_count_closed("quotes", quotes),
        **_count_closed("brackets", brackets),
        "marks": len(marks),
        "marks_spaced": _share(marks),
        "paragraphs": sum(len(_paragraphs(text)) for text, _ in samples) / len(samples),
        "paragraphs_finished": _share([p.rstrip()[-1:] in tuple(".!?\"”'’:") for p in paragraphs]),
        "names": sum(len(names) for names in named) / len(samples),
        "names_once": _share([count == 1 for names in named for count in names.values()]),
    }
    if embedded:
        found["parses"] = _share([ended and corpus.parses(text) for text, ended in samples])
    return found


def _plain(word: str) -> str:
    return word.replace("’", "'").lower()


def _share(facts: Sequence[bool]) -> float | None:
    return sum(facts) / len(facts) if facts else None


def _whole_words(text: str, ended: bool) -> list[str]:
    """The words of a sample, but not one that its end may have cut."""
    found = [match for match in _WORD.finditer(text) if ended or match.end() < len(text)]
    return [match.group() for match in found]


def _paragraphs(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _whole_paragraphs(text: str, ended: bool) -> list[str]:
    found = _paragraphs(text)
    return found if ended or text.endswith("\n") else found[:-1]


def _balance(paragraph: str, pairs: str, straight: str) -> tuple[int, int]:
    """How many marks found their partner in the paragraph, and how many did not."""
    open_marks: list[str] = []
    matched = lost = 0
    for mark in paragraph:
        if mark not in pairs and mark != straight:
            continue
        partner = straight if mark == straight else _PAIRS.get(mark, "")
        if partner and open_marks and open_marks[-1] == partner:
            open_marks.pop()
            matched += 2
        elif mark == straight or not partner:
            open_marks.append(mark)
        else:
            lost += 1
    return matched, lost + len(open_marks)


def _count_closed(name: str, balances: list[tuple[int, int]]) -> dict[str, Any]:
    matched, lost = sum(m for m, _ in balances), sum(n for _, n in balances)
    return {name: matched + lost, f"{name}_closed": matched / (matched + lost) if matched + lost else None}


def _is_spaced(text: str, at: int) -> bool:
    """Whether a mark follows a word at once and is followed by a space, a line end, another mark, or nothing."""
    digits = text[at - 1 : at].isdigit() and text[at + 1 : at + 2].isdigit()
    return digits or (at > 0 and not text[at - 1].isspace() and bool(_AFTER_MARK.match(text, at + 1)))


def _names(text: str, yardstick: Yardstick) -> list[str]:
    words = (word.split("'")[0].split("’")[0] for word in _WORD.findall(text))
    return [word for word in words if word in yardstick.names]


MOST_READ = 50_000_000  # characters of the training text that the yardstick knows


def is_measured(run: Path) -> bool:
    """Whether a run is finished and measured."""
    return (run / "measured.json").is_file()


def read_measures(run: Path) -> dict[str, Any]:
    """What `measure` wrote."""
    found: dict[str, Any] = files.read_json(run / "measured.json")
    return found


def measure(run: Path, text: ScoredText, yardstick: Yardstick, samples: int) -> None:
    """Score, sample and count; write it beside the run's other files."""
    model = api.load(run, backend=RunFolder(run).config().settings.training.backend)
    T = model.config.settings.training.chunk
    scored = scoring.of_run(model, text, T, run.name)
    row = scoring.row(scored, text, against=scored)
    assert scored.nats is not None
    groups = scoring.groups_of(text)
    texts = write_samples(model, samples)
    write_json(run / "samples.json", {"prompt": model.default_prompt, "temperature": TEMPERATURE, "samples": texts})
    row |= {
        "sums_nats": np.bincount(groups, weights=scored.nats).tolist(),  # of every story, for paired differences
        "counts": np.bincount(groups).tolist(),
        "judgements": counts(texts, yardstick, text.is_embedded),
        "sample": texts[0][0],
        "watched_at_start": _at_start(model),
    }
    write_json(run / "measured.json", row)


def write_samples(model: Model, count: int) -> list[tuple[str, bool]]:
    """Samples from the prompt with seeds 1, 2, 3, …: the text, and whether its story ended."""
    sampling = Sampling(temperature=TEMPERATURE)
    written = gather(model.streams(None, SAMPLE_CHARS, count=count, sampling=sampling, seed=1), count)
    return [(model.default_prompt + text, len(text) < SAMPLE_CHARS) for text in written]


def _at_start(model: Model) -> dict[str, float]:
    """The spectral radius of each layer of an RNN, in the weights that the run's seed draws."""
    if model.network.cell != "rnn":
        return {}
    begun = model.network.copy_untrained(model.config.settings.training.seed)
    return {f"spectral_radius_l{k}": spectral_radius(begun, k) for k in range(begun.num_layers)}


def yardstick_of(ids: Ids, vocab: Vocabulary) -> Yardstick:
    """The words and names of a training text, of its first 50 million characters."""
    return Yardstick.of(_texts(ids[:MOST_READ], vocab))


def _texts(ids: Ids, vocab: Vocabulary) -> Iterable[str]:
    """Stories, in pieces of four million characters (a word that is cut between two of them does no harm)."""
    for block in as_blocks(ids, vocab):
        yield from (story.decode() for story in block.split(BOUNDARY_BYTE))


def real_counts(text: ScoredText, yardstick: Yardstick, samples: int) -> dict[str, Any]:
    """The judgements on held-out stories themselves, cut to the length of a sample."""
    chosen = text.stories[:samples]
    cut = [(story[:SAMPLE_CHARS], len(story) <= SAMPLE_CHARS) for story in chosen]
    return counts(cut, yardstick, text.is_embedded)


def read_samples(run: Path) -> list[str]:
    """The samples of a run."""
    return [text for text, _ in json.loads(files.read_text(run / "samples.json"))["samples"]]
