"""Readers of what may come from anywhere, fed what nobody would write: each answers, or says what is wrong.

Damage here is hostile: checksums are made to fit again, so that it is the checks behind them that are tested.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.changed_json import changed
from support.tiny_runs import TEXT

import storycell
from storycell.data import corpus
from storycell.data.prepare import prepare
from storycell.data.tokens import open_prepared
from storycell.errors import StorycellError
from storycell.runs import tensors
from storycell.runs.folder import RunFolder

pytestmark = pytest.mark.soak
EXAMPLES = int(os.environ.get("STORYCELL_FUZZ_EXAMPLES", "12"))  # `make soak` sets more
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def answers(what: Callable[[], object]) -> None:
    """It works, or raises an error of one short line that a user can read; anything else is a bug."""
    with contextlib.suppress(StorycellError):
        what()


@pytest.mark.parametrize("name", ["config.json", "vocab.json"])
@FUZZ
@given(data=st.data())
def test_any_json_in_a_run_folder_is_answered(name: str, made: Path, run: Path, data: st.DataObject) -> None:
    value = changed(json.loads((made / name).read_text()), data.draw)
    (run / name).write_text(json.dumps(value))
    answers(lambda: storycell.load(run).generate("", chars=2, seed=1))


@FUZZ
@given(data=st.data())
def test_any_metadata_and_tensors_that_resuming_reads_are_answered(made: Path, run: Path, data: st.DataObject) -> None:
    """`last.safetensors` with something else in it and a checksum that fits."""
    state, about = tensors.read_tensors(made / "last.safetensors")
    if data.draw(st.booleans()):
        about = changed(about, data.draw)
    else:
        name = data.draw(st.sampled_from(sorted(state)))
        odd = [np.zeros(0, np.float32), np.zeros((3, 3), np.float32), np.full_like(state[name], 7), np.zeros(2)]
        put = data.draw(st.sampled_from([*range(len(odd)), None]))
        state = {key: value for key, value in state.items() if key != name} | ({} if put is None else {name: odd[put]})
    new = run / "new"
    new.write_bytes(tensors.pack_tensors(state, about))
    new.replace(run / "last.safetensors")  # not written over: an earlier training may still have it mapped
    answers(lambda: storycell.resume(run, steps=4))
    shutil.rmtree(run)
    shutil.copytree(made, run)


@FUZZ
@given(line=st.one_of(st.binary(max_size=40), st.data()))
def test_any_line_in_a_log_is_left_out_or_is_metrics(made: Path, run: Path, line: Any) -> None:
    lines = (made / "metrics.jsonl").read_text().splitlines()
    if not isinstance(line, bytes):
        line = json.dumps(changed(json.loads(lines[-1]), line.draw)).encode()
    (run / "metrics.jsonl").write_bytes("\n".join(lines).encode() + b"\n" + line + b"\n")
    entries = RunFolder(run).metrics()
    assert len(entries) >= len(lines)
    assert all(isinstance(entry["step"], int | float) for entry in entries)


@FUZZ
@given(data=st.data())
def test_any_json_in_a_prepared_folder_is_answered(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare(corpus.text_corpus(TEXT), out)
    name = data.draw(st.sampled_from(["prepared.json", "vocab.json"]))
    (out / name).write_text(json.dumps(changed(json.loads((out / name).read_text()), data.draw)))
    answers(lambda: (open_prepared(out).train_ids[:5], open_prepared(out).valid_ids))


@FUZZ
@given(content=st.binary(max_size=400), ending=st.sampled_from([".txt", ".jsonl", ".txt.gz", ".txt.zst", ".jsonl.zst"]))
def test_any_bytes_as_a_text_are_answered(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    path = tmp_path_factory.mktemp("text") / f"a{ending}"
    path.write_bytes(content)
    answers(lambda: list(corpus.open_corpus([str(path)]).blocks()))


@FUZZ
@given(header=st.binary(max_size=200), size=st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1)))
def test_any_bytes_as_weights_are_answered(run: Path, header: bytes, size: int) -> None:
    (run / "model.safetensors").write_bytes(size.to_bytes(8, "little") + header)
    answers(lambda: storycell.load(run))
