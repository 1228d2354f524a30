"""How many threads compute: who is asked, who wins, and that nothing of it stays behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from support.tiny_runs import FLAGS, GRAMMAR, NETWORK, command, running

import storycell
from storycell import threads
from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.inspect import inspection
from storycell.lab.compress import archive
from storycell.nn.adapter import TorchModel
from storycell.nn.backends.native.library import one_torch_thread
from storycell.nn.model import CharLM
from storycell.training import start
from storycell.training.distributed import DistributedGroup
from storycell.training.engine_learner import EngineLearner

Result = TypeVar("Result")
TINY = {**NETWORK, "steps": 3}


@pytest.fixture
def many() -> Iterator[int]:
    """Torch's count of the whole process, more than there are cores, as a program may have set it."""
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    yield 5
    torch.set_num_threads(before)


def in_a_new_thread(work: Callable[[], Result]) -> Result:
    """What a thread that starts now gets to see."""
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def counts() -> tuple[int, int]:
    """Torch's threads, here and in a thread that starts now."""
    return torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)


# What a process may use


def machine(folder: Path, membership: str, **files: str) -> Path:
    """A file system with the cgroups of a machine: `membership` is /proc/self/cgroup, `files` lie under the mounts."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(membership)
    for name, content in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return folder


V1 = "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n"
MACHINES: dict[str, tuple[float | None, str, dict[str, str]]] = {
    "version 2, in a container": (1.5, "0::/\n", {"cpu.max": "150000 100000"}),
    "version 2, without a limit": (None, "0::/\n", {"cpu.max": "max 100000"}),
    "version 2, a slice within a limited one": (
        0.5, "0::/user/job\n", {"user/job/cpu.max": "max 100000", "user/cpu.max": "50000 100000", "cpu.max": "max 100"},
    ),
    "version 2, the tightest limit counts": (
        2.0, "0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000"},
    ),
    "version 2, mounted from the container on": (3.0, "0::/docker/ab\n", {"cpu.max": "300000 100000"}),
    "version 1": (2.5, V1, {"cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "250000",
                            "cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000"}),
    "version 1, mounted from the container on": (
        2.0, V1, {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "10000"},
    ),
    "version 1, without a limit": (None, V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}),
    "both, the limit in version 1": (
        1.0, V1 + "0::/docker/ab\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
    ),
    "another process's limit": (None, "0::/mine\n", {"other/cpu.max": "100000 100000"}),
    "nonsense": (None, "0::/\n", {"cpu.max": "a lot"}),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_the_quota_is_the_tightest_limit_of_a_process_s_cgroups(tmp_path: Path, name: str) -> None:
    expected, membership, files = MACHINES[name]
    assert threads.quota(machine(tmp_path, membership, **files)) == expected


def test_cores_are_those_that_affinity_and_quota_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert threads.cores(tmp_path / "no cgroups at all") == 8
    for quota, expected in ((0.2, 1), (1.5, 2), (3.0, 3), (64.0, 8)):
        root = machine(tmp_path / str(quota), "0::/\n", **{"cpu.max": f"{int(quota * 100_000)} 100000"})
        assert threads.cores(root) == expected


@pytest.fixture
def quota_of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a container with `--cpus 1.5` on a large machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(threads, "quota", lambda root=None: 1.5)
    threads._quota_cores.cache_clear()
    yield
    threads._quota_cores.cache_clear()


@pytest.mark.usefixtures("quota_of_two")
def test_within_a_quota_nothing_takes_more_threads_unless_it_was_told_to(many: int) -> None:
    assert threads.default() == threads.for_kernels() == 2
    with threads.computing_on(many, many):
        assert threads.for_kernels() == many
    with one_torch_thread():
        assert threads.for_kernels() == 2


WITHOUT_TORCH = """
import os, sys
from storycell import threads
os.sched_getaffinity = lambda pid: set(range(8))
threads.quota = lambda root=None: {quota}
told = [threads.default(), threads.for_kernels()]
with threads.computing_on(3, 5):
    told.append(threads.for_kernels())
told.append(threads.for_kernels())
threads.keep_to(2)
print(*told, threads.for_kernels(), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("asked", "quota", "expected"),
    [
        *[(None, None, 8), ("3", None, 3), ("3,2", None, 3), ("", None, 8), ("many", None, 8), ("0", None, 8)],
        *[(None, 1.5, 2), ("1", 1.5, 1), ("6", 1.5, 2)],
    ],
)
def test_without_torch_the_environment_affinity_and_quota_count_and_torch_is_not_imported(
    asked: str | None, quota: float | None, expected: int
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {} if asked is None else {"OMP_NUM_THREADS": asked}
    words = [sys.executable, "-c", WITHOUT_TORCH.format(quota=quota)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*[str(expected)] * 2, "5", str(expected), "2", "False"]


# What a training takes


def trained_on(folder: Path, text: Path, **settings: Any) -> int | None:
    return storycell.train(text, out=folder / "run", **{**TINY, **settings}).settings.training.threads


@pytest.mark.usefixtures("quota_of_two")
def test_a_training_takes_no_more_threads_than_a_container_s_quota(text: Path, tmp_path: Path, many: int) -> None:
    assert trained_on(tmp_path, text) == 2
    assert torch.get_num_threads() == many


def test_a_training_takes_the_threads_that_torch_was_given(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 64)
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert trained_on(tmp_path / str(count), text) == count
    finally:
        torch.set_num_threads(before)


def test_omp_num_threads_counts(text: Path, tmp_path: Path) -> None:
    flags = [flag for flag in FLAGS if not flag.startswith("--threads")]
    words = [sys.executable, "-m", "storycell", "train", text, "--out", tmp_path / "run", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_DYNAMIC": "false"}
    subprocess.run(words, env=environment, check=True, capture_output=True)
    assert storycell.load(tmp_path / "run").config.settings.training.threads == 1


@pytest.mark.usefixtures("many")
def test_the_flag_wins_over_what_torch_was_given(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(capsys, "train", text, "--out", tmp_path / "run", *FLAGS, "--threads", 2).code == 0
    assert storycell.load(tmp_path / "run").config.settings.training.threads == 2


def test_the_kernels_of_a_training_compute_on_the_threads_it_was_given(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    seen: set[tuple[int, int]] = set()
    forward = CharLM.forward

    def watched(self: CharLM, *arguments: Any, **keywords: Any) -> Any:
        if keywords.get("targets") is not None:
            seen.add((torch.get_num_threads(), threads.for_kernels()))
        return forward(self, *arguments, **keywords)

    monkeypatch.setattr(CharLM, "forward", watched)
    learners: list[EngineLearner] = []
    gradient = EngineLearner.gradient
    monkeypatch.setattr(EngineLearner, "gradient", lambda self, *a: (learners.append(self), gradient(self, *a))[1])
    trained_on(tmp_path / "engine", text, threads=3, backend="native")
    assert {learner.engine.threads for learner in learners} == {3}
    assert not seen
    monkeypatch.setattr(start, "uses_engine", lambda *_: False)
    trained_on(tmp_path, text, threads=3, backend="native")
    assert seen == {(1, 3)}
    seen.clear()
    trained_on(tmp_path / "torch", text, threads=3, backend="torch")
    assert seen == {(3, 3)}
    assert torch.get_num_threads() == many


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_of_a_machine_share_what_they_take_and_torchrun_s_own_one_says_nothing(
    monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    group = DistributedGroup.__new__(DistributedGroup)
    group.local_count = processes
    monkeypatch.setattr(threads, "cores", lambda: 12)
    before = torch.get_num_threads()
    try:
        for each, expected in ((1, 12 // processes), (2, 2), (100, 12 // processes)):
            torch.set_num_threads(each)
            assert group.threads(group.default_threads()) == expected
    finally:
        torch.set_num_threads(before)


# Afterwards


def test_a_training_gives_the_caller_s_threads_back(text: Path, tmp_path: Path, many: int) -> None:
    def fail(_: object) -> None:
        raise KeyError("the callback")

    run = storycell.train(text, out=tmp_path / "run", threads=2, **TINY)
    assert counts() == (many, many)
    storycell.resume(run.path, steps=5, threads=3)
    assert counts() == (many, many)
    with pytest.raises(KeyError):
        storycell.train(text, out=tmp_path / "fails", threads=2, callback=fail, **TINY)
    assert counts() == (many, many)
    with pytest.raises(SettingsError):
        storycell.train(text, out=tmp_path / "wrong", threads=0, **TINY)
    assert counts() == (many, many)


def test_other_threads_see_nothing_of_what_one_thread_computes_on(many: int) -> None:
    """Neither those that are there nor those that start meanwhile: torch would give them its count for ever."""
    with threads.computing_on(2, 4):
        assert (torch.get_num_threads(), threads.for_kernels()) == (2, 4)
        assert in_a_new_thread(lambda: (torch.get_num_threads(), threads.for_kernels())) == (many, many)
        with one_torch_thread():
            assert (torch.get_num_threads(), threads.for_kernels()) == (1, 4)
            assert in_a_new_thread(torch.get_num_threads) == many
        assert (torch.get_num_threads(), threads.for_kernels()) == (2, 4)
    assert counts() == (many, many)


def test_uses_that_overlap_without_being_nested_end_as_they_began(many: int) -> None:
    """The first to begin is the first to end, as two requests of a web program."""
    began, ended = threading.Barrier(3), [threading.Event(), threading.Event()]
    seen: dict[int, tuple[int, int, int]] = {}

    def use(k: int) -> None:
        with one_torch_thread():
            began.wait(10)
            ended[k].wait(10)
            inside = torch.get_num_threads()
        seen[k] = (inside, torch.get_num_threads(), threads.for_kernels())

    users = [threading.Thread(target=use, args=(k,)) for k in range(2)]
    for user in users:
        user.start()
    began.wait(10)
    for k, user in enumerate(users):
        assert in_a_new_thread(torch.get_num_threads) == many
        ended[k].set()
        user.join()
    assert seen == {0: (1, many, many), 1: (1, many, many)}
    assert counts() == (many, many)
    assert threads.for_kernels() == many


def test_one_torch_thread_starts_no_threads_of_torch_s() -> None:
    """Not OpenMP's, not MKL's: it is what keeps the cores for the kernels, and what a forked child relies on."""
    code = """
import os, torch
from storycell.nn.backends.native.library import one_torch_thread
torch.set_num_threads(4)
def started():
    before = len(os.listdir("/proc/self/task"))
    a = torch.ones(700, 700)
    a.exp(), a @ a, torch.nn.LSTM(64, 64)(torch.ones(32, 64, 64))[0].sum().backward()
    return len(os.listdir("/proc/self/task")) - before
with one_torch_thread():
    within = started()
print(within, started() > 0)
"""
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted in Linux's /proc")
    environment = {**os.environ, "OMP_DYNAMIC": "false", "MKL_DYNAMIC": "false"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["0", "True"]


@pytest.mark.parametrize("by_torch", [True, False])
def test_texts_written_at_the_same_time_are_as_alone_and_leave_torch_and_the_model_as_they_were(
    many: int, by_torch: bool
) -> None:
    model = storycell.load(GRAMMAR)
    lm = model.lm.train().use(precision="auto")
    if by_torch:
        model.network = TorchModel(lm)
    alone = [model.generate("Once upon a", chars=120, seed=k) for k in range(6)]
    for _ in range(3):
        together = [""] * len(alone)

        def write(k: int, into: list[str] = together) -> None:
            into[k] = model.generate("Once upon a", chars=120, seed=k)
            assert torch.get_num_threads() == many

        writers = [threading.Thread(target=write, args=(k,)) for k in range(len(alone))]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert together == alone
        assert counts() == (many, many)
    assert (threads.for_kernels(), lm.training, lm.precision) == (many, True, "auto")


def test_reading_in_one_thread_leaves_the_model_to_the_others() -> None:
    """A model that is read from while it is trained goes on with its dropout, and the reader has none."""
    lm = CharLM(9, 8, dropout=0.5).train()
    with lm.reading():
        assert lm.network().dropout == 0.0
        assert in_a_new_thread(lambda: lm.network().dropout) == 0.5
        with lm.reading():
            pass
        assert lm.network().dropout == 0.0
        assert CharLM(9, 8, dropout=0.25).train().network().dropout == 0.25
    assert lm.network().dropout == 0.5
    assert lm.training


def test_numpys_products_take_one_thread_until_the_last_of_all_has_left() -> None:
    blas = threads._blas()
    before = blas.get()
    blas.set(2)
    asked = blas.get()
    try:
        other = threads.one_blas_thread()
        with threads.one_blas_thread():
            assert blas.get() == 1
            other.__enter__()  # as another thread does, which leaves later
        assert blas.get() == 1
        other.__exit__(None, None, None)
        assert blas.get() == asked
        with pytest.raises(ZeroDivisionError), threads.one_blas_thread():
            _ = 1 / 0
        assert blas.get() == asked
    finally:
        blas.set(before)


def test_compressing_and_inspecting_give_the_threads_back_too(tmp_path: Path, many: int) -> None:
    model = storycell.load(GRAMMAR)
    path = tmp_path / "a.txt"
    path.write_text("Once upon a time there was a dog.\n" * 4)
    with path.open("rb") as source, (tmp_path / "a.scz").open("wb") as sink:
        archive.compress(model.network, model.vocab, source, sink)
    assert counts() == (many, many)
    vocab = Vocabulary("ab")
    with pytest.raises(Exception, match="too few"):
        inspection.inspect(
            inspection.Subject("a", TorchModel(CharLM(len(vocab), 4)), vocab, torch.ones(9).byte().numpy(), 1)
        )
    assert counts() == (many, many)


# A forked child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_reads_prompts_and_writes_as_its_parent_does() -> None:
    """OpenMP's threads are not copied, and a child that waits for them waits for ever."""
    code = """
import os, torch
from storycell.generation import sampler
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
torch.set_num_threads(4)
a = torch.ones(700, 700)
a @ a, a.exp()  # all of torch's threads are there now
lm = TorchModel(CharLM(400, 250, embedding_size=64))  # a width that has to be padded
def written():
    return list(sampler.streams(lm, [*range(2, 400)], sampler.Sampling(), [1, 2], 20))
here = written()
for packs_anew in (False, True):
    if not (pid := os.fork()):
        if packs_anew:
            lm._packed = None
        os._exit(0 if written() == here else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    environment = {**os.environ, "OMP_DYNAMIC": "false", "MKL_DYNAMIC": "false"}
    with running([sys.executable, "-W", "ignore", "-c", code], start_new_session=True, env=environment) as parent:
        try:
            printed, said = parent.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)  # a child that hangs, too
    assert printed.split() == [b"0", b"0"], said


@pytest.mark.usefixtures("quota_of_two", "many")
def test_a_command_computes_within_the_quota(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(command(capsys, "info", "--json").out)["machine"]
    assert (told["cores"], told["threads"]) == (2, 2)
