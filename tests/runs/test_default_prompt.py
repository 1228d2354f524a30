"""A model without a prompt begins as its own texts begin: on the command line, from Python, exported, served."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support import tiny_runs
from support.tiny_runs import command

import storycell
from storycell.data.vocab import BYTES, Vocabulary
from storycell.runs import default_prompt
from storycell.runs.folder import TextRecord

STORIES = "Once upon a time there was a cat.\n"
TEXTS = {
    "chinese": ("春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n" * 40, (), ""),
    "dna": ("ACGTTGCA" * 200, (), ""),
    "names": ("emma\nolivia\nava\n" * 60, (), ""),
    "letters": ("Only a pen puts cats on Oc.\n" * 40, (), ""),  # every letter of the words, and no story
    "stories": (STORIES * 40, (), "Once upon a"),
    "bytes of Chinese": ("春眠不觉晓\n" * 80, ("--vocab", "bytes"), ""),
    "bytes of stories": (STORIES * 40, ("--vocab", "bytes"), "Once upon a"),
}


@pytest.fixture(scope="module", params=TEXTS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of one kind of text, and the prompt that is right for it."""
    text, flags, prompt = TEXTS[request.param]
    folder = tmp_path_factory.mktemp("default")
    (folder / "text.txt").write_text(text, encoding="utf-8")
    words = ["train", str(folder / "text.txt"), "--out", str(folder / "run"), *tiny_runs.FLAGS, *flags]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYCELL_CACHE", str(folder / "cache"))
        assert storycell.cli.main(words) == 0
    return tiny_runs.endless(folder / "run", folder / "endless"), prompt


def test_it_is_that_of_its_text_everywhere(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, prompt = trained
    model = storycell.load(run)
    assert model.default_prompt == prompt
    text = model.generate(chars=20, seed=1)
    assert text == model.generate(prompt, chars=20, seed=1)
    assert text == prompt + "".join(model.stream(chars=20, seed=1))
    outcome = command(capsys, "sample", run, "--chars", 20, "--seed", 1)
    assert (outcome.code, outcome.out, outcome.err) == (0, text + "\n", "")
    model.export(tmp_path / "story.html")
    assert f">{prompt}</textarea>" in (tmp_path / "story.html").read_text(encoding="utf-8")
    if compiler := shutil.which("cc"):
        model.export(tmp_path / "story.c")
        program = tmp_path / "story"
        subprocess.run([compiler, "-O1", str(program) + ".c", "-lm", "-o", program], check=True)
        told = subprocess.run([program, "-n", "20", "-s", "1"], capture_output=True, check=True).stdout
        assert told.decode("utf-8", "replace") == text + "\n"


def test_the_server_tells_its_page(trained: tuple[Path, str]) -> None:
    pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
    from storycell.server.security import ServerSettings
    from storycell.server.service import Service

    run, prompt = trained
    assert Service(storycell.load(run), ServerSettings()).card()["prompt"] == prompt


def test_samples_on_the_way_and_the_next_command_need_no_prompt(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, prompt = trained
    samples = (run / "samples.txt").read_text(encoding="utf-8")
    assert samples.split("──\n", 1)[1].startswith(prompt)
    outcome = command(capsys, "train", "--resume", run, "--steps", 4)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"\n{prompt}")
    following = next(line for line in outcome.err.splitlines() if line.startswith("next: storycell sample"))
    words = following.removeprefix("next: storycell ").partition("   ")[0].split()
    assert words == ["sample", str(run)]
    assert storycell.load(run).default_prompt == prompt  # a run that went on still knows


@pytest.mark.parametrize(
    ("vocab", "tells", "prompt"),
    [
        (Vocabulary(" Oacenopu"), True, "Once upon a"),
        (Vocabulary(" Oacenopu"), False, ""),
        (Vocabulary(" Oacenopu"), None, "Once upon a"),  # of an older version: the vocabulary decides
        (Vocabulary(" acenopu"), None, ""),
        (Vocabulary(" acenopu"), True, ""),  # as an edited config.json may say
        (BYTES, None, "Once upon a"),
    ],
)
def test_a_run_that_does_not_say_goes_by_its_vocabulary(vocab: Vocabulary, tells: bool | None, prompt: str) -> None:
    record = TextRecord(words=["a"], digest="", train_chars=1, valid_chars=0, tells_stories=tells)
    assert default_prompt.default_prompt(vocab, record) == prompt


def test_a_run_of_an_older_version_opens(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "old"
    shutil.copytree(made, run)
    config = json.loads((run / "config.json").read_text())
    assert config["text"].pop("tells_stories") is True
    (run / "config.json").write_text(json.dumps(config))
    assert storycell.load(run).generate(chars=5, seed=1).startswith("Once upon a")
    assert storycell.load("demo").default_prompt == "Once upon a"


@pytest.mark.parametrize("vocab", [Vocabulary(" Oacenopu"), BYTES], ids=["uint8", "uint16"])
def test_a_storys_first_words_are_found_in_ids_and_not_between_them(
    vocab: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = vocab.encode("Once upon a")
    filler = np.full(7, vocab.encode("n")[0], dtype=vocab.dtype)
    assert default_prompt.tells_stories(np.concatenate([filler, words, filler]), vocab)
    assert not default_prompt.tells_stories(np.concatenate([filler, words[:-1], filler]), vocab)
    assert not default_prompt.tells_stories(filler[:0], vocab)
    if vocab.dtype is np.uint16:  # the same bytes, a byte later
        moved = np.frombuffer(b"\1" + words.tobytes() + b"\1", dtype=vocab.dtype)
        assert not default_prompt.tells_stories(moved, vocab)
        assert default_prompt.tells_stories(np.concatenate([moved, words]), vocab)
    monkeypatch.setattr(default_prompt, "SEARCHED", 10)
    assert not default_prompt.tells_stories(np.concatenate([filler, words]), vocab)
