"""The network of a run: weights, vocabulary and settings together, as everything after training starts from them."""

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from storycell.config import ModelSettings
from storycell.data.vocab import Vocabulary
from storycell.language_model import LanguageModel
from storycell.nn.model import CharLM
from storycell.runs.folder import RunConfig, RunFolder
from storycell.runs.machine import best_device


@dataclass(frozen=True)
class LoadedRun:
    """What a run folder holds of a model."""

    lm: CharLM
    vocab: Vocabulary
    config: RunConfig
    path: Path


def load_run(run: str | Path, *, backend: str = "auto", device: str = "cpu") -> LoadedRun:
    """The best weights of a run, in `eval` mode; `demo` is the model in the package. Nothing is unpickled.

    Raises `RunFolderError` where a file is missing or damaged, `BackendError` where backend or device cannot be had.
    """
    place = best_device(device)
    folder = RunFolder(demo_folder() if str(run) == "demo" and not Path("demo/config.json").exists() else run)
    config, vocab = folder.config(), folder.vocab()
    # On meta nothing is allocated before the weights are known to fit.
    lm = CharLM.from_settings(len(vocab), config.settings.model, backend=backend, device="meta")
    folder.load_weights(lm)
    return LoadedRun(lm.to(place).eval(), vocab, config, folder.path)


def demo_folder() -> Path:
    """The run folder of the model in the package."""
    return Path(str(resources.files("storycell") / "demo"))


def run_name(run: str | Path) -> str:
    """The name of a run's folder, however its path is written: `.`, `..` and `runs/mine/` have one too."""
    return Path(os.path.abspath(run)).name or "run"  # noqa: PTH100 (`resolve` would follow a link to another name)


def new_model(vocab_size: int, settings: ModelSettings, *, seed: int = 1, backend: str = "auto") -> LanguageModel:
    """A model of these sizes with the weights that `seed` draws."""
    from storycell.nn.adapter import TorchModel

    return TorchModel(CharLM.from_settings(vocab_size, settings, backend=backend, seed=seed).eval())
