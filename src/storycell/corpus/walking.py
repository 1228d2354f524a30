"""The files in a folder, and those that a glob matches: each once, in the order of their names.

In: a folder, or a pattern as of `glob`. Out: paths of files. Links are followed, and what can be reached in several
ways is read once, by its own name where that is one of them; so loops end. Left out is what is hidden, and what is no
text: what storycell itself has made (runs, prepared text) and caches that are marked as such.
"""

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_CACHE_MARK = b"Signature: 8a477f597d28d172789f06886806bc55"  # begins a CACHEDIR.TAG: https://bford.info/cachedir/
_ANY = "**"  # in a pattern: folders, none or any number


class _Found(NamedTuple):
    by_link: bool  # sorts a file's own name before those that links give it
    path: Path
    real: str


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and in the folders below."""
    return _each_once(_walked(folder, hidden=False))


def matching(pattern: str) -> list[Path]:
    """The files that a pattern matches."""
    parts = Path(pattern).parts
    k = parts.index(_ANY) if _ANY in parts else len(parts)
    before, below = Path(*parts[:k]), parts[k:]
    found = [Path(path) for path in glob.glob(str(before))]  # noqa: PTH207 - Path.glob cannot start anywhere
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), k)  # folders named in so many words
    found = [path for path in found if not any(is_no_text(Path(*path.parts[:n])) for n in range(fixed + 1, k + 1))]
    if not below:
        real = [os.path.realpath(path) for path in found]
        by_link = [os.path.abspath(path) != own for path, own in zip(found, real, strict=True)]  # noqa: PTH100
        return _each_once(_Found(*each) for each in zip(by_link, found, real, strict=True) if each[1].is_file())
    hidden = any(part.startswith(".") for part in below)
    return _each_once(
        file
        for folder in found
        if folder.is_dir()
        for file in _walked(folder, hidden)
        if _matches(file.path.parts[len(folder.parts) :], below)
    )


def is_no_text(folder: Path) -> bool:
    """Whether a folder is a run, a text that was prepared, or a cache."""
    return is_run(folder) or (folder / "prepared.json").is_file() or _is_marked(folder / "CACHEDIR.TAG")


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, finished or not."""
    weights = ("model.safetensors", "last.safetensors")
    return all((folder / name).is_file() for name in ("config.json", "vocab.json")) and any(
        (folder / name).is_file() for name in weights
    )


def _is_marked(tag: Path) -> bool:
    if not tag.is_file():
        return False
    with tag.open("rb") as file:
        return file.read(len(_CACHE_MARK)) == _CACHE_MARK


def _walked(top: Path, hidden: bool) -> Iterator[_Found]:
    """The files below a folder; every folder is entered once, those that only links lead to after all others."""
    own, linked, seen = [(False, top)], list[Path](), set[str]()
    while own or linked:
        by_link, folder = own.pop() if own else (True, linked.pop())
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        for entry in os.scandir(folder):
            path = folder / entry.name
            if entry.name.startswith(".") and not hidden:
                continue
            if not path.is_dir():
                if path.is_file():
                    is_link = entry.is_symlink()
                    place = os.path.realpath(path) if is_link else os.path.join(real, entry.name)  # noqa: PTH118
                    yield _Found(by_link or is_link, path, place)
            elif is_no_text(path):
                continue
            elif entry.is_symlink():
                linked.append(path)
            else:
                own.append((by_link, path))
        linked.sort(reverse=True)  # the first one is taken next


def _each_once(found: Iterable[_Found]) -> list[Path]:
    names: dict[str, Path] = {}
    for file in sorted(found):
        names.setdefault(file.real, file.path)
    return sorted(names.values())


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern, as `glob` has it."""
    if not pattern:
        return not parts
    if pattern[0] == _ANY and _matches(parts, pattern[1:]):
        return True
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    if pattern[0] == _ANY:
        return _matches(parts[1:], pattern)
    return fnmatch.fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
