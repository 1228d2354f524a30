"""The course (docs/course): its pages run and show what they say, its exercises can be done and are not done yet."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.tools import load_tool

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "docs" / "course"
STEPS = sorted(path.stem for path in (COURSE / "exercises").glob("step*.py"))


course = load_tool("course")
PAGES: list[Path] = course.pages()


def test_every_page_is_a_step_with_exercises_and_leads_to_the_next() -> None:
    assert [page.stem[0] for page in PAGES] == [str(k + 1) for k in range(len(PAGES))]
    for k, page in enumerate(PAGES):
        text = page.read_text(encoding="utf-8")
        assert re.match(rf"# {k + 1}\. ", text)
        assert f"](exercises/{STEPS[k]}.py)" in text
        assert len(re.findall(r"^\d\. `\w+`", text.partition("## Exercises")[2], re.MULTILINE)) in (2, 3)
        if k + 1 < len(PAGES):
            assert f"]({PAGES[k + 1].name})" in text
        assert f"]({page.name})" in (COURSE / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default::DeprecationWarning:matplotlib")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    """But for its trainings, and what follows them."""
    shown = [block.shown for block in course.blocks(page.read_text(encoding="utf-8")) if not block.slow]
    assert shown
    printed = course.run(page, tmp_path, slow=False).outputs
    for number, (a, b) in enumerate(zip(shown, printed, strict=True), 1):
        if a is not None or b:
            assert course.differences(a or "", b) == [], f"block {number}: run `make course` and read what changed"


@pytest.mark.soak
def test_the_whole_course_runs(tmp_path: Path) -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        outputs = course.run(page, tmp_path, slow=True).outputs
        assert len(outputs) == len(course.blocks(text))
        for picture in course.PICTURE.findall(text):
            assert (tmp_path / picture).stat().st_size > 1000


def test_every_picture_is_shown_and_small() -> None:
    shown = {name for page in PAGES for name in course.PICTURE.findall(page.read_text(encoding="utf-8"))}
    there = {f"pictures/{path.name}" for path in (COURSE / "pictures").iterdir()}
    assert shown == there
    assert all((COURSE / name).stat().st_size < 100_000 for name in there)
    assert all(
        name in "".join(b.source for page in PAGES for b in course.blocks(page.read_text("utf-8"))) for name in shown
    )


def test_a_page_that_shows_something_else_is_found() -> None:
    assert course.differences("loss 0.500\n", "loss 0.509\n") == []
    assert course.differences("loss 0.500\n", "loss 0.52\n") != []
    assert course.differences("loss 0.500\n", "cost 0.500\n") != []
    assert course.differences("1,000 a 3e-31\n", "1,010 a 3e-31\n") == []
    assert course.differences("1,000 a 3e-31\n", "1,000 a 5e-31\n") != []
    assert course.differences("a\n", "a\nb\n") != []
    assert course.differences("0.00\n", "-0.01\n") == []


def test_outputs_are_written_into_a_page_and_nothing_else_is_changed() -> None:
    text = "# A\n\n```python\nprint(1)\n```\n\nB\n\n<!-- minutes -->\n```sh\nls\n```\n\n"
    text += "```text\nold\n```\n\n```sh\nls\n```\n\nC\n"
    written = course.written(text, ["1\n", "new\n", "hidden\n"])
    assert written == text.replace("print(1)\n```\n", "print(1)\n```\n\n```text\n1\n```\n").replace("old", "new")
    assert [(block.language, block.slow) for block in course.blocks(written)] == [
        ("python", False),
        ("sh", True),
        ("sh", True),
    ]
    assert course.written(written, ["1\n", "new\n", "hidden\n"]) == written


def results(folder: Path) -> dict[str, str]:
    """How each test of the exercises in a folder ends: `passed`, or the beginning of what went wrong."""
    report = folder / "report.xml"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:timeout",
    ]  # a learner's has no more
    words += ["--junitxml", str(report), str(folder)]
    subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    ends = {}
    for case in ET.parse(report).iter("testcase"):
        failure = case.find("failure")
        ends[f"{case.get('classname')}.{case.get('name')}"] = (
            "passed" if failure is None else str(failure.get("message"))
        )
        assert case.find("error") is None
    return ends


def test_no_exercise_is_done_and_every_solution_does_it(tmp_path: Path) -> None:
    assert sorted(path.stem for path in (COURSE / "solutions").glob("step*.py")) == STEPS
    assert len(STEPS) == len(PAGES)
    ends = {}
    for kind in ("exercises", "solutions"):
        folder = tmp_path / kind
        shutil.copytree(COURSE / "exercises", folder)
        for path in (COURSE / kind).glob("step*.py"):
            shutil.copy(path, folder)
        ends[kind] = results(folder)
    assert len(ends["exercises"]) >= 4 * len(STEPS)
    assert {end for end in ends["exercises"].values() if not end.startswith("NotImplementedError")} == set()
    assert {name: end for name, end in ends["solutions"].items() if end != "passed"} == {}


@pytest.mark.parametrize("step", STEPS)
def test_an_exercise_and_its_solution_have_the_same_functions(step: str) -> None:
    lines = [
        re.findall(r"^def .*?:$", (COURSE / kind / f"{step}.py").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for kind in ("exercises", "solutions")
    ]
    assert lines[0] == [line for line in lines[1] if not line.startswith("def _")]
    assert len(lines[0]) in (2, 3)
