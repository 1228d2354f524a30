"""Whatever looks inside, exports and compares works on numpy arrays: torch is behind `nn`, imported when needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "storycell"
MEASURED = (
    "lab/bench/baselines.py",
    "lab/bench/roofline.py",
    "lab/bench/sample.py",
    "lab/bench/train.py",
)  # torch itself
FILES = [
    path
    for folder in ("inspect", "export", "lab")
    for path in sorted((SOURCE / folder).rglob("*.py"))
    if path.relative_to(SOURCE).as_posix() not in MEASURED
]
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from storycell import api
from storycell.inspect.inspection import Subject, inspect
model = api.load("demo")
text = 'Tim said, "I like the big red ball." Then he ran to the park with Anna. She was glad.\\n' * 60
ids = np.concatenate([[0], model.vocab.encode(text)]).astype(model.vocab.dtype)
found = inspect(Subject("demo", model.network, model.vocab, ids))
print(len(found.trace), sorted(found.flows), len(found.latch.holds) > 2)
print(model.export(sys.argv[1]).max_abs_logit_error < 1e-3)
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_torch_is_not_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] == "torch"]


def test_a_report_is_made_and_a_model_exported_without_torch(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "story.c")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "5160 ['RNN at 0.9', 'RNN at 1', 'RNN at 1.1', 'trained', 'untrained'] True"
    assert second == "True"
