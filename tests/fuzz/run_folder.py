"""A run folder, one of whose files a stranger wrote: opened, or refused in a sentence.

An input is the number of the file and its content. Of weights, the JSON about them can be the content: then the
checksum is made to fit, so that it is the checks behind it that are tested.
"""

import contextlib
import json
import shutil
import struct
from pathlib import Path

from support import tiny_runs

import storycell
from fuzz import folder, refusing
from storycell.nn.model import CharLM
from storycell.runs import tensors
from storycell.runs.folder import RunFolder
from storycell.training.loop import check_save
from storycell.training.torch_learner import TorchLearner

FOLDER = folder()
MADE = tiny_runs.make(FOLDER, FOLDER / "cache")
RUN = Path(shutil.copytree(MADE, FOLDER / "changed"))
FILES = ("config.json", "vocab.json", "metrics.jsonl", "model.safetensors", "last.safetensors")
STATE, ABOUT = tensors.read_tensors(MADE / "last.safetensors")
FITTED = len(FILES)  # the number of an input that is the JSON about the tensors of `last.safetensors`
_HEADER = json.dumps({"__metadata__": {"about": "{}"}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
SEEDS = [
    *(bytes([k]) + (MADE / name).read_bytes()[:1900] for k, name in enumerate(FILES)),
    bytes([3]) + struct.pack("<Q", len(_HEADER)) + _HEADER.encode() + bytes(4),
    bytes([FITTED]) + json.dumps(ABOUT).encode(),
]


def one_input(data: bytes) -> None:
    """Put the file in its place, and open the run as far as it goes."""
    if not data:
        return
    number, content = data[0] % (FITTED + 1), data[1:]
    name = FILES[min(number, FITTED - 1)]
    if number == FITTED:
        try:
            about = json.loads(content)
        except (ValueError, RecursionError):
            return
        if not isinstance(about, dict):
            return
        with contextlib.suppress(RecursionError, UnicodeEncodeError):  # json cannot write it, or safetensors
            content = tensors.pack_tensors(STATE, about)
    (RUN / ".new").write_bytes(content)
    (RUN / ".new").replace(RUN / name)
    try:
        with refusing():
            _opened()
    finally:
        shutil.copy(MADE / name, RUN / ".old")
        (RUN / ".old").replace(RUN / name)


def _opened() -> None:
    run = RunFolder(RUN)
    entries = run.metrics()
    assert all(isinstance(entry["step"], int | float) for entry in entries)
    settings, vocab = run.config().settings, run.vocab()
    lm = CharLM.from_settings(len(vocab), settings.model, device="meta")
    state, about = run.load_last(lm.shapes())
    layout = TorchLearner(lm, settings.training).layout
    saved = check_save("last.safetensors", state, about, layout, settings.training.streams)
    assert saved.position.step >= 0
    assert isinstance(storycell.load(RUN).generate("", chars=2, seed=1), str)
