"""What is done with a run whose ids are pieces of words beside sampling: by character, or refused in a sentence."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.instruction_sets import needs_kernel
from support.tiny_runs import command

import storycell
from storycell.errors import ExportError
from storycell.lab.compress import archive
from storycell.lab.compress.framing import frame, unframe
from storycell.lab.novelty import novelty
from storycell.types import UNKNOWN

pytest.importorskip("tokenizers")
pytestmark = needs_kernel

STORIES = Path(__file__).parents[1] / "data" / "stories-100.txt"
NETWORK = {"hidden": 16, "embedding": 8, "layers": 1, "streams": 4, "chunk": 16, "evaluations": 1, "threads": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of pieces, one of characters, on the same text."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for kind in ("pieces:300", "characters"):
        settings: dict[str, Any] = {**NETWORK, "recipe": "pieces", "vocab": kind, "steps": 40}
        made[kind[:6]] = storycell.train(STORIES, out=folder / kind[:6], quiet=True, **settings).path
    return made


@pytest.fixture(scope="module")
def model(runs: dict[str, Path]) -> storycell.Model:
    return storycell.load(runs["pieces"])


def files() -> Iterator[bytes]:
    text = STORIES.read_bytes()[:3000]
    yield from (text, text.replace(b"<|endoftext|>\n", b""), b"", b"a", text.replace(b"\n", b"\r\n"))
    yield "Once upon a time Жук 漢字 \x00\x1c e\u0301 the cat's \ufffd <|endoftext|> end".encode()
    yield b"\xef\xbb\xbf" + text[:500] + b"\xff\xfe\x80 broken \xc3" + text[500:900]
    yield b"one\n<|endoftext|>\ntwo\n<|endoftext|>"
    yield bytes(np.random.default_rng(1).integers(0, 256, 700, dtype=np.uint8))


@pytest.mark.parametrize("data", list(files()))
def test_any_file_comes_back_from_pieces(data: bytes, model: storycell.Model) -> None:
    framed = frame(data, model.vocab)
    assert unframe(framed, model.vocab) == data
    assert np.count_nonzero(framed.symbols == UNKNOWN) == len(framed.escaped)
    if data:
        packed, back = io.BytesIO(), io.BytesIO()
        archive.compress(model.network, model.vocab, io.BytesIO(data), packed)
        packed.seek(0)
        archive.decompress(model.network, model.vocab, packed, back, "a file")
        assert back.getvalue() == data


def test_the_commands_compress_and_decompress(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(STORIES.read_bytes()[:5000])
    done = command(capsys, "compress", runs["pieces"], file, "--out", tmp_path / "packed", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["bytes_out"] < 4000
    assert command(capsys, "decompress", runs["pieces"], tmp_path / "packed", "--out", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    refused = command(capsys, "compress", runs["pieces"], file, "--out", tmp_path / "no", "--adapt")
    refused.stated(2, "character by character", "leave --adapt out")
    assert not (tmp_path / "no").exists()


def test_runs_of_both_kinds_stand_in_one_table(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(STORIES.read_text(encoding="utf-8")[:8000], encoding="utf-8")
    done = command(
        capsys, "compare", runs["pieces"], runs["charac"], "--text", text, "--json", "--out", tmp_path / "out"
    )
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads(done.out)["rows"]}
    mine, theirs = (rows[name] for name in ("pieces", "charac"))
    assert mine["chars"] == theirs["chars"]
    for name, row in (("pieces", mine), ("charac", theirs)):
        measured = storycell.load(runs[name]).evaluate(text.read_text(encoding="utf-8"))
        assert (row["loss_nats"], row["chars"]) == (pytest.approx(measured.loss_nats, abs=1e-5), measured.chars)
    pairs = [row["difference_nats"] for row in (mine, theirs) if "difference_nats" in row]
    assert pairs
    assert abs(pairs[0]) == pytest.approx(abs(mine["loss_nats"] - theirs["loss_nats"]), abs=1e-5)


def test_copies_are_measured_in_characters(model: storycell.Model, runs: dict[str, Path]) -> None:
    training = model.training_ids()
    text = model.vocab.decode(training.tolist())
    found = novelty(model, training, None, count=4, chars=60, seed=1)
    assert found.samples.chars <= 240
    assert found.samples.chars > 120
    for span in found.spans:
        assert len(span.text) == span.chars <= 60
        assert span.text in text
        spelt = model.vocab.spell(training)
        there = spelt[span.place : span.place + span.chars].tolist()
        assert model.vocab.spelling.decode(there) == span.text
    others = storycell.load(runs["charac"])
    assert model.vocab.spelling == others.vocab
    assert model.vocab.spell(training).tolist() == others.training_ids().tolist()


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(model: storycell.Model, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="pieces of words"):
        model.export(tmp_path / "file.h")
    with pytest.raises(ExportError, match="on characters"):
        model.export_trainer(tmp_path / "a.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "RUN", "TEXT", "--with-ngram"],
        ["eval", "RUN", "TEXT", "--adapt"],
        ["eval", "RUN", "TEXT", "--windows=16"],
        ["sample", "RUN", "Once", "--with-ngram"],
        ["sample", "RUN", "Once", "--match=[a-z]+"],
    ],
)
def test_a_verb_that_cannot_do_with_pieces_says_so(
    words: list[str], runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [{"RUN": runs["pieces"], "TEXT": STORIES}.get(word, word) for word in words]
    done = command(capsys, *given)
    assert done.code == 2, done.err
    said = done.err.splitlines()[-1]
    assert "pieces" in said
    assert "Traceback" not in done.err


def test_info_tells_the_vocabulary(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(command(capsys, "info", runs["pieces"], "--json").out)["run"]
    assert facts["vocabulary"] == "300 ids (pieces)"


def test_a_run_of_pieces_is_looked_into_beside_one_of_characters(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either way round: both are told by character, on the same text; only gradients go back by step."""
    found = {}
    for mine, other in (("pieces", "charac"), ("charac", "pieces")):
        page = tmp_path / f"{mine}.html"
        done = command(
            capsys, "inspect", runs[mine], STORIES, "--against", runs[other], "--chars=6000", "--json", "--out", page
        )
        assert done.code == 0, done.err
        found[mine] = json.loads(done.out)
        html = page.read_text(encoding="utf-8")
        unit = "piece" if mine == "pieces" else "character"
        assert f"half-life in {unit}s" in html
        assert f"lag k, {unit}s back" in html
        assert f"by {'character' if mine == 'pieces' else 'piece'}" in html
        assert ("pieces, at their last characters" in html) == (mine == "pieces")
    assert found["pieces"]["chars"] == found["charac"]["chars"]
    figures = {name: set(one["figures"]) for name, one in found.items()}
    assert (
        figures["pieces"] == figures["charac"] >= {"units", "ablation", "mistakes", "gradients", "context", "matches"}
    )
    mistakes = [one["figures"]["mistakes"] for one in found.values()]
    assert mistakes[0] == mistakes[1]  # of each model the same, whoever comes first
    assert {row["chars"] for rows in mistakes[0].values() for row in rows} == {found["pieces"]["chars"] // 2}


def test_python_looks_into_a_run_of_pieces(model: storycell.Model, tmp_path: Path) -> None:
    text = STORIES.read_text(encoding="utf-8")[:12_000]
    path = model.trace(text)
    assert path["c", 0].shape == (len(path.text), 16)
    told = model.find_units(text, "position in the sentence", top=2)
    assert [one.feature for one in told] == ["position in the sentence"] * 2
    assert model.gradient_flow(text, 16).step_name == "piece"
    assert model.authors(text, 0, 3).text.endswith(path.text[-10:])
    assert model.step("Once upon a time", 0, 3).after["c"] == pytest.approx(
        float(model.trace("Once upon a time")["c", 0][-1, 3]), abs=1e-5
    )
    patched = model.patch("She was", "He was", then=" happy.", chars=30, seed=1)
    assert len(patched.after) == len(model.vocab)
    assert 0 < len(patched.text) <= 30
    assert model.carriers("she or he", count=12).pairs == 8
    steered = model.steer(model.direction(text, "inside quotes, not outside"), 1.0)
    assert steered.generate("Once", chars=40, seed=1) != model.generate("Once", chars=40, seed=1)


def test_a_run_of_pieces_has_a_film(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**NETWORK, "recipe": "pieces", "vocab": "pieces:300", "steps": 16}
    run = storycell.train(STORIES, out=tmp_path / "run", quiet=True, checkpoints="log", **settings)
    film = run.model.film(STORIES.read_text(encoding="utf-8")[:30_000])
    assert film.steps[-1] == run.summary["step"]
    assert film.row_nats.shape == (len(film.steps), len(film.text))
    for birth in film.births:
        assert birth.values.shape == film.row_nats.shape
        assert np.isfinite(birth.scores).all()
        if birth.asked:
            assert np.isfinite(birth.effects).all()
    assert {birth.finding.feature for birth in film.births if birth.asked} >= {"inside quotes"}
