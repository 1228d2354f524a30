"""`storycell reproduce`: equal terms, interruption, honest verdicts, and no figure that is not in a run's files."""

import json
import re
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.tiny_runs import command

from storycell.errors import CorpusError, RunFolderError, SettingsError
from storycell.lab.reproduce import claims, measure, plan, report
from storycell.lab.reproduce import claims as table
from storycell.lab.reproduce import measure as judgements
from storycell.lab.reproduce import train as training
from storycell.lab.reproduce.measure import Yardstick
from storycell.lab.reproduce.plan import ENTRANTS
from storycell.lab.reproduce.report import show_mean
from storycell.nn.cells.registry import cell_names
from storycell.training import loop

SMALL = {"hidden": 8, "threads": 1, "evaluations": 1, "precision": "fp32"}
BUDGET = 3 * 8192
STEPS = -(-BUDGET // (128 * 16))  # of every run: 128 streams, and chunks of 16 here
ROUNDING = 1e-6  # the weights are equal to the bit; float32 sums of an evaluation may be cut up otherwise
SHORT = 150  # characters a sample


def text_file(folder: Path) -> Path:
    names = ["Ann", "Ben", "Cleo", "Dan"]
    stories = [
        f'Once upon a time {names[k % 4]} had {k} red balls.\n"Hello, {names[k % 3]}!" said cat (number {k * 7}).\n'
        for k in range(300)
    ]
    path = folder / "text.txt"
    path.write_text("<|endoftext|>\n".join(stories), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[plan.Plan, Path]:
    """A whole tiny experiment: two seeds and one more cell."""
    folder = tmp_path_factory.mktemp("reproduce")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYCELL_CACHE", str(folder / "cache"))
        patch.setattr(measure, "SAMPLE_CHARS", SHORT)
        patch.setattr(loop.TrainLoop, "_draw", lambda self: None)  # a second each, and tested elsewhere
        words = [str(text_file(folder))]
        planned = plan.make(
            words, None, chars=BUDGET, seeds=2, more_cells=["mingru"], samples=4, settings={**SMALL, "chunk": 16}
        )
        plan.settle(planned, folder / "out")
        assert training.carry_out(planned, folder / "out") == ""
    report.write(planned, folder / "out")
    return planned, folder / "out"


def test_every_model_reads_as_much_in_steps_of_the_same_size(made: tuple[plan.Plan, Path]) -> None:
    sizes = {e.settings.training.streams * e.settings.training.chunk for e in ENTRANTS}
    assert sizes == {4096}
    planned, out = made
    rows = json.loads((out / "report.json").read_text())["rows"]
    assert [row["key"] for row in rows] == [e.key for e in ENTRANTS] + ["mingru-128x2"]
    for line in table.lines_of(planned, out):
        assert [run.files["config"]["settings"]["training"]["seed"] for run in line.runs] == [1, 2]
    for row in rows:
        assert row["seeds"] == 2
        assert row["spread"]["loss_nats"] > 0
        assert BUDGET <= row["chars"] < BUDGET + 4096
        assert {"windows_nats", "perplexity", "params", "chars_per_s", "unknown_words", "names"} <= row.keys()


def numbers_of(files: Any, name: str) -> float:
    for part in name.split("."):
        files = files[int(part)] if isinstance(files, list) else files[part]
    return float(files)


def cells_of(html: str) -> list[tuple[str, str]]:
    """(attributes, text) of every cell of the tables with a digit in it."""
    return [(a, t) for a, t in re.findall(r"<td([^>]*)>([^<]*)</td>", html) if re.search(r"\d", t)]


def test_every_figure_of_the_page_stands_in_the_files_of_its_runs(made: tuple[plan.Plan, Path]) -> None:
    _, out = made
    traced = 0
    article = [f"{value:g}" for entrant in ENTRANTS if entrant.article for value in entrant.article]
    for attributes, text in cells_of((out / "report.html").read_text(encoding="utf-8")):
        found = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        if found.get("class") == "article":
            assert text == article.pop(0)
            continue
        if "data-claim" in found:
            continue  # the next test
        values = []
        for source in found["data-from"].split():
            if source == "context":
                files = json.loads((out / "context.json").read_text())
            else:
                run = out / "runs" / source
                last = (run / "metrics.jsonl").read_text().splitlines()[-1]
                files = {"measured": json.loads((run / "measured.json").read_text()), "metrics": json.loads(last)}
            values.append(numbers_of(files, found["data-figure"]))
        assert text == show_mean(values, found["data-format"])
        traced += 1
    assert traced > 80
    assert article == []


def test_with_other_files_every_figure_and_every_evidence_is_another(
    made: tuple[plan.Plan, Path], tmp_path: Path
) -> None:
    planned, out = made
    before = (out / "report.html").read_text(encoding="utf-8")
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    for k, path in enumerate([*sorted(copy.glob("runs/*/measured.json")), copy / "context.json"]):
        path.write_text(json.dumps(bent(json.loads(path.read_text()), k)))
    for k, path in enumerate(sorted(copy.glob("runs/*/metrics.jsonl"))):
        path.write_text("".join(json.dumps(bent(json.loads(x), k)) + "\n" for x in path.read_text().splitlines()))
    report.write(planned, copy)
    after = (copy / "report.html").read_text(encoding="utf-8")
    pairs = list(zip(cells_of(before), cells_of(after), strict=True))
    for (attributes, old), (_, new) in pairs:
        assert ("article" in attributes) == (old == new), (attributes, old)
    for chart in re.findall(r'id="numbers-([\w-]+)">', before):
        first, second = (re.search(rf'id="numbers-{chart}">([^<]*)<', page)[1] for page in (before, after))
        assert first != second


def bent(data: Any, k: int) -> Any:
    """The same JSON with every measured number changed."""
    if isinstance(data, dict):
        return {key: bent(value, k) for key, value in data.items()}
    if isinstance(data, list):
        return [bent(value, k) for value in data]
    return data * (1.31 + 0.17 * (k % 5)) + 2 if isinstance(data, int | float) and not isinstance(data, bool) else data


def test_the_page_is_offline_and_says_what_differs(made: tuple[plan.Plan, Path]) -> None:
    _, out = made
    html = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:)', html)
    for said in ("What differs from the article", "spectral radius", "plain SGD", "held-out stories themselves", "xz"):
        assert said in html
    summary = json.loads((out / "report.json").read_text())
    assert summary["runs_finished"] == summary["runs_planned"] == 12
    assert len(summary["claims"]) == 9
    assert {c["verdict"] for c in summary["claims"]} <= {claims.HOLDS, claims.IN_PART, claims.FAILS}
    assert [b["name"] for b in summary["baselines"]][:3] == ["4-gram", "8-gram", "12-gram"]


def test_the_radius_is_followed_from_one(made: tuple[plan.Plan, Path]) -> None:
    planned, out = made
    rnn = next(line for line in table.lines_of(planned, out) if line.entrant.key == "rnn-32")
    assert rnn.mean("measured.watched_at_start.spectral_radius_l0") == pytest.approx(1.0, abs=1e-4)
    radii = claims.radii_of(rnn.runs[0])
    assert len(radii) == 1
    assert radii[-1] != pytest.approx(1.0, abs=1e-6)


def test_an_interrupted_experiment_goes_on_to_the_same_figures(
    made: tuple[plan.Plan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SAMPLE_CHARS", SHORT)
    monkeypatch.setattr(loop.TrainLoop, "_draw", lambda self: None)
    planned, whole = made
    planned = plan.make(planned.words, None, chars=BUDGET, samples=4, settings=planned.settings)
    out = tmp_path / "out"
    plan.settle(planned, out)
    seen = 0

    @contextmanager
    def interrupting() -> Any:
        def callback(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == STEPS + 1:  # in the second run
                signal.raise_signal(signal.SIGINT)

        yield callback

    assert training.carry_out(planned, out, watch=interrupting) == "SIGINT"
    finished = sorted(path.parent.name for path in out.glob("runs/*/measured.json"))
    assert finished == ["rnn-32-sgd-seed1"]
    report.write(planned, out)
    assert "1 of 5 runs are finished" in (out / "report.html").read_text(encoding="utf-8")
    untouched = (out / "runs" / "rnn-32-sgd-seed1" / "measured.json").stat().st_mtime_ns
    assert training.carry_out(planned, out) == ""
    assert (out / "runs" / "rnn-32-sgd-seed1" / "measured.json").stat().st_mtime_ns == untouched
    for entrant in ENTRANTS:
        cut, once = (
            json.loads((place / "runs" / f"{entrant.key}-seed1" / "measured.json").read_text())
            for place in (out, whole)
        )
        assert cut["loss_nats"] == pytest.approx(once["loss_nats"], rel=ROUNDING)
        assert cut["sample"] == once["sample"]


def test_two_experiments_are_never_mixed(tmp_path: Path) -> None:
    first = plan.make(["stories"], None, chars=1000)
    plan.settle(first, tmp_path)
    plan.settle(plan.make(["stories"], None, chars=1000, seeds=3, more_cells=["gru"]), tmp_path)
    with pytest.raises(RunFolderError, match=r"amount = 1000, not 2000.*another --out"):
        plan.settle(plan.make(["stories"], None, chars=2000), tmp_path)
    with pytest.raises(RunFolderError, match="words"):
        plan.settle(plan.make(["book.txt"], None, chars=1000), tmp_path)


def test_a_cell_learns_at_its_own_rate_or_at_the_lstms() -> None:
    made = plan.make(["stories"], None, chars=1000, more_cells=["gru", "mingru"])
    rates = {entrant.key: entrant.settings.training.lr for entrant in made.entrants}
    assert rates["gru-128x2"] < rates["lstm-128x2"] == rates["mingru-128x2"]


def test_mistakes_are_stated() -> None:
    with pytest.raises(SettingsError, match="one budget"):
        plan.make(["stories"], None, chars=10, minutes=1.0)
    with pytest.raises(SettingsError, match="seeds = 0"):
        plan.make(["stories"], None, seeds=0)
    with pytest.raises(SettingsError, match=r"no cell 'abacus'"):
        plan.make(["stories"], None, more_cells=["abacus"])
    with pytest.raises(SettingsError, match="chars = -3"):
        plan.make(["stories"], None, chars=-3)


def test_without_tiny_stories_it_is_the_embedded_ones_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise CorpusError("the hub did not answer")

    monkeypatch.setattr(plan, "open_corpus", gone)
    text, valid, note = plan.text_of(None, None)
    assert (text, valid) == ("stories", None)
    assert note == "on the embedded stories, not on TinyStories: the hub did not answer"
    assert plan.text_of(["a.txt"], ["b.txt"]) == (["a.txt"], ["b.txt"], "")


# The judgements


def test_words_quotes_brackets_punctuation_paragraphs_and_names_are_counted() -> None:
    train = "Tim ran. The dog saw Tim. Then the big dog saw Tim, and Tim saw Ann. And so saw Tim, then Tim and Tim."
    train += '\n"Ann," said Tim.'
    yardstick = Yardstick.of([train] * 3)
    assert yardstick.names == {"Tim"}  # Ann stands in the middle of a sentence three times, and a name needs five
    assert {"tim", "the", "ann", "said"} <= yardstick.words
    good = 'The dog said, "Tim!"\nTim ran (so big).\n'
    bad = 'The zog said , "Tim\nThen he ran ( off.And Tim'
    found = judgements.counts([(good, True), (bad, False)], yardstick, embedded=False)
    assert found["samples"] == 2
    assert found["ended"] == 0.5
    assert found["words"] == 8 + 9  # "Tim" at the very end of the second may be cut
    assert found["unknown_words"] == pytest.approx(3 / 17)
    assert sorted(found["unknown_examples"]) == ["he", "off", "zog"]
    assert (found["quotes"], found["quotes_closed"]) == (3, pytest.approx(2 / 3))
    assert (found["brackets"], found["brackets_closed"]) == (2, 1.0)  # the cut paragraph does not count
    assert found["marks"] == 3 + 2
    assert found["marks_spaced"] == pytest.approx(3 / 5)
    assert found["paragraphs"] == 2
    assert found["paragraphs_finished"] == pytest.approx(2 / 3)
    assert found["names"] == 1
    assert found["names_once"] == 0
    assert "parses" not in found


def test_curly_quotes_pair_and_a_name_said_once_wanders() -> None:
    yardstick = Yardstick(frozenset({"so"}), frozenset({"Ben", "Sue"}))
    found = judgements.counts([("“Ben’s so” Ben “so ” so” Sue.\n", True)], yardstick, embedded=False)
    assert (found["quotes"], found["quotes_closed"]) == (5, pytest.approx(4 / 5))
    assert found["names_once"] == 0.5


def test_the_grammars_own_stories_are_all_that_they_should_be() -> None:
    from storycell.data.stories.corpus import story_at

    texts = [story_at(1, k)[0] for k in range(12)]
    found = judgements.counts([(text, True) for text in texts], Yardstick.of(texts), embedded=True)
    for name in ("quotes_closed", "marks_spaced", "paragraphs_finished", "ended", "parses"):
        assert found[name] == 1.0, name
    assert found["unknown_words"] == 0
    spoilt = [(text.replace(" the ", " teh ").replace(" was ", " wsa "), True) for text in texts]
    worse = judgements.counts(spoilt, Yardstick.of(texts), embedded=True)
    assert worse["parses"] == 0
    assert worse["unknown_words"] > 0.01


# The claims


def line(folder: Path, key: str, losses: list[float], **more: Any) -> table.Line:
    """A model with runs that end with these losses."""
    entrant = next(e for e in ENTRANTS if e.key == key)
    runs = []
    for k, nats in enumerate(losses):
        run = folder / f"{key}-seed{k}"
        run.mkdir(parents=True)
        (run / "config.json").write_text("{}")
        said = {"loss_nats": nats, "perplexity": 2.718281828**nats, "counts": [10, 10, 10, 10], **more}
        said["sums_nats"] = [10 * nats - 0.1, 10 * nats, 10 * nats, 10 * nats + 0.1]
        (run / "measured.json").write_text(json.dumps(said))
        ends = {"step": 1, "elapsed_s": 1, "chars": 1, "chars_per_s": 1, "train_nats": 1, "valid_nats": 1}
        (run / "metrics.jsonl").write_text(json.dumps(ends | {"spectral_radius_l0": more.get("radius", 1.0)}) + "\n")
        runs.append(table.Finished(run))
    return table.Line(entrant, tuple(runs))


def verdicts(*lines: table.Line) -> dict[str, claims.Claim]:
    return {claim.claim: claim for claim in claims.claims_of(lines)}


def test_an_inequality_holds_fails_or_holds_on_average_only(tmp_path: Path) -> None:
    better = "LSTM, length 32 is better than RNN, length 32"
    for name, rnn, lstm, verdict in (
        ("clear", [1.2, 1.21, 1.19], [1.0, 1.01, 1.02], claims.HOLDS),
        ("noisy", [1.2, 1.0, 1.1], [1.0, 1.05, 1.0], claims.IN_PART),
        ("wrong", [1.0, 1.0, 1.1], [1.2, 1.2, 1.2], claims.FAILS),
        ("one", [1.2], [1.0], claims.HOLDS),
        ("tie", [1.0], [1.0], claims.FAILS),
    ):
        found = verdicts(line(tmp_path / name, "rnn-32", rnn), line(tmp_path / name, "lstm-32", lstm))[better]
        assert found.verdict == verdict, name
    assert "its loss is 0.0000" in found.evidence
    assert "one seed only" in found.evidence


def test_adam_is_judged_by_direction_and_size(tmp_path: Path) -> None:
    for name, sgd, adam, verdict in (
        ("both", 1.0, 0.70, claims.HOLDS),  # 30 % off the loss, 26 % off the perplexity
        ("more", 2.4, 1.2, claims.IN_PART),
        ("none", 1.0, 1.1, claims.FAILS),
    ):
        lines = line(tmp_path / name, "rnn-32-sgd", [sgd]), line(tmp_path / name, "rnn-32", [adam])
        found = next(c for c in verdicts(*lines).values() if c.claim.startswith("Adam"))
        assert found.verdict == verdict, name
        assert found.figures["loss_share"] == pytest.approx(1 - adam / sgd)
    assert "10.0% higher" in found.evidence


def test_drift_and_judgements_by_eye_become_claims(tmp_path: Path) -> None:
    start = {"watched_at_start": {"spectral_radius_l0": 1.0}}
    rnn = line(tmp_path, "rnn-32", [1.2], radius=1.6, judgements={"unknown_words": 0.2, "quotes_closed": 0.8}, **start)
    lstm = line(tmp_path, "lstm-32", [1.0], judgements={"unknown_words": 0.05})
    two = line(tmp_path, "lstm-128x2", [0.9], judgements={"quotes_closed": 0.7})
    found = verdicts(rnn, lstm, two)
    assert found["Hidden weights with principal eigenvalue 1 do not stay that way"].verdict == claims.HOLDS
    words = next(c for c in found.values() if "words that are none" in c.claim)
    assert (words.verdict, words.evidence) == (claims.HOLDS, "5.00% against 20.00%")
    assert next(c for c in found.values() if "quotes" in c.claim).verdict == claims.FAILS
    unknown = next(c for c in found.values() if "punctuation" in c.claim)
    assert (unknown.verdict, unknown.evidence) == (claims.IN_PART, "the samples hold too little to tell")


@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.soak)])
def test_the_command_trains_the_recipes_and_gives_rows(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SAMPLE_CHARS", SHORT)
    monkeypatch.setattr(loop.TrainLoop, "_draw", lambda self: None)
    monkeypatch.setattr(plan, "ENTRANTS", ENTRANTS[:count])
    words = ["--chars", 8192, "--samples", 2, "--evaluations", 1, "--threads", 1, "--text", text_file(tmp_path)]
    outcome = command(capsys, "reproduce", *words, "--out", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [row["key"] for row in found["rows"]] == [e.key for e in ENTRANTS[:count]]
    assert found["rows"][1]["article"] == {"loss": 1.058, "perplexity": 2.86}
    assert Path(found["page"]).is_file()
    assert found["rows"][0]["params"] == found["rows"][1]["params"] > 65_536  # hidden 256, as in the article
    again = command(capsys, "reproduce", *words, "--out", tmp_path / "out")
    assert again.code == 0
    assert "RNN, length 32, plain SGD" in again.out
    assert "seed 1" not in again.err  # nothing was trained again
    assert "mlstm" in cell_names()
