"""Files that play elsewhere: a page (`.html`), a C program (`.c`), a graph (`.onnx`).

In: a model and its vocabulary. Out: one file, and what was found when it was read back.

The surprising decision: no export is believed. The network is parsed from the bytes on disk and run by other code than
the run's (numpy, or the `onnx` package's evaluator); a file whose logits differ beyond `LARGEST_ERROR` is removed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from storycell import sampler
from storycell.errors import ExportError, SettingsError
from storycell.export import c_source, evaluation, html_page, onnx_graph
from storycell.export.network import Network
from storycell.export.rounding import BYTE, PRINTABLE, Weights, checked, rounded
from storycell.model import CharLM
from storycell.vocab import BOUNDARY, UNKNOWN, Vocabulary

__all__ = ["LARGEST_ERROR", "Export", "export"]

LARGEST_ERROR = 1e-3  # of a logit; float32's rounding, which is all that may differ, makes about 1e-5
DEFAULT_WEIGHTS: dict[str, Weights] = {".html": "fp16", ".onnx": "fp32", ".c": "fp32"}
_WRITTEN = 200  # characters of the model's own that the check reads
_OTHERS = 300  # other ids, so that few are left unread

Logits = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Export:
    """A file that was written and checked."""

    file: str
    bytes: int
    weights: Weights
    max_abs_logit_error: float  # between the file, read back, and the run with its weights rounded alike
    max_abs_logit_change: float  # between the run with its weights rounded alike and the run itself


def export(
    lm: CharLM, vocab: Vocabulary, path: str | Path, weights: str | None = None, *, name: str = "a model", maker: str = ""
) -> Export:
    """Write a model as the kind of file that the ending of `path` names; `weights` is fp32, fp16 or int8.

    `name` is shown in the file, `maker` says what wrote it. Raises `ExportError` if the model cannot be exported, the
    file cannot be written, or what was written is not the model.
    """
    path = Path(path)
    if path.suffix not in DEFAULT_WEIGHTS:
        raise SettingsError(f"{path}: the file's ending says what to make, and it must be .html, .onnx or .c")
    chosen = checked(weights) if weights is not None else DEFAULT_WEIGHTS[path.suffix]
    network = Network.of(lm)
    stored = rounded(network, chosen, BYTE if path.suffix == ".onnx" else PRINTABLE)
    data = _file(network, vocab, path, chosen, name, maker)
    ids = _probe(lm)
    run = _run(lm, ids)
    expected = run if chosen == "fp32" else _run(stored.as_model(lm.backend.name), ids)
    error = _write_checked(path, data, lambda back: _largest(_played(path, back, ids), expected))
    return Export(str(path), len(data), chosen, error, _largest(expected, run))


def _file(network: Network, vocab: Vocabulary, path: Path, weights: Weights, name: str, maker: str) -> bytes:
    shape = network.shape
    about = f"{shape.cell}, {shape.L} x {shape.H}, {len(vocab)} ids, weights {weights}"
    if path.suffix == ".c":
        line = f"{name}: {about}{f'; {maker}' if maker else ''}"
        return c_source.write(network, vocab, weights, line, path.name).encode()
    if path.suffix == ".html":
        return html_page.write(network, vocab, weights, name, about).encode()
    facts = {"name": name, "cell": shape.cell, "weights": weights, "made_by": maker, "vocabulary": vocab.to_json()}
    return onnx_graph.write(network, weights, facts)


def _played(path: Path, data: bytes, ids: list[int]) -> Logits:
    """The logits of what is in a file, after each of `ids`: `[T, V]`."""
    if path.suffix == ".onnx":
        return onnx_graph.logits(data, ids)
    read = c_source.read if path.suffix == ".c" else html_page.read
    return evaluation.logits(read(data.decode()), ids)


def _run(lm: CharLM, ids: list[int]) -> Logits:
    with lm.reading():
        logits, _ = lm(torch.tensor([ids], device=lm.output.weight.device))
    return np.array(logits[0].cpu().numpy(), np.float64)


def _probe(lm: CharLM) -> list[int]:
    """Ids to compare on: what the model itself writes, then others from all over the vocabulary."""
    draws = sampler.streams(lm, [], sampler.Sampling(), [1], _WRITTEN)
    written = [k for (k,) in draws if k is not None]
    others = np.unique(np.linspace(0, lm.vocab_size - 1, min(_OTHERS, lm.vocab_size)).astype(int))
    return [BOUNDARY, *written, *(int(k) for k in others if k != UNKNOWN)]


def _largest(a: Logits, b: Logits) -> float:
    return float(np.abs(a - b).max())


def _write_checked(path: Path, data: bytes, error_of: Callable[[bytes], float]) -> float:
    """Write a file under a temporary name, read it back, and let it have its name only if it is the model."""
    if path.is_dir():
        raise ExportError(f"{path} is a folder; name a file in it")
    part = path.with_name(f".{path.name}.part")
    try:
        try:
            part.write_bytes(data)
            error = error_of(part.read_bytes())
            if not error <= LARGEST_ERROR:
                raise ExportError(
                    f"{path} was not written: a logit of the file read back differs by {error:.3g} from the run's "
                    f"(at most {LARGEST_ERROR:g} is rounding); this is a bug, or an unusually large model"
                )
            os.replace(part, path)  # noqa: PTH105 - as atomically as the system can
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None
    return error
