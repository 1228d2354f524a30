"""The Python surface: four lines from a text to a story, `--init`, prepared folders, cells of one's own."""

import json
import math
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

import storycell
from storycell.data import corpus
from storycell.data.prepare import prepare, prepare_cached
from storycell.data.stories.corpus import generate
from storycell.data.tokens import split_stories
from storycell.errors import CorpusError, RunFolderError, SettingsError
from storycell.nn.cells.cell import Values, Weights

TINY = {"hidden": 16, "embedding": 6, "streams": 4, "chunk": 16, "steps": 12, "evaluations": 2, "threads": 1}


def test_four_lines_train_load_write_and_measure(story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", **TINY | {"steps": 150})
    model = storycell.load(run.path)
    text = model.generate("Once upon a", chars=40, temperature=0.8, seed=1)
    result = model.evaluate(story_file.read_text())
    assert text.startswith("Once upon a")
    assert len(text) <= len("Once upon a") + 40
    assert (
        text == model.generate("Once upon a", chars=40, seed=1) == run.model.generate("Once upon a", chars=40, seed=1)
    )
    assert "".join(model.stream("Once upon a", chars=40, seed=1)) == text.removeprefix("Once upon a")
    assert result.loss_nats < math.log(len(model.vocab)) - 1
    assert result.perplexity == pytest.approx(math.exp(result.loss_nats))
    assert model.score("Ann had 3 balls.").shape == (16,)
    assert run.summary["valid_nats"] < 3
    assert "lstm, 1 x 16" in repr(model)


def test_the_summary_and_the_files_of_a_run(story_file: Path, tmp_path: Path) -> None:
    seen: list[storycell.Report] = []
    run = storycell.train(story_file, out=tmp_path / "run", callback=seen.append, **TINY)
    names = {path.name for path in run.path.iterdir()}
    expected = {
        "config.json",
        "vocab.json",
        "model.safetensors",
        "last.safetensors",
        "metrics.jsonl",
        "samples.txt",
        "loss.png",
    }
    assert expected <= names
    assert not [name for name in names if "part" in name]
    assert len(seen) == 12
    assert [r.step for r in seen if r.valid_nats is not None] == [6, 12]
    assert all(r.sample for r in seen if r.valid_nats is not None)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    keys = {"step", "elapsed_s", "chars", "train_nats", "valid_nats", "learning_rate", "grad_norm", "chars_per_s"}
    assert all(keys <= line.keys() for line in lines)
    assert (run.path / "loss.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((run.path / "config.json").read_text())
    assert config["settings"]["training"]["backend"] == "native"
    assert config["settings"]["training"]["precision"] in ("fp32", "bf16")
    assert config["settings"]["model"]["hidden"] == 16
    assert {"torch", "storycell", "python"} <= config["versions"].keys()
    assert set(run.summary) >= {"run", "params", "step", "chars", "train_nats", "valid_nats", "bits_per_char"}


def test_the_best_weights_are_kept_not_the_last(story_file: Path, tmp_path: Path) -> None:
    """Validated on another kind of text than it learns, a model gets worse after a while."""
    other = tmp_path / "other.txt"
    other.write_text("Once once once! " * 40)
    run = storycell.train(
        story_file,
        valid=other,
        out=tmp_path / "run",
        **TINY | {"steps": 300, "evaluations": 15, "schedule": "constant"},
    )
    curve = {m["step"]: m["valid_nats"] for m in run.metrics if m["valid_nats"] is not None}
    best = min(curve, key=lambda step: curve[step])
    assert best < 300
    assert curve[best] < curve[300] - 0.05
    assert run.model.evaluate(other.read_text()).loss_nats == pytest.approx(run.summary["valid_nats"], abs=1e-6)
    with safetensors.safe_open(run.path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["about"])["step"] == best


def test_evaluation_takes_at_most_a_twentieth_of_the_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storycell.evaluation import evaluator, texts

    scored: list[int] = []
    original = evaluator.evaluate
    for module in (evaluator, texts):
        monkeypatch.setattr(
            module, "evaluate", lambda lm, ids, vocab, **k: scored.append(len(ids)) or original(lm, ids, vocab, **k)
        )
    text = tmp_path / "text.txt"
    text.write_text("<|endoftext|>\n".join(islice(generate(1), 2000)))
    storycell.train(
        text, out=tmp_path / "run", **TINY | {"hidden": 4, "streams": 16, "chunk": 64, "steps": 400, "evaluations": 4}
    )
    assert len(scored) == 5  # four on the way, the whole text at the end
    assert sum(scored[:4]) < 400 * 16 * 64 / 20 + 4 * 3000  # and at most one story more each
    assert scored[4] > 400 * 16 * 64 / 20  # each time all of it would be more


def test_init_goes_on_from_another_model_and_adds_characters(story_file: Path, tmp_path: Path) -> None:
    first = storycell.train(story_file, out=tmp_path / "first", **TINY | {"steps": 60})
    other = tmp_path / "other.txt"
    other.write_text("Émile zog über 3 Wiesen. " * 60, encoding="utf-8")
    second = storycell.train(
        other, out=tmp_path / "second", init=first.path, streams=2, chunk=16, steps=1, lr=1e-9, threads=1
    )
    old, new = first.model, second.model
    assert set(new.vocab.characters) == set(old.vocab.characters) | set("Émile zog über 3 Wiesen. ")
    assert list(new.vocab.characters) == sorted(new.vocab.characters)
    text = story_file.read_text()
    assert new.evaluate(text).loss_nats == pytest.approx(old.evaluate(text).loss_nats, abs=0.05)
    assert second.settings.model == first.settings.model
    assert second.config.init == str(first.path)
    assert storycell.resume(second.path, steps=3).summary["step"] == 3
    with pytest.raises(SettingsError, match="hidden = 99"):
        storycell.train(other, out=tmp_path / "third", init=first.path, hidden=99)


def test_a_prepared_folder_trains_like_its_text(story_file: Path, tmp_path: Path) -> None:
    prepared = prepare(corpus.open_corpus([str(story_file)]), tmp_path / "prepared")
    a = storycell.train(prepared.folder, out=tmp_path / "a", **TINY)
    b = storycell.train(story_file, out=tmp_path / "b", **TINY)
    assert a.summary["valid_nats"] == b.summary["valid_nats"]
    assert storycell.resume(a.path, steps=14).summary["step"] == 14


def test_texts_validation_text_and_bytes(story_file: Path, tmp_path: Path) -> None:
    valid = tmp_path / "valid.txt"
    valid.write_text("Ann had 9 red balls.\n")
    run = storycell.train([story_file, story_file], valid=valid, out=tmp_path / "run", vocab="bytes", **TINY)
    assert run.config.text.valid_chars == 21
    assert len(run.model.vocab) == 258
    assert run.model.generate("é", chars=8, seed=2).startswith("é")


def test_stop_strings_and_ends(story_file: Path, tmp_path: Path) -> None:
    run = storycell.train(story_file, out=tmp_path / "run", **TINY | {"steps": 200, "lr": 2e-2})
    whole = run.model.generate("Once", chars=300, seed=4)
    stop = whole[20:23]
    at = whole.index(stop, 4)
    assert run.model.generate("Once", chars=300, seed=4, stop=stop) == whole[:at]
    assert "".join(run.model.stream("Once", chars=300, seed=4, stop=stop)) == whole[4:at]
    later = whole[at + 1 : at + 9]
    for stops in ([later, stop], (stop, later), [stop], ["", stop, "\u65e5"]):
        assert run.model.generate("Once", chars=300, seed=4, stop=stops) == whole[:at]
        assert "".join(run.model.stream("Once", chars=300, seed=4, stop=stops)) == whole[4:at]
    for nothing in (None, "", [], [""], ["\u65e5"]):
        assert run.model.generate("Once", chars=300, seed=4, stop=nothing) == whole
    with pytest.raises(SettingsError, match="stop = 3: it must be a text, or a list of texts"):
        run.model.generate("Once", stop=["a", 3])  # type: ignore[list-item]
    assert run.model.generate("Once", chars=0) == "Once"
    many = dict.fromkeys(range(3), "Once")
    for k, piece in run.model.streams("Once", 50, count=3, seed=7):
        many[k] += piece
    assert many[0] == run.model.generate("Once", chars=50, seed=7)


def test_a_cell_of_ones_own_trains_from_a_name(story_file: Path, tmp_path: Path) -> None:
    @storycell.register_cell
    class Decay(storycell.Cell):
        """A leaky tanh."""

        name, state_names = "decay-test", ("h",)

        def step(self, x: torch.Tensor, state: Values, w: Weights) -> Values:
            return {"h": 0.5 * state["h"] + torch.tanh(x @ w["weight_ih"].T + state["h"] @ w["weight_hh"].T)}

    run = storycell.train(story_file, out=tmp_path / "run", cell="decay-test", **TINY | {"steps": 60})
    assert run.summary["backend"] == "reference"
    assert run.summary["valid_nats"] < 4
    assert run.model.generate("Once", chars=5, seed=1).startswith("Once")


def test_the_embedded_stories_come_with_their_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from storycell.data import embedded
    from storycell.data.stories import corpus as stories

    monkeypatch.setattr(embedded, "STORIES", 120)
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "cache"))  # of this many stories, not of all
    run = storycell.train("stories", out=tmp_path / "run", **TINY)
    held_out = prepare_cached(corpus.open_corpus(["stories"])).valid_ids
    assert held_out is not None
    texts = [run.model.vocab.decode(s[1:]) for s in split_stories(held_out)]
    assert set(texts) <= set(islice(stories.generate(embedded.SEED), 120))
    expected = -sum(stories.log_probability(t) for t in texts) / sum(len(t) + 1 for t in texts)
    assert run.summary["floor_nats"] == pytest.approx(expected)
    assert run.summary["valid_nats"] > run.summary["floor_nats"]


def test_nothing_is_lost_when_the_folder_is_taken(story_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "novel.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="holds something else"):
        storycell.train(story_file, out=tmp_path / "mine", **TINY)
    assert (tmp_path / "mine" / "novel.txt").read_text() == "years of work"
    run = storycell.train(story_file, out=tmp_path / "run", **TINY)
    before = (run.path / "model.safetensors").read_bytes()
    with pytest.raises(RunFolderError, match="--resume"):
        storycell.train(story_file, out=run.path, **TINY)
    assert (run.path / "model.safetensors").read_bytes() == before


def test_a_text_shorter_than_a_chunk_is_an_error_and_makes_no_folder(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Too short.")
    with pytest.raises(CorpusError, match="fewer than one chunk of 16"):
        storycell.train(tmp_path / "short.txt", out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


def test_scores_sum_to_the_evaluation(story_file: Path, tmp_path: Path) -> None:
    model = storycell.train(story_file, out=tmp_path / "run", **TINY).model
    text = story_file.read_text()
    assert np.mean(model.score(text)) == pytest.approx(model.evaluate(text).loss_nats, rel=1e-6)


def test_import_is_cheap() -> None:
    heavy = "torch numpy matplotlib rich huggingface_hub pydantic safetensors fastapi"
    code = f"import storycell, sys; print(*[m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
