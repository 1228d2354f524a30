"""What the exported page reads and begins with, without a browser: its runtime under node, and the page as a file."""

import html
import json
import math
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from support.random_models import CHARACTERS, FORMS, KINDS, PROMPT, PROMPTS, logits_after, model

from storycell.data.vocab import BYTES, SEPARATOR, Vocabulary
from storycell.errors import UnknownCharacterError
from storycell.export.export import export
from storycell.export.html import Features, Steering
from storycell.language_model import LanguageModel
from storycell.web import theme

NODE = shutil.which("node")
_PROGRAM = """
const storycell = require(process.argv[1]);
const {kind, characters, prompts} = JSON.parse(require("fs").readFileSync(0, "utf8"));
const vocabulary = new storycell.Vocabulary({kind, characters});
console.log(JSON.stringify(prompts.map((prompt) => vocabulary.encode(prompt))));
"""


_NETWORK = """
const storycell = require(process.argv[1]), page = require("fs").readFileSync(process.argv[2], "utf8");
const [model, text] = ["model", "weights"].map((id) => new RegExp(`id="${id}">([^]*?)</script>`).exec(page)[1]);
const facts = JSON.parse(model), given = JSON.parse(process.argv[3]), net = storycell.network({ ...facts, text });
"""
_SUMS = """
const traces = [];
for (const id of [0, 5, 7, 6]) {
  const after = net.newTrace();
  net.step(id, traces.at(-1) ?? null, after);
  traces.push(after);
}
const told = [];
for (let l = 0; l < net.L; l++)
  for (let unit = 0; unit < net.H; unit++) told.push(...net.sums(l, unit, 6, traces[2], traces[3]).sums);
console.log(JSON.stringify(told));
"""
_SHOWN = """
const { ids } = new storycell.Vocabulary(facts).encode(given.prompt), { steer } = facts;
const logitsAfter = () => {
  const out = new Float64Array(net.V);
  let trace = null;
  for (const id of [0, ...ids]) {
    const after = net.newTrace();
    net.step(id, trace, after);
    trace = after;
  }
  net.logits(trace, out);
  return [...out];
};
console.log(JSON.stringify([null, ...steer.vectors, null].map((addition) => {
  net.show(steer.layer, addition);
  return logitsAfter();
})));
"""


def in_node(page: Path, program: str, **given: object) -> Any:
    """What a program says of the network in a page."""
    with resources.as_file(resources.files("storycell.export") / "runtime.js") as runtime:
        words = [str(NODE), "-e", _NETWORK + program, str(runtime), str(page), json.dumps(given)]
        return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)


def read_by_node(vocab: Vocabulary, prompts: list[str]) -> list[tuple[list[int], list[str]]]:
    """What the runtime makes of prompts: ids, and characters that it does not know."""
    asked = json.dumps({"kind": vocab.kind, "characters": vocab.characters, "prompts": prompts})
    with resources.as_file(resources.files("storycell.export") / "runtime.js") as runtime:
        done = subprocess.run(
            [str(NODE), "-e", _PROGRAM, str(runtime)], input=asked.encode(), capture_output=True, check=True
        )
    return [(read["ids"], read["strangers"]) for read in json.loads(done.stdout)]


def drawn_prompts() -> list[str]:
    """Prompts of what is read in more than one way, and of a character that nothing is like."""
    random, parts = Random(1), [*"".join(PROMPTS), *"ab\n日", f"\n{SEPARATOR}\r\n", SEPARATOR]
    return [*PROMPTS, *("".join(random.choices(parts, k=random.randrange(9))) for _ in range(600))]


@pytest.mark.skipif(NODE is None, reason="no node here")
@pytest.mark.parametrize("vocab", [FORMS, BYTES], ids=["characters", "bytes"])
def test_a_prompt_is_read_as_storycell_sample_reads_it(vocab: Vocabulary) -> None:
    prompts, known = drawn_prompts(), 0
    for prompt, (ids, strangers) in zip(prompts, read_by_node(vocab, prompts), strict=True):
        if strangers:
            with pytest.raises(UnknownCharacterError) as refused:
                vocab.prompt_ids(prompt)
            assert all(f"(U+{ord(c):04X})" in str(refused.value) for c in strangers[:8]), prompt
        else:
            assert ids == vocab.prompt_ids(prompt)[0], prompt
            known += 1
    assert known > 100


@pytest.mark.parametrize("path", ["export/page.js", "web/pieces.js", "export/runtime.js"])
def test_no_script_of_a_page_has_a_text_of_several_lines(path: str) -> None:
    """Its indentation would be lost with that of the script."""
    script = theme.script(path)
    assert len(script) > 5000
    assert [line for line in script.splitlines() if line.count("`") % 2 or line.endswith("\\")] == []


@pytest.mark.parametrize("prompt", ["", "Once upon a", 'ab <é> & “"', "</textarea>"])
def test_a_page_begins_with_the_prompt_of_its_model(prompt: str, tmp_path: Path) -> None:
    vocab = Vocabulary("".join(sorted(set(f"abc{prompt}"))))
    export(model("rnn-L1-H5-D2-bias", vocab), vocab, tmp_path / "story.html", prompt=prompt)
    page = (tmp_path / "story.html").read_text(encoding="utf-8")
    boxes = re.findall(r'<textarea id="prompt"[^>]*>([^<]*)</textarea>', page)
    assert [html.unescape(box) for box in boxes] == [prompt]


def test_a_prompt_that_the_model_does_not_know_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(UnknownCharacterError, match="does not know '日'"):
        export(model("rnn-L1-H5-D2-bias"), Vocabulary("ab"), tmp_path / "story.c", prompt="日")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(NODE is None, reason="no node here")
@pytest.mark.parametrize("kind", ["lstm-L2-H7-D0-no bias", *(kind for kind in KINDS if "gate norm" in kind)])
def test_what_a_gate_adds_up_is_what_opens_it(kind: str, tmp_path: Path) -> None:
    export(model(kind), CHARACTERS, tmp_path / "story.html", "fp32")
    gates = in_node(tmp_path / "story.html", _SUMS)
    assert len(gates) == 4 * KINDS[kind][1] * KINDS[kind][2]
    for gate in gates:
        total = gate["x"] + gate["h"] + gate["bias"]
        opened = math.tanh(total) if gate["name"] == "g" else 1 / (1 + math.exp(-total))
        assert gate["value"] == pytest.approx(opened, abs=1e-5)
    assert max(abs(gate["h"]) for gate in gates) > 0.1


def shown_otherwise(run: LanguageModel, layer: int, addition: np.ndarray) -> LanguageModel:
    """A model with normalised gates in which all who read h of a layer read `h + addition` `[H]`."""
    weights, above = run.weights(), layer + 1
    readers = [(f"recurrent.weight_hh_l{layer}", f"recurrent.bias_hh_l{layer}")]
    readers += (
        [(f"recurrent.weight_ih_l{above}", f"recurrent.bias_hh_l{above}")]
        if above < run.num_layers
        else [("output.weight", "output.bias")]
    )
    for weight, bias in readers:
        weights[bias] = weights[bias] + weights[weight] @ addition.astype(np.float32)
    return run.with_weights(weights)


@pytest.mark.skipif(NODE is None, reason="no node here")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "gate norm" in kind])
def test_a_page_with_normalised_gates_steers_by_the_bias_that_is_divided(kind: str, tmp_path: Path) -> None:
    run, page = model(kind), tmp_path / "story.html"
    for layer in range(run.num_layers):
        additions = np.random.default_rng(layer).normal(0, 1, (2, run.hidden_size))
        features = Features(steer=Steering("a direction", layer, additions.tolist()))
        export(run, CHARACTERS, page, "fp32", features=features)
        before, first, second, after = in_node(page, _SHOWN, prompt=PROMPT)
        for told, addition in ((first, additions[0]), (second, additions[1])):
            assert told == pytest.approx(logits_after(shown_otherwise(run, layer, addition), PROMPT), abs=1e-4)
            assert np.abs(np.array(told) - before).max() > 0.1
        assert before == after == pytest.approx(logits_after(run, PROMPT), abs=1e-4)
