"""The npm package, as it is packed: under node, in Chromium and in Deno, each with workers, it generates and learns as
Python does. Its types are those that programs need."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import playwright.sync_api as playwright
import pytest
from support.browser import CHROMIUM, FLAGS, needs_chromium
from support.local_server import serving_folder

import storycell
from storycell.data.stories.corpus import generate
from storycell.runs.network import demo_folder

SOURCE = Path(__file__).parents[2] / "integrations" / "npm"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None or not SOURCE.is_dir(), reason="no node or no npm package here")
STORIES = "\n<|endoftext|>\n".join(islice(generate(9), 30)) + "\n"
DENO = shutil.which("deno", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
TSC = shutil.which("tsc")
# What is run everywhere; workers are given what it is to do, and tell what came of it.
PROGRAM = """
export async function run({ Model, Trainer }, given) {
const bytes = (text) => Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0));
const run = (texts) => Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, bytes(text)]));
const files = run(given.files), contexts = {};
for (const [name, texts] of Object.entries(given.contexts)) {
  const found = await Model.load(run(texts)), read = found.generate("Once", { chars: 60, greedy: true });
  contexts[name] = [read, [...found.score(read.repeat(2))], found.shape.matches];
}
const model = await Model.load(files), int8 = await Model.load(files, { precision: "int8" });
const settings = { hidden: 24, embedding: 8, streams: 4, chunk: 16, steps: 36, seed: 2 };
const trainer = await Trainer.begin(given.text, settings);
const looks = [];
await trainer.train({ onLook: (look) => looks.push(look.valid_nats) });
const again = await Trainer.open(trainer.save()), learnt = await Model.load(trainer.save());
let refused = "";
try { model.generate("漢"); } catch (error) { refused = error.message; }
const draw = (seed) => model.generate("Once", { chars: 100, temperature: 0.9, topK: 20, seed });
return {
  greedy: model.generate("One day", { chars: 300, greedy: true }),
  int8: int8.generate("One day", { chars: 100, greedy: true }),
  drawn: ["0", "7", "18446744073709551615"].map(draw),
  nats: [...model.score("Once upon a time")], trace: model.trace("Once").c.length,
  looks, steps: [trainer.step, again.step], evaluated: [trainer.evaluate(), again.evaluate()], refused,
  learnt: learnt.generate("", { chars: 20 }).length,
  contexts, matches: trainer.model().shape.matches,
};
}
"""
IMPORTS = """import { Model, Trainer } from "%s";
import { run } from "%s";
"""
TO_STDOUT = """import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await run({ Model, Trainer }, given)));"""
IN_WORKER = "onmessage = async ({ data }) => postMessage(await run({ Model, Trainer }, data));"
ASK_WORKER = """(address, given) => new Promise((resolve, reject) => {
  const worker = new Worker(address, { type: "module" });
  worker.onerror = ({ message }) => reject(new Error(message));
  worker.onmessage = ({ data }) => {
    worker.terminate();
    resolve(data);
  };
  worker.postMessage(given);
})"""
DENO_WORKER = f"""import {{ readFileSync }} from "node:fs";
const ask = {ASK_WORKER};
const said = await ask(new URL("worker.mjs", import.meta.url).href, JSON.parse(readFileSync(0, "utf8")));
console.log(JSON.stringify(said));"""
NODE_WORKER = """import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { readFileSync } from "node:fs";
if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: JSON.parse(readFileSync(0, "utf8")) });
  worker.on("error", (error) => { throw error; });
  worker.on("message", (said) => console.log(JSON.stringify(said)));
} else {
  parentPort.postMessage(await run({ Model, Trainer }, workerData));
}"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is packed, where imports find it."""
    folder = tmp_path_factory.mktemp("npm") / "node_modules" / "storycell"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("lib", "*.tgz"))
    made = Path(storycell.__file__).parent
    subprocess.run([str(NODE), "build.mjs", str(made)], cwd=folder, check=True)
    (folder / "build.mjs").unlink()
    bare, relative = ("storycell", "./run.mjs"), ("./node_modules/storycell/index.js", "./run.mjs")
    programs = {
        **{"run": PROGRAM, "program": IMPORTS % bare + TO_STDOUT, "node_worker": IMPORTS % bare + NODE_WORKER},
        **{"worker": IMPORTS % relative + IN_WORKER, "deno_worker": DENO_WORKER},
    }
    for name, program in programs.items():
        (folder.parents[1] / f"{name}.mjs").write_text(program)
    return folder


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with n-grams, with matches, and with both."""
    folder = tmp_path_factory.mktemp("contexts")
    (folder / "text.txt").write_text(STORIES, encoding="utf-8")
    sizes = {"hidden": 24, "embedding": 8, "streams": 4, "chunk": 16, "steps": 40, "ngram_rows": 300}
    return {
        f"{ngrams} {matches}": storycell.train(
            str(folder / "text.txt"),
            out=folder / f"{ngrams}-{matches}",
            quiet=True,
            **sizes,
            ngrams=ngrams,
            matches=matches,
        ).path
        for ngrams, matches in ((4, 0), (0, 16), (4, 8))
    }


@pytest.fixture(scope="module")
def given(contexts: dict[str, Path]) -> dict[str, Any]:
    def files(folder: Path) -> dict[str, str]:
        names = ("config.json", "vocab.json", "model.safetensors")
        return {name: base64.b64encode((folder / name).read_bytes()).decode() for name in names}

    runs = {name: files(folder) for name, folder in contexts.items()}
    return {"files": files(demo_folder()), "contexts": runs, "text": STORIES}


def check(said: dict[str, Any], contexts: dict[str, Path]) -> None:
    assert said["contexts"].keys() == contexts.keys()
    for name, path in contexts.items():
        made = storycell.load(path)
        written, nats, matches = said["contexts"][name]
        assert written == made.generate("Once", 60, greedy=True)
        assert nats == pytest.approx(made.score(2 * written), abs=1e-4)  # what is written twice matches
        assert matches == made.network.context.matches
    assert said["matches"] == 16  # of a training that was not told
    model, int8 = storycell.load(), storycell.load(precision="int8")
    assert said["greedy"] == model.generate("One day", 300, greedy=True)
    # Hidden states are rounded to 127ths: where a browser has no fused multiply-add, one in many is rounded otherwise.
    assert said["int8"][:30] == int8.generate("One day", 100, greedy=True)[:30]
    seeds = (0, 7, 2**64 - 1)
    assert said["drawn"] == [model.generate("Once", 100, temperature=0.9, top_k=20, seed=seed) for seed in seeds]
    assert said["nats"] == pytest.approx(model.score("Once upon a time"), abs=1e-4)
    assert said["trace"] == 2 * len("Once") * storycell.load().network.hidden_size
    assert len(said["looks"]) == 12
    assert said["looks"][-1] < said["looks"][0]
    assert said["steps"] == [36, 36]
    assert said["evaluated"][0] == said["evaluated"][1]
    assert "does not know “漢”" in said["refused"]
    assert said["learnt"] > 0


def run_program(words: list[str], package: Path, given: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(words, cwd=package.parents[1], input=json.dumps(given).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("program", ["program.mjs", "node_worker.mjs"])
def test_it_generates_and_learns_under_node(
    package: Path, given: dict[str, Any], contexts: dict[str, Path], program: str
) -> None:
    check(run_program([str(NODE), program], package, given), contexts)


@pytest.mark.skipif(DENO is None, reason="no Deno here")
@pytest.mark.parametrize("program", ["program.mjs", "deno_worker.mjs"])
def test_it_generates_and_learns_in_deno(
    package: Path, given: dict[str, Any], contexts: dict[str, Path], program: str
) -> None:
    words = [
        str(DENO),
        "run",
        "--quiet",
        "--no-remote",
        "--no-lock",
        "--node-modules-dir=manual",
        "--allow-read=.",
        program,
    ]
    check(run_program(words, package, given), contexts)


@pytest.fixture
def address(package: Path) -> Iterator[str]:
    with serving_folder(package.parents[1]) as address:
        yield address


@needs_chromium
@pytest.mark.parametrize("is_worker", [False, True], ids=["page", "worker"])
def test_it_generates_and_learns_in_a_browser(
    address: str, given: dict[str, Any], contexts: dict[str, Path], is_worker: bool
) -> None:
    here = f"""async (given) => {{
      const library = await import("{address}/node_modules/storycell/index.js");
      const {{ run }} = await import("{address}/run.mjs");
      return run(library, given);
    }}"""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(f"{address}/node_modules/storycell/README.md")
        program = f"(given) => ({ASK_WORKER})('{address}/worker.mjs', given)" if is_worker else here
        check(page.evaluate(program, given), contexts)
        browser.close()


TYPES = """
import { Model, Trainer, type Look, type Settings } from "storycell";

const context: Settings = { ngrams: 8, ngram_rows: 65536, matches: 16 };
const settings: Settings = { cell: "gru", hidden: 64, optimizer: "muon", clip: null, ...context };
const looks: Look[] = [];
const trainer: Trainer = await Trainer.begin("a text", settings);
await trainer.train({ onLook: (look) => looks.push(look), signal: new AbortController().signal });
const nats: number | null = trainer.evaluate(1000) ?? looks[0].valid_nats;
const zip: Uint8Array = trainer.save(), again: Trainer = await Trainer.open(zip, null);
const model: Model = await Model.load(zip, { precision: "int8" });
const text: string = model.generate("Once", { chars: 10, topK: 5, seed: 18446744073709551615n });
for (const character of model.stream("Once", { greedy: true })) character.toUpperCase();
const scores: Float32Array = model.score(text), { h, c } = model.trace(text);
const { units, ngrams = 0, matches = 0 } = model.shape;
const sum: number = scores[0] + h[0] + (c?.[0] ?? 0) + units + ngrams + matches + (nats ?? 0);
trainer.free(), again.free(), model.free();
export default [sum, trainer.step, trainer.isDone, trainer.parameters, trainer.learn(), trainer.look().chars_per_s];

// @ts-expect-error models generate
model.write("Once");
// @ts-expect-error there is no such cell
await Trainer.begin("a text", { cell: "transformer" });
// @ts-expect-error a text is text
await Trainer.begin(new Uint8Array());
// @ts-expect-error nothing is held out of some
const never: number = trainer.evaluate();
"""


@pytest.mark.skipif(TSC is None, reason="no TypeScript here")
@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
def test_its_types_are_those_that_programs_need(package: Path, resolution: str) -> None:
    folder = package.parents[1]
    (folder / "types.mts").write_text(TYPES)
    module = "esnext" if resolution == "bundler" else resolution
    options = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--types", ""]
    words = [str(TSC), *options, "--module", module, "--moduleResolution", resolution, "types.mts"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_is_declared() -> None:
    web = Path(storycell.__file__).parent / "web"
    code, types = (
        (web / f"model.{end}").read_text(encoding="utf-8") + (SOURCE / f"index.{end}").read_text(encoding="utf-8")
        for end in ("js", "d.ts")
    )
    exported = re.findall(r"^export class (\w+)", code, re.MULTILINE)
    assert exported == re.findall(r"^export class (\w+)", types, re.MULTILINE) == ["Model", "Trainer"]
    methods = r"^  (?:static |async |get |readonly |\*)*(\w+)\(?"
    private = {"constructor", "const", "for", "if", "return", "let", "while", "this"}
    for name in exported:
        made, declared = (
            set(
                re.findall(
                    methods,
                    re.split(rf"^export class {name} ", text, flags=re.MULTILINE)[1].split("\n}\n")[0],
                    re.MULTILINE,
                )
            )
            for text in (code, types)
        )
        assert made - private <= declared, name
    package = json.loads((SOURCE / "package.json").read_text())
    assert package["version"] == storycell.__version__
