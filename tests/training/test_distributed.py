"""Training in several processes: the same losses as in one, whatever happens to any of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.distributed_training import Ended, Ranks, environment, send, wait_for_a_save
from test_resume import assert_equal_runs

import storycell
from storycell.context import TABLE
from storycell.data.batches import Streams, Windows
from storycell.errors import SettingsError
from storycell.runs.folder import RunFolder
from storycell.training.processes import ProcessGroup

pytestmark = pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="the processes are forked")

SAME = 1e-5  # nats: sums of the same numbers in another order, over the steps compared here
GONE = "the connection to another one is gone"
NETWORK = ["--hidden=20", "--embedding=6", "--layers=2", "--chunk=16", "--threads=1", "--precision=fp32"]
FLAGS = [*NETWORK, "--streams=6", "--reset=0.1", "--schedule=constant", "--warmup=0", "--evaluations=3"]
STEPS = 24  # fewer than there are log lines, so that every step has one


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    with pytest.MonkeyPatch.context() as patch, Ranks(tmp_path_factory.mktemp("said")) as made:
        patch.setenv("STORYCELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield made


@pytest.fixture(scope="module")
def alone(ranks: Ranks, training_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, which all others are compared with."""
    return trained(ranks, 1, training_text, tmp_path_factory.mktemp("alone") / "run")


def trained(ranks: Ranks, count: int, training_text: Path, run: Path, *more: str) -> Path:
    ended = ranks.run(count, "train", training_text, "--out", run, *FLAGS, f"--steps={STEPS}", *more)
    assert ended.codes == [0] * count, ended.said
    assert not any(ended.said[1:] + ended.printed[1:]), "only the first process talks"
    return run


def losses(run: Path, key: str = "train_nats") -> dict[int, float]:
    return {entry["step"]: entry[key] for entry in RunFolder(run).metrics() if entry[key] is not None}


def position(run: Path) -> dict[str, float]:
    about = RunFolder(run).load_last(storycell.load(run).lm.shapes())[1]
    return dict(about["position"])


def assert_same_losses(run: Path, other: Path) -> None:
    for key in ("train_nats", "valid_nats"):
        ours, theirs = losses(run, key), losses(other, key)
        assert len(theirs) >= 3
        assert ours == pytest.approx(theirs, abs=SAME)


def stated(said: str, *parts: str) -> None:
    """One sentence, after what was held out if the training began here, and no traceback."""
    *notes, sentence = said.splitlines()
    assert all(note.startswith("held out to validate on: ") for note in notes), said
    assert sentence.startswith("storycell: "), said
    assert "unexpected" not in sentence
    for part in parts:
        assert part in sentence


@given(st.integers(1, 90), st.integers(1, 12))
def test_every_stream_belongs_to_one_process(B: int, count: int) -> None:
    parts = []
    for rank in range(count):
        process = ProcessGroup()
        process.rank, process.count = rank, count
        if count > B:
            with pytest.raises(SettingsError, match="cannot be divided"):
                process.rows(B)
        else:
            parts.append(range(B)[process.rows(B)])
    assert count > B or [row for part in parts for row in part] == list(range(B))
    assert count > B or max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(0, 50), st.integers(0, 6), st.integers(0, 6))
def test_a_process_reads_its_rows_of_the_chunk(step: int, first: int, more: int) -> None:
    ids, rows = np.arange(100, dtype=np.uint16), slice(first, first + more)
    for batches in (Streams(ids, 6, 5), Windows(ids, 6, 5, seed=4)):
        for part, whole in zip(batches.at(step, rows), batches.at(step), strict=True):
            assert np.array_equal(part, whole[rows])


@pytest.mark.parametrize(("count", "backend"), [(2, "auto"), (4, "auto"), (4, "torch")])
def test_several_processes_learn_what_one_does(
    count: int, backend: str, ranks: Ranks, training_text: Path, alone: Path, tmp_path: Path
) -> None:
    """Six streams: two processes have three each, of four two have one and two have two."""
    run = trained(ranks, count, training_text, tmp_path / "run", f"--backend={backend}")
    assert_same_losses(run, alone)
    assert len(losses(run)) == STEPS


@pytest.mark.parametrize(("count", "matches"), [(2, 0), (4, 0), (2, 6), (3, 6)])
def test_the_engine_adds_up_the_rows_of_n_grams_and_matches_too(
    count: int, matches: int, ranks: Ranks, training_text: Path, tmp_path: Path
) -> None:
    """And Muon, whose step is no sum over numbers, is the same to rounding."""
    more = ["--ngrams=3", "--ngram-rows=3001", f"--matches={matches}", "--optimizer=muon", "--average=0.9"]
    one, several = (trained(ranks, n, training_text, tmp_path / f"run{n}", *more) for n in (1, count))
    assert_same_losses(several, one)
    moved = [storycell.load(run).network.weights()[TABLE] for run in (one, several)]
    assert not matches or np.abs(moved[0][3001:]).sum() > 0
    assert np.array_equal(np.abs(moved[0]).sum(axis=1) > 0, np.abs(moved[1]).sum(axis=1) > 0)
    np.testing.assert_allclose(moved[1], moved[0], atol=SAME)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_soft_targets_are_learnt_by_several_as_by_one(
    backend: str, ranks: Ranks, training_text: Path, tmp_path: Path
) -> None:
    more = ["--soft-targets=0.9", f"--backend={backend}"]
    one, two = (trained(ranks, n, training_text, tmp_path / f"run{n}", *more) for n in (1, 2))
    assert_same_losses(two, one)


def test_every_process_of_the_engine_has_the_same_weights_to_the_bit(
    ranks: Ranks, training_text: Path, tmp_path: Path
) -> None:
    """Though each drew others, has streams of its own and drops what it likes: after every step they are one model."""
    more = ["--gate-norm", "--ngrams=3", "--matches=6", "--dropout=0.2", "--optimizer=normuon", f"--steps={STEPS}"]
    faults = {rank: {"digests": str(tmp_path / f"digests{rank}")} for rank in range(3)}
    ended = ranks.run(3, "train", training_text, "--out", tmp_path / "run", *FLAGS, *more, faults=faults)
    assert ended.codes == [0] * 3, ended.said
    digests = [(tmp_path / f"digests{rank}").read_text().split() for rank in range(3)]
    assert len(set(digests[0])) == STEPS
    assert digests[0] == digests[1] == digests[2]


def test_windows_and_the_mean_of_the_weights_are_the_same_too(
    ranks: Ranks, training_text: Path, tmp_path: Path
) -> None:
    more = ["--batching=windows", "--average=0.9", "--cell=gru", "--backend=torch", "--optimizer=muon"]
    one, two = (trained(ranks, count, training_text, tmp_path / f"run{count}", *more) for count in (1, 2))
    assert_same_losses(two, one)


@pytest.mark.soak
def test_over_200_steps_two_processes_learn_what_one_does(ranks: Ranks, tmp_path: Path, real_data: object) -> None:
    text = real_data("tinystories/valid.txt")  # type: ignore[operator]
    runs = []
    for count in (1, 2):
        words = ["train", text, "--recipe=small", "--steps=200", "--evaluations=20", "--precision=fp32", "--threads=2"]
        ended = ranks.run(count, *words, "--out", tmp_path / f"run{count}")
        assert ended.codes == [0] * count, ended.said
        runs.append(tmp_path / f"run{count}")
    assert len(losses(runs[0])) == 200
    assert_same_losses(*runs)


def test_a_run_goes_on_in_any_number_of_processes(
    ranks: Ranks, training_text: Path, alone: Path, tmp_path: Path
) -> None:
    """Begun by 2, stopped by SIGTERM, resumed by 4, killed, resumed by 1: the losses are those of one process."""
    run = tmp_path / "run"
    flags = [*FLAGS, f"--steps={STEPS}", "--save-every=0.000001"]
    pids = ranks.start(2, "train", training_text, "--out", run, *flags)
    wait_for_a_save(run, wait_for_a_save(run))
    send(pids[1:], signal.SIGTERM)
    assert ranks.wait().codes == [143, 143]
    reached = position(run)["step"]
    assert 0 < reached < STEPS
    pids = ranks.start(4, "train", "--resume", run)
    wait_for_a_save(run, wait_for_a_save(run))
    send(pids[2:3], signal.SIGKILL)
    ended = ranks.wait()
    if ended.codes != [0] * 4:  # on a fast machine it may have come to its end
        assert ended.codes == [1, 1, -signal.SIGKILL, 1]
        for said in ended.said[:2]:
            stated(said, GONE, "storycell train --resume")
    assert position(run)["step"] >= reached
    assert ranks.run(1, "train", "--resume", run).codes == [0]
    assert_same_losses(run, alone)


@pytest.fixture(scope="module")
def in_two(ranks: Ranks, training_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes, with dropout, undisturbed."""
    return trained(ranks, 2, training_text, tmp_path_factory.mktemp("two") / "run", "--dropout=0.1")


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_all_and_the_run_ends_equal_to_the_bit(
    victim: int, ranks: Ranks, training_text: Path, in_two: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["train", training_text, "--out", run, *FLAGS, f"--steps={STEPS}", "--dropout=0.1", "--save-every=1e-6"]
    pids = ranks.start(2, *words)
    wait_for_a_save(run, wait_for_a_save(run))
    send(pids[victim : victim + 1], signal.SIGKILL)
    ended = ranks.wait()
    assert ended.codes[victim] == -signal.SIGKILL
    assert ended.codes[1 - victim] == 1
    stated(ended.said[1 - victim], f"process {1 - victim} of 2", GONE)
    assert ranks.run(2, "train", "--resume", run).codes == [0, 0]
    assert_equal_runs(run, in_two)


def test_ctrl_c_that_comes_twice_to_all_saves_and_one_process_says_so(
    ranks: Ranks, training_text: Path, tmp_path: Path
) -> None:
    """The terminal sends it to every process, and torchrun passes it on."""
    run = tmp_path / "run"
    pids = ranks.start(2, "train", training_text, "--out", run, *FLAGS, "--steps=100000", "--save-every=0.01")
    wait_for_a_save(run, wait_for_a_save(run))
    send(pids, signal.SIGINT)
    send(pids, signal.SIGINT)
    ended = ranks.wait()
    assert ended.codes == [130, 130], ended.said
    assert f"stopped by SIGINT at step {position(run)['step']:,}, everything saved" in ended.said[0]
    assert f"storycell train --resume {run}" in ended.said[0]
    assert not ended.said[1]


def test_a_loss_that_is_not_finite_in_one_process_is_skipped_by_all(
    ranks: Ranks, training_text: Path, tmp_path: Path
) -> None:
    words = ["train", training_text, *FLAGS, "--steps=40", "--json"]  # it gives up after 25 of them
    ended = ranks.run(2, *words, "--out", tmp_path / "once", faults={1: {"poison": 5}})
    assert ended.codes == [0, 0], ended.said
    assert "step 6 skipped" in ended.said[0]
    summary = json.loads(ended.printed[0])
    assert (summary["skipped"], summary["step"]) == (1, 40)
    ended = ranks.run(2, *words, "--out", tmp_path / "ever", faults={1: {"poison": -1}})
    assert ended.codes == [1, 1]
    for said in ended.said:
        assert "storycell: the loss is not finite" in said
        assert "Traceback" not in said
    assert position(tmp_path / "ever")["step"] == 0


def test_the_clock_of_the_first_process_decides_for_all(ranks: Ranks, training_text: Path, tmp_path: Path) -> None:
    """The other one's runs ten times slower: by itself it would train, and save, for ten times as long."""
    words = ["train", training_text, "--out", tmp_path / "run", *FLAGS, "--minutes=0.01", "--save-every=0.1", "--json"]
    ended = ranks.run(2, *words, faults={1: {"slow_clock": 10.0}})
    assert ended.codes == [0, 0], ended.said
    summary = json.loads(ended.printed[0])
    assert summary["elapsed_s"] >= 0.6
    assert summary["step"] == position(tmp_path / "run")["step"]


def test_a_disk_that_is_full_ends_all(ranks: Ranks, training_text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", training_text, "--out", run, *FLAGS, "--steps=100000", "--save-every=1e-6"]
    ended = ranks.run(2, *words, faults={0: {"file_bytes": 60_000}})
    assert ended.codes == [1, 1], ended.said
    assert f"storycell: {run} cannot be written: file too large" in ended.said[0]
    stated(ended.said[1], "process 1 of 2", GONE)
    assert storycell.load(run).generate("", chars=3) is not None


def test_what_cannot_be_shared_is_refused_in_one_sentence(ranks: Ranks, training_text: Path, tmp_path: Path) -> None:
    def refused(*words: object, **keywords: object) -> Ended:
        ended = ranks.run(2, "train", *words, "--out", tmp_path / "run", *NETWORK, "--steps=3", **keywords)  # type: ignore[arg-type]
        for said in ended.said:
            stated(said)
        return ended

    ended = refused(training_text, "--streams=1")
    assert ended.codes == [2, 2]
    assert "1 streams cannot be divided among 2 processes" in ended.said[0]
    ended = refused("-")
    assert ended.codes == [2, 2]
    assert "storycell prepare -" in ended.said[0]
    ended = refused(training_text, faults={1: {"more": ["--lr=0.5"]}})
    assert ended.codes == [1, 1]
    assert "process 1 has settings or a text other than process 0" in ended.said[0]
    assert not (tmp_path / "run").exists()


def test_processes_must_read_the_same_save(ranks: Ranks, alone: Path, tmp_path: Path) -> None:
    for name in ("run0", "run1"):
        shutil.copytree(alone, tmp_path / name)
    storycell.resume(tmp_path / "run1", steps=STEPS + 4)
    faults = {rank: {"more": [str(tmp_path / f"run{rank}")]} for rank in (0, 1)}
    ended = ranks.run(2, "train", f"--steps={STEPS + 10}", "--resume", faults=faults)
    assert ended.codes == [1, 1]
    stated(ended.said[0], "process 1 has a last.safetensors other than process 0")


def test_torchrun_starts_it_and_other_verbs_refuse(training_text: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "storycell"]
    words = ["train", str(training_text), "--out", str(tmp_path / "run"), *FLAGS, "--steps=5", "--json"]
    done = subprocess.run([*torchrun, *words], capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr.decode()
    summary = json.loads(done.stdout)
    assert summary["step"] == 5
    assert "measuring the best weights" in done.stderr.decode()
    for verb in ("bench", "reproduce", "sample"):
        alone = [sys.executable, "-m", "storycell", verb]
        refused = subprocess.run(
            alone, capture_output=True, env={**os.environ, **environment(1, 2, 1)}, timeout=60, check=False
        )
        assert refused.returncode == 2
        stated(refused.stderr.decode(), f"storycell {verb} runs in one process", "torchrun")
