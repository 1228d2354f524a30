"""What comes from strangers is data: it runs nothing, writes nowhere else, and takes no more memory than it should."""

import ast
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from support.tiny_runs import FLAGS, command

import storycell
from storycell.data import corpus, json_text, tokens
from storycell.errors import CorpusError, RunFolderError
from storycell.runs.folder import RunFolder

SOURCE = Path(storycell.__file__).parent
NESTED = "[" * 100_000
MEMORY_BYTES = 1 << 30  # that reading a bomb may take: torch alone takes a fifth of it


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


# Nothing is run


def test_nothing_in_the_package_unpickles_or_evaluates() -> None:
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
    calls = {"eval", "exec", "compile", "__import__"}
    looked_at = 0
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            looked_at += 1
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None) or ""}
                assert not names & forbidden, path
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name):
                    assert node.func.id not in calls, f"{path}:{node.lineno}"
                text = ast.unparse(node)
                assert not text.startswith(("torch.load(", "torch.jit.load(", "os.system(")), f"{path}:{node.lineno}"
                assert "shell=True" not in text, f"{path}:{node.lineno}"
                assert "allow_pickle=True" not in text, f"{path}:{node.lineno}"
    assert looked_at > 10_000


# A run folder from elsewhere


@pytest.mark.parametrize("name", ["model.safetensors", "last.safetensors"])
@pytest.mark.parametrize("claimed", [2 << 20, 99 << 20, 10 << 30, 2**64 - 1])
def test_a_header_larger_than_any_we_write_is_refused_unread(run: Path, name: str, claimed: int) -> None:
    with (run / name).open("wb") as file:
        file.write(struct.pack("<Q", claimed) + b"{")
        file.truncate(min(claimed + 8, 10 << 30))  # sparse: it takes no room
    shapes = storycell.load("demo").lm.shapes()
    with pytest.raises(RunFolderError, match=rf"{name} is truncated or damaged \(its header claims {claimed:,} bytes"):
        RunFolder(run).load_weights(shapes) if name.startswith("model") else RunFolder(run).load_last(shapes)


@pytest.mark.parametrize("name", ["config.json", "vocab.json"])
@pytest.mark.parametrize("opening", ["[", '{"a":', '{"settings":', '["'], ids=["array", "object", "settings", "string"])
def test_json_nested_deep_is_refused(run: Path, name: str, opening: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / name).write_text(opening * 100_000)
    command(capsys, "sample", run, "--chars", 3).stated(1, name, "damaged or was edited by hand")


def test_nested_json_in_the_metadata_of_weights_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = json.dumps({"__metadata__": {"about": NESTED}}).encode()
    (run / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    command(capsys, "sample", run, "--chars", 3).stated(1, "model.safetensors is truncated or damaged")


def test_nested_lines_of_a_log_are_left_out(run: Path) -> None:
    before = RunFolder(run).metrics()
    with (run / "metrics.jsonl").open("a") as file:
        file.write(NESTED + "\n")
    assert RunFolder(run).metrics() == before


@pytest.mark.parametrize("name", ["config.json", "vocab.json"])
def test_a_file_of_ten_gigabytes_is_refused_unread(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(run / name, 10 << 30)
    command(capsys, "sample", run, "--chars", 3).stated(1, name, "too large to be what storycell wrote")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are Unix's")
@pytest.mark.parametrize("name", ["vocab.json", "model.safetensors", "metrics.jsonl"])
def test_a_pipe_or_device_in_a_file_s_place_is_refused(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for odd in ("pipe", "device"):
        (run / name).unlink()
        os.mkfifo(run / name) if odd == "pipe" else (run / name).symlink_to("/dev/zero")
        if name == "metrics.jsonl":
            with pytest.raises(RunFolderError, match=r"metrics.jsonl is not a file"):
                RunFolder(run).metrics()
        else:
            command(capsys, "sample", run, "--chars", 3).stated(1, f"{name} is not a file")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.txt", "checkpoints", ".lock"])
def test_a_link_out_of_the_folder_is_not_written_through(
    run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine)
    command(capsys, "train", "--resume", run, "--steps", 5).stated(1, str(run / name), "is a link")
    assert mine.read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_in_the_place_of_a_temporary_file_is_not_written_through(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    for name in ("last.safetensors", "model.safetensors", "config.json", "loss.png"):
        (run / f".{name}.part").symlink_to(mine)
    assert command(capsys, "train", "--resume", run, "--steps", 5).code == 0
    assert mine.read_text() == "mine"
    assert not list(run.glob(".*.part"))


# A text from elsewhere


@pytest.mark.parametrize("line", [NESTED, '{"text":' + NESTED, '{"a":' * 100_000], ids=["array", "text", "object"])
def test_a_json_line_nested_deep_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(CorpusError, match=r"a.jsonl line 2: not a JSON object"):
        b"".join(corpus.open_corpus([str(tmp_path / "a.jsonl")]).blocks())


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_json_line_without_end_is_refused_before_memory_is_full(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "LONGEST_LINE_BYTES", 4 << 20)
    bomb = packed(tmp_path / f"a.jsonl{ending}", b'{"text": "', b"a", 64 << 20)
    told: list[int] = []
    with pytest.raises(CorpusError, match="has a line of more than"):
        for _ in corpus.open_corpus([str(bomb)]).blocks(told.append):
            pass
    assert sum(told) < bomb.stat().st_size


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_text_bomb_is_read_in_blocks(tmp_path: Path, ending: str) -> None:
    bomb = packed(tmp_path / f"a.txt{ending}", b"", b"a", 64 << 20)
    assert bomb.stat().st_size < 100_000
    sizes = [len(block) for block in corpus.open_corpus([str(bomb)]).blocks()]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 64 << 20 if ending == ".zst" else max(sizes) <= 2 << 20


def test_a_zst_that_wants_two_gigabytes_to_unpack_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=31, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.txt.zst").write_bytes(packer.compress(b"once" * 100) + packer.flush())
    with pytest.raises(CorpusError, match=r"a.txt.zst is truncated or damaged .*memory"):
        b"".join(corpus.open_corpus([str(tmp_path / "a.txt.zst")]).blocks())


@pytest.mark.parametrize("name", ["prepared.json", "vocab.json"])
@pytest.mark.parametrize("content", [NESTED, None], ids=["nested", "ten-gigabytes"])
def test_a_prepared_folder_with_odd_json_is_refused(
    text: Path, tmp_path: Path, name: str, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tokens"
    assert command(capsys, "prepare", text, "--out", folder).code == 0
    if content:
        (folder / name).write_text(content)
    else:
        os.truncate(folder / name, 10 << 30)
    with pytest.raises(RunFolderError, match="is not a folder that prepare made, or is damaged"):
        tokens.open_prepared(folder)
    command(capsys, "train", folder, "--out", tmp_path / "run", *FLAGS).stated(1, str(folder))


@pytest.mark.parametrize("embedding", [0, 4], ids=["one-hot", "embedding"])
@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
@pytest.mark.parametrize("name", ["train.tokens", "valid.tokens"])
def test_ids_outside_the_vocabulary_are_refused(
    text: Path, tmp_path: Path, name: str, backend: str, embedding: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would index the model's weights: whatever computes refuses them, and the user is told where they are."""
    folder, run = tmp_path / "tokens", tmp_path / "run"
    assert command(capsys, "prepare", text, "--out", folder).code == 0
    (folder / name).write_bytes(bytes([0]) + bytes([255]) * ((folder / name).stat().st_size - 1))
    flags = [*FLAGS, f"--backend={backend}", f"--embedding={embedding}"]
    outcome = command(capsys, "train", folder, "--out", run, *flags)
    assert outcome.code == 1
    said = f"storycell: {folder / name} holds ids that are not in vocab.json; prepare the text again"
    assert outcome.err.splitlines()[-1].removeprefix("\r\033[K") == said
    if name == "valid.tokens":
        assert command(capsys, "eval", run, folder, f"--backend={backend}").err.splitlines()[-1] == said


BOMB = """
import resource, sys
from storycell.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.soak
@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst", "a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.json.zst"])
def test_ten_gigabytes_from_ten_megabytes_take_no_more_memory(tmp_path: Path, name: str) -> None:
    start = {".txt": b"", ".csv": b'text\n"a"\n"', ".json": b'["a", "'}.get(
        Path(name).with_suffix("").suffix, b'{"text": "'
    )
    bomb = packed(tmp_path / name, start, b"a", 10 << 30)
    words = ["prepare", str(bomb), "--out", str(tmp_path / "tokens")]
    done = subprocess.run([sys.executable, "-c", BOMB, *words], capture_output=True, timeout=3000, check=False)
    assert done.returncode == (0 if "txt" in name else 1), done.stderr
    assert int(done.stderr.split()[-1]) < MEMORY_BYTES


def packed(path: Path, start: bytes, byte: bytes, size: int) -> Path:
    """A file that unpacks to `start` and `size` times a byte."""
    with path.open("wb") as raw:
        writer = (
            gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9)
            if path.suffix == ".gz"
            else zstandard.ZstdCompressor().stream_writer(raw, closefd=False)
        )
        with writer:
            writer.write(start)
            for _ in range(size >> 20):
                writer.write(byte * (1 << 20))
    return path
