"""The C file of a model of word pieces: it cuts every prompt as Python does, and goes on as `sample` does."""

import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.piece_models import HOSTILE, PROMPTS, train_pieces
from support.random_models import model as random_model

import storycell
from storycell.data.corpus import text_corpus
from storycell.data.survey import survey
from storycell.data.vocab import Vocabulary
from storycell.export.export import export
from storycell.generation.generate import generate_text
from storycell.language_model import LanguageModel
from storycell.types import BOUNDARY

pytest.importorskip("tokenizers", reason="the extra storycell[pieces] is not installed")
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g", "-fsanitize=address,undefined"]
STORIES = Path(__file__).parents[1] / "data" / "stories-100.txt"
HARD = "lstm-L2-H7-D3-ngrams-matches"


def compiled(source: Path) -> Path:
    program = source.with_suffix("")
    words = [str(COMPILER), *FLAGS, "-fno-sanitize-recover=all", str(source), "-lm", "-o", str(program)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return program


def said(program: Path, *words: object) -> str:
    done = subprocess.run([program, *map(str, words)], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@dataclass(frozen=True)
class Hostile:
    """A model with random weights, whose vocabulary is of what is hard to cut."""

    lm: LanguageModel
    vocab: Vocabulary
    program: Path


@pytest.fixture(scope="module", params=[HARD, "gru-L2-H7-D0-no bias"])
def hostile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    text = STORIES.read_text(encoding="utf-8") + HOSTILE * 3
    vocab = survey(text_corpus(text), "pieces:500")[0]
    lm, source = random_model(request.param, vocab), tmp_path_factory.mktemp("hostile") / "story.c"
    export(lm, vocab, source)
    return Hostile(lm, vocab, compiled(source))


def test_every_prompt_is_cut_as_in_python(hostile: Hostile) -> None:
    lm, vocab, program, rng = hostile.lm, hostile.vocab, hostile.program, random.Random(2)
    plain = STORIES.read_text(encoding="utf-8")
    prompts = [HOSTILE, plain[:900], *(HOSTILE[at : at + 40] for at in range(0, len(HOSTILE), 37))]
    prompts += ["".join(rng.choices(" '\nsta.\u0301_1", k=40)) for _ in range(15)]
    prompts += ["".join(rng.choices(vocab.characters, k=30)) for _ in range(10)]
    for prompt in prompts:
        ids = vocab.prompt_ids(prompt)[0]
        expected = lm.logits(np.array([[BOUNDARY, *ids]]))[0][0, -1]
        found = np.array(said(program, "-l", "--", prompt).split(), np.float64)
        assert found == pytest.approx(expected, abs=1e-4), prompt


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_it_goes_on_as_sample_does(weights: str, tmp_path: Path) -> None:
    model = train_pieces(tmp_path)
    done = model.export(tmp_path / "story.c", weights)
    program = compiled(tmp_path / "story.c")
    assert (done.max_abs_logit_change == 0) == (weights == "fp32")
    for prompt in PROMPTS:
        for chars in (0, 1, 3, 60):
            for temperature, seed in ((0, 0), (1.1, 2**40 + 3)):
                made = said(program, "-n", chars, "-t", temperature, "-s", seed, prompt)
                expected = model.generate(prompt, chars, temperature=temperature, seed=seed)
                assert len(made) <= len(model.vocab.prompt_ids(prompt)[1]) + chars + 1
                if weights == "fp32":
                    assert made == expected + "\n"
                else:
                    assert made.startswith(expected[: len(prompt) + 1])


def test_a_long_word_has_its_end_drawn_too(hostile: Hostile) -> None:
    for prompt in ("a" * 90, " " * 90, "!" * 40 + "\n" * 9 + "9" * 40, "te\u0301", "x_y"):
        for seed in range(3):
            made = said(hostile.program, "-n", 20, "-t", 1, "-s", seed, "--", prompt)
            expected = generate_text(hostile.lm, hostile.vocab, prompt, 20, sampling=storycell.Sampling(1.0), seed=seed)
            assert made == expected + "\n"


def test_what_it_does_not_know_is_named(hostile: Hostile) -> None:
    done = subprocess.run([hostile.program, "Once Ж"], capture_output=True, check=False)
    assert done.returncode == 1
    assert "'Ж' (U+0416) at position 5" in done.stderr.decode()
    assert done.stdout == b""
