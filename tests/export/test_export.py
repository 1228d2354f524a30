"""Export: what is stored, how exactly, what is refused, and the command."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support.random_models import CHARACTERS, KINDS, model
from support.tiny_runs import command

import storycell
from storycell.errors import ExportError, SettingsError
from storycell.export import c, check, encoding, html, onnx
from storycell.export.encoding import PRINTABLE, Weights, round_network
from storycell.export.export import export
from storycell.export.network import Network
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM

EXACT = 1e-4  # float32 over a few hundred characters of a small model, in logits of about 10
TARGET_LOSS = 1.01  # int8 may cost one part in a hundred
FORMATS, WEIGHTS = (".html", ".c", ".onnx"), ("fp32", "fp16", "int8")
LAYER_OF_256 = {"vocab_size": 91, "hidden_size": 256, "layers": 1, "cell": "lstm", "embedding_size": 64}
IDS = [0, *range(2, len(CHARACTERS)), 5, 9, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_the_run(kind: str) -> None:
    run = model(kind)
    network, expected = Network.of(run), run.logits([IDS])[0][0]
    assert check.logits(network, IDS) == pytest.approx(expected, abs=EXACT)
    assert network.as_model().logits([IDS])[0][0] == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "gate norm" in kind])
def test_a_normalised_gate_has_one_bias_that_is_divided_and_one_that_is_not(kind: str) -> None:
    """And these models tell them apart."""
    run = model(kind)
    network, weights = Network.of(run), run.weights()
    back = network.as_model().weights()
    for k in range(run.num_layers):
        inside, after = weights[f"recurrent.bias_hh_l{k}"], weights[f"recurrent.bias_ih_l{k}"]
        assert np.array_equal(network.tensors[f"bias_l{k}"], inside)
        assert np.array_equal(network.tensors[f"gate_bias_l{k}"], after)
        assert np.array_equal(back[f"recurrent.bias_hh_l{k}"], inside)
        assert np.array_equal(back[f"recurrent.bias_ih_l{k}"], after)
        weights |= {
            f"recurrent.bias_hh_l{k}": np.zeros_like(inside),
            f"recurrent.bias_ih_l{k}": inside + after,  # both after the division
        }
    expected = run.logits([IDS])[0]
    assert np.abs(run.with_weights(weights).logits([IDS])[0] - expected).max() > 100 * EXACT


def test_an_embedding_is_multiplied_out_where_that_is_smaller() -> None:
    sizes = {D: Network.of(model(f"lstm-L{L}-H{H}-D{D}-{b}")) for L, H, D, b in
             ((1, 5, 2, "bias"), (3, 16, 40, "bias"), (2, 7, 0, "no bias"))}  # fmt: skip
    assert [sizes[D].shape.D for D in (2, 40, 0)] == [2, 0, 0]
    assert sizes[40].tensors["weight_ih_l0"].shape == (64, len(CHARACTERS))
    assert Network.of(TorchModel(CharLM(**LAYER_OF_256))).shape.D == 64


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_text_coding_gives_back_every_bit(kind: str, weights: Weights) -> None:
    network = Network.of(model(kind))
    text = encoding.encode(network, weights)
    assert not set(text) & set('"<?\\ \n')
    assert text.isascii()
    back, stored = encoding.decode(text, network.shape, weights), round_network(network, weights, PRINTABLE)
    for name, array in stored.tensors.items():
        assert np.array_equal(back.tensors[name], array), name


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_read_back_and_found_to_be_the_run(kind: str, ending: str, tmp_path: Path) -> None:
    for weights in WEIGHTS:
        path = tmp_path / f"story{ending}"
        done = export(model(kind), CHARACTERS, path, weights, name="</script>*/ \\")
        assert done.bytes == path.stat().st_size
        assert (done.file, done.weights) == (str(path), weights)
        assert done.max_abs_logit_error < EXACT
        assert (done.max_abs_logit_change > 0) == (weights != "fp32")
        assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_int8_is_a_scale_a_row_and_rows_of_zeros_stay_zeros() -> None:
    weights = model("lstm-L1-H5-D2-bias").weights()
    weights["recurrent.weight_hh_l0"][3] = 0
    weights["recurrent.weight_hh_l0"][4] *= 1000
    network = Network.of(model("lstm-L1-H5-D2-bias").with_weights(weights))
    exact, stored = network.tensors["weight_hh_l0"], round_network(network, "int8", PRINTABLE).tensors["weight_hh_l0"]
    assert not stored[3].any()
    half_a_step = np.abs(exact).max(axis=1, keepdims=True) / PRINTABLE / 2
    assert (np.abs(stored - exact) <= half_a_step * (1 + 1e-6)).all()


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_is_not_the_model_is_never_left(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"story{ending}"
    path.write_text("what was there before")

    def changed(network: Network) -> Network:
        other = {name: array.copy() for name, array in network.tensors.items()}
        other["weight_hh_l0"][0, 0] += 0.5  # one weight
        return Network(network.shape, other)

    for module in (c, html, onnx):
        monkeypatch.setattr(module, "write", lambda network, *rest, w=module.write: w(changed(network), *rest))
    with pytest.raises(ExportError, match="differs by"):
        export(model("gru-L1-H5-D2-bias"), CHARACTERS, path)
    assert path.read_text() == "what was there before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".html", ".c"])
def test_weights_cut_short_or_too_long_are_noticed(ending: str) -> None:
    network, module = Network.of(model("rnn-L1-H5-D2-bias")), {".html": html, ".c": c}[ending]
    written = module.write(network, CHARACTERS, "fp32", "a", "b")
    weights = encoding.encode(network, "fp32")
    for other, said in ((weights[:-4], "too early"), (weights + "AAAA", "too many")):
        with pytest.raises(ExportError, match=said):
            module.read(written.replace(weights, other))


def test_what_cannot_be_exported_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = model("lstm-L1-H5-D2-bias"), tmp_path / "story.c"
    with pytest.raises(SettingsError, match=r"story.txt: .* \.html, \.onnx, \.c or \.h"):
        export(run, CHARACTERS, tmp_path / "story.txt")
    with pytest.raises(SettingsError, match="weights = 'fp8': it must be fp32, fp16, int8"):
        export(run, CHARACTERS, path, "fp8")
    with pytest.raises(ExportError, match="nowhere"):
        export(run, CHARACTERS, tmp_path / "nowhere" / "story.c")
    (tmp_path / "folder.c").mkdir()
    with pytest.raises(ExportError, match="is a folder"):
        export(run, CHARACTERS, tmp_path / "folder.c")
    weights = run.weights()
    weights["output.weight"][2, 1] = 70_000
    run = run.with_weights(weights)
    with pytest.raises(ExportError, match=r"output holds .* --weights fp32"):
        export(run, CHARACTERS, path, "fp16")
    weights["output.weight"][2, 1] = np.nan
    run = run.with_weights(weights)
    with pytest.raises(ExportError, match=r"output.weight holds numbers that are not finite"):
        export(run, CHARACTERS, path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"pip install storycell\[onnx\]"):
        export(model("lstm-L1-H5-D2-bias"), CHARACTERS, tmp_path / "story.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.c"]


def test_a_cell_of_ones_own_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = model("rnn-L1-H5-D2-bias")
    run.cell = "mine"
    with pytest.raises(ExportError, match="the cell 'mine' cannot be exported; lstm, gru, rnn can"):
        export(run, CHARACTERS, tmp_path / "story.c")


def test_a_layer_of_256_is_small(tmp_path: Path) -> None:
    """Sizes do not depend on what the weights are."""
    run, vocab = TorchModel(CharLM(**LAYER_OF_256)), storycell.load().vocab
    sizes = {
        (ending, weights): export(run, vocab, tmp_path / f"story{ending}", weights).bytes
        for ending, weights in ((".html", None), (".c", "int8"), (".onnx", "int8"))
    }
    assert sizes[".html", None] < 1_330_000  # 0.26 MB of it is the engine
    assert sizes[".c", "int8"] < 400_000
    assert sizes[".onnx", "int8"] < 400_000


def test_int8_costs_less_than_a_hundredth_of_the_loss(stories: Path) -> None:
    text = "<|endoftext|>\n".join(stories.read_text(encoding="utf-8").split("<|endoftext|>\n")[:40])
    demo = storycell.load()
    before = demo.evaluate(text).loss_nats
    demo.network = round_network(Network.of(demo.network), "int8", PRINTABLE).as_model()
    after = demo.evaluate(text).loss_nats
    assert 0 < after / before < TARGET_LOSS


# The command


def test_the_command_writes_a_file_and_says_how_exact_it_is(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "story.html"
    outcome = command(capsys, "export", made, path, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert (told["file"], told["bytes"], told["weights"]) == (str(path), path.stat().st_size, "fp16")
    assert 0 <= told["max_abs_logit_error"] < EXACT
    outcome = command(capsys, "export", made, tmp_path / "story.c", "--weights", "int8")
    assert "int8 weights" in outcome.out
    assert "cc -O2" in outcome.err


def test_the_command_without_a_run_takes_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(capsys, "export", "story.c", "--weights", "int8").code == 0
    network = c.read((tmp_path / "story.c").read_text())
    assert (2, storycell.load().network.hidden_size) == (network.shape.L, network.shape.H)


def test_the_command_says_what_is_wrong(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "export").stated(2, "name the file to write")
    command(capsys, "export", made, tmp_path / "story.pdf").stated(2, "story.pdf", ".html, .onnx, .c or .h")
    command(capsys, "export", made, tmp_path / "no" / "story.c").stated(1, "story.c cannot be written", "no such file")
    command(capsys, "export", tmp_path / "none", "story.c").stated(1, "there is no run folder")
