"""The report of `inspect`: an `Inspection` -> one HTML page for somebody who has just read how an LSTM works.

Each section is a module and a template of the same name in `report/sections/`: the module picks the numbers and draws
them, the template says in a few words what the article predicts and what this run does, then shows it. What the null or
the untrained network shows as well is not called a finding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from storycell.inspect.inspection import Inspection
from storycell.report import sections
from storycell.report.page import Figure, render


@dataclass(frozen=True)
class Section:
    """What a section's `build(found)` gives: its place, its heading, what its template shows.

    It gives None where the run or its text has nothing that the section could show.
    """

    order: int
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    data: Mapping[str, Any] = field(default_factory=dict)  # id -> what the page's script reads, as JSON


class InspectionReport:
    """The sections of an inspection, in order; each is built once."""

    def __init__(self, found: Inspection) -> None:
        self.found = found
        names = [name for _, name, _ in iter_modules(sections.__path__)]
        built = {name: import_module(f"{sections.__name__}.{name}").build(found) for name in names}
        shown: dict[str, Section] = {name: section for name, section in built.items() if section is not None}
        self.sections = dict(sorted(shown.items(), key=lambda entry: entry[1].order))

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Every drawing of the report, by name."""
        return {drawn.name: drawn for section in self.sections.values() for drawn in section.figures}

    def html(self, text_name: str) -> str:
        """The whole file."""
        bodies = {
            name: render(
                f"report/sections/{name}.html",
                found=self.found,
                figures={drawn.name: drawn for drawn in section.figures},
                **section.values,
            )
            for name, section in self.sections.items()
        }
        return render(
            "report/inspection.html",
            found=self.found,
            text_name=text_name,
            sections={name: section.title for name, section in self.sections.items()},
            bodies=bodies,
            data={key: value for section in self.sections.values() for key, value in section.data.items()},
        )
