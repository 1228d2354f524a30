"""storycell's models through `llm`: what they generate is what storycell generates."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import storycell

pytest.importorskip("llm", reason="llm is not installed")

import llm
import llm_storycell
from click.testing import CliRunner
from llm.cli import cli
from llm.plugins import pm

PLUGIN = Path(llm_storycell.__file__).parent
DEMO = Path(storycell.__file__).parent / "demo"
PROMPT = "Once upon a"


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The plugin, as if it were installed."""
    pm.register(llm_storycell)
    llm_storycell.register_commands(cli)
    yield
    pm.unregister(llm_storycell)
    cli.commands.pop("storycell")


def run(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def refusal(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 1
    return done.output


def test_an_answer_is_what_follows_the_prompt_from_the_same_seed() -> None:
    model = storycell.load()
    found = llm.get_model("storycell/demo").prompt(PROMPT, chars=80, seed=3).text()
    assert PROMPT + found == model.generate(PROMPT, 80, seed=3, temperature=0.8)
    options = {"temperature": 0.6, "top_k": 9, "top_p": 0.9, "min_p": 0.01}
    found = llm.get_model("storycell/demo").prompt(PROMPT, chars=80, seed=4, **options).text()
    assert PROMPT + found == model.generate(PROMPT, 80, seed=4, **options)
    greedy = llm.get_model("storycell/demo").prompt(PROMPT, chars=60, temperature=0).text()
    assert PROMPT + greedy == model.generate(PROMPT, 60, greedy=True)


def test_it_streams_and_counts_characters() -> None:
    response = llm.get_model("storycell/demo").prompt(PROMPT, chars=60, seed=1)
    pieces = list(response)
    assert len(pieces) > 3
    assert "".join(pieces) == response.text()
    assert (response.usage().input, response.usage().output) == (len(PROMPT), len(response.text()))


def test_a_conversation_is_one_text_that_goes_on() -> None:
    talk = llm.get_model("storycell/demo").conversation()
    first = talk.prompt(PROMPT, system="A story.", chars=30, seed=1, unknown="skip").text()
    second = talk.prompt("Then Tim", chars=30, seed=2, unknown="skip").text()
    text = f"A story.\n{PROMPT}{first}\nThen Tim"
    assert text + second == storycell.load().generate(text, 30, seed=2, temperature=0.8)


def test_stops_patterns_and_other_options_do_what_they_say() -> None:
    model = llm.get_model("storycell/demo")
    assert "." not in model.prompt(PROMPT, chars=300, seed=1, stop=".").text()
    found = model.prompt("The", chars=30, seed=1, match="The [a-z]+ (cat|dog)[.!]").text()
    assert re.fullmatch("The [a-z]+ (cat|dog)[.!]", "The" + found)
    assert model.prompt(PROMPT, chars=20, temperature=0, precision="int8").text()
    with_speakers = model.prompt("Hello", chars=20, seed=1, speakers="Tim:Sue").text()
    text = "Tim: Hello\nSue: "
    free = storycell.load().generate(text, 20, seed=1, temperature=0.8).removeprefix(text)
    assert with_speakers == re.split("\nTim:|\nSue:", free)[0]


def test_labels_choose_what_is_generated() -> None:
    rows = [f"{letter}{'bc'[k % 2] * (k % 5 + 1)},{name}" for k in range(60) for letter, name in ("af", "zi")]
    Path("spells.csv").write_text("\n".join(["name,school", *rows]) + "\n")
    network = {"hidden": 16, "embedding": 8, "streams": 8, "evaluations": 1, "threads": 1, "quiet": True}
    how = {"column": "name", "labels": ["school"], "recipe": "items", "chars": 60_000, "lr": 2e-2}
    made = storycell.train("spells.csv", out="runs/spells", **how, **network)
    assert made.path.resolve() == Path("runs/spells").resolve()
    model = llm.get_model("storycell/spells")  # found in runs/
    for school, letter in (("f", "a"), ("i", "z")):
        found = model.prompt("", chars=12, seed=1, labels=f"school={school}").text()
        assert found[:1] == letter
    with pytest.raises(llm.ModelError, match="school=ice,level=1"):
        model.prompt("", labels="ice").text()


def test_errors_are_one_sentence() -> None:
    with pytest.raises(llm.ModelError, match="does not know '漢'"):
        llm.get_model("storycell/demo").prompt("漢").text()
    Path("runs/broken").mkdir(parents=True)
    Path("runs/broken/model.safetensors").write_text("")
    with pytest.raises(llm.ModelError, match="broken"):
        llm.get_model("storycell/broken").prompt("a").text()


def test_runs_are_added_under_a_name_and_removed() -> None:
    shutil.copytree(DEMO, "elsewhere/book")
    assert run("storycell", "add", "elsewhere/book") == "llm -m storycell/book\n"
    assert run("storycell", "add", "elsewhere/book", "other") == "llm -m storycell/other\n"
    assert llm_storycell.added() == {name: str(Path("elsewhere/book").resolve()) for name in ("book", "other")}
    listed = run("models", "-q", "storycell")
    assert [f"storycell/{name}" in listed for name in ("demo", "book", "other")] == [True] * 3
    text = run("-m", "storycell/book", "--no-log", PROMPT, "-o", "chars", 40, "-o", "seed", 5)
    assert PROMPT + text.removesuffix("\n") == storycell.load().generate(PROMPT, 40, seed=5, temperature=0.8)
    run("storycell", "remove", "book")
    assert set(llm_storycell.added()) == {"other"}
    assert "no model book was added; there are other" in refusal("storycell", "remove", "book")
    assert "nowhere" in refusal("storycell", "add", "nowhere")
    for text in ("{", "[]"):
        llm_storycell.added_file().write_text(text)
        with pytest.raises(Exception, match="is no JSON object; correct or remove it"):
            llm_storycell.added()


def test_models_on_the_hub_are_kept_by_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(storycell, "load", lambda run, **_: asked.append(run))
    assert run("storycell", "add", "hf:ann/tales") == "llm -m storycell/tales\n"
    assert (asked, llm_storycell.added()) == (["hf:ann/tales"], {"tales": "hf:ann/tales"})


def test_installed_it_is_found_by_llm(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "tests"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path / "site", source], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    words = [sys.executable, "-m", "llm", "-m", "storycell/demo", PROMPT, "-o", "seed", "2", "-o", "chars", "50"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = storycell.load().generate(PROMPT, 50, seed=2, temperature=0.8)
    assert PROMPT + done.stdout.removesuffix("\n") == expected


def test_registering_imports_nothing_of_storycell() -> None:
    program = (
        "import sys, llm_storycell; models = []; llm_storycell.register_models(models.append); "
        "print(len(models), [name for name in ('storycell', 'torch') if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(PLUGIN)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1 []\n"
