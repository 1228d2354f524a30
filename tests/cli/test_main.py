"""The command line as it should be: help, JSON, where text and notes go, scoring, looking."""

import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.instruction_sets import needs_kernel
from support.tiny_runs import FLAGS, TEXT, command, process

import storycell
from storycell import config
from storycell.cli.flags import print_json
from storycell.cli.main import VERBS, main

HELP_S = 0.6  # the aim is 0.3 on a quiet machine; twice that, for one where other things run
HEAVY = ("torch", "matplotlib", "rich", "huggingface_hub", "fastapi", "numpy", "pydantic")
KEYS = {
    "prepare": {"chars", "stories", "bytes_per_s"},
    "train": {
        "run", "params", "step", "chars", "train_nats", "valid_nats", "bits_per_char", "perplexity", "chars_per_s",
        "elapsed_s", "backend", "precision",
    },
    "eval": {"loss_nats", "stderr_nats", "bits_per_char", "bits_per_byte", "perplexity", "chars", "unknown_chars"},
    "sample": {"text", "chars", "chars_per_s", "seed"},
    "info": {"machine", "run"},
}  # fmt: skip


@pytest.fixture
def run(made: Path) -> Path:
    """The run that all tests share, which none here may change; its text lies beside it."""
    return made


# Help and imports


@pytest.mark.soak
def test_help_answers_at_once_and_lists_all_verbs() -> None:
    took = []
    for _ in range(5):
        began = time.monotonic()
        outcome = process("--help")
        took.append(time.monotonic() - began)
        assert outcome.code == 0
        assert outcome.err == ""
        assert all(f"\n  {verb} " in outcome.out for verb in VERBS)
    print(f"storycell --help: {statistics.median(took):.3f} s")
    assert statistics.median(took) < HELP_S


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["trian"], {}),
        ([], {"_STORYCELL_COMPLETE": "bash_complete", "COMP_WORDS": "storycell t", "COMP_CWORD": "1"}),
    ],
)
def test_no_verb_and_nothing_heavy_is_imported_to_list_suggest_or_complete_verbs(
    words: list[str], environment: dict[str, str]
) -> None:
    code = (
        "import sys\nfrom storycell.cli.main import VERBS, main\nmain(sys.argv[1:])\n"
        f"verbs = {{f'storycell.cli.{{verb}}' for verb in VERBS}}\n"
        f"sys.exit(str([name for name in sys.modules if name in verbs | set({HEAVY!r})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=os.environ | environment, check=False
    )
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = command(capsys, verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: storycell {verb} ")
    assert "--json" in outcome.out
    assert outcome.err == ""


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, "--version").out == f"storycell {storycell.__version__}\n"


def test_every_setting_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    said = command(capsys, "train", "--help").out
    for name in config.names():
        assert f" --{name.replace('_', '-')}" in said
    assert all(recipe in said.replace("\n", " ").replace(" ", "") for recipe in config.recipes())


def test_importing_the_package_or_the_command_loads_nothing_heavy() -> None:
    code = f"import sys, storycell, storycell.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@needs_kernel
@pytest.mark.parametrize(
    ("words", "spared"),
    [
        (["sample", "--chars=1"], ["storycell.training.start", "filelock"]),
        (["train", "--help"], []),
        (["train", "--chars=0"], []),
        (["train", "missing.txt"], []),
    ],
)
def test_what_a_verb_does_not_need_is_not_imported_at_its_start(words: list[str], spared: list[str]) -> None:
    """Each of these takes a hundredth of a second or more from the time to the first character or step."""
    late = ["torch", "rich", "ssl", "PIL", "huggingface_hub", "matplotlib", "asyncio", "jinja2", *spared]
    code = (
        "import sys\nfrom storycell.cli.main import main\nmain(sys.argv[1:])\n"
        f"sys.exit(str([name for name in {late!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]"


TO_THE_FIRST_STEP = """
import sys
from storycell.training import trainer

def step(self, stop):
    sys.exit(str([name for name in LATE if name in sys.modules]))

LATE = ["torch", "rich", "ssl", "PIL", "huggingface_hub", "matplotlib", "asyncio", "jinja2"]
trainer.Trainer._step = step
from storycell import api
api.train(out=sys.argv[1], steps=1, hidden=8, embedding=4)
"""


@needs_kernel
def test_a_training_takes_its_first_step_before_anything_draws(tmp_path: Path) -> None:
    call = [sys.executable, "-c", TO_THE_FIRST_STEP, str(tmp_path / "run")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]"


def test_public_names_are_sorted_and_there() -> None:
    capitals = {name for name in storycell.__all__ if name.isupper()}  # first, as ruff sorts them
    assert storycell.__all__ == [*sorted(capitals), *sorted(set(storycell.__all__) - capitals)]
    assert dir(storycell) == sorted(dir(storycell))
    assert set(storycell.__all__) <= set(dir(storycell))
    assert all(getattr(storycell, name) is not None for name in storycell.__all__)
    with pytest.raises(AttributeError, match="module 'storycell' has no attribute 'trian'"):
        storycell.trian  # noqa: B018


# Completion


def test_shells_complete_verbs_flags_choices_and_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offered = {  # what bash is offered for the last word: a type and a value each
        ("com",): ["plain,compress", "plain,compare"],
        ("--ver",): ["plain,--version"],
        ("train", "--hid"): ["plain,--hidden"],
        ("eval", "--precision"): [],
        ("sample", "--unknown", ""): ["plain,error", "plain,replace", "plain,skip"],
        ("sample", "runs/a"): ["file,runs/a"],
    }
    monkeypatch.setenv("_STORYCELL_COMPLETE", "bash_complete")
    for words, wanted in offered.items():
        monkeypatch.setenv("COMP_WORDS", shlex.join(["storycell", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        outcome = command(capsys)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.split() == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_set_up_by_clicks_variable(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_STORYCELL_COMPLETE", f"{shell}_source")
    outcome = command(capsys)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"_STORYCELL_COMPLETE={shell}_complete" in outcome.out


# JSON


def parsed(out: str) -> dict[str, Any]:
    """The one line of standard output, which must be JSON as everybody reads it: without NaN."""
    assert out.count("\n") == 1

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    data = json.loads(out, parse_constant=refuse)
    assert isinstance(data, dict)
    return data


def test_json_has_the_documented_keys_and_nothing_else_is_printed(
    run: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = {
        "prepare": (text, "--out", tmp_path / "prepared"),
        "train": (tmp_path / "prepared", "--out", tmp_path / "run", *FLAGS),
        "eval": (run, text),
        "sample": (run, "--chars", 20),
        "info": (run,),
    }
    for verb, words in calls.items():
        outcome = command(capsys, verb, *words, "--json")
        assert outcome.code == 0, outcome.err
        assert KEYS[verb] <= parsed(outcome.out).keys()


def test_the_numbers_of_training_are_those_of_the_run(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = parsed(command(capsys, "train", text, "--out", tmp_path / "run", *FLAGS, "--json").out)
    scored = parsed(command(capsys, "eval", tmp_path / "run", "--json").out)
    assert told["run"] == str(tmp_path / "run")
    assert (told["step"], told["chars"], told["backend"]) == (3, 3 * 4 * 16, "native")
    assert told["params"] == storycell.load(tmp_path / "run").params
    assert told["valid_nats"] == pytest.approx(scored["loss_nats"])
    assert told["bits_per_char"] == pytest.approx(told["valid_nats"] / math.log(2))
    assert told["perplexity"] == pytest.approx(math.exp(told["valid_nats"]))


def test_numbers_that_are_not_finite_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": math.nan, "b": {"c": [math.inf, 1.5]}, "d": "“"})
    assert parsed(capsys.readouterr().out) == {"a": None, "b": {"c": [None, 1.5]}, "d": "“"}
    print_json({"a": np.array([[0.5, np.inf]]), "b": np.float32("nan"), "c": {1: np.int64(3)}, "d": (True, None)})
    assert parsed(capsys.readouterr().out) == {"a": [[0.5, None]], "b": None, "c": {"1": 3}, "d": [True, None]}


def test_text_goes_to_standard_output_and_notes_to_standard_error(
    run: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = command(capsys, "train", text, "--out", tmp_path / "run", *FLAGS)
    assert trained.out.startswith("\nOnce upon a")
    assert f"next: storycell sample {tmp_path / 'run'}" in trained.err
    assert "nats per character" in trained.err
    sampled = command(capsys, "sample", run, "--chars", 20)
    assert sampled.out.startswith("Once upon a")
    assert sampled.out.endswith("\n")
    assert sampled.err == ""
    prepared = command(capsys, "prepare", text, "--out", tmp_path / "prepared")
    assert prepared.out.count("\n") == 1
    held_out, following = prepared.err.splitlines()
    assert held_out.startswith("held out to validate on: 5.0% of the text, ")
    assert following == f"next: storycell train {tmp_path / 'prepared'}"


# Flags and words


def test_flags_may_stand_anywhere(run: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = command(capsys, "sample", run, "Ann", "--seed", 3, "--chars", 9).out
    assert wanted.startswith("Ann")
    for words in ((run, "--seed", 3, "Ann", "--chars=9"), ("--seed=3", run, "--chars", 9, "Ann")):
        assert command(capsys, "sample", *words).out == wanted
    wanted = command(capsys, "eval", run, text, "--windows", 5).out
    assert command(capsys, "eval", run, "--windows", 5, text).out == wanted
    assert command(capsys, "eval", "--windows", 5, run, text).out == wanted


def test_after_two_dashes_nothing_is_a_flag(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--unknown", "skip", "--chars", 0)
    assert command(capsys, "sample", run, *words, "--", "--seed").out == "seed\n"
    assert command(capsys, "sample", *words, "--", run, "-- a --").out == " a \n"
    command(capsys, "sample", run, "--", "a", "-b").stated(2, "-b")


def test_a_flags_value_may_begin_with_a_hyphen(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (run, "--chars", 0)
    for stop in (("--stop", "-x"), ("--stop", "- a"), ("--stop=--json",), ("--stop", "--nosuch")):
        assert command(capsys, "sample", *words, *stop).out == "Once upon a\n"
    command(capsys, "sample", *words, "--temperature", "-1").stated(2, "temperature", "-1")


@pytest.mark.parametrize(
    ("word", "prompt"),
    [("- Ann", " Ann"), ("--stop it", "stop it"), ("-5", "5"), ("-.5", ".5"), ("-\n", "\n"), ("- ", " ")],
)
def test_a_text_that_no_flag_can_be_needs_no_two_dashes(
    word: str, prompt: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--unknown", "skip", "--chars", 0)
    for words in ((run, word, *flags), (*flags, run, word), (run, *flags, word), (run, *flags, "--", word)):
        assert command(capsys, "sample", *words).out == prompt + "\n"
    command(capsys, "sample", run, word.split()[0] + "x").stated(2, "there is no flag")


def test_no_flag_is_taken_as_another_ones_value(run: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--json", "--stop", "--seed=3", "-h"):
        command(capsys, "sample", run, "--stop", flag).stated(
            2, "'--stop' requires an argument", flag.partition("=")[0]
        )
    command(capsys, "train", text, "--resume", "--no-gate-bias").stated(2, "'--resume'", "--no-gate-bias")


@pytest.mark.parametrize(
    ("words", "closest"),
    [
        ("trian", "train"),
        ("Sample", "sample"),
        ("compres", "compress, compare"),
        ("train --hid 8", "--hidden"),
        ("sample --temprature 1", "--temperature"),
        ("eval --window 3", "--windows"),
    ],
)
def test_the_closest_names_are_suggested(words: str, closest: str, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, *words.split()).stated(2, f"; the closest: {closest}", "; see `storycell ")


def test_of_a_flag_that_is_given_twice_the_last_counts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, "sample", run, "--chars", 7, "--chars", 0).out == "Once upon a\n"


def test_more_cells_are_named_with_commas_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("storycell.lab.reproduce.plan.make", lambda *_, **given: seen.append(given) or sys.exit(3))
    for words, cells in (("gru,mgu", ["gru", "mgu"]), ("gru", ["gru"]), ("", [])):
        with pytest.raises(SystemExit):
            main(["reproduce", "--text", "stories", "--cells", words, "--out", str(tmp_path)])
        assert seen.pop()["more_cells"] == cells


def test_a_validation_text_does_not_swallow_the_text(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    valid = tmp_path / "valid.txt"
    valid.write_text("Once upon a time Ann had 3 red balls.\n" * 5)
    outcome = command(capsys, "train", "--valid", valid, text, "--out", tmp_path / "run", *FLAGS)
    assert outcome.code == 0
    record = storycell.load(tmp_path / "run").config.text
    assert (record.words, record.valid_words) == ([str(text)], [str(valid)])
    said = command(
        capsys, "prepare", "--valid", valid, "--valid", valid, text, "--out", tmp_path / "both", "--json"
    ).out
    assert parsed(said)["valid_chars"] == 2 * len(valid.read_text())


def test_none_switches_a_setting_off(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", text, "--out", tmp_path / "run", *FLAGS, "--clip", "none", "--no-gate-bias")
    assert command(capsys, *words).code == 0
    settings = storycell.load(tmp_path / "run").config.settings
    assert settings.training.clip is None
    assert not settings.model.gate_bias


# Scoring and looking


def test_a_text_that_changed_after_training_is_scored_with_a_note(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command(capsys, "train", text, "--out", run, *FLAGS)
    assert command(capsys, "eval", run).err == ""
    text.write_text(TEXT + "More.\n", encoding="utf-8")
    assert "has changed since the training" in command(capsys, "eval", run).err
    text.unlink()
    command(capsys, "eval", run).stated(1, f"the text of {run}: there is no file", f"`storycell eval {run} TEXT`")


def test_a_text_from_standard_input_is_trained_on_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = process("train", "-", "--out", tmp_path / "run", *FLAGS, "--json", input=TEXT.encode())
    assert trained.code == 0, trained.err
    command(capsys, "eval", tmp_path / "run").stated(1, "standard input, which is gone", "name a text")


def test_unknown_characters_of_a_scored_text_are_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / "strange.txt"
    strange.write_text("Ann had a ball. \u4e2d\u4e2d", encoding="utf-8")
    assert parsed(command(capsys, "eval", run, strange, "--json").out)["unknown_chars"] == 2
    assert "2 characters are unknown" in command(capsys, "eval", run, strange).err


def test_info_shows_the_run_and_the_machine(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = command(capsys, "info").out
    assert "instruction set" in alone
    assert "backend" in alone
    both = command(capsys, "info", run).out
    assert "lstm, 1 x 8, embedding 4" in both
    assert str(run) in both


def test_starting_from_another_run_adds_characters(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new.txt"
    new.write_text("Zoë and Ann. " * 50, encoding="utf-8")
    flags = ("--streams=4", "--chunk=16", "--steps=3", "--threads=1", "--evaluations=1")
    assert command(capsys, "train", new, "--init", run, "--out", tmp_path / "tuned", *flags).code == 0
    before, after = storycell.load(run), storycell.load(tmp_path / "tuned")
    assert set(after.vocab.characters) == set(before.vocab.characters) | set("Zoë and Ann. ")
    assert after.lm.hidden_size == before.lm.hidden_size
    assert command(capsys, "train", "--resume", tmp_path / "tuned", "--steps", 4).code == 0


def test_a_text_of_one_block_has_a_loss_without_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "short.txt").write_text("Once upon a time.")
    done = command(capsys, "eval", "demo", tmp_path / "short.txt")
    assert done.code == 0, done.err
    assert "nan" not in done.out
    assert " nats per character" in done.out.splitlines()[0]
    assert "±" not in done.out
