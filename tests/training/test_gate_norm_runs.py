"""Runs with normalised gates: trained, resumed, scored, sampled, compressed and served alike by engine and torch; what
would take them for a plain LSTM refuses them."""

import asyncio
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.instruction_sets import needs_kernel
from support.tiny_runs import TEXT, command

import storycell
from storycell.engine import EngineNetwork
from storycell.errors import ResumeError, RunFolderError, SettingsError
from storycell.inspect.gradients import gradient_flow
from storycell.inspect.steering import Direction
from storycell.lab.compress import archive, fingerprint
from storycell.nn.adapter import TorchModel
from storycell.nn.cells.lstm import NormalisedLSTM
from storycell.runs.folder import RunFolder
from storycell.runs.network import new_model

pytestmark = needs_kernel

SMALL: dict[str, Any] = {
    "layers": 2, "hidden": 16, "embedding": 8, "streams": 4, "chunk": 16, "evaluations": 2, "threads": 1,
    "gate_norm": True, "precision": "fp32",
}  # fmt: skip
ROUNDING = 2e-5  # of losses and values of about 1, float32
HELD = {("c", 0, 3): 1.0, ("h", 1, 2): -0.5}
GOLDEN = Path(__file__).parents[1] / "golden"
READ = TEXT.split("<|endoftext|>")[0] + "Ben had a red cat.\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the engine, with n-grams and matches, and checkpoints."""
    folder = tmp_path_factory.mktemp("runs") / "norm"
    more = {"ngrams": 3, "ngram_rows": 50, "matches": 4, "steps": 60, "checkpoints": "log", "save_every": 1e-6}
    return storycell.train(text, out=folder, quiet=True, **SMALL, **more).path


@pytest.fixture(scope="module")
def model(run: Path) -> storycell.Model:
    return storycell.load(run)


@pytest.fixture(scope="module")
def by_torch(run: Path) -> storycell.Model:
    return storycell.load(run, backend="torch")


# Runs


def test_the_run_says_that_its_gates_are_normalised(
    run: Path, model: storycell.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((run / "config.json").read_text())["settings"]["model"]["gate_norm"] is True
    assert isinstance(model.network, EngineNetwork)
    assert model.network.gate_norm
    assert model.lm.gate_norm
    assert "normalised gates" in json.loads(command(capsys, "info", run, "--json").out)["run"]["network"]
    older = command(capsys, "info", GOLDEN / "older-run", "--json").out
    assert "normalised" not in json.loads(older)["run"]["network"]


def test_a_run_from_before_there_were_normalised_gates_has_none() -> None:
    older = GOLDEN / "older-run"
    assert "gate_norm" not in (older / "config.json").read_text()
    assert not RunFolder(older).config().settings.model.gate_norm
    assert not storycell.load(older).network.gate_norm


@pytest.mark.parametrize("optimizer", ["adamw", "normuon"])
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_it_resumes_to_the_bit(text: Path, tmp_path: Path, backend: str, optimizer: str) -> None:
    def stop(report: Any) -> None:
        if report.step == 5:
            raise InterruptedError

    usual: dict[str, Any] = {**SMALL, "backend": backend, "optimizer": optimizer, "dropout": 0.1, "steps": 10}
    whole = storycell.train(text, out=tmp_path / "whole", quiet=True, **usual)
    with pytest.raises(InterruptedError):
        storycell.train(text, out=tmp_path / "parts", save_every=1e-6, callback=stop, **usual)
    parts = storycell.resume(tmp_path / "parts", quiet=True)
    for name in ("model.safetensors", "last.safetensors"):
        ended, went_on = (load_file(Path(result.path) / name) for result in (whole, parts))
        assert ended.keys() == went_on.keys()
        assert all(np.array_equal(ended[key], went_on[key]) for key in ended)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_alike_by_engine_and_torch(text: Path, tmp_path: Path, precision: str) -> None:
    ended = {}
    for backend in ("native", "torch"):
        how = {**SMALL, "backend": backend, "precision": precision, "steps": 100, "lr": 1e-2}
        found = storycell.train(text, out=tmp_path / f"{backend}", quiet=True, **how)
        assert (found.settings.training.backend, found.settings.training.precision) == (backend, precision)
        ended[backend] = found.summary["valid_nats"]
    assert ended["native"] < 2.4  # from 3.7
    assert ended["native"] == pytest.approx(ended["torch"], abs=2e-3 if precision == "fp32" else 5e-2)


def test_resuming_may_not_change_it(run: Path) -> None:
    with pytest.raises(ResumeError, match="gate_norm cannot change from True to False"):
        storycell.resume(run, gate_norm=False)


def test_what_starts_from_a_run_takes_it_over_and_may_not_change_it(run: Path, text: Path, tmp_path: Path) -> None:
    how = {name: SMALL[name] for name in ("streams", "chunk", "threads")}
    on = storycell.train(text, out=tmp_path / "on", init=run, quiet=True, steps=2, **how)
    assert on.settings.model.gate_norm
    storycell.train(text, out=tmp_path / "plain", quiet=True, steps=2, hidden=8, gate_norm=False, **how)
    for donor, asked in ((run, False), (tmp_path / "plain", True)):
        with pytest.raises(SettingsError, match=f"gate_norm = {asked}: .* gate_norm = {not asked}; leave --gate-norm"):
            storycell.train(text, out=tmp_path / "no", init=donor, gate_norm=asked, steps=2, **how)
    assert not (tmp_path / "no").exists()


def test_the_command_line_asks_for_it(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", text, "--out", tmp_path / "run", "--steps=2", "--hidden=8", "--streams=4", "--chunk=16")
    command(capsys, *words, "--gate-norm", "--cell", "gru").stated(2, "gate_norm = True", "cell is 'gru'")
    command(capsys, *words, "--gate-norm", "--no-gate-bias").stated(2, "gate_norm = True", "gate_bias is off")
    command(capsys, *words, "--recipe", "article-lstm-32", "--gate-norm").stated(2, "gate_bias is off")
    assert not (tmp_path / "run").exists()
    assert command(capsys, *words, "--gate-norm").code == 0
    assert storycell.load(tmp_path / "run").network.gate_norm


def test_the_recipe_best_plans_for_it(text: Path, tmp_path: Path) -> None:
    how = {name: SMALL[name] for name in ("streams", "chunk", "threads", "gate_norm")}
    made = storycell.train(text, out=tmp_path / "run", recipe="best", chars=600, quiet=True, hidden=8, layers=1, **how)
    assert made.settings.model.gate_norm
    assert made.model.network.gate_norm


def test_recipes_have_it_by_the_engine_and_by_torch_where_it_is_asked_for(text: Path, tmp_path: Path) -> None:
    how = {name: SMALL[name] for name in ("streams", "chunk", "threads")}
    for name in ("small", "best"):
        for backend in ("native", "torch"):
            for asked in ({}, {"gate_norm": True}):
                out = tmp_path / f"{name}-{backend}-{len(asked)}"
                made = storycell.train(
                    text, out=out, recipe=name, quiet=True, steps=2, hidden=8, layers=1, backend=backend, **how, **asked
                ).settings
                assert made.model.gate_norm == (backend == "native" or bool(asked)), out
                assert (made.training.lr > 0.01) == made.model.gate_norm, out


def test_soft_targets_teach_it(text: Path, tmp_path: Path) -> None:
    for backend in ("native", "torch"):
        how = {**SMALL, "backend": backend, "soft_targets": 0.8, "steps": 12}
        storycell.train(text, out=tmp_path / backend, quiet=True, **how)
    a, b = (storycell.load(tmp_path / backend).evaluate(TEXT).loss_nats for backend in ("native", "torch"))
    assert a == pytest.approx(b, abs=1e-3)


# Scored and sampled


def plain(model: storycell.Model) -> EngineNetwork:
    """A plain LSTM with the weights of a model."""
    context = model.network.context
    return EngineNetwork(model.network.weights(), ngrams=context.ngrams, matches=context.matches)


def test_engine_and_torch_score_alike_and_not_as_a_plain_lstm_does(
    model: storycell.Model, by_torch: storycell.Model
) -> None:
    assert isinstance(by_torch.network, TorchModel)
    assert (by_torch.network.backend, by_torch.network.gate_norm) == ("torch", True)
    nats = model.score(READ)
    assert np.abs(nats - by_torch.score(READ)).max() < ROUNDING
    other = storycell.Model(plain(model), model.vocab, model.config, model.path).score(READ)
    assert np.abs(nats - other).max() > 0.5
    assert model.evaluate(TEXT).loss_nats == pytest.approx(by_torch.evaluate(TEXT).loss_nats, abs=ROUNDING)
    assert model.evaluate(TEXT, windows=16).loss_nats == pytest.approx(
        by_torch.evaluate(TEXT, windows=16).loss_nats, abs=ROUNDING
    )


@pytest.mark.parametrize("how", [{"greedy": True}, {"seed": 3}, {"seed": 4, "temperature": 1.2, "top_k": 5}])
def test_engine_and_torch_write_the_same_text(
    model: storycell.Model, by_torch: storycell.Model, how: dict[str, Any]
) -> None:
    assert model.generate("Once", 80, **how) == by_torch.generate("Once", 80, **how)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_it_is_sampled_in_less_than_float32(run: Path, model: storycell.Model, precision: str) -> None:
    written = storycell.load(run, precision=precision).generate("Once", 40, greedy=True)
    assert written[:8] == model.generate("Once", 40, greedy=True)[:8]


def test_eval_and_sample_take_it(
    run: Path, text: Path, model: storycell.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = command(capsys, "eval", run, text, "--json")
    assert json.loads(scored.out)["loss_nats"] == pytest.approx(model.evaluate(TEXT).loss_nats, abs=ROUNDING)
    by_torch = command(capsys, "eval", run, text, "--backend", "torch", "--json")
    assert json.loads(by_torch.out)["loss_nats"] == pytest.approx(model.evaluate(TEXT).loss_nats, abs=ROUNDING)
    written = command(capsys, "sample", run, "Once", "--chars", 30, "--greedy")
    assert written.out == model.generate("Once", 30, greedy=True) + "\n"


def test_copies_of_a_network_keep_it(model: storycell.Model) -> None:
    network = model.network
    for one in (network.with_weights(network.weights()), network.copy_untrained(1), network.frozen()):
        assert one.gate_norm
    assert np.array_equal(
        network.with_weights(network.weights()).logits([[0, 2, 3]])[0], network.logits([[0, 2, 3]])[0]
    )
    drawn = new_model(len(model.vocab), model.config.settings.model, seed=1)
    assert drawn.gate_norm
    assert np.array_equal(drawn.logits([[0, 2, 3]])[0], network.copy_untrained(1).logits([[0, 2, 3]])[0])


def test_mixed_with_an_ngram_it_stays_itself(
    run: Path, text: Path, by_torch: storycell.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(command(capsys, "eval", run, text, "--with-ngram", "--json").out)
    other = json.loads(command(capsys, "eval", run, text, "--with-ngram", "--backend", "torch", "--json").out)
    assert found == {**other, **{k: pytest.approx(v, abs=1e-4) for k, v in other.items() if isinstance(v, float)}}


def test_a_file_comes_back_from_it(model: storycell.Model) -> None:
    data, packed, back = TEXT[:1500].encode(), io.BytesIO(), io.BytesIO()
    archive.compress(model.network, model.vocab, io.BytesIO(data), packed)
    assert len(packed.getvalue()) < 0.6 * len(data)
    packed.seek(0)
    archive.decompress(model.network, model.vocab, packed, back, "a file")
    assert back.getvalue() == data


def test_a_file_packed_with_it_is_none_of_a_plain_lstm_with_its_weights(model: storycell.Model) -> None:
    assert fingerprint.of_model(model.network, model.vocab) != fingerprint.of_model(plain(model), model.vocab)


def test_compare_and_novelty_take_it(run: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(command(capsys, "compare", run, "demo", "--text", text, "--json").out)["rows"]
    assert len(rows) >= 2
    told = json.loads(command(capsys, "novelty", run, text, "--json").out)
    assert told["longest_copied"] >= 0


# Looking inside: by the lines of engine.cells, which torch's are the reference of


def test_every_gate_and_state_of_a_trace_is_the_references(model: storycell.Model, by_torch: storycell.Model) -> None:
    ours, theirs = model.trace(READ), by_torch.trace(READ)
    assert ours.names == theirs.names == ("i", "f", "g", "o", "c", "h")
    for layer in range(2):
        for name in ours.names:
            assert np.abs(ours[name, layer] - theirs[name, layer]).max() < ROUNDING
    assert np.abs(ours.nats - model.score(READ)).max() < ROUNDING


def test_gradients_through_time_are_autograds(model: storycell.Model, by_torch: storycell.Model) -> None:
    flows = [gradient_flow(one.trace(READ), 8, samples=16) for one in (model, by_torch)]
    assert flows[0].norms.keys() == flows[1].norms.keys()
    for key, norms in flows[0].norms.items():
        assert np.allclose(norms, flows[1].norms[key], rtol=1e-3)


def test_held_units_are_held_alike_by_engine_and_torch(model: storycell.Model, by_torch: storycell.Model) -> None:
    held = model.generate("Once", 60, greedy=True, hold=HELD)
    assert held == by_torch.generate("Once", 60, greedy=True, hold=HELD)
    assert held != model.generate("Once", 60, greedy=True)
    assert model.generate("Once", 60, greedy=True, hold={("c", 1, 3): 4.0, ("h", 1, 4): -1.0}) != held


def test_exchanged_states_are_read_on_alike(model: storycell.Model, by_torch: storycell.Model) -> None:
    ours, theirs = (one.patch("Once Ann", "Once Ben had", then=" ", chars=20, seed=2) for one in (model, by_torch))
    for name in ("before", "after", "source"):
        assert np.abs(getattr(ours, name) - getattr(theirs, name)).max() < ROUNDING
    assert ours.text == theirs.text


def test_who_wrote_a_memory_adds_up_to_it(model: storycell.Model) -> None:
    found = model.authors(READ, 1, 3)
    assert found.shares.sum() == pytest.approx(float(model.trace(READ)["c", 1][-1, 3]), abs=1e-4)


def test_the_report_has_every_section(
    run: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("inspect", run, text, "--out", tmp_path / "page.html", "--film", "--json")
    done = command(capsys, *words)
    assert done.code == 0, done.err
    figures = json.loads(done.out)["figures"]
    assert {"gradients", "saturation", "film", "ablation"} <= {name.split("-")[0] for name in figures}
    assert (tmp_path / "page.html").stat().st_size > 10_000


ALONG = Direction("a direction", 0, np.ones(SMALL["hidden"], np.float32))


def test_a_step_and_a_direction_are_the_same_by_engine_and_torch(
    model: storycell.Model, by_torch: storycell.Model
) -> None:
    for ours, theirs in zip(model.step("Once", 1, 3).sums, by_torch.step("Once", 1, 3).sums, strict=True):
        assert vars(ours) == pytest.approx({**vars(theirs)}, abs=ROUNDING)
    steered, other = (one.steer(ALONG, 2.0) for one in (model, by_torch))
    assert np.abs(steered.score(READ) - other.score(READ)).max() < ROUNDING
    assert np.abs(steered.score(READ) - model.score(READ)).max() > 100 * ROUNDING


@pytest.mark.parametrize(
    "words",
    [("story.html",), ("story.c",), ("story.onnx",), ("--npm", "package"), ("--trainer", "learn.html")],
)
def test_export_takes_it(
    run: Path,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a file computes is compared with the run before it is left; tests/export has such networks, too."""
    monkeypatch.chdir(tmp_path)
    done = command(capsys, "export", run, *words)
    assert done.code == 0, done.err
    assert (tmp_path / words[-1]).exists()


def test_sample_is_steered(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ALONG.save(tmp_path / "direction")
    words = ("sample", run, "Once", "--steer", f"{tmp_path / 'direction'}:3", "--greedy")
    found = command(capsys, *words)
    assert found.code == 0, found.err
    assert found.out != command(capsys, "sample", run, "Once", "--greedy").out


# Served


def test_it_is_served(model: storycell.Model) -> None:
    pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
    from support.live_server import in_this_process

    async def scene() -> None:
        async with in_this_process(model) as ask:
            card = (await ask("/v1/models", None, "GET")).json["data"][0]
            assert (card["cell"], card["steps"], card["holds"]) == ("lstm", True, True)
            body = {"prompt": "Once", "max_tokens": 40, "temperature": 0.0}
            written = (await ask("/v1/completions", body)).choice()
            assert "Once" + written["text"] == model.generate("Once", 40, greedy=True)
            held = {"hold": [{"name": "c", "layer": 0, "unit": 3, "value": 1.0}]}
            other = (await ask("/v1/completions", body | held | {"prompt": ""})).choice()
            assert other["text"] == model.generate("", 40, greedy=True, hold={("c", 0, 3): 1.0})
            asked = {"prompt": "Once upon", "layer": 1, "name": "f", "units": [2]}
            seen = (await ask("/v1/trace", asked)).json["values"][0]
            assert seen == pytest.approx(model.trace("Once upon")["f", 1][:, 2], abs=1e-3)
            step = (await ask("/v1/step", {"prompt": "Once", "layer": 0, "name": "c", "unit": 2})).json
            assert step["after"]["c"] == pytest.approx(float(model.trace("Once")["c", 0][-1, 2]), abs=1e-3)
            page = await ask("/learn", None, "GET")
            assert b'"gateNorm": true' in page.content  # a model to start from

    asyncio.run(scene())


# Layers of torch


def test_storycells_lstm_layer_stays_torchs() -> None:
    ours, theirs = storycell.LSTM(3, 4), torch.nn.LSTM(3, 4)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 2, 3)
    assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)


def test_a_config_that_names_the_form_instead_of_the_cell_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["settings"]["model"] |= {"cell": NormalisedLSTM.name, "gate_norm": False}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match="there is no cell 'lstm with normalised gates'"):
        storycell.load(copy)
