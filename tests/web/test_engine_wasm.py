"""The engine as WebAssembly under node: what is shipped is what the sources build, and it computes what Python's does."""

import importlib.util
import json
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storycell.engine import EngineModel
from storycell.language_model import Choice

NODE = shutil.which("node")
TOOLS = Path(__file__).parents[2] / "tools"
WEB = Path(str(resources.files("storycell.web")))
MODULES = ("engine.wasm", "engine-relaxed.wasm")
needs_node = pytest.mark.skipif(NODE is None, reason="no node here")
RELAXED = "--experimental-wasm-relaxed-simd"  # which node 20 hides behind a flag, and later ones take and need not
BEGIN = """
import { Engine, drawWeights, CELLS } from "WEB/engine.js";
import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(0, "utf8"));
const engine = await Engine.load({ [given.kind]: readFileSync(`WEB/${given.file}`) });
const say = (value) => console.log(JSON.stringify(value, (key, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v)));
"""


def in_node(file: str, program: str, **given: Any) -> Any:
    """What a program that has an `engine` says."""
    begin = BEGIN.replace("WEB/engine.js", (WEB / "engine.js").as_uri()).replace("WEB", WEB.as_posix())
    kind = "relaxed" if "relaxed" in file else "simd"
    words = [str(NODE), *([RELAXED] if kind == "relaxed" else []), "--no-warnings", "--input-type=module", "-e"]
    asked = json.dumps({"file": file, "kind": kind, **given}).encode()
    done = subprocess.run([*words, begin + program], input=asked, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
def test_what_is_shipped_is_what_the_sources_build(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(TOOLS / "wasm.py"), str(tmp_path)], check=True)
    for name in MODULES:
        same = (tmp_path / name).read_bytes() == (WEB / name).read_bytes()
        assert same, f"{name} is not what native/ builds: `make wasm` builds it again"


@needs_node
@pytest.mark.parametrize("file", MODULES)
def test_a_module_is_small_and_asks_nothing_of_a_system(file: str) -> None:
    program = """
const module = new WebAssembly.Module(readFileSync(`WEB/${given.file}`));
say({ isa: engine.isa, imports: WebAssembly.Module.imports(module).map((one) => one.name) });"""
    said = in_node(file, program.replace("WEB", WEB.as_posix()))
    assert said == {"isa": "relaxed" if "relaxed" in file else "simd128", "imports": ["fd_close"]}
    assert (WEB / file).stat().st_size < 300_000


def chunk(V: int, B: int, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and targets of a text that can be learnt."""
    text = np.random.default_rng(1).integers(2, V, 40)[np.arange(B)[:, None] + np.arange(T + 1)[None] % 37]
    return text[:, :-1], text[:, 1:]


TRAIN = """
const model = engine.createModel({ ...given.config, gateBias: true });
model.write(drawWeights(model, 1));
const { B, T } = given, first = model.read(), losses = [];
for (let step = 0; step < given.steps; step++) {
  losses.push(model.gradient(given.ids, given.targets, B, T, { carries: true, resets: step % 3 ? null : [1, ...Array(B - 1).fill(0)], seed: BigInt(step) }));
  model.apply({ rate: 4e-3, clip: 1, decay: 0.05, optimizer: given.optimizer });
}
"""


@needs_node
@pytest.mark.parametrize("file", MODULES)
@pytest.mark.parametrize(("cell", "layers", "D"), [("lstm", 1, 8), ("lstm", 2, 0), ("gru", 2, 8), ("rnn", 1, 8)])
def test_a_model_learns_as_pythons_does(file: str, cell: str, layers: int, D: int) -> None:
    V, H, B, T, steps = 23, 20, 3, 12, 30
    ids, targets = chunk(V, B, T)
    config = {"cell": cell, "layers": layers, "units": H, "characters": V, "embedding": D}
    given = {"config": config, "B": B, "T": T, "steps": steps, "optimizer": "muon" if layers > 1 else "adamw"}
    said = in_node(
        file,
        TRAIN + "say({ losses, first, last: model.read() });",
        ids=ids.ravel().tolist(),
        targets=targets.ravel().tolist(),
        **given,
    )
    model = EngineModel(V, H, layers, cell, embedding_size=D)
    model.initialise(1)
    assert model.read().keys() == said["first"].keys()
    for name, weight in model.read().items():
        assert said["first"][name] == pytest.approx(weight.ravel(), abs=2e-6 if cell != "rnn" else 2e-4), name
    for step, found in enumerate(said["losses"]):
        resets = None if step % 3 else np.arange(B) == 0
        nats, norm = model.gradient(ids, targets, carries=True, resets=resets, seed=step)
        model.apply(4e-3, clip=1.0, decay=0.05, optimizer=str(given["optimizer"]))
        assert (found["nats"], found["norm"]) == pytest.approx((nats, norm), rel=5e-3, abs=1e-3)
    assert said["losses"][-1]["nats"] < 0.9 * said["losses"][0]["nats"]


@needs_node
def test_the_loss_after_300_steps_is_pythons() -> None:
    V, H, B, T = 40, 32, 4, 16
    ids, targets = chunk(V, B, T)
    config = {"cell": "lstm", "layers": 1, "units": H, "characters": V, "embedding": 16}
    given = {"config": config, "B": B, "T": T, "steps": 300, "optimizer": "adamw"}
    program = TRAIN + "say(losses.at(-1).nats);"
    found = in_node(MODULES[0], program, ids=ids.ravel().tolist(), targets=targets.ravel().tolist(), **given)
    model = EngineModel(V, H, 1, "lstm", embedding_size=16)
    model.initialise(1)
    for step in range(300):
        nats, _ = model.gradient(ids, targets, carries=True, resets=None if step % 3 else np.arange(B) == 0)
        model.apply(4e-3, clip=1.0, decay=0.05)
    assert found == pytest.approx(nats, abs=1e-3)


@needs_node
@pytest.mark.parametrize("file", MODULES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_network_generates_and_scores_as_pythons_does(file: str, precision: str) -> None:
    V, H = 23, 48
    model = EngineModel(V, H, 2, "lstm", embedding_size=8)
    model.initialise(5)
    network = model.network(generates_in=precision)
    weights = {name: weight.ravel().tolist() for name, weight in model.read().items()}
    program = """
const weights = Object.fromEntries(Object.entries(given.weights).map(([name, values]) => [name, Float32Array.from(values)]));
const network = engine.createNetwork(given.shape, weights, given.precision);
const greedy = network.write(0, 300, null, { greedy: 1 }, new Uint32Array([1, 2, 3, 4]));
const drawn = network.write(0, 300, null, { temperature: 0.9 }, new Uint32Array([1, 2, 3, 4]));
let one = network.step(0), slow = [];
for (let k = 0; k < 300; k++) {
  let best = 0;
  for (let v = 2; v < given.shape.characters; v++) if (one.logits[v] > one.logits[best]) best = v;
  slow.push(best);
  one = network.step(best, one.state);
}
const read = given.precision === "fp32" ? network.read(greedy.ids.slice(0, -1), greedy.ids.slice(1), { wantsStates: true }) : null;
say({ greedy: greedy.ids, drawn: drawn.ids, slow, nats: read?.nats, hiddens: read?.hiddens, h: greedy.state.h });"""
    shape = {"cell": "lstm", "layers": 2, "units": H, "characters": V, "embedding": 8}
    said = in_node(file, program, weights=weights, shape=shape, precision=precision)
    choices = [Choice(temperature, 1.0, 0.0, 0, greedy) for temperature, greedy in ((1.0, 1), (0.9, 0))]
    zero, random = network.zero_state(1), np.array([[1, 2, 3, 4]])
    greedy, drawn = (network.write(np.array([0]), zero, random, [choice], 300) for choice in choices)
    assert said["greedy"] == said["slow"] == greedy.ids[0].tolist()
    assert said["drawn"] == drawn.ids[0].tolist()
    if precision == "fp32":
        assert said["h"] == pytest.approx(greedy.state["h"].ravel(), abs=1e-5)
        text = np.array([said["greedy"]])
        nats, _ = network.nats(text[:, :-1], text[:, 1:])
        assert said["nats"] == pytest.approx(nats[0], abs=1e-4)
        assert said["hiddens"] == pytest.approx(network.states(text[:, :-1])["h"].ravel(), abs=1e-4)


@needs_node
def test_a_snapshot_goes_on_to_the_bit() -> None:
    V, H, B, T = 23, 20, 3, 12
    ids, targets = chunk(V, B, T)
    program = (
        TRAIN
        + """
const saved = model.snapshot(), other = engine.createModel({ ...given.config, gateBias: true });
other.restore(saved);
for (const one of [model, other]) {
  one.gradient(given.ids, given.targets, B, T, { carries: true });
  one.apply({ rate: 4e-3, clip: 1, decay: 0.05, optimizer: given.optimizer });
}
say({ names: Object.keys(saved), same: JSON.stringify(model.read()) === JSON.stringify(other.read()),
  moved: JSON.stringify(model.read()) !== JSON.stringify(first) });"""
    )
    config = {"cell": "lstm", "layers": 2, "units": H, "characters": V, "embedding": 8}
    given = {"config": config, "B": B, "T": T, "steps": 5, "optimizer": "muon"}
    said = in_node(MODULES[0], program, ids=ids.ravel().tolist(), targets=targets.ravel().tolist(), **given)
    model = EngineModel(V, H, 2, "lstm", embedding_size=8)
    model.initialise(1)
    model.gradient(ids, targets, carries=True)
    model.apply(1e-3, optimizer="muon")
    assert (said["same"], said["moved"]) == (True, True)
    assert set(said["names"]) == set(model.snapshot())
