"""One step of a network as an ONNX graph, and its logits by the `onnx` package's reference evaluator, for the check.

Inputs are `ids [B]` and the states `[L B H]` (`h`, and `c` of the LSTM), outputs `logits [B V]` and `h_next`, `c_next`.
With n-grams or matches there is one more, `past [1 B P]`: the latest characters, as numbers (`storycell.context`).

Plain products and activations stand in place of ONNX's own LSTM operator, whose gates are in another order and whose
sequences are of no use for a step. Programs ship old runtimes, so the graph is of the oldest opset that has operators
for all of it; an int8 weight is cast and multiplied by its scale, which is older than `DequantizeLinear` along an axis
in the evaluator, and which runtimes compute once, when they load the file.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from storycell.context import FACTOR, PRIME, Context
from storycell.engine.cells import CELLS, NORM_EPSILON
from storycell.errors import ExportError
from storycell.export.encoding import Weights
from storycell.export.network import Network, Shape
from storycell.quantized import BYTE, Scaled

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

    def whole(self, name: str, value: int | list[int]) -> str:
        """Whole numbers, stored once for all who ask for that name."""
        if not any(constant.name == name for constant in self.constants):
            self.constant(name, np.array(value, np.int64))
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
    eps = graph.constant("gate_norm_eps", np.array(NORM_EPSILON, np.float32)) if shape.gate_norm else ""
    names = {name: graph.matrix(name, array) if array.ndim == 2 else graph.constant(name, array)
             for name, array in network.tensors.items()}  # fmt: skip
    old = {state: _layers_of(graph, state, shape.L) for state in states}
    new: dict[str, list[str]] = {state: [] for state in states}
    x = graph.op("Gather", names["embedding"], "ids") if shape.D else ""
    if shape.context:
        x = _add_context(graph, x, names["context"], shape)
    for k in range(shape.L):
        weight, bias = names[f"weight_ih_l{k}"], names[f"bias_l{k}"]
        if x:
            a = graph.linear(x, weight, bias)
        else:  # one-hot: the column of a character
            a = graph.op("Transpose", graph.op("Gather", weight, "ids", axis=1), perm=[1, 0])
            a = graph.op("Add", a, bias)
        b = graph.linear(old["h"][k], names[f"weight_hh_l{k}"], None)
        if eps:
            a, b = _normalised(graph, a, b, shape.G, eps), names[f"gate_bias_l{k}"]
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
        return [value(name, kinds.FLOAT, [1, "B", shape.context.memory])] if shape.context else []

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


def _add_context(graph: _Graph, x: str, table: str, shape: Shape) -> str:
    """The vectors `[B D]` with the rows that each of `ids` meets after `past`; and `past_next`."""
    context, kinds = shape.context, _onnx().TensorProto
    first, axis = graph.whole("first_axis", [0]), graph.whole("past_axis", [1])
    ids = graph.op("Cast", graph.op("Unsqueeze", "ids", axis), to=kinds.FLOAT)
    goes_on = graph.op("Cast", graph.op("Cast", ids, to=kinds.BOOL), to=kinds.FLOAT)
    before = graph.op("Mul", graph.op("Squeeze", "past", first), goes_on)  # nothing, where a boundary is read
    line = graph.op("Concat", ids, before, axis=1)  # [B P+1]: a character and those before it
    after = graph.op("Slice", line, first, graph.whole("memory", [context.memory]), axis)
    graph.op("Unsqueeze", after, first, name="past_next")
    if context.ngrams:
        one, factor, prime = graph.whole("one", 1), graph.whole("factor", FACTOR), graph.whole("prime", PRIME)
        rows, h = graph.whole("rows", context.ngram_rows), graph.op("Add", "ids", one)
        for n in range(1, context.ngrams):
            character = graph.op("Gather", line, graph.whole(f"past_{n}", n), axis=1)
            h = graph.op("Add", graph.op("Mul", h, factor), graph.op("Cast", character, to=kinds.INT64))
            h = graph.op("Mod", graph.op("Add", h, one), prime)
            x = graph.op("Add", x, graph.op("Gather", table, graph.op("Mod", h, rows)))
    if context.matches:
        x = graph.op("Add", x, graph.op("Gather", table, _match_row(graph, line, axis, context)))
    return x


def _match_row(graph: _Graph, line: str, axis: str, context: Context) -> str:
    """The row `[B]` of the longest match that ends with the first character of `line [B P+1]`.

    The places at distances 1 to W are compared side by side, one character further back at a time: where all were equal
    so far, one more agrees.
    """
    M, W, kinds = context.matches, context.memory - context.matches + 1, _onnx().TensorProto

    def sliced(x: str, begin: int, end: int) -> str:
        bounds = graph.whole(f"{x}_from_{begin}", [begin]), graph.whole(f"{x}_before_{end}", [end])
        return graph.op("Slice", x, *bounds, axis)

    def number(name: str, value: float) -> str:
        return graph.constant(name, np.array(value, np.float32))

    zero, one = number("zero", 0), number("one_agrees", 1)
    read = sliced(line, 0, M)
    read = graph.op("Where", graph.op("Equal", read, zero), number("no_character", -1), read)  # a 0 agrees with nothing
    agrees, counts = "", []
    for k in range(M):
        equal = graph.op("Equal", sliced(line, k + 1, k + 1 + W), sliced(read, k, k + 1))
        agrees = graph.op("And", agrees, equal) if k else equal
        counts.append(graph.op("Cast", agrees, to=kinds.FLOAT))
    n = graph.op("Sum", *counts)  # [B W]
    longest, at = graph.op("ReduceMax", n, axes=[1]), graph.op("ArgMax", n, axis=1)  # [B 1], of several the latest
    longer = graph.op("Cast", graph.op("Sub", longest, one), to=kinds.INT64)
    follows = graph.op("Cast", graph.op("GatherElements", line, at, axis=1), to=kinds.INT64)
    row = graph.op("Add", graph.op("Mul", longer, graph.whole("characters", context.vocab_size)), follows)
    row = graph.op("Where", graph.op("Greater", longest, one), row, graph.whole("no_match", 0))
    return graph.op(
        "Add", graph.op("Squeeze", row, axis), graph.whole("match_rows", context.rows - M * context.vocab_size)
    )


def _layers_of(graph: _Graph, state: str, L: int) -> list[str]:
    """The state of each layer, `[B H]`."""
    return [graph.op("Gather", state, graph.constant(f"{state}_{k}", np.array(k)), axis=0) for k in range(L)]


def _normalised(graph: _Graph, a: str, b: str, gates: int, eps: str) -> str:
    """The sums of a and b, those of each gate divided by their root mean square."""
    divided = []
    for gate in graph.split(graph.op("Add", a, b), gates):
        mean = graph.op("ReduceMean", graph.op("Mul", gate, gate), axes=[1])
        divided.append(graph.op("Div", gate, graph.op("Sqrt", graph.op("Add", mean, eps))))
    return graph.op("Concat", *divided, axis=1)


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
