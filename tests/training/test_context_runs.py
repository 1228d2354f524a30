"""Runs with n-grams, matches or both: trained, resumed, opened, evaluated, looked into, generated with, exported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from support.instruction_sets import needs_kernel
from support.tiny_runs import TEXT, command

import storycell
from storycell import Report, context, quantized
from storycell.cli.main import main
from storycell.config import resolve
from storycell.errors import SettingsError
from storycell.generation import sampler
from storycell.inspect import patching, shown
from storycell.runs.network import load_run
from storycell.training.engine_learner import EngineLearner
from storycell.training.torch_learner import TorchLearner
from storycell.types import RESERVED, UNKNOWN

pytestmark = needs_kernel

TINY: dict[str, Any] = {
    "hidden": 12,
    "embedding": 5,
    "layers": 2,
    "optimizer": "muon",
    "streams": 4,
    "chunk": 16,
    "evaluations": 3,
    "threads": 1,
    "reset": 0.1,
}
CONTEXTS: dict[str, dict[str, int]] = {
    "n-grams": {"ngrams": 5, "ngram_rows": 300, "matches": 0},
    "matches": {"ngrams": 0, "matches": 6},
    "both": {"ngrams": 5, "ngram_rows": 300, "matches": 6},
}
every_context = pytest.mark.parametrize("context_", CONTEXTS)


class CutShort(Exception):  # noqa: N818 - it is no error
    """What stops a training in the middle, as a crash would."""


def crash_after(step: int) -> Any:
    def callback(report: Report) -> None:
        if report.step == step:
            raise CutShort

    return callback


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["n-grams", "both"])
def run(request: pytest.FixtureRequest, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = TINY | CONTEXTS[request.param] | {"steps": 300, "lr": 0.01}
    return storycell.train(text, out=tmp_path_factory.mktemp("runs") / "tiny", **settings).path


@every_context
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_cut_training_goes_on_to_the_bit(backend: str, context_: str, text: Path, tmp_path: Path) -> None:
    settings = (
        TINY
        | CONTEXTS[context_]
        | {"steps": 24, "save_every": 1e-6, "backend": backend, "average": 0.9, "precision": "fp32"}
    )
    whole = storycell.train(text, out=tmp_path / "whole", **settings)
    with pytest.raises(CutShort):
        storycell.train(text, out=tmp_path / "cut", callback=crash_after(11), **settings)
    resumed = storycell.resume(tmp_path / "cut")
    for name in ("model.safetensors", "last.safetensors"):
        ours, theirs = (safetensors.numpy.load_file(path / name) for path in (whole.path, resumed.path))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    assert {f"optimizer.{context.TABLE}.sum", "state.past", f"average.{context.TABLE}"} <= ours.keys()
    assert ours["state.past"].shape == (1, 4, 4 if context_ == "n-grams" else context.MEMORY)


@every_context
def test_engine_and_torch_learn_alike(context_: str) -> None:
    settings = resolve(
        "base",
        **{**TINY, **CONTEXTS[context_], "steps": 5, "precision": "fp32", "backend": "reference", "device": "cpu"},
    )
    learners = [EngineLearner(settings, 23), TorchLearner.from_settings(settings, 23)]
    assert learners[0].layout == learners[1].layout
    kept = np.ones(4, bool)
    draws = np.random.default_rng(1).integers(0, 23, (5, 4, 17))
    draws = np.where(draws > 6, 7 + draws % 3, draws)  # some are frequent, so that there are matches
    for step, ids in enumerate(draws):
        losses = [learner.gradient(ids[:, :-1], ids[:, 1:], step, kept) for learner in learners]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        for learner in learners:
            learner.apply(0.01)
        kept = np.array([True, False, True, step % 2 == 0])
    snapshots = [learner.snapshot() for learner in learners]
    assert snapshots[0].keys() == snapshots[1].keys()
    assert np.array_equal(snapshots[0]["state.past"], snapshots[1]["state.past"])
    learners[1].restore(snapshots[0])  # each goes on from what the other saved
    learners[0].restore(snapshots[1])


def test_the_table_is_stored_in_bytes_and_a_loss_hardly_sees_it(run: Path) -> None:
    stored = safetensors.numpy.load_file(run / "model.safetensors")
    assert stored[context.TABLE].dtype == np.int8
    last = safetensors.numpy.load_file(run / "last.safetensors")
    exact = {name.removeprefix("model."): t for name, t in last.items() if name.startswith("model.")}
    rounded = quantized.from_bytes(stored)
    table = exact[context.TABLE]
    assert np.abs(table).max() > 0.1
    assert (np.abs(rounded[context.TABLE] - table) <= np.abs(table).max(1, keepdims=True) / 253).all()
    model = storycell.load(run)
    ids = np.concatenate([[0], model.vocab.prompt_ids(TEXT[:400].partition("<|")[0])[0]])
    losses = [model.network.with_weights(w).nats(ids[None, :-1], ids[None, 1:])[0].mean() for w in (exact, rounded)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)


def test_rows_of_zeros_are_stored_as_zeros() -> None:
    weights = {context.TABLE: np.zeros((3, 2), np.float32), "output.bias": np.ones(2, np.float32)}
    weights[context.TABLE][1] = [0.5, -1.0]
    back = quantized.from_bytes(quantized.in_bytes(weights))
    assert back.keys() == weights.keys()
    assert back[context.TABLE].tolist() == [[0, 0], [pytest.approx(64 / 127), -1], [0, 0]]


def test_a_run_reads_alike_however_it_is_opened(run: Path) -> None:
    engine, reference = load_run(run), load_run(run, backend="reference")
    assert engine.network.context == reference.network.context
    assert engine.network.context.ngrams == 5
    ids = np.array([[0, *engine.vocab.prompt_ids("Once upon a time Ann had")[0], 0, 5, 6]])
    ours, theirs = (loaded.network.logits(ids)[0] for loaded in (engine, reference))
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(engine.lm(torch.from_numpy(ids))[0].detach().numpy() - ours).max() < 1e-4


def test_what_is_told_of_a_text_agrees(run: Path) -> None:
    """Trace, score, evaluation, a step with held values and compression all read the same model."""
    model = storycell.load(run)
    text = TEXT[:300].partition("<|")[0]
    scores = model.score(text)
    trace = model.trace(text)
    assert trace.nats[: len(scores)] == pytest.approx(scores, abs=1e-4)
    assert trace["h", 1] == pytest.approx(trace.values(1)["h"])
    assert trace.values(0, names=("i",))["i"].shape == (len(trace), 12)
    lm, ids = model.network, [0, *model.vocab.prompt_ids(text)[0][:40]]
    held, plain = sampler.held_step(lm, {}), sampler.plain_step(lm)
    one = two = lm.zero_state(2)
    for id in ids:
        fed = np.array([id, 7])
        (a, one), (b, two) = held(fed, one), plain(fed, two)
        assert a == pytest.approx(b, abs=1e-4)
        assert np.array_equal(one["past"], two["past"])
    i = np.array(trace.values(0, names=("i",))["i"])
    x, state = lm.zero_state(1), []
    for id in ids[:10]:
        past = x["past"][0]
        values = lm.layer_step(0, lm.inputs(np.array([[id]]), past)[:, 0], {name: x[name][0] for name in ("h", "c")})
        state.append(values["i"][0])
        x = lm.state_after(np.array([[id]]), x)
    assert np.array(state[1:]) == pytest.approx(i[:9], abs=1e-5)


def test_evaluation_of_many_stories_is_that_of_each(run: Path, text: Path) -> None:
    model = storycell.load(run)
    stories = text.read_text(encoding="utf-8").split("<|endoftext|>\n")[:7]
    together = model.evaluate("<|endoftext|>\n".join(stories))
    zero = np.zeros(1, np.int64)
    total = chars = 0.0
    for story in stories:
        ids = np.concatenate([zero, model.vocab.prompt_ids(story)[0], zero])[None]
        total += float(model.network.nats(ids[:, :-1], ids[:, 1:])[0].sum())
        chars += ids.shape[1] - 1
    assert together.chars == chars
    assert together.loss_nats == pytest.approx(total / chars, rel=1e-5)


def test_compression_gives_back_every_byte(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text(TEXT[:700], encoding="utf-8")
    packed = tmp_path / "packed.scz"
    assert main(["compress", str(run), str(source), "--out", str(packed)]) == 0
    assert main(["decompress", str(run), str(packed), "--out", str(tmp_path / "back.txt")]) == 0
    assert (tmp_path / "back.txt").read_bytes() == source.read_bytes()
    assert packed.stat().st_size < source.stat().st_size


def test_streams_do_not_depend_on_each_other(run: Path) -> None:
    model = storycell.load(run)
    prompt = model.vocab.prompt_ids("Once upon")[0]
    together = list(sampler.streams(model.network, prompt, sampler.Sampling(), [1, 2, 3], 30))
    for k, seed in enumerate((1, 2, 3)):
        alone = list(sampler.streams(model.network, prompt, sampler.Sampling(), [seed], 30))
        until = next((t for t, row in enumerate(alone) if row[0] is None), len(alone))
        assert [row[k] for row in together[:until]] == [row[0] for row in alone[:until]]


def test_another_run_starts_from_the_table_where_the_characters_are_the_same(
    run: Path, text: Path, tmp_path: Path
) -> None:
    settings = {"steps": 1, "lr": 1e-9, "streams": 4, "chunk": 16, "evaluations": 1, "threads": 1}
    same = storycell.train(text, out=tmp_path / "same", init=run, **settings).path
    table = load_run(run).network.weights()[context.TABLE]
    assert np.abs(load_run(same).network.weights()[context.TABLE] - table).max() < 1e-4
    more = tmp_path / "more.txt"
    more.write_text(TEXT.replace("cat", "ĉaŭ"), encoding="utf-8")
    other = load_run(storycell.train(more, out=tmp_path / "other", init=run, **settings).path)
    one, another = load_run(run).network.context, other.network.context
    assert (another.ngrams, another.ngram_rows, another.matches) == (5, 300, one.matches)
    assert another.vocab_size == one.vocab_size + 2
    found = other.network.weights()[context.TABLE]
    assert np.abs(found[:300]).max() < 1e-4  # its characters have other ids, by which rows of n-grams are found
    if one.matches:  # and its matches are of the same lengths and characters
        old, new = load_run(run).vocab, other.vocab
        place = [*range(RESERVED), *(new.characters.index(c) + RESERVED for c in old.characters)]
        assert place != list(range(one.vocab_size))
        mine, theirs = found[300:].reshape(6, -1, 5), table[300:].reshape(6, -1, 5)
        assert np.abs(theirs[1:]).max() > 0.1
        assert np.abs(mine[:, place] - theirs).max() < 1e-4
        assert np.abs(np.delete(mine, place, axis=1)).max() < 1e-4


def test_info_says_how_large_they_are(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(command(capsys, "info", run, "--json").out)["run"]
    one = load_run(run).network.context
    rows = 6 * one.vocab_size
    assert facts["n_grams"] == "of 2 to 5 characters, in 300 rows"
    assert facts["matches"] == (f"of 2 to 6 characters, in {rows} rows" if one.matches else "none")
    assert facts["saved_bytes"] == (run / "model.safetensors").stat().st_size
    assert facts["parameters"] > one.rows * 5


@pytest.mark.parametrize("ending", ["html", "c", "onnx"])
def test_a_run_is_exported(ending: str, run: Path, tmp_path: Path) -> None:
    """And what is in the file has been compared with the run then."""
    made = storycell.load(run).export(tmp_path / f"story.{ending}")
    assert made.max_abs_logit_error < 1e-4
    assert Path(made.file).stat().st_size == made.bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ngrams": 1}, "at least 2"),
        ({"ngrams": 17}, "at most 16"),
        (
            {"ngrams": 3, "embedding": 0, "matches": 0},
            "ngrams = 3: they are added to the embedding, and embedding is 0",
        ),
        ({"matches": 1}, "at least 2"),
        ({"matches": 65}, "at most 64"),
        ({"matches": 3, "embedding": 0, "ngrams": 0}, "matches = 3: .* and embedding is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve("base", **changes)


def test_the_articles_recipes_have_none() -> None:
    for name in ("article-rnn-32", "article-lstm-32", "article-lstm-128", "article-lstm-128x2"):
        assert resolve(name).model.ngrams == resolve(name).model.matches == 0


def test_states_are_exchanged_and_changed_with_their_past(run: Path) -> None:
    """The whole state of another text makes it the other text; part of it, or another layer's scale, does not."""
    model = storycell.load(run)
    lm, vocab = model.network, model.vocab
    base, source = ("Once upon a time Ann", "'Good!' said cat")
    state, other = (lm.state_after(np.array([[0, *vocab.prompt_ids(text)[0]]])) for text in (base, source))
    then = np.array([vocab.prompt_ids(" ba")[0]])
    whole, part = (patching.exchange(lm, state, other, p) for p in (patching.WHOLE, patching.Part(layers=(0,))))
    assert np.array_equal(lm.logits(then, whole)[0], lm.logits(then, other)[0])
    assert np.array_equal(part["past"], state["past"])
    assert not np.array_equal(lm.logits(then, part)[0], lm.logits(then, state)[0])
    path = model.trace(TEXT[:200].partition("<|")[0])
    at = path.state_at(np.array([10]))
    again = lm.state_after(path.all_ids[None, :11])
    assert at.keys() == again.keys()
    for name, value in again.items():
        assert at[name] == pytest.approx(value, abs=1e-5)


def test_all_that_looks_into_a_model_knows_what_it_remembers(run: Path) -> None:
    """Whole states with their past; and what is changed, held or exchanged keeps the context."""
    model = storycell.load(run)
    lm, story = model.network, TEXT[:300].partition("<|")[0]
    trace = model.trace(story)
    step = model.step(story, 1, 3)
    assert step.after["h"] == pytest.approx(float(trace["h", 1][-1, 3]), abs=1e-5)
    assert step.x == pytest.approx(np.array(trace["h", 0][-1]), abs=1e-5)
    first = model.step(story, 0, 3)
    assert first.x == pytest.approx(trace.inputs[-1], abs=1e-6)
    shares = model.authors(story, 1, 4).shares
    assert np.isfinite(shares).all()
    flow = model.gradient_flow("\n".join(TEXT.split("<|endoftext|>\n")[:6]), lags=16)
    assert all(np.isfinite(norms).all() for norms in flow.norms.values())
    untrained = lm.copy_untrained(1)
    assert untrained.context == lm.context
    patched = model.patch("Once upon a time Ann", "'Good!' said cat", then=" number", chars=40, seed=3)
    assert np.array_equal(patched.after, patched.source)
    assert not np.array_equal(patched.before, patched.source)
    own = model.patch("'Good!' said cat", "'Good!' said cat", then=" number", chars=40, seed=3)
    assert own.text == patched.text
    silent = shown.silenced(lm, 1, [2], 0.25)
    assert silent.context == lm.context
    ids = trace.all_ids[None]
    same = shown.steered(lm, 1, np.zeros(12))
    assert np.array_equal(same.logits(ids)[0], lm.logits(ids)[0])
    assert not np.array_equal(silent.logits(ids)[0], lm.logits(ids)[0])


def test_text_is_generated_with_units_held_as_it_is_step_by_step(run: Path) -> None:
    model = storycell.load(run)
    lm, hold = model.network, {("c", 1, 2): 0.5, ("o", 0, 3): 0.0}
    prompt = "Once upon a time Ann had 1 “red” balls."
    written = model.generate(prompt, chars=60, temperature=0.0, hold=hold)
    assert written.startswith(prompt)
    assert len(written) > len(prompt) + 20
    step, state = sampler.held_step(lm, hold), lm.zero_state(1)
    read = [0, *model.vocab.prompt_ids(prompt)[0]]
    for id in read:
        logits, state = step(np.array([id]), state)
    for id in model.vocab.prompt_ids(written[len(prompt) :])[0]:
        logits[:, UNKNOWN] = -np.inf
        assert logits.argmax() == id
        logits, state = step(np.array([id]), state)
        read.append(id)
    assert np.array_equal(state["past"][0], lm.context.past_after([read], np.zeros((1, lm.context.memory))))
    assert written != model.generate(prompt, chars=60, temperature=0.0)
