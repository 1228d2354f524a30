"""Export to a folder that is an ES module with types: a model and the engine as text, for Node, browsers and bundlers.

Its code is that of the npm package (`web/model.js`), with an index of its own (`npm_index.js`). The model lies in it as
a run folder does, with no more of the configuration than is needed to generate: nothing says where a text lay.
"""

import base64
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from storycell import atomic, quantized
from storycell.config import ModelSettings
from storycell.data.pieces import character_classes
from storycell.data.vocab import Vocabulary
from storycell.engine.cells import CELLS
from storycell.errors import ExportError, SettingsError
from storycell.export import check
from storycell.export.encoding import Weights, check_rounding
from storycell.export.export import Export, largest, probe, run_logits
from storycell.export.network import Network
from storycell.language_model import LanguageModel
from storycell.naming import show_name
from storycell.runs import files
from storycell.runs.network import new_model
from storycell.runs.tensors import pack_tensors
from storycell.web import theme, wasm

_LIB = (
    "model.js",
    "model.d.ts",
    "engine.js",
    "pieces.js",
    "learn/blake2b.js",
    "learn/corpus.js",
    "learn/run_folder.js",
)
_RUN = """// The model: the files of a run folder that it is loaded from.
const bytes = (text) => Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0));
export const name = @NAME@;
export const prompt = @PROMPT@;
const config = @CONFIG@;
const vocab = @VOCAB@;
const weights = "@WEIGHTS@";
const encoder = new TextEncoder();
export const files = () => ({
  "config.json": encoder.encode(JSON.stringify(config)),
  "vocab.json": encoder.encode(JSON.stringify(vocab)),
  "model.safetensors": bytes(weights),
});
"""
_README = """# @NAME@

@ABOUT@ A language model of @IDS@, made with storycell, as an ES module with types. It holds the model and the
engine (WebAssembly); nothing is fetched, and there are no dependencies.

```js
import { generate, stream } from "@PACKAGE@"; // after `npm install ./@FOLDER@`; or from "./@FOLDER@/index.js"

console.log(await generate(@PROMPT@, { chars: 300, temperature: 0.8, seed: 1 }));
for await (const character of stream("", { precision: "int8" })) console.log(character);
```
@LABELS@
One seed gives the text that it gives in `storycell sample`. `load()` gives the model, which also has `trace`.

The code is storycell's, under the MIT licence. Whose the model is depends on its text: say so in `package.json`.
"""


def export_npm(
    model: LanguageModel,
    vocab: Vocabulary,
    folder: str | Path,
    weights: str | None = None,
    *,
    name: str = "a model",
    prompt: str = "",
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Export:
    """Write a package into a folder that is not there yet or empty; `weights` is fp16 (the default) or fp32.

    With fp16 the table of a context is stored in bytes. Read back and compared, as `export` does. Raises `ExportError`,
    also for models that are no `CELLS` of characters.
    """
    folder, name = Path(folder).resolve(), show_name(name)
    chosen = "fp16" if weights is None else check_rounding(weights)
    if chosen == "int8":
        raise SettingsError('a package stores fp16 or fp32; whole numbers are its option `precision: "int8"`')
    if model.cell not in CELLS or vocab.kind == "bytes":
        raise ExportError(
            f"a package generates with {', '.join(CELLS)} on characters or pieces of words, and {name} is another "
            "model; name another run"
        )
    Network.of(model)  # refuses weights that are not finite
    params = sum(weight.size for weight in model.weights().values())
    settings: dict[str, Any] = {"cell": model.cell, "layers": model.num_layers, "hidden": model.hidden_size}
    settings |= {"embedding": model.embedding_size, "ngrams": model.context.ngrams, "matches": model.context.matches}
    if model.gate_norm:
        settings["gate_norm"] = True
    settings["gate_bias"] = "recurrent.bias_ih_l0" in model.weights()
    if model.context.ngrams:
        settings["ngram_rows"] = model.context.ngram_rows
    given = model.weights() if chosen == "fp32" else quantized.in_bytes(model.weights())
    stored = {key: _stored(weight, chosen) for key, weight in given.items()}
    parts = {
        "NAME": json.dumps(name),
        "PROMPT": json.dumps(prompt),
        "CONFIG": json.dumps({"settings": {"model": settings}, "text": {"labels": labels or {}}}),
        "VOCAB": _vocabulary(vocab),
        "WEIGHTS": base64.b64encode(pack_tensors(stored, {})).decode(),
    }
    about = f"{model.cell.upper()}, {model.num_layers} × {model.hidden_size}, {params:,} parameters."
    texts = {f"lib/{path}": theme.read(f"web/{path}") for path in _LIB}
    texts |= {
        "index.js": theme.read("export/npm_index.js"),
        "index.d.ts": theme.read("export/npm_index.d.ts"),
        "lib/modules.js": _modules(),
        "lib/run.js": re.sub("@([A-Z]+)@", lambda found: parts[found[1]], _RUN),
        "package.json": json.dumps(_package(_package_name(folder), f"{name}: {about}"), indent=2) + "\n",
        "README.md": _readme(name, about, folder, prompt, labels or {}, vocab),
    }
    rounded = {key: np.asarray(w, np.float32) for key, w in quantized.from_bytes(stored).items()}
    ids = probe(model)
    run, expected = run_logits(model, ids), run_logits(model.with_weights(rounded), ids)

    def error_of(path: Path) -> float:
        read_back = _read(path / "lib" / "run.js", model.backend)
        return largest(np.array([check.logits(read_back, row) for row in ids]), expected)

    error = _write(folder, texts, error_of, expected)
    size = sum(len(text.encode()) for text in texts.values())
    return Export(str(folder), size, chosen, error, largest(expected, run))


def _vocabulary(vocab: Vocabulary) -> str:
    """`vocab.json`; with pieces also what Python takes each character for, as engines differ in their tables."""
    if vocab.kind != "pieces":
        return vocab.to_json().strip()
    return json.dumps({**json.loads(vocab.to_json()), "classes": character_classes(vocab.characters)})


def _stored(weight: npt.NDArray[Any], weights: Weights) -> npt.NDArray[Any]:
    is_matrix = weight.ndim > 1 and weight.dtype != np.int8
    return weight.astype(np.float16) if is_matrix and weights == "fp16" else weight


def _package_name(folder: Path) -> str:
    """A name that npm takes, made from the folder's."""
    return re.sub(r"[^a-z0-9._~-]+", "-", folder.name.lower()).strip("-._~") or "model"


def _package(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0.0",
        "description": description,
        "type": "module",
        "exports": {".": {"types": "./index.d.ts", "default": "./index.js"}},
        "types": "./index.d.ts",
        "files": ["index.js", "index.d.ts", "lib"],
        "sideEffects": False,
        "engines": {"node": ">=20"},
    }


def _modules() -> str:
    """The engine's modules as text, as `build.mjs` of the npm package writes them."""
    named = {"simd": "engine.wasm", "relaxed": "engine-relaxed.wasm"}
    packed = {key: base64.b64encode(wasm.read(name)).decode() for key, name in named.items()}
    return "".join(f'export const {key} = "{text}";\n' for key, text in packed.items())


def _readme(
    name: str, about: str, folder: Path, prompt: str, labels: Mapping[str, Sequence[str]], vocab: Vocabulary
) -> str:
    said = ""
    if labels:
        known = [f"`{label}`" + (f" ({', '.join(values[:20])})" if values else "") for label, values in labels.items()]
        asked = {label: values[0] if values else "…" for label, values in labels.items()}
        said = f'\nIt knows labels: {"; ".join(known)}, as in `generate("", {{ labels: {json.dumps(asked)} }})`.\n'
    parts = {"NAME": " ".join(name.split()), "ABOUT": about, "PACKAGE": _package_name(folder), "LABELS": said}
    parts["IDS"] = "pieces of words" if vocab.kind == "pieces" else "characters"
    parts |= {"FOLDER": folder.name, "PROMPT": json.dumps(prompt)}
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], _README)


def _read(path: Path, backend: str) -> Network:
    """The network in a package, from the file of its model alone."""
    text = path.read_text(encoding="utf-8")
    config, vocab, weights = (
        json.loads(re.search(rf"^const {name} = (.*);$", text, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("config", "vocab", "weights")
    )
    sizes = {"ngram_rows": 1, **config["settings"]["model"]}
    tensors = quantized.from_bytes(safetensors.numpy.load(base64.b64decode(weights)))
    named = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    count = len(Vocabulary.from_json(json.dumps(vocab)))
    made = new_model(count, ModelSettings(**sizes), backend=backend)
    return Network.of(made.with_weights(named))


def _write(folder: Path, texts: Mapping[str, str], error_of: Callable[[Path], float], expected: check.Float) -> float:
    """Write the files beside the folder, read them back, and let them have its name only if they are the model."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ExportError(f"{folder} is there already; name a folder that is not, or is empty")
        part = atomic.temporary_name(folder)
        shutil.rmtree(part, ignore_errors=True)
        try:
            for name, text in texts.items():
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode())
            error = error_of(part)
            check.require_close(folder, error, expected)
            if folder.exists():
                folder.rmdir()
            atomic.put_in_place(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as problem:
        raise ExportError(f"{folder} cannot be written: {files.reason(problem)}") from None
    return error
