"""Models on a hub: pushed in one commit, opened by name, nothing of the user's disk among them.

In processes of their own, because `huggingface_hub` reads where its hub is when it is imported.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.fake_model_hub import TOKEN, FakeModelHub

from storycell.errors import SettingsError
from storycell.runs import hub as runs_hub
from storycell.runs.folder import RunFolder


def ran(hub: FakeModelHub, home: Path, *words: object, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not re.match(r"(?i)HF_|HUGGING|.*_proxy$", name)}
    ours = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "storycell", *map(str, words)]
    return subprocess.run(command, env=kept | ours, capture_output=True, text=True, check=False, timeout=120)


def test_a_run_goes_to_the_hub_and_is_opened_from_there_by_name(tmp_path: Path, made: Path) -> None:
    with FakeModelHub() as hub:
        pushed = ran(hub, tmp_path / "home", "push", made, "ann/tales", "--license", "cc-by-4.0", "--json")
        assert pushed.returncode == 0, pushed.stderr
        assert json.loads(pushed.stdout) == {"address": f"{hub.endpoint}/ann/tales", "name": "hf:ann/tales"}
        assert len(hub.commits) == 1
        files = hub.models["ann/tales"]
        assert set(files) == {"config.json", "vocab.json", "model.safetensors", "metrics.jsonl", "README.md"}
        assert files["model.safetensors"] == (made / "model.safetensors").read_bytes()
        assert str(made.parent).encode() not in b"".join(files.values())
        card = files["README.md"].decode()
        assert card.startswith("---\nlibrary_name: storycell\n")
        assert 'license: "cc-by-4.0"' in card
        assert "nats per character" in card
        words = ("A", "--chars", 40, "--seed", 3)
        there = ran(hub, tmp_path / "home", "sample", "hf:ann/tales", *words)
        here = ran(hub, tmp_path / "home", "sample", made, *words)
        assert there.returncode == 0, there.stderr
        assert there.stdout == here.stdout != ""
        info = ran(hub, tmp_path / "home", "info", "hf:ann/tales", "--json")
        assert info.returncode == 0, info.stderr


def test_what_the_hub_refuses_is_said_in_a_sentence(tmp_path: Path, made: Path) -> None:
    with FakeModelHub() as hub:
        for words, token, code, said in (
            (("sample", "hf:ann/none"), TOKEN, 1, "hf:ann/none could not be fetched because the hub does not have"),
            (("push", made, "ann/tales"), "other", 1, "ann/tales could not be written because the hub answered 401"),
            (("push", made, "tales"), TOKEN, 2, "tales names no model on the hub; it has the form USER/NAME"),
            (("sample", "hf:tales"), TOKEN, 2, "hf:tales names no model on the hub"),
            (("push", tmp_path / "no", "ann/tales"), TOKEN, 1, "there is no run folder"),
        ):
            done = ran(hub, tmp_path / "home", *words, token=token)
            assert (done.returncode, done.stdout) == (code, ""), done.stderr
            assert said in done.stderr
            assert done.stderr.count("\n") == 1
        assert hub.models == {}


@pytest.mark.parametrize("path", ["/home/ann/secret/tales.txt", r"C:\Users\ann\secret\tales.txt", "tales.txt"])
def test_nothing_of_the_users_disk_is_in_a_public_config(made: Path, path: str) -> None:
    config = RunFolder(made).config()
    text = config.text.model_copy(update={"words": [path], "valid_words": [path]})
    config = config.model_copy(update={"text": text, "init": path})
    shown = json.loads(runs_hub.public_config(config))
    assert (shown["text"]["words"], shown["text"]["valid_words"], shown["init"]) == (
        ["tales.txt"],
        ["tales.txt"],
        "tales.txt",
    )
    assert "secret" not in runs_hub.card("ann/tales", config, [], 5)


def test_a_name_that_is_none_is_refused() -> None:
    for name in ("", "a", "a/b/c", "a/b c", "../x", "a/"):
        with pytest.raises(SettingsError, match="USER/NAME"):
            runs_hub.check_name(name, name)
