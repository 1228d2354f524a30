"""Every export meets the rows of `Context.rows_of`, to the last one: on real text, on few characters, on long repeats,
beyond boundaries and where a place is as far away as one may be."""

import json
import shutil
import subprocess
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from support.browser import needs_chromium, open_browser
from support.random_models import CHARACTERS

from storycell.config import ModelSettings
from storycell.context import MEMORY, Context
from storycell.data.stories import corpus
from storycell.export.export import export
from storycell.language_model import LanguageModel
from storycell.runs.network import new_model
from storycell.types import BOUNDARY

COMPILER, NODE = shutil.which("cc"), shutil.which("node")
V = len(CHARACTERS)
CONTEXTS = {f"{N}-{M}": (N, M) for N, M in ((4, 5), (0, 2), (0, 16), (16, 64), (3, 0))}  # longest n-gram and match
EXACT = 1e-4  # float32's rounding; another row changes a logit by a thousand times as much
DRIVER = """
#define main story_main
#include "story.c"
#undef main
int main(void) {
    load();
    for (int id; scanf("%d", &id) == 1;) {
        step(id);
#if MATCHES
        printf("%d ", ROWS + longest_match());
#endif
        for (int k = 0; k < V; ++k) printf("%.9g ", (double)logits[k]);
        puts("");
    }
    return 0;
}
"""
SMALL = """
#include <stdio.h>
#include "story.h"
static struct story teller;
int main(void) {
    story_begin(&teller, 1);
    for (int id; scanf("%d", &id) == 1;) {
        story_step(&teller, id);
        printf("%d ", story_longest_match(&teller));
    }
    return 0;
}
"""
PLAIN = """
const storycell = require(process.argv[1]), page = require("fs").readFileSync(process.argv[2], "utf8");
const { ids } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const [model, text] = ["model", "weights"].map((id) => new RegExp(`id="${id}">([^]*?)</script>`).exec(page)[1]);
const net = storycell.network({ ...JSON.parse(model), text }), out = new Float64Array(net.V);
let [before, after] = [net.newTrace(), net.newTrace()];
console.log(JSON.stringify(ids.map((id, k) => {
  [before, after] = [after, before];
  net.step(id, k ? before : null, after);
  net.logits(after, out);
  return [...out];
})));
"""
# Logits by the engine and by plain JavaScript; and again from a trace in the middle, after others have gone on from it.
PAGE = """([ids, middle]) => [net, plain].map((one) => {
  const told = [], again = [], traces = [], out = new Float64Array(one.V);
  const read = (id, before, to) => {
    const after = one.newTrace();
    one.step(id, before, after);
    one.logits(after, out);
    to.push([...out].map((logit) => logit.toFixed(6)).join(" "));
    return after;
  };
  for (const id of ids) traces.push(read(id, traces.at(-1) ?? null, told));
  let trace = traces[middle - 1];
  read(2, trace, []);
  read(0, trace, []);
  for (const id of ids.slice(middle, middle + 300)) trace = read(id, trace, again);
  return [told.join(" "), again.join(" ")];
})"""


@cache
def ids_of(matches: int) -> tuple[int, ...]:
    """Stories (one of them twice) and what is worse than stories, each after a boundary."""
    random = np.random.default_rng(matches)
    stories = [[2 + ord(c) % (V - 2) for c in story] for story in islice(corpus.generate(4), 3)]
    texts = [*stories, stories[2] + stories[2], [5] * (MEMORY + 40), (2 + np.arange(1200) % 7).tolist()]
    texts += [random.integers(2, 4, 1200).tolist(), random.integers(2, 5, 200).tolist(), [], [6], [7, 7]]
    for distance in (MEMORY - matches, MEMORY - matches + 1, MEMORY - matches + 2):
        text = random.integers(2, V, distance).tolist()
        texts.append(text + text[:20] + [9])
    return tuple(id for text in texts for id in [BOUNDARY, *text])


@cache
def reader(context: str) -> LanguageModel:
    """A model whose logits are what the rows of the latest character make of them, and nothing else."""
    ngrams, matches = CONTEXTS[context]
    sizes = ModelSettings(hidden=6, embedding=4, ngrams=ngrams, ngram_rows=53, matches=matches)
    drawn, random = new_model(V, sizes), np.random.default_rng(2)
    weights = {name: random.normal(0, 0.7, w.shape) for name, w in drawn.weights().items()}
    weights["recurrent.weight_hh_l0"][:] = 0
    weights["recurrent.bias_ih_l0"][6:12] = -30  # forgets
    return drawn.with_weights(weights)


@cache
def expected(context: str) -> tuple[Any, Any]:
    """The rows `[T K]` that the ids meet by `Context.rows_of`, and the logits `[T V]` of the model with these rows."""
    run, ids = reader(context), np.array([ids_of(CONTEXTS[context][1])])
    met: Context = run.context
    rows = met.rows_of(ids, np.zeros((1, met.memory)))[0]
    weights = run.weights()
    inputs = weights["embedding.weight"][ids[0]] + weights["context_table.weight"][rows].sum(1)
    values = run.layer_step(0, inputs.astype(np.float32), {name: np.zeros((len(inputs), 6)) for name in ("h", "c")})
    return rows, run.output(values["h"].astype(np.float32))


def written(context: str, path: Path) -> Path:
    export(reader(context), CHARACTERS, path, "fp32")
    return path


@pytest.mark.parametrize("context", [name for name, (_, matches) in CONTEXTS.items() if matches])
def test_the_texts_have_matches_of_every_length_and_each_tells_itself(context: str) -> None:
    rows, logits = expected(context)
    matches, of_ngrams = CONTEXTS[context][1], reader(context).context.ngram_rows if CONTEXTS[context][0] else 0
    lengths = (rows[:, -1] - of_ngrams) // V + 1
    assert set(lengths.tolist()) == {1, *range(2, matches + 1)}
    assert np.abs(reader(context).logits([ids_of(matches)])[0][0] - logits).max() < EXACT
    by_row = {tuple(row): line for row, line in zip(np.c_[rows, ids_of(matches)].tolist(), logits, strict=True)}
    known = np.array(list(by_row.values()))
    nearest = np.abs(known[:300, None] - known[None]).max(2)
    nearest[np.arange(len(nearest)), np.arange(len(nearest))] = 1
    assert np.quantile(nearest.min(1), 0.02) > EXACT


@pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
@pytest.mark.parametrize("flags", [["-O2"], ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]])
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_c_program_meets_the_rows(context: str, flags: list[str], tmp_path: Path) -> None:
    written(context, tmp_path / "story.c")
    (tmp_path / "driver.c").write_text(DRIVER)
    words = [str(COMPILER), "-std=c99", "-Wall", "-Wextra", "-Werror", *flags, "driver.c", "-lm", "-o", "driver"]
    subprocess.run(words, cwd=tmp_path, check=True)
    ids = " ".join(map(str, ids_of(CONTEXTS[context][1])))
    done = subprocess.run([tmp_path / "driver"], input=ids, capture_output=True, text=True, check=True)
    told, (rows, logits) = np.array([line.split() for line in done.stdout.splitlines()], float), expected(context)
    if CONTEXTS[context][1]:
        assert np.array_equal(told[:, 0], rows[:, -1])
    assert np.abs(told[:, -V:] - logits).max() < EXACT


@pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
@pytest.mark.parametrize("context", [name for name, (ngrams, _) in CONTEXTS.items() if not ngrams])
def test_the_header_for_small_machines_meets_the_rows(context: str, tmp_path: Path) -> None:
    export(reader(context), CHARACTERS, tmp_path / "story.h")
    (tmp_path / "small.c").write_text(SMALL)
    flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    words = [str(COMPILER), "-std=c99", "-Wall", "-Wextra", "-Werror", *flags, "small.c", "-lm", "-o", "small"]
    subprocess.run(words, cwd=tmp_path, check=True)
    ids = " ".join(map(str, ids_of(CONTEXTS[context][1])))
    done = subprocess.run([tmp_path / "small"], input=ids, capture_output=True, text=True, check=True)
    assert np.array_equal(np.array(done.stdout.split(), int), expected(context)[0][:, -1])


@pytest.mark.skipif(NODE is None, reason="no node here")
@pytest.mark.parametrize("context", CONTEXTS)
def test_plain_javascript_meets_the_rows(context: str, tmp_path: Path) -> None:
    page, ids = written(context, tmp_path / "story.html"), json.dumps({"ids": ids_of(CONTEXTS[context][1])})
    with resources.as_file(resources.files("storycell.export") / "runtime.js") as runtime:
        words = [str(NODE), "-e", PLAIN, str(runtime), str(page)]
        done = subprocess.run(words, input=ids, capture_output=True, text=True, check=True)
    assert np.abs(np.array(json.loads(done.stdout)) - expected(context)[1]).max() < EXACT


@needs_chromium
def test_the_page_meets_the_rows_from_any_place_and_by_the_engine_too(tmp_path: Path) -> None:
    with open_browser() as browser:
        for context in ("4-5", "0-16"):
            tab = browser.new_page()
            tab.goto(written(context, tmp_path / f"{context}.html").as_uri())
            tab.evaluate("() => engineIsThere")
            assert tab.evaluate("() => net !== plain")
            ids, (_, logits), middle = ids_of(CONTEXTS[context][1]), expected(context), 4200
            for texts in tab.evaluate(PAGE, [ids, middle]):
                told, again = (np.array(text.split(), float).reshape(-1, V) for text in texts)
                assert np.abs(told - logits).max() < EXACT
                assert np.abs(again - logits[middle : middle + 300]).max() < EXACT
            tab.close()


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("context", [name for name in CONTEXTS if name != "16-64"])  # a minute of comparisons
def test_the_graph_meets_the_rows_for_streams_side_by_side(context: str, tmp_path: Path) -> None:
    """One stream is half a text ahead of the other."""
    session = session_of(written(context, tmp_path / "story.onnx"))
    one, logits = np.array(ids_of(CONTEXTS[context][1])), expected(context)[1]
    starts = np.flatnonzero(one == BOUNDARY)
    ahead = int(starts[np.abs(starts - len(one) // 2).argmin()])  # at a boundary: what was before is not seen
    ids = np.stack([one, np.roll(one, -ahead)])
    memory = reader(context).context.memory
    state = {"h": np.zeros((1, 2, 6), np.float32), "c": np.zeros((1, 2, 6), np.float32)}
    state |= {"past": np.zeros((1, 2, memory), np.float32)}
    told = []
    for t in range(len(one)):
        row, *after = session.run(None, {"ids": ids[:, t], **state})
        state = dict(zip(state, after, strict=True))
        told.append(row)
    by_stream = np.array(told).swapaxes(0, 1)
    assert np.abs(by_stream[0] - logits).max() < EXACT
    assert np.abs(by_stream[1] - np.roll(logits, -ahead, axis=0)).max() < EXACT
