"""One step of a network as an ONNX graph, and its logits by the `onnx` package's reference evaluator, for the check.

Inputs are `ids [B]` and the states `[L B H]` (`h`, and `c` of the LSTM), outputs `logits [B V]` and `h_next`, `c_next`.
With n-grams there is one more, `past [1 B N-1]`: the latest characters, as numbers (`storycell.ngrams`).

Plain products and activations stand in place of ONNX's own LSTM operator, whose gates are in another order and whose
sequences are of no use for a step. Programs ship old runtimes, so the graph is of the oldest opset that has operators
for all of it; an int8 weight is cast and multiplied by its scale, which is older than `DequantizeLinear` along an axis
in the evaluator, and which runtimes compute once, when they load the file.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.context import FACTOR, PRIME
from storycell.engine.cells import CELLS
from storycell.errors import ExportError
from storycell.export.encoding import BYTE, Scaled, Weights
from storycell.export.network import Network, Shape

_OPSET = 13  # of December 2020, onnxruntime 1.6; the first with these rules of Split and Unsqueeze
_IR_VERSION = 7  # of the same time


def _onnx() -> Any:
    try:
        import onnx
        import onnx.reference
    except ImportError:
        raise ExportError("an .onnx file needs the package onnx; `pip install storycell[onnx]` brings it") from None
    return onnx


class _Graph:
    """Collects nodes and constants; every method returns the name of what it computes."""

    def __init__(self, weights: Weights) -> None:
        self.helper, self.numpy = _onnx().helper, _onnx().numpy_helper
        self.weights, self.nodes, self.constants = weights, [], []  # type: ignore[var-annotated]

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node with one output."""
        out = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def split(self, x: str, parts: int) -> list[str]:
        """Equal parts of the gates' axis."""
        outs = [f"{x}_{k}" for k in range(parts)]
        self.nodes.append(self.helper.make_node("Split", [x], outs, axis=1))
        return outs

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """An array as it is."""
        self.constants.append(self.numpy.from_array(np.asarray(array, order="C"), name))
        return name

    def matrix(self, name: str, matrix: npt.NDArray[np.float32]) -> str:
        """A float32 matrix `[rows, columns]`, stored as the rounding says."""
        if self.weights == "int8":
            scaled = Scaled.of(matrix, BYTE)
            stored = self.constant(f"{name}_int8", scaled.whole)
            scales = self.constant(f"{name}_scale", scaled.scales[:, None])
            return self.op("Mul", self.op("Cast", stored, to=_onnx().TensorProto.FLOAT), scales, name=name)
        if self.weights == "fp16":
            half = self.constant(f"{name}_fp16", matrix.astype(np.float16))
            return self.op("Cast", half, name=name, to=_onnx().TensorProto.FLOAT)
        return self.constant(name, matrix)

    def linear(self, x: str, matrix: str, bias: str | None) -> str:
        """`x` times the transposed matrix, plus the bias."""
        return self.op("Gemm", x, matrix, *([bias] if bias else []), transB=1)


def write(network: Network, weights: Weights, facts: dict[str, str]) -> bytes:
    """The bytes of the ONNX file; `facts` become its metadata."""
    onnx, graph, shape = _onnx(), _Graph(weights), network.shape
    helper, kinds = onnx.helper, onnx.TensorProto
    states = CELLS[shape.cell].state_names
    names = {name: graph.matrix(name, array) if array.ndim == 2 else graph.constant(name, array)
             for name, array in network.tensors.items()}  # fmt: skip
    old = {state: _layers_of(graph, state, shape.L) for state in states}
    new: dict[str, list[str]] = {state: [] for state in states}
    x = graph.op("Gather", names["embedding"], "ids") if shape.D else ""
    if shape.N:
        x = _add_ngrams(graph, x, names["ngrams"], shape)
    for k in range(shape.L):
        weight, bias = names[f"weight_ih_l{k}"], names[f"bias_l{k}"]
        if x:
            a = graph.linear(x, weight, bias)
        else:  # one-hot: the column of a character
            a = graph.op("Add", graph.op("Transpose", graph.op("Gather", weight, "ids", axis=1), perm=[1, 0]), bias)
        b = graph.linear(old["h"][k], names[f"weight_hh_l{k}"], None)
        values = _CELLS[shape.cell](graph, a, b, {s: old[s][k] for s in states}, names.get(f"bias_hn_l{k}", ""))
        for state in states:
            new[state].append(values[state])
        x = values["h"]
    graph.op("Gemm", x, names["output"], names["output_bias"], name="logits", transB=1)
    axis = graph.constant("layer_axis", np.array([0]))
    for state in states:
        graph.op("Concat", *(graph.op("Unsqueeze", s, axis) for s in new[state]), name=f"{state}_next", axis=0)
    sizes: list[Any] = [shape.L, "B", shape.H]
    value = helper.make_tensor_value_info

    def past(name: str) -> list[Any]:
        return [value(name, kinds.FLOAT, [1, "B", shape.N - 1])] if shape.N else []

    made = helper.make_graph(
        graph.nodes,
        "storycell_step",
        [value("ids", kinds.INT64, ["B"]), *(value(s, kinds.FLOAT, sizes) for s in states), *past("past")],
        [
            value("logits", kinds.FLOAT, ["B", shape.V]),
            *(value(f"{s}_next", kinds.FLOAT, sizes) for s in states),
            *past("past_next"),
        ],
        graph.constants,
    )
    model = helper.make_model(
        made, producer_name="storycell", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _add_ngrams(graph: _Graph, x: str, table: str, shape: Shape) -> str:
    """The vectors `[B D]` with the rows of the n-grams that end with each of `ids`; and `past_next`."""

    def number(name: str, n: int) -> str:
        return graph.constant(name, np.array(n, np.int64))

    one, factor, prime = number("one", 1), number("factor", FACTOR), number("prime", PRIME)
    rows, axis = number("rows", shape.R), graph.constant("past_axis", np.array([1]))
    kinds, first = _onnx().TensorProto, graph.constant("first_axis", np.array([0]))
    past = graph.op("Cast", graph.op("Squeeze", "past", first), to=kinds.INT64)
    goes_on = graph.op("Cast", graph.op("Cast", "ids", to=kinds.BOOL), to=kinds.INT64)
    before = graph.op("Mul", past, graph.op("Unsqueeze", goes_on, axis))  # nothing, where a boundary is read
    h, columns = graph.op("Add", "ids", one), [graph.op("Unsqueeze", "ids", axis)]
    for n in range(shape.N - 1):
        column = graph.op("Gather", before, number(f"past_{n}", n), axis=1)
        columns.append(graph.op("Unsqueeze", column, axis))
        h = graph.op("Add", graph.op("Add", graph.op("Mul", h, factor), column), one)
        h = graph.op("Mod", h, prime)
        x = graph.op("Add", x, graph.op("Gather", table, graph.op("Mod", h, rows)))
    after = graph.op("Cast", graph.op("Concat", *columns[:-1], axis=1), to=kinds.FLOAT)
    graph.op("Unsqueeze", after, first, name="past_next")
    return x


def _layers_of(graph: _Graph, state: str, L: int) -> list[str]:
    """The state of each layer, `[B H]`."""
    return [graph.op("Gather", state, graph.constant(f"{state}_{k}", np.array(k)), axis=0) for k in range(L)]


def _lstm(graph: _Graph, a: str, b: str, state: dict[str, str], _: str) -> dict[str, str]:
    i, f, g, o = graph.split(graph.op("Add", a, b), 4)
    i, f, o, g = (*(graph.op("Sigmoid", gate) for gate in (i, f, o)), graph.op("Tanh", g))
    c = graph.op("Add", graph.op("Mul", f, state["c"]), graph.op("Mul", i, g))
    return {"c": c, "h": graph.op("Mul", o, graph.op("Tanh", c))}


def _gru(graph: _Graph, a: str, b: str, state: dict[str, str], bias_hn: str) -> dict[str, str]:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = graph.split(a, 3), graph.split(b, 3)
    r = graph.op("Sigmoid", graph.op("Add", r_x, r_h))
    z = graph.op("Sigmoid", graph.op("Add", z_x, z_h))
    n = graph.op("Tanh", graph.op("Add", n_x, graph.op("Mul", r, graph.op("Add", n_h, bias_hn))))
    return {"h": graph.op("Add", n, graph.op("Mul", z, graph.op("Sub", state["h"], n)))}  # (1 - z) n + z h


def _rnn(graph: _Graph, a: str, b: str, state: dict[str, str], _: str) -> dict[str, str]:
    return {"h": graph.op("Tanh", graph.op("Add", a, b))}


_CELLS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


def facts_of(data: bytes) -> dict[str, Any]:
    """The metadata of an ONNX file: what each fact says, the vocabulary as its JSON."""
    model = _onnx().load_from_string(data)
    found = {entry.key: entry.value for entry in model.metadata_props}
    return found | {"vocabulary": json.loads(found["vocabulary"])}


def logits(data: bytes, ids: list[int]) -> npt.NDArray[np.float64]:
    """What the file computes after each of `ids [T]` from a zero state: `[T, V]`, by the package's evaluator."""
    session = _onnx().reference.ReferenceEvaluator(_onnx().load_from_string(data))
    state = {
        entry.name: np.zeros([max(axis.dim_value, 1) for axis in entry.type.tensor_type.shape.dim], np.float32)
        for entry in session.proto_.graph.input
        if entry.name != "ids"
    }
    rows = []
    for k in ids:
        row, *after = session.run(None, {"ids": np.array([k]), **state})
        rows.append(row[0])
        state = dict(zip(state, after, strict=True))
    return np.array(rows, np.float64)
