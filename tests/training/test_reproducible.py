"""The same seed gives the same numbers in every Python process: nothing depends on how Python hashes strings."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "storycell"
SETS = ("set", "frozenset")
IN_ORDER = ("list", "tuple", "enumerate", "iter", "map", "zip", "dict", "join")  # what passes the order of a set on
TRAINED = """
import sys, numpy as np, torch
from storycell.config import TrainSettings
from storycell.data import batches
from storycell.nn.model import CharLM
from storycell.training.torch_learner import TorchLearner
from storycell.training.trainer import Trainer

torch.set_num_threads(1)
for cell in ("lstm", "gru", "mlstm"):
    chosen = TrainSettings.model_validate({"streams": 4, "chunk": 10, "steps": 3, "precision": "fp32"})
    lm = CharLM(6, 9, 2, cell, embedding_size=4, weight_dropout=0.3, embedding_dropout=0.2, dropout=0.2)
    ids = np.array([0, *([2, 3, 4, 5, 3, 2] * 300)], dtype=np.uint8)
    trainer = Trainer(TorchLearner(lm, chosen), batches.make(ids, chosen), chosen)
    print(cell, [report.train_nats.hex() for report in trainer.reports()])
"""


def trained(hash_seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, env=environment, check=True)
    return done.stdout


def test_dropout_draws_the_same_whatever_pythons_hash_seed_is() -> None:
    first = trained(0)
    assert first.count("0x1.") == 9
    assert trained(2) == first  # of two names in a set, these two seeds give another one first


def _is_set(node: ast.expr) -> bool:
    """Whether an expression is a set as it is written."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in SETS
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor | ast.Sub):
        return any(_is_set(side) or _is_keys(side) for side in (node.left, node.right))
    return False


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"


def _unordered(tree: ast.AST) -> list[int]:
    """The lines in which the order of a set decides what comes first."""
    found = []
    for node in ast.walk(tree):
        walked: list[ast.expr] = []
        if isinstance(node, ast.For | ast.comprehension):
            walked = [node.iter]
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            walked = node.args if name in IN_ORDER else []
        found += [one.lineno for one in walked if _is_set(one)]
    return found


@pytest.mark.parametrize("code", ["for x in a.keys() & {1}: pass", "[x for x in set(a)]", "list({*a})", "s.join({a})"])
def test_the_order_of_a_set_is_seen(code: str) -> None:
    assert _unordered(ast.parse(code)) == [1]
    assert _unordered(ast.parse("for x in sorted(set(a)): pass")) == []


def test_no_module_goes_by_the_order_of_a_set() -> None:
    found = {
        f"{path.relative_to(SOURCE)}:{line}"
        for path in SOURCE.rglob("*.py")
        for line in _unordered(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(), f"{sorted(found)}: sort it, or walk a dict"
