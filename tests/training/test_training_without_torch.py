"""Without torch: texts are prepared, networks trained, resumed, evaluated and sampled; what needs torch says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from storycell.runs import machine

HEAVY = ("torch", "matplotlib", "huggingface_hub")
BLOCKED = f"import sys; sys.modules |= dict.fromkeys({HEAVY}); "  # None there makes an import fail
COMMAND = BLOCKED + "from storycell.cli.main import main; sys.exit(main(sys.argv[1:]))"
NETWORK = ["--hidden=12", "--embedding=4", "--layers=2", "--streams=4", "--chunk=16", "--evaluations=2", "--threads=1"]
EVERYTHING = ["--dropout=0.1", "--weight-dropout=0.1", "--embedding-dropout=0.1", "--reset=0.1", "--average=0.9"]


def told(*words: object) -> subprocess.CompletedProcess[str]:
    """How the command ended in a Python that has none of what is heavy."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )


def answer(*words: object) -> dict[str, object]:
    """The JSON that the command prints."""
    done = told(*words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_run_is_trained_resumed_evaluated_and_sampled(cell: str, story_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun = answer("train", story_file, "--out", run, "--cell", cell, "--steps=30", *NETWORK, *EVERYTHING)
    assert (begun["step"], begun["processes"], begun["skipped"]) == (30, 1, 0)
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    gone_on = answer("train", "--resume", run, "--steps=60")
    assert gone_on["step"] == 60
    measured = answer("eval", run)
    assert measured["loss_nats"] == pytest.approx(gone_on["valid_nats"], abs=1e-6)
    assert answer("sample", run, "Once", "--chars=20", "--seed=3", "--greedy")["text"]
    onwards = answer("train", story_file, "--out", tmp_path / "more", "--init", run, "--steps=3")
    assert onwards["params"] == begun["params"]


def test_a_text_is_prepared_and_trained_on_with_muon_by_the_recipe_best(story_file: Path, tmp_path: Path) -> None:
    assert answer("prepare", story_file, "--out", tmp_path / "tokens")["stories"] == 120
    words = ["--recipe=best", "--hidden=16", "--optimizer=muon", "--streams=4", "--chunk=16", "--steps=10"]
    assert answer("train", tmp_path / "tokens", "--out", tmp_path / "run", *words)["step"] == 10


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--cell=mlstm"], ["mlstm", "storycell[torch]"]),
        (["--backend=torch"], ["torch", "storycell[torch]"]),
        (["--backend=reference"], ["reference", "storycell[torch]"]),
        (["--device=cuda"], ["cuda", "storycell[torch]"]),
    ],
)
def test_what_needs_torch_says_so_in_one_sentence(
    words: list[str], parts: list[str], story_file: Path, tmp_path: Path
) -> None:
    done = told("train", story_file, "--out", tmp_path / "run", "--steps=3", *words)
    assert done.returncode == 1
    *_, message = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    for part in ["storycell: ", *parts]:
        assert part in message
    assert not (tmp_path / "run").exists()


def test_several_processes_need_torch_and_say_so(story_file: Path, tmp_path: Path) -> None:
    launched = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    code = f"import os; os.environ |= {launched}; {COMMAND}"
    words = [sys.executable, "-c", code, "train", str(story_file), "--out", str(tmp_path / "run"), "--steps=3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "training in several processes needs torch" in done.stderr
    assert "Traceback" not in done.stderr


IMPORTED = """
import sys
import storycell
first = [name for name in sys.modules if name.split(".")[0] in ("numpy", "pydantic", "rich", "torch", "PIL")]
import storycell.training.start, storycell.training.engine_learner, storycell.api
late = [name for name in ("torch", "matplotlib", "PIL", "huggingface_hub", "pydivsufsort") if name in sys.modules]
print(first, late)
"""


def test_importing_storycell_imports_nothing_and_training_nothing_that_is_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


def test_a_training_on_the_processor_does_not_import_torch_where_it_is_installed(
    story_file: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from storycell.cli.main import main; code = main(sys.argv[1:]); "
        "print('torch' in sys.modules); sys.exit(code)"
    )
    words = ["train", story_file, "--out", tmp_path / "run", "--steps=3", *NETWORK, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("driver", ["nvidiactl", "kfd", "dxg"])
def test_torch_is_asked_for_a_gpu_where_there_is_a_driver(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(machine.metadata, "version", lambda name: "2.13.0+cu130")
    monkeypatch.setattr(sys, "platform", "linux")
    assert not machine._may_have_gpu(tmp_path)
    (tmp_path / driver).touch()
    assert machine._may_have_gpu(tmp_path)
    monkeypatch.setattr(machine.metadata, "version", lambda name: "2.13.0+cpu")
    assert not machine._may_have_gpu(tmp_path)


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["inspect", "demo", "--out", "page.html"], "figures"),
        (["compare", "demo", "--text", "small.txt", "--out", "page.html"], "figures"),
        (["train", "tinystories"], "hub"),
    ],
)
def test_what_needs_an_extra_names_it_before_it_does_any_work(words: list[str], extra: str, story_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=False, cwd=story_file.parent
    )
    assert (done.returncode, done.stdout) == (1, "")
    (message,) = done.stderr.splitlines()
    assert f"pip install 'storycell[{extra}]'" in message
