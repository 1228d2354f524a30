"""The model in the package: small, readable, and as good as its README says."""

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import storycell
from storycell import quantized

DEMO = Path(str(resources.files("storycell") / "demo"))
LARGEST_BYTES = 2_000_000
ROUNDING = 0.002  # nats: the README's four decimals, on another machine


def test_it_is_small_and_its_matrices_are_bytes_that_are_float16_numbers() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < LARGEST_BYTES
    stored = safetensors.numpy.load_file(DEMO / "model.safetensors")
    assert {array.dtype for array in stored.values() if array.ndim > 1} == {np.dtype(np.int8)}
    for name, weight in storycell.load().network.weights().items():
        if weight.ndim > 1:
            assert (weight.astype(np.float16) == weight).all(), name
            assert quantized.in_bytes({name: weight}, [name])[name].tobytes() == stored[name].tobytes()


def test_it_tells_a_story_with_closed_quotes_and_whole_words(real_data: object) -> None:
    """Eight in ten of its words, at a low temperature, are words of the text it was trained on."""
    known = set(re.findall(r"[a-z]+", real_data("tinystories/train.txt").read_text(encoding="utf-8").lower()))  # type: ignore[operator]
    text = storycell.load().generate("Once upon a time", chars=400, temperature=0.5, seed=1)
    words = re.findall(r"[a-z]+", text.lower())[:-1]
    assert len(words) > 30
    assert sum(word in known for word in words) / len(words) > 0.8


def test_its_loss_is_the_one_in_its_readme(real_data: object) -> None:
    said = re.search(r"(\d\.\d{4}) nats per character on the first 100 stories", (DEMO / "README.md").read_text())
    assert said
    stories = real_data("tinystories/valid.txt").read_text(encoding="utf-8").split("<|endoftext|>\n")[:100]  # type: ignore[operator]
    result = storycell.load("demo").evaluate("<|endoftext|>\n".join(stories))
    assert result.loss_nats == pytest.approx(float(said[1]), abs=ROUNDING)
