"""The script that checks a GPU: its steps on a CPU, and what it says where there is no GPU."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"


@pytest.fixture
def script() -> dict[str, Any]:
    main = runpy.run_path(str(SCRIPT))["main"]
    found: dict[str, Any] = main.__globals__
    return found


def run(script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *words])
    code: int = script["main"]()
    return code


def test_it_trains_measures_goes_on_and_compares_on_a_cpu(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    assert run(script, monkeypatch, "--device", "cpu", "--small", "--out", str(out)) == 0
    kept = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == kept
    assert kept["passed"]
    assert len(kept["checks"]) == 4
    assert all(0 <= found <= most for found, most in kept["checks"].values())
    assert kept["checks"]["loss of a training, whole and resumed"][0] == 0  # a CPU's is the same to the bit
    assert kept["trained"]["step"] == 20
    assert kept["evaluated_chars"] > 5_000
    rates = kept["chars_per_s"]
    assert rates.keys() == {"storycell", "torch_fp32", "torch_bf16"}
    assert kept["ratio_to_best_torch"] == pytest.approx(
        rates["storycell"] / max(rates["torch_fp32"], rates["torch_bf16"]), abs=0.01
    )


def test_without_the_device_it_says_so_in_a_sentence_and_fails(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, monkeypatch, "--device", "cuda:99") == 1
    said = capsys.readouterr().out
    assert said.startswith("Nothing was checked: torch")
    assert "cuda:99" in said
    assert said.count("\n") == 1


def test_a_check_that_fails_is_a_failure(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"checks": {"a loss": (0.5, 0.1)}, "passed": False}
    monkeypatch.setitem(script, "check", lambda *given, **more: dict(figures))
    assert run(script, monkeypatch, "--device", "cpu") == 1
    assert "a loss: 0.5, at most 0.1: FAILED" in capsys.readouterr().out
