"""`--with-ngram`: its numbers stand apart from the model's own, a seed samples one text, and the text must be there."""

import json
import math
from pathlib import Path

import pytest
from support.tiny_runs import FLAGS, TEXT, command

from storycell.evaluation import evaluator

PLAIN = ("loss_nats", "stderr_nats", "bits_per_char", "bits_per_byte", "perplexity")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    done = command(capsys, "train", text, "--out", tmp_path / "run", *FLAGS)
    assert done.code == 0, done.err
    return tmp_path / "run"


def test_the_mixed_loss_is_reported_beside_the_plain_one_and_lower(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = json.loads(command(capsys, "eval", run, "--json").out)
    mixed = json.loads(command(capsys, "eval", run, "--with-ngram", "--json").out)
    assert {name: mixed[name] for name in PLAIN} == {name: plain[name] for name in PLAIN}
    assert not any(name.startswith("mixed") for name in plain)
    assert set(mixed) - set(plain) == {f"mixed_{name}" for name in PLAIN}
    assert mixed["mixed_loss_nats"] < plain["loss_nats"] - 1  # after three steps the network knows nothing
    assert mixed["mixed_stderr_nats"] > 0
    said = command(capsys, "eval", run, "--with-ngram").out
    assert f"with ngram  {mixed['mixed_loss_nats']:.4f} ± {mixed['mixed_stderr_nats']:.4f}" in said


def test_nothing_is_fitted_on_the_text_that_is_scored(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever text is scored, what the weights are fitted on is the same."""
    fitted_on = []
    score = evaluator.score
    monkeypatch.setattr(evaluator, "score", lambda lm, ids, **more: (fitted_on.append(ids), score(lm, ids, **more))[1])
    other = run.parent / "other.txt"
    other.write_text("A cat said 'Good!' to Ann.", encoding="utf-8")
    command(capsys, "eval", run, "--with-ngram")
    command(capsys, "eval", run, other, "--with-ngram")
    assert len(fitted_on) == 2
    assert fitted_on[0].tolist() == fitted_on[1].tolist()


def test_the_loss_while_adapting_is_what_compressing_takes_and_stands_apart(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run.parent / "other.txt"
    other.write_text("Once upon a time Ann had 7 “red” balls.\n<|endoftext|>\n" * 40, encoding="utf-8")
    plain = json.loads(command(capsys, "eval", run, other, "--json").out)
    told = json.loads(command(capsys, "eval", run, other, "--adapt", "--json").out)
    assert told["loss_nats"] == plain["loss_nats"]
    assert set(told) - set(plain) == {"adapted_loss_nats", "adapted_stderr_nats"}
    packed = json.loads(command(capsys, "compress", run, other, "--adapt", "--json").out)
    predicted_bytes = told["adapted_loss_nats"] * told["chars"] / math.log(2) / 8
    assert abs(packed["bytes_out"] - predicted_bytes) < 0.01 * predicted_bytes + 80
    both = json.loads(command(capsys, "eval", run, other, "--adapt", "--with-ngram", "--json").out)
    assert both["adapted_loss_nats"] < both["mixed_loss_nats"] < told["loss_nats"]
    command(capsys, "eval", run, other, "--adapt", "--windows", 9).stated(2, "--adapt", "--windows")


def test_a_seed_samples_one_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("sample", run, "Once upon", "--with-ngram", "--chars", 30, "--temperature", 1, "--json")
    texts = [json.loads(command(capsys, *words, "--seed", seed).out)["text"] for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("Once upon")


def test_a_training_text_that_is_gone_is_a_stated_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run.parent / "other.txt"
    other.write_text(TEXT, encoding="utf-8")
    (run.parent / "text.txt").unlink()
    failed = command(capsys, "eval", run, other, "--with-ngram")
    assert failed.code == 1
    assert failed.out == ""
    assert "is needed for its n-gram" in failed.err
    assert "put the text back, or leave --with-ngram out" in failed.err
