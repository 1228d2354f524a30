"""Runs on the Hugging Face hub: `hf:USER/NAME` names one, `push` puts one there.

Only JSON, safetensors and a model card go up or come down, so nothing is ever unpickled. What goes up has
been opened as a run first, so it is whole; the paths of the user's disk that `config.json` holds are cut to names. A
run that came down lies in the hub's cache (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

import json
import re
from pathlib import Path, PureWindowsPath
from typing import Any

from storycell.data.tinystories import failure_reason
from storycell.errors import RunFolderError, SettingsError
from storycell.extras import require
from storycell.loss import bits_per_char, perplexity
from storycell.naming import show_name
from storycell.runs.folder import RunConfig, RunFolder

PREFIX = "hf:"
FILES = ("config.json", "vocab.json", "model.safetensors", "metrics.jsonl")
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_ANSWER_SECONDS = 10.0


def fetch(word: str) -> Path:
    """The folder of the run `hf:USER/NAME`, or `hf:USER/NAME@REVISION`; `RunFolderError` says why there is none."""
    name, _, revision = word.removeprefix(PREFIX).partition("@")
    check_name(name, word)
    require("huggingface_hub", f"opening {word}")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision or None, allow_patterns=list(FILES), etag_timeout=_ANSWER_SECONDS)
        )
    except Exception as error:
        raise RunFolderError(
            f"{word} could not be fetched because {failure_reason(error)}; look at its name, or sign in with `hf auth "
            "login` where it is private"
        ) from error


def check_name(name: str, shown: str) -> None:
    """`SettingsError` if a name is not one of the hub's."""
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{shown} names no model on the hub; it has the form USER/NAME, such as ann/fairy-tales")


def push(folder: RunFolder, params: int, name: str, *, license: str | None = None, private: bool = False) -> str:
    """Put a run's model on the hub as USER/NAME, and return its address there.

    The folder has been opened as a run before, and found whole; `params` is how many parameters it has. `license` is
    that of the text, by the hub's identifiers, such as cc-by-4.0. One commit holds everything, so that
    nobody sees half of a model. Raises `RunFolderError` where the run is damaged or the hub refuses.
    """
    check_name(name, name)
    require("huggingface_hub", "putting a run on the hub")
    from huggingface_hub import CommitOperationAdd, HfApi

    config = folder.config()
    contents = {file: (folder.path / file).read_bytes() for file in FILES if (folder.path / file).is_file()}
    contents["config.json"] = public_config(config)
    contents["README.md"] = card(name, config, folder.metrics(), params, license).encode()
    api = HfApi(library_name="storycell")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.create_commit(
            name,
            [CommitOperationAdd(path_in_repo=path, path_or_fileobj=data) for path, data in contents.items()],
            commit_message=f"Model of {show_name(folder.path.name)}",
        )
    except Exception as error:
        raise RunFolderError(
            f"{name} could not be written because {failure_reason(error)}; sign in with `hf auth login`, with a token "
            "that may write"
        ) from error
    return str(done.repo_url) if done.repo_url else f"{PREFIX}{name}"


def public_config(config: RunConfig) -> bytes:
    """`config.json` without where the texts lie on this disk: their names alone."""
    shown = config.model_dump()
    text = shown["text"]
    for key in ("words", "valid_words"):
        text[key] = [_last_name(word) for word in text[key]] if text.get(key) else text.get(key)
    shown["init"] = _last_name(shown["init"]) if shown.get("init") else None
    return (json.dumps(shown, indent=2, ensure_ascii=False) + "\n").encode()


def _last_name(path: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(path).name or path


def card(name: str, config: RunConfig, metrics: list[dict[str, Any]], params: int, license: str | None = None) -> str:
    """The model card: what was measured, on what, and how it is used. https://huggingface.co/docs/hub/model-cards."""
    network, text = config.settings.model, config.text
    measured = [entry for entry in metrics if entry.get("valid_nats") is not None]
    best = min(measured, key=lambda entry: float(entry["valid_nats"])) if measured else None
    nats = float(best["valid_nats"]) if best else None
    loss = (
        f"{nats:.4f} nats per character ({bits_per_char(nats):.3f} bits, perplexity {perplexity(nats):.2f}) on "
        f"held-out text, after {best['chars']:,} characters"
        if best and nats is not None
        else "not measured"
    )
    shown = ", ".join(show_name(_last_name(word)) for word in text.words)
    rows = {
        "network": f"{network.cell}{' with normalised gates' if network.gate_norm else ''}, "
        f"{network.layers} x {network.hidden}, {params:,} parameters",
        "text": f"{shown}; {text.train_chars:,} characters to train on, {text.valid_chars:,} held out",
        "loss": loss,
        "licence of the text": license or "not stated",
        "trained with": f"storycell {config.versions.get('storycell', '')}, recipe {config.settings.recipe}",
    }
    table = "\n".join(f"| {key} | {show_name(value).replace('|', chr(92) + '|')} |" for key, value in rows.items())
    head = ["---", "library_name: storycell", "pipeline_tag: text-generation", "tags: [lstm, character-level]"]
    head += [f"license: {json.dumps(license)}"] if license else []
    return (
        "\n".join([*head, "---"])
        + f"\n\n# {name.partition('/')[2]}\n\nA recurrent language model by character.\n\n| | |\n|---|---|\n{table}\n\n"
        f'```sh\npip install "storycell[hub]"\nstorycell sample {PREFIX}{name}\n```\n'
    )
