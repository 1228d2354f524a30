"""torch is an extra: who may import it, and what works where it cannot be imported."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.instruction_sets import needs_kernel
from support.tiny_runs import GRAMMAR

SOURCE = Path(__file__).parents[2] / "src" / "storycell"
FOR_TORCH = {  # beside nn/; imported late, where torch trains or is what the engine is measured against
    "training/torch_learner.py",
    "training/distributed.py",
    "lab/bench/baselines.py",
}
BLOCKED = "import sys; sys.modules['torch'] = None\n"


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return {node.module or ""} if isinstance(node, ast.ImportFrom) else set()


def needs_torch(source: str) -> bool:
    """Whether a module imports torch anywhere, or at its top something of `nn/`, which does."""
    tree = ast.parse(source)
    anywhere = {name.partition(".")[0] for node in ast.walk(tree) for name in imported(node)}
    at_top = {name for node in tree.body for name in imported(node)}
    return "torch" in anywhere or any(f"{name}.".startswith("storycell.nn.") for name in at_top)


def test_only_nn_and_the_learner_that_drives_it_import_torch() -> None:
    modules = {str(path.relative_to(SOURCE).as_posix()): path for path in SOURCE.rglob("*.py")}
    others = {name: path.read_text(encoding="utf-8") for name, path in modules.items() if not name.startswith("nn/")}
    found = {name for name, source in others.items() if needs_torch(source)}
    assert found <= FOR_TORCH, "torch is for nn/: what comes after training asks a LanguageModel"
    assert found >= FOR_TORCH, "these import no torch: take them out of the list"


def test_the_search_finds_torch_at_the_top_in_functions_and_behind_nn() -> None:
    for guilty in ("import torch", "def f():\n    import torch.nn as nn", "from torch import nn"):
        assert needs_torch(guilty)
    for behind in ("import storycell.nn.model", "from storycell.nn.model import CharLM"):
        assert needs_torch(behind)
    for fine in ("import torchless", "def f():\n    from storycell.nn.model import CharLM", "import storycell.network"):
        assert not needs_torch(fine)


def blocked(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that cannot import torch."""
    call = [sys.executable, "-c", BLOCKED + program, *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False, timeout=120)


def command(*words: object) -> "subprocess.CompletedProcess[str]":
    return blocked("from storycell.cli.main import main; sys.exit(main(sys.argv[1:]))", *words)


MODULES = """
    api runs.text generation.generate evaluation.texts evaluation.ngram lab.compress.archive lab.scoring threads
    server.app server.serve inspect.inspection export.export lab.compare lab.novelty lab.reproduce.train
    cli.sample cli.eval cli.info cli.compress cli.serve cli.inspect cli.compare cli.export cli.novelty cli.reproduce
    cli.bench lab.bench.train lab.bench.sample lab.bench.roofline
"""


@pytest.mark.parametrize("module", MODULES.split())
def test_a_module_is_imported_without_torch(module: str) -> None:
    done = blocked(f"import storycell.{module}")
    assert done.returncode == 0, done.stderr


PROGRAM = """
import io, json, sys
import storycell
from storycell.lab.compress import archive
model = storycell.load(sys.argv[1], precision=sys.argv[2], backend=sys.argv[3])
text = "Once upon a time Ann had 4 red balls.\\n<|endoftext|>\\nThe cat sat.\\n"
packed, back = io.BytesIO(), io.BytesIO()
archive.compress(model.network, model.vocab, io.BytesIO(text.encode()), packed)
packed.seek(0)
archive.decompress(model.network, model.vocab, packed, back, "it")
print(json.dumps({
    "params": model.params,
    "loss_nats": model.evaluate(text).loss_nats,
    "windows": model.evaluate(text, windows=7).loss_nats,
    "score": model.score("a cat").tolist(),
    "text": model.generate("Once", chars=60, seed=3),
    "three": list(model.streams("Once", 20, count=3, seed=5)),
    "held": model.generate("Once", chars=20, seed=1, hold={("c", 0, 3): 1.0}),
    "back": back.getvalue().decode() == text,
    "torch": sys.modules.get("torch") is not None,
}))
"""


@needs_kernel
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_is_measured_written_with_and_coded_with_as_with_torch(made: Path, precision: str) -> None:
    without = blocked(PROGRAM, made, precision, "auto")
    assert without.returncode == 0, without.stderr
    found = json.loads(without.stdout)
    assert found["back"]
    call = [sys.executable, "-c", PROGRAM, str(made)]
    beside = subprocess.run([*call, precision, "native"], capture_output=True, check=True)
    assert json.loads(beside.stdout) == found | {"torch": False}  # it is there, and is not imported
    by_torch = subprocess.run([*call, "fp32", "torch"], capture_output=True, check=True)
    other = json.loads(by_torch.stdout)
    assert other["torch"]
    assert found["params"] == other["params"]
    assert found["loss_nats"] == pytest.approx(other["loss_nats"], abs=1e-5)
    assert found["windows"] == pytest.approx(other["windows"], abs=1e-5)
    assert found["score"] == pytest.approx(other["score"], abs=1e-4)
    assert found["held"] == other["held"]
    if precision == "fp32":
        assert (found["text"], found["three"]) == (other["text"], other["three"])


@needs_kernel
def test_the_commands_after_training_work_without_torch(made: Path, tmp_path: Path) -> None:
    text, packed, back = made.parent / "text.txt", tmp_path / "a.scz", tmp_path / "a.txt"
    for words in (
        ("info", made),
        ("sample", made, "Once", "--chars", 20),
        ("eval", made, text),
        ("compress", made, text, "--out", packed),
        ("decompress", made, packed, "--out", back),
        ("compare", made, "--text", text, "--no-baselines"),
        ("export", made, tmp_path / "story.c"),
        ("export", made, tmp_path / "story.html"),
        ("inspect", made, text, "--out", tmp_path / "inside.html"),
    ):
        done = command(*words)
        assert done.returncode == 0, (words, done.stderr)
        assert "torch" not in done.stderr
    assert back.read_bytes() == text.read_bytes()


LOOKING = """
import numpy as np
from storycell import api
from storycell.inspect.inspection import Subject, inspect
model = api.load(RUN)
text = 'Tim said, "I like the big red ball." Then he ran to the park with Anna. She was glad.\\n' * 60
ids = np.concatenate([[0], model.vocab.encode(text)]).astype(model.vocab.dtype)
found = inspect(Subject("grammar", model.network, model.vocab, ids))
print(len(found.trace), sorted(found.flows), len(found.latch.holds) > 2)
"""


@needs_kernel
def test_gradients_and_held_units_of_a_report_need_no_torch() -> None:
    done = blocked(f"RUN = {str(GRAMMAR)!r}{LOOKING}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5160 ['RNN at 0.9', 'RNN at 1', 'RNN at 1.1', 'trained', 'untrained'] True\n"


@needs_kernel
@pytest.mark.parametrize("task", ["train", "sample"])
def test_speed_is_measured_without_torch(task: str) -> None:
    """Nothing of torch's is in the figures, and one sentence says why."""
    sizes = ("--hidden", 16, "--embedding", 4, "--chunk", 4, "--streams", 2, "--rounds", 1, "--threads", 1)
    done = command("bench", task, *sizes, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chars_per_s"] > 0
    assert found["ceiling_chars_per_s"] > found["share_of_ceiling"] > 0
    assert found["ceiling"].startswith(("a product of the engine's, ", "a product of numpy's, "))  # the faster one
    absent = ("torch_fp32_chars_per_s", "torch_bf16_chars_per_s", "article_chars_per_s", "ratio_to_best_torch")
    assert [found[name] for name in absent] == [None] * 4
    assert "torch" not in found["machine"]
    assert found["note"].startswith("torch is not installed, ")
    assert "pip install 'storycell[torch]'" in found["note"]
    assert found["note"].count(". ") == 0
    shown = command("bench", task, *sizes, *(["--compile"] if task == "train" else []))
    assert shown.returncode == 0, shown.stderr
    assert found["note"] in shown.stdout
    assert ("torch.compile was left out: torch is not installed" in shown.stdout) == (task == "train")
    assert "torch not installed\n" in shown.stdout


@needs_kernel
@pytest.mark.parametrize("task", ["train", "sample"])
def test_measuring_torchs_backend_says_that_it_needs_torch(task: str) -> None:
    done = command("bench", task, "--backend", "torch")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'storycell[torch]'" in done.stderr


@needs_kernel
def test_one_stream_is_held_against_reading_without_torch() -> None:
    done = command("bench", "sample", "--hidden", 16, "--embedding", 4, "--rounds", 1, "--json")
    assert "numpy's dot product of a near array" in json.loads(done.stdout)["ceiling"]


SERVING = """
import asyncio
import storycell
from support.live_server import in_this_process

async def scene():
    async with in_this_process(storycell.load(sys.argv[1])) as ask:
        plain = await ask("/v1/completions", {"prompt": "Once", "max_tokens": 20, "logprobs": 2})
        hold = [{"name": "c", "layer": 0, "unit": 3, "value": 1.0}]
        held = await ask("/v1/completions", {"prompt": "Once", "max_tokens": 5, "hold": hold})
        following = await ask("/v1/next", {"prompt": "Once", "score": True})
        traced = await ask("/v1/trace", {"prompt": "Once", "layer": 0, "name": "c", "units": [1]})
        for answer in (plain, held, following, traced):
            assert answer.status == 200, answer.content
asyncio.run(scene())
"""


@needs_kernel
def test_a_run_is_served_without_torch(made: Path) -> None:
    pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
    tests = str(Path(__file__).parents[1])
    done = blocked(f"sys.path.insert(0, {tests!r})\n" + SERVING, made)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("storycell.load('demo', backend='torch')", "the backend torch needs torch, which is not installed"),
        ("storycell.load('demo', backend='reference')", "the backend reference needs torch, which is not installed"),
        ("storycell.load('demo', device='cuda')", "the device cuda needs torch, which is not installed"),
        ("storycell.load(sys.argv[1])", "the engine has no cell 'mlstm'"),
    ],
)
def test_what_only_torch_can_do_says_so_in_one_sentence(made: Path, tmp_path: Path, call: str, said: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "vocab.json", "model.safetensors"):
        (run / name).write_bytes((made / name).read_bytes())
    config = json.loads((run / "config.json").read_text())
    config["settings"]["model"]["cell"] = "mlstm"
    (run / "config.json").write_text(json.dumps(config))
    program = f"""
import storycell
try:
    {call}
except storycell.StorycellError as error:
    print(error)
"""
    done = blocked(program, run)
    assert done.returncode == 0, done.stderr
    [sentence] = done.stdout.splitlines()
    assert said in sentence
    assert "pip install 'storycell[torch]'" in sentence


@needs_kernel
def test_the_module_of_a_run_is_torch_s_and_says_so(made: Path) -> None:
    done = blocked("import storycell; storycell.load(sys.argv[1]).lm", made)
    assert "a network as a torch module needs torch, which is not installed" in done.stderr


@pytest.mark.parametrize("name", ["LSTM", "CharLM", "Cell", "register_cell"])
def test_a_public_name_that_needs_torch_says_what_to_install(name: str) -> None:
    done = blocked(f"import storycell; storycell.{name}")
    assert done.returncode == 1
    said = f"storycell.{name} needs torch, which is not installed; pip install 'storycell[torch]' installs it"
    assert done.stderr.splitlines()[-1] == f"storycell.errors.MissingExtraError: {said}"


def test_inspecting_without_matplotlib_is_refused_before_a_run_is_opened() -> None:
    program = "sys.modules['matplotlib'] = None; from storycell.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = blocked(program, "inspect", "no-such-run", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "storycell: `storycell inspect`, which draws figures, needs matplotlib, which is not installed; "
        "pip install 'storycell[figures]' installs it\n"
    )
