"""Runs whose ids are pieces of words: all that is told of them is by character, and prompts may end within a piece."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from support.instruction_sets import needs_kernel
from support.tiny_runs import command, process

import storycell
from storycell import Report, loss
from storycell.data.corpus import open_corpus
from storycell.data.prepare import cache_folder, prepare
from storycell.errors import ResumeError, SettingsError, VocabularyError
from storycell.evaluation import evaluator
from storycell.evaluation.texts import encode_text
from storycell.generation import sampler
from storycell.generation.generate import find_unsettled
from storycell.generation.sampler import Sampling
from storycell.runs.folder import RunFolder
from storycell.types import BOUNDARY, RESERVED, UNKNOWN

pytest.importorskip("tokenizers")
pytestmark = needs_kernel

STORIES = Path(__file__).parents[1] / "data" / "stories-100.txt"
TINY: dict[str, Any] = {
    "vocab": "pieces:300",
    "recipe": "pieces",
    "hidden": 24,
    "embedding": 16,
    "layers": 1,
    "gate_norm": False,
    "streams": 4,
    "chunk": 16,
    "evaluations": 3,
    "threads": 1,
    "optimizer": "muon",
}
SHORT = (
    "<|endoftext|>\n".join(
        f"Once upon a time {('Anna', 'Benno', 'Cleo')[k % 3]} had {k} balls.\nThen she didn't have them.\n"
        for k in range(60)
    )
    + "<|endoftext|>\n"
)


class CutShort(Exception):  # noqa: N818 - it is no error
    """What stops a training in the middle, as a crash would."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "short.txt"
    path.write_text(SHORT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(text: Path, tmp_path_factory: pytest.TempPathFactory) -> storycell.Run:
    """A run that knows its text nearly by heart."""
    settings = TINY | {"vocab": "pieces:150", "steps": 400, "lr": 0.02}
    return storycell.train(text, out=tmp_path_factory.mktemp("runs") / "tiny", quiet=True, **settings)


@pytest.fixture(scope="module")
def model(run: storycell.Run) -> storycell.Model:
    return run.model


def test_characters_are_counted_and_not_pieces(text: Path, tmp_path: Path) -> None:
    reports = list[Report]()
    run = storycell.train(text, out=tmp_path / "run", callback=reports.append, steps=5, **TINY)
    prepared_ids = run.model.training_ids()
    lengths, T = run.model.vocab.lengths, TINY["chunk"]
    N, B = len(prepared_ids), TINY["streams"]
    expected = 0
    for step, report in enumerate(reports):
        for b in range(B):
            places = (b * N // B + step * T + 1 + np.arange(T)) % N
            expected += int(lengths[prepared_ids[places]].sum())
        assert report.chars == expected
    assert run.summary["chars"] == expected > 5 * B * T
    lines = run.metrics
    assert lines[-1]["chars"] == expected
    fresh = loss_of_uniform = math.log(len(run.model.vocab))
    mean_length = expected / (5 * B * T)
    assert reports[0].train_nats == pytest.approx(loss_of_uniform / mean_length, rel=0.3)
    assert reports[0].train_nats < fresh / 1.5


def test_a_budget_in_characters_is_one_of_characters(text: Path, tmp_path: Path) -> None:
    run = storycell.train(text, out=tmp_path / "run", quiet=True, chars=2000, **TINY)
    last_step = 4 * TINY["streams"] * TINY["chunk"]
    assert 2000 <= run.summary["chars"] < 2000 + last_step
    assert run.summary["step"] < 2000 / (TINY["streams"] * TINY["chunk"])


def test_the_loss_is_per_character_of_the_same_characters_as_any_models(run: storycell.Run, tmp_path: Path) -> None:
    model = run.model
    other = storycell.train(
        STORIES, out=tmp_path / "characters", quiet=True, steps=1, threads=1, hidden=8, streams=4, chunk=16
    ).model
    for sample in (SHORT[:900], SHORT.partition("<|")[0], "Once upon a timeЖ Anna ЖЖ had"):
        mine, theirs = model.evaluate(sample), other.evaluate(sample)
        assert (mine.chars, mine.stories) == (theirs.chars, theirs.stories)
        nats = model.score(sample)
        assert len(nats) == mine.chars == len(other.score(sample))
        assert nats.mean() == pytest.approx(mine.loss_nats)
        utf8 = len(sample.replace("<|endoftext|>\n", "").encode())
        assert mine.bits_per_byte == pytest.approx(nats.sum() / math.log(2) / utf8)
        ids = encode_text(sample, model.vocab)
        targets = np.append(ids[1:], ids[:1]) if mine.stories > 1 else ids[1:]
        by_piece = evaluator.score(model.network, ids)
        assert len(by_piece) == len(targets)
        assert by_piece.sum() == pytest.approx(nats.sum())
        assert nats == pytest.approx(np.repeat(by_piece / model.vocab.lengths[targets], model.vocab.lengths[targets]))
        assert mine.unknown_chars == np.count_nonzero(targets == UNKNOWN) == sample.count("Ж")
        if "Ж" in sample:
            assert nats[sample.index("Ж")] == pytest.approx(loss.ESCAPE_NATS)
    with pytest.raises(SettingsError, match="windows"):
        model.evaluate(SHORT, windows=8)


def test_the_loss_of_a_piece_is_that_of_the_network_on_its_ids(model: storycell.Model) -> None:
    story = SHORT.partition("<|")[0]
    ids = [BOUNDARY, *model.vocab.encode(story).tolist()]
    nats, _ = model.network.nats([ids[:-1]], [ids[1:]])
    assert model.evaluate(story).loss_nats == pytest.approx(float(nats.sum()) / len(story), rel=1e-5)


def test_a_cut_training_goes_on_to_the_bit_without_the_library(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TINY | {"chars": 12_000, "save_every": 1e-6, "average": 0.9}
    whole = storycell.train(text, out=tmp_path / "whole", quiet=True, **settings)

    def crash(report: Report) -> None:
        if report.step == 11:
            raise CutShort

    with pytest.raises(CutShort):
        storycell.train(text, out=tmp_path / "cut", callback=crash, **settings)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "another"))
    assert not cache_folder().exists()
    resumed = storycell.resume(tmp_path / "cut", quiet=True)
    assert resumed.summary["chars"] == whole.summary["chars"] >= 12_000
    for name in ("model.safetensors", "last.safetensors"):
        ours, theirs = (safetensors.numpy.load_file(path / name) for path in (whole.path, resumed.path))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    timeless = [{k: v for k, v in line.items() if not k.endswith("_s")} for line in whole.metrics]
    assert timeless == [{k: v for k, v in line.items() if not k.endswith("_s")} for line in resumed.metrics]


def test_another_text_is_refused_when_a_run_goes_on(run: storycell.Run, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(SHORT.replace("balls", "bells"), encoding="utf-8")
    with pytest.raises(ResumeError, match="not the text"):
        storycell.resume(run.path, text=other, quiet=True)


def test_a_text_with_new_characters_starts_from_a_runs_pieces(
    run: storycell.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    new = tmp_path / "new.txt"
    new.write_text(SHORT.replace("Cleo", "Ženo"), encoding="utf-8")
    begun = storycell.train(new, init=run.path, out=tmp_path / "begun", steps=1, quiet=True, threads=1, lr=1e-9)
    old, now = run.model, storycell.load(begun.path)
    assert set(now.vocab.characters) - set(old.vocab.characters) == {"Ž"}
    assert now.vocab.merges == old.vocab.merges
    there = [now.vocab.texts.index(piece) + RESERVED for piece in old.vocab.texts]
    for name in ("embedding.weight", "output.weight"):
        assert now.network.weights()[name][there] == pytest.approx(old.network.weights()[name][RESERVED:], abs=1e-4)
    story = SHORT.partition("<|")[0].replace("Cleo", "Anna")
    assert now.evaluate(story).loss_nats < old.evaluate(story).loss_nats + 0.5
    with pytest.raises(SettingsError, match="brings its own vocabulary"):
        storycell.train(new, init=run.path, out=tmp_path / "no", vocab="bytes", steps=1, quiet=True)


@pytest.mark.parametrize("prompt", ["Once upon a time", "", "Then she", "O"])
def test_exactly_as_many_characters_as_asked_for_follow(model: storycell.Model, prompt: str) -> None:
    for chars in (0, 1, 2, 3, 17):
        for seed in range(6):
            made = model.generate(prompt, chars=chars, seed=seed)
            assert made.startswith(prompt)
            assert len(made) == len(prompt) + chars


def test_a_text_does_not_depend_on_how_much_of_it_is_asked_for(model: storycell.Model) -> None:
    long = model.generate("Once", chars=60, seed=3)
    for chars in (1, 7, 30):
        assert model.generate("Once", chars=chars, seed=3) == long[: 4 + chars]
    alone = [model.generate("Once", chars=25, seed=3 + k) for k in range(3)]
    side_by_side = ["Once", "Once", "Once"]
    for k, piece in model.streams("Once", 25, count=3, seed=3):
        side_by_side[k] += piece
    assert side_by_side == alone


def test_a_text_ends_before_a_stop_within_a_piece(model: storycell.Model) -> None:
    long = model.generate("Once upon a ti", chars=60, greedy=True)
    behind = long[len("Once upon a ti") :]
    for at in range(1, 30):
        stop = behind[at : at + 3]
        made = model.generate("Once upon a ti", chars=60, greedy=True, stop=stop)
        assert made == long[: len("Once upon a ti") + behind.index(stop)]


def test_a_prompt_that_ends_anywhere_goes_on_as_the_text_does(model: storycell.Model) -> None:
    begun = "Once upon a time Anna had 7 b"  # from here on there is one way on
    whole = model.generate(begun, chars=30, greedy=True)
    assert whole.endswith("balls.\nThen she didn't have the")
    for end in range(len(begun), len(whole)):
        assert model.generate(whole[:end], chars=len(whole) - end, greedy=True) == whole
    for seed in range(20):
        assert model.generate("Once upon a ti", chars=3, seed=seed) == "Once upon a time "


def test_beginnings_have_the_models_probabilities_and_agree_with_the_prompt(model: storycell.Model) -> None:
    vocab, network = model.vocab, model.network
    prompt = "Once upon a ti"
    ids, read = vocab.prompt_ids(prompt)
    settled, unsettled = find_unsettled(vocab, ids, read)
    assert unsettled is not None
    stream = sampler.Stream(Sampling(1.0), 1)
    sampler.read(network, stream, settled)
    found = sampler.Beginnings(network, stream, unsettled)
    assert len(found.paths) > 1
    assert len(set(found.paths)) == len(found.paths)
    for (count, k), score in zip(found.paths, found.scores, strict=True):
        whole = [*settled, *unsettled.ids[:count], k]
        assert vocab.decode(whole).startswith(prompt)
        fed = [BOUNDARY, *whole]
        logits, _ = network.logits(np.array([fed[:-1]]))
        row = logits[0].astype(np.float64)
        row[:, UNKNOWN] = -np.inf
        logs = row - np.log(np.exp(row - row.max(1, keepdims=True)).sum(1, keepdims=True)) - row.max(1, keepdims=True)
        every = logs[np.arange(len(whole)), whole]
        assert score == pytest.approx(every[len(settled) :].sum(), abs=1e-4)
        drawn = stream.copy()
        drawn.sampling = Sampling(greedy=True)
    all_that_agree = [
        [*unsettled.ids[:count], k]
        for count in range(len(unsettled.ids))
        for k in range(RESERVED, len(vocab))
        if (made := vocab.decode([*settled, *unsettled.ids[:count], k])).startswith(prompt) and len(made) > len(prompt)
    ]
    assert sorted(all_that_agree) == sorted(
        [*unsettled.ids[:count], k]
        for count, k in found.paths
        if vocab.decode([*settled, *unsettled.ids[:count], k]) != prompt
    )


def test_what_is_drawn_leaves_the_stream_as_if_it_had_been_read(model: storycell.Model) -> None:
    vocab, network = model.vocab, model.network
    ids, read = vocab.prompt_ids("Once upon a ti")
    settled, unsettled = find_unsettled(vocab, ids, read)
    for seed in range(5):
        [drawn] = sampler.start_streams(network, settled, Sampling(1.5), [seed], unsettled=unsettled)
        plain = sampler.Stream(Sampling(), 0)
        sampler.read(network, plain, [*settled, *drawn.healed])
        assert plain.next_id == drawn.next_id
        assert drawn.state is not None
        assert plain.state is not None
        for name, value in plain.state.items():
            assert drawn.state[name] == pytest.approx(value, abs=1e-5)


def test_lists_are_as_long_as_asked_and_begin_with_the_prompt(model: storycell.Model) -> None:
    found = model.items(5, prompt="Once upon a ti", chars=30, seed=1, rank=True)
    assert len(found.items) == 5
    assert all(item.text.startswith("Once upon a time") and len(item.text) <= 44 for item in found.items)
    assert [item.nats for item in found.items] == sorted(item.nats for item in found.items)


def test_a_prompts_stranger_is_named(model: storycell.Model) -> None:
    with pytest.raises(VocabularyError, match=r"'Ж' \(U\+0416\) at position 5"):
        model.generate("Once Ж")
    assert model.generate("OnceЖ upon", chars=5, seed=1, unknown="skip").startswith("Once upon")


@pytest.mark.parametrize(
    "rule", [{"match": "[a-z]+"}, {"alphabet": "abc"}, {"no_copy": 20}, {"max_chars": 30}, {"contains": "cat"}]
)
def test_rules_by_character_are_refused(model: storycell.Model, rule: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="character by character"):
        model.generate("Once", **rule)


def test_settings_that_are_of_characters_are_refused(text: Path, tmp_path: Path) -> None:
    for wrong, said in (({"soft_targets": 0.5}, "soft_targets"), ({"recipe": "best"}, "recipe best")):
        with pytest.raises(SettingsError, match=said):
            storycell.train(text, out=tmp_path / "no", quiet=True, **{**TINY, "steps": 1, **wrong})
    assert not (tmp_path / "no").exists()


def test_a_text_prepared_as_pieces_is_trained_on_as_such(text: Path, tmp_path: Path) -> None:
    folder = prepare(open_corpus([str(text)]), tmp_path / "prepared", vocab="pieces:120").folder
    settings = {name: value for name, value in TINY.items() if name not in ("vocab", "recipe")}
    run = storycell.train(folder, out=tmp_path / "run", quiet=True, steps=1, **settings)
    assert (run.model.vocab.kind, run.settings.recipe) == ("pieces", "pieces")
    assert storycell.resume(run.path, steps=2, quiet=True).summary["step"] == 2
    for wrong, said in (({"vocab": "characters"}, "prepared as pieces"), ({"recipe": "best"}, "recipe best")):
        with pytest.raises(SettingsError, match=said):
            storycell.train(folder, out=tmp_path / "no", quiet=True, steps=1, **{**settings, **wrong})


def test_standard_input_is_read_once(tmp_path: Path) -> None:
    flags = ["--no-gate-norm"]
    flags += [f"--{name}={value}" for name, value in TINY.items() if name not in ("vocab", "recipe", "gate_norm")]
    words = ["train", "-", "--vocab=pieces", "--pieces=100", "--steps=1", *flags, "--out", tmp_path / "run"]
    done = process(*words, input=SHORT.encode())
    assert done.code == 0, done.err
    assert len(storycell.load(tmp_path / "run").vocab.merges) > 10


def test_labels_that_are_left_open_are_drawn_by_the_model(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{('tale', 'news')[k % 2]},1{k % 3},Once upon a time there were {k} cats" for k in range(120)]
    table.write_text("\n".join(["genre,year,text", *rows]) + "\n", encoding="utf-8")
    settings = TINY | {"vocab": "pieces:120", "steps": 250, "lr": 0.02}
    model = storycell.train(table, out=tmp_path / "run", labels=["genre", "year"], quiet=True, **settings).model
    assert model.labels["genre"] in (["tale", "news"], ["news", "tale"])
    found = model.items(8, chars=20, seed=1)
    assert {item.labels["genre"] for item in found.items} == {"tale", "news"}
    assert all(item.labels["year"] in ("10", "11", "12") for item in found.items)
    asked = model.items(3, labels={"genre": "news", "year": "11"}, prompt="Once up", chars=20, seed=1)
    assert all(item.text.startswith("Once upon") for item in asked.items)
    assert asked.items[0].labels == {"genre": "news", "year": "11"}
    with pytest.raises(SettingsError, match="all its labels"):
        model.generate("Once", labels={"genre": "news"})


def test_a_prompt_may_hold_a_character_that_counts_as_unknown(model: storycell.Model) -> None:
    made = model.generate("Once\r<|endoftext|>", chars=10, seed=1)
    assert len(made.removeprefix("Once\n<|endoftext|>\n")) == 10
    ids = [*model.vocab.encode("Once upon").tolist(), UNKNOWN]
    settled, unsettled = find_unsettled(model.vocab, ids, "Once upon\u0416")
    assert unsettled is not None
    assert UNKNOWN in unsettled.ids
    [stream] = sampler.start_streams(model.network, settled, Sampling(), [1], unsettled=unsettled)
    assert stream.healed == unsettled.ids


def test_the_command_trains_samples_and_evaluates(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--no-gate-norm"]
    flags += [f"--{name}={value}" for name, value in TINY.items() if name not in ("vocab", "recipe", "gate_norm")]
    done = command(
        capsys, "train", text, "--vocab=pieces", "--pieces=200", *flags, "--steps=4", "--out", tmp_path / "run"
    )
    assert done.code == 0, done.err
    config = RunFolder(tmp_path / "run").config()
    assert (config.text.vocab, config.settings.recipe, config.settings.model.matches) == ("pieces:200", "pieces", 8)
    made = command(capsys, "sample", tmp_path / "run", "Once upon a ti", "--chars=20", "--seed=1", "--json")
    assert json.loads(made.out)["chars"] == 20
    measured = json.loads(command(capsys, "eval", tmp_path / "run", "--json").out)
    assert measured["chars"] == config.text.valid_chars + measured["stories"]
    resumed = command(capsys, "train", "--resume", tmp_path / "run", "--steps=6", "--json")
    assert resumed.code == 0, resumed.err
    assert json.loads(resumed.out)["step"] == 6
    command(capsys, "train", text, "--pieces=200", "--out", tmp_path / "no").stated(2, "--pieces")
    command(capsys, "train", "--resume", tmp_path / "run", "--pieces=200").stated(2, "--pieces")
