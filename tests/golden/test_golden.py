"""All implementations against one golden file: the reference, the engine, torch's side, the exported C and JavaScript.

`support/golden.py` says what the file holds and writes it anew.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import golden
from support.instruction_sets import needs_kernel

from storycell.engine import EngineModel, EngineNetwork
from storycell.export.export import export
from storycell.generation.sampler import Draw, Sampling, streams
from storycell.language_model import LanguageModel
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM

GOLDEN = json.loads(golden.FILE.read_text(encoding="utf-8"))
IDS, TARGETS = np.array(GOLDEN["ids"]), np.array(GOLDEN["targets"])
NETWORKS = {"-".join(map(str, network["sizes"].values())): network for network in GOLDEN["networks"]}
DIGITS = 1e-9  # the file's ten
EXACT = 2e-5  # float32's rounding, of the norm
COMPILER, NODE = shutil.which("cc"), shutil.which("node")
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def sizes_of(network: dict[str, Any]) -> golden.Sizes:
    return golden.Sizes(**network["sizes"])


def engine_of(network: dict[str, Any]) -> EngineNetwork:
    sizes = sizes_of(network)
    return EngineNetwork(golden.weights(sizes), sizes.cell, threads=2)


def assert_close(found: Any, expected: Any, tolerance: float = EXACT) -> None:
    found, expected = np.asarray(found), np.array(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(1.0, float(np.linalg.norm(expected)))


def assert_loss_and_gradients(lm: CharLM, network: dict[str, Any]) -> None:
    loss, _ = lm(torch.from_numpy(IDS), targets=torch.from_numpy(TARGETS))
    loss.backward()
    assert_close(loss.item(), network["mean_nats"])
    gradients = {name: p.grad.numpy() for name, p in lm.named_parameters()}
    assert gradients.keys() == network["gradients"].keys()
    for name, gradient in gradients.items():
        assert_close(gradient, network["gradients"][name])


def assert_writes_the_texts(model: LanguageModel, network: dict[str, Any]) -> None:
    for text in network["texts"]:
        drawn = streams(model, golden.prompt_ids()[1:], Sampling(**text["sampling"]), [text["seed"]], GOLDEN["chars"])
        written = golden.VOCAB.decode([id for (id,) in drawn if id is not None])
        assert written == text["text"], text["sampling"]


def exported_texts(network: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that a file can write: at plain temperatures."""
    found = [text for text in network["texts"] if [*text["sampling"]] == ["temperature"]]
    assert len(found) == 3
    return found


def test_the_file_has_every_cell_with_all_that_is_compared() -> None:
    assert [(*network["sizes"].values(),) for network in GOLDEN["networks"]] == golden.KINDS
    assert GOLDEN["characters"] == golden.VOCAB.characters
    assert set(IDS.flat) == set(range(len(golden.VOCAB)))
    for network in GOLDEN["networks"]:
        assert [text["sampling"] for text in network["texts"]] == golden.SAMPLINGS
        assert len({text["text"] for text in network["texts"]}) == len(golden.SAMPLINGS)
        assert all(len(text["text"]) > 20 for text in network["texts"])


@every_network
def test_the_reference_in_float64_computes_the_file(network: dict[str, Any]) -> None:
    again = golden.computed(sizes_of(network))
    assert {*again, "sizes", "texts"} == {*network}
    for name, value in again.items():
        if isinstance(value, dict):
            assert value.keys() == network[name].keys()
            for inner, array in value.items():
                assert_close(array, network[name][inner], DIGITS)
        else:
            assert_close(value, network[name], DIGITS)


@needs_kernel
@every_network
def test_the_engine_reads_as_the_file_says(network: dict[str, Any]) -> None:
    engine = engine_of(network)
    logits, state = engine.logits(IDS)
    assert_close(logits[:, -1], network["logits"])
    assert_close(engine.nats(IDS, TARGETS)[0], network["nats"])
    assert state.keys() == network["state"].keys()
    for name, value in state.items():
        assert_close(value, network["state"][name])


@needs_kernel
@every_network
def test_the_engine_learns_as_the_file_says(network: dict[str, Any]) -> None:
    sizes = sizes_of(network)
    model = EngineModel(
        len(golden.VOCAB), sizes.hidden, sizes.layers, sizes.cell,
        embedding_size=sizes.embedding, gate_bias=sizes.gate_bias,
    )  # fmt: skip
    model.write(golden.weights(sizes))
    nats, norm = model.gradient(IDS, TARGETS)
    assert_close(nats, network["mean_nats"])
    assert_close(norm, np.sqrt(sum((np.array(g) ** 2).sum() for g in network["gradients"].values())))
    gradients = model.read("gradient")
    assert gradients.keys() == network["gradients"].keys()
    for name, gradient in gradients.items():
        assert_close(gradient, network["gradients"][name])


@needs_kernel
@every_network
def test_the_engine_writes_the_texts(network: dict[str, Any]) -> None:
    engine, fed = engine_of(network), golden.prompt_ids()
    assert_close(engine.logits([fed])[0][0, -1], network["logits_after_prompt"])
    assert_writes_the_texts(engine, network)


@pytest.mark.parametrize("backend", ["reference", "torch", pytest.param("native", marks=needs_kernel)])
@every_network
def test_every_backend_of_torch_learns_and_writes_as_the_file_says(network: dict[str, Any], backend: str) -> None:
    lm = golden.reference(sizes_of(network), backend)
    assert_loss_and_gradients(lm, network)
    assert_writes_the_texts(TorchModel(lm), network)


def test_python_s_seeds_are_the_file_s() -> None:
    assert {seed: Draw(int(seed)).words for seed in GOLDEN["words_of_seeds"]} == GOLDEN["words_of_seeds"]


@pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
@every_network
def test_the_exported_c_writes_the_texts(network: dict[str, Any], tmp_path: Path) -> None:
    source, program = tmp_path / "story.c", tmp_path / "story"
    export(TorchModel(golden.reference(sizes_of(network))), golden.VOCAB, source, "fp32")
    subprocess.run([str(COMPILER), "-std=c99", "-O1", source, "-lm", "-o", program], check=True)

    def said(*words: object) -> str:
        done = subprocess.run([program, *map(str, words)], capture_output=True, check=True, timeout=60)
        return done.stdout.decode()

    assert_close([float(logit) for logit in said("-l", GOLDEN["prompt"]).split()], network["logits_after_prompt"])
    for text in exported_texts(network):
        words = ("-t", text["sampling"]["temperature"], "-s", text["seed"], "-n", GOLDEN["chars"], GOLDEN["prompt"])
        assert said(*words) == GOLDEN["prompt"] + text["text"] + "\n", text["sampling"]


_PAGE = """
const storycell = require(process.argv[1]);
const { model, weights, prompt, chars, texts, seeds } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const net = storycell.network({ ...model, text: weights }), vocabulary = new storycell.Vocabulary(model);
let before = null, after = net.newTrace();
for (const id of [storycell.BOUNDARY, ...vocabulary.encode(prompt).ids]) {
  after = net.newTrace();
  net.step(id, before, after);
  before = after;
}
const logits = new Float64Array(net.V);
net.logits(after, logits);
const write = (text) => storycell.generate(net, vocabulary, prompt, { ...text.sampling, seed: text.seed, chars });
console.log(JSON.stringify({
  logits: [...logits],
  texts: texts.map(write),
  words: Object.fromEntries(seeds.map((seed) => [seed, [...new storycell.Draw(seed).s]])),
}));
"""


@pytest.mark.skipif(NODE is None, reason="no node here")
@every_network
def test_the_exported_page_writes_the_texts(network: dict[str, Any], tmp_path: Path) -> None:
    """Its own script, model and weights, under node."""
    export(TorchModel(golden.reference(sizes_of(network))), golden.VOCAB, tmp_path / "story.html", "fp32")
    page = (tmp_path / "story.html").read_text(encoding="utf-8")
    model, weights = (
        re.findall(f'<script [^>]*id="{name}">(.*?)</script>', page, re.DOTALL)[0] for name in ("model", "weights")
    )
    (runtime,) = (code for code in re.findall("<script>(.*?)</script>", page, re.DOTALL) if "module.exports" in code)
    (tmp_path / "runtime.js").write_text(runtime, encoding="utf-8")
    texts = [text | {"seed": str(text["seed"])} for text in exported_texts(network)]
    asked = {"model": json.loads(model), "weights": weights, "prompt": GOLDEN["prompt"], "chars": GOLDEN["chars"]}
    asked |= {"texts": texts, "seeds": [*GOLDEN["words_of_seeds"]]}
    done = subprocess.run(
        [str(NODE), "-e", _PAGE, str(tmp_path / "runtime.js")],
        input=json.dumps(asked).encode(), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert_close(answer["logits"], network["logits_after_prompt"])
    assert answer["texts"] == [GOLDEN["prompt"] + text["text"] for text in texts]
    assert answer["words"] == GOLDEN["words_of_seeds"]
