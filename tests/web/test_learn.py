"""What the learning page computes, under node: texts are prepared as in Python, runs are those of `storycell train`."""

import base64
import io
import json
import shutil
import subprocess
import zipfile
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storycell
from storycell.context import Context
from storycell.data.corpus import open_corpus
from storycell.data.prepare import prepare
from storycell.data.stories.corpus import generate
from storycell.training.schedule import learning_rate
from storycell.training.start import resume

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here")
WEB = Path(str(resources.files("storycell.web")))
BEGIN = """
import { Engine } from "./engine.js";
import { prepare } from "./learn/corpus.js";
import { Trainer, learningRate } from "./learn/trainer.js";
import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(0, "utf8"));
const engine = await Engine.load({ simd: readFileSync("engine.wasm") });
const say = (value) => console.log(JSON.stringify(value));
const base64 = (bytes) => Buffer.from(bytes).toString("base64");
"""
STORIES = "\n<|endoftext|>\n".join(islice(generate(3), 60)) + "\n"
TEXTS = {
    "stories": STORIES,
    "one story": "".join(islice(generate(4), 8)),
    "windows": "\ufeffa b\r\n<|endoftext|>\r\n\r\n<|endoftext|>\r\nc d\r\re" * 9,
    "few large": "\n<|endoftext|>\n".join(["ab " * 200, "cd " * 300, "ef " * 250, "gh"]),
    "repeated": "same story\n<|endoftext|>\n" * 40 + "another one",
    "not ASCII": "\n<|endoftext|>\n".join(f"Straße {k} – naïve 🙂 漢字 {'x' * (k % 7)}" for k in range(50)),
}
# What adds to the embedding, of n-grams and of matches, and the gates. Where nothing is said, the page has matches, and
# its gates are normalised.
CONTEXTS = {
    "plain": {"matches": 0, "gate_norm": False},
    "ngrams": {"ngrams": 4, "ngram_rows": 500, "matches": 0},
    "matches": {"matches": 16},
    "both": {"ngrams": 4, "ngram_rows": 500, "matches": 8, "gate_norm": False},
    "normalised gates": {"matches": 0},
}
every_context = pytest.mark.parametrize("more", CONTEXTS.values(), ids=CONTEXTS)
IN_BYTES = 2e-3  # what it may change that model.safetensors stores a context's table in bytes
OLDER = Path(__file__).parents[1] / "golden" / "older-page.zip"  # saved by a page from before there were matches
SETTINGS = {"hidden": 24, "embedding": 8, "streams": 4, "chunk": 16, "steps": 40, "lr": 4e-3, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules as node takes them for modules."""
    path = tmp_path_factory.mktemp("web")
    shutil.copytree(WEB, path, dirs_exist_ok=True)
    (path / "package.json").write_text('{"type": "module"}')
    return path


def in_node(folder: Path, program: str, **given: Any) -> Any:
    (folder / "program.js").write_text(BEGIN + program)
    words = [str(NODE), "program.js"]
    done = subprocess.run(words, cwd=folder, input=json.dumps(given).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_prepared_as_storycell_prepare_does(folder: Path, tmp_path: Path, text: str) -> None:
    program = """
const { vocab, train, valid, digest, text } = prepare(given.text);
say({ vocab: vocab.toJson(), train: [...train], valid: [...valid], digest, text });"""
    said = in_node(folder, program, text=text)
    (tmp_path / "text.txt").write_text(said["text"], encoding="utf-8", newline="")
    prepared = prepare(open_corpus([str(tmp_path / "text.txt")]), tmp_path / "prepared")
    assert said["train"] == prepared.train_ids.tolist()
    assert said["valid"] == ([] if prepared.valid_ids is None else prepared.valid_ids.tolist())
    assert said["vocab"] == prepared.vocab.to_json()
    assert said["digest"] == prepared.digest
    (tmp_path / "raw.txt").write_text(text, encoding="utf-8", newline="")
    raw = prepare(open_corpus([str(tmp_path / "raw.txt")]), tmp_path / "raw")
    assert said["train"] == raw.train_ids.tolist()


def test_a_text_of_white_space_is_refused(folder: Path) -> None:
    program = "try { prepare(given.text); say(null); } catch (error) { say(error.message); }"
    assert "nothing to learn from" in in_node(folder, program, text=" \n<|endoftext|>\n\t")


LEARN = """
const trainer = Trainer.begin(engine, given.text, given.settings, { name: "mine" });
const nats = [];
while (trainer.step < given.until) {
  nats.push(trainer.learn());
  if (trainer.step % 10 === 0) trainer.look();
}
trainer.addSample(trainer.sample({ chars: 40 }));
"""


RATES = """
const rates = [0, .01, .5, 1].map((spent) => learningRate(trainer.settings, spent));
say({ all: trainer.evaluate(Infinity), rates });"""


def unpacked(data: str, path: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(data))) as archive:
        assert archive.testzip() is None
        archive.extractall(path)
    return path / "mine"


@pytest.mark.parametrize(
    ("text", "more"),
    [
        *(("stories", more) for more in CONTEXTS.values()),
        # In so short a text gradients have directions that hold nothing but rounding; Muon makes them as long as others
        ("one story", CONTEXTS["plain"] | {"optimizer": "adamw"}),
        ("one story", CONTEXTS["both"]),
    ],
)
def test_a_run_of_the_page_opens_in_python_and_goes_on(
    folder: Path, tmp_path: Path, text: str, more: dict[str, Any]
) -> None:
    program = f"""{LEARN}
const zip = trainer.save(), again = await Trainer.open(engine, zip);
const stored = engine.createNetwork(again.shape, again.best);
say({{ nats, all: trainer.evaluate(Infinity), stored: again.evaluate(Infinity, stored), zip: base64(zip) }});"""
    said = in_node(folder, program, text=TEXTS[text], settings=SETTINGS | more, until=20)
    run = unpacked(said["zip"], tmp_path)
    model = storycell.load(run)
    prepared = prepare(open_corpus([str(run / "text.txt")]), tmp_path / "prepared")
    assert prepared.valid_ids is not None
    held_out = prepared.vocab.decode(prepared.valid_ids.tolist()).removeprefix("<|endoftext|>\n")
    assert model.evaluate(held_out).loss_nats == pytest.approx(said["stored"], abs=1e-5)
    assert said["stored"] == pytest.approx(said["all"], abs=rounding(more, 1e-6))
    for name in ("metrics.jsonl", "samples.txt"):
        assert (run / name).stat().st_size > 0
    assert len(model.generate(chars=20)) > 0
    done = resume(run, text=str(run / "text.txt"))
    assert done.summary["step"] == SETTINGS["steps"]
    whole = storycell.train(str(run / "text.txt"), out=tmp_path / "python", **python_settings() | more)
    assert done.summary["valid_nats"] == pytest.approx(whole.summary["valid_nats"], abs=1e-3)


def rounding(more: dict[str, Any], otherwise: float) -> float:
    """How far two losses may be apart where one is that of a stored model."""
    return IN_BYTES if more.get("ngrams") or more["matches"] else otherwise


def python_settings() -> dict[str, Any]:
    """The page's settings for `storycell.train`."""
    return {
        **{**SETTINGS, "layers": 1, "cell": "lstm", "reset": 0.03, "warmup": 0.02, "final_lr": 0.02, "dropout": 0.0},
        **{"optimizer": "normuon", "weight_decay": 0.05, "clip": 1.0, "precision": "fp32", "evaluations": 4},
        "gate_norm": True,
    }


@every_context
def test_the_page_learns_as_storycell_train_does(folder: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    program = LEARN + RATES
    said = in_node(folder, program, text=STORIES, settings=SETTINGS | more, until=40)
    (tmp_path / "text.txt").write_text(STORIES, encoding="utf-8")
    run = storycell.train(str(tmp_path / "text.txt"), out=tmp_path / "run", **python_settings() | more)
    assert said["all"] == pytest.approx(run.summary["valid_nats"], abs=rounding(more, 1e-3))
    settings = run.settings.training
    assert said["rates"] == pytest.approx([learning_rate(settings, spent) for spent in (0, 0.01, 0.5, 1)])


@every_context
def test_a_saved_run_goes_on_in_the_page_to_the_bit(folder: Path, more: dict[str, Any]) -> None:
    program = """
const text = given.text, settings = given.settings;
const whole = Trainer.begin(engine, text, settings), half = Trainer.begin(engine, text, settings);
for (let k = 0; k < 20; k++) whole.learn();
for (let k = 0; k < 9; k++) half.learn();
half.look();
const again = await Trainer.open(engine, half.save());
while (again.step < 20) again.learn();
const same = (a, b) => JSON.stringify(a.model.snapshot()) === JSON.stringify(b.model.snapshot());
say({ same: same(whole, again), other: same(whole, half), metrics: again.metrics.length });"""
    said = in_node(folder, program, text=STORIES, settings=SETTINGS | more)
    assert said == {"same": True, "other": False, "metrics": 1}


@every_context
def test_a_python_run_goes_on_in_the_page(folder: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    text = tmp_path / "text.txt"
    text.write_text(STORIES, encoding="utf-8")
    run = storycell.train(str(text), out=tmp_path / "run", **python_settings() | more)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in run.path.iterdir():
            archive.write(path, f"run/{path.name}")
    program = """
const trainer = await Trainer.open(engine, Uint8Array.from(Buffer.from(given.zip, "base64")), given.text);
say({ step: trainer.step, all: trainer.evaluate(Infinity), isDone: trainer.isDone });"""
    said = in_node(folder, program, zip=base64.b64encode(packed.getvalue()).decode(), text=STORIES)
    assert (said["step"], said["isDone"]) == (40, True)
    assert said["all"] == pytest.approx(run.summary["valid_nats"], abs=2e-2)  # the last weights; Python tells the best


TELL_MATCHES = """
import { unzip } from "./learn/run_folder.js";
const trainer = Trainer.begin(engine, given.text, given.settings);
const { settings: { model } } = JSON.parse(new TextDecoder().decode((await unzip(trainer.save()))["config.json"]));
say([model.matches, trainer.model.matches, trainer.parameters]);"""


def test_the_page_matches_unless_it_is_told_not_to(folder: Path) -> None:
    told = {
        name: in_node(folder, TELL_MATCHES, text=STORIES, settings={"hidden": 8, "streams": 4, "chunk": 16, **more})
        for name, more in {"default": {}, "none": {"matches": 0}, "one-hot": {"embedding": 0}}.items()
    }
    assert {name: said[:2] for name, said in told.items()} == {"default": [16, 16], "none": [0, 0], "one-hot": [0, 0]}
    V = len(set(STORIES.replace("<|endoftext|>\n", ""))) + 2
    assert told["default"][2] - told["none"][2] == 16 * V * 64


def test_a_run_of_a_page_from_before_there_were_matches_goes_on(folder: Path, tmp_path: Path) -> None:
    program = """
const trainer = await Trainer.open(engine, Uint8Array.from(Buffer.from(given.zip, "base64")));
const { step, shape, best } = trainer, nats = [];
const ofBest = trainer.evaluate(Infinity, engine.createNetwork(shape, best));
const told = { evaluated: trainer.evaluate(Infinity), best: ofBest };
while (!trainer.isDone) nats.push(trainer.learn());
Object.assign(told, { nats, after: trainer.evaluate(Infinity) });
say({ step, shape, told, zip: base64(trainer.save()) });"""
    said = in_node(folder, program, zip=base64.b64encode(OLDER.read_bytes()).decode())
    assert (said["step"], said["shape"]["ngrams"], said["shape"]["matches"]) == (40, 3, 0)
    expected = json.loads(OLDER.with_suffix(".json").read_text())  # what that page itself made of it
    assert said["told"].pop("best") == pytest.approx(expected.pop("best"), abs=IN_BYTES)
    assert said["told"].pop("nats") == pytest.approx(expected.pop("nats"), abs=1e-4)
    assert said["told"] == pytest.approx(expected, abs=1e-4)
    run = unpacked(said["zip"], tmp_path)
    assert storycell.load(run).network.context == Context(3, 50, 0, len(storycell.load(run).vocab))
    assert resume(run, text=str(run / "text.txt"), steps=70).summary["step"] == 70


TRANSFER = """
import { Characters } from "./learn/corpus.js";
const settings = { ...given.settings, steps: 10 }, before = Trainer.begin(engine, given.text, settings);
for (let k = 0; k < 10; k++) before.learn();
const donor = { weights: before.model.read(), vocab: before.data.vocab, shape: before.shape };
const trainer = Trainer.begin(engine, given.text + given.added, { steps: 10 }, { donor });
const table = (one) => Array.from(one.model.read()["context_table.weight"]);
const ids = donor.vocab.characters.map((one) => trainer.data.vocab.ids.get(one));
say({ before: table(before), after: table(trainer), ids,
  sizes: [before, trainer].map(({ data }) => data.vocab.size), matches: trainer.shape.matches });"""


@pytest.mark.parametrize("added", ["", "ß!~"])
@pytest.mark.parametrize("more", [CONTEXTS["matches"], CONTEXTS["both"]], ids=["matches", "both"])
def test_rows_of_matches_move_with_their_characters(folder: Path, more: dict[str, Any], added: str) -> None:
    said = in_node(folder, TRANSFER, text=STORIES, added=added, settings=SETTINGS | more)
    V, W, D, of_ngrams = *said["sizes"], SETTINGS["embedding"], more.get("ngram_rows", 0)
    assert (W > V, said["matches"]) == (bool(added), more["matches"])
    before, after = (np.array(said[name]).reshape(-1, D) for name in ("before", "after"))
    places, rows = [0, 1, *said["ids"]], after[of_ngrams:].reshape(-1, W, D)
    assert np.abs(before[of_ngrams:]).max() > 0
    assert (rows[:, places] == before[of_ngrams:].reshape(-1, V, D)).all()
    assert not np.delete(rows, places, axis=1).any()
    assert (after[:of_ngrams] == (0 if added else before[:of_ngrams])).all()


def test_the_demo_learns_a_text_of_ones_own(folder: Path, tmp_path: Path) -> None:
    model = storycell.load()
    weights = {
        name: base64.b64encode(weight.astype("<f4").tobytes()).decode()
        for name, weight in model.network.weights().items()
    }
    program = """
import { Characters } from "./learn/corpus.js";
const weights = Object.fromEntries(Object.entries(given.weights).map(([name, text]) =>
  [name, new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer)]));
const shape = { cell: "lstm", layers: 2, units: 352, embedding: 64, matches: 16, gateNorm: true };
const donor = { weights, vocab: new Characters(given.characters), shape };
const trainer = Trainer.begin(engine, given.text, { streams: 2, chunk: 16, steps: 10 }, { donor });
const before = trainer.evaluate(2000);
for (let k = 0; k < 4; k++) trainer.learn();
say({ before, after: trainer.evaluate(2000), size: trainer.data.vocab.size, zip: base64(trainer.save()) });"""
    said = in_node(folder, program, weights=weights, characters=model.vocab.characters, text=STORIES + "ß")
    assert said["size"] == len(set(model.vocab.characters) | {"ß"}) + 2
    assert said["before"] < 2.5  # nats: it knows stories already
    assert said["after"] < 3
    run = unpacked(said["zip"], tmp_path)
    done = resume(run, text=str(run / "text.txt"))
    assert done.summary["step"] == 10
    assert done.summary["valid_nats"] < 2.5
