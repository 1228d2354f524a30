"""The download of TinyStories: the real client code, in a process of its own, against a hub on this machine.

A process of its own, because `huggingface_hub` reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when it is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fake_hub import FakeHub, Fault

from storycell.data.tinystories import PIECE_BYTES

SOURCES = Path(__file__).parents[2] / "src"
VALID, TRAIN = "TinyStoriesV2-GPT4-valid.txt", "TinyStoriesV2-GPT4-train.txt"
STORY = "Once upon a time there was a cat — “mew”.\n<|endoftext|>\n".encode()
LONG = random.Random(0).randbytes(25_000_000)
CUT = 15_000_000  # bytes after which a connection breaks off
KEPT = CUT - CUT % PIECE_BYTES  # what was written by then
CALL = """
import sys
from storycell.data.tinystories import tinystories
from storycell.errors import CorpusError
try:
    print(tinystories(sys.argv[1]))
except CorpusError as error:
    print(error)
    sys.exit(3)
"""


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def content(self) -> bytes:
        assert self.code == 0, self.out + self.err
        return Path(self.out).read_bytes()


def download(endpoint: str, home: Path, split: str = "valid", **extra: str) -> Outcome:
    command = [sys.executable, "-W", "error", "-c", CALL, split]
    done = subprocess.run(command, env=environment(endpoint, home, extra), capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout.rstrip("\n"), done.stderr)


def environment(endpoint: str, home: Path, extra: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not re.match(r"HF_|HUGGING|.*_proxy$|.*_PROXY$", name)}
    ours = {"PYTHONPATH": str(SOURCES), "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONIOENCODING": "utf-8"}
    return kept | ours | extra


def assert_one_clear_sentence(outcome: Outcome, why: str, name: str = VALID) -> None:
    assert outcome.code == 3, outcome.out + outcome.err
    assert "\n" not in outcome.out
    assert outcome.err == ""
    for words in (f"{name} of TinyStories could not be downloaded because", why, "`stories`", "offline", "local copy"):
        assert words in outcome.out


def assert_continued(bodies: list[str | None], times: int, reset: bool) -> int:
    """After the first request so many more, from one place: what had arrived; a reset loses some on the way."""
    assert bodies[0] is None
    (place,) = set(bodies[1:])
    start = int(str(place).removeprefix("bytes=").removesuffix("-"))
    assert len(bodies) == 1 + times
    assert start % PIECE_BYTES == 0
    assert 0 < start <= KEPT if reset else start == KEPT
    return start


def part_file(home: Path, content: bytes) -> Path:
    name = f"{hashlib.sha256(content).hexdigest()}.storycell.incomplete"
    return home / "hub" / "datasets--roneneldan--TinyStories" / "blobs" / name


@pytest.mark.parametrize(("split", "name"), [("train", TRAIN), ("valid", VALID)])
def test_a_split_arrives_byte_for_byte_in_the_hub_cache(tmp_path: Path, split: str, name: str) -> None:
    with FakeHub({name: STORY}) as hub:
        outcome = download(hub.endpoint, tmp_path, split)
    assert outcome.content == STORY
    assert Path(outcome.out).name == name
    assert Path(outcome.out).is_relative_to(tmp_path / "hub")
    assert outcome.err == ""


def test_a_cached_file_needs_no_request_and_no_server(tmp_path: Path) -> None:
    with FakeHub({VALID: STORY}) as hub:
        first = download(hub.endpoint, tmp_path)
        asked = list(hub.requests)
        assert download(hub.endpoint, tmp_path).out == first.out
        assert hub.requests == asked
    assert download(hub.endpoint, tmp_path).content == STORY
    assert download(hub.endpoint, tmp_path, HF_HUB_OFFLINE="1").content == STORY


def test_the_hubs_own_client_finds_the_file_in_its_cache(tmp_path: Path) -> None:
    with FakeHub({VALID: STORY}) as hub:
        path = download(hub.endpoint, tmp_path).out
    repository = f"'roneneldan/TinyStories', {VALID!r}, repo_type='dataset'"
    ask = f"import huggingface_hub; print(huggingface_hub.hf_hub_download({repository}))"
    env = environment("http://127.0.0.1:9", tmp_path, {"HF_HUB_OFFLINE": "1"})
    found = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == path


def test_progress_goes_to_standard_error_where_that_is_a_terminal(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    pytest.importorskip("termios", reason="needs a Unix terminal").tcsetwinsize(terminal, (25, 100))
    with FakeHub({VALID: STORY}) as hub:
        command = [sys.executable, "-W", "error", "-c", CALL, "valid"]
        env = environment(hub.endpoint, tmp_path, {})
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=terminal, text=True, check=True)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal that nobody else holds with an error
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert Path(done.stdout.rstrip("\n")).read_bytes() == STORY
    assert VALID.encode() in shown
    assert b"100%" in shown


@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
def test_a_broken_connection_is_continued_within_the_same_call(tmp_path: Path, reset: bool) -> None:
    with FakeHub({VALID: LONG}, [Fault(after=CUT, reset=reset)]) as hub:
        outcome = download(hub.endpoint, tmp_path)
        assert_continued(hub.bodies(), 1, reset)
    assert outcome.content == LONG
    assert outcome.err == ""


def test_an_interrupted_download_is_an_error_and_the_next_call_continues_it(tmp_path: Path) -> None:
    with FakeHub({VALID: LONG}, [Fault(after=CUT, reset=True), Fault(reset=True)]) as hub:
        first = download(hub.endpoint, tmp_path)
        assert_one_clear_sentence(first, "the connection to the hub was broken off")
        assert download(hub.endpoint, tmp_path).content == LONG
        start = assert_continued(hub.bodies(), 2, reset=True)
        assert f"run it again to go on from the {start / 1e6:.0f} MB" in first.out
    assert not part_file(tmp_path, LONG).exists()


def test_a_download_from_a_store_on_another_host_is_continued_too(tmp_path: Path) -> None:
    with FakeHub({VALID: LONG}, [Fault(after=CUT, reset=True), Fault(reset=True)], elsewhere=True) as hub:
        assert download(hub.endpoint, tmp_path).code == 3
        assert download(hub.endpoint, tmp_path).content == LONG
        assert_continued(hub.bodies(), 2, reset=True)


def test_a_killed_download_is_continued_by_the_next_call(tmp_path: Path) -> None:
    with FakeHub({VALID: LONG}) as hub:
        part = part_file(tmp_path, LONG)
        part.parent.mkdir(parents=True)
        part.write_bytes(LONG[:20_000_001])
        assert download(hub.endpoint, tmp_path).content == LONG
        assert hub.bodies() == ["bytes=20000001-"]


def test_two_calls_at_once_fetch_the_body_once(tmp_path: Path) -> None:
    with FakeHub({VALID: LONG}) as hub, ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: download(hub.endpoint, tmp_path), range(2)))
        assert [outcome.content == LONG for outcome in outcomes] == [True, True]
        assert hub.bodies() == [None]


def test_a_server_without_ranges_still_gives_the_exact_bytes(tmp_path: Path) -> None:
    with FakeHub({VALID: LONG}, [Fault(after=CUT, reset=True), Fault(reset=True)], ranges=False) as hub:
        assert download(hub.endpoint, tmp_path).code == 3
        assert download(hub.endpoint, tmp_path).content == LONG


def test_a_damaged_part_is_noticed_and_does_not_spoil_the_next_call(tmp_path: Path) -> None:
    with FakeHub({VALID: STORY}) as hub:
        part = part_file(tmp_path, STORY)
        part.parent.mkdir(parents=True)
        part.write_bytes(b"not the beginning")
        assert_one_clear_sentence(download(hub.endpoint, tmp_path), "damaged")
        assert download(hub.endpoint, tmp_path).content == STORY


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path: Path) -> None:
    with FakeHub({VALID: STORY}) as hub:
        part = part_file(tmp_path, STORY)
        part.parent.mkdir(parents=True)
        part.write_bytes(STORY + STORY)
        assert download(hub.endpoint, tmp_path).content == STORY


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(status=500, head_too=True, forever=True), "the hub answered 500"),
        (Fault(status=503, head_too=True, forever=True), "the hub answered 503"),
        (Fault(status=500), "the hub answered 500"),
        (Fault(head_too=True, forever=True), "the connection to the hub was broken off"),
        (Fault(head_too=True, forever=True, reset=True), "the connection to the hub was broken off"),
    ],
    ids=["500", "503", "500 for the body", "closed at once", "reset at once"],
)
def test_a_failing_hub_is_one_clear_sentence_at_once(tmp_path: Path, fault: Fault, why: str) -> None:
    with FakeHub({VALID: STORY}, [fault]) as hub:
        assert_one_clear_sentence(download(hub.endpoint, tmp_path), why)
        assert len(hub.requests) == len(set(hub.requests))  # nothing is asked again


def test_a_missing_file_is_one_clear_sentence(tmp_path: Path) -> None:
    with FakeHub({VALID: STORY}) as hub:
        outcome = download(hub.endpoint, tmp_path, "train")
    assert_one_clear_sentence(outcome, "the hub does not have this file", TRAIN)


def test_a_login_page_in_place_of_the_hub_is_one_clear_sentence(tmp_path: Path) -> None:
    with FakeHub({VALID: STORY}, headers=False) as hub:
        assert_one_clear_sentence(download(hub.endpoint, tmp_path), "what answered is not a hub")


def test_a_hub_that_never_answers_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        outcome = download(endpoint, tmp_path, HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DISABLE_TELEMETRY="1")
    assert_one_clear_sentence(outcome, "the hub did not answer in time")


def test_nobody_listening_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    assert_one_clear_sentence(download(endpoint, tmp_path), "the hub refused the connection")


def test_an_endpoint_that_is_no_address_is_one_clear_sentence(tmp_path: Path) -> None:
    assert_one_clear_sentence(download("nonsense", tmp_path), "HF_ENDPOINT is not a web address")


def test_an_unknown_host_is_one_clear_sentence(tmp_path: Path) -> None:
    brief = {"RES_OPTIONS": "timeout:1 attempts:1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # where no name server answers
    outcome = download("http://hub.invalid", tmp_path, **brief)
    assert_one_clear_sentence(outcome, "the hub's address could not be looked up")


def test_offline_mode_with_an_empty_cache_is_one_clear_sentence_without_a_request(tmp_path: Path) -> None:
    with FakeHub({VALID: STORY}) as hub:
        outcome = download(hub.endpoint, tmp_path, HF_HUB_OFFLINE="1")
        assert hub.requests == []
    assert_one_clear_sentence(outcome, "the hub is switched off by HF_HUB_OFFLINE")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_names_the_folder(tmp_path: Path) -> None:
    with FakeHub({VALID: LONG}) as hub:
        part = part_file(tmp_path, LONG)
        part.parent.mkdir(parents=True)
        part.symlink_to("/dev/full")
        outcome = download(hub.endpoint, tmp_path)
    assert_one_clear_sentence(outcome, f"the disk is full at {part.parents[1]}")


def test_a_cache_that_cannot_be_written_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file where the folder should be")
    with FakeHub({VALID: STORY}) as hub:
        outcome = download(hub.endpoint, tmp_path)
    assert_one_clear_sentence(outcome, f"the folder {tmp_path / 'hub'}")


def test_an_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    outcome = download("http://127.0.0.1:9", tmp_path, "test")
    assert outcome.code == 3
    assert outcome.out == "TinyStories has no split 'test', only 'train' and 'valid'"


def test_importing_the_module_does_not_import_the_client() -> None:
    ask = "import sys, storycell.data.tinystories; print('huggingface_hub' in sys.modules)"
    env = environment("", Path(), {})
    done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
