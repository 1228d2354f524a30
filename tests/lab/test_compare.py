"""`storycell compare`: rows are what the evaluator says, differences are paired, groups are what they are called."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from support.tiny_runs import FLAGS, command

import storycell
from storycell import loss
from storycell.cli.main import main
from storycell.data import splits
from storycell.data.corpus import text_corpus
from storycell.data.tokens import Prepared
from storycell.lab import breakdown, compare_page, scored_text, scoring
from storycell.lab.compare import compare, names_of
from storycell.lab.scored_text import END, ScoredText
from storycell.lab.scoring import Scores
from storycell.runs.text import open_words

ROUNDING = 1e-6  # float32 sums in another order, over the whole text


@pytest.fixture
def second(made: Path, tmp_path: Path) -> Path:
    """Another run on the same text, of another cell and vocabulary of bytes."""
    out = tmp_path / "bytes"
    words = [str(made.parent / "text.txt"), "--out", str(out), "--cell=gru", "--vocab=bytes", *FLAGS]
    assert main(["train", *words]) == 0
    return out


def test_rows_are_what_the_evaluator_says_both_ways(made: Path, second: Path) -> None:
    text = 'Once upon a time Ann had 3 “red” balls.\n<|endoftext|>\nBen had 4.\n"No," said Cleo.\n'
    target = ScoredText("text", tuple(text.split("<|endoftext|>\n")))
    for path, unit in ((made, "characters"), (second, "bytes")):
        model = storycell.load(path)
        row = scoring.row(scored := scoring.of_run(model, target, 16, "x"), target, against=scored)
        whole, windows = model.evaluate(text), model.evaluate(text, windows=16)
        assert row["loss_nats"] * row["chars"] == pytest.approx(whole.loss_nats * whole.chars, rel=ROUNDING)
        assert row["bits_per_byte"] == pytest.approx(whole.bits_per_byte, rel=ROUNDING)
        assert row["chars"] == len(target.targets) == len(text) - len("<|endoftext|>\n") + 2
        if unit == "characters":
            assert row["stderr_nats"] == pytest.approx(whole.stderr_nats, rel=1e-4)
            assert row["windows_nats"] == pytest.approx(windows.loss_nats, rel=ROUNDING)
            assert row["windows_stderr_nats"] == pytest.approx(windows.stderr_nats, rel=1e-4)
            assert row["perplexity"] == pytest.approx(math.exp(row["loss_nats"]))
            assert row["params"] == model.params
        assert "difference_nats" not in row


def test_differences_are_paired(made: Path) -> None:
    target = scored_text.of_words([str(made.parent / "text.txt")])
    nats = np.linspace(1.0, 3.0, len(target.targets))
    a = Scores("a", {"kind": "run"}, nats)
    b = Scores("b", {"kind": "run"}, nats + 0.25)  # worse by exactly as much everywhere: no doubt about it
    row = scoring.row(b, target, against=a)
    assert row["difference_nats"] == pytest.approx(0.25)
    assert row["difference_stderr_nats"] == pytest.approx(0.0, abs=1e-9)
    assert row["difference_interval"] == pytest.approx([0.25, 0.25])
    assert row["stderr_nats"] > 0.01
    noisy = Scores("c", {"kind": "run"}, nats + np.random.default_rng(1).normal(0, 1, len(nats)))
    low, high = scoring.row(noisy, target, against=a)["difference_interval"]
    assert low < 0 < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(len(nats)), rel=0.6)


def test_a_single_story_is_compared_in_blocks() -> None:
    target = ScoredText("one", ("ab" * 2600,))
    assert len(target.targets) == 5200
    assert np.bincount(scoring.groups_of(target)).tolist() == [1040] * 5
    assert END not in target.targets


def test_groups_are_what_they_are_called() -> None:
    target = ScoredText("two", ('I’m 5, "Ab" he.\n', "“Go”\nto"))
    shown = ["I", "’", "m", " ", "5", ",", " ", '"', "A", "b", '"', " ", "h", "e", ".", "\n", "end"]
    shown += ["“", "G", "o", "”", "\n", "t", "o", "end"]
    kind = [breakdown.KINDS[k] for k in breakdown.kinds(target)]
    expected = {"I": "capital", "’": "other mark", "m": "small letter", " ": "space", "5": "digit", ",": "other mark"}
    expected |= {'"': "quote", "A": "capital", "b": "small letter", "h": "small letter", "e": "small letter"}
    expected |= {".": "other mark", "\n": "line end", "end": "end of the story", "“": "quote", "G": "capital"}
    expected |= {"o": "small letter", "”": "quote", "t": "small letter"}
    assert kind == [expected[c] for c in shown]
    places = breakdown.places(target)
    assert [p for p, c in zip(places, shown, strict=True) if c in "Im"] == [0, 0]
    assert [p for p, c in zip(places, shown, strict=True) if c in "Abhe"] == [0, 1, 0, 1]
    assert all(p == -1 for p, c in zip(places, shown, strict=True) if not c.isalpha() or c == "end")
    inside = [c for c, side in zip(shown, breakdown.sides(target), strict=True) if side]
    assert inside == ["A", "b", '"', "G", "o", "”"]
    long = ScoredText("long", ("abcdefghij",))
    assert breakdown.places(long).tolist() == [0, 1, 2, 3, 4, 4, 5, 5, 5, 5]


def test_what_the_groups_add_is_the_whole_difference(made: Path, second: Path) -> None:
    found = compare([made, second], baselines=False)
    row = found.rows[1]
    for group in ("kind of character", "quotation"):
        parts = [part for part in found.breakdown if part["group"] == group]
        assert sum(part["share"] for part in parts) == pytest.approx(1.0)
        weights = [model["weight"] for part in parts for model in part["models"] if model["name"] == row["name"]]
        assert sum(weights) == pytest.approx(row["difference_nats"], abs=1e-9)


def test_the_command_gives_a_table_json_and_a_page(
    made: Path, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "page.html"
    outcome = command(capsys, "compare", made, second, "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    names = [row["name"] for row in found["rows"]]
    assert names == ["run", "bytes", "4-gram", "8-gram", "12-gram", "xz after the training text", "xz", "bz2"]
    for row in found["rows"]:
        assert row["bits_per_char"] == pytest.approx(loss.bits_per_char(row["loss_nats"]))
        assert row["perplexity"] == pytest.approx(loss.perplexity(row["loss_nats"]))
    assert found["rows"][0]["windows"] == 16
    html = out.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:)', html)
    for row in found["rows"]:
        assert f"{row['loss_nats']:.4f}" in html
    plain = command(
        capsys, "compare", made, second, "--text", made.parent / "text.txt", "--windows", 8, "--no-baselines"
    )
    assert plain.code == 0
    head, *lines = plain.out.splitlines()
    assert head.split()[0] == "model"
    assert [line.split()[0] for line in lines] == ["run", "bytes"]


def test_a_lost_training_text_costs_the_n_grams_only(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "gone.txt"
    text.write_text((made.parent / "text.txt").read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["train", str(text), "--out", str(tmp_path / "run"), *FLAGS]) == 0
    text.rename(tmp_path / "moved.txt")
    outcome = command(capsys, "compare", tmp_path / "run", "--text", tmp_path / "moved.txt", "--json")
    found = json.loads(outcome.out)
    assert [row["name"] for row in found["rows"]] == ["run", "xz", "bz2"]
    assert "there is no file or folder" in found["notes"][0]
    command(capsys, "compare", tmp_path / "run").stated(1, "gone.txt", "there is no file or folder", "--text")


def test_the_embedded_stories_bring_their_floor() -> None:
    target = scored_text.of_words(["stories"])
    few = ScoredText(target.name, target.stories[:30], is_embedded=True)
    floor = scoring.of_floor(few)
    assert floor is not None
    row = scoring.row(floor, few, against=floor)
    assert 0.1 < row["loss_nats"] < 0.6
    stories = open_words(["stories"])
    assert isinstance(stories, Prepared)
    ngram = scoring.of_ngram(stories.train_ids[:200_000], stories.vocab, few, 32, 8)
    assert scoring.row(ngram, few, against=floor)["loss_nats"] > row["loss_nats"]
    assert scoring.of_floor(ScoredText("x", ("no such story",), is_embedded=True)) is None
    assert scoring.of_floor(ScoredText("x", few.stories)) is None


def test_names_tell_runs_apart(made: Path) -> None:
    model = storycell.load(made)
    other = storycell.load(made)
    other.path = Path("elsewhere/run")
    assert names_of([model]) == ["run"]
    one, two = names_of([model, other])
    assert two == "elsewhere/run"
    assert one.endswith("/run")
    assert names_of([model, model]) == ["run (1)", "run (2)"]


def test_mistakes_are_stated(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "compare", made, "--windows", 0).stated(2, "windows = 0")
    command(capsys, "compare", "nowhere").stated(1, "there is no run folder nowhere")
    command(capsys, "compare", made, "--text", "nothing.txt").stated(1, "nothing.txt")


def test_the_page_says_nothing_that_the_rows_do_not(made: Path) -> None:
    """No figure of the table is typed in: with other rows, every one of them changes."""
    found = compare([made], baselines=False, text=[str(made.parent / "text.txt")])
    html = compare_page.html(found)
    cells = re.findall(r"<td>([^<]*\d[^<]*)</td>", html.split('id="learning-curves"')[0].split("<tbody>")[1])
    assert len(cells) >= 6
    for row in found.rows:
        for key, value in row.items():
            if isinstance(value, float | int):
                row[key] = value * 1.37 + 3
    changed = compare_page.html(found)
    again = re.findall(r"<td>([^<]*\d[^<]*)</td>", changed.split('id="learning-curves"')[0].split("<tbody>")[1])
    assert len(again) == len(cells)
    assert all(a != b for a, b in zip(cells, again, strict=True))


def test_passages_hold_what_token_files_hold(made: Path) -> None:
    model = storycell.load(made)
    target = scored_text.of_words([str(made.parent / "text.txt")])
    text = (made.parent / "text.txt").read_text(encoding="utf-8")
    assert "<|endoftext|>\n".join(target.stories) == text
    folder = made.parent / "text.tokens"
    tokens = splits.write_tokens(text_corpus(text), model.vocab, folder)
    assert (target.ids(model.vocab) == tokens.open(folder, model.vocab)[:]).all()
