"""Files that play elsewhere: a page (`.html`), a C program (`.c`) or header (`.h`), a graph (`.onnx`).

Every export is verified: the network is parsed from the bytes on disk and run by other code than the run's (numpy, or
the `onnx` package's evaluator), and a file whose logits differ by more than `check.LARGEST_ERROR` is removed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storycell import atomic
from storycell.data.pieces import word_pattern
from storycell.data.vocab import Vocabulary
from storycell.errors import ExportError, SettingsError
from storycell.export import c, check, header, html, onnx
from storycell.export.encoding import PRINTABLE, Weights, check_rounding, round_network
from storycell.export.network import Network
from storycell.generation import sampler
from storycell.language_model import LanguageModel
from storycell.naming import show_name
from storycell.quantized import BYTE
from storycell.types import BOUNDARY, UNKNOWN

DEFAULT_WEIGHTS: dict[str, Weights] = {".html": "fp16", ".onnx": "fp32", ".c": "fp32", ".h": "int8"}
_ROWS, _COLUMNS = 16, 32  # what the check reads, short rows from a zero state, in which a chaotic model stays calm

Logits = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Export:
    """A file or folder that was written and checked."""

    file: str
    bytes: int
    weights: Weights
    max_abs_logit_error: float  # between the file, read back, and the run with its weights rounded alike
    max_abs_logit_change: float  # between the run with its weights rounded alike and the run itself


def export(
    model: LanguageModel,
    vocab: Vocabulary,
    path: str | Path,
    weights: str | None = None,
    *,
    name: str = "a model",
    maker: str = "",
    prompt: str = "",
    features: html.Features = html.PLAIN,
) -> Export:
    """Write a model as the kind of file that the ending of `path` names; `weights` is fp32, fp16 or int8.

    `name` is shown in the file (characters that are no text as U+FFFD), `maker` says what wrote it, `prompt` is what
    page and program begin with by themselves; the model must know its characters; `features` are what a page offers
    beside generating. Raises `ExportError` if the model cannot be exported, the file cannot be written, or what was
    written is not the model.
    """
    path = Path(path)
    if path.suffix not in DEFAULT_WEIGHTS:
        raise SettingsError(f"{path}: the file's ending says what to make, and it must be .html, .onnx, .c or .h")
    chosen = check_rounding(weights) if weights is not None else DEFAULT_WEIGHTS[path.suffix]
    if path.suffix == ".h" and chosen != "int8":
        raise SettingsError(f"{path}: a header holds bytes, so its weights are int8, not {chosen}")
    if vocab.kind == "pieces" and path.suffix == ".h":
        raise ExportError(
            f"{path}: a header generates character by character, and this model pieces of words; export it to .html, "
            ".c, .onnx or --npm, or train one without --vocab pieces"
        )
    _refuse_steering(features.steer, path, model)
    vocab.prompt_ids(prompt)
    network = Network.of(model)
    stored = _stored(network, chosen, path.suffix)
    params = sum(weight.size for weight in model.weights().values())
    data = _file(network, vocab, path, chosen, show_name(name), maker, prompt, params, features)
    ids = probe(model)
    run = run_logits(model, ids)
    expected = run if chosen == "fp32" else run_logits(stored.as_model(model.backend), ids)

    def error_of(back: bytes) -> float:
        return largest(np.array([_run_file(path, back, row) for row in ids]), expected)

    error = _write_checked(path, data, error_of, expected)
    return Export(str(path), len(data), chosen, error, largest(expected, run))


def _refuse_steering(steer: html.Steering | None, path: Path, model: LanguageModel) -> None:
    if steer is None:
        return
    if path.suffix != ".html":
        raise SettingsError(f"{path}: only a page (.html) has a slider to steer by; `model.steer(...)` can be exported")
    if not 0 <= steer.layer < model.num_layers or any(len(v) != model.hidden_size for v in steer.vectors):
        raise SettingsError(
            f"the direction “{steer.about}” is one of {len(steer.vectors[0])} units in layer {steer.layer}, and the "
            f"model has {model.num_layers} layers of {model.hidden_size}"
        )


def _stored(network: Network, weights: Weights, ending: str) -> Network:
    """The network with its weights rounded as a file of that ending stores them."""
    if ending == ".h":
        return header.stored(network)
    return round_network(network, weights, BYTE if ending == ".onnx" else PRINTABLE)


def _file(
    network: Network,
    vocab: Vocabulary,
    path: Path,
    weights: Weights,
    name: str,
    maker: str,
    prompt: str,
    params: int,
    features: html.Features,
) -> bytes:
    shape = network.shape
    if path.suffix in (".c", ".h"):
        about = f"{shape.cell}, {shape.L} x {shape.H}, {len(vocab)} ids, weights {weights}"
        line = f"{name}: {about}{f'; {maker}' if maker else ''}"
        if path.suffix == ".h":
            return header.write(network, vocab, line, path.name).encode()
        return c.write(network, vocab, weights, line, path.name, prompt).encode()
    if path.suffix == ".html":
        about = f"{shape.cell.upper()}, {shape.L} × {shape.H}, {params:,} parameters"
        return html.write(network, vocab, weights, name, about, prompt, features).encode()
    facts = {"name": name, "cell": shape.cell, "weights": weights, "made_by": maker, "vocabulary": vocab.to_json()}
    if vocab.kind == "pieces":
        facts["words"] = word_pattern(vocab.characters).pattern
    return onnx.write(network, weights, facts)


def _run_file(path: Path, data: bytes, ids: list[int]) -> Logits:
    """The logits of what is in a file, after each of `ids`: `[T, V]`."""
    if path.suffix == ".onnx":
        return onnx.logits(data, ids)
    read = {".c": c.read, ".h": header.read, ".html": html.read}[path.suffix]
    return check.logits(read(data.decode()), ids)


def run_logits(model: LanguageModel, ids: list[list[int]]) -> Logits:
    """The logits of a model after each of `ids [rows T]`: `[rows T V]`."""
    return model.logits(np.array(ids))[0].astype(np.float64)


def probe(model: LanguageModel) -> list[list[int]]:
    """Ids to compare on `[rows, columns]`: what the model itself generates, and others from all over its vocabulary.

    The others come twice in a row where the model reads matches, so that these have all lengths.
    """
    half = _ROWS // 2
    drawn = list(sampler.streams(model, [], sampler.Sampling(), list(range(half)), _COLUMNS - 1))
    written = [[BOUNDARY, *(BOUNDARY if row[k] is None else row[k] for row in drawn)] for k in range(half)]
    written = [row + [BOUNDARY] * (_COLUMNS - len(row)) for row in written]
    times = 2 if model.context.matches else 1
    spread = np.linspace(0, model.vocab_size - 1, half * _COLUMNS // times).astype(int)
    others = np.where(spread == UNKNOWN, BOUNDARY, spread).reshape(-1, half).T.tolist()
    return written + [row * times for row in others]


def largest(a: Logits, b: Logits) -> float:
    """The largest difference of two arrays."""
    return float(np.abs(a - b).max())


def _write_checked(path: Path, data: bytes, error_of: Callable[[bytes], float], expected: Logits) -> float:
    """Write a file under a temporary name, read it back, and let it have its name only if it is the model."""
    if path.is_dir():
        raise ExportError(f"{path} is a folder; name a file in it")
    part = atomic.temporary_name(path)
    try:
        try:
            part.write_bytes(data)
            error = error_of(part.read_bytes())
            check.require_close(path, error, expected)
            atomic.put_in_place(part, path)
        finally:
            atomic.remove(part)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None
    return error
