"""Long tests of the server: schemathesis on the published OpenAPI, and memory over ten thousand requests."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.live_server import Served, head_and_body, opened, serving, streamed

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
pytestmark = pytest.mark.soak

REQUESTS = 10_000
AT_ONCE = 100
FLAT_BYTES = 8_000_000  # what the allocator may move by; a leak of 1 kB a request would show as 10 MB
PAGE = os.sysconf("SC_PAGESIZE")


def memory_bytes(served: Served) -> int:
    return int(Path(f"/proc/{served.process.pid}/statm").read_text().split()[1]) * PAGE


@pytest.mark.parametrize("key", [None, "sesame"])
def test_schemathesis_finds_nothing(made: Path, key: str | None) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    # 400 is right where the schema cannot know better: characters of a prompt, layers and units of this very model
    config = Path(__file__).parents[1] / "schemathesis.toml"
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", "--no-color"]
    words += [] if key is None else ["-H", f"Authorization: Bearer {key}"]
    with serving(made, key=key) as served:
        done = subprocess.run(
            [*words, f"{served.url}/openapi.json", "--max-examples", "100"],
            capture_output=True,
            text=True,
            check=False,
            timeout=3_000,
        )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    assert "12 selected" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_is_flat_over_ten_thousand_requests(made: Path) -> None:
    async def many(served: Served, count: int) -> None:
        for start in range(0, count, AT_ONCE):
            bodies = (
                {"prompt": "Once", "max_tokens": 20, "seed": start + k, "logprobs": k % 2} for k in range(AT_ONCE)
            )
            await asyncio.gather(*(streamed(served, body) for body in bodies))

    endless = {"prompt": "Once", "max_tokens": 90_000, "temperature": 0, "stream": True}

    def vanish(served: Served) -> None:
        for _ in range(50):
            with opened(served) as connection:
                connection.sendall(head_and_body(endless, "localhost"))
                connection.recv(200)

    with serving(made, max_slots=50, slot_expiry_s=0.05) as served:
        asyncio.run(many(served, 2_000))
        vanish(served)
        before = memory_bytes(served)
        for part in range(10):
            asyncio.run(many(served, REQUESTS // 10))
            vanish(served)
            served.post("/v1/states", {"prompt": "Ann " * part})
        assert memory_bytes(served) - before < FLAT_BYTES
        assert served.streams() == 0
