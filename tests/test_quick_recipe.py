"""What `quick` promises on the embedded stories: near the floor, and a story of whole words and closed quotes."""

import re
from pathlib import Path

import pytest

import storycell
from storycell.corpus import stories

CHARS = 9_000_000  # what the native kernel reads in a minute on two cores
PROMISED_GAP = 0.15  # nats per character above the floor


@pytest.mark.soak
def test_quick_comes_near_the_floor_and_tells_a_whole_story(tmp_path: Path) -> None:
    run = storycell.train("stories", recipe="quick", chars=CHARS, out=tmp_path / "run", threads=1)
    assert run.summary["valid_nats"] - run.summary["floor_nats"] < PROMISED_GAP
    closed = whole = 0
    for seed in range(20):
        story = run.model.generate("Once upon a", 2000, seed=seed)
        closed += all(paragraph.count('"') % 2 == 0 for paragraph in story.split("\n"))
        found = {word.removesuffix("'s") for word in re.findall(r"[a-z]+(?:[-'][a-z]+)*", story.lower())}
        whole += found <= stories.words()
    assert closed >= 18
    assert whole >= 16
