"""The engine as WebAssembly: what is shipped is what the sources build, and it computes what Python's does."""

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import playwright.sync_api as playwright
import pytest
from support.browser import CHROMIUM, FLAGS

from storycell.context import MEMORY, TABLE, Context
from storycell.engine import EngineModel
from storycell.language_model import Choice

NODE = shutil.which("node")
TOOLS = Path(__file__).parents[2] / "tools"
WEB = Path(str(resources.files("storycell.web")))
MODULES = ("engine.wasm", "engine-relaxed.wasm")
Run = Callable[..., Any]
ROWS = 61  # of n-grams
CONTEXTS = [(0, 0), (5, 0), (0, 16), (5, 4)]  # the longest n-gram and match
ROUNDING = 5e-3  # of weights that 30 steps have moved, each step as far as the last digits of its gradient say
BEGIN = """
const { Engine, drawWeights } = await import(given.source);
const module = Uint8Array.from(atob(given.module), (byte) => byte.charCodeAt(0));
const engine = await Engine.load({ [given.kind]: module });
const plain = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
const say = (value) => JSON.stringify(value, plain);
"""


@pytest.fixture(scope="module")
def chromium_page() -> Iterator[playwright.Page]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page()
        browser.close()


@pytest.fixture(params=MODULES)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a program that has an `engine`: under node, or with relaxed instructions in Chromium."""
    file = request.param
    source = base64.b64encode((WEB / "engine.js").read_bytes()).decode()
    module = base64.b64encode((WEB / file).read_bytes()).decode()
    shared = {"source": f"data:text/javascript;base64,{source}", "module": module}

    def in_node(program: str, **given: Any) -> Any:
        words = [str(NODE), "--no-warnings", "-e"]
        begin = 'const given = JSON.parse(require("fs").readFileSync(0, "utf8"));'
        asked = json.dumps({**given, **shared, "kind": "simd"}).encode()
        whole = f"{begin}(async () => {{ {BEGIN + program} }})().then(console.log);"
        done = subprocess.run([*words, whole], input=asked, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    if file == MODULES[0]:
        if NODE is None:
            pytest.skip("no node here")
        return in_node
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("no Chromium here")
    page = request.getfixturevalue("chromium_page")
    return lambda program, **given: json.loads(
        page.evaluate(f"async (given) => {{ {BEGIN + program} }}", {**given, **shared, "kind": "relaxed"})
    )


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
def test_what_is_shipped_is_what_the_sources_build(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(TOOLS / "wasm.py"), str(tmp_path)], check=True)
    for name in MODULES:
        same = (tmp_path / name).read_bytes() == (WEB / name).read_bytes()
        assert same, f"{name} is not what native/ builds: `make wasm` builds it again"


def test_a_module_is_small_and_asks_nothing_of_a_system(run: Run) -> None:
    program = """
const imports = WebAssembly.Module.imports(new WebAssembly.Module(module)).map((one) => one.name);
return say({ isa: engine.isa, imports, bytes: module.length, kind: given.kind });"""
    said = run(program)
    assert said["isa"] == {"simd": "simd128", "relaxed": "relaxed"}[said["kind"]]
    assert said["imports"] == ["fd_close"]
    assert said["bytes"] < 300_000


def chunk(V: int, B: int, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and targets of a text that can be learnt."""
    text = np.random.default_rng(1).integers(2, V, 40)[np.arange(B)[:, None] + np.arange(T + 1)[None] % 37]
    return text[:, :-1], text[:, 1:]


TRAIN = """
const model = engine.createModel({ ...given.config, gateBias: true });
model.write(drawWeights(model, 1));
const { B, T } = given, first = model.read(), losses = [];
for (let step = 0; step < given.steps; step++) {
  const resets = step % 3 ? null : [1, ...Array(B - 1).fill(0)];
  losses.push(model.gradient(given.ids, given.targets, B, T, { carries: true, resets, seed: BigInt(step) }));
  model.apply({ rate: 4e-3, clip: 1, decay: 0.05, optimizer: given.optimizer });
}
"""


@pytest.mark.parametrize(
    ("cell", "layers", "D", "ngrams", "matches", "gate_norm"),
    [
        *[
            ("lstm", 1, 8, 0, 0, False),
            ("lstm", 2, 0, 0, 0, False),
            ("gru", 2, 8, 0, 0, False),
            ("rnn", 1, 8, 0, 0, False),
        ],
        *[
            ("lstm", 1, 8, 8, 0, False),
            ("gru", 2, 8, 4, 0, False),
            ("lstm", 1, 8, 0, 16, False),
            ("gru", 2, 8, 4, 5, False),
        ],
        *[("lstm", 2, 0, 0, 0, True), ("lstm", 2, 8, 4, 16, True)],
    ],
)
def test_a_model_learns_as_pythons_does(
    run: Run, cell: str, layers: int, D: int, ngrams: int, matches: int, gate_norm: bool
) -> None:
    V, H, B, T, steps = 23, 20, 3, 12, 30
    ids, targets = chunk(V, B, T)
    config = {"cell": cell, "layers": layers, "units": H, "characters": V, "embedding": D}
    config |= {"ngrams": ngrams, "ngramRows": ROWS, "matches": matches, "gateNorm": gate_norm}
    given = {"config": config, "B": B, "T": T, "steps": steps, "optimizer": "normuon" if layers > 1 else "adamw"}
    said = run(
        TRAIN + "return say({ losses, first, last: model.read() });",
        ids=ids.ravel().tolist(),
        targets=targets.ravel().tolist(),
        **given,
    )
    context = {"ngrams": ngrams, "ngram_rows": ROWS, "matches": matches}
    model = EngineModel(V, H, layers, cell, embedding_size=D, gate_norm=gate_norm, **context)
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
    for name, weight in model.read().items():
        assert said["last"][name] == pytest.approx(weight.ravel(), abs=ROUNDING), name
    if model.context:
        table = np.abs(said["last"][TABLE]).reshape(model.context.rows, D).max(1)
        of_ngrams, of_matches = table[: model.context.ngram_rows], table[model.context.ngram_rows :]
        assert not ngrams or of_ngrams.max() > 0.1
        assert not matches or of_matches[V * (matches - 1) :].max() > 0.1  # of the longest matches, too


def test_the_loss_after_300_steps_is_pythons(run: Run) -> None:
    V, H, B, T = 40, 32, 4, 16
    ids, targets = chunk(V, B, T)
    config = {"cell": "lstm", "layers": 1, "units": H, "characters": V, "embedding": 16}
    given = {"config": config, "B": B, "T": T, "steps": 300, "optimizer": "adamw"}
    program = TRAIN + "return say(losses.at(-1).nats);"
    found = run(program, ids=ids.ravel().tolist(), targets=targets.ravel().tolist(), **given)
    model = EngineModel(V, H, 1, "lstm", embedding_size=16)
    model.initialise(1)
    for step in range(300):
        nats, _ = model.gradient(ids, targets, carries=True, resets=None if step % 3 else np.arange(B) == 0)
        model.apply(4e-3, clip=1.0, decay=0.05)
    assert found == pytest.approx(nats, abs=1e-3)


@pytest.mark.parametrize(
    ("ngrams", "matches", "gate_norm"), [*((*one, False) for one in CONTEXTS), (0, 0, True), (5, 4, True)]
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_network_generates_and_scores_as_pythons_does(
    run: Run, precision: str, ngrams: int, matches: int, gate_norm: bool
) -> None:
    V, H = 23, 48
    context = {"ngrams": ngrams, "ngram_rows": ROWS, "matches": matches}
    model = EngineModel(V, H, 2, "lstm", embedding_size=8, gate_norm=gate_norm, **context)
    model.initialise(5)
    if model.context:
        model.write({TABLE: np.random.default_rng(6).normal(0, 1, (model.context.rows, 8))})
    if gate_norm:  # two biases, neither of which passes for the other
        biases = [name for name in model.read() if name.startswith("recurrent.bias")]
        model.write({name: np.random.default_rng(k).normal(0, 1, 4 * H) for k, name in enumerate(biases)})
    network = model.network(generates_in=precision)
    weights = {name: weight.ravel().tolist() for name, weight in model.read().items()}
    program = """
const typed = ([name, values]) => [name, Float32Array.from(values)];
const weights = Object.fromEntries(Object.entries(given.weights).map(typed));
const network = engine.createNetwork(given.shape, weights, given.precision);
const greedy = network.generate(0, 300, null, { greedy: 1 }, new Uint32Array([1, 2, 3, 4]));
const drawn = network.generate(0, 300, null, { temperature: 0.9 }, new Uint32Array([1, 2, 3, 4]));
let one = network.step(0), slow = [];
for (let k = 0; k < 300; k++) {
  let best = 0;
  for (let v = 2; v < given.shape.characters; v++) if (one.logits[v] > one.logits[best]) best = v;
  slow.push(best);
  one = network.step(best, one.state);
}
const { ids, state } = greedy, reads = given.precision === "fp32";
const read = reads ? network.read(ids.slice(0, -1), ids.slice(1), { wantsStates: true }) : null;
const half = reads ? network.read(ids.slice(0, 100), ids.slice(1, 101)) : null;
const rest = reads ? network.read(ids.slice(100, -1), ids.slice(101), { state: half.state }).nats : null;
return say({ greedy: ids, drawn: drawn.ids, slow, nats: read?.nats, parts: half && [...half.nats, ...rest],
  hiddens: read?.hiddens, h: state.h, past: state.past });"""
    shape = {"cell": "lstm", "layers": 2, "units": H, "characters": V, "embedding": 8}
    shape |= ({"ngrams": ngrams, "ngramRows": ROWS} if ngrams else {}) | ({"matches": matches} if matches else {})
    shape |= {"gateNorm": True} if gate_norm else {}
    said = run(program, weights=weights, shape=shape, precision=precision)
    choices = [Choice(temperature, 1.0, 0.0, 0, greedy) for temperature, greedy in ((1.0, 1), (0.9, 0))]
    zero, random = network.zero_state(1), np.array([[1, 2, 3, 4]])
    greedy, drawn = (network.generate(np.array([0]), zero, random, [choice], 300) for choice in choices)
    assert said["greedy"] == said["slow"] == greedy.ids[0].tolist()
    assert said["drawn"] == drawn.ids[0].tolist()
    if model.context:
        assert said["past"] == greedy.state["past"].ravel().tolist()
        assert len(said["past"]) == (MEMORY if matches else ngrams - 1)
    if precision == "fp32":
        assert said["h"] == pytest.approx(greedy.state["h"].ravel(), abs=1e-5)
        text = np.array([said["greedy"]])
        nats, _ = network.nats(text[:, :-1], text[:, 1:])
        assert said["nats"] == said["parts"] == pytest.approx(nats[0], abs=1e-4)
        assert said["hiddens"] == pytest.approx(network.states(text[:, :-1])["h"].ravel(), abs=1e-4)


def test_a_model_hands_normalised_gates_on_to_its_network_and_refuses_what_has_none(run: Run) -> None:
    program = """
const shape = { cell: "lstm", layers: 1, units: 20, characters: 23, embedding: 8 };
const model = engine.createModel({ ...shape, gateNorm: true });
model.write(drawWeights(model, 1));
const { state } = model.network().step(5), weights = model.read();
const again = engine.createNetwork({ ...shape, gateNorm: true }, weights).step(5).state;
const without = engine.createNetwork(shape, weights).step(5).state;
const refused = [];
for (const call of [
  () => engine.createModel({ ...shape, cell: "gru", gateNorm: true }),
  () => engine.createModel({ ...shape, gateBias: false, gateNorm: true }),
  () => engine.createNetwork({ ...shape, cell: "rnn", gateNorm: true }, weights),
  () => engine.createNetwork({ ...shape, gateNorm: true }, { ...weights, "recurrent.bias_ih_l0": undefined }),
]) {
  try { call(); } catch (error) { refused.push(error.message); }
}
return say({ h: state.h, again: again.h, without: without.h, refused });"""
    said = run(program)
    assert said["h"] == said["again"] != said["without"]
    assert len(said["refused"]) == 4
    assert all("gateNorm needs the cell lstm and gate biases" in message for message in said["refused"])


@pytest.mark.parametrize(("ngrams", "matches"), CONTEXTS)
def test_a_snapshot_goes_on_to_the_bit(run: Run, ngrams: int, matches: int) -> None:
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
return say({ names: Object.keys(saved), same: JSON.stringify(model.read()) === JSON.stringify(other.read()),
  moved: JSON.stringify(model.read()) !== JSON.stringify(first) });"""
    )
    config = {"cell": "lstm", "layers": 2, "units": H, "characters": V, "embedding": 8}
    config |= ({"ngrams": ngrams, "ngramRows": ROWS} if ngrams else {}) | ({"matches": matches} if matches else {})
    given = {"config": config, "B": B, "T": T, "steps": 5, "optimizer": "normuon"}
    said = run(program, ids=ids.ravel().tolist(), targets=targets.ravel().tolist(), **given)
    model = EngineModel(V, H, 2, "lstm", embedding_size=8, ngrams=ngrams, ngram_rows=ROWS, matches=matches)
    model.initialise(1)
    model.gradient(ids, targets, carries=True)
    model.apply(1e-3, optimizer="normuon")
    assert (said["same"], said["moved"]) == (True, True)
    assert set(said["names"]) == set(model.snapshot())


def stories_of(kind: str, V: int, length: int) -> np.ndarray:
    """Ids in which much comes again: of few characters, with long repeats, and with boundaries."""
    random = np.random.default_rng(len(kind))
    few = random.integers(2, 4, length)
    if kind == "long repeats":
        few = np.tile(random.integers(2, V, 700), length // 700 + 1)[:length]
        few[random.integers(0, length, length // 90)] = 2
    few[random.random(length) < (0.01 if kind == "boundaries" else 1e-4)] = 0
    return few


@pytest.mark.parametrize("kind", ["few characters", "long repeats", "boundaries"])
@pytest.mark.parametrize(("ngrams", "matches"), CONTEXTS[1:])
def test_what_is_read_in_pieces_meets_the_rows_that_python_says(run: Run, kind: str, ngrams: int, matches: int) -> None:
    """Of a network whose state is the number of each row that a character met, to the last one."""
    V, length = 9, 4000
    ids, context = stories_of(kind, V, length), Context(ngrams, ROWS if ngrams else 0, matches, V)
    # h = tanh(the sum of the rows' vectors): one unit for each row, and one that all rows add to.
    D = H = context.rows
    weights = {"embedding.weight": np.zeros((V, D)), TABLE: np.eye(context.rows, D)}
    weights |= {"recurrent.weight_ih_l0": np.eye(H, D), "recurrent.weight_hh_l0": np.zeros((H, H))}
    weights |= {"output.weight": np.zeros((V, H)), "output.bias": np.zeros(V)}
    shape = {"cell": "rnn", "layers": 1, "units": H, "characters": V, "embedding": D, "ngrams": ngrams}
    program = """
const typed = ([name, values]) => [name, Float32Array.from(values)];
const network = engine.createNetwork(given.shape, Object.fromEntries(Object.entries(given.weights).map(typed)));
const met = [];
let state = null;
for (let at = 0; at < given.ids.length; at += given.piece) {
  const read = network.read(given.ids.slice(at, at + given.piece), null, { state, wantsStates: true });
  state = read.state;
  for (let t = 0; t * given.shape.units < read.hiddens.length; t++) {
    const here = read.hiddens.subarray(t * given.shape.units, (t + 1) * given.shape.units), rows = [];
    here.forEach((value, row) => { for (let k = 0; k < Math.round(Math.atanh(value)); k++) rows.push(row); });
    met.push(rows);
  }
}
return say(met);"""
    shape |= {"ngramRows": context.ngram_rows, "matches": matches}
    lists = {name: weight.ravel().tolist() for name, weight in weights.items()}
    said = run(program, weights=lists, shape=shape, ids=ids.tolist(), piece=777)
    expected = np.sort(context.rows_of(ids[None], np.zeros((1, context.memory))), axis=2)[0]
    assert said == expected.tolist()
    if matches:  # none, and the longest, are met
        assert {0, matches - 1} <= set((expected.max(1) - context.ngram_rows) // V)
