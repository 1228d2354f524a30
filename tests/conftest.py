"""What several tests share: a cache of their own, small texts, small models, the real data where it is there."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support import live_server as serving
from support import tiny_runs

from storycell.training import start

DATA = Path(__file__).parents[2] / "shared" / "data"
STORIES = Path(__file__).parent / "data" / "stories-100.txt"  # of `storycell.data.stories.corpus.generate(1)`


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared texts go to a folder that every test process has for itself, never to the user's."""
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small models are fastest on one thread; a test of several threads asks for them."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heeded() -> Iterator[None]:
    """In a script's background a process is told to ignore SIGINT, and so would be all that the tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def story_file(tmp_path: Path) -> Path:
    """A small text of 120 short stories that differ."""
    path = tmp_path / "small.txt"
    names = ["Ann", "Ben", "Cleo", "Dan"]
    stories = [
        f'Once upon a time {names[k % 4]} had {k} red balls.\n"Hello {names[k % 3]}!" said the cat number {k * 7}.\n'
        for k in range(120)
    ]
    path.write_text("<|endoftext|>\n".join(stories), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def training_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text that trainings with faults, and those of several processes, learn; none may change it."""
    path = tmp_path_factory.mktemp("text") / "small.txt"
    stories = [f"Once upon a time {'Ann' if k % 3 else 'Ben'} had {k * k} red balls.\n" for k in range(120)]
    path.write_text("<|endoftext|>\n".join(stories))
    return path


@pytest.fixture(params=["engine", "torch"])
def trained_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who trains, where the engine could: it, or torch."""
    if request.param == "torch":
        monkeypatch.setattr(start, "uses_engine", lambda *_: False)
    return str(request.param)


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """The path of a file of the real data, such as `tinystories/valid.txt`; skips where the folder is missing."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"the real data {name} is not beside the repository")
        return path

    return find


@pytest.fixture(params=["stories-100.txt", "tinystories/valid.txt"])
def stories(request: pytest.FixtureRequest, real_data: Callable[[str], Path]) -> Path:
    """A file of stories: 100 of the embedded grammar, and 997 of TinyStories where those are there."""
    name: str = request.param
    return real_data(name) if "/" in name else STORIES


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that all tests of the command line share, and none may change; its text lies beside it."""
    return tiny_runs.make(tmp_path_factory.mktemp("made"), tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(scope="session")
def endless(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, whose stories hardly ever end."""
    return tiny_runs.endless(made, tmp_path_factory.mktemp("endless"))


@pytest.fixture(scope="session")
def served(endless: Path) -> Iterator["serving.Served"]:
    """A server of the shared tiny run, for all tests that leave it as it is; skips where its packages are missing."""
    pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
    with serving.serving(endless) as server:
        yield server


@pytest.fixture(scope="session")
def locked(made: Path) -> Iterator["serving.Served"]:
    """A server that asks for the key `sesame` and writes two texts at once; skips where its packages are missing."""
    pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
    with serving.serving(made, key="sesame", max_streams=2) as server:
        yield server


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text file of a test's own."""
    path = tmp_path / "text.txt"
    path.write_text(tiny_runs.TEXT, encoding="utf-8")
    return path
