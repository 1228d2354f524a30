"""Runs the course (docs/course) and writes what it shows: `make course`, or `python tools/course.py [PAGE...]`.

A page holds commands (```sh) and Python (```python). They run in the order of the page, all pages in one folder, the
Python of a page in one namespace; a ```text block that follows one holds what it printed, and a picture that a page
shows is what it left in `pictures/`. Where a comment `<!-- minutes -->` stands before a block, it and what follows on
its page take minutes: the tests leave them out.
"""

import argparse
import contextlib
import io
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COURSE = Path(__file__).parents[1] / "docs" / "course"
BLOCK = re.compile(
    r"(?P<slow><!-- minutes -->\n)?^```(?P<language>sh|python)\n(?P<source>.*?)^```\n"
    r"(?P<shown>\n```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
PICTURE = re.compile(r"!\[[^\]]+\]\((pictures/[\w-]+\.svg)\)")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
PAPER = "#ffffff"  # the figures are drawn for a light page, wherever a picture is shown
TOLERANCE = 0.02  # of a number: what other instruction sets, which add in another order, may make of it


@dataclass(frozen=True)
class Block:
    """A piece of a page that runs."""

    language: str
    source: str
    shown: str | None  # what the page says that it prints; None: the page does not say
    slow: bool


@dataclass(frozen=True)
class Result:
    """What a page printed, block by block, and whether its slow blocks ran as well."""

    page: Path
    outputs: list[str]


def pages() -> list[Path]:
    """The steps in their order."""
    return sorted(COURSE.glob("[0-9]-*.md"))


def blocks(text: str) -> list[Block]:
    """What runs of a page; after the first slow block all are."""
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        slow = bool(match["slow"]) or bool(found and found[-1].slow)
        found.append(Block(match["language"], match["source"], match["output"], slow))
    return found


def run(page: Path, folder: Path, *, slow: bool) -> Result:
    """Run a page in a folder, with its slow blocks or without."""
    names: dict[str, object] = {"__name__": "__main__"}
    (folder / "pictures").mkdir(exist_ok=True)
    todo = [block for block in blocks(page.read_text(encoding="utf-8")) if slow or not block.slow]
    with contextlib.chdir(folder):
        return Result(page, [_run_python(b, names) if b.language == "python" else _run_shell(b) for b in todo])


def _run_python(block: Block, names: dict[str, object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block.source, "<course>", "exec"), names)
    return out.getvalue()


def _run_shell(block: Block) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "-euo", "pipefail", "-c", block.source]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PATH": path, "COLUMNS": "100"})
    if done.returncode:
        raise RuntimeError(f"{block.source}{done.stdout}{done.stderr}")
    return done.stdout


def written(text: str, outputs: list[str]) -> str:
    """A page with these outputs in place of its own; of a command that shows none, none is shown."""
    remaining: Iterator[str] = iter(outputs)

    def fill(match: re.Match[str]) -> str:
        output = next(remaining)
        if not output or (match["language"] == "sh" and match["shown"] is None):
            shown = ""
        else:
            shown = f"\n```text\n{output.rstrip()}\n```\n"
        return f"{match['slow'] or ''}```{match['language']}\n{match['source']}```\n{shown}"

    return BLOCK.sub(fill, text)


def differences(shown: str, printed: str, tolerance: float = TOLERANCE) -> list[str]:
    """Where what a page shows and what was printed differ: in words, or in a number by more than the tolerance."""
    lines, others = ([line.rstrip() for line in text.rstrip().splitlines()] for text in (shown, printed))
    if len(lines) != len(others):
        return [f"{len(lines)} lines are shown, {len(others)} were printed"]
    return [
        f"{a!r} is shown, {b!r} was printed" for a, b in zip(lines, others, strict=True) if not _agree(a, b, tolerance)
    ]


def _agree(a: str, b: str, tolerance: float) -> bool:
    if a == b:
        return True
    if [" ".join(part.split()) for part in NUMBER.split(a)] != [" ".join(part.split()) for part in NUMBER.split(b)]:
        return False
    return all(_near(x, y, tolerance) for x, y in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True))


def _near(a: str, b: str, tolerance: float) -> bool:
    """Equal but for the tolerance and for one unit of the last digit that is shown."""
    digits, _, exponent = a.replace(",", "").partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    x, y = (float(number.replace(",", "")) for number in (a, b))
    return math.isclose(x, y, rel_tol=tolerance, abs_tol=1.01 * unit)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the course and write what it shows.")
    parser.add_argument("pages", nargs="*", help="beginnings of pages, such as 2 (default: all)")
    chosen = tuple(parser.parse_args().pages)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with tempfile.TemporaryDirectory() as name:
        for page in [page for page in pages() if not chosen or page.name.startswith(chosen)]:
            before = _processor_s()
            result = run(page, Path(name), slow=True)
            text = page.read_text(encoding="utf-8")
            page.write_text(written(text, result.outputs), encoding="utf-8")
            for picture in PICTURE.findall(text):
                drawn = (Path(name) / picture).read_text(encoding="utf-8")
                (COURSE / picture).write_text(
                    drawn.replace("<svg ", f'<svg style="background: {PAPER}" ', 1), encoding="utf-8"
                )
            print(f"{page.name}: {_processor_s() - before:.0f} s of processor time", flush=True)


def _processor_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
