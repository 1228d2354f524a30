"""Ten gigabytes of text, prepared and trained on in less than one of memory."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard

from storycell.data import corpus

TEXT_BYTES = 10_000_000_000
SHARDS_OF_IT = 100
MEMORY_BYTES = 1 << 30
PEAK = """
import sys
from storycell.cli import main
code = main(sys.argv[1:])
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak << 10, file=sys.stderr)
sys.exit(code)
"""


def peak_of(*words: object) -> int:
    """The most memory that a command took, in bytes, torch's 200 MB included; says that and the time."""
    began = time.monotonic()
    command_line = [sys.executable, "-c", PEAK, *map(str, words)]
    done = subprocess.run(command_line, capture_output=True, check=True, text=True)
    peak = int(done.stderr.splitlines()[-1])
    said = (done.stdout + done.stderr).splitlines()
    print(f"{words[0]}: {time.monotonic() - began:.0f} s, {peak >> 20} MB of memory; {said[0]}")
    return peak


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("packed", [False, True], ids=["one-file", "zst-shards"])
def test_ten_gigabytes_take_less_than_one(tmp_path: Path, packed: bool) -> None:
    """Ten gigabytes of the embedded stories through `prepare`, killed once on the way, and 300 steps of `train`."""
    folder, out = tmp_path / "text", tmp_path / "tokens"
    folder.mkdir()
    stories = b"".join(corpus.open_corpus(["stories"]).blocks()).replace(b"\xff", b"<|endoftext|>\n")
    shard = stories * (TEXT_BYTES // SHARDS_OF_IT // len(stories) + 1)
    for k in range(SHARDS_OF_IT):
        if packed:
            (folder / f"{k:03}.txt.zst").write_bytes(zstandard.ZstdCompressor(1).compress(shard))
        else:
            with (folder / "all.txt").open("ab") as file:
                file.write(shard)
    (tmp_path / "valid.txt").write_bytes(stories[:1_000_000])
    words = ["prepare", folder, "--out", out, "--valid", tmp_path / "valid.txt"]
    first = subprocess.Popen([sys.executable, "-c", PEAK, *map(str, words)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 1800
    while not (translated := list(tmp_path.glob(".tokens.*/train.tokens"))) or translated[0].stat().st_size < 2e9:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    first.kill()
    first.wait()
    assert peak_of(*words) < MEMORY_BYTES
    shutil.rmtree(folder)
    network = ["--hidden=256", "--layers=1", "--streams=64", "--chunk=128", "--steps=300", "--threads=1"]
    assert peak_of("train", out, "--out", tmp_path / "run", *network) < MEMORY_BYTES
    shutil.rmtree(out)
