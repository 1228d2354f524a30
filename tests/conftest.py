"""What several tests share: a cache of their own, small texts, small models, the real data where it is there."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared texts go to a folder that every test process has for itself, never to the user's."""
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small models are fastest on one thread; a test of several threads asks for them."""
    torch.set_num_threads(1)


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


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """The path of a file of the real data, such as `tinystories/valid.txt`; skips where the folder is missing."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"the real data {name} is not beside the repository")
        return path

    return find
