"""The network of a run: weights, vocabulary and settings together, as everything after training starts from them."""

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from storycell import extras
from storycell.config import ModelSettings
from storycell.context import Context
from storycell.data.vocab import Vocabulary
from storycell.engine import EngineNetwork
from storycell.engine.cells import weight_shapes
from storycell.engine.library import CELLS, GENERATES_IN, isa
from storycell.engine.random import draw_weights
from storycell.errors import BackendError, SettingsError
from storycell.language_model import Floats, LanguageModel
from storycell.runs.folder import RunConfig, RunFolder
from storycell.runs.machine import best_device

GET_TORCH = "`pip install 'storycell[torch]'` installs torch, which has every cell"


@dataclass(frozen=True)
class LoadedRun:
    """What a run folder holds of a model."""

    network: LanguageModel
    vocab: Vocabulary
    config: RunConfig
    path: Path

    @property
    def lm(self) -> Any:
        """The network as a torch module; see `torch_module`."""
        return torch_module(self.network, self.config.settings.model)


def load_run(run: str | Path, *, backend: str = "auto", device: str = "cpu", precision: str = "fp32") -> LoadedRun:
    """The best weights of a run; `demo` is the model in the package, `hf:USER/NAME` one on the hub.

    Nothing is unpickled. `precision` is that of products in generation. Raises `RunFolderError` where a
    file is missing or damaged, `BackendError` where backend, device or precision cannot be had, `MissingExtraError`
    where only torch has them.
    """
    if precision not in GENERATES_IN:
        raise SettingsError(f"precision = {precision!r}: text is generated in {', '.join(GENERATES_IN)}")
    place = best_device(device)
    folder = RunFolder(find_run(run))
    config, vocab = folder.config(), folder.vocab()
    network = _open_network(folder, len(vocab), config.settings.model, backend, place, precision)
    return LoadedRun(network, vocab, config, folder.path)


def find_run(run: str | Path) -> Path:
    """The folder that a word names: `demo`, `hf:USER/NAME`, or a path."""
    if str(run) == "demo" and not Path("demo/config.json").exists():
        return demo_folder()
    if str(run).startswith("hf:"):
        from storycell.runs.hub import fetch

        return fetch(str(run))
    return Path(run)


def _open_network(
    folder: RunFolder, V: int, model: ModelSettings, backend: str, device: str, precision: str
) -> LanguageModel:
    """The network of a folder: the engine computes it where it can, torch otherwise and where it is asked for."""
    obstacle = engine_obstacle(model.cell, backend, device)
    if obstacle is None:
        weights, _ = folder.load_weights(shapes_of(model, V))
        return _engine_network(weights, model, precision)
    _require_torch(backend, obstacle)
    from storycell.nn.adapter import TorchModel
    from storycell.nn.model import CharLM

    # On meta nothing is allocated before the weights are known to fit.
    lm = CharLM.from_settings(V, model, backend=backend, device="meta")
    weights, _ = folder.load_weights(lm.shapes())
    return TorchModel(lm.take(weights).to(device).eval().write_in(precision))


def _engine_network(weights: dict[str, Floats], model: ModelSettings, precision: str) -> EngineNetwork:
    return EngineNetwork(
        weights,
        model.cell,
        ngrams=model.ngrams,
        matches=model.matches,
        gate_norm=model.gate_norm,
        generates_in=precision,
        forget_bias=model.forget_bias,
    )


def shapes_of(model: ModelSettings, V: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights of such a network in the engine, for a vocabulary of V ids."""
    rows = Context(model.ngrams, model.ngram_rows, model.matches, V).rows
    return weight_shapes(V, model.hidden, model.layers, model.cell, model.embedding, model.gate_bias, rows)


def new_model(
    V: int, model: ModelSettings, *, seed: int = 1, backend: str = "auto", precision: str = "fp32"
) -> LanguageModel:
    """A network of these sizes with the weights that `seed` draws, on the CPU; computed as that of a folder is."""
    obstacle = engine_obstacle(model.cell, backend)
    if obstacle is None:
        weights = draw_weights(shapes_of(model, V), model.cell, model.hidden, seed, model.forget_bias)
        return _engine_network(weights, model, precision)
    _require_torch(backend, obstacle)
    from storycell.nn.adapter import TorchModel
    from storycell.nn.model import CharLM

    return TorchModel(CharLM.from_settings(V, model, backend=backend, seed=seed).eval().write_in(precision))


def _require_torch(backend: str, obstacle: str) -> None:
    if not extras.is_installed("torch") and backend in ("auto", "native"):
        raise BackendError(f"without torch the engine has to compute, and it cannot: {obstacle}; {GET_TORCH}")
    extras.require("torch", f"the backend {backend}")


def engine_obstacle(cell: str, backend: str = "auto", device: str = "cpu") -> str | None:
    """Why it is not the engine that computes such a network, None where it is."""
    if backend not in ("auto", "native"):
        return f"{backend} was asked for"
    if device != "cpu":
        return f"the engine runs on the CPU, not on {device}"
    if cell not in CELLS:
        return f"the engine has no cell {cell!r}"
    try:
        isa()
    except (ImportError, RuntimeError) as error:
        return str(error)
    return None


def torch_module(network: LanguageModel, model: ModelSettings) -> Any:
    """The network as a `CharLM`: its own where torch computes it, a copy otherwise, which needs torch."""
    extras.require("torch", "a network as a torch module")
    from storycell.nn.adapter import TorchModel
    from storycell.nn.model import CharLM

    if isinstance(network, TorchModel):
        return network.lm
    lm = CharLM.from_settings(network.vocab_size, model, device="meta").take(network.weights()).eval()
    return lm.write_in(network.generates_in)


def demo_folder() -> Path:
    """The run folder of the model in the package."""
    return Path(str(resources.files("storycell") / "demo"))


def run_name(run: str | Path) -> str:
    """The name of a run's folder, however its path is written: `.`, `..` and `runs/mine/` have one too."""
    return Path(os.path.abspath(run)).name or "run"  # noqa: PTH100 (`resolve` would follow a link to another name)
