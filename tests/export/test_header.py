"""The C header itself: no warning, no fault under sanitizers, the text of `--precision int8`, on a Cortex-M too."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.int8_reference import Int8Reference
from support.random_models import CHARACTERS, KINDS, PROMPT, context_of, model

import storycell
from storycell.data.vocab import BYTES
from storycell.errors import ExportError, SettingsError
from storycell.export import header
from storycell.export.export import export
from storycell.export.network import Network
from storycell.types import BOUNDARY, UNKNOWN

TAKEN = [kind for kind in KINDS if not context_of(kind)[0]]
COMPILER = shutil.which("cc")
QEMU = shutil.which("qemu-system-arm")
BOARD = Path(__file__).parents[1] / "support" / "cortex_m"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
EXACT = 1e-4  # float32's rounding
RARE = 0.03  # where its last digit decides how an output becomes a whole number
NANOSECONDS_PER_TICK = 40  # the board's clock runs at 25 MHz
MAIN = """
#include "story.h"
#include <stdio.h>
#include <stdlib.h>
static struct story teller;
int main(int count, char **words) {
    story_begin(&teller, 1);
    int unknown = story_read(&teller, words[1]);
    for (int left = atoi(words[2]); count == 3 && left > 0; --left) {
        int32_t character = story_next(&teller, 0);
        char text[5];
        if (character < 0) break;
        fwrite(text, 1, (size_t)story_utf8(character, text), stdout);
    }
    if (atoi(words[2]) == 0) {
        story_next(&teller, 0);
        printf("%d\\n", unknown);
        for (int k = 0; k < STORY_V; ++k) printf("%.9g\\n", (double)teller.logits[k]);
    }
    return 0;
}
"""
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


def compiled(folder: Path, *flags: str) -> Path:
    (folder / "main.c").write_text(MAIN)
    words = [str(COMPILER), *STRICT, *(flags or ("-O2",)), "main.c", "-lm", "-o", "story"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "story"


def said(program: Path, *words: object) -> bytes:
    done = subprocess.run([program, *map(str, words)], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def reference_logits(network: Network, ids: list[int]) -> np.ndarray:
    """Those of the numpy reference after some ids, `[V]`."""
    flat = header.stored(network)
    made, context = (network if flat.shape.M else network.one_hot()).as_model(), flat.shape.context
    reference = Int8Reference(made.weights(), network.shape.cell, gate_norm=network.shape.gate_norm)
    state = {name: made.zero_state(1)[name] for name in made.state_names}
    rows = context.rows_of([ids], np.zeros((1, context.memory)))[0]
    for k, met in zip(ids, rows, strict=True):
        added = flat.tensors["context"][met] if context else None
        logits, state = reference.step(np.array([k]), state, added)
    return logits[0]


@needs_compiler
@pytest.mark.parametrize("kind", TAKEN)
def test_every_cell_computes_what_the_int8_reference_computes(kind: str, tmp_path: Path) -> None:
    made = model(kind)
    done = export(made, CHARACTERS, tmp_path / "story.h")
    assert done.weights == "int8"
    program = compiled(tmp_path, *SANITIZED)
    unknown, *logits = said(program, PROMPT, 0).split()
    ids, _ = CHARACTERS.prompt_ids(PROMPT)
    errors = np.abs(np.array(logits, float) - reference_logits(Network.of(made), [BOUNDARY, *ids]))
    assert unknown == b"0"
    assert np.median(errors) < RARE
    assert errors.max() < 10 * RARE
    if KINDS[kind][1] == 1:
        assert errors.max() < EXACT
    assert UNKNOWN not in [CHARACTERS.prompt_ids(c)[0][0] for c in said(program, PROMPT, 40).decode()]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TAKEN])
def test_n_grams_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"ngrams = 4.*--ngrams 0"):
        export(model(kind), CHARACTERS, tmp_path / "story.h")
    assert not list(tmp_path.iterdir())


@needs_compiler
def test_greedy_text_of_the_demo_is_that_of_precision_int8(tmp_path: Path) -> None:
    """1,000 characters; or up to one where the two likeliest are as close as a rounding moves them."""
    demo = storycell.load()
    demo.export(tmp_path / "story.h")
    program, run = compiled(tmp_path), storycell.load(precision="int8")
    same = []
    for prompt in ("Once there was", "Anna", "At the park"):
        told = prompt + said(program, prompt, 1000).decode()
        expected = run.generate(prompt, 1000, greedy=True)
        same.append(told == expected)
        if told != expected:
            at = next(k for k, (a, b) in enumerate(zip(told, expected, strict=False)) if a != b)
            assert at > 200
            ids, _ = demo.vocab.prompt_ids(told[:at])
            second, first = np.sort(reference_logits(Network.of(demo.network), [BOUNDARY, *ids]))[-2:]
            assert first - second < 10 * RARE
    assert sum(same) >= 2


@needs_compiler
def test_bytes_and_unknown_characters(tmp_path: Path) -> None:
    (tmp_path / "bytes").mkdir()
    export(model("gru-L1-H5-D2-bias", BYTES), BYTES, tmp_path / "bytes" / "story.h")
    unknown, *logits = said(compiled(tmp_path / "bytes", *SANITIZED), "é", 0).split()
    assert (unknown, len(logits)) == (b"0", 258)
    ids, _ = BYTES.prompt_ids("é")
    network = Network.of(model("gru-L1-H5-D2-bias", BYTES))
    assert np.array(logits, float) == pytest.approx(reference_logits(network, [BOUNDARY, *ids]), abs=EXACT)
    export(model("gru-L1-H5-D2-bias"), CHARACTERS, tmp_path / "story.h")
    assert said(compiled(tmp_path, *SANITIZED), "aZ한\xffb", 0).split()[0] == b"3"


@pytest.mark.parametrize("kind", TAKEN)
def test_a_header_is_read_back_as_it_was_written(kind: str) -> None:
    network = Network.of(model(kind))
    back = header.read(header.write(network, CHARACTERS, "a model", "story.h"))
    expected = header.stored(network)
    assert back.shape == expected.shape
    shape, bias = expected.shape, expected.tensors["bias_l0"]
    is_added = not shape.context  # to the first table
    for name, array in expected.tensors.items():
        wanted = array
        if is_added and name in ("bias_l0", "weight_ih_l0"):
            wanted = np.zeros_like(bias) if name == "bias_l0" else array + bias[:, None]
        assert back.tensors[name] == pytest.approx(wanted, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("kind", TAKEN)
def test_the_size_that_a_header_states_is_that_of_its_arrays(kind: str) -> None:
    text = header.write(Network.of(model(kind)), CHARACTERS, "a model", "story.h")
    stated = re.search(r"Weights: ([\d,]+) bytes", text)
    arrays = re.findall(r"^static const (int8_t|float) \w+[^=]+= \{\n(.*?)\n\};$", text, re.MULTILINE | re.DOTALL)
    numbers = [(kind, len(re.findall(r"[^{},\s]+", body))) for kind, body in arrays]
    assert stated is not None
    assert int(stated[1].replace(",", "")) == sum(count * {"int8_t": 1, "float": 4}[kind] for kind, count in numbers)


def test_a_damaged_header_is_no_model_and_other_roundings_are_refused(tmp_path: Path) -> None:
    text = header.write(Network.of(model("lstm-L1-H5-D2-bias")), CHARACTERS, "*/ a \\ model", "$(x).h")
    assert "*/ a" not in text
    assert "$(x)" not in text
    with pytest.raises(ExportError, match="not what was written"):
        header.read(text.replace("story_output_bias", "story_other"))
    with pytest.raises(SettingsError, match="its weights are int8, not fp16"):
        export(model("lstm-L1-H5-D2-bias"), CHARACTERS, tmp_path / "story.h", "fp16")


@pytest.mark.skipif(QEMU is None, reason="needs qemu-system-arm")
@pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package: pip install ziglang")
def test_a_cortex_m4_with_64_kilobytes_tells_the_same_story(tmp_path: Path) -> None:
    """The linker refuses what does not fit; two layers of 352 do."""
    storycell.load().export(tmp_path / "story.h")
    program = tmp_path / "story.elf"
    target = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-std=c99", "-O2", "-Wl,-e,start"]
    defined = ['-DPROMPT="Once upon a"', "-DCHARS=60", f"-I{tmp_path}", f"-I{BOARD}"]
    words = [sys.executable, "-m", "ziglang", "cc", *target, *defined, BOARD / "main.c", "-T", BOARD / "link.ld"]
    done = subprocess.run([*words, "-o", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = [str(QEMU), "-M", "mps2-an386", "-nographic", "-icount", "shift=0", "-semihosting-config"]
    words += ["enable=on,target=native", "-kernel", str(program)]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    text, numbers = re.split(r"\n(?=\d+ \d+\n$)", told.stdout + told.stderr)
    assert "Once upon a" + text == storycell.load(precision="int8").generate("Once upon a", 60, greedy=True)
    ticks, state_bytes = map(int, numbers.split())
    assert state_bytes < 20_000
    assert 800_000 < ticks * NANOSECONDS_PER_TICK < 40_000_000  # instructions for a character of 1,608,992 products
