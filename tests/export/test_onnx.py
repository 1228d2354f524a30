"""The ONNX file itself, run by onnxruntime: one step as a graph, for any number of streams."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from support.random_models import CHARACTERS, KINDS, model

from storycell.data.vocab import Vocabulary
from storycell.export.encoding import Weights, round_network
from storycell.export.export import export
from storycell.export.network import Network
from storycell.quantized import BYTE

EXACT = 1e-4  # as in test_export.py
T, B = 12, 3


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("weights", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_streams_side_by_side_compute_what_the_run_computes(kind: str, weights: Weights, tmp_path: Path) -> None:
    made, path = model(kind), tmp_path / "story.onnx"
    export(made, CHARACTERS, path, weights)
    run, session = round_network(Network.of(made), weights, BYTE).as_model(), session_of(path)
    ids = np.random.default_rng(1).integers(0, len(CHARACTERS), (B, T))
    expected, last = run.logits(ids)
    state = {name: np.zeros(value.shape, np.float32) for name, value in last.items()}
    for t in range(T):
        logits, *after = session.run(None, {"ids": ids[:, t], **state})
        state = dict(zip(state, after, strict=True))
        assert logits == pytest.approx(expected[:, t], abs=EXACT)
    for name, value in last.items():
        assert state[name] == pytest.approx(value, abs=EXACT)


def test_the_graph_names_its_axes_and_knows_its_vocabulary(tmp_path: Path) -> None:
    export(model("lstm-L3-H16-D40-bias"), CHARACTERS, tmp_path / "story.onnx", name="mine")
    session = session_of(tmp_path / "story.onnx")
    assert {entry.name: entry.shape for entry in session.get_inputs()} == {
        "ids": ["B"], "h": [3, "B", 16], "c": [3, "B", 16]
    }  # fmt: skip
    assert [entry.name for entry in session.get_outputs()] == ["logits", "h_next", "c_next"]
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["name"], facts["cell"], facts["weights"]) == ("mine", "lstm", "fp32")
    assert Vocabulary.from_json(facts["vocabulary"]) == CHARACTERS
    assert json.loads(facts["vocabulary"])["reserved"][0] == "<|endoftext|>"


@pytest.mark.parametrize("weights", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_runtime_of_2020_opens_the_file(kind: str, weights: Weights, tmp_path: Path) -> None:
    """By its numbers, and by its operators, which the checker looks up in that opset."""
    export(model(kind), CHARACTERS, tmp_path / "story.onnx", weights)
    made = onnx.load(tmp_path / "story.onnx")
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", 13)]
    assert made.ir_version == 7
    onnx.checker.check_model(made, full_check=True)
    since = {node.op_type: onnx.defs.get_schema(node.op_type, 13).since_version for node in made.graph.node}
    assert max(since.values()) <= 13


def test_weights_are_stored_in_the_bits_asked_for(tmp_path: Path) -> None:
    kinds = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}
    for weights, kind in kinds.items():
        export(model("gru-L1-H5-D2-bias"), CHARACTERS, tmp_path / "story.onnx", weights)
        stored = onnx.load(tmp_path / "story.onnx").graph.initializer
        assert sum(tensor.data_type == kind for tensor in stored if len(tensor.dims) == 2) == 4
