"""The sections of the report of `inspect`: a module and a template each, found where they lie."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storycell.report import inspection, sections
from storycell.report.inspection import InspectionReport, Section
from storycell.report.page import Figure

FOLDER = Path(sections.__file__).parent


def test_every_section_is_a_module_and_a_template_of_its_name() -> None:
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert modules == {path.stem for path in FOLDER.glob("*.html")}
    assert len(modules) >= 8


def test_a_section_needs_no_other_line_and_stands_where_its_order_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections are found by listing the folder: their figures are the report's, in the order of the sections."""
    calls: list[str] = []

    def module(name: str) -> Any:
        def build(found: Any) -> Section:
            calls.append(name)
            place = ["third", "first", "second"].index(name.split(".")[-1])
            return Section([30, 10, 20][place], name, figures=[Figure(name.split(".")[-1], "<svg></svg>", "")])

        return SimpleNamespace(build=build)

    names = ["third", "first", "second"]
    monkeypatch.setattr(inspection, "iter_modules", lambda path: [(None, name, False) for name in names])
    monkeypatch.setattr(inspection, "import_module", module)
    report = InspectionReport(SimpleNamespace())  # type: ignore[arg-type]
    assert list(report.sections) == list(report.figures) == ["first", "second", "third"]
    assert report.figures is report.figures
    assert calls == [f"storycell.report.sections.{name}" for name in names]  # each is built once
