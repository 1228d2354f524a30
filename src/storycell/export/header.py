"""Export to one C99 header for small machines: `story.h` beside this module, with a model in bytes put in.

It computes what `--precision int8` computes: matrices are whole numbers from -127 to 127 with a scale for each row, the
outputs that they multiply are 127ths, and what a character adds to the first layer's gates is a table of float32, so
that no embedding is left to multiply. With matches there is one, since a row of theirs, in bytes, is added to it; it is
multiplied in float32. The arrays are constants, which compilers leave in flash.
"""

import re
from importlib import resources
from typing import Any

import numpy as np

from storycell.data.vocab import Vocabulary
from storycell.engine.cells import NORM_EPSILON
from storycell.errors import ExportError
from storycell.export import c
from storycell.export.network import Array, Network, Shape
from storycell.quantized import BYTE, Scaled

_ARRAY = re.compile(r"^static const (?:int8_t|float|uint32_t) (\w+)((?:\[[\w *-]+\])+) = \{\n(.*?)\n\};$", re.M | re.S)
_NUMBER = re.compile(r"-?[\d.]+(?:e[+-]?\d+)?")


def stored(network: Network) -> Network:
    """The network as the header has it: what a character adds to the first gates in float32, the rest in bytes."""
    if network.shape.N:
        raise ExportError(
            f"a header for small machines has no room for n-grams, and this model has them (ngrams = "
            f"{network.shape.N}); export it as .c, or train one with --ngrams 0"
        )
    first = _multiplied_out(network)
    tensors = {
        name: array if array.ndim == 1 or name in ("embedding", "weight_ih_l0") else _in_bytes(name, array).matrix()
        for name, array in first.tensors.items()
    }
    return Network(first.shape, tensors)


def _in_bytes(name: str, matrix: Array) -> Scaled:
    """Rows of a context as a run stores them, other matrices as the engine rounds them."""
    return Scaled.stored(matrix) if name == "context" else Scaled.of(matrix, BYTE)


def _multiplied_out(network: Network) -> Network:
    return network if network.shape.M else network.one_hot()


def write(network: Network, vocab: Vocabulary, about: str, file_name: str) -> str:
    """The text of the header; `about` is a line on the model."""
    network = _multiplied_out(network)
    shape, tensors, context = network.shape, network.tensors, network.shape.context
    arrays = [_array("uint32_t story_code_points", [str(ord(char)) for char in vocab.characters], "[STORY_V - 2]")]
    if context:
        scaled = _in_bytes("context", tensors["context"])
        whole = [str(k) for k in scaled.whole.ravel().tolist()]
        arrays += [
            _floats("story_embedding", tensors["embedding"], "[STORY_V][STORY_D]"),
            _array("int8_t story_context", whole, "[STORY_ROWS][STORY_D]", context.rows),
            _floats("story_context_scales", scaled.scales, "[STORY_ROWS]"),
            _floats("story_first", tensors["weight_ih_l0"].T, "[STORY_D][STORY_GH]"),
            _floats("story_first_bias", tensors["bias_l0"], "[STORY_GH]"),
        ]
        flash = (shape.V + shape.G * shape.H) * shape.D * 4 + context.rows * (shape.D + 4) + shape.G * shape.H * 4
    else:
        first = tensors["weight_ih_l0"].T + tensors["bias_l0"]
        arrays.append(_floats("story_first", first, "[STORY_V][STORY_GH]"))
        flash = shape.V * shape.G * shape.H * 4
    later = range(1, shape.L)
    if later:
        biases = np.stack([tensors[f"bias_l{k}"] for k in later])
        arrays.append(_floats("story_bias", biases, "[STORY_L - 1][STORY_GH]"))
        arrays += _matrices("input", [tensors[f"weight_ih_l{k}"] for k in later], "[STORY_L - 1]", "STORY_GH")
    arrays += _matrices("recurrent", [tensors[f"weight_hh_l{k}"] for k in range(shape.L)], "[STORY_L]", "STORY_GH")
    if shape.cell == "gru":
        hidden = np.stack([tensors[f"bias_hn_l{k}"] for k in range(shape.L)])
        arrays.append(_floats("story_bias_hn", hidden, "[STORY_L][STORY_H_UNITS]"))
        flash += hidden.nbytes
    if shape.gate_norm:
        after = np.stack([tensors[f"gate_bias_l{k}"] for k in range(shape.L)])
        arrays.append(_floats("story_gate_bias", after, "[STORY_L][STORY_GH]"))
        flash += after.nbytes
    arrays += _matrices("output", [tensors["output"]], "", "STORY_V")
    arrays.append(_floats("story_output_bias", tensors["output_bias"], "[STORY_V]"))
    products = (2 * shape.L - 1) * shape.G * shape.H**2 + shape.V * shape.H
    flash += products + 4 * ((3 * shape.L - 2) * shape.G * shape.H + 2 * shape.V)  # factors and biases
    constants = {"CELL": f"STORY_{shape.cell.upper()}", "V": shape.V, "H_UNITS": shape.H, "L": shape.L, "G": shape.G}
    constants |= {"D": shape.D, "MATCHES": shape.M, "BYTES": int(vocab.kind == "bytes")}
    constants |= {"GATE_NORM": int(shape.gate_norm), "EPSILON": f"{NORM_EPSILON:g}f"}
    constants["ID"] = "uint8_t" if shape.V <= 2**8 else "uint16_t" if shape.V <= 2**16 else "uint32_t"
    parts = {
        "ABOUT": c.comment(about),
        "FILE": c.plain_file(file_name, "story.h"),
        "PRODUCTS": f"{products:,} multiplications of bytes"
        + (f" and {shape.G * shape.H * shape.D:,} of floats" if context else ""),
        "BYTES": f"{flash:,}",
        "MODEL": "\n".join(f"#define STORY_{name} {value}" for name, value in constants.items()),
        "WEIGHTS": "\n\n".join(arrays),
    }
    template = (resources.files("storycell.export") / "story.h").read_text(encoding="utf-8")
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], template)


def _matrices(name: str, matrices: list[Array], layers: str, rows: str) -> list[str]:
    """Matrices in bytes, and the factor of each row for sums of 127ths."""
    scaled = [Scaled.of(matrix, BYTE) for matrix in matrices]
    whole = np.stack([each.whole for each in scaled])
    numbers = [str(k) for k in whole.ravel().tolist()]
    factors = np.stack([each.scales / np.float32(BYTE) for each in scaled])
    return [
        _array(f"int8_t story_{name}", numbers, f"{layers}[{rows} * STORY_H_UNITS]", len(matrices) if layers else 1),
        _floats(f"story_{name}_factors", factors, f"{layers}[{rows}]"),
    ]


def _floats(name: str, array: Any, axes: str) -> str:
    rows = len(array) if axes.count("[") == 2 else 1
    return _array(f"float {name}", [f"{float(x):.9g}" for x in np.asarray(array, np.float32).ravel()], axes, rows)


def _array(named: str, numbers: list[str], axes: str, rows: int = 1) -> str:
    if named.startswith("float"):
        numbers = [f"{x}f" if "." in x or "e" in x else f"{x}.f" for x in numbers]
    nested = axes.count("[") == 2
    width = len(numbers) // rows
    parts = [",".join(numbers[k * width : (k + 1) * width]) for k in range(rows)]
    body = ",\n".join(f"{{{_wrapped(part)}}}" if nested else _wrapped(part) for part in parts)
    return f"static const {named}{axes} = {{\n{body}\n}};"


def _wrapped(numbers: str, width: int = 4000) -> str:
    """Numbers in lines that compilers and editors take."""
    lines: list[str] = []
    while len(numbers) > width:
        at = numbers.rindex(",", 0, width) + 1
        lines.append(numbers[:at])
        numbers = numbers[at:]
    return "\n".join([*lines, numbers])


def read(text: str) -> Network:
    """The network in a header, from its constants and arrays alone."""
    constants = dict(re.findall(r"^#define STORY_(CELL|V|H_UNITS|L|D|MATCHES|GATE_NORM) (\w+)$", text, re.MULTILINE))
    try:
        cell = constants["CELL"].removeprefix("STORY_").lower()
        V, D, H, L, M = (int(constants[name]) for name in ("V", "D", "H_UNITS", "L", "MATCHES"))
        shape = Shape(cell, V, D, H, L, M=M, gate_norm=constants["GATE_NORM"] == "1")
        found = {name: _NUMBER.findall(body) for name, _, body in _ARRAY.findall(text)}
        return Network(shape, _tensors(shape, {name: np.array(x, np.float64) for name, x in found.items()}))
    except (KeyError, ValueError) as error:
        raise ExportError(f"the file is not what was written: {error}") from None


def _tensors(shape: Shape, found: dict[str, Any]) -> dict[str, Array]:
    L, GH, H = shape.L, shape.G * shape.H, shape.H

    def matrices(name: str, count: int, rows: int) -> Any:
        factors = found[f"story_{name}_factors"].astype(np.float32) * np.float32(BYTE)
        whole = found[f"story_{name}"].reshape(count, rows, H).astype(np.float32)
        return whole * factors.reshape(count, rows, 1)

    biases = [found.get("story_first_bias", np.zeros(GH)), *(found["story_bias"].reshape(L - 1, GH) if L > 1 else [])]
    inputs = [found["story_first"].reshape(shape.D or shape.V, GH).T, *(matrices("input", L - 1, GH) if L > 1 else [])]
    tensors: dict[str, Any] = {}
    if context := shape.context:
        whole = found["story_context"].reshape(context.rows, shape.D).astype(np.float32)
        scales = found["story_context_scales"].astype(np.float32)
        tensors["embedding"] = found["story_embedding"].reshape(shape.V, shape.D)
        tensors["context"] = whole * scales[:, None]
    for k, recurrent in enumerate(matrices("recurrent", L, GH)):
        tensors |= {f"weight_ih_l{k}": inputs[k], f"weight_hh_l{k}": recurrent, f"bias_l{k}": biases[k]}
        if shape.cell == "gru":
            tensors[f"bias_hn_l{k}"] = found["story_bias_hn"].reshape(L, H)[k]
        if shape.gate_norm:
            tensors[f"gate_bias_l{k}"] = found["story_gate_bias"].reshape(L, GH)[k]
    tensors |= {"output": matrices("output", 1, shape.V)[0], "output_bias": found["story_output_bias"]}
    return {name: np.ascontiguousarray(tensors[name], np.float32) for name in shape.tensors()}
