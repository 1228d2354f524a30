"""The page that learns: one file with the engine, a sample of the embedded stories, and a model to start from.

Its content security policy allows its own script and style by their digests, WebAssembly, and a worker that it makes of
its own text; it never uses the network.
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell import quantized
from storycell.atomic import write_atomically
from storycell.data.stories.corpus import generate
from storycell.data.vocab import SEPARATOR, Vocabulary
from storycell.engine.cells import CELLS
from storycell.errors import ExportError, SettingsError
from storycell.export.html import digest, script_json
from storycell.language_model import LanguageModel
from storycell.naming import show_name
from storycell.runs import files
from storycell.runs.tensors import pack_tensors
from storycell.web import theme, wasm

SAMPLE_STORIES = 1500
SAMPLE_SEED = 1


@dataclass(frozen=True)
class TrainerPage:
    """A page that was written."""

    file: str
    bytes: int


def export_trainer(model: LanguageModel, vocab: Vocabulary, path: str | Path, *, name: str = "a model") -> TrainerPage:
    """Write the page; a training in it can start from `model`, whose weights are stored in float16.

    The table of a context is stored in bytes.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise SettingsError(f"{path}: the page that trains is an .html file; name it so")
    if not can_start_from(model, vocab):
        raise ExportError(
            f"the page trains {', '.join(CELLS)} on characters, and {name} is another model; "
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
    return model.cell in CELLS and vocab.kind == "characters"


def write(
    model: LanguageModel | None = None, vocab: Vocabulary | None = None, name: str = "", text: str | None = None
) -> str:
    """The text of the page; `text` is one that stands in its box, beside the stories and the names."""
    facts, weights = None, ""
    if model is not None and vocab is not None:
        shape = {"cell": model.cell, "layers": model.num_layers, "units": model.hidden_size}
        weights_by_name = quantized.in_bytes(model.weights())
        shape |= {"embedding": model.embedding_size, "gateNorm": model.gate_norm}
        if met := model.context:
            shape |= {"ngrams": met.ngrams, "ngramRows": met.ngram_rows, "matches": met.matches}
        facts = {"name": name, "characters": vocab.characters, "shape": shape}
        weights = wasm.deflate(pack_tensors({key: _rounded(w) for key, w in weights_by_name.items()}, {}))
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
        "OWN": wasm.deflate(text.encode()) if text else "",
        "ENGINE": wasm.elements(),
    }
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], theme.read("web/learn/learn.html"))


def _rounded(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As the page stores it: in float16, but for the table of a context, which is in bytes."""
    return weight if weight.dtype == np.int8 else weight.astype(np.float16)


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
