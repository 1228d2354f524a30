"""The package that `export --npm` writes: under node and in Chromium it generates what Python does."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import playwright.sync_api as playwright
import pytest
from support.browser import CHROMIUM, FLAGS, needs_chromium
from support.lists import train_spells
from support.local_server import serving_folder
from support.random_models import CHARACTERS, KINDS, PROMPT, model, text
from support.tiny_runs import command

import storycell
from storycell.data.vocab import BYTES
from storycell.errors import ExportError
from storycell.export import npm
from storycell.export.npm import export_npm

NODE, NPM = shutil.which("node"), shutil.which("npm")
needs_node = pytest.mark.skipif(NODE is None, reason="no node here")
BASE = next(kind for kind in KINDS if kind.startswith("lstm-L2"))
PROGRAM = """
const pieces = [];
for await (const character of stream("One day", { chars: 50, greedy: true })) pieces.push(character);
const refused = await generate("漢").catch((error) => error.message);
return {
  name, prompt, pieces, refused,
  greedy: await generate("Once upon a", { chars: 1000, greedy: true }),
  int8: await generate("One day", { chars: 40, greedy: true, precision: "int8" }),
  drawn: await Promise.all([0, 7].map((seed) => generate("", { chars: 200, temperature: 0.9, topK: 20, seed }))),
  nats: [...await score("Once upon a time")], cells: (await load()).trace("Once").c.length,
};
"""


def run_node(folder: Path, program: str) -> Any:
    names = "generate, stream, score, load, name, prompt"
    text = f'import {{ {names} }} from "./{folder.name}/index.js";\nconst run = async () => {{ {program} }};\n'
    (folder.parent / "program.mjs").write_text(f"{text}console.log(JSON.stringify(await run()));")
    done = subprocess.run([str(NODE), "program.mjs"], cwd=folder.parent, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def check(said: dict[str, Any]) -> None:
    model = storycell.load()
    assert (said["name"], said["prompt"]) == (model.name, model.default_prompt)
    assert said["greedy"] == model.generate("Once upon a", 1000, greedy=True)
    assert "One day" + "".join(said["pieces"]) == model.generate("One day", 50, greedy=True)
    assert len(said["pieces"]) == 50
    assert said["int8"][:30] == storycell.load(precision="int8").generate("One day", 40, greedy=True)[:30]
    assert said["drawn"] == [model.generate("", 200, temperature=0.9, top_k=20, seed=seed) for seed in (0, 7)]
    assert said["nats"] == pytest.approx(model.score("Once upon a time"), abs=1e-4)
    assert said["cells"] == 2 * len("Once") * storycell.load().network.hidden_size
    assert "does not know “漢”" in said["refused"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages") / "my-model"
    done = storycell.load().export_npm(folder)
    assert (done.weights, done.max_abs_logit_change) == ("fp16", 0)  # which the demo's weights are
    assert done.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return folder


@needs_node
def test_it_generates_what_python_does_under_node(package: Path) -> None:
    check(run_node(package, PROGRAM))


@pytest.fixture
def address(package: Path) -> Iterator[str]:
    with serving_folder(package) as address:
        yield address


@needs_chromium
def test_it_generates_what_python_does_in_a_browser(address: str) -> None:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(f"{address}/README.md")
        names = "generate, stream, score, load, name, prompt"
        check(page.evaluate(f'async () => {{ const {{ {names} }} = await import("{address}/index.js"); {PROGRAM} }}'))
        browser.close()


@needs_node
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.split("-")[0] in npm.CELLS])
@pytest.mark.parametrize("weights", ["fp16", "fp32"])
def test_every_network_is_written_with_its_rounding(kind: str, weights: str, tmp_path: Path) -> None:
    made = model(kind)
    done = export_npm(made, CHARACTERS, tmp_path / "Mine!", weights)
    assert (done.max_abs_logit_change > 0) == (weights == "fp16")
    if weights == "fp32":
        program = f"return await generate({json.dumps(PROMPT)}, {{ chars: 60, seed: 4 }});"
        assert run_node(tmp_path / "Mine!", program) == text(made, PROMPT, 60, 0.8, 4)


@needs_node
def test_labels_choose_what_is_generated(tmp_path: Path) -> None:
    run = storycell.load(train_spells(tmp_path))
    run.export_npm(tmp_path / "spells", "fp32")
    program = """
    const ask = (labels) => generate("", { chars: 12, seed: 3, labels });
    const refused = (labels) => ask(labels).catch((error) => error.message);
    const said = [await refused({ level: "1" }), await refused({ school: "mud" })];
    return [await ask({ school: "ice" }), await ask({}), ...said, (await load()).labels];"""
    ice, usual, *said = run_node(tmp_path / "spells", program)
    assert ice == run.generate("", 12, seed=3, labels={"school": "ice"})
    assert usual == run.generate("", 12, seed=3, labels={"school": "fire"})
    assert said == [
        "the model has no label level; it knows school",
        "the model knows no school mud; it knows fire, ice",
        {"school": ["fire", "ice"]},
    ]
    assert "`school` (fire, ice)" in (tmp_path / "spells" / "README.md").read_text()


@pytest.mark.skipif(NPM is None, reason="no npm here")
def test_npm_packs_the_code_the_types_and_the_model(package: Path) -> None:
    words = [str(NPM), "pack", "--dry-run", "--json", "--offline", "--no-update-notifier"]
    done = subprocess.run(words, cwd=package, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    [packed] = json.loads(done.stdout)
    assert (packed["name"], packed["version"]) == ("my-model", "1.0.0")
    there = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {file["path"] for file in packed["files"]} == there
    assert there >= {"README.md", "index.d.ts", "index.js", "lib/model.d.ts", "lib/run.js"}


def test_everything_that_is_exported_has_a_type(package: Path) -> None:
    code, types = ((package / name).read_text() for name in ("index.js", "index.d.ts"))
    made = set(re.findall(r"^export (?:async )?function\*? (\w+)", code, re.MULTILINE))
    declared = set(re.findall(r"^export (?:function|const) (\w+)", types, re.MULTILINE))
    for names, text_of in ((made, code), (declared, types)):
        for found in re.findall(r"^export \{(.*)\}", text_of, re.MULTILINE):
            names |= set(re.findall(r"\w+", found))
    assert made == {"generate", "stream", "score", "load", "name", "prompt", "Model"}
    assert made <= declared


def test_nothing_in_it_says_where_a_text_lay(tmp_path: Path, made: Path) -> None:
    storycell.load(made).export_npm(tmp_path / "mine")
    written = "".join(path.read_text() for path in (tmp_path / "mine").rglob("*") if path.is_file())
    assert str(made.parent) not in written
    assert "text.txt" not in written


def test_what_cannot_be_written_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for words, code, said in (
        ((tmp_path / "full",), 1, "is there already"),
        ((tmp_path / "full" / "mine.txt",), 1, "is there already"),
        ((tmp_path / "full" / "mine.txt" / "deeper",), 1, "cannot be written"),
        ((tmp_path / "new", "--weights", "int8"), 2, "fp16 or fp32"),
        ((tmp_path / "new", "--trainer"), 2, "--trainer does not go with it"),
    ):
        command(capsys, "export", "demo", "--npm", *words).stated(code, said)
    with pytest.raises(ExportError, match="on characters"):
        export_npm(model(BASE, BYTES), BYTES, tmp_path / "new")
    pack, name = npm.pack_tensors, "output.weight"
    monkeypatch.setattr(npm, "pack_tensors", lambda stored, about: pack({**stored, name: 2 * stored[name]}, about))
    with pytest.raises(ExportError, match="differs by"):
        export_npm(model(BASE), CHARACTERS, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    done = command(capsys, "export", "--npm", tmp_path / "mine", "--weights", "fp32")
    assert done.code == 0, done.err
    assert "fp32 weights" in done.out
    assert "npm install" in done.err
    assert (tmp_path / "mine" / "index.js").is_file()
