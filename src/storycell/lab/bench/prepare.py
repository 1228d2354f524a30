"""`bench prepare`: text files into token files, beside a comprehension over the characters of a string.

The text is stories of the embedded grammar, generated once; the figures are characters and bytes per second.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from storycell.data import corpus
from storycell.data import prepare as tokens
from storycell.data.stories.corpus import generate
from storycell.lab.bench import results
from storycell.lab.bench.timing import Work, time_interleaved
from storycell.lab.bench.workload import Workload

TEXT_BYTES = 16_000_000
_DIFFERENT = 500  # stories; after them the text begins again


def prepare(workload: Workload, text_bytes: int = TEXT_BYTES) -> dict[str, Any]:
    """Measure `storycell prepare` on one core; the figures as `figures.summary` gives them."""
    with tempfile.TemporaryDirectory(prefix="storycell-bench-") as folder:
        path = Path(folder) / "text.txt"
        text = _write_text(path, text_bytes)
        rates = time_interleaved({"storycell": _ours(path), "plain_python": _plain(path)}, workload.rounds)
        size = path.stat().st_size
    made = {"rounds": workload.rounds, "threads": 1, "text_bytes": size}
    summary = results.summary("prepare", made, rates, None)
    return summary | {"bytes_per_s": round(summary["chars_per_s"] * size / len(text))}


def _write_text(path: Path, text_bytes: int) -> str:
    stories = "<|endoftext|>\n".join(itertools.islice(generate(1), _DIFFERENT)) + "<|endoftext|>\n"
    text = stories * -(-text_bytes // len(stories))
    text = text[: text.index("<|endoftext|>\n", text_bytes)] if text_bytes < len(text) else text
    path.write_text(text, encoding="utf-8", newline="\n")
    return text


def _ours(path: Path) -> Work:
    numbers = itertools.count()

    def work() -> int:
        out = path.with_name(f"prepared-{next(numbers)}")
        prepared = tokens.prepare(corpus.open_corpus([str(path)]), out)
        return sum(split.chars for split in (prepared.train, prepared.valid) if split)

    return work


def _plain(path: Path) -> Work:
    def work() -> int:
        text = path.read_text(encoding="utf-8")
        ids = {character: k for k, character in enumerate(sorted(set(text)))}
        written = np.array([ids[character] for character in text], dtype=np.uint8)
        written.tofile(path.with_name("plain.tokens"))
        return len(written)

    return work
