"""Builds the site of the documentation into build/site: `make docs`. It opens from disk, search included.

The pages are those of the repository as they are: each keeps its place, so a link that works there works here. What
they link to and is no page (a source, a recipe, a folder, a notebook) becomes one that shows it. The reference is made
of the docstrings. Zensical, the successor of MkDocs and its theme Material, does the rest; a link that leads nowhere,
or anything that a page would load from elsewhere, is an error.
"""

import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

from storycell.export import trainer

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LOG.md", "SECURITY.md", "RELEASE.md", "docs/**/*.md",
    "native/README.md", "benchmarks/README.md", "integrations/npm/README.md", "src/storycell/demo/README.md",
)  # fmt: skip
LINK = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\])*\])\(([\w./-]+)(#[\w-]+)?\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
IMAGES = (".png", ".svg")
LEARN = "<!-- learn -->\n"  # in a page: where it holds the page that learns, with the text of its own
LANGUAGES = {".py": "python", ".js": "javascript", ".toml": "toml", ".cpp": "cpp", ".h": "cpp", ".css": "css"}
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|@import\s+(?:url\()?["']?https?://|url\(["']?https?://"""
)
SHIM = "https://unpkg.com/iframe-worker/shim"
REFERENCE = {
    "storycell": "Train, load, generate, measure",
    "storycell.errors": "Errors",
    "storycell.config": "Settings",
    "storycell.language_model": "What every model computes",
    "storycell.nn.cells.cell": "Cells of your own",
    "storycell.inspect.trace": "Gates and states along a text",
    "storycell.inspect.units": "Units with a meaning",
    "storycell.inspect.authors": "Who wrote this memory",
    "storycell.inspect.patching": "Patching",
    "storycell.inspect.steering": "Steering",
    "storycell.inspect.gradients": "Gradients through time",
}


class Stage:
    """The pages, copied into a folder, and what they lead to."""

    def __init__(self, sources: Path) -> None:
        self.sources = sources
        self.pages = {path for pattern in PAGES for path in ROOT.glob(pattern)}
        self.shown: set[Path] = set()
        self.learning: dict[str, str] = {}  # pages that learn: their names in the site, and the text of each

    def write(self) -> None:
        for page in sorted(self.pages):
            text = page.read_text(encoding="utf-8")
            self._put(place(page), self.linked(self._embed(text, place(page)), page))
        while waiting := sorted(path for path in self.shown if not (self.sources / place(path)).exists()):
            for path in waiting:
                self._put(place(path), self.linked(show(path), path))

    def linked(self, text: str, page: Path) -> str:
        """A text with its links as the site has them; what is linked to is staged as well."""
        here = posixpath.dirname(place(page))

        def lead(match: re.Match[str]) -> str:
            words, target, anchor = match.groups()
            path = ((page if page.is_dir() else page.parent) / target).resolve()
            if not path.exists():
                return match[0]  # Zensical says so, if it is one
            if path.suffix in IMAGES:
                self._copy(path)
                return match[0]
            if path not in self.pages:
                self.shown.add(path)
            return f"{words}({posixpath.relpath(place(path), here or '.')}{anchor or ''})"

        kept = FENCE.findall(text)
        parts = [LINK.sub(lead, part) for part in FENCE.split(text)]
        return "".join(part + (kept[k] if k < len(kept) else "") for k, part in enumerate(parts))

    def _embed(self, text: str, name: str) -> str:
        """A text with the page that learns in it, where it asks for that."""
        if LEARN not in text:
            return text
        learns = name.replace(".md", "-learn.html")
        self.learning[learns] = LINK.sub(lambda match: match[1].lstrip("!")[1:-1], text.replace(LEARN, ""))
        words = f'class="learn" title="A model that learns this page" loading="lazy" src="{posixpath.basename(learns)}"'
        return text.replace(LEARN, f"<iframe {words}></iframe>\n")

    def _copy(self, path: Path) -> None:
        copy = self.sources / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)

    def _put(self, name: str, text: str) -> None:
        path = self.sources / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def place(path: Path) -> str:
    """Where the page of a file or folder of the repository lies among the sources of the site."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        return f"{name}/index.md"
    if path.suffix != ".md":
        return f"{name}.md"
    return f"{name.removesuffix('README.md')}index.md" if path.name == "README.md" else name


def show(path: Path) -> str:
    """A page that shows a file or a folder that is none."""
    name = path.relative_to(ROOT).as_posix()
    title = f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n"
    if path.is_dir():
        names = sorted(one.name for one in path.iterdir() if not one.name.startswith(("_", ".")))
        return title + "".join(f"* [{one}]({one})\n" for one in names)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        return title + "\n\n".join(s if kind == "markdown" else f"```python\n{s}\n```" for kind, s in cells) + "\n"
    return f"{title}````{LANGUAGES.get(path.suffix, 'text')}\n{text}````\n"


def reference() -> str:
    """The page of the docstrings, which Zensical fills."""
    parts = [f"## {title}\n\n::: {name}\n    options:\n      heading_level: 3\n" for name, title in REFERENCE.items()]
    return "# Reference\n\nWhat Python programs call, from its docstrings.\n\n" + "\n".join(parts)


def take_along(site: Path) -> None:
    """Lay the shim with which search works from disk beside the pages, which else load it from elsewhere."""
    shutil.copy(ROOT / "tools" / "iframe-worker.js", site / "assets" / "javascripts")
    for page in site.rglob("*.html"):
        there = posixpath.relpath("assets/javascripts/iframe-worker.js", page.parent.relative_to(site).as_posix())
        page.write_text(page.read_text("utf-8").replace(SHIM, there), encoding="utf-8")


def foreign(site: Path) -> list[str]:
    """What pages would load from elsewhere."""
    files = {path: path.read_text("utf-8") for path in site.rglob("*") if path.suffix in (".html", ".css")}
    return [f"{path.relative_to(site)}: {match[0]}" for path, text in files.items() for match in LOADED.finditer(text)]


def build(folder: Path) -> Path:
    """Build the site in a folder, and give that of its pages; exits where anything is wrong."""
    sources, site, config = folder / "site-sources", folder / "site", folder / "zensical.toml"
    for old in (sources, site):
        shutil.rmtree(old, ignore_errors=True)
    stage = Stage(sources)
    stage.write()
    (sources / "reference.md").write_text(reference(), encoding="utf-8")
    shutil.copy(ROOT / "tools" / "docs.css", sources)
    settings = (ROOT / "tools" / "docs.toml").read_text(encoding="utf-8")
    config.write_text(settings.replace('"../src"', json.dumps(str(ROOT / "src"))), encoding="utf-8")
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)]
    done = subprocess.run(words, env={**os.environ, "NO_COLOR": "1"}, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    take_along(site)
    for name, text in stage.learning.items():
        (site / name).write_text(trainer.write(text=text), encoding="utf-8")
    if found := foreign(site):
        sys.exit("pages load from elsewhere:\n" + "\n".join(found))
    return site


if __name__ == "__main__":
    built = build(ROOT / "build")
    print(f"{built.relative_to(ROOT)}/index.html: {len(list(built.rglob('*.html')))} pages")
