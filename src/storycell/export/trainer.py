"""The page that learns: one file with the engine, a sample of the embedded stories, and a model to start from.

Its content security policy allows its own script and style by their digests, WebAssembly, and a worker that it makes of
its own text; it never uses the network.
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from storycell.atomic import write_atomically
from storycell.data.stories.corpus import generate
from storycell.data.vocab import SEPARATOR, Vocabulary
from storycell.errors import ExportError, SettingsError
from storycell.export.html import digest, script_json
from storycell.language_model import LanguageModel
from storycell.naming import show_name
from storycell.runs import files
from storycell.runs.tensors import pack_tensors
from storycell.web import theme, wasm

SAMPLE_STORIES = 1500
SAMPLE_SEED = 1
CELLS = ("lstm", "gru", "rnn")


@dataclass(frozen=True)
class TrainerPage:
    """A page that was written."""

    file: str
    bytes: int


def export_trainer(model: LanguageModel, vocab: Vocabulary, path: str | Path, *, name: str = "a model") -> TrainerPage:
    """Write the page; a training in it can start from `model`, whose weights are stored in float16."""
    path = Path(path)
    if path.suffix != ".html":
        raise SettingsError(f"{path}: the page that trains is an .html file; name it so")
    if not can_start_from(model, vocab):
        raise ExportError(
            f"the page trains {', '.join(CELLS)} on characters, without n-grams, and {name} is another model; "
            "name another run to start from, such as demo"
        )
    data = write(model, vocab, show_name(name)).encode()
    if path.is_dir():
        raise ExportError(f"{path} is a folder; name a file in it")
    with files.writing(path, "name another file"):
        write_atomically(path, data)
    return TrainerPage(str(path), len(data))


def can_start_from(model: LanguageModel, vocab: Vocabulary) -> bool:
    """Whether a training in the page can start from a model."""
    return model.cell in CELLS and vocab.kind == "characters" and not model.ngrams


def write(model: LanguageModel | None = None, vocab: Vocabulary | None = None, name: str = "") -> str:
    """The text of the page."""
    facts, weights = None, ""
    if model is not None and vocab is not None:
        shape = {"cell": model.cell, "layers": model.num_layers, "units": model.hidden_size}
        shape |= {"embedding": model.embedding_size}
        facts = {"name": name, "characters": vocab.characters, "shape": shape}
        float16 = {key: weight.astype(np.float16) for key, weight in model.weights().items()}
        weights = wasm.deflate(pack_tensors(float16, {}))
    parts = {
        "STYLE": _style(),
        "PAGE": theme.script("web/learn/learn.js"),
        "WORKER": theme.script("web/learn/worker.js"),
    }
    parts |= {
        "POLICY": policy(),
        "DONOR": script_json(facts),
        "WEIGHTS": weights,
        "STORIES": _stories(),
        "ENGINE": wasm.elements(),
    }
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], theme.read("web/learn/learn.html"))


@cache
def policy() -> str:
    """The content security policy of the page, which a server sends with it."""
    script, style = digest(theme.script("web/learn/learn.js")), digest(_style())
    return (
        f"default-src 'none'; script-src {script} 'wasm-unsafe-eval'; style-src {style}; worker-src blob:; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _style() -> str:
    return theme.css("web/story.css", "web/generate.css", "web/learn/learn.css")


@cache
def _stories() -> str:
    """The first embedded stories, as `inflate` of `embedded.js` reads them."""
    return wasm.deflate(f"{SEPARATOR}\n".join(islice(generate(SAMPLE_SEED), SAMPLE_STORIES)).encode())
