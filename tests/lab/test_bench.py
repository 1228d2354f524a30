"""The bench: contestants do the work they are timed for, in turns, and the figures follow from the rates."""

import copy
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.instruction_sets import needs_kernel
from support.tiny_runs import command

from storycell import config, threads
from storycell.engine import EngineNetwork, library
from storycell.errors import MissingExtraError
from storycell.lab.bench import baselines, results, roofline, timing, train
from storycell.lab.bench import sample as sample_bench
from storycell.lab.bench.prepare import prepare
from storycell.lab.bench.results import chart, measure
from storycell.lab.bench.sample import sample
from storycell.lab.bench.timing import Spread, in_turns, seconds, time_interleaved
from storycell.lab.bench.workload import V, Workload
from storycell.nn.adapter import TorchModel
from storycell.training.engine_learner import EngineLearner
from storycell.training.learner import Learner
from storycell.training.start import build_learner
from storycell.training.torch_learner import TorchLearner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--hidden=16", "--embedding=4", "--streams=2", "--chunk=4", "--rounds=1", "--threads=1"]
KEYS = {
    "chars_per_s", "torch_fp32_chars_per_s", "torch_bf16_chars_per_s", "ratio_to_best_torch", "machine", "threads",
}  # fmt: skip
EXACT = 1e-5  # difference over norm of two float32 computations of the same thing


@pytest.fixture(autouse=True)
def small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline.products, "__defaults__", (64,))


class Clock:
    """A clock that goes on only where someone says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now_s)
        monkeypatch.setattr(timing.time, "sleep", self.wait)

    def wait(self, wait_s: float) -> None:
        self.now_s += wait_s


def test_contestants_are_timed_in_turns_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock, took_s = Clock(monkeypatch), iter([0.06] * 6 + [0.06, 0.12] + [0.06] * 4)

    def work(name: str, counted: int) -> Any:
        def run() -> int:
            calls.append(name)
            clock.wait(next(took_s))
            return counted

        return run

    rates = time_interleaved({"a": work("a", 6), "b": work("b", 3)}, rounds=2)
    assert calls == [*"ab", *"aa", *"bb", *"bb", *"aa"]  # warm-up; then untimed and timed, in turns
    assert rates["a"] == Spread(*(pytest.approx(rate) for rate in (100, 100, 100)))
    assert rates["b"] == Spread(*(pytest.approx(rate) for rate in (37.5, 25, 50)))


def test_quick_work_is_repeated_and_slow_work_is_not_warmed_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Clock(monkeypatch), {"quick": 0, "slow": 0}

    def work(name: str, took_s: float) -> Any:
        def run() -> int:
            calls[name] += 1
            clock.wait(took_s)
            return 1

        return run

    rates = time_interleaved({"quick": work("quick", 0.02), "slow": work("slow", 1.0)}, rounds=1)
    assert calls == {"quick": 1 + 1 + 3, "slow": 1 + 1}  # 0.06 s are more than `LEAST_S`
    assert (rates["quick"].median, rates["slow"].median) == (pytest.approx(50), pytest.approx(1))


def test_torch_computes_on_the_threads_of_the_bench_though_it_is_imported_by_it() -> None:
    program = """
from storycell.lab.bench.timing import on_threads
with on_threads(1):
    import torch
    print(torch.get_num_threads())
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]  # it takes every core otherwise


def test_timings_take_turns_with_something_between(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    values = {"a": iter([3.0, 1.0, 2.0]), "b": iter([5.0, 5.0, 8.0])}
    timings = {name: lambda name=name: order.append(name) or next(values[name]) for name in values}
    found = in_turns(timings, 3, lambda: order.append("-"))
    assert "".join(order) == "-a-b-b-a-a-b"
    assert found == {"a": Spread(2.0, 1.0, 3.0), "b": Spread(5.0, 5.0, 8.0)}
    clock = Clock(monkeypatch)
    assert seconds(lambda: clock.wait(0.5), 4) == 0.5


def test_what_a_script_measured_is_kept_and_printed_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results.keep({"rows": [1]}, tmp_path / "kept.json")
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == json.loads((tmp_path / "kept.json").read_text())
    assert json.loads(printed).keys() == {"rows", "machine", "load_average", "commit"}
    assert {"processor", "cores", "kernel", "torch", "storycell"} <= json.loads(printed)["machine"].keys()


@pytest.mark.parametrize("script", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_script_finds_what_it_imports(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if script.stem == "compression":
        pytest.importorskip("pyppmd", reason="pip install '.[bench]'")
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])  # as a script has it; some add to it
    found = runpy.run_path(str(script))
    assert callable(found["main"])
    assert script.name in (BENCHMARKS / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def step_script() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "training_step.py"))


def test_the_shares_of_a_step_are_told_and_add_up(step_script: dict[str, Any]) -> None:
    def times(step: float, **parts: float) -> dict[str, float]:
        seconds = {"step": step, **parts}
        return {
            f"{part} {clock}": k * s for part, s in seconds.items() for k, clock in ((1, "elapsed"), (2, "processor"))
        }

    rounds = {
        "train": [times(1.0, gradient=0.75, apply=0.125, batches=0.0625)] * 3,
        "bare": [times(0.75, gradient=0.5, apply=0.0625)] * 3,
        "same": [times(0.875, gradient=0.5, apply=0.1875)] * 3,
        "a product": [times(2.0**-30)] * 3,  # of one multiplication and addition
        "a slower product": [times(2.0**-29)] * 3,
    }
    figures = step_script["summary"](rounds, config.recipe("base"))
    expected = {"gradient": 0.75, "AdamW": 0.0625, "Muon": 0.0625, "batches": 0.0625, "Python": 0.0625}
    for clock, k in (("elapsed", 1), ("processor", 2)):
        assert figures[clock]["shares"] == expected
        assert figures[clock]["train_to_bare"] == 0.75
        assert figures[clock]["train_to_same"] == 0.875
        assert figures[clock]["product"] == "a product"
        assert figures[clock]["train_chars_per_s"] == 64 * 64 / k


@needs_kernel
def test_a_training_and_the_bare_step_are_watched_step_by_step(step_script: dict[str, Any], monkeypatch: Any) -> None:
    """By a clock that goes on by one whenever it is read."""
    settings = config.recipe("quick").with_changes(
        hidden=16, embedding=4, streams=2, chunk=4, precision="fp32", threads=1
    )
    ticks = iter(range(10**9))
    for clock in step_script["CLOCKS"]:
        monkeypatch.setitem(step_script["CLOCKS"], clock, lambda: float(next(ticks)))
    train_times, bare_times = step_script["training"](settings, 3), step_script["bare"](settings, "adamw")(3)
    parts = ("step", "gradient", "apply", "batches")
    assert train_times.keys() == {f"{part} {clock}" for part in parts for clock in step_script["CLOCKS"]}
    assert bare_times.keys() == {f"{part} {clock}" for part in parts[:3] for clock in step_script["CLOCKS"]}
    for found in (train_times, bare_times):
        for clock in step_script["CLOCKS"]:
            inside = sum(value for name, value in found.items() if name.endswith(clock) and not name.startswith("step"))
            assert 0 < inside < found[f"step {clock}"]


@pytest.mark.parametrize("task", ["train", "sample"])
def test_a_bench_prints_figures_that_follow_from_each_other(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = command(capsys, "bench", task, *TINY, "--json")
    assert outcome.code == 0, outcome.err
    measured = json.loads(outcome.out)
    assert set(measured) >= KEYS
    assert measured["threads"] == 1
    assert measured["streams"] == 2
    assert measured["machine"]["cores"] >= 1
    best = max(measured["torch_fp32_chars_per_s"], measured["torch_bf16_chars_per_s"])
    assert measured["ratio_to_best_torch"] == pytest.approx(measured["chars_per_s"] / best, rel=1e-2)
    assert measured["share_of_ceiling"] == pytest.approx(
        measured["chars_per_s"] / measured["ceiling_chars_per_s"], rel=1e-2, abs=1e-3
    )
    assert measured["article_chars_per_s"] > 0
    printed = "\n".join(results.lines(measured))
    for name in ("chars_per_s", "torch_fp32_chars_per_s", "ceiling_chars_per_s"):
        assert f"{measured[name]:,}" in printed


def test_one_stream_is_held_against_the_rate_of_reading_weights() -> None:
    measured = sample(Workload(hidden=16, embedding=4, rounds=1, loop=False))
    assert (measured["streams"], measured["threads"], measured["precision"]) == (1, 1, "fp32")
    assert "GB/s" in measured["ceiling"]
    assert measured["article_chars_per_s"] is None


@needs_kernel
def test_writing_is_measured_in_bf16_where_that_is_asked_for() -> None:
    measured = sample(Workload(hidden=16, embedding=4, rounds=1, loop=False, precision="bf16", streams=3))
    assert measured["precision"] == "bf16"
    assert measured["ceiling"].endswith("in bf16")


@needs_kernel
def test_int8_is_measured_beside_storycells_own_bf16_and_float32(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = command(capsys, "bench", "sample", *TINY, "--no-loop", "--precision", "int8", "--json")
    assert outcome.code == 0, outcome.err
    measured = json.loads(outcome.out)
    assert measured["precision"] == "int8"
    for other in ("storycell_bf16", "storycell_fp32"):
        ratio = measured["chars_per_s"] / measured[f"{other}_chars_per_s"]
        assert measured[f"ratio_to_{other}"] == pytest.approx(ratio, rel=1e-2)
    assert measured["ceiling"].startswith(roofline.OURS)
    assert measured["ceiling"].endswith("in int8")
    printed = "\n".join(results.lines(measured))
    assert "storycell, bf16" in printed
    assert "storycell, float32" in printed
    one = sample(Workload(hidden=16, embedding=4, rounds=1, loop=False, precision="int8"))
    assert one["ceiling"].startswith(f"{roofline.weights_read('lstm', 1, 16, V) / 1e6:.1f} MB")


def test_prepare_is_measured_beside_plain_python() -> None:
    measured = prepare(Workload(rounds=1), text_bytes=50_000)
    assert measured["bytes_per_s"] >= measured["chars_per_s"] > 0
    assert 50_000 <= measured["text_bytes"] < 100_000
    assert measured["ratio_to_plain_python"] > 0
    assert measured["torch_fp32_chars_per_s"] is None


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_timed_step_trains(cell: str) -> None:
    """Every contestant lowers its loss on the text that it reads again and again."""
    workload = Workload(cell=cell, hidden=16, embedding=8, streams=4, chunk=8, threads=1)
    text = train.draw_text(workload)
    ids, targets = (torch.from_numpy(part) for part in text)

    def loss_of(model: torch.nn.Module) -> float:
        with torch.no_grad():
            return F.cross_entropy(model(ids)[0].float().flatten(0, 1), targets.flatten()).item()

    def lowers(work: Any, loss: Any) -> bool:
        before = loss()
        assert [work() for _ in range(15)] == [32] * 15
        return loss() < before

    torchs = baselines.TorchModel(cell, V, 8, 16, 1)
    rounded = copy.deepcopy(torchs)
    assert lowers(baselines.step(torchs, text), lambda: loss_of(torchs))
    assert lowers(baselines.step(rounded, text, bf16=True), lambda: loss_of(rounded))
    if cell != "gru":
        loop = baselines.PlainLoop(cell, V, 16, 1)
        assert lowers(baselines.step(loop, text), lambda: loss_of(loop))
    for backend in ("native", "reference"):
        learner = build_learner(train.resolve(workload.model_copy(update={"backend": backend})), V)
        assert lowers(train.step(learner, text), lambda learner=learner: learner.model.nats(*text)[0].mean())


@needs_kernel
def test_what_is_measured_is_what_trains_and_what_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine on storycell's side, and torch where its backend is asked for."""
    kinds: dict[str, Any] = {}
    monkeypatch.setattr(train, "step", lambda learner, text: kinds.update(learner=learner) or (lambda: 1))
    monkeypatch.setattr(sample_bench, "write", lambda lm, streams: kinds.update(network=lm) or (lambda: 1))
    monkeypatch.setattr(baselines, "training", lambda *_: {})
    monkeypatch.setattr(baselines, "writing", lambda *_: {})
    for backend, learner, network in (
        ("auto", EngineLearner, EngineNetwork),
        ("native", EngineLearner, EngineNetwork),
        ("torch", TorchLearner, TorchModel),
        ("reference", TorchLearner, TorchModel),
    ):
        workload = Workload(hidden=16, embedding=4, streams=2, chunk=4, rounds=1, threads=1, backend=backend)
        found = [train.train(workload), sample(workload)]
        assert [type(kinds["learner"]), type(kinds["network"])] == [learner, network]
        named = "native" if backend == "auto" else backend
        assert [one["backend"] for one in found] == [named, named]


@needs_kernel
def test_a_step_carries_the_state_of_the_one_before() -> None:
    seen: list[Any] = []

    class Watched:
        def gradient(self, ids: Any, targets: Any, step: int, kept: Any) -> tuple[float, float]:
            seen.append((step, None if kept is None else kept.tolist()))
            return 1.0, 1.0

        def apply(self, rate: float) -> None:
            seen.append(rate)

    learner: Learner = Watched()  # type: ignore[assignment]
    work = train.step(learner, train.draw_text(Workload(streams=2, chunk=3)))
    assert [work(), work()] == [6, 6]
    assert seen == [(0, None), 1e-3, (1, [True, True]), 1e-3]


@pytest.mark.parametrize("L", [1, 2])
def test_the_plain_loop_is_torchs_lstm_with_one_hot_input(L: int) -> None:
    H = 6
    loop, layer = baselines.PlainLoop("lstm", 5, H, L), torch.nn.LSTM(5, H, L, bias=False, batch_first=True)
    weights = {}
    for k in range(L):
        gates = slice(4 * k, 4 * k + 4)
        weights[f"weight_ih_l{k}"] = torch.cat([w.t() for w in list(loop.W_x)[gates]])
        weights[f"weight_hh_l{k}"] = torch.cat([w.t() for w in list(loop.W_h)[gates]])
    layer.load_state_dict(weights)
    ids = torch.randint(0, 5, (3, 7))
    expected = loop.output(layer(F.one_hot(ids, 5).float())[0])
    first, state = loop(ids[:, :4])
    second, _ = loop(ids[:, 4:], state)
    assert (torch.cat((first, second), 1) - expected).norm() / expected.norm() < EXACT


def test_torch_compile_that_does_not_run_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> object:
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr(torch, "compile", refuse)
    outcome = command(capsys, "bench", "train", *TINY, "--compile", "--no-loop")
    assert outcome.code == 0, outcome.err
    assert "torch.compile was left out: RuntimeError: no compiler here\n" in outcome.out
    assert "article" not in outcome.out


def test_what_writes_writes_as_much_as_it_says() -> None:
    lm = sample_bench.endless(Workload(hidden=8, embedding=4), "fp32")
    # 10 ms of a guessed millisecond a character and stream
    assert sample_bench.write(lm, 3)() == 3 * 3
    assert baselines.write(baselines.TorchModel("gru", V, 4, 8, 1).eval(), 2)() == 2 * 32


def test_the_ceiling_counts_the_products_of_a_step() -> None:
    assert roofline.weights_read("lstm", 1, 256, 96) == 4 * 256 * 256 + 256 * 96
    assert roofline.training_flop("gru", 2, 10, 7) == 6 * (3 * 100 * 3 + 70)
    assert [work() for work in roofline.products("bf16", 32).values()] in ([2 * 32**3], [2 * 32**3] * 2)
    with threads.computing_on(1, 1):
        assert roofline.products("fp32", 32)[roofline.NUMPYS]() == 2 * 32**3
    with threads.computing_on(2, 2):
        assert roofline.NUMPYS not in roofline.products("fp32", 32)
    assert [work() for work in roofline.readings().values()] == [64 * 2**18] * 2
    rates = {roofline.TORCHS: Spread(2e9, 1e9, 3e9), roofline.OURS: Spread(4e9, 1e9, 5e9), "storycell": Spread(1, 1, 1)}
    assert roofline.take_best(rates) == (4e9, "a product of the engine's, 4 GFLOP/s")
    assert list(rates) == ["storycell"]
    rates = {roofline.TORCHS_READING: Spread(9e9, 1e9, 9e9), roofline.NUMPYS_READING: Spread(4e9, 1e9, 5e9)}
    assert roofline.take_best(rates) == (9e9, "torch's sum of a near array, 9 GB/s")


@needs_kernel
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_engines_large_product_is_a_product(precision: str) -> None:
    draws = np.random.default_rng(1)
    left, right = (draws.uniform(-1, 1, (48, 48)).astype(np.float32) for _ in range(2))
    out = np.empty_like(left)
    assert roofline.own_product(precision, left, right, out)() == 2 * 48**3
    rounded = [torch.from_numpy(m).to(torch.bfloat16).double() if precision == "bf16" else torch.from_numpy(m).double()
               for m in (left, right)]  # fmt: skip
    expected = (rounded[0] @ rounded[1]).numpy()
    allowed = 0.01 if precision == "int8" else EXACT  # of bytes: half of a 127th, twice
    assert np.linalg.norm(out - expected) / np.linalg.norm(expected) < allowed


def test_a_machine_without_the_engine_has_torchs_product(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("not built")

    monkeypatch.setattr(library, "library", missing)
    assert list(roofline.products("bf16", 32)) == [roofline.TORCHS]
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="measuring on a machine without the engine"):
        roofline.products("fp32", 32)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["train", "--hidden=0"], "hidden"),
        (["train", "--rounds=0"], "rounds"),
        (["train", "--precision=int8"], "bench sample --precision int8"),
    ],
)
def test_wrong_sizes_are_stated(flags: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "bench", *flags).stated(2, word)


def test_a_grid_is_kept_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def measured(workload: Workload) -> dict[str, Any]:
        rates = {
            "storycell": Spread(40.0, 30.0, 50.0),
            "torch_fp32": Spread(10.0, 9.0, 11.0),
            "torch_bf16": Spread(8, 7, 9),
        }
        made = workload.model_dump() | {"backend": "native", "streams": 4}
        return results.summary("train", made, rates, results.Ceiling(80.0, "made up"))

    workloads = [Workload(hidden=H, layers=L, threads=1) for H in (8, 16) for L in (1, 2)]
    rows = measure(measured, workloads, tmp_path / "rows.json")
    kept = json.loads((tmp_path / "rows.json").read_text())
    assert kept == json.loads(json.dumps(rows))
    assert [(row["hidden"], row["ratio_to_best_torch"], row["share_of_ceiling"]) for row in kept] == [
        (H, 4.0, 0.5) for H in (8, 8, 16, 16)
    ]
    assert "50% of the ceiling" in capsys.readouterr().out
    assert chart(rows, threads=1).startswith(b"\x89PNG")
    alone = [
        row | {"torch_fp32_chars_per_s": None, "torch_bf16_chars_per_s": None, "ratio_to_best_torch": None}
        for row in rows
    ]
    assert chart(alone, threads=1).startswith(b"\x89PNG")
