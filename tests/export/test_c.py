"""The C file itself: compiled without a warning, run under sanitizers, and writing what the run writes."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.random_models import CHARACTERS, FORMS, PROMPT, PROMPTS, ROUNDED, logits_after, model, text

import storycell
from storycell.data.vocab import BYTES, Vocabulary
from storycell.export.encoding import PRINTABLE, Weights, round_network
from storycell.export.export import export
from storycell.export.network import Network

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
EXACT = 1e-4  # as in test_export.py


def compiled(source: Path, *flags: str) -> Path:
    program = source.with_suffix("")
    words = [str(COMPILER), *STRICT, *(flags or ("-O2",)), str(source), "-lm", "-o", str(program)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return program


def ran(program: Path, *words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program, *map(str, words)], capture_output=True, check=False, timeout=60)


def said(program: Path, *words: object) -> str:
    done = ran(program, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return done.stdout.decode()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, compiled as people do."""
    source = tmp_path_factory.mktemp("demo") / "story.c"
    storycell.load().export(source)
    return compiled(source)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, compiled with sanitizers."""
    source = tmp_path_factory.mktemp("small") / "story.c"
    export(model("lstm-L1-H5-D2-bias"), CHARACTERS, source)
    return compiled(source, *SANITIZED)


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows some letters with accents, compiled with sanitizers."""
    source = tmp_path_factory.mktemp("forms") / "story.c"
    export(model("lstm-L1-H5-D2-bias", FORMS), FORMS, source)
    return compiled(source, *SANITIZED)


@pytest.mark.parametrize("prompt", ["One day", "Sara", "Once upon a"])
def test_greedy_text_is_the_runs_for_1000_characters(demo: Path, prompt: str) -> None:
    assert said(demo, "-t", 0, "-n", 1000, prompt) == storycell.load().generate(prompt, 1000, greedy=True) + "\n"


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5, 2**64 - 1])
def test_one_seed_tells_the_story_of_storycell_sample(demo: Path, seed: int) -> None:
    expected = storycell.load().generate("Once upon a", 500, temperature=0.8, seed=seed) + "\n"
    assert said(demo, "-n", 500, "-t", 0.8, "-s", seed, "Once upon a") == expected
    assert len(expected) > 100


@pytest.mark.parametrize(("kind", "weights"), ROUNDED.items())
def test_every_cell_computes_what_the_run_computes(kind: str, weights: Weights, tmp_path: Path) -> None:
    """Compiled with sanitizers."""
    made = model(kind)
    export(made, CHARACTERS, tmp_path / "story.c", weights)
    program = compiled(tmp_path / "story.c", *SANITIZED)
    run = round_network(Network.of(made), weights, PRINTABLE).as_model()
    logits = np.array(said(program, "-l", PROMPT).split(), dtype=float)
    assert logits == pytest.approx(logits_after(run, PROMPT), abs=EXACT)
    assert said(program, "-n", 60, "-s", 4, PROMPT) == text(run, PROMPT, 60, 0.8, 4) + "\n"


def test_bytes_are_written_as_they_come(tmp_path: Path) -> None:
    made = model("gru-L1-H5-D2-bias", BYTES)
    export(made, BYTES, tmp_path / "story.c")
    program = compiled(tmp_path / "story.c", *SANITIZED)
    done = ran(program, "-n", 40, "-s", 1, "é\n<|endoftext|>\nb")
    assert done.stdout.decode("utf-8", "replace") == text(made, "é\n<|endoftext|>\nb", 40, 0.8, 1, BYTES) + "\n"


def test_a_line_endoftext_is_the_boundary_between_stories(small: Path) -> None:
    made = model("lstm-L1-H5-D2-bias")
    for prompt in (
        "<|endoftext|>\nab",
        "ab\n<|endoftext|>\nab",
        "ab\n<|endoftext|>",
        "<|endoftext|>\n<|endoftext|>\n",
        "",
    ):
        assert said(small, "-n", 0, prompt) == CHARACTERS.prompt_ids(prompt)[1] + "\n"
        logits = np.array(said(small, "-l", prompt).split(), dtype=float)
        assert logits == pytest.approx(logits_after(made, prompt), abs=EXACT)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_is_read_as_storycell_sample_reads_it(forms: Path, prompt: str) -> None:
    assert said(forms, "-n", 0, prompt) == FORMS.prompt_ids(prompt)[1] + "\n"
    logits = np.array(said(forms, "-l", prompt).split(), dtype=float)
    assert logits == pytest.approx(logits_after(model("lstm-L1-H5-D2-bias", FORMS), prompt, FORMS), abs=EXACT)


@pytest.mark.parametrize("prompt", ["", "Once upon a", 'a "b" \\ @MODEL@ ??/ é1'])
def test_a_program_without_a_prompt_begins_with_that_of_its_model(prompt: str, tmp_path: Path) -> None:
    vocab = Vocabulary("".join(sorted(set(f"Once upon a{prompt}"))))
    export(model("rnn-L1-H5-D2-bias", vocab), vocab, tmp_path / "story.c", prompt=prompt)
    assert said(compiled(tmp_path / "story.c"), "-n", 0) == prompt + "\n"


def test_what_is_wrong_is_said_before_anything_is_written(small: Path) -> None:
    for words, code, message in (
        (("a é ü",), 1, "the model does not know 'ü' (U+00FC) at position 4; write the prompt without it"),
        (("ab <|endoftext|>",), 1, "does not know '|' (U+007C) at position 4"),
        (("\ufeffé\r\na\r\nü",), 1, "does not know 'ü' (U+00FC) at position 7"),
        (("ab", "a"), 2, "one prompt, in quotes, and not also a"),
        (("-x",), 2, "there is no flag -x"),
        (("-n",), 2, "a number must follow -n"),
        (("-n", "many"), 2, "-n takes a number of characters, not many"),
        (("-n", "-1"), 2, "not -1"),
        (("-t", "-0.1"), 2, "-t takes a number of at least 0, not -0.1"),
        (("-t", "nan"), 2, "not nan"),
        (("-t", ""), 2, "-t takes"),
        (("-s", 2**64), 2, f"-s takes a whole number from 0 to {2**64 - 1}, not {2**64}"),
        (("-s", "x"), 2, "-s takes"),
    ):
        done = ran(small, *words)
        assert (done.returncode, done.stdout) == (code, b""), words
        assert message in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1
    broken = subprocess.run([small, b"a \xff"], capture_output=True, check=False)
    assert (broken.returncode, broken.stderr) == (1, b"story: the prompt is not UTF-8 text\n")


def test_odd_numbers_are_taken_as_they_are_meant(small: Path) -> None:
    assert said(small, "-n", 5, "-s", "007", "a") == said(small, "-n", 5, "-s", 7, "a")
    assert said(small, "-n", 0, "--", "a") == "a\n"
    assert len(said(small, "-n", 40, "-t", "1e-300", "a")) > 1
    assert said(small, "-n", 20, "-t", "1e-9", "-s", 1, "a") == said(small, "-n", 20, "-t", 0, "a")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_an_error(small: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([small, "-n", "5", "a"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"story: the output cannot be written\n")


def test_a_large_vocabulary_and_a_name_with_signs_compile(tmp_path: Path) -> None:
    vocab = Vocabulary("".join(map(chr, range(0x4E00, 0x4E00 + 3000))))
    export(model("rnn-L1-H5-D2-bias", vocab), vocab, tmp_path / "story.c", name='/* ??/ */ #error \\\n"')
    program = compiled(tmp_path / "story.c")
    assert said(program, "-n", 0, chr(0x4E00 + 2999)) == chr(0x4E00 + 2999) + "\n"
